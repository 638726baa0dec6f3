"""How much ground each class covers, in a whole scene and in zones of it."""

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
STRIP_PIXELS = 2**24  # of a zone, counted at once


class Areas:
    """Counts pixels and hectares of each class, part by part.

    Args:
        grid: of the map.
        class_names: of the map.
    """

    def __init__(self, grid: Grid, class_names: Sequence[str]) -> None:
        self.grid = grid
        self.class_names = tuple(class_names)
        self.pixels = np.zeros(len(class_names), np.int64)
        # None where the size of pixels is not known
        self.hectares = np.zeros(len(class_names)) if has_areas(grid.crs) else None

    def add(self, class_ids: np.ndarray, rows: slice, columns: slice) -> None:
        """Counts a part of the map.

        Args:
            class_ids: uint8 `(n,)`, those pixels of the part that count.
            rows: of the part.
            columns: of the part.
        """
        counts = np.bincount(class_ids, minlength=len(self.class_names))
        self.pixels += counts
        if self.hectares is not None:
            size = pixel_hectares(self.grid.crs, self.grid.transform, rows, columns)
            self.hectares += counts * size

    def rows(self) -> list[tuple[str, int, str, str]]:
        """A row a class: name, pixels, share of all pixels that count, hectares or nothing."""
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
        """`rows` with a header."""
        return _csv([COLUMNS, *self.rows()])


class Zones:
    """Polygons of a user's file, such as parcels.

    Args:
        file: of any vector format that GDAL reads.

    Raises:
        InputError: it cannot be read, holds no polygon, or has no coordinate system.
    """

    def __init__(self, file: Path) -> None:
        try:
            meta, _, shapes, fields = pyogrio.raw.read(file, force_2d=True)
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
            raise InputError(f"{file} cannot be read as polygons: {error}") from error
        if meta["crs"] is None:
            raise InputError(
                f"{file} has no coordinate system, so its polygons cannot be laid over a map."
            )
        self.file = file
        self.crs = rasterio.crs.CRS.from_user_input(meta["crs"])
        self.polygons = shapely.from_wkb(shapes)
        kinds = set(shapely.get_type_id(self.polygons).tolist())
        if not len(self.polygons) or not kinds <= {
            shapely.GeometryType.POLYGON.value,
            shapely.GeometryType.MULTIPOLYGON.value,
        }:
            raise InputError(f"{file} must hold polygons alone, and at least one.")
        self.fields = tuple(meta["fields"])
        self.values = list(zip(*fields, strict=True)) if fields else [()] * len(self.polygons)

    def areas(self, map_file: Path, class_names: Sequence[str]) -> str:
        """Measures a class map in each zone; pixels count where their centres lie.

        Args:
            map_file: the map.
            class_names: its classes.

        Returns:
            CSV with a row for each zone and class: the zone's number from 1, its own attributes,
            and the columns of `Areas`.

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
    """Checks that zones can be laid over an image.

    Raises:
        InputError: it has no coordinate system.
    """
    if crs is None:
        raise InputError(
            f"{path} has no coordinate system, so zones cannot be laid over it. Leave `--zones` "
            "out, or give a georeferenced image."
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
    if not np.isfinite(polygon.bounds).all():  # where the map's projection does not reach
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
