"""Area of each class in zones. Zones are polygons of the user, such as parcels."""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import rasterio
import shapely

from lcc_tf.errors import InputError
from lcc_tf.mapping.area_statistics import COLUMNS, Areas, csv_text
from lcc_tf.mapping.geodesy import has_areas
from lcc_tf.mapping.grid import Grid, window_of
from lcc_tf.mapping.polygon_pixels import extent_in, pixels_inside

NUMBER = "zone"  # column with the number of the zone
PREFIX = "attribute_"  # prefix of attributes that have the name of another column
POLYGONS = {"POLYGON", "MULTIPOLYGON"}
MAX_DEGREES = np.array([720.0, 90.1])  # of longitudes and latitudes
_READ_ERRORS = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError)


class Zones:
    """Polygons in which areas are computed, such as parcels.

    Args:
        file: file in any vector format that GDAL can read, such as "parcels.gpkg". A layer of the
            file can be chosen: "parcels.gpkg:fields". This is necessary if several layers contain
            polygons.
        argument: name of the argument with which the user sets `file`, for error messages.

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
        attributes: names of the attributes in the file.
    """

    def __init__(self, file: Path, argument: str = "zones") -> None:
        self.file = file
        self.path, layer = _path_and_layer(file, argument)
        try:
            meta, _, shapes, fields = pyogrio.raw.read(
                self.path, layer=layer, force_2d=True, datetime_as_string=True
            )
            columns = [
                _column(name, values, dtype, self.path, layer)
                for name, values, dtype in zip(meta["fields"], fields, meta["dtypes"], strict=True)
            ]
        # ValueError: a wrong encoding in a `.cpg` file, or a field name that SQL cannot contain
        except (*_READ_ERRORS, ValueError) as error:
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
        points, numbers = shapely.get_coordinates(self.polygons, return_index=True)
        if damaged := [*numbers[~np.isfinite(points).all(axis=1)]]:
            raise InputError(
                f"{file} contains a damaged polygon: zone {damaged[0] + 1} has a coordinate "
                "that is infinite or not a number. Correct or remove this polygon."
            )
        # Repair invalid polygons, such as polygons with crossing edges. Some functions of shapely
        # would drop parts of them.
        invalid = ~shapely.is_valid(self.polygons) & ~is_missing
        self.polygons[invalid] = shapely.make_valid(
            self.polygons[invalid], method="structure", keep_collapsed=False
        )
        points = np.abs(points).max(axis=0)
        if self.crs.is_geographic and (points > MAX_DEGREES).any():
            raise InputError(
                f"The coordinates in {file} must be degrees, according to its coordinate system. "
                f"Received: coordinates up to {points[0]:.6g}, {points[1]:.6g}. Save the file "
                "as GeoPackage with the coordinate system in which the coordinates are given. "
                "GeoJSON always contains degrees."
            )
        self.attributes = tuple(map(str, meta["fields"]))
        self.fields = _unique_names(self.attributes)
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
              starts at 1. The next columns are the attributes of the zone. The last columns are the
              columns in `COLUMNS`. An attribute with the name of another column has the prefix
              `attribute_`.
            - Warning about zones without mapped pixels; an empty string if there are none.

        Raises:
            InputError: the map has no coordinate system, or positions on the map cannot be
                transformed to the coordinate system of the zones.
        """
        with rasterio.open(map_file) as dataset:
            check_crs(dataset.crs, map_file)
            grid = Grid.of(dataset)
            tables = [Areas(grid, class_names) for _ in self.polygons]
            is_near = np.zeros(len(tables), bool)
            try:
                for number, rows, columns, inside in pixels_inside(grid, self.polygons, self.crs):
                    is_near[number] = True
                    if inside.any():
                        window = window_of(rows, columns)
                        counts = inside & (dataset.read_masks(1, window=window) > 0)
                        tables[number].add(dataset.read(1, window=window), counts, rows, columns)
            except pyproj.exceptions.ProjError as error:  # such as the Moon and the Earth
                raise InputError(
                    f"Zones and map must be on the same planet and use known coordinate systems. "
                    f"Received: {self.file} and {map_file}: {error}"
                ) from error
        lines = [
            (number, *values, *row)
            for number, (table, values) in enumerate(zip(tables, self.values, strict=True), start=1)
            for row in table.rows()
        ]
        is_empty = np.array([not table.pixels.any() for table in tables])
        warning = self._warning(map_file, grid, is_empty & ~is_near, is_empty & is_near)
        return csv_text([(NUMBER, *self.fields, *COLUMNS), *lines]), warning

    def _warning(
        self, map_file: Path, grid: Grid, is_outside: np.ndarray, is_empty: np.ndarray
    ) -> str:
        """Describes zones without mapped pixels.

        Args:
            map_file: class map.
            grid: size and georeference of the map.
            is_outside: bool `(n,)`, True for zones outside the map.
            is_empty: bool `(n,)`, True for other zones without mapped pixels.
        """
        causes = []
        if is_outside.any():
            causes.append(f"{is_outside.sum()} outside the map")
        if is_empty.any():
            causes.append(f"{is_empty.sum()} too small, on nodata pixels, or at the map border")
        if not causes:
            return ""
        text = (
            f"warning: {map_file}: {is_outside.sum() + is_empty.sum()} of {len(self.polygons)} "
            f"zones contain no mapped pixels ({', '.join(causes)})"
        )
        if is_outside.all():
            extent = extent_in(grid, self.crs)
            if np.isnan(extent).any():
                return (
                    f"{text}; the coordinate system of the zones is not defined at the place of "
                    "the map"
                )
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


def _path_and_layer(file: Path, argument: str) -> tuple[Path, str | None]:
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
            f"`{argument}` must name a layer of {path}, such as {', '.join(list(layers)[:6])}. "
            f"Received: {layer!r}."
        )
    # The layers of KML files and others can contain any geometry.
    polygons = [name for name, kind in layers.items() if "Polygon" in kind or kind == "Unknown"]
    if layer is None and len(polygons) > 1:
        raise InputError(
            f"`{argument}` must name one layer, because {path} has several layers with polygons: "
            f"{', '.join(polygons[:6])}. Use `{argument}={path}:{polygons[0]}`, for example."
        )
    return path, layer or (polygons[0] if polygons else None)


def _column(
    name: str, values: np.ndarray, dtype: str, path: Path, layer: str | None
) -> list[object]:
    """Returns the values of an attribute, with None for missing values.

    Args:
        name: name of the attribute.
        values: values as pyogrio returns them. If a value is missing, pyogrio converts whole
            numbers and booleans to floats.
        dtype: type of the attribute in the file, such as "int64".
        path: file of the zones.
        layer: layer of the file.
    """
    if values.dtype.kind != "f":
        return [value.tolist() if isinstance(value, np.ndarray) else value for value in values]
    kind = np.dtype(dtype)
    if kind == np.int64 and np.isnan(values).any():
        # Floats cannot represent all integers of 64 bits. Therefore the integers are read as text.
        column, table = (
            '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
            for text in (name, layer or pyogrio.list_layers(path)[0][0])
        )
        (texts,) = pyogrio.raw.read(
            path,
            sql=f"SELECT CAST({column} AS character(20)) FROM {table}",
            sql_dialect="OGRSQL",
            read_geometry=False,
        )[3]
        return [None if text is None else int(text) for text in texts]
    return [None if np.isnan(value) else kind.type(value) for value in values]


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
