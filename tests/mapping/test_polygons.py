import json

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

from lcc_tf.errors import InputError
from lcc_tf.mapping.polygons import write_polygons
from tests.mapping.scenes import CLASSES, write_class_map


@pytest.mark.parametrize(("min_pixels", "class_ids"), [(25, [0, 2, 2]), (26, [0, 2])])
def test_small_regions_are_merged_into_their_neighbors(tmp_path, min_pixels, class_ids):
    ids = np.zeros((60, 60), np.uint8)
    ids[10:15, 10:15] = 2
    ids[30:50, 30:50] = 2
    write_class_map(tmp_path / "a.tif", ids)
    write_polygons(tmp_path / "a.tif", CLASSES, tmp_path / "a.gpkg", min_pixels=min_pixels)
    received = pyogrio.raw.read(tmp_path / "a.gpkg")[3][0]
    assert sorted(received.tolist()) == class_ids


def points_and_hectares(file):
    features = json.loads(file.read_text())["features"]
    rings = [feature["geometry"]["coordinates"][0] for feature in features]
    hectares = [feature["properties"]["hectares"] for feature in features]
    return np.concatenate(rings, dtype=float), hectares


def test_geojson_is_in_degrees(tmp_path):
    ids = np.arange(3, dtype=np.uint8).repeat(30)[None].repeat(50, 0)
    # The map is on both sides of 15 degrees east, which is the center of the UTM zone.
    transform = from_origin(499980, 5200000, 0.5, 0.5)
    write_class_map(tmp_path / "a.tif", ids, transform=transform)
    write_polygons(tmp_path / "a.tif", CLASSES, tmp_path / "a.geojson", min_pixels=1)
    points, hectares = points_and_hectares(tmp_path / "a.geojson")
    assert points[:, 0].min() < 15 < points[:, 0].max()
    # Most edges have 50 pixels, and there is one point per pixel at most.
    assert 15 < len(points) <= 3 * (2 * (50 + 30) + 1)
    np.testing.assert_allclose(points, np.broadcast_to([15, 46.9], points.shape), atol=0.1)
    assert sum(hectares) == pytest.approx(50 * 90 * 0.25e-4)


def test_geojson_of_a_map_without_a_coordinate_system_is_in_pixels(tmp_path):
    ids = np.arange(3, dtype=np.uint8).repeat(30)[None].repeat(50, 0)
    transform = rasterio.Affine.identity()
    write_class_map(tmp_path / "a.png", ids, crs=None, transform=transform)
    write_polygons(tmp_path / "a.png", CLASSES, tmp_path / "a.geojson", min_pixels=1)
    points, hectares = points_and_hectares(tmp_path / "a.geojson")
    assert points.max(axis=0).tolist() == [90, 50]
    assert hectares == [None] * 3


def test_failed_polygons_write_no_files(tmp_path, monkeypatch):
    write_class_map(tmp_path / "a.tif", np.zeros((9, 9), np.uint8))
    before = set(tmp_path.iterdir())

    def write(file, **options):
        file.write_text("a part")
        raise pyogrio.errors.FeatureError("database or disk is full")

    monkeypatch.setattr("pyogrio.raw.write", write)
    with pytest.raises(OSError, match="a.gpkg cannot be written.*disk is full"):
        write_polygons(tmp_path / "a.tif", CLASSES, tmp_path / "a.gpkg", min_pixels=1)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("size", [(24, 4), (1, 1), (1, 2), (8, 8)])
def test_map_with_fewer_pixels_than_the_minimum_region_has_polygons(tmp_path, size):
    ids = np.zeros(size, np.uint8)
    ids[0, 0] = 1
    write_class_map(tmp_path / "a.tif", ids)
    write_polygons(tmp_path / "a.tif", CLASSES, tmp_path / "a.gpkg", min_pixels=100)
    hectares = pyogrio.raw.read(tmp_path / "a.gpkg")[3][2]
    assert sum(hectares) == pytest.approx(ids.size * 0.25e-4)


def test_fragmented_regions_are_merged(tmp_path):
    """In one step, GDAL would not merge a small region whose neighbors are all small."""
    ids = np.zeros((60, 60), np.uint8)
    ids[10:40, 10:40] = np.random.default_rng(0).integers(0, 3, (30, 30))
    write_class_map(tmp_path / "a.tif", ids)
    write_polygons(tmp_path / "a.tif", CLASSES, tmp_path / "a.gpkg", min_pixels=25)
    _, _, geometries, _ = pyogrio.raw.read(tmp_path / "a.gpkg")
    assert shapely.area(shapely.from_wkb(geometries)).min() >= 25 * 0.25


def test_edges_of_a_geojson_follow_the_map(tmp_path):
    """The map is 2000 km wide. Its upper edge is a curve in degrees."""
    transform = from_origin(-1e6, 7e6, 1e4, 1e4)
    ids = np.zeros((20, 200), np.uint8)
    write_class_map(tmp_path / "a.tif", ids, crs="EPSG:32633", transform=transform)
    write_polygons(tmp_path / "a.tif", CLASSES, tmp_path / "a.geojson", min_pixels=1)
    points, _ = points_and_hectares(tmp_path / "a.geojson")
    to_map = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32633", always_xy=True)
    middle = (points[1:] + points[:-1]) / 2
    x, y = to_map.transform(*middle.T)
    top = y > 6.9e6
    assert top.sum() > 80
    np.testing.assert_allclose(y[top & (x > -0.99e6) & (x < 0.99e6)], 7e6, atol=20)


def test_edges_of_a_geojson_of_a_map_with_a_rotated_pole(tmp_path):
    """The coordinates are degrees, but not longitudes and latitudes."""
    crs = "+proj=ob_tran +o_proj=longlat +o_lat_p=39.25 +o_lon_p=0 +lon_0=18 +datum=WGS84"
    transform = from_origin(-20, 20, 0.4, 0.4)
    write_class_map(tmp_path / "a.tif", np.zeros((75, 75), np.uint8), crs=crs, transform=transform)
    write_polygons(tmp_path / "a.tif", CLASSES, tmp_path / "a.geojson", min_pixels=1)
    points, _ = points_and_hectares(tmp_path / "a.geojson")
    assert points[:, 1].max() == pytest.approx(70.75, abs=0.01)


def test_geojson_of_a_map_beyond_its_projection_raises(tmp_path):
    crs = "+proj=ortho +lat_0=0 +lon_0=0"
    transform = from_origin(-8e6, 8e6, 1e6, 1e6)
    write_class_map(tmp_path / "a.tif", np.zeros((16, 16), np.uint8), crs=crs, transform=transform)
    arguments = tmp_path / "a.tif", CLASSES
    with pytest.raises(InputError, match="beyond the area.*projection is defined.*'gpkg'"):
        write_polygons(*arguments, tmp_path / "a.geojson", min_pixels=1)
    assert not list(tmp_path.glob("*geojson*"))
    write_polygons(*arguments, tmp_path / "a.gpkg", min_pixels=1)
