"""Class tables: names and colors of the classes, and conversion of mask colors to class ids."""

import colorsys
import dataclasses
import itertools
import math
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from numbers import Integral
from typing import TypeGuard

import numpy as np
from PIL import Image

from tfds_deepglobe.errors import (
    InputError,
    OtherPaletteError,
    UnknownColorError,
    shorten,
)

RGB = tuple[int, int, int]

UNKNOWN = "unknown"  # class for clouds and for areas that the annotators could not identify

MAX_CLASSES = 255  # class ids are uint8, and 255 is not a class id
VOID_ID = 255  # label of void pixels in prepared masks
_NO_CLASS = 255  # marks pixels in `encode` whose color has no class
_MAX_ROWS_IN_MESSAGE = 10
# Bidirectional classes of Unicode characters that change the direction of a text. With such
# characters, a name looks different in a terminal.
_DIRECTIONS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
_BLOCK_PIXELS = 1 << 15  # pixels of a mask that are converted at once
_MIN_STEP = 8  # smallest difference between two shades of gray that people can distinguish


def _is_rgb(color: Sequence[int]) -> TypeGuard[RGB]:
    return len(color) == 3 and all(
        isinstance(channel, Integral) and 0 <= channel <= 255 for channel in color
    )


def _is_control(character: str) -> bool:
    """Returns True for line breaks, terminal codes, surrogates, and changes of the direction."""
    return (
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(character) in _DIRECTIONS
    )


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """Names and colors of the classes, in the order of the class ids.

    Args:
        names: one name per class.
        palette: one RGB color per class, with channels in [0, 255].

    Raises:
        InputError: one of these reasons:

            - The number of classes is not in [1, 255].
            - A name is empty, or has a control character such as a line break.
            - Two classes have the same name or color.
            - A color is not in [0, 255].

    Example:
        >>> classes = ClassTable(("land", "water"), ((0, 255, 0), (0, 0, 255)))
        >>> classes.class_id("water")
        1
    """

    names: tuple[str, ...]
    palette: tuple[RGB, ...]

    def __post_init__(self) -> None:
        if isinstance(self.names, str) or not all(isinstance(c, Sequence) for c in self.palette):
            raise InputError(
                "A class table needs a sequence of names and a sequence of RGB colors. "
                f"Received: {shorten(repr(self.names), 80)}, {shorten(repr(self.palette), 80)}."
            )
        # With tuples, class tables of the same content are equal and have the same hash.
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "palette", tuple(map(tuple, self.palette)))
        if not 1 <= len(self.names) <= MAX_CLASSES or len(self.names) != len(self.palette):
            raise InputError(
                f"A class table needs 1 to {MAX_CLASSES} classes with one color per class. "
                f"Received: {len(self.names)} names, {len(self.palette)} colors."
            )
        for what, values in (("name", self.names), ("color", self.palette)):
            if repeated := sorted({value for value in values if values.count(value) > 1}):
                raise InputError(
                    f"The class table has the {what} {shorten(str(repeated[0]), 80)} more than "
                    "once. Use a "
                    f"different {what} for each class."
                )
        for name, color in zip(self.names, self.palette, strict=True):
            # Exports write one name per line. Terminals execute control characters.
            if not isinstance(name, str) or not name.strip() or any(map(_is_control, name)):
                raise InputError(
                    f"The class with the color {color} needs a name without line breaks and other "
                    f"control characters. Received: {shorten(repr(name), 80)}."
                )
            if not _is_rgb(color):
                raise InputError(
                    f"The color of class {shorten(name, 80)} must be three numbers in [0, 255]. "
                    f"Received: {color}."
                )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def unknown_id(self) -> int | None:
        """Id of the class `unknown`, in any letter case; None if the table lacks this class."""
        names = [name.strip().lower() for name in self.names]
        return names.index(UNKNOWN) if UNKNOWN in names else None

    @property
    def is_binarized(self) -> bool:
        """True if the palette contains only the values 0 and 255.

        With such a palette, `encode` binarizes each channel of a mask at 128. The reason is that
        some copies of a data set have resized masks, which contain interpolated colors. The rules
        of the DeepGlobe challenge also binarize masks.

        Reference: Demir et al., DeepGlobe 2018 (CVPRW), https://arxiv.org/abs/1805.06561
        """
        return all(channel in (0, 255) for color in self.palette for channel in color)

    def class_id(self, name: str) -> int:
        """Returns the id of a class.

        Args:
            name: name of the class, or its first letters, in any letter case. The first letters
                must identify one class.

        Raises:
            InputError: No class matches, or several classes match.

        Example:
            >>> DEEPGLOBE_CLASSES.class_id("forest")
            3
        """
        if name in self.names:
            return self.names.index(name)
        folded = [known.lower() for known in self.names]
        matches = [i for i, known in enumerate(folded) if name and known == name.lower()]
        if not matches:
            start = name.lower()
            matches = [i for i, known in enumerate(folded) if name and known.startswith(start)]
        if len(matches) != 1:
            raise InputError(
                f"{shorten(name)!r} must be the name of one class, or the beginning of only "
                f"one name. Choose one of: {shorten(', '.join(self.names))}."
            )
        return matches[0]

    def resolve_color_map(self, color_map: Mapping[RGB, str]) -> dict[RGB, int]:
        """Converts the class names in a color map to class ids, for `encode`.

        Args:
            color_map: key: color that is not in the table. Value: class name.

        Returns:
            Dictionary. Key: the same color. Value: class id.

        Raises:
            InputError: No class has this name, the table already assigns the color to
                another class, or the color cannot occur in a binarized mask.

        Example:
            >>> DEEPGLOBE_CLASSES.resolve_color_map({(255, 0, 0): "unknown"})
            {(255, 0, 0): 6}
        """
        resolved = {}
        for color, name in color_map.items():
            class_id = self.class_id(name)
            if color in self.palette and self.palette.index(color) != class_id:
                owner = self.names[self.palette.index(color)]
                raise InputError(
                    f"The color {color} cannot be mapped to {name}, because it is the color of "
                    f"the class {owner}. Map a different color."
                )
            if self.is_binarized and not set(color) <= {0, 255}:
                binarized = tuple(255 if channel >= 128 else 0 for channel in color)
                raise InputError(
                    f"The color {color} cannot occur, because masks with this palette are first "
                    f"binarized at 128. Map {binarized} instead."
                )
            resolved[color] = class_id
        return resolved

    def encode(
        self, mask_rgb: np.ndarray, color_map: Mapping[RGB, int] | None = None
    ) -> np.ndarray:
        """Converts the colors of a mask to class ids.

        Args:
            mask_rgb: colors of the mask, uint8 `(height, width, 3)`, RGB in [0, 255].
            color_map: result of `resolve_color_map`. Key: color that is not in the table. Value:
                class id.

        Returns:
            Class ids in `[0, num_classes)`, uint8 `(height, width)`.

        Raises:
            UnknownColorError: The mask has colors that are neither in the table nor in `color_map`.
                The message lists these colors with their numbers of pixels. If `is_binarized` is
                True, the message contains the binarized colors.
            OtherPaletteError: `is_binarized` is True, but the mask contains class ids, or colors of
                another class table. Binarizing would change these values.
            ValueError: `mask_rgb` does not have the dtype uint8 or the shape `(height, width, 3)`.

        Example:
            >>> mask_rgb = np.array([[[0, 255, 255], [0, 0, 250]]], np.uint8)
            >>> DEEPGLOBE_CLASSES.encode(mask_rgb).tolist()
            [[0, 4]]
        """
        if mask_rgb.dtype != np.uint8 or mask_rgb.ndim != 3 or mask_rgb.shape[2] != 3:
            raise ValueError(
                "`mask_rgb` must be uint8 of shape (height, width, 3). "
                f"Received: dtype={mask_rgb.dtype}, shape={mask_rgb.shape}."
            )
        # Look up the class of each color in a table. The index is a code of 24 bits: 8 bits each
        # for R, G and B. If masks are binarized, the code has only 3 bits: the highest bits of R, G
        # and B. The highest bit is 1 for values of 128 or more.
        bits = 1 if self.is_binarized else 8
        if self.is_binarized and (colors := _colors_of_other_palette(mask_rgb)):
            raise OtherPaletteError(other_palette_text(colors), colors)
        table = np.full(1 << 3 * bits, _NO_CLASS, np.uint8)
        class_of = {color: class_id for class_id, color in enumerate(self.palette)}
        for color, class_id in (class_of | dict(color_map or {})).items():
            table[_pack(np.array(color, np.uint8), bits)] = class_id
        class_ids = np.empty(mask_rgb.shape[:2], np.uint8)
        for rows in _blocks_of_rows(mask_rgb):
            class_ids[rows] = table[_pack(mask_rgb[rows], bits)]
        if class_ids.max(initial=0) == _NO_CLASS:
            codes = _pack(mask_rgb[class_ids == _NO_CLASS], bits)
            raise UnknownColorError(_unknown_colors(codes, bits))
        return class_ids

    @property
    def displayed(self) -> "ClassTable":
        """Class table with colors for pictures.

        The colors of class ids, such as (0, 0, 0) and (1, 1, 1), all look black. They are replaced
        by colors that differ. Other colors do not change.

        Example:
            >>> ClassTable(("land", "water"), ((0, 0, 0), (1, 1, 1))).displayed.palette
            ((214, 75, 75), (61, 88, 153))
        """
        grays = sorted(color[0] for color in self.palette if len({*color}) == 1)
        steps = [high - low for low, high in itertools.pairwise(grays)]
        if len(grays) < len(self.palette) or min(steps, default=255) >= _MIN_STEP:
            return self
        colors: list[RGB] = []
        for class_id in range(self.num_classes):
            # Multiples of the golden ratio are hues that differ as much as possible.
            hue = class_id * (math.sqrt(5) - 1) / 2 % 1
            saturation, value = ((0.65, 0.84), (0.6, 0.6), (0.4, 0.95))[class_id % 3]
            channels = colorsys.hsv_to_rgb(hue, saturation, value)
            red, green, blue = (round(255 * channel) for channel in channels)
            colors.append((red, green, blue))
        return dataclasses.replace(self, palette=tuple(colors))

    def colorize(self, class_ids: np.ndarray) -> np.ndarray:
        """Converts class ids to the colors of the classes.

        Args:
            class_ids: class ids in `[0, num_classes)`, integers of any shape.

        Returns:
            Colors, uint8 `class_ids.shape + (3,)`, RGB in [0, 255].

        Raises:
            ValueError: A class id is out of range.

        Example:
            >>> DEEPGLOBE_CLASSES.colorize(np.array([4])).tolist()
            [[0, 0, 255]]
        """
        if class_ids.size and not 0 <= class_ids.min() <= class_ids.max() < self.num_classes:
            raise ValueError(
                f"`class_ids` must be in [0, {self.num_classes}). "
                f"Received: {class_ids.min()} to {class_ids.max()}."
            )
        return np.array(self.palette, np.uint8)[class_ids]


# The classes in the order of the class_dict.csv in Kaggle's archive.
DEEPGLOBE_CLASSES = ClassTable(
    names=(
        "urban_land",
        "agriculture_land",
        "rangeland",
        "forest_land",
        "water",
        "barren_land",
        UNKNOWN,
    ),
    palette=(
        (0, 255, 255),
        (255, 255, 0),
        (255, 0, 255),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 255),
        (0, 0, 0),
    ),
)


def parse_color_map(map_color: Sequence[str]) -> dict[RGB, str]:
    """Parses texts that map colors to class names.

    Args:
        map_color: texts such as "255,0,0=unknown".

    Returns:
        Dictionary. Key: color. Value: class name.

    Raises:
        InputError: A text does not have the form "R,G,B=CLASS", or a color occurs twice.

    Example:
        >>> parse_color_map(["255,0,0=unknown"])
        {(255, 0, 0): 'unknown'}
    """
    color_map: dict[RGB, str] = {}
    for entry in map_color:
        color_text, separator, name = entry.partition("=")
        try:
            color = tuple(int(channel) for channel in color_text.split(","))
        except ValueError:
            color = ()
        if not (separator and name.strip() and _is_rgb(color)):
            raise InputError(
                "`map_color` needs R,G,B=CLASS with R, G and B in [0, 255], such as "
                f"255,0,0=unknown. Received: map_color={shorten(entry)}."
            )
        if color in color_map:
            raise InputError(f"`map_color` has the color {color} twice. Delete one of them.")
        color_map[color] = name.strip()
    return color_map


def _blocks_of_rows(mask_rgb: np.ndarray) -> Iterator[slice]:
    """Yields slices of rows, so that temporary arrays usually fit into the processor's cache."""
    height, width = mask_rgb.shape[:2]
    step = max(1, _BLOCK_PIXELS // max(1, width))
    for start in range(0, height, step):
        yield slice(start, start + step)


def _pack(rgb: np.ndarray, bits: int) -> np.ndarray:
    """Packs the highest bits of R, G and B into one code per pixel.

    Args:
        rgb: colors, uint8 `(..., 3)`.
        bits: number of bits per channel.

    Returns:
        Codes `(...)`, uint8 for 1 bit and int32 otherwise.
    """
    if bits == 1:
        # The code is computed at every position, but only every third position is a pixel. This is
        # faster than slices with step 3.
        values = (rgb >> 7).reshape(-1)
        return (4 * values[:-2] + 2 * values[1:-1] + values[2:])[::3].reshape(rgb.shape[:-1])
    red, green, blue = np.moveaxis(rgb >> (8 - bits), -1, 0)
    return (red.astype(np.int32) << 2 * bits) | (green.astype(np.int32) << bits) | blue


def other_palette_text(colors: Collection[RGB]) -> str:
    """Formats an error message for masks that need another class table, and proposes the table.

    Args:
        colors: colors of the masks.
    """
    colors = sorted(colors)
    values = [max(color) for color in colors]
    found, void = f"colors {', '.join(map(str, colors[:3]))}{', ...' * (len(colors) > 3)}", ""
    is_gray = all(sum(color) in (max(color), 3 * max(color)) for color in colors)
    names = values if is_gray else range(len(colors))
    rows = [
        f"class_{name},{red},{green},{blue}"
        for name, (red, green, blue) in zip(names, colors, strict=True)
    ]
    if is_gray:
        found = f"values {', '.join(_shortened(list(map(str, values))))}, probably class ids"
        if len(values) > 2 and values[-1] > values[-2] + 1:
            rows[-1] = UNKNOWN + rows[-1][rows[-1].index(",") :]
            void = f"; {values[-1]} is probably void, and training ignores the class {UNKNOWN}"
    return (
        f"contains the {found}, but all colors of the class table consist of 0 and 255; use a "
        f"class_dict.csv with one row per class: name,r,g,b / {' / '.join(_shortened(rows))}{void}"
    )


def _shortened(texts: list[str]) -> list[str]:
    """Replaces the middle of a long list with dots."""
    if len(texts) <= _MAX_ROWS_IN_MESSAGE:
        return texts
    return [*texts[: _MAX_ROWS_IN_MESSAGE - 2], "...", texts[-1]]


def _colors_of_other_palette(mask_rgb: np.ndarray) -> list[RGB]:
    """Finds class ids and colors of another class table, which binarizing at 128 would change.

    Resized masks contain interpolated colors, but these colors are rare. Example: masks of
    DeepGlobe, reduced to 64x64 pixels. At most 14 % of their pixels have a channel value in
    [64, 191], and at most 0.5 % have the same value in this range.

    Args:
        mask_rgb: colors of a mask, uint8 `(height, width, 3)`.

    Returns:
        Colors of the mask; an empty list if the mask can be binarized.
    """
    step = 4 if min(mask_rgb.shape[:2]) >= 1024 else 1  # a sample is enough and faster
    sample = np.ascontiguousarray(mask_rgb[::step, ::step])
    if _gray_values(sample) is not None and (gray := _gray_values(mask_rgb)) is not None:
        values = np.flatnonzero(Image.fromarray(gray).histogram())
        dark, bright = values[(values > 0) & (values < 128)], values[values >= 128]
        # Masks of class ids contain small values, and at most two large values for void pixels. In
        # noisy or interpolated masks of black and white, bright values differ from 255 as much as
        # dark values differ from 0.
        if dark.size and (
            bright.size <= 1 or (bright.size == 2 and dark.max() > 255 - bright.min())
        ):
            return _most_frequent(mask_rgb)
    counts = np.reshape(Image.fromarray(sample).histogram(), (3, 256))
    fractions = counts[:, 64:192] / (sample.size / 3)
    if fractions.max() > 0.1 or fractions.sum(axis=1).max() > 0.5:
        return _most_frequent(sample)
    if _has_solid_block(mask_rgb):
        return _most_frequent(mask_rgb)
    return []


def _has_solid_block(mask_rgb: np.ndarray) -> bool:
    """Returns True if a block of 3x3 equal pixels has a channel far from 0 and from 255.

    Interpolation produces such colors only at the borders of classes, in lines of one pixel.
    """
    near, far = 40, 216
    # For values below `near`, the difference is large, because uint8 has no negative values.
    if not any((mask_rgb[rows] - near < far - near).any() for rows in _blocks_of_rows(mask_rgb)):
        return False
    codes = _pack(mask_rgb, 8)
    equal = codes[:, 1:] == codes[:, :-1]
    rows = equal[:, 1:] & equal[:, :-1]  # three equal pixels in a row
    same = codes[1:] == codes[:-1]
    columns = (same[1:] & same[:-1])[:, 1:-1]
    blocks = rows[2:] & rows[1:-1] & rows[:-2] & columns
    inner = mask_rgb[1:-1, 1:-1]
    between = np.any((inner >= near) & (inner < far), axis=-1)
    return bool(np.any(blocks & between))


def _gray_values(mask_rgb: np.ndarray) -> np.ndarray | None:
    """Returns the values of a mask in which all channels are equal. Channels of zeros are ignored.

    Returns:
        Values, uint8 `(height, width)`; None if the channels differ.
    """
    used = [np.ascontiguousarray(mask_rgb[..., i]) for i in range(3) if mask_rgb[..., i].any()]
    if any(not np.array_equal(channel, used[0]) for channel in used[1:]):
        return None
    return used[0] if used else np.ascontiguousarray(mask_rgb[..., 0])


def _most_frequent(mask_rgb: np.ndarray) -> list[RGB]:
    """Returns the most frequent colors, at most as many as a class table may have."""
    codes, counts = np.unique(_pack(mask_rgb, 8), return_counts=True)
    codes = codes[np.argsort(-counts, kind="stable")][:MAX_CLASSES].tolist()
    return [(code >> 16, code >> 8 & 255, code & 255) for code in codes]


def _unknown_colors(codes: np.ndarray, bits: int) -> dict[RGB, int]:
    """Counts the pixels of each color without a class, the most frequent color first.

    Args:
        codes: packed colors of the pixels without a class, as returned by `_pack`.
        bits: number of bits per channel.
    """
    values, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    scale, mask = 255 // ((1 << bits) - 1), (1 << bits) - 1
    red, green, blue = ((values[order] >> shift & mask) * scale for shift in (2 * bits, bits, 0))
    colors = zip(red.tolist(), green.tolist(), blue.tolist(), strict=True)
    return dict(zip(colors, counts[order].tolist(), strict=True))
