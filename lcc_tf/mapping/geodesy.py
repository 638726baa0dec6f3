"""Lengths and areas of pixels on the ground.

In most projected coordinate systems, lengths and areas are computed from the coordinates, which is
usual in surveying. Lengths and areas are computed on the ellipsoid in two cases:

- The coordinates are degrees.
- The coordinate system is web Mercator. Outside the equator, one meter in web Mercator is less than
  one meter on the ground.
"""

import numpy as np
import pyproj
import shapely
from rasterio import Affine
from rasterio.crs import CRS

WEB_MERCATOR = 3857
SQUARE_METERS = 10_000  # per hectare


def pixel_meters(crs: CRS, transform: Affine, size: tuple[int, int]) -> tuple[float, float]:
    """Computes the size of the pixel in the center of a raster.

    Args:
        crs: coordinate system.
        transform: transform from columns and rows to coordinates.
        size: height and width of the raster, pixels.

    Returns:
        Width and height of the pixel, meters.
    """
    if not is_geodesic(crs):
        unit = crs.linear_units_factor[1]
        width, height = np.hypot(transform.a, transform.d), np.hypot(transform.b, transform.e)
        return float(unit * width), float(unit * height)
    row, column = size[0] / 2, size[1] / 2
    points = [(column, row), (column + 1, row), (column, row + 1)]
    longitudes, latitudes = _on_globe(crs, transform, np.array(points, float))
    _, _, lengths = _ellipsoid(crs).inv(
        [longitudes[0]] * 2, [latitudes[0]] * 2, longitudes[1:], latitudes[1:]
    )
    return float(lengths[0]), float(lengths[1])


def pixel_hectares(crs: CRS, transform: Affine, rows: slice, columns: slice) -> float:
    """Computes the mean area of the pixels in a part of a raster.

    If areas are computed on the ellipsoid, geodesics connect the four corners of the part. The area
    inside the geodesics is divided by the number of pixels.

    Args:
        crs: coordinate system.
        transform: transform from columns and rows to coordinates.
        rows: rows of the part.
        columns: columns of the part.

    Returns:
        Hectares per pixel.
    """
    if not is_geodesic(crs):
        return abs(transform.determinant) * crs.linear_units_factor[1] ** 2 / SQUARE_METERS
    top, bottom, left, right = rows.start, rows.stop, columns.start, columns.stop
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    area, _ = _ellipsoid(crs).polygon_area_perimeter(
        *_on_globe(crs, transform, np.array(corners, float))
    )
    return abs(area) / ((bottom - top) * (right - left)) / SQUARE_METERS


def polygon_hectares(crs: CRS | None, polygons: np.ndarray) -> np.ndarray:
    """Computes the areas of polygons.

    Args:
        crs: coordinate system.
        polygons: shapely geometries `(n,)` in coordinates of `crs`.

    Returns:
        float64 `(n,)`, hectares; NaN if areas cannot be computed in `crs`, see `has_areas`.
    """
    if not has_areas(crs):
        return np.full(len(polygons), np.nan)
    if not is_geodesic(crs):
        return shapely.area(polygons) * crs.linear_units_factor[1] ** 2 / SQUARE_METERS
    on_globe = shapely.orient_polygons(
        shapely.transform(polygons, lambda points: np.column_stack(_to_globe(crs, *points.T)))
    )
    ellipsoid = _ellipsoid(crs)
    areas = [ellipsoid.geometry_area_perimeter(polygon)[0] for polygon in on_globe]
    return np.abs(np.array(areas, float)) / SQUARE_METERS


def has_areas(crs: CRS | None) -> bool:
    """Returns True if areas can be computed in a coordinate system."""
    return crs is not None and (crs.is_projected or crs.is_geographic)


def is_geodesic(crs: CRS) -> bool:
    """Returns True if lengths and areas are computed on the ellipsoid."""
    return not crs.is_projected or crs.to_epsg() == WEB_MERCATOR


def _on_globe(crs: CRS, transform: Affine, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Converts columns and rows `(n, 2)` to longitudes and latitudes, degrees."""
    return _to_globe(crs, *(transform @ points.T))


def _to_globe(crs: CRS, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Converts coordinates to longitudes and latitudes, degrees."""
    source = pyproj.CRS.from_user_input(crs.to_wkt())
    if source.is_geographic:
        return x, y
    return pyproj.Transformer.from_crs(source, source.geodetic_crs, always_xy=True).transform(x, y)


def _ellipsoid(crs: CRS) -> pyproj.Geod:
    """Returns the ellipsoid of a coordinate system."""
    return pyproj.CRS.from_user_input(crs.to_wkt()).get_geod()
