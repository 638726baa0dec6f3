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
EDGE = 1e-2  # largest distance between points on an edge, fraction of the larger side of a map
STEP = 0.01  # distance of points from the center of a pixel, as a fraction of the pixel


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
    if not _is_distorted(grid, "areal_scale"):
        side = grid.crs.linear_units_factor[1]
        return np.full(len(rows), abs(grid.transform.determinant) * side**2 / SQUARE_METERS)
    # Compute the area of the parallelogram between four points around the center of each pixel. The
    # points are so close that the surface between them is almost plane, even at a pole.
    center = np.column_stack([columns, rows])
    directions = STEP * np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
    points = (center + directions[:, None]).reshape(-1, 2)
    right, left, down, up = np.split(_cartesian(grid, points), 4)
    areas = np.linalg.norm(np.cross(right - left, down - up), axis=1) / (2 * STEP) ** 2
    return np.nan_to_num(areas, nan=0.0) / SQUARE_METERS


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
    ellipsoid = _crs(grid.crs)[0].get_geod()
    if not grid.crs.is_projected:
        # In an equal-area projection, areas are exact if edges follow parallels and meridians.
        equal_area = functools.partial(_equal_area, grid.crs, ellipsoid)
        return shapely.area(shapely.transform(polygons, equal_area)) / SQUARE_METERS
    on_globe = shapely.orient_polygons(
        shapely.transform(
            shapely.segmentize(polygons, edge_length(grid)),
            lambda points: np.column_stack(to_globe(grid.crs, *points.T)),
        )
    )
    areas = [ellipsoid.geometry_area_perimeter(polygon)[0] for polygon in on_globe]
    return np.abs(np.array(areas, float)) / SQUARE_METERS


def edge_length(grid: Grid) -> float:
    """Returns the largest distance between two points on the edge of a polygon that is transformed.

    An edge is a straight line in one coordinate system, and usually a curve in another coordinate
    system. With points at this distance, the polygon follows the curve closely.
    """
    transform = grid.transform
    pixel = max(np.hypot(transform.a, transform.d), np.hypot(transform.b, transform.e))
    return float(max(1, EDGE * max(grid.size)) * pixel)


def _equal_area(crs: CRS, ellipsoid: pyproj.Geod, points: np.ndarray) -> np.ndarray:
    """Converts coordinates to a cylindrical equal-area projection, meters.

    The source is Snyder 1987, https://doi.org/10.3133/pp1395, equations 10-14, 10-15 and 3-12.
    """
    longitudes, latitudes = to_globe(crs, *points.T)
    sine, e = np.sin(np.radians(latitudes)), np.sqrt(ellipsoid.es)
    terms = sine / (1 - ellipsoid.es * sine**2) + (np.arctanh(e * sine) / e if e else sine)
    y = ellipsoid.a * (1 - ellipsoid.es) / 2 * terms
    return np.column_stack([ellipsoid.a * np.radians(longitudes), y])


def has_areas(crs: CRS | None) -> bool:
    """Returns True if areas can be computed in a coordinate system.

    They cannot be computed in local coordinate systems, because the position of a local coordinate
    system on the globe is unknown.
    """
    return crs is not None and (crs.is_projected or crs.is_geographic)


@functools.lru_cache(maxsize=64)
def _is_distorted(grid: Grid, *factors: str) -> bool:
    """Returns True if coordinates are angles, or if a projection changes lengths or areas.

    Also returns True if the projection is not defined everywhere in the raster.

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
    return not (np.abs(values - 1) <= MAX_DISTORTION).all()


def _cartesian(grid: Grid, points: np.ndarray) -> np.ndarray:
    """Converts columns and rows of a raster to coordinates in space.

    Args:
        grid: the raster.
        points: columns and rows, `(n, 2)`.

    Returns:
        float64 `(n, 3)`, meters from the center of the ellipsoid; NaN for a point that has no
        position on the ellipsoid.
    """
    longitudes, latitudes = _on_globe(grid, points)
    outside = ~(np.isfinite(longitudes) & (np.abs(latitudes) <= 90))
    longitudes, latitudes = (
        np.radians(np.where(outside, np.nan, angles)) for angles in (longitudes, latitudes)
    )
    ellipsoid = _crs(grid.crs)[0].get_geod()
    radius = ellipsoid.a / np.sqrt(1 - ellipsoid.es * np.sin(latitudes) ** 2)
    x, y = (radius * np.cos(latitudes) * f(longitudes) for f in (np.cos, np.sin))
    return np.column_stack([x, y, radius * (1 - ellipsoid.es) * np.sin(latitudes)])


def _on_globe(grid: Grid, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Converts columns and rows `(n, 2)` of a raster to longitudes and latitudes, degrees."""
    return to_globe(grid.crs, *(grid.transform @ np.array(points, float).T))


def to_globe(crs: CRS, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
