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


def pixel_hectares(grid: Grid, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Computes the areas of pixels.

    Args:
        grid: raster with a coordinate system for which `has_areas` returns True.
        rows: rows of the centers of the pixels, float `(n,)`. The center of the first pixel is 0.5.
        columns: columns of the centers of the pixels, float `(n,)`.

    Returns:
        float64 `(n,)`, hectares. The area is 0 where the projection is not defined.
    """
    area = abs(grid.transform.determinant) / SQUARE_METERS
    if not _is_distorted(grid, "areal_scale"):
        return np.full(len(rows), area * grid.crs.linear_units_factor[1] ** 2)
    longitudes, latitudes = _on_globe(grid, np.column_stack([columns, rows]))
    source, _ = _crs(grid.crs)
    if grid.crs.is_projected:
        scales = np.array(pyproj.Proj(source).get_factors(longitudes, latitudes).areal_scale)
        with np.errstate(divide="ignore"):
            inverse = np.nan_to_num(1 / scales, posinf=0.0)
        return area * grid.crs.linear_units_factor[1] ** 2 * inverse
    # The area is the product of the radii of curvature along the meridian and along the parallel,
    # and of the angles in radians (Snyder 1987, https://doi.org/10.3133/pp1395, equations 4-18 to
    # 4-21).
    ellipsoid = source.get_geod()
    root = 1 - ellipsoid.es * np.sin(np.radians(latitudes)) ** 2
    meridian = ellipsoid.a * (1 - ellipsoid.es) / root**1.5
    parallel = ellipsoid.a / np.sqrt(root) * np.cos(np.radians(latitudes))
    radians = source.axis_info[0].unit_conversion_factor
    return area * radians**2 * meridian * np.maximum(parallel, 0)


def block_side(grid: Grid) -> int:
    """Returns the side of blocks in which all pixels have almost the same area, pixels.

    A block is at most 0.05 degrees or 5 km wide, if areas are computed on the ellipsoid. In blocks
    of this size, the area of a pixel differs by less than 1 % up to a latitude of 85 degrees.
    """
    if not _is_distorted(grid, "areal_scale"):
        return max(grid.size)
    if grid.crs.is_projected:
        longest = 5000 / grid.crs.linear_units_factor[1]
    else:
        longest = np.radians(0.05) / _crs(grid.crs)[0].axis_info[0].unit_conversion_factor
    transform = grid.transform
    pixel = max(np.hypot(transform.a, transform.d), np.hypot(transform.b, transform.e))
    return int(np.clip(longest / pixel, 1, 4096))


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
