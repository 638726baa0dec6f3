"""The class table: names, colours, and the way from colours to class ids and back."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Self, TypeGuard

import numpy as np

from tfds_deepglobe.errors import InputError, UnknownColorError

RGB = tuple[int, int, int]

UNKNOWN = "unknown"  # the class of clouds and of what nobody could tell

# Class ids are uint8; this one marks a colour that is not in the table.
_NO_CLASS = 255
_MAX_COLORS_IN_MESSAGE = 5


def _is_rgb(color: Sequence[int]) -> TypeGuard[RGB]:
    return len(color) == 3 and all(0 <= channel <= 255 for channel in color)


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """Names and colours of the classes; a class's id is its place in the table.

    Args:
        names: one name per class.
        palette: one RGB colour per class, each channel in [0, 255].

    Raises:
        InputError: no or too many classes, an empty name or one of several lines, a duplicate name
            or colour, or a channel out of range.
    """

    names: tuple[str, ...]
    palette: tuple[RGB, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= _NO_CLASS or len(self.names) != len(self.palette):
            raise InputError(
                f"a class table holds 1 to {_NO_CLASS} classes with one colour each. "
                f"Received: {len(self.names)} names, {len(self.palette)} colours."
            )
        for what, values in (("name", self.names), ("colour", self.palette)):
            if repeated := sorted({value for value in values if values.count(value) > 1}):
                raise InputError(f"the class table holds the {what} {repeated[0]} more than once")
        for name, color in zip(self.names, self.palette, strict=True):
            if len(name.splitlines()) != 1 or not name.strip():  # files of names have one a line
                raise InputError(
                    f"the class of colour {color} needs a name of one line. Received: {name!r}."
                )
            if not _is_rgb(color):
                raise InputError(f"colour of class {name}: {color} is not three of 0..255")

    @property
    def num_classes(self) -> int:
        """How many classes the table holds."""
        return len(self.names)

    @property
    def is_cut(self) -> bool:
        """Whether masks are cut at 128 before they are matched: the palette is of 0 and 255 alone.

        Masks of resized copies hold interpolated colours, and the challenge's rules say to
        binarise each channel at 128.

        Reference: Demir et al., DeepGlobe 2018 (CVPRW), https://arxiv.org/abs/1805.06561
        """
        return all(channel in (0, 255) for color in self.palette for channel in color)

    @classmethod
    def from_csv(cls, content: bytes) -> Self:
        """Parses a `class_dict.csv`.

        Args:
            content: the file's content, UTF-8, with the columns `name`, `r`, `g` and `b` in any
                order; the rows' order is that of the class ids.

        Raises:
            InputError: not UTF-8, a column is missing, a row is not a name and three numbers in
                0..255, a name or a colour comes twice, or there is no row.
        """
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"class_dict.csv is not a text file in UTF-8: {error}") from error
        rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
        rows.fieldnames = [column.strip().lower() for column in rows.fieldnames or ()]
        if missing := [
            column for column in ("name", "r", "g", "b") if column not in rows.fieldnames
        ]:
            raise InputError(
                f"class_dict.csv lacks the columns {', '.join(missing)}; expected the columns "
                f"name,r,g,b. Received: {','.join(rows.fieldnames) or 'an empty file'}."
            )
        names, palette = [], []
        for row in rows:
            try:
                names.append(row["name"].strip())
                palette.append((int(row["r"]), int(row["g"]), int(row["b"])))
            except (AttributeError, TypeError, ValueError):  # a field is missing or no number
                raise InputError(
                    f"class_dict.csv, line {rows.line_num}: expected a name and three numbers. "
                    f"Received: {list(row.values())}."
                ) from None
        if not names:
            raise InputError("class_dict.csv holds no class; expected one row per class")
        return cls(tuple(names), tuple(palette))

    def class_id(self, name: str) -> int:
        """Finds a class by its name, or by the beginning of its name where that fits only one.

        Raises:
            InputError: no class, or more than one, is meant.
        """
        if name in self.names:
            return self.names.index(name)
        matches = [i for i, known in enumerate(self.names) if name and known.startswith(name)]
        if len(matches) != 1:
            raise InputError(f"No class is named {name!r}. Choose one of: {', '.join(self.names)}.")
        return matches[0]

    def resolve_color_map(self, color_map: Mapping[RGB, str]) -> dict[RGB, int]:
        """Turns a map from extra colours to class names into one from colours to class ids.

        Args:
            color_map: colours that are not in the table, each with the class it shall count as.

        Returns:
            The map that `encode` takes.

        Raises:
            InputError: a name is unknown, or a colour is that of another class or can never occur.
        """
        resolved = {}
        for color, name in color_map.items():
            class_id = self.class_id(name)
            if color in self.palette and self.palette.index(color) != class_id:
                owner = self.names[self.palette.index(color)]
                raise InputError(f"colour {color} cannot be mapped to {name}: it is {owner}")
            if self.is_cut and not set(color) <= {0, 255}:
                cut = tuple(255 if channel >= 128 else 0 for channel in color)
                raise InputError(
                    f"colour {color} never occurs, since masks of this palette are cut at 128 "
                    f"before colours are mapped; map {cut} instead"
                )
            resolved[color] = class_id
        return resolved

    def encode(
        self, mask_rgb: np.ndarray, color_map: Mapping[RGB, int] | None = None
    ) -> np.ndarray:
        """Encodes a colour mask as class ids.

        Args:
            mask_rgb: uint8 `(height, width, 3)`, RGB in [0, 255].
            color_map: class ids of colours that are not in the table, see `resolve_color_map`.

        Returns:
            uint8 `(height, width)`, class ids in `[0, num_classes)`.

        Raises:
            UnknownColorError: the mask holds colours that are neither in the table nor in
                `color_map`; the message names them, as they are after the cut, with their pixel
                counts.
            InputError: the mask's colours are cut at 128, but seem to be class ids.
        """
        if mask_rgb.dtype != np.uint8 or mask_rgb.ndim != 3 or mask_rgb.shape[2] != 3:
            raise ValueError(
                "`mask_rgb` must be uint8 of shape (height, width, 3). "
                f"Received: dtype={mask_rgb.dtype}, shape={mask_rgb.shape}."
            )
        # Cutting at 128 is keeping the highest bit, so both rules are one table look-up by a code
        # of either 3 or 24 bits: 20 ms for 2448x2448 pixels.
        bits = 1 if self.is_cut else 8
        table = np.full(1 << 3 * bits, _NO_CLASS, np.uint8)
        colors = {color: class_id for class_id, color in enumerate(self.palette)}
        for color, class_id in (colors | dict(color_map or {})).items():
            table[_pack(np.array(color, np.uint8), bits)] = class_id
        codes = _pack(mask_rgb, bits)
        class_ids = table[codes]
        if class_ids.max(initial=0) == _NO_CLASS:
            raise UnknownColorError(_unknown_colors(codes[class_ids == _NO_CLASS], bits))
        if self.is_cut and not codes.any():
            _check_black(mask_rgb)
        return class_ids

    def colorize(self, class_ids: np.ndarray) -> np.ndarray:
        """Paints class ids in the classes' colours.

        Args:
            class_ids: integers of any shape, in `[0, num_classes)`.

        Returns:
            uint8 `class_ids.shape + (3,)`, RGB.

        Raises:
            ValueError: an id is out of range.
        """
        if class_ids.size and not 0 <= class_ids.min() <= class_ids.max() < self.num_classes:
            raise ValueError(
                f"`class_ids` must be in [0, {self.num_classes}). "
                f"Received: {class_ids.min()} to {class_ids.max()}."
            )
        return np.array(self.palette, np.uint8)[class_ids]


# Kaggle's class_dict.csv, in its order.
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
    """Parses the classes of extra colors.

    Args:
        map_color: texts such as "255,0,0=unknown".

    Returns:
        The class name of each color.

    Raises:
        InputError: An entry has another form, or a color occurs twice.
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
                f"255,0,0=unknown. Received: map_color={entry}."
            )
        if color in color_map:
            raise InputError(f"`map_color` has the color {color} twice. Delete one of the entries.")
        color_map[color] = name.strip()
    return color_map


def _pack(rgb: np.ndarray, bits: int) -> np.ndarray:
    """Joins the highest `bits` bits of R, G and B, uint8 `(..., 3)`, to one int32 code."""
    red, green, blue = np.moveaxis(rgb >> (8 - bits), -1, 0)
    return (red.astype(np.int32) << 2 * bits) | (green.astype(np.int32) << bits) | blue


def _check_black(mask_rgb: np.ndarray) -> None:
    """Refuses a mask that the cut made black, where it is one of class ids as shades of gray."""
    red, green, blue = np.moveaxis(mask_rgb, -1, 0)
    largest = int(red.max(initial=0))
    if largest and (red == green).all() and (red == blue).all():
        raise InputError(
            f"contains shades of gray up to {largest} and no other color, which look like class "
            "ids, but the classes' colours are of 0 and 255 alone; if they are ids, give a "
            "class_dict.csv in which each class's r, g and b are its id"
        )


def _unknown_colors(codes: np.ndarray, bits: int) -> str:
    """Says which colours, packed by `_pack`, no class has."""
    values, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MAX_COLORS_IN_MESSAGE]
    scale = 255 // ((1 << bits) - 1)
    colors = [
        tuple((int(code) >> shift & ((1 << bits) - 1)) * scale for shift in (2 * bits, bits, 0))
        for code in values[order]
    ]
    listed = ", ".join(
        f"{count} pixel{'s' * (count != 1)} of {color}"
        for color, count in zip(colors, counts[order].tolist(), strict=True)
    )
    more = f" and {len(values) - len(order)} more colours" * (len(values) > len(order))
    example = ",".join(map(str, colors[0]))
    return (
        f"{listed}{more}, which no class has; "
        f"to map a color on purpose, use `map_color={example}=CLASS`"
    )
