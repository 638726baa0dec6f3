"""Area of each class in zones: polygons of the user, such as parcels."""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import rasterio
import shapely
from rasterio.features import rasterize

from lcc_tf.errors import InputError
from lcc_tf.mapping.area_statistics import COLUMNS, Areas, csv_text
from lcc_tf.mapping.geodesy import has_areas
from lcc_tf.mapping.grid import Grid, window_of

STRIP_PIXELS = 2**24  # maximum number of pixels of a zone that are read at once
NUMBER = "zone"  # column with the number of the zone
PREFIX = "attribute_"  # prefix of attributes that have the name of another column
# Polygons are cut, because the projection of the map is not defined everywhere. They are cut at the
# border of a rectangle around the map. On each side, the rectangle is larger than the map by this
# fraction of the size of the map.
MARGIN = 0.1
POLYGONS = {"POLYGON", "MULTIPOLYGON"}
WORLD = 360.0  # degrees
SHIFTS = (-WORLD, 0.0, WORLD)
# Largest distance of two points on an edge, as a fraction of the larger side of the map
EDGE = 1e-3
# A pixel center exactly on the common edge of two zones must belong to only one of them. Therefore
# the pixels are moved by this fraction of a pixel.
TIE = 1e-6
MAX_DEGREES = np.array([2 * WORLD, 90.1])  # of longitudes and latitudes
_READ_ERRORS = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError)


class Zones:
    """Polygons in which areas are computed, such as parcels.

    Args:
        file: file in any vector format that GDAL can read, such as "parcels.gpkg". A layer of the
            file can be chosen: "parcels.gpkg:fields". This is necessary if several layers contain
            polygons.

    Raises:
        InputError: one of these reasons:

            - The file or the layer cannot be read, or several layers contain polygons.
            - The file has no coordinate system.
            - The coordinate system uses degrees, but the coordinates are too large for degrees.
            - The file contains no polygons.
            - The file contains geometries that are not polygons.

    Attributes:
        file: the argument.
        path: path of the file, without the layer.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.path, layer = _path_and_layer(file)
        try:
            meta, fids, shapes, fields = pyogrio.raw.read(
                self.path, layer=layer, force_2d=True, datetime_as_string=True, return_fids=True
            )
            columns = [
                _column(name, values, dtype, self.path, layer, fids)
                for name, values, dtype in zip(meta["fields"], fields, meta["dtypes"], strict=True)
            ]
        except (*_READ_ERRORS, UnicodeDecodeError) as error:  # a wrong encoding in a `.cpg` file
            raise InputError(f"{file} cannot be read as polygons: {error}") from error
        self.crs = rasterio.crs.CRS.from_user_input(meta["crs"]) if meta["crs"] else None
        if not has_areas(self.crs):
            raise InputError(
                f"{file} has no coordinate system, or a local coordinate system. Therefore its "
                "polygons cannot be overlaid on a map. Save it with a coordinate system."
            )
        with np.errstate(invalid="ignore"):  # coordinates can be NaN
            try:
                self.polygons = shapely.from_wkb(shapes)
            except shapely.errors.GEOSException as error:  # such as a ring that is not closed
                raise InputError(
                    f"{file} contains a damaged polygon: {error}. Repair the polygons, for example "
                    f"with `ogr2ogr -makevalid repaired.gpkg {file}`."
                ) from error
        types = {shapely.GeometryType(i).name for i in shapely.get_type_id(self.polygons)}
        is_missing = shapely.is_missing(self.polygons) | shapely.is_empty(self.polygons)
        if is_missing.all() or types - POLYGONS - {"MISSING"}:
            raise InputError(
                f"{file} must contain one or more polygons, and no other geometries. Received: "
                f"{len(self.polygons)} geometries of the types {sorted(types)}."
            )
        # Some functions of shapely drop parts of invalid polygons, such as two crossing edges.
        is_finite = np.isfinite(shapely.bounds(self.polygons)).all(axis=1)
        invalid = is_finite & ~shapely.is_valid(self.polygons)
        self.polygons[invalid] = shapely.make_valid(
            self.polygons[invalid], method="structure", keep_collapsed=False
        )
        points = np.abs(shapely.get_coordinates(self.polygons)).max(axis=0)
        if self.crs.is_geographic and (points > MAX_DEGREES).any():
            raise InputError(
                f"The coordinates in {file} must be degrees, according to its coordinate system. "
                f"Received: coordinates up to {points[0]:.6g}, {points[1]:.6g}. Save the file "
                "as GeoPackage with the coordinate system in which the coordinates are given. "
                "GeoJSON always contains degrees."
            )
        self.fields = _unique_names(meta["fields"])
        self.values = list(zip(*columns, strict=True)) if columns else [()] * len(self.polygons)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the polygons and their attributes."""
        content = [shapely.to_wkb(self.polygons).tolist(), self.crs.to_wkt(), self.values]
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def areas(self, map_file: Path, class_names: Sequence[str]) -> tuple[str, str]:
        """Computes the area of each class in each zone.

        A pixel belongs to a zone if the center of the pixel is inside the zone.

        Args:
            map_file: class map.
            class_names: class names of the map.

        Returns:
            Two values:

            - CSV with one row per zone and class. The first column is the number of the zone, which
              starts at 1. The attributes of the zone and the columns in `COLUMNS` follow. An
              attribute with the name of another column has the prefix `attribute_`.
            - Warning about zones without mapped pixels; an empty string if there are none.

        Raises:
            InputError: the map has no coordinate system.
        """
        outside, empty = [], []
        with rasterio.open(map_file) as dataset:
            check_crs(dataset.crs, map_file)
            transformer = pyproj.Transformer.from_crs(
                self.crs.to_wkt(), dataset.crs.to_wkt(), always_xy=True
            )
            extent = _extent(dataset, transformer)
            same_crs = self.crs == dataset.crs
            rows = [(NUMBER, *self.fields, *COLUMNS)]
            for number, (polygon, values) in enumerate(
                zip(self.polygons, self.values, strict=True), start=1
            ):
                near = _near(polygon, extent, self.crs.is_geographic)
                on_map = near if same_crs else _transformed(near, transformer, extent)
                if dataset.crs.is_geographic and not self.crs.is_geographic:
                    on_map = _unwrapped(on_map, dataset.bounds)
                areas = _areas_in(dataset, on_map, class_names)
                rows += [(number, *values, *row) for row in areas.rows()]
                if not areas.pixels.any():
                    (empty if near is not None and not near.is_empty else outside).append(number)
        return csv_text(rows), self._warning(map_file, outside, empty, extent)

    def _warning(
        self, map_file: Path, outside: list[int], empty: list[int], extent: np.ndarray
    ) -> str:
        """Describes zones without mapped pixels."""
        if not outside and not empty:
            return ""
        causes = []
        if outside:
            causes.append(f"{len(outside)} outside the map")
        if empty:
            causes.append(f"{len(empty)} too small, on nodata pixels, or at its border")
        text = (
            f"warning: {map_file}: {len(outside) + len(empty)} of {len(self.polygons)} zones "
            f"contain no mapped pixels ({', '.join(causes)})"
        )
        if len(outside) == len(self.polygons):
            bounds = [shapely.total_bounds(self.polygons), extent]
            zones, scene = (", ".join(f"{value:.6g}" for value in values) for values in bounds)
            text += (
                f"; in the coordinate system of the zones, the zones have the extent (left, "
                f"bottom, right, top) {zones}, and the map has the extent {scene}"
            )
        return text


def check_crs(crs: rasterio.crs.CRS | None, path: Path) -> None:
    """Verifies that an image has a coordinate system, because zones need one.

    Raises:
        InputError: the image has no coordinate system.
    """
    if not has_areas(crs):
        raise InputError(
            f"{path} has no coordinate system, or a local coordinate system. Therefore zones "
            "cannot be overlaid on it. Use a georeferenced image, or remove `zones`."
        )


def _path_and_layer(file: Path) -> tuple[Path, str | None]:
    """Splits "parcels.gpkg:fields", and finds the only layer with polygons if no layer is chosen.

    Raises:
        InputError: the file cannot be read, the layer does not exist, or several layers contain
            polygons.
    """
    path, layer = file, None
    if not file.exists() and ":" in file.name:
        parts = file.name.split(":")  # names of layers can also contain colons
        names = [":".join(parts[:count]) for count in range(1, len(parts))]
        name = next((name for name in names if file.with_name(name).exists()), names[-1])
        path, layer = file.with_name(name), file.name[len(name) + 1 :]
    try:
        layers = {str(name): str(kind) for name, kind in pyogrio.list_layers(path)}
    except _READ_ERRORS as error:
        raise InputError(f"{file} cannot be read as polygons: {error}") from error
    if layer is not None and layer not in layers:
        raise InputError(
            f"`zones` must name a layer of {path}, such as {', '.join(list(layers)[:6])}. "
            f"Received: {layer!r}."
        )
    # The layers of KML files and others can contain any geometry.
    polygons = [name for name, kind in layers.items() if "Polygon" in kind or kind == "Unknown"]
    if layer is None and len(polygons) > 1:
        raise InputError(
            f"`zones` must name one layer, because {path} has several layers with polygons: "
            f"{', '.join(polygons[:6])}. Use `zones={path}:{polygons[0]}`, for example."
        )
    return path, layer or (polygons[0] if polygons else None)


def _column(
    name: str, values: np.ndarray, dtype: str, path: Path, layer: str | None, fids: np.ndarray
) -> list[object]:
    """Returns the values of an attribute, with None for missing values.

    pyogrio converts whole numbers to floats if a value is missing, which changes large numbers.
    Therefore the values that exist are read again.

    Args:
        name: name of the attribute.
        values: values as pyogrio returns them.
        dtype: type of the attribute in the file, such as "int64".
        path: file of the zones.
        layer: layer of the file.
        fids: number of each feature in the file.
    """
    is_missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
    if values.dtype.kind == "f" and np.dtype(dtype).kind != "f" and not is_missing.all():
        exact = pyogrio.raw.read(
            path, layer=layer, columns=[name], read_geometry=False, fids=fids[~is_missing]
        )[3][0]
        values = np.zeros(len(fids), exact.dtype)
        values[~is_missing] = exact
    return [None if missing else value for value, missing in zip(values, is_missing, strict=True)]


def _unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Adds a prefix to attributes with the name of a column in the table of areas."""
    used = {NUMBER, *COLUMNS}
    unique = []
    for name in names:
        while name.lower() in used:
            name = PREFIX + name
        used.add(name.lower())
        unique.append(name)
    return tuple(unique)


def _extent(dataset: rasterio.DatasetReader, transformer: pyproj.Transformer) -> np.ndarray:
    """Returns left, bottom, right and top of a map in the coordinate system of zones.

    `right` is larger than 180 degrees if the map contains the meridian of 180 degrees.
    """
    rows, columns = np.meshgrid([0, dataset.height], [0, dataset.width])
    x, y = dataset.transform @ np.array([columns.ravel(), rows.ravel()])
    left, bottom, right, top = transformer.transform_bounds(
        x.min(), y.min(), x.max(), y.max(), direction="INVERSE"
    )
    return np.array([left, bottom, right + WORLD if right < left else right, top])


def _near(
    polygon: shapely.Geometry | None, extent: np.ndarray, is_geographic: bool
) -> shapely.Geometry | None:
    """Returns the part of a zone near the map, None for a zone without geometry.

    Args:
        polygon: geometry of the zone in its coordinate system.
        extent: left, bottom, right and top of the map in the same coordinate system. The whole zone
            is returned if these values are not finite.
        is_geographic: True if the coordinates are degrees. Then 181 degrees east and 179 degrees
            west are the same meridian.
    """
    if polygon is None or not np.isfinite(extent).all():
        return polygon
    margins = MARGIN * (extent[2:] - extent[:2])
    left, bottom, right, top = *(extent[:2] - margins), *(extent[2:] + margins)
    if is_geographic and right - left > WORLD:  # a wider box would contain parts of a zone twice
        left, right = (left + right - WORLD) / 2, (left + right + WORLD) / 2
    box = left, bottom, right, top
    shifts = SHIFTS if is_geographic else (0.0,)
    moved = [_shifted(polygon, shift) for shift in shifts]
    with np.errstate(invalid="ignore"):  # coordinates can be NaN
        return shapely.union_all([shapely.clip_by_rect(part, *box) for part in moved])


def _transformed(
    polygon: shapely.Geometry | None, transformer: pyproj.Transformer, extent: np.ndarray
) -> shapely.Geometry | None:
    """Transforms a zone to the coordinate system of the map.

    The edges of a zone are straight lines in its own coordinate system, and usually curves in the
    coordinate system of the map. Therefore points are added to long edges first.

    Args:
        polygon: geometry of the zone in its coordinate system; None for a zone without geometry.
        transformer: transformer to the coordinate system of the map.
        extent: left, bottom, right and top of the map in the coordinate system of the zone.
    """
    if polygon is None or not np.isfinite(polygon.bounds).all():
        return polygon
    if not np.isfinite(extent).all():
        extent = np.array(polygon.bounds)
    if (edge := EDGE * np.max(extent[2:] - extent[:2])) > 0:
        polygon = shapely.segmentize(polygon, edge)
    return shapely.transform(
        polygon, lambda points: np.column_stack(transformer.transform(*points.T))
    )


def _unwrapped(
    polygon: shapely.Geometry | None, bounds: rasterio.coords.BoundingBox
) -> shapely.Geometry | None:
    """Adds multiples of 360 degrees to longitudes, so that a zone is connected and on the map.

    Args:
        polygon: geometry of the zone; its longitudes are in [-180, 180].
        bounds: bounds of the map, degrees.
    """
    if polygon is None:
        return None
    parts = []
    for part in shapely.get_parts(polygon):
        shell, *holes = (
            shapely.make_valid(shapely.polygons(_unwrapped_ring(ring)))
            for ring in (part.exterior, *part.interiors)
        )
        around = [_shifted(shell, shift) for shift in SHIFTS]
        near = [p for p in around if p.bounds[0] < bounds.right and p.bounds[2] > bounds.left]
        gaps = shapely.union_all([_shifted(hole, shift) for hole in holes for shift in SHIFTS])
        parts += [shapely.difference(p, gaps) for p in near]
    return shapely.union_all(parts)


def _shifted(polygon: shapely.Geometry, shift: float) -> shapely.Geometry:
    """Adds a number of degrees to the longitudes of a polygon."""
    return shapely.transform(polygon, lambda xy: xy + [shift, 0])


def _unwrapped_ring(ring: shapely.LinearRing) -> np.ndarray:
    """Returns the points of a ring without jumps of 360 degrees between neighbors, `(n, 2)`."""
    points = shapely.get_coordinates(ring)
    # `np.unwrap` would add rounding errors.
    points[1:, 0] -= WORLD * np.cumsum(np.round(np.diff(points[:, 0]) / WORLD))
    if abs(points[-1, 0] - points[0, 0]) > WORLD / 2:  # the ring goes around a pole
        pole = np.copysign(90, points[:, 1].mean())
        points = np.vstack([points, [points[-1, 0], pole], [points[0, 0], pole], points[:1]])
    return points


def _areas_in(
    dataset: rasterio.DatasetReader, polygon: shapely.Geometry | None, class_names: Sequence[str]
) -> Areas:
    """Computes the area of each class inside a polygon.

    Args:
        dataset: open class map.
        polygon: polygon in the coordinate system of the map; None for a zone without geometry.
        class_names: class names of the map.
    """
    areas = Areas(Grid.of(dataset), class_names)
    # Coordinates are infinite where the projection of the map is not defined.
    if polygon is None or polygon.is_empty or not np.isfinite(polygon.bounds).all():
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
            transform=dataset.window_transform(window) @ rasterio.Affine.translation(0, TIE),
            dtype="uint8",
        )
        counts = (inside > 0) & (dataset.read_masks(1, window=window) > 0)
        areas.add(dataset.read(1, window=window), counts, rows, columns)
    return areas
