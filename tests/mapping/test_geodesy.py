import math

import numpy as np
import pytest
import shapely
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.transform import from_origin

from lcc_tf.mapping.geodesy import has_areas, pixel_hectares, pixel_meters, polygon_hectares

UTM = CRS.from_epsg(32633)
DEGREES = CRS.from_epsg(4326)
MERCATOR = CRS.from_epsg(3857)
FEET = CRS.from_epsg(2263)  # New York, US survey feet
RADIUS = 6378137.0  # radius of the WGS 84 ellipsoid at the equator, meters


def test_sizes_in_projected_coordinates_are_computed_from_the_coordinates():
    transform = from_origin(500000, 5200000, 0.5, 0.25)
    assert pixel_meters(UTM, transform, (10, 10)) == (0.5, 0.25)
    assert pixel_hectares(UTM, transform, slice(0, 5), slice(0, 5)) == pytest.approx(0.125e-4)
    foot = 1200 / 3937
    assert pixel_meters(FEET, transform, (10, 10)) == pytest.approx((0.5 * foot, 0.25 * foot))
    rotated = Affine.rotation(30) @ Affine.scale(2, -3)
    assert pixel_meters(UTM, rotated, (10, 10)) == pytest.approx((2, 3))
    assert pixel_hectares(UTM, rotated, slice(0, 5), slice(0, 5)) == pytest.approx(6e-4)


@pytest.mark.parametrize("latitude", [0, 45, -70])
def test_sizes_in_degrees_are_computed_on_the_ellipsoid(latitude):
    side = 1e-3
    transform = from_origin(10, latitude + 5 * side, side, side)
    width, height = pixel_meters(DEGREES, transform, (10, 10))
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
    area = pixel_hectares(DEGREES, transform, slice(0, 10), slice(0, 10))
    assert area == pytest.approx(expected[0] * expected[1] / 1e4, rel=1e-4)


def test_sizes_in_web_mercator_are_computed_on_the_ellipsoid():
    # At a latitude of 60 degrees, 2 m in web Mercator are 1 m on the ground.
    x, y = 1_000_000, RADIUS * math.log(math.tan(math.pi / 4 + math.radians(60) / 2))
    transform = from_origin(x, y, 1, 1)
    assert pixel_meters(MERCATOR, transform, (2, 2)) == pytest.approx((0.5, 0.5), rel=1e-2)
    area = pixel_hectares(MERCATOR, transform, slice(0, 2), slice(0, 2))
    assert area == pytest.approx(0.25e-4, rel=1e-2)


@pytest.mark.parametrize("crs", [UTM, DEGREES, MERCATOR])
def test_area_of_a_polygon_equals_the_area_of_its_pixels(crs):
    side = 1e-4 if crs == DEGREES else 10
    transform = from_origin(12, 50, side, side)
    hole = shapely.box(12 + 2 * side, 50 - 4 * side, 12 + 3 * side, 50 - 2 * side)
    polygon = shapely.box(12, 50 - 8 * side, 12 + 5 * side, 50) - hole
    expected = 38 * pixel_hectares(crs, transform, slice(0, 8), slice(0, 5))
    half = shapely.box(12, 50 - 8 * side, 12 + 2 * side, 50)
    areas = polygon_hectares(crs, np.array([polygon, half]))
    np.testing.assert_allclose(areas, [expected, expected * 16 / 38], rtol=1e-5)
    assert polygon_hectares(crs, np.array([], object)).shape == (0,)


def test_area_is_unknown_without_a_known_coordinate_system():
    assert not has_areas(None)
    local = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    assert not has_areas(local)
    assert np.isnan(polygon_hectares(None, np.array([shapely.box(0, 0, 1, 1)]))).all()
