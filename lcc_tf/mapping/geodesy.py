"""How long and how large a raster's pixels are on the ground.

Projected coordinates are believed, as surveyors do. Where they are degrees, or those of web
Mercator, whose metres grow with the latitude, distances and areas are those of the ellipsoid.
"""

import numpy as np
import pyproj
import shapely
from rasterio import Affine
from rasterio.crs import CRS

WEB_MERCATOR = 3857
SQUARE_METRES = 10_000  # of a hectare


def pixel_metres(crs: CRS, transform: Affine, size: tuple[int, int]) -> tuple[float, float]:
    """Width and height of a pixel in the middle of a raster, metres.

    Args:
        crs: coordinate system.
        transform: from columns and rows to coordinates.
        size: height and width, pixels.
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
    """Area of a pixel in the middle of a part of a raster, hectares.

    On the ellipsoid it is a share of the quadrilateral around the whole part: exact in the mean
    over the part's pixels, but for its edges being geodesics.

    Args:
        crs: coordinate system.
        transform: from columns and rows to coordinates.
        rows: of the part.
        columns: of the part.
    """
    if not is_geodesic(crs):
        return abs(transform.determinant) * crs.linear_units_factor[1] ** 2 / SQUARE_METRES
    top, bottom, left, right = rows.start, rows.stop, columns.start, columns.stop
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    area, _ = _ellipsoid(crs).polygon_area_perimeter(
        *_on_globe(crs, transform, np.array(corners, float))
    )
    return abs(area) / ((bottom - top) * (right - left)) / SQUARE_METRES


def polygon_hectares(crs: CRS | None, polygons: np.ndarray) -> np.ndarray:
    """Areas of polygons, hectares; NaN where coordinates have no known size.

    Args:
        crs: coordinate system.
        polygons: geometries `(n,)` in its coordinates.

    Returns:
        float64 `(n,)`.
    """
    if not has_areas(crs):
        return np.full(len(polygons), np.nan)
    if not is_geodesic(crs):
        return shapely.area(polygons) * crs.linear_units_factor[1] ** 2 / SQUARE_METRES
    on_globe = shapely.orient_polygons(
        shapely.transform(polygons, lambda points: np.column_stack(_to_globe(crs, *points.T)))
    )
    ellipsoid = _ellipsoid(crs)
    areas = [ellipsoid.geometry_area_perimeter(polygon)[0] for polygon in on_globe]
    return np.abs(np.array(areas, float)) / SQUARE_METRES


def has_areas(crs: CRS | None) -> bool:
    """Whether a coordinate system tells how large pixels are."""
    return crs is not None and (crs.is_projected or crs.is_geographic)


def is_geodesic(crs: CRS) -> bool:
    """Whether lengths and areas are taken from the ellipsoid, not from the coordinates."""
    return not crs.is_projected or crs.to_epsg() == WEB_MERCATOR


def _on_globe(crs: CRS, transform: Affine, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Longitudes and latitudes, degrees, of columns and rows `(n, 2)`."""
    return _to_globe(crs, *(transform @ points.T))


def _to_globe(crs: CRS, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Longitudes and latitudes, degrees, of coordinates."""
    own = pyproj.CRS.from_user_input(crs.to_wkt())
    if own.is_geographic:
        return x, y
    return pyproj.Transformer.from_crs(own, own.geodetic_crs, always_xy=True).transform(x, y)


def _ellipsoid(crs: CRS) -> pyproj.Geod:
    return pyproj.CRS.from_user_input(crs.to_wkt()).get_geod()
