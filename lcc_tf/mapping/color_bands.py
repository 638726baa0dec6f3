"""Search for the red, green and blue band of an image, and for the band that masks its pixels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import rasterio
from rasterio.enums import ColorInterp

from lcc_tf.band_names import COLORS, described_color, key_of, words_of
from lcc_tf.bands import Bands
from lcc_tf.errors import InputError
from lcc_tf.mapping.scene_reading import joined
from tfds_deepglobe.bands import band_names
from tfds_deepglobe.transparency import alpha_bands, masked_fraction

# These interpretations say nothing about a band, because many programs write them for any band.
UNMARKED = (ColorInterp.gray, ColorInterp.undefined)
MAX_LISTED = 6  # bands in a message


@dataclass(frozen=True)
class ColorBands:
    """Numbers of the bands that are read, counted from 1.

    Attributes:
        colors: numbers of the red, green and blue band, or of the bands of a network.
        mask: number of the transparency band that masks the pixels; None if no band is a mask.
        unused_alpha: True if the image has a transparency band, but this band is not a mask.
        notes: sentences for the user about decisions that are not obvious.
    """

    colors: tuple[int, ...]
    mask: int | None
    unused_alpha: bool
    notes: tuple[str, ...]


def find_color_bands(
    path: Path, dataset: rasterio.DatasetReader, bands: Sequence[int] | None
) -> ColorBands:
    """Finds the red, green and blue band of an image.

    If `bands` is None, the first rule that applies is used:

    1. The descriptions of three bands are red, green and blue, or contain these words.
    2. The color interpretations of three bands are red, green and blue.
    3. Apart from transparency, the image has exactly three bands. Then the first band is red, the
       second green and the third blue. If these bands have descriptions, the notes contain a
       warning.

    A transparency band is a mask if at least 99 % of its values are transparent or opaque. A band
    in `bands` is never a mask.

    Args:
        path: path of the image file.
        dataset: the open image file.
        bands: numbers of the red, green and blue band; None to find these bands.

    Raises:
        InputError: one of these reasons:

            - The bands in `bands` do not exist.
            - The bands contain complex numbers or palette indices, or have different dtypes.
            - The image has a color space other than RGB, or stores white as 0.
            - `bands` is None, and the red, green and blue band cannot be identified.
    """
    if bands is not None and len(bands) != 3:
        raise InputError(
            "`bands` must be the numbers of the red, green and blue band, such as 3,2,1. Received: "
            f"bands={joined(bands)}."
        )
    notes: list[str] = []
    alpha = alpha_bands(dataset)
    used = [band for band in alpha if band not in (bands or ())]
    masked = masked_fraction(dataset, used[0]) if used else None
    unused_alpha = bool(alpha) and masked is None
    if masked:
        notes.append(
            f"band {used[0]} is the transparency mask; about {masked:.1%} of the pixels are nodata"
        )
    if unused_alpha and used:
        notes.append(
            f"band {used[0]} is marked as transparency, but is not used: its values are not a mask"
        )
    if bands is None:
        bands, rule = _identified(path, dataset, alpha, unused_alpha)
        if bands != sorted(bands) or (rule and dataset.count - len(alpha) > 3):
            notes.append(
                f"bands {joined(bands)} are red, green and blue, according to their {rule}"
            )
        if not rule and (texts := _meanings(dataset.descriptions[band - 1] for band in bands)):
            notes.append(
                f"warning: the descriptions of bands {joined(bands)} ({', '.join(texts)}) contain "
                "no colors. The bands are used as red, green and blue in this order. If this is "
                "wrong, choose the bands with `bands`, such as 3,2,1"
            )
    check_bands(path, dataset, bands)
    mask = used[0] if masked is not None else None
    return ColorBands(tuple(bands), mask, unused_alpha, tuple(notes))


def find_named_bands(
    path: Path, dataset: rasterio.DatasetReader, names: Bands, bands: Sequence[int] | None
) -> ColorBands:
    """Finds the bands of a network in an image.

    If `bands` is None, the first rule that applies is used:

    1. The descriptions or the color interpretations of the image contain all names of the bands.
    2. The bands of the image or of the training images have no descriptions, and the image has as
       many bands as the training images. Then the band numbers of the training images are used, and
       the notes contain this assumption. An error is raised if the network expects, for example,
       red in a band, but the color interpretation of the band is green.

    Args:
        path: path of the image file.
        dataset: the open image file.
        names: bands of the network.
        bands: numbers of the bands; None to find the bands.

    Raises:
        InputError: one of these reasons:

            - The bands cannot be found. The message lists the missing bands.
            - Several bands of the image have the name of one band of the network.
            - `bands` does not contain one number per band of the network.
            - The bands contain complex numbers or palette indices, or have different dtypes.
    """
    if bands is not None and len(bands) != len(names):
        raise InputError(
            f"`bands` must contain {len(names)} numbers, one per band of the network "
            f"({', '.join(names.names)}). Received: bands={joined(bands)}."
        )
    notes: list[str] = []
    if bands is None:
        bands, note = _numbers_of(path, dataset, names)
        notes += [note] if note else []
    check_bands(path, dataset, bands)
    used = [band for band in alpha_bands(dataset) if band not in bands]
    masked = masked_fraction(dataset, used[0]) if used else None
    return ColorBands(
        tuple(bands), used[0] if masked is not None else None, bool(used), tuple(notes)
    )


def _numbers_of(
    path: Path, dataset: rasterio.DatasetReader, names: Bands
) -> tuple[list[int], str | None]:
    """Finds the bands of a network in an image, see `find_named_bands`.

    Returns:
        The numbers of the bands, and a note for the user or None.
    """
    texts = band_names(dataset)
    # Names that are not only the number of the band
    named = {n: key_of(text) for n, text in enumerate(texts, 1) if key_of(text) != f"band {n}"}
    wanted = [key_of(name) for name in names.names]
    found = [[n for n, text in named.items() if text == name] for name in wanted]
    if repeated := [texts[n[0] - 1] for n in found if len(n) > 1]:
        raise InputError(
            f"{path} contains several bands with the name {', '.join(repeated)}. Choose the bands "
            f"with `bands`, in this order: {', '.join(names.names)}."
        )
    if all(found):
        bands = [numbers[0] for numbers in found]
        is_same = bands == list(dataset.indexes)
        return bands, None if is_same else f"bands of the network: band {_pairs(bands, names)}"
    numbers = names.numbers or tuple(range(1, len(names) + 1))
    without_alpha = dataset.count - len(set(alpha_bands(dataset)) - set(numbers))
    is_equal_count = {dataset.count, without_alpha} & {names.count, max(numbers)}
    pairs = [*zip(numbers, wanted, strict=True)]
    has_no_names = not any(dataset.descriptions[n - 1] for n in named)
    network_has_no_names = all(name == f"band {n}" for n, name in pairs)
    is_similar = all(named.get(n, f"band {n}") == name for n, name in pairs)
    # Many programs write the interpretations red, green and blue for any three bands. Therefore an
    # interpretation contradicts the network only if the network expects a different color in the
    # band, and not if the network expects a band such as nir.
    contradicts = any(
        color is not None and named.get(n) in set(COLORS) - {color}
        for n, color in zip(numbers, names.colors, strict=True)
    )
    if (
        (has_no_names or network_has_no_names or is_similar)
        and is_equal_count
        and max(numbers) <= dataset.count
        and not contradicts
    ):
        lacking = "the image" if has_no_names else "the training images"
        return list(numbers), (
            f"some bands of {lacking} have no names; assumption: the bands have the same order in "
            f"the image and in the training images (band {_pairs(numbers, names)})"
        )
    missing = [name for name, n in zip(names.names, found, strict=True) if not n]
    hint = ""
    if has_no_names and not contradicts and max(numbers) <= dataset.count:
        hint = (
            " Bands without these names are chosen by their position in the training images, but "
            f"only if the image has {names.count or max(numbers)} band(s)."
        )
    raise InputError(
        f"{path} does not contain the band(s) {', '.join(missing[:13])} of the network. Received: "
        f"{dataset.count} band(s), {', '.join(texts[:13])}.{hint} Choose the bands with `bands`, "
        f"in this order: {', '.join(names.names)}."
    )


def _pairs(numbers: Sequence[int], names: Bands) -> str:
    """Returns the numbers and names of bands as text, such as "3 is red, 2 is green"."""
    texts = [f"{n} is {name}" for n, name in zip(numbers, names.names, strict=True)]
    return ", ".join(texts[:13])


def check_bands(path: Path, dataset: rasterio.DatasetReader, bands: Sequence[int]) -> None:
    """Verifies that bands exist and contain brightness values.

    Raises:
        InputError: a band does not exist, or contains complex numbers or palette indices; other
            reasons, see `_check_values`.
    """
    if max(bands) > dataset.count:
        raise InputError(
            f"`bands` must be in [1, {dataset.count}], because {path} has {dataset.count} band(s). "
            f"Received: bands={joined(bands)}."
        )
    if any(dataset.dtypes[band - 1].startswith("complex") for band in bands):
        raise InputError(
            f"`bands` must be bands with real numbers. Received: bands={joined(bands)} of {path}, "
            "which contain complex numbers. Choose other bands."
        )
    if any(_has_palette(dataset, band) for band in bands):
        raise InputError(_palette_message(path))
    _check_values(path, dataset, bands)


def _check_values(path: Path, dataset: rasterio.DatasetReader, bands: Sequence[int]) -> None:
    """Verifies that the values of bands are brightness values in one dtype.

    Raises:
        InputError: the bands have different dtypes, the image has a color space other than RGB, or
            white is stored as 0.
    """
    dtypes = [dataset.dtypes[band - 1] for band in bands]
    if len(set(dtypes)) > 1:
        raise InputError(
            f"The bands must have the same dtype. Received: {', '.join(dict.fromkeys(dtypes))} "
            f"in {path}. Save the image with one dtype, for example with `gdal_translate -ot "
            f"Float32 {path} float.tif`."
        )
    tags = dataset.tags(ns="IMAGE_STRUCTURE")
    space = tags.get("SOURCE_COLOR_SPACE", "RGB")
    if space not in ("RGB", "YCbCr"):
        raise InputError(
            f"{path} must contain RGB colors. Received: the color space {space}, which GDAL would "
            "convert without its color profile. Save the image as RGB."
        )
    if tags.get("MINISWHITE") == "YES":
        raise InputError(
            f"{path} must store bright pixels as large values. Received: white is stored as 0. "
            f"Invert the values, for example with `gdal_translate -scale 0 255 255 0 {path} "
            "inverted.tif`."
        )


def integer_range(dataset: rasterio.DatasetReader, band: int) -> tuple[int, int] | None:
    """Returns the range of values of a band with at most 8 bits; None for other bands."""
    if dataset.dtypes[band - 1] != "uint8":
        return None
    return 0, 2 ** int(dataset.tags(band, ns="IMAGE_STRUCTURE").get("NBITS", 8)) - 1


def _identified(
    path: Path, dataset: rasterio.DatasetReader, alpha: Sequence[int], unused_alpha: bool
) -> tuple[list[int], str]:
    """Returns the red, green and blue band, and the property that identifies these bands.

    The property is "descriptions", "color interpretation", or "" for three bands in their order.

    Raises:
        InputError: the bands cannot be identified.
    """
    described = [described_color(text) for text in dataset.descriptions]
    if not _is_complete(described):
        mentioned = [described_color(text, mentioned=True) for text in dataset.descriptions]
        described = mentioned if _is_complete(mentioned) else described
    interpreted = [kind.name for kind in dataset.colorinterp]
    if _is_complete(described):
        return [described.index(color) + 1 for color in COLORS], "descriptions"
    if unused_alpha and dataset.count > 3:
        raise InputError(
            f"{path} has {dataset.count} bands. Band {alpha[0]} is marked as transparency, but "
            "the values of this band are not a mask. The band may contain near infrared. "
            "Choose the red, green and blue band with `bands`, such as 1,2,3."
        )
    # Many programs write the interpretations red, green and blue for any three bands. Therefore
    # descriptions are more important.
    contradicts = any(
        color not in (None, kind) for color, kind in zip(described, interpreted, strict=True)
    )
    if not contradicts and all(interpreted.count(color) == 1 for color in COLORS):
        return [interpreted.index(color) + 1 for color in COLORS], "color interpretation"
    others = [band for band in dataset.indexes if band not in alpha]
    if any(_has_palette(dataset, band) for band in others):
        raise InputError(_palette_message(path))
    unmarked = all(dataset.colorinterp[band - 1] in UNMARKED for band in others)
    if len(others) == 3 and unmarked and not any(described):
        return others, ""
    kinds = ", ".join(
        text or name
        for text, name in zip(dataset.descriptions, interpreted[:MAX_LISTED], strict=False)
    )
    more = ", ..." if dataset.count > MAX_LISTED else ""
    example = "1,1,1 for a gray image" if len(others) == 1 else "3,2,1"
    raise InputError(
        f"{path} has {dataset.count} band(s) ({kinds}{more}), but the red, green and blue band "
        f"cannot be identified. Choose these bands with `bands`, such as {example}."
    )


def _is_complete(colors: Sequence[str | None]) -> bool:
    """Returns True if each of the three colors is in a list exactly once."""
    return all(colors.count(color) == 1 for color in COLORS)


def _meanings(descriptions: Iterable[str | None]) -> list[str]:
    """Returns the descriptions that contain words with a meaning."""
    return [text for text in descriptions if text and words_of(text)]


def _has_palette(dataset: rasterio.DatasetReader, band: int) -> bool:
    """Returns True for a band of palette indices. A palette of black and white counts as gray."""
    if dataset.colorinterp[band - 1] != ColorInterp.palette:
        return False
    return dataset.colormap(band) != {0: (0, 0, 0, 255), 1: (255, 255, 255, 255)}


def _palette_message(path: Path) -> str:
    return (
        f"{path} contains palette indices instead of colors. Save it as RGB, for example with "
        f"`gdal_translate -expand rgb {path} rgb.tif`."
    )
