"""Class ids of pixels from polygons, such as polygons drawn in QGIS."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyproj

from lcc_tf.errors import InputError
from lcc_tf.mapping.grid import Grid
from lcc_tf.mapping.polygon_pixels import pixels_inside
from lcc_tf.mapping.zones import Zones
from tfds_deepglobe.classes import VOID_ID

# A class table with a void value has at most 254 classes, see `tfds_deepglobe.classes`.
MAX_CLASSES = 254


@dataclass
class Labels:
    """Polygons with classes.

    If polygons overlap, a pixel has the class of the last polygon in the file.

    Args:
        polygons: polygons and their attributes.
        column: name of the attribute that contains the class.
        areas: polygons in which the labels are complete. Pixels outside the areas are void. If
            `areas` is None, only pixels outside `polygons` are void.
        background: class of pixels inside `areas` and outside `polygons`; None if these pixels are
            void.

    Attributes:
        names: class names: first `background`, then numbers in increasing order, then texts in
            alphabetical order.
        num_overlapping: number of pixels in which polygons of different classes overlap.
        is_used: bool, one per polygon; True if the polygon contains a pixel of a scene.

    Raises:
        InputError: the attribute does not exist, there are too few or too many classes, or
            `background` is set without `areas`.
    """

    polygons: Zones
    column: str
    areas: Zones | None = None
    background: str | None = None
    names: tuple[str, ...] = field(init=False)
    num_overlapping: int = field(init=False, default=0)
    is_used: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        if self.background is not None and self.areas is None:
            raise InputError(
                "`background` needs `areas`, which are polygons in which the labels are complete. "
                f"Received: background={self.background}. Add `areas`, or remove `background`."
            )
        fields = self.polygons.attributes
        if self.column not in fields:
            raise InputError(
                f"`label_field` must be an attribute of {self.polygons.file}: "
                f"{', '.join(fields) or 'it has no attributes'}. Received: "
                f"label_field={self.column}."
            )
        values = [_name(row[fields.index(self.column)]) for row in self.polygons.values]
        names = sorted({value for value in values if value}, key=_order)
        if self.background is not None:
            self.background = _name(self.background)
            if not self.background:
                raise InputError("`background` must be the name of a class. Received: no text.")
            names = [self.background, *(name for name in names if name != self.background)]
        if not 2 <= len(names) <= MAX_CLASSES:
            raise InputError(
                f"`label_field` must contain 2 to {MAX_CLASSES} classes. Received: {len(names)} "
                f"different values of {self.column} in {self.polygons.file}. Choose another "
                "attribute" + ", or set `areas` and `background`." * (len(names) == 1)
            )
        self.names = tuple(names)
        # A polygon without a class has the id VOID_ID. Its pixels are void.
        self._ids = np.array([names.index(v) if v else VOID_ID for v in values], np.uint8)
        self.is_used = np.zeros(len(values), bool)

    @property
    def num_without_class(self) -> int:
        """Number of polygons without a class."""
        return int((self._ids == VOID_ID).sum())

    def class_ids(self, grid: Grid) -> np.ndarray:
        """Returns the class ids of the pixels of a raster.

        A pixel has the class of a polygon if the center of the pixel is inside the polygon.

        Args:
            grid: raster with a coordinate system.

        Returns:
            uint8 `(height, width)`; `VOID_ID` for void pixels.

        Raises:
            InputError: positions in the raster cannot be transformed to the polygons' coordinate
                system.
        """
        owners = np.full(grid.size, -1, np.int32)
        overlapping = np.zeros(grid.size, bool)
        for number, rows, columns, inside in _pixels(grid, self.polygons):
            earlier = owners[rows, columns]
            other = inside & (earlier >= 0)
            other[other] = self._ids[earlier[other]] != self._ids[number]
            overlapping[rows, columns] |= other
            owners[rows, columns] = np.where(inside, np.maximum(earlier, number), earlier)
            self.is_used[number] |= bool(inside.any())
        class_ids = np.append(self._ids, np.uint8(VOID_ID))[owners]
        self.num_overlapping += int(overlapping.sum())
        if self.areas:
            is_complete = np.zeros(grid.size, bool)
            for _, rows, columns, inside in _pixels(grid, self.areas):
                is_complete[rows, columns] |= inside
            if self.background is not None:
                class_ids[is_complete & (owners < 0)] = 0
            class_ids[~is_complete] = VOID_ID
        return class_ids


def _pixels(grid: Grid, zones: Zones) -> Iterator[tuple[int, slice, slice, np.ndarray]]:
    """Yields the results of `pixels_inside`. Converts a `ProjError` to an `InputError`."""
    try:
        yield from pixels_inside(grid, zones.polygons, zones.crs)
    except pyproj.exceptions.ProjError as error:  # for example, scenes on the Moon
        raise InputError(
            "Scenes and polygons must be on the same planet and use known coordinate systems. "
            f"Received: {zones.file}: {error}"
        ) from error


def _name(value: object) -> str:
    """Returns an attribute as a class name; an empty string for a missing value."""
    return "" if value is None else " ".join(str(value).split())


def _order(name: str) -> tuple[bool, float, str]:
    """Returns a sort key with numbers before texts. Different names have different keys."""
    try:
        number = float(name)
    except ValueError:
        number = math.nan
    return (False, number, name) if math.isfinite(number) else (True, 0.0, name)
