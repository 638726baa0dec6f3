import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

from lcc_tf.mapping import polygon_pixels
from lcc_tf.mapping.grid import Grid
from lcc_tf.mapping.polygon_pixels import extent_in, pixels_inside

WORLD = Grid(180, 360, rasterio.CRS.from_epsg(4326), from_origin(-180, 90, 1, 1))
UTM = Grid(90, 120, rasterio.CRS.from_epsg(32633), from_origin(500000, 5200000, 10, 10))


def crs_of(text):
    return rasterio.CRS.from_user_input(text)


def inside_of(grid, polygons, crs):
    """Returns for each polygon the pixels inside, bool `(n, height, width)`."""
    inside = np.zeros((len(polygons), *grid.size), bool)
    for number, rows, columns, part in pixels_inside(grid, np.array(polygons, object), crs):
        assert not inside[number, rows, columns].any()  # parts do not overlap
        inside[number, rows, columns] = part
    return inside


def true_pixels(grid, polygon, crs):
    """Transforms the center of each pixel to the coordinate system of the polygon."""
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    x, y = grid.transform @ np.array([columns, rows])
    transformer = pyproj.Transformer.from_crs(grid.crs.to_wkt(), crs.to_wkt(), always_xy=True)
    return shapely.contains_xy(polygon, *transformer.transform(x, y))


@pytest.mark.parametrize(
    ("crs", "bounds"),
    [
        # A zone in France. On the other side of the world, coordinates of this system are huge.
        ("EPSG:2154", (100000, 6000000, 1200000, 7100000)),
        # The corners are outside the globe of the projection.
        ("ESRI:54009", (1e7, 7e6, 1.4e7, 8e6)),
        ("ESRI:54009", (-1.9e7, -9.1e6, 1.9e7, 9.1e6)),
        # Zones around a pole, and beyond the equator
        ("EPSG:3413", (-1000000, -1500000, 2000000, 3000000)),
        ("EPSG:3571", (1000000, 1000000, 2000000, 2000000)),
        ("EPSG:6931", (-9000000, -9000000, 9000000, 9000000)),
        # Zones on both sides of the meridian of 180 degrees
        ("+proj=laea +lat_0=0 +lon_0=180", (-4000000, -4000000, 4000000, 4000000)),
        ("EPSG:32660", (300000, 5000000, 1500000, 7500000)),
        # Only one side of the globe has coordinates.
        ("+proj=geos +h=35785831 +lon_0=0", (-5500000, -5500000, 5500000, 5500000)),
        ("+proj=ortho +lat_0=40 +lon_0=10", (-7000000, -7000000, 7000000, 7000000)),
    ],
)
def test_pixels_of_a_world_map_in_projected_polygons(crs, bounds):
    crs, polygon = crs_of(crs), shapely.box(*bounds)
    expected = true_pixels(WORLD, polygon, crs)
    assert expected.any()
    np.testing.assert_array_equal(inside_of(WORLD, [polygon], crs)[0], expected)


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:25833", "EPSG:4326", "EPSG:3857", "EPSG:3035"])
@pytest.mark.parametrize("sides", [(2048, 64), (16, 16)])
def test_pixels_of_a_map_in_meters(crs, sides, monkeypatch):
    """The polygon has a hole and curved edges. Small blocks contain parts of it.

    Pixels whose centers are within 0.01 pixels of an edge can be inside or outside.
    """
    monkeypatch.setattr("lcc_tf.mapping.polygon_pixels.LARGEST", sides[0])
    monkeypatch.setattr("lcc_tf.mapping.polygon_pixels.SMALLEST", sides[1])
    center = shapely.Point(500603.1, 5199551.7)
    polygon = center.buffer(400) - shapely.Point(500700, 5199600).buffer(150)
    columns, rows = np.meshgrid(np.arange(UTM.width) + 0.5, np.arange(UTM.height) + 0.5)
    centers = shapely.points(*(UTM.transform @ np.array([columns, rows])))
    is_clear = shapely.distance(centers, polygon.boundary) > 0.1
    to_crs = pyproj.Transformer.from_crs("EPSG:32633", crs, always_xy=True)
    polygon = shapely.transform(polygon, lambda xy: np.column_stack(to_crs.transform(*xy.T)))
    expected = true_pixels(UTM, polygon, crs_of(crs))
    assert 0 < expected.sum() < expected.size
    inside = inside_of(UTM, [polygon], crs_of(crs))[0]
    np.testing.assert_array_equal(inside[is_clear], expected[is_clear])


def test_few_pixels_of_a_block_have_a_position():
    """A satellite at a height of 100 km sees a circle with a radius of 10 degrees."""
    crs = crs_of("+proj=nsper +h=100000 +lat_0=20 +lon_0=35")
    everything = shapely.box(-1e7, -1e7, 1e7, 1e7)
    expected = true_pixels(WORLD, everything, crs)
    assert 200 < expected.sum() < 400
    np.testing.assert_array_equal(inside_of(WORLD, [everything], crs)[0], expected)


def test_small_polygon_at_a_pole_inside_a_large_block():
    polar = Grid(600, 600, rasterio.CRS.from_epsg(3413), from_origin(-2.2e6, 2.2e6, 1e4, 1e4))
    cap = shapely.box(100, 89, 140, 89.8)
    expected = true_pixels(polar, cap, WORLD.crs)
    assert expected.any()
    np.testing.assert_array_equal(inside_of(polar, [cap], WORLD.crs)[0], expected)


def test_pixels_whose_position_is_not_linear_are_computed_one_by_one():
    """Columns at a pole: the zone is a sector, which is narrower than a block."""
    polar = Grid(200, 200, rasterio.CRS.from_epsg(3413), from_origin(-1e6, 1e6, 1e4, 1e4))
    sector = shapely.box(40, 80, 47, 90.05)
    expected = true_pixels(polar, sector, WORLD.crs)
    assert expected.sum() > 50
    np.testing.assert_array_equal(inside_of(polar, [sector], WORLD.crs)[0], expected)


@pytest.mark.parametrize(
    ("crs", "turn"),
    [("EPSG:4326", 360), ("EPSG:4807", 400), ("EPSG:3857", 40075016.6855785), ("EPSG:32633", None)],
)
def test_polygons_after_one_turn_around_the_globe(crs, turn):
    """Coordinates of UTM do not repeat."""
    crs = crs_of(crs)
    to_crs = pyproj.Transformer.from_crs(4326, crs.to_wkt(), always_xy=True)
    left, bottom, right, top = *to_crs.transform(12.3, 45.2), *to_crs.transform(17.4, 49.7)
    polygons = [
        shapely.box(left + shift, bottom, right + shift, top)
        for shift in (0, turn or 1e8, -(turn or 1e8), 2 * (turn or 1e8))
    ]
    inside = inside_of(WORLD, polygons, crs)
    assert inside[0].sum() > 10
    for other in inside[1:]:
        np.testing.assert_array_equal(other, inside[0] if turn else np.zeros_like(other))


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326"])
@pytest.mark.parametrize("angle", [0, 45, 90, 135])
def test_pixels_on_a_common_edge_are_in_one_polygon(crs, angle):
    """The edge is a line through the centers of pixels."""
    x, y = UTM.transform @ (60.5, 45.5)
    half = shapely.box(x, y - 5000, x + 5000, y + 5000)
    halves = [shapely.affinity.rotate(half, turn, origin=(x, y)) for turn in (angle, angle + 180)]
    to_crs = pyproj.Transformer.from_crs("EPSG:32633", crs, always_xy=True)
    if crs != "EPSG:32633":  # the common edge has many points, and therefore stays a line
        halves = [shapely.segmentize(half, 10) for half in halves]
        halves = [
            shapely.transform(h, lambda xy: np.column_stack(to_crs.transform(*xy.T)))
            for h in halves
        ]
    counts = inside_of(UTM, halves, crs_of(crs)).sum(axis=0)
    assert (counts == 1).all()


def test_thin_corner_near_the_border_of_a_block():
    """GEOS cannot clip this polygon at a rectangle."""
    grid = Grid(60, 2060, UTM.crs, from_origin(507288.9, 5200000, 0.2, 0.2))
    corner = [(507697.7, 5199998.2), (507698.30000000005, 5199998), (507694.7, 5199998.4)]
    square = shapely.box(507695.9, 5199990, 507700.3, 5199994)
    polygon = shapely.MultiPolygon([shapely.Polygon(corner), square])
    expected = true_pixels(grid, polygon, UTM.crs)
    inside = inside_of(grid, [polygon], UTM.crs)[0]
    assert abs(inside.sum() - expected.sum()) <= 25  # pixels whose centers are on an edge
    assert inside.sum() > 400


def test_far_polygon_costs_no_time_and_is_not_near():
    """A map on both sides of 180 degrees, and a polygon in Africa."""
    fiji = Grid(3000, 3000, rasterio.CRS.from_epsg(32760), from_origin(780000, 8010000, 100, 100))
    africa = shapely.box(15, -20, 25, -19)
    assert list(pixels_inside(fiji, np.array([africa], object), WORLD.crs)) == []


def test_small_polygon_on_a_large_map_needs_few_positions(monkeypatch):
    """The positions of 1.6 million pixels would take seconds."""
    world = Grid(900, 1800, WORLD.crs, from_origin(-180, 90, 0.2, 0.2))
    numbers = []
    locator = polygon_pixels._locator

    def counted(grid, crs):
        locate = locator(grid, crs)
        return lambda columns, rows: numbers.append(np.size(rows)) or locate(columns, rows)

    monkeypatch.setattr(polygon_pixels, "_locator", counted)
    parcel = shapely.box(500000, 5000000, 600000, 5100000)
    found = list(pixels_inside(world, np.array([parcel], object), UTM.crs))
    assert sum(part[-1].sum() for part in found) > 20
    assert sum(numbers) < 500000


@pytest.mark.parametrize("pixel", [0.3, 10 / 3])
@pytest.mark.parametrize("is_vertical", [True, False])
def test_each_pixel_is_in_one_of_many_strips(pixel, is_vertical):
    """Decimal numbers such as 0.3 are not exact in binary. Edges are at the centers of pixels."""
    grid = Grid(60, 90, UTM.crs, from_origin(500000, 5200000, pixel, pixel))
    edges = np.arange(0, 100, 10) + 0.5
    strips = []
    for first, second in zip([-5, *edges], [*edges, 105], strict=True):
        x, y = ([first, second], [-5, 105]) if is_vertical else ([-5, 105], [first, second])
        corners = np.array(grid.transform @ np.array([x, y], float))
        strips.append(shapely.box(*corners.min(axis=1), *corners.max(axis=1)))
    assert (inside_of(grid, strips, grid.crs).sum(axis=0) == 1).all()


def test_polygon_wider_than_the_globe_contains_each_pixel_once():
    wide = shapely.box(-400, 0, 400, 90)
    inside = inside_of(WORLD, [wide], WORLD.crs)[0]
    assert inside[:90].all()
    assert not inside[90:].any()


def test_polygons_far_from_the_map_and_without_pixels():
    polygons = [
        shapely.box(0, 0, 1, 1),
        None,
        shapely.Polygon(),
        shapely.box(-1e15, -1e15, 1e15, 1e15),
    ]
    inside = inside_of(UTM, polygons, UTM.crs)
    assert not inside[:3].any()
    assert inside[3].all()
    far = pixels_inside(UTM, np.array(polygons[:3], object), UTM.crs)
    assert list(far) == []


def test_extent_of_a_map_in_another_coordinate_system():
    np.testing.assert_allclose(extent_in(WORLD, WORLD.crs), [-180, -90, 180, 90], atol=1e-5)
    fiji = Grid(200, 200, rasterio.CRS.from_epsg(32760), from_origin(800000, 8010000, 100, 100))
    left, _, right, _ = extent_in(fiji, WORLD.crs)
    assert left == pytest.approx(179.83, abs=0.01)
    assert right == pytest.approx(180.02, abs=0.01)
    # Only a part of the globe has coordinates.
    extent = extent_in(WORLD, crs_of("+proj=ortho +lat_0=40 +lon_0=10"))
    assert np.isfinite(extent).all()
    assert np.isnan(extent_in(fiji, crs_of("+proj=ortho +lat_0=40 +lon_0=10"))).all()
