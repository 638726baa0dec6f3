"""Conversion of class maps to polygons."""

import warnings
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import rasterio
import shapely
from rasterio.features import shapes, sieve

from lcc_tf.errors import InputError
from lcc_tf.files import flush, not_written, unfinished_name
from lcc_tf.mapping.geodesy import edge_length, polygon_hectares, to_globe
from lcc_tf.mapping.gis_styles import write_polygon_style
from lcc_tf.mapping.grid import Grid
from tfds_deepglobe.classes import ClassTable


def write_polygons(map_file: Path, classes: ClassTable, file: Path, *, min_pixels: int) -> None:
    """Writes the regions of a class map as polygons, and a style for QGIS (`.qml`).

    A region consists of connected pixels of one class. The coordinates depend on the format:

    - GeoPackage: coordinates in the coordinate system of the map.
    - GeoJSON: longitudes and latitudes, because RFC 7946 requires them
      (https://www.rfc-editor.org/rfc/rfc7946).

    If the map has no coordinate system, the coordinates of a GeoPackage are columns and rows.

    The map and its polygons must fit into memory: about 4 bytes per pixel, plus the polygons.

    Args:
        map_file: class map.
        classes: class names and colors of the map.
        file: file to write, `.gpkg` or `.geojson`.
        min_pixels: minimum number of pixels of a region. Smaller regions are merged into their
            largest neighboring region.

    Raises:
        InputError: the map extends beyond the area of its projection, and the file is a GeoJSON.
        OSError: the disk is full.
    """
    with rasterio.open(map_file) as dataset:
        class_ids, valid = dataset.read(1), dataset.read_masks(1) > 0
        grid = Grid.of(dataset)
    # `sieve` merges a region of fewer than `size` pixels only into a neighbor of `size` or more
    # pixels. If all neighbors are smaller, the region stays. Therefore `size` increases in steps.
    # GDAL requires that `size` is smaller than the number of pixels of the image.
    step, size = 1, min(min_pixels, class_ids.size - 1)
    while step < size:
        step = min(4 * step, size)
        class_ids = sieve(class_ids, size=step, mask=valid)
    regions = list(shapes(class_ids, mask=valid, transform=grid.transform))
    polygons = np.array([shapely.geometry.shape(shape) for shape, _ in regions], object)
    ids = np.array([class_id for _, class_id in regions], np.int32)
    fields = {
        "class_id": ids,
        "class": np.array(classes.names, object)[ids],
        "hectares": polygon_hectares(grid, polygons),
    }
    if file.suffix == ".geojson" and grid.crs:
        polygons = _for_geojson(polygons, grid, map_file)
    unfinished = unfinished_name(file)
    unfinished.unlink(missing_ok=True)
    try:
        _write(unfinished, polygons, fields, grid.crs)
        flush(unfinished)
        write_polygon_style(file.with_suffix(".qml"), classes)
        unfinished.replace(file)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise not_written(file, error) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _for_geojson(polygons: np.ndarray, grid: Grid, map_file: Path) -> np.ndarray:
    """Adds points to long edges: straight lines on the map are curves in longitude and latitude.

    Raises:
        InputError: a point has no longitude and latitude.
    """
    if grid.crs.is_projected or pyproj.CRS.from_wkt(grid.crs.to_wkt()).is_derived:
        polygons = shapely.segmentize(polygons, edge_length(grid))
    if not np.isfinite(to_globe(grid.crs, *shapely.get_coordinates(polygons).T)).all():
        raise InputError(
            f"`polygons='geojson'` needs longitudes and latitudes. Received: {map_file}, which "
            "extends beyond the area in which its projection is defined. Use `polygons='gpkg'`."
        )
    return polygons


def _write(
    file: Path, polygons: np.ndarray, fields: dict[str, np.ndarray], crs: rasterio.CRS | None
) -> None:
    """Writes polygons to a vector file.

    Args:
        file: file to write, `.gpkg` or `.geojson`.
        polygons: shapely geometries `(n,)`.
        fields: key: name of a field. Value: values of the field, `(n,)`.
        crs: coordinate system of the polygons; None if it is unknown.
    """
    is_geojson = file.suffix == ".geojson"
    with warnings.catch_warnings():
        # Maps of JPEG and PNG files have no coordinate system.
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        warnings.filterwarnings("ignore", message="No SRS set on layer")
        pyogrio.raw.write(
            file,
            geometry=shapely.to_wkb(polygons),
            field_data=list(fields.values()),
            fields=list(fields),
            geometry_type="Polygon",
            crs=crs.to_wkt() if crs else None,
            driver="GeoJSON" if is_geojson else "GPKG",
            layer="land_cover",
            **({"RFC7946": "YES"} if is_geojson and crs else {}),
        )
