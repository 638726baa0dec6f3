"""Colors in the names of bands, such as "Band 4 (red)" and "665 nm"."""

import re
from collections.abc import Sequence

COLORS = ("red", "green", "blue")
# Range of wavelengths of each color, nanometers
WAVELENGTHS = {"blue": (430, 510), "green": (510, 600), "red": (600, 700)}
# Words in the description of a band that is not red, green or blue
OTHER_WORDS = frozenset(
    ("nir", "infrared", "infra", "swir", "mir", "tir", "rededge", "edge", "coastal", "thermal")
)
OTHER_COLOR = "other"  # color of a band that is not red, green or blue
# Shortest wavelength, nanometers. Smaller numbers in descriptions are widths of bands.
SHORTEST = 300
UNITS = {"nm": 1, "um": 1000, "µm": 1000, "μm": 1000}  # nanometers; Unicode has two micro signs
# Words in descriptions that say nothing about the color
MEANINGLESS = frozenset(("band", "channel", "layer", "nm"))
# Names of the blue, green and red band of Sentinel-2. The table does not contain names with one
# digit, such as B4: band B4 is red in some satellites, and has another color in other satellites.
SENTINEL2 = {"b02": "blue", "b03": "green", "b04": "red"}


def described_color(description: str | None, *, mentioned: bool = False) -> str | None:
    """Returns the color in a description of a band.

    Args:
        description: description of the band; None if it has no description.
        mentioned: True to also find a color in a description that contains other words.

    Returns:
        "red", "green", "blue", `OTHER_COLOR`, or None for a description without a color.

    Example:
        >>> described_color("Band 3 - Red"), described_color("B8, central wavelength 842 nm")
        ('red', 'other')
        >>> described_color("B4 (red)"), described_color("B4 (red)", mentioned=True)
        (None, 'red')
    """
    text = (description or "").lower()
    if set(re.findall("[a-z]+", text)) & OTHER_WORDS:
        return OTHER_COLOR
    words = words_of(text)
    colors = {color[0]: color for color in COLORS} | {color: color for color in COLORS}
    if len(words) == 1 and words[0] in colors:
        return colors[words[0]]
    if mentioned and len(found := set(words) & set(COLORS)) == 1:
        return found.pop()
    number = r"(\d*\.?\d+)"
    pattern = rf"(?<![\d.]){number}(?:\s*-\s*{number})?\s*({'|'.join(UNITS)})\b"
    for match in re.finditer(pattern, text):
        ends = float(match[1]), float(match[2] or match[1])
        wavelength = sum(ends) / 2 * UNITS[match[3]]
        if wavelength < SHORTEST:  # the width of a band, for example
            continue
        inside = (color for color, ends in WAVELENGTHS.items() if ends[0] <= wavelength < ends[1])
        return next(inside, OTHER_COLOR)
    return None


def words_of(text: str) -> list[str]:
    """Returns the words of a description, without numbers and the words in `MEANINGLESS`."""
    words = set(re.findall("[a-z0-9]+", text.lower())) - MEANINGLESS
    return sorted(word for word in words if not word.isdigit())


def key_of(name: str) -> str:
    """Returns a band name in lower case and without outer spaces, for comparisons of names.

    Example:
        >>> key_of(" NIR") == key_of("nir")
        True
    """
    return name.strip().casefold()


def colors_of(names: Sequence[str]) -> tuple[str | None, ...]:
    """Returns the color of each band: "red", "green", "blue", or None for other bands.

    Args:
        names: one name per band. If several names contain the same color, none of these bands has
            a color.

    Example:
        >>> colors_of(["B04", "B03", "blue", "near infrared"])
        ('red', 'green', 'blue', None)
    """
    found = []
    for name in names:
        color = SENTINEL2.get(key_of(name)) or described_color(name, mentioned=True)
        found.append(color if color in COLORS else None)
    return tuple(color if found.count(color) == 1 else None for color in found)
