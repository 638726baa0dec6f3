"""Area of each class, in a whole scene and in zones."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import rasterio
import shapely
from rasterio.features import rasterize

from lcc_tf.errors import InputError
from lcc_tf.mapping.geodesy import has_areas, pixel_hectares
from lcc_tf.mapping.grid import Grid, window_of

COLUMNS = ("class", "pixels", "share", "hectares")
STRIP_PIXELS = 2**24  # largest part of a zone that is counted at once


class Areas:
    """Counts of pixels and hectares per class, added up part by part.

    Args:
        grid: grid of the map.
        class_names: class names of the map.
    """

    def __init__(self, grid: Grid, class_names: Sequence[str]) -> None:
        self.grid = grid
        self.class_names = tuple(class_names)
        self.pixels = np.zeros(len(class_names), np.int64)
        # None if the pixels' area is unknown
        self.hectares = np.zeros(len(class_names)) if has_areas(grid.crs) else None

    def add(self, class_ids: np.ndarray, rows: slice, columns: slice) -> None:
        """Counts a part of the map.

        Args:
            class_ids: uint8 `(n,)`, the part's pixels that are not nodata.
            rows: rows of the part.
            columns: columns of the part.
        """
        counts = np.bincount(class_ids, minlength=len(self.class_names))
        self.pixels += counts
        if self.hectares is not None:
            size = pixel_hectares(self.grid.crs, self.grid.transform, rows, columns)
            self.hectares += counts * size

    def rows(self) -> list[tuple[str, int, str, str]]:
        """Returns one row per class: name, pixels, fraction of pixels, hectares or nothing."""
        total = max(int(self.pixels.sum()), 1)
        return [
            (
                name,
                int(pixels),
                f"{pixels / total:.6f}",
                "" if self.hectares is None else f"{self.hectares[class_id]:.4f}",
            )
            for class_id, (name, pixels) in enumerate(
                zip(self.class_names, self.pixels, strict=True)
            )
        ]

    def to_csv(self) -> str:
        """Returns `rows` with a header, as CSV."""
        return _csv([COLUMNS, *self.rows()])


class Zones:
    """Polygons of a user's file, such as parcels.

    Args:
        file: a file of any vector format that GDAL reads.

    Raises:
        InputError: the file cannot be read, has no polygon, or has no coordinate system.
    """

    def __init__(self, file: Path) -> None:
        try:
            meta, _, shapes, fields = pyogrio.raw.read(file, force_2d=True)
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
            raise InputError(f"{file} cannot be read as polygons: {error}") from error
        if meta["crs"] is None:
            raise InputError(
                f"{file} has no coordinate system, so its polygons cannot be overlaid on a map. "
                "Save it with a coordinate system."
            )
        self.file = file
        self.crs = rasterio.crs.CRS.from_user_input(meta["crs"])
        self.polygons = shapely.from_wkb(shapes)
        types = {shapely.GeometryType(i).name for i in shapely.get_type_id(self.polygons)}
        if not len(self.polygons) or not types <= {"POLYGON", "MULTIPOLYGON"}:
            raise InputError(
                f"{file} must contain only polygons, and at least one. Received: "
                f"{len(self.polygons)} geometries of the types {sorted(types)}."
            )
        self.fields = tuple(meta["fields"])
        self.values = list(zip(*fields, strict=True)) if fields else [()] * len(self.polygons)

    def areas(self, map_file: Path, class_names: Sequence[str]) -> str:
        """Computes the area of each class in each zone.

        A pixel belongs to the zone that contains its center.

        Args:
            map_file: the class map.
            class_names: its class names.

        Returns:
            CSV with one row per zone and class: the zone's number from 1, its attributes, and the
            columns of `Areas`.

        Raises:
            InputError: the map has no coordinate system.
        """
        with rasterio.open(map_file) as dataset:
            check_crs(dataset.crs, map_file)
            polygons = _transformed(self.polygons, self.crs, dataset.crs)
            rows = [("zone", *self.fields, *COLUMNS)]
            for number, (polygon, values) in enumerate(
                zip(polygons, self.values, strict=True), start=1
            ):
                areas = _areas_in(dataset, polygon, class_names)
                rows += [(number, *values, *row) for row in areas.rows()]
        return _csv(rows)


def check_crs(crs: rasterio.crs.CRS | None, path: Path) -> None:
    """Checks that zones can be overlaid on an image.

    Raises:
        InputError: the image has no coordinate system.
    """
    if crs is None:
        raise InputError(
            f"{path} has no coordinate system, so zones cannot be overlaid on it. Use a "
            "georeferenced image, or remove `zones`."
        )


def _transformed(
    polygons: np.ndarray, source: rasterio.crs.CRS, target: rasterio.crs.CRS
) -> np.ndarray:
    transformer = pyproj.Transformer.from_crs(source.to_wkt(), target.to_wkt(), always_xy=True)
    return shapely.transform(
        polygons, lambda points: np.column_stack(transformer.transform(*points.T))
    )


def _areas_in(
    dataset: rasterio.DatasetReader, polygon: shapely.Geometry, class_names: Sequence[str]
) -> Areas:
    areas = Areas(Grid.of(dataset), class_names)
    if not np.isfinite(polygon.bounds).all():  # outside the map projection
        return areas
    corners = shapely.get_coordinates(shapely.box(*polygon.bounds)).T
    columns, rows = ~dataset.transform @ corners
    left, right = np.clip([np.floor(columns.min()), np.ceil(columns.max())], 0, dataset.width)
    top, bottom = np.clip([np.floor(rows.min()), np.ceil(rows.max())], 0, dataset.height)
    columns = slice(int(left), int(right))
    step = max(1, STRIP_PIXELS // max(columns.stop - columns.start, 1))
    for first in range(int(top), int(bottom), step):
        rows = slice(first, min(first + step, int(bottom)))
        window = window_of(rows, columns)
        if not window.width or not window.height:
            continue
        inside = rasterize(
            [polygon],
            out_shape=(window.height, window.width),
            transform=dataset.window_transform(window),
            dtype="uint8",
        )
        counts = (inside > 0) & (dataset.read_masks(1, window=window) > 0)
        areas.add(dataset.read(1, window=window)[counts], rows, columns)
    return areas


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
