"""Draft of a class table from the colors of all masks of an archive."""

import csv
import dataclasses
import io
from collections.abc import Mapping

import numpy as np

from tfds_deepglobe.archive import Archive
from tfds_deepglobe.classes import MAX_CLASSES, RGB
from tfds_deepglobe.decoding import decode_mask
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.pairing import Pair
from tfds_deepglobe.parallel import ordered_map


@dataclasses.dataclass(frozen=True)
class ColorUse:
    """Use of a color in the masks of an archive.

    Attributes:
        pixels: number of pixels.
        masks: number of masks.
        example: name of the mask with the most pixels of the color.
        most: number of pixels of the color in this mask.
    """

    pixels: int
    masks: int
    example: str
    most: int


def count_colors(archive: Archive) -> dict[RGB, ColorUse]:
    """Counts the pixels of each color in all masks, on all cores, with a progress bar.

    Returns:
        Dictionary, with the most frequent color first. Key: color, RGB in [0, 255]. Value: use of
        the color.

    Raises:
        InputError: A mask cannot be decoded. The message contains the name of the mask.
    """

    def count(pair: Pair) -> tuple[str, np.ndarray, np.ndarray]:
        try:
            data = archive.source.read(pair.mask.name)
            mask, _ = decode_mask(data, archive.names.masks.format)
        except InputError as error:
            raise InputError(f"{pair.mask.name}: {error}") from error
        codes = mask.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        return pair.mask.name, *np.unique(codes, return_counts=True)

    uses: dict[int, ColorUse] = {}
    for name, codes, counts in ordered_map(count, archive.pairs, "counting colors"):
        for code, pixels in zip(codes.tolist(), counts.tolist(), strict=True):
            use = uses.get(code, ColorUse(0, 0, name, 0))
            example, most = max((use.most, use.example), (pixels, name))[::-1]
            uses[code] = ColorUse(use.pixels + pixels, use.masks + 1, example, most)
    ordered = sorted(uses.items(), key=lambda item: -item[1].pixels)
    return {(code >> 16, code >> 8 & 255, code & 255): use for code, use in ordered}


def draft_names(archive: Archive, uses: Mapping[RGB, ColorUse]) -> dict[RGB, str]:
    """Proposes a name for each color.

    A color in the class table of the archive keeps its name. Other colors get the names `class_1`,
    `class_2` and so on. In gray masks, these names are `class_<value>`.

    Args:
        archive: the archive.
        uses: result of `count_colors`.

    Raises:
        InputError: There are more colors than a class table can contain.
    """
    if len(uses) > MAX_CLASSES:
        raise InputError(
            f"The masks have {len(uses)} colors, but a class table has at most {MAX_CLASSES}. The "
            "masks were probably resized or compressed. Use the original masks."
        )
    known = dict(zip(archive.mask_classes.palette, archive.mask_classes.names, strict=True))
    is_deepglobe = set(uses) <= set(known) and set(uses) - {(0, 0, 0), (255, 255, 255)}
    if not archive.has_class_table and not is_deepglobe:
        known = {}
    if all(red == green == blue for red, green, blue in uses):
        return {color: known.get(color, f"class_{color[0]}") for color in sorted(uses)}
    numbers = (n for n in range(1, 1000) if f"class_{n}" not in known.values())
    return {color: known.get(color) or f"class_{next(numbers)}" for color in uses}


def draft_text(names: Mapping[RGB, str]) -> str:
    """Returns the content of a `class_dict.csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "r", "g", "b"])
    writer.writerows([name, *color] for color, name in names.items())
    return text.getvalue()


def describe_colors(uses: Mapping[RGB, ColorUse], names: Mapping[RGB, str]) -> list[str]:
    """Formats a table of the colors, with one line per color."""
    total = sum(use.pixels for use in uses.values())
    return [
        f"{'class':20s} {'color':15s} {'pixels':>9s} {'masks':>6s}  example",
        *(
            f"{name:20s} {','.join(map(str, color)):15s} {uses[color].pixels / total:9.3%} "
            f"{uses[color].masks:6d}  {uses[color].example}"
            for color, name in names.items()
        ),
    ]
