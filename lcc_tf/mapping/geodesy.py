"""Lengths and areas of pixels on the ground.

In projected coordinate systems, lengths and areas are computed from the coordinates, which is usual
in surveying. They are computed on the ellipsoid in two cases:

- The coordinates are angles, such as degrees.
- The projection changes lengths or areas inside the raster by more than 1 %. For example, at a
  latitude of 60 degrees, 2 meters in web Mercator are 1 meter on the ground.
"""

import functools

import numpy as np
import pyproj
import shapely
from rasterio.crs import CRS

from lcc_tf.mapping.grid import Grid

MAX_DISTORTION = 0.01  # maximum relative change of lengths or areas by a projection
SQUARE_METERS = 10_000  # per hectare


def pixel_meters(grid: Grid) -> tuple[float, float]:
    """Computes the width and height of the pixel in the center of a raster, meters.

    The raster must have a coordinate system for which `has_areas` returns True.
    """
    transform = grid.transform
    if not _is_distorted(grid, "meridional_scale", "parallel_scale"):
        unit = grid.crs.linear_units_factor[1]
        width, height = np.hypot(transform.a, transform.d), np.hypot(transform.b, transform.e)
        return float(unit * width), float(unit * height)
    row, column = grid.height / 2, grid.width / 2
    points = [(column, row), (column + 1, row), (column, row + 1)]
    longitudes, latitudes = _on_globe(grid, points)
    _, _, lengths = (
        _crs(grid.crs)[0]
        .get_geod()
        .inv([longitudes[0]] * 2, [latitudes[0]] * 2, longitudes[1:], latitudes[1:])
    )
    return float(lengths[0]), float(lengths[1])


def pixel_hectares(grid: Grid, rows: slice, columns: slice) -> float:
    """Computes the mean area of the pixels in a part of a raster.

    If areas are computed on the ellipsoid, geodesics connect the four corners of the part. The area
    inside the geodesics is divided by the number of pixels.

    Args:
        grid: raster with a coordinate system for which `has_areas` returns True.
        rows: rows of the part.
        columns: columns of the part.

    Returns:
        Hectares per pixel.
    """
    if not _is_distorted(grid, "areal_scale"):
        unit = grid.crs.linear_units_factor[1]
        return abs(grid.transform.determinant) * unit**2 / SQUARE_METERS
    top, bottom, left, right = rows.start, rows.stop, columns.start, columns.stop
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    area, _ = _crs(grid.crs)[0].get_geod().polygon_area_perimeter(*_on_globe(grid, corners))
    return abs(area) / ((bottom - top) * (right - left)) / SQUARE_METERS


def polygon_hectares(grid: Grid, polygons: np.ndarray) -> np.ndarray:
    """Computes the areas of polygons.

    Args:
        grid: raster that contains the polygons.
        polygons: shapely geometries `(n,)` in coordinates of `grid.crs`.

    Returns:
        float64 `(n,)`, hectares; NaN if areas cannot be computed, see `has_areas`.
    """
    if not has_areas(grid.crs):
        return np.full(len(polygons), np.nan)
    if not _is_distorted(grid, "areal_scale"):
        return shapely.area(polygons) * grid.crs.linear_units_factor[1] ** 2 / SQUARE_METERS
    on_globe = shapely.orient_polygons(
        shapely.transform(polygons, lambda points: np.column_stack(_to_globe(grid.crs, *points.T)))
    )
    ellipsoid = _crs(grid.crs)[0].get_geod()
    areas = [ellipsoid.geometry_area_perimeter(polygon)[0] for polygon in on_globe]
    return np.abs(np.array(areas, float)) / SQUARE_METERS


def has_areas(crs: CRS | None) -> bool:
    """Returns True if areas can be computed in a coordinate system.

    They cannot be computed in local coordinate systems, because the position of a local coordinate
    system on the globe is unknown.
    """
    return crs is not None and (crs.is_projected or crs.is_geographic)


@functools.lru_cache(maxsize=64)
def _is_distorted(grid: Grid, *factors: str) -> bool:
    """Returns True if coordinates are angles, or if a projection changes lengths or areas.

    Args:
        grid: raster with a coordinate system for which `has_areas` returns True.
        *factors: names of the scale factors that must be between 0.99 and 1.01 at the center and
            the corners of the raster, see `pyproj.proj.Factors`.
    """
    if not grid.crs.is_projected:
        return True
    rows, columns = np.array([0, 0, 0.5, 1, 1]), np.array([0, 1, 0.5, 0, 1])
    points = np.column_stack([columns * grid.width, rows * grid.height])
    scales = pyproj.Proj(_crs(grid.crs)[0]).get_factors(*_on_globe(grid, points))
    values = np.array([getattr(scales, factor) for factor in factors])
    # The factors are infinite where the projection is not defined.
    return bool((np.abs(values[np.isfinite(values)] - 1) > MAX_DISTORTION).any())


def _on_globe(grid: Grid, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Converts columns and rows `(n, 2)` of a raster to longitudes and latitudes, degrees."""
    return _to_globe(grid.crs, *(grid.transform @ np.array(points, float).T))


def _to_globe(crs: CRS, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Converts coordinates to longitudes and latitudes, degrees."""
    source, transformer = _crs(crs)
    if source.is_geographic:
        unit = source.axis_info[0].unit_conversion_factor  # radians
        return np.degrees(x * unit), np.degrees(y * unit)
    return transformer.transform(x, y)


@functools.lru_cache(maxsize=64)
def _crs(crs: CRS) -> tuple[pyproj.CRS, pyproj.Transformer]:
    """Converts a coordinate system to pyproj.

    Returns:
        The coordinate system, and its transformer to longitudes and latitudes on its ellipsoid.
    """
    source = pyproj.CRS.from_user_input(crs.to_wkt())
    return source, pyproj.Transformer.from_crs(source, source.geodetic_crs, always_xy=True)
