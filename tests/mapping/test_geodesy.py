import dataclasses
import math

import numpy as np
import pyproj
import pytest
import shapely
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.transform import from_origin

from lcc_tf.mapping.area_statistics import Areas
from lcc_tf.mapping.geodesy import has_areas, pixel_hectares, pixel_meters, polygon_hectares
from lcc_tf.mapping.grid import Grid

UTM = CRS.from_epsg(32633)
DEGREES = CRS.from_epsg(4326)
MERCATOR = CRS.from_epsg(3857)
FEET = CRS.from_epsg(2263)  # New York, US survey feet
RADIUS = 6378137.0  # radius of the WGS 84 ellipsoid at the equator, meters


def mean_hectares(grid, rows, columns):
    """Returns the mean area of the pixels in a part of a raster."""
    centers = np.mgrid[rows, columns].reshape(2, -1) + 0.5
    return pixel_hectares(grid, *centers).mean()


def test_sizes_in_projected_coordinates_are_computed_from_the_coordinates():
    transform = from_origin(500000, 5200000, 0.5, 0.25)
    assert pixel_meters(Grid(10, 10, UTM, transform)) == (0.5, 0.25)
    assert mean_hectares(Grid(10, 10, UTM, transform), slice(0, 5), slice(0, 5)) == pytest.approx(
        0.125e-4
    )
    foot = 1200 / 3937
    new_york = from_origin(1_000_000, 200_000, 0.5, 0.25)
    assert pixel_meters(Grid(10, 10, FEET, new_york)) == pytest.approx((0.5 * foot, 0.25 * foot))
    rotated = Affine.rotation(30) @ Affine.scale(2, -3)
    assert pixel_meters(Grid(10, 10, UTM, rotated)) == pytest.approx((2, 3))
    assert mean_hectares(Grid(10, 10, UTM, rotated), slice(0, 5), slice(0, 5)) == pytest.approx(
        6e-4
    )


@pytest.mark.parametrize("latitude", [0, 45, -70])
def test_sizes_in_degrees_are_computed_on_the_ellipsoid(latitude):
    side = 1e-3
    transform = from_origin(10, latitude + 5 * side, side, side)
    width, height = pixel_meters(Grid(10, 10, DEGREES, transform))
    # `normal` and `meridian` are the radii of curvature along the parallel and along the meridian.
    e2 = 0.0066943799901413165
    sine = math.sin(math.radians(latitude))
    normal = RADIUS / math.sqrt(1 - e2 * sine**2)
    meridian = RADIUS * (1 - e2) / (1 - e2 * sine**2) ** 1.5
    expected = (
        normal * math.cos(math.radians(latitude)) * math.radians(side),
        meridian * math.radians(side),
    )
    assert (width, height) == pytest.approx(expected, rel=1e-4)
    area = mean_hectares(Grid(10, 10, DEGREES, transform), slice(0, 10), slice(0, 10))
    assert area == pytest.approx(expected[0] * expected[1] / 1e4, rel=1e-4)


@pytest.mark.parametrize(
    ("code", "meters", "hectares"),
    [
        ("EPSG:3857", 0.5, 0.25e-4),
        ("EPSG:3857+5773", 0.5, 0.25e-4),  # web Mercator with heights
        ("EPSG:3395", 0.5, 0.25e-4),  # world Mercator
        ("ESRI:54004", 0.5, 0.25e-4),  # another code of world Mercator
        ("EPSG:3395+5773", 0.5, 0.25e-4),
        ("EPSG:4087", (0.5, 1), 0.5e-4),  # equidistant cylindrical
        ("EPSG:6933", (0.578, 1.729), 1e-4),  # equal-area cylindrical
        ("EPSG:3035", 1, 1e-4),  # equal-area azimuthal
    ],
)
def test_sizes_in_distorted_projections_are_sizes_on_the_ground(code, meters, hectares):
    """Pixels of one square meter in the coordinates, at a latitude of 60 degrees."""
    crs = CRS.from_string(code)
    transformer = pyproj.Transformer.from_crs("EPSG:4326", code, always_xy=True)
    grid = Grid(1000, 1000, crs, from_origin(*transformer.transform(15, 60), 1, 1))
    assert pixel_meters(grid) == pytest.approx(np.broadcast_to(meters, 2), rel=1e-2)
    parts = slice(0, 1000), slice(0, 1000)
    assert mean_hectares(grid, *parts) == pytest.approx(hectares, rel=1e-2)
    square = shapely.box(*grid.transform @ (0, 1000), *grid.transform @ (1000, 0))
    assert polygon_hectares(grid, np.array([square])) == pytest.approx(1e6 * hectares, rel=1e-2)


def test_sizes_in_grads_are_computed_on_the_ellipsoid():
    grads = CRS.from_epsg(4807)
    in_grads = Grid(10, 10, grads, from_origin(10, 50, 1e-3, 1e-3))
    in_degrees = Grid(10, 10, DEGREES, from_origin(9, 45, 0.9e-3, 0.9e-3))
    assert pixel_meters(in_grads) == pytest.approx(pixel_meters(in_degrees), rel=1e-3)
    part = slice(0, 10)
    expected = mean_hectares(in_degrees, part, part)
    assert mean_hectares(in_grads, part, part) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("crs", [UTM, DEGREES, MERCATOR])
def test_area_of_a_polygon_equals_the_area_of_its_pixels(crs):
    side = 1e-4 if crs == DEGREES else 10
    transform = from_origin(12, 50, side, side)
    hole = shapely.box(12 + 2 * side, 50 - 4 * side, 12 + 3 * side, 50 - 2 * side)
    polygon = shapely.box(12, 50 - 8 * side, 12 + 5 * side, 50) - hole
    grid = Grid(8, 5, crs, transform)
    expected = 38 * mean_hectares(grid, slice(0, 8), slice(0, 5))
    half = shapely.box(12, 50 - 8 * side, 12 + 2 * side, 50)
    areas = polygon_hectares(grid, np.array([polygon, half]))
    np.testing.assert_allclose(areas, [expected, expected * 16 / 38], rtol=1e-5)
    assert polygon_hectares(grid, np.array([], object)).shape == (0,)


def test_area_is_unknown_without_a_known_coordinate_system():
    assert not has_areas(None)
    local = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    assert not has_areas(local)
    assert np.isnan(
        polygon_hectares(Grid(1, 1, None, Affine.identity()), np.array([shapely.box(0, 0, 1, 1)]))
    ).all()


def true_hectares(south, north, width):
    """Returns the area between two parallels, from the area of a zone of an ellipsoid."""
    e2 = 0.0066943799901413165
    e = math.sqrt(e2)

    def area(latitude):
        sine = math.sin(math.radians(latitude))
        return sine / (1 - e2 * sine**2) + math.atanh(e * sine) / e

    return RADIUS**2 * (1 - e2) / 2 * math.radians(width) * (area(north) - area(south)) / 1e4


def test_areas_of_maps_of_the_globe_are_exact():
    """Each half of a map has another class."""
    grid = Grid(180, 360, DEGREES, from_origin(-180, 90, 1, 1))
    rows = np.broadcast_to(np.abs(89.5 - np.arange(180)) > 60, (360, 180)).T
    areas = Areas(grid, ("tropics", "poles"))
    areas.add(rows.astype(np.uint8), np.ones((180, 360), bool), slice(0, 180), slice(0, 360))
    expected = [true_hectares(-60, 60, 360), 2 * true_hectares(60, 90, 360)]
    np.testing.assert_allclose(areas.hectares, expected, rtol=1e-4)


@pytest.mark.parametrize("crs", [DEGREES, MERCATOR])
def test_areas_of_large_parts_are_exact(crs):
    """The map covers 8 x 8 degrees, and its north half has another class."""
    transformer = pyproj.Transformer.from_crs(DEGREES.to_wkt(), crs.to_wkt(), always_xy=True)
    left, top = transformer.transform(10, 58)
    right, bottom = transformer.transform(18, 50)
    _, middle = transformer.transform(10, 54)
    grid = Grid(
        1600, 1600, crs, from_origin(left, top, (right - left) / 1600, (top - bottom) / 1600)
    )
    north = round((top - middle) / (top - bottom) * 1600)
    ids = np.zeros((1600, 1600), np.uint8)
    ids[north:] = 1
    areas = Areas(grid, ("north", "south"))
    areas.add(ids, np.ones(ids.shape, bool), slice(0, 1600), slice(0, 1600))
    expected = [true_hectares(54, 58, 8), true_hectares(50, 54, 8)]
    np.testing.assert_allclose(areas.hectares, expected, rtol=3e-3)


def test_areas_in_web_mercator_are_areas_on_the_ellipsoid():
    """The scale factor of this projection is a factor on a sphere, up to 0.7 % wrong."""
    transformer = pyproj.Transformer.from_crs(DEGREES.to_wkt(), MERCATOR.to_wkt(), always_xy=True)
    left, top = transformer.transform(10, 60)
    right, bottom = transformer.transform(10.1, 59.9)
    transform = from_origin(left, top, (right - left) / 100, (top - bottom) / 100)
    areas = Areas(Grid(100, 100, MERCATOR, transform), ("all", "none"))
    parts = slice(0, 100), slice(0, 100)
    areas.add(np.zeros((100, 100), np.uint8), np.ones((100, 100), bool), *parts)
    assert areas.hectares[0] == pytest.approx(true_hectares(59.9, 60, 0.1), rel=1e-4)


def test_pixels_outside_the_globe_have_no_area():
    """The map in Mollweide projection shows the globe as an ellipse."""
    crs = CRS.from_string("ESRI:54009")
    grid = Grid(90, 180, crs, from_origin(-18.1e6, 9.05e6, 36.2e6 / 180, 18.1e6 / 90))
    rows, columns = np.mgrid[:90, :180].reshape(2, -1) + 0.5
    sizes = pixel_hectares(grid, rows, columns)
    assert (sizes == 0).sum() > 2000
    assert sizes.sum() == pytest.approx(true_hectares(-90, 90, 360), rel=5e-3)


@pytest.mark.parametrize("shift", [0, 0.5])
def test_area_of_a_pixel_at_the_pole(shift):
    """With a shift of 0.5, the pole is the center of a pixel."""
    crs = CRS.from_epsg(3413)  # polar stereographic
    pixel = 1000
    transform = from_origin(-(5 + shift) * pixel, (5 + shift) * pixel, pixel, pixel)
    grid = Grid(11, 11, crs, transform)
    rows, columns = np.mgrid[:11, :11].reshape(2, -1) + 0.5
    # Scale factor of lengths at the pole. The scale factor is 1 at 70 degrees north.
    scale = 0.96986
    np.testing.assert_allclose(pixel_hectares(grid, rows, columns), 100 / scale**2, rtol=1e-3)


def test_area_of_a_polygon_of_the_globe_is_exact():
    """The edge between two corners is a parallel, not the shortest line on the globe."""
    grid = Grid(180, 360, DEGREES, from_origin(-180, 90, 1, 1))
    polygons = [shapely.box(-180, -90, 180, 90), shapely.box(0, 30, 60, 60)]
    expected = [true_hectares(-90, 90, 360), true_hectares(30, 60, 60)]
    np.testing.assert_allclose(polygon_hectares(grid, np.array(polygons)), expected, rtol=1e-9)
    sphere = dataclasses.replace(grid, crs=CRS.from_string("+proj=longlat +R=6371000"))
    half = polygon_hectares(sphere, np.array([shapely.box(-180, 0, 180, 90)]))
    assert half == pytest.approx(2 * math.pi * 6371000**2 / 1e4)


def test_area_of_a_long_polygon_in_a_distorted_projection():
    transformer = pyproj.Transformer.from_crs(DEGREES.to_wkt(), MERCATOR.to_wkt(), always_xy=True)
    left, bottom = transformer.transform(0, 30)
    right, top = transformer.transform(60, 60)
    grid = Grid(100, 100, MERCATOR, from_origin(left, top, (right - left) / 100, 1e5))
    box = np.array([shapely.box(left, bottom, right, top)])
    assert polygon_hectares(grid, box) == pytest.approx(true_hectares(30, 60, 60), rel=1e-4)


@pytest.mark.parametrize(("side", "text"), [(0.5, "0.0025"), (0.005, "0.00000025")])
def test_hectares_of_small_pixels_have_more_decimals(side, text):
    grid = Grid(10, 10, UTM, from_origin(500000, 5200000, side, side))
    areas = Areas(grid, ("all",))
    areas.add(np.zeros((10, 10), np.uint8), np.ones((10, 10), bool), slice(0, 10), slice(0, 10))
    assert areas.rows()[0][-1] == text


def test_pixels_beyond_a_pole_have_no_area():
    grid = Grid(3, 4, DEGREES, from_origin(0, 91, 1, 1))
    assert (pixel_hectares(grid, np.array([0.5, 1.5]), np.array([2.5, 2.5])) > 0).tolist() == [
        False,
        True,
    ]
