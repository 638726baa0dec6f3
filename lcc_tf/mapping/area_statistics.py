"""Area of each class in a map and in zones."""

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
STRIP_PIXELS = 2**24  # maximum number of pixels of a zone that are read at once


class Areas:
    """Number of pixels and hectares of each class. The parts of a map are added one after another.

    Args:
        grid: size and georeference of the map.
        class_names: class names of the map.

    Attributes:
        pixels: int64 `(num_classes,)`, number of pixels of each class.
        hectares: float64 `(num_classes,)`, area of each class; None if the area of a pixel is
            unknown.
    """

    def __init__(self, grid: Grid, class_names: Sequence[str]) -> None:
        self.grid = grid
        self.class_names = tuple(class_names)
        self.pixels = np.zeros(len(class_names), np.int64)
        self.hectares = np.zeros(len(class_names)) if has_areas(grid.crs) else None

    def add(self, class_ids: np.ndarray, rows: slice, columns: slice) -> None:
        """Adds a part of the map.

        Args:
            class_ids: uint8 `(n,)`, class ids of the valid pixels in the part. Nodata pixels are
                not included.
            rows: rows of the part.
            columns: columns of the part.
        """
        counts = np.bincount(class_ids, minlength=len(self.class_names))
        self.pixels += counts
        if self.hectares is not None:
            size = pixel_hectares(self.grid, rows, columns)
            self.hectares += counts * size

    def rows(self) -> list[tuple[str, int, str, str]]:
        """Returns one row per class.

        Returns:
            Values of the columns in `COLUMNS`: class name, number of pixels, fraction of all pixels
            (in the column `share`), and hectares. If the area of a pixel is unknown, hectares are
            an empty string.
        """
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
        """Returns CSV with a header and one row per class."""
        return _csv([COLUMNS, *self.rows()])


class Zones:
    """Polygons in which areas are computed, such as parcels.

    Args:
        file: file in any vector format that GDAL can read.

    Raises:
        InputError: one of these reasons:

            - The file cannot be read.
            - The file has no coordinate system.
            - The file contains no geometries.
            - The file contains geometries that are not polygons.
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
        self.crs = rasterio.crs.CRS.from_user_input(meta["crs"])
        self.polygons = shapely.from_wkb(shapes)
        types = {shapely.GeometryType(i).name for i in shapely.get_type_id(self.polygons)}
        if not len(self.polygons) or not types <= {"POLYGON", "MULTIPOLYGON"}:
            raise InputError(
                f"{file} must contain one or more polygons, and no other geometries. Received: "
                f"{len(self.polygons)} geometries of the types {sorted(types)}."
            )
        self.fields = tuple(meta["fields"])
        self.values = list(zip(*fields, strict=True)) if fields else [()] * len(self.polygons)

    def areas(self, map_file: Path, class_names: Sequence[str]) -> str:
        """Computes the area of each class in each zone.

        A pixel belongs to a zone if the center of the pixel is inside the zone.

        Args:
            map_file: class map.
            class_names: class names of the map.

        Returns:
            CSV with one row per zone and class. The first column is the number of the zone, which
            starts at 1. The attributes of the zone and the columns in `COLUMNS` follow.

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
    """Verifies that an image has a coordinate system, because zones need one.

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
    """Transforms polygons `(n,)` from one coordinate system to another."""
    transformer = pyproj.Transformer.from_crs(source.to_wkt(), target.to_wkt(), always_xy=True)
    return shapely.transform(
        polygons, lambda points: np.column_stack(transformer.transform(*points.T))
    )


def _areas_in(
    dataset: rasterio.DatasetReader, polygon: shapely.Geometry, class_names: Sequence[str]
) -> Areas:
    """Computes the area of each class inside a polygon.

    Args:
        dataset: open class map.
        polygon: polygon in the coordinate system of the map.
        class_names: class names of the map.
    """
    areas = Areas(Grid.of(dataset), class_names)
    # Coordinates are infinite where the projection of the map is not defined.
    if not np.isfinite(polygon.bounds).all():
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
    """Formats rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
