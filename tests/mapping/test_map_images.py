import csv
import json
from unittest.mock import Mock

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.enums import Resampling
from rasterio.transform import from_origin

from lcc_tf.errors import InputError
from lcc_tf.mapping.area_statistics import Zones
from lcc_tf.mapping.input_images import images_to_map
from lcc_tf.mapping.map_images import map_images, write_map
from lcc_tf.mapping.map_raster import read_map
from lcc_tf.mapping.outputs import EXTRAS, Outputs
from lcc_tf.mapping.scene import open_scene
from lcc_tf.mapping.scene_reading import SceneReading
from lcc_tf.prediction.predictors import Average, EnsemblePredictor, Predictor
from lcc_tf.prediction.tiling import OVERLAP
from tests.mapping.scenes import CLASSES, HALF_METER, write_scene


def by_color(sharpness):
    """A network that predicts a class from the strongest color: red, green or blue."""

    def predict(images):
        values = np.exp(sharpness * images / 255)
        return (values / values.sum(axis=-1, keepdims=True)).astype(np.float32)

    return predict


def always(class_id):
    """A network that predicts one class everywhere."""
    return lambda images: np.broadcast_to(
        np.eye(3, dtype=np.float32)[class_id], (*images.shape[:3], 3)
    )


def member(predict, framing="crops", image_size=32, tile=32):
    return Predictor("any", predict, framing, image_size, tile, size_divisor=16)


def scene_model(*members, weights=None, kind="probabilities"):
    weights = weights or (1.0,) * len(members)
    return EnsemblePredictor(CLASSES, members, Average(tuple(weights), kind))


@pytest.fixture(scope="module")
def model():
    return scene_model(member(by_color(8)), member(always(1)), weights=(3.0, 1.0))


@pytest.fixture(scope="module")
def mapped(model, image, tmp_path_factory):
    """A scene with a margin of nodata, mapped with all optional files."""
    folder = tmp_path_factory.mktemp("mapped")
    pixels = image[0].copy()
    pixels[:9] = 0
    write_scene(folder / "scene.tif", pixels, nodata=0)
    zones = {
        "west": shapely.box(500000, 5199000, 500020.01, 5201000),
        "spot": shapely.box(500010, 5199980, 500012, 5199983),
        "elsewhere": shapely.box(400000, 5199980, 400012, 5199983),
    }
    pyogrio.raw.write(
        folder / "zones.gpkg",
        geometry=shapely.to_wkb(list(zones.values())),
        field_data=[np.array(list(zones), object)],
        fields=["name"],
        geometry_type="Polygon",
        crs="EPSG:32633",
        driver="GPKG",
    )
    with open_scene(folder / "scene.tif") as scene:
        outputs = Outputs(folder, EXTRAS, polygons="gpkg", zones=Zones(folder / "zones.gpkg"))
        write_map(scene, model, outputs)
    return folder


def read(file):
    with rasterio.open(file) as dataset:
        return dataset.read()


def test_map_has_the_scenes_grid_and_nodata(mapped, image):
    with rasterio.open(mapped / "scene_classes.tif") as dataset:
        assert (dataset.shape, dataset.transform) == ((93, 131), HALF_METER)
        assert (dataset.crs.to_epsg(), dataset.nodata) == (32633, 255)
        ids = dataset.read(1)
    assert (ids[:9] == 255).all()
    np.testing.assert_array_equal(ids[9:], image[1][9:])


def test_parts_without_pixels_are_nodata_in_every_raster(tmp_path, model, image):
    pixels = image[0].copy()
    pixels[:, 30:] = 0
    write_scene(tmp_path / "a.tif", pixels, nodata=0)
    seen = []

    def predict(images):
        seen.append(images.any(axis=(1, 2, 3)).sum())
        return by_color(8)(images)

    both = scene_model(member(predict), member(always(1)))
    with open_scene(tmp_path / "a.tif") as scene:
        write_map(scene, both, Outputs(tmp_path, EXTRAS))
    assert sum(seen) == 4 * 2  # of 4 rows and 6 columns of tiles
    for kind in ("classes", "probabilities", "confidence", "disagreement"):
        written = read(tmp_path / f"a_{kind}.tif")
        assert (written[..., 30:] == 255).all()
        assert (written[..., :30] < 255).all()


def test_probabilities_confidence_and_disagreement(mapped, image, model):
    pixels, ids = image
    first, second = (
        member.predict_batch(pixels[None].astype(np.float32))[0] for member in model.members
    )
    expected = (3 * first + second) / 4
    fractions = {
        "probabilities": expected,
        "confidence": expected.max(axis=-1, keepdims=True),
        "disagreement": 0.25 * (ids != 1)[..., None],
    }
    for kind, values in fractions.items():
        with rasterio.open(mapped / f"scene_{kind}.tif") as dataset:
            written = np.moveaxis(dataset.read(), 0, -1)
            assert (written[:9] == 255).all()
            received = written[9:] * dataset.scales
        np.testing.assert_allclose(received, values[9:], atol=0.5 / 254 + 1e-6)


def test_areas(mapped, image):
    counts = np.bincount(image[1][9:].ravel(), minlength=3)
    with (mapped / "scene_areas.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(CLASSES.names)
    assert [int(row["pixels"]) for row in rows] == counts.tolist()
    np.testing.assert_allclose(
        [float(row["share"]) for row in rows], counts / counts.sum(), atol=1e-6
    )
    np.testing.assert_allclose(
        [float(row["hectares"]) for row in rows], counts * 0.25e-4, atol=5.1e-5
    )


def test_zones(mapped, image):
    with (mapped / "scene_zones.csv").open() as file:
        rows = list(csv.DictReader(file))
    counted = {
        name: [int(row["pixels"]) for row in rows if row["name"] == name]
        for name in ("west", "spot", "elsewhere")
    }
    ids = image[1]
    assert counted["west"] == np.bincount(ids[9:, :40].ravel(), minlength=3).tolist()
    # From 10 m to 12 m to the right of the corner, from 17 m to 20 m below it
    assert counted["spot"] == np.bincount(ids[34:40, 20:24].ravel(), minlength=3).tolist()
    assert counted["elsewhere"] == [0, 0, 0]
    assert [row["zone"] for row in rows] == ["1"] * 3 + ["2"] * 3 + ["3"] * 3


def test_polygons(mapped, image):
    meta, _, shapes, (class_ids, names, hectares) = pyogrio.raw.read(mapped / "scene_polygons.gpkg")
    assert (mapped / "scene_polygons.qml").exists()
    assert meta["crs"] == "EPSG:32633"
    polygons = shapely.from_wkb(shapes)
    assert shapely.is_valid(polygons).all()
    np.testing.assert_allclose(shapely.area(polygons) / 1e4, hectares)
    assert [CLASSES.names[i] for i in class_ids] == names.tolist()
    counts = np.bincount(image[1][9:].ravel(), minlength=3)
    by_class = np.bincount(class_ids, weights=hectares, minlength=3)
    # The smallest patch has 20 x 11 pixels, more than what is sieved, but for those at the border.
    np.testing.assert_allclose(by_class, counts * 0.25e-4, rtol=0.02)


def test_small_regions_join_their_neighbors(tmp_path, model):
    pixels = np.full((60, 60, 3), [220, 20, 20], np.uint8)
    pixels[10:15, 10:15] = [20, 20, 220]
    pixels[30:50, 30:50] = [20, 20, 220]
    write_scene(tmp_path / "a.tif", pixels)
    with open_scene(tmp_path / "a.tif") as scene:
        for min_region, expected in ((25, [0, 2, 2]), (26, [0, 2])):
            outputs = Outputs(tmp_path, polygons="gpkg", min_region=min_region)
            write_map(scene, model, outputs)
            class_ids = pyogrio.raw.read(tmp_path / "a_polygons.gpkg")[3][0]
            assert sorted(class_ids.tolist()) == expected


def test_overlay_shows_image_and_map(mapped):
    with Image.open(mapped / "scene_overlay.png") as picture:
        pixels = np.array(picture.convert("RGB")).reshape(-1, 3)
    # Half of the image's red, and half of the map's green
    assert (np.abs(pixels.astype(int) - [110, 138, 10]) <= 2).all(axis=-1).sum() > 1000


def test_plain_pictures_become_plain_maps(tmp_path, model, image):
    Image.fromarray(image[0]).save(tmp_path / "photo.png")
    with open_scene(tmp_path / "photo.png") as scene:
        write_map(scene, model, Outputs(tmp_path, EXTRAS[:3], polygons="gpkg"))
    with Image.open(tmp_path / "photo_classes.png") as picture:
        np.testing.assert_array_equal(
            np.array(picture.convert("RGB")), CLASSES.colorize(image[1].astype(np.uint8))
        )
    assert read(tmp_path / "photo_probabilities.tif").shape == (3, 93, 131)
    assert read(tmp_path / "photo_confidence.png").max() > 100
    rows = (tmp_path / "photo_areas.csv").read_text().splitlines()
    assert rows[1].endswith(",")  # no hectares
    assert all(np.isnan(pyogrio.raw.read(tmp_path / "photo_polygons.gpkg")[3][2]))


def test_nodata_value_of_the_scene_is_kept_unless_it_is_a_class(tmp_path, model, image):
    for value, expected in ((9, 9), (1, 255)):
        pixels = image[0].copy()
        pixels[:5] = value
        write_scene(tmp_path / "a.tif", pixels, nodata=value)
        with open_scene(tmp_path / "a.tif") as scene:
            write_map(scene, model, Outputs(tmp_path))
        with rasterio.open(tmp_path / "a_classes.tif") as dataset:
            assert dataset.nodata == expected
            assert (dataset.read(1)[:5] == expected).all()


def test_members_see_tiles_as_they_were_trained(image):
    # Trained on images of 96 pixels, shrunk to 48
    seen = []

    def predict(images):
        seen.append(images.shape)
        return by_color(8)(images)

    wide = member(predict, framing="whole", image_size=48, tile=96)
    narrow = member(by_color(8))
    model = scene_model(wide, narrow)
    assert model.tile == 96
    tiles = np.zeros((2, 96, 96, 3), np.float32) + [200, 20, 20]
    result = model.predict(tiles)
    assert seen == [(2, 48, 48, 3)]
    assert result.shape == (2, 96, 96, 6)
    np.testing.assert_allclose(result[..., :3], result[..., 3:], atol=1e-6)
    other = wide.with_tile(60)
    assert (other.tile, other.image_size) == (60, 32)  # 30 is not divisible by 16


def test_one_bad_file_does_not_keep_the_others_from_being_mapped(tmp_path, model, image, capsys):
    write_scene(tmp_path / "good.tif", image[0])
    (tmp_path / "bad.tif").write_text("no image")
    big = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    write_scene(tmp_path / "half.tif", big)
    with (tmp_path / "half.tif").open("r+b") as file:
        file.truncate(100_000)
    out = tmp_path / "out"
    paths = [tmp_path / name for name in ("bad.tif", "half.tif", "good.tif")]
    assert map_images(paths, model, Outputs(out)) == paths[:2]
    errors = capsys.readouterr().err
    assert all(f"error: {path} cannot be read as an image" in errors for path in paths[:2])
    assert "all images: 100%" in errors
    assert sorted(file.name for file in out.iterdir()) == [
        *("good_areas.csv", "good_classes.qml", "good_classes.tif", "good_classes.tif.aux.xml"),
    ]
    with pytest.raises(InputError, match="bad.tif cannot be read"):  # nothing else is to be done
        map_images(paths[:1], model, Outputs(out))


def test_invalid_arguments_raise_before_the_first_image(tmp_path, model, capsys):
    images = [tmp_path / "a.tif", tmp_path / "b.tif"]
    with pytest.raises(InputError, match=r"`overlap` must be in \[0, 16\].*overlap=17"):
        map_images(images, model, Outputs(tmp_path / "out"), overlap=17)
    alone = scene_model(member(always(1)))
    with pytest.raises(InputError, match="'disagreement' only for two networks.*Received: any"):
        map_images(images, alone, Outputs(tmp_path / "out", ["disagreement"]))
    assert not (tmp_path / "out").exists()
    assert capsys.readouterr().err == ""


def test_geojson_is_in_degrees(tmp_path, model, image):
    # The scene around 15 degrees east, where the UTM zone has its middle
    write_scene(tmp_path / "a.tif", image[0], transform=from_origin(499980, 5200000, 0.5, 0.5))
    with open_scene(tmp_path / "a.tif") as scene:
        write_map(scene, model, Outputs(tmp_path, polygons="geojson"))
    content = json.loads((tmp_path / "a_polygons.geojson").read_text())
    points = np.concatenate(
        [f["geometry"]["coordinates"][0] for f in content["features"]], dtype=float
    )
    assert points[:, 0].min() < 15 < points[:, 0].max()
    np.testing.assert_allclose(points, np.broadcast_to([15, 46.9], points.shape), atol=0.1)
    total = sum(f["properties"]["hectares"] for f in content["features"])
    assert total == pytest.approx(93 * 131 * 0.25e-4)
    Image.fromarray(image[0]).save(tmp_path / "photo.png")  # which has pixels alone
    with open_scene(tmp_path / "photo.png") as scene:
        write_map(scene, model, Outputs(tmp_path, polygons="geojson"))
    content = json.loads((tmp_path / "photo_polygons.geojson").read_text())
    points = np.concatenate([f["geometry"]["coordinates"][0] for f in content["features"]])
    assert points.max(axis=0).tolist() == [131, 93]


def test_polygons_that_cannot_be_written_leave_nothing(tmp_path, model, image, monkeypatch):
    write_scene(tmp_path / "a.tif", image[0])
    full = pyogrio.errors.FeatureError("database or disk is full")
    monkeypatch.setattr("pyogrio.raw.write", Mock(side_effect=full))
    outputs = Outputs(tmp_path / "out", polygons="gpkg")
    with pytest.raises(OSError, match="a_polygons.gpkg cannot be written.*disk is full.*Make room"):
        map_images([tmp_path / "a.tif"], model, outputs)
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"a_classes.qml", "a_classes.tif", "a_classes.tif.aux.xml"}


def test_areas_of_an_earlier_map_do_not_stand_for_an_interrupted_one(
    tmp_path, model, image, monkeypatch
):
    write_scene(tmp_path / "a.tif", image[0])
    outputs = Outputs(tmp_path, polygons="gpkg")
    with open_scene(tmp_path / "a.tif") as scene:
        write_map(scene, model, outputs)
        assert images_to_map([scene.path], outputs, resume=True, overwrite=False) == []
        monkeypatch.setattr(
            "lcc_tf.mapping.map_images.write_polygons", Mock(side_effect=KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            write_map(scene, model, outputs)
    assert images_to_map([scene.path], outputs, resume=True, overwrite=False) == [scene.path]


def test_stretch_is_stated(tmp_path, model, image, capsys):
    write_scene(tmp_path / "a.tif", image[0].astype(np.uint16) * 10)
    map_images(
        [tmp_path / "a.tif"],
        model,
        Outputs(tmp_path / "out"),
        reading=SceneReading(scale=(0, 2550)),
    )
    assert "red, green and blue are scaled from [0, 2550], [0, 2550]" in capsys.readouterr().out
    with rasterio.open(tmp_path / "out" / "a_classes.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), image[1])


def test_zones_need_a_coordinate_system(tmp_path, model, image):
    polygon = {"type": "Polygon", "coordinates": [[[15, 46], [16, 46], [16, 47], [15, 46]]]}
    feature = {"type": "Feature", "properties": {}, "geometry": polygon}
    (tmp_path / "zones.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [feature]})
    )
    zones = Zones(tmp_path / "zones.geojson")
    Image.fromarray(image[0]).save(tmp_path / "photo.png")
    with (
        pytest.raises(InputError, match="photo.png has no coordinate system.*`zones`"),
        open_scene(tmp_path / "photo.png") as scene,
    ):
        write_map(scene, model, Outputs(tmp_path / "out", zones=zones))
    assert not (tmp_path / "out").exists()
    (tmp_path / "text.gpkg").write_text("none")
    with pytest.raises(InputError, match="text.gpkg cannot be read as polygons"):
        Zones(tmp_path / "text.gpkg")
    point = feature | {"geometry": {"type": "Point", "coordinates": [15, 46]}}
    (tmp_path / "points.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [point]})
    )
    with pytest.raises(InputError, match="must contain only polygons.*1 geometries.*POINT"):
        Zones(tmp_path / "points.geojson")


def test_zones_in_degrees(tmp_path, model, image):
    # The scene around 15 degrees east, where the UTM zone has its middle
    write_scene(tmp_path / "a.tif", image[0], transform=from_origin(499980, 5200000, 0.5, 0.5))
    polygon = {
        "type": "Polygon",
        "coordinates": [[[15, 46], [16, 46], [16, 47], [15, 47], [15, 46]]],
    }
    feature = {"type": "Feature", "properties": {"id": 7}, "geometry": polygon}
    # Half a world away, where the scene's projection does not reach
    away = {"type": "Polygon", "coordinates": [[[105, 0], [106, 0], [106, 1], [105, 0]]]}
    far = {"type": "Feature", "properties": {"id": 8}, "geometry": away}
    (tmp_path / "zones.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [feature, far]})
    )
    with open_scene(tmp_path / "a.tif") as scene:
        write_map(scene, model, Outputs(tmp_path, zones=Zones(tmp_path / "zones.geojson")))
    with (tmp_path / "a_zones.csv").open() as file:
        pixels = [int(row["pixels"]) for row in csv.DictReader(file)]
    assert pixels == [*np.bincount(image[1][:, 40:].ravel(), minlength=3), 0, 0, 0]


def test_overlap_is_a_quarter_of_a_tile(tmp_path, image):
    seen = []

    def predict(images):
        seen.append(len(images))
        return by_color(8)(images)

    write_scene(tmp_path / "a.tif", image[0])
    with open_scene(tmp_path / "a.tif") as scene:
        write_map(scene, scene_model(member(predict)), Outputs(tmp_path))
        tiles = sum(seen)
        seen.clear()
        write_map(
            scene, scene_model(member(predict)), Outputs(tmp_path), overlap=round(32 * OVERLAP)
        )
        assert sum(seen) == tiles
        seen.clear()
        write_map(scene, scene_model(member(predict)), Outputs(tmp_path), overlap=0)
        assert sum(seen) < tiles


def test_overlay_of_a_scene_whose_overviews_have_other_gaps(tmp_path, model, image, monkeypatch):
    monkeypatch.setattr("lcc_tf.mapping.map_images.OVERLAY_SIDE", 20)
    pixels = image[0].copy()
    pixels[:, :60] = 0
    write_scene(tmp_path / "a.tif", pixels, nodata=0)
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        dataset.build_overviews([6], Resampling.cubic_spline)
    with open_scene(tmp_path / "a.tif") as scene:
        write_map(scene, model, Outputs(tmp_path, ["overlay"]))
        _, valid = scene.thumbnail(20)
    _, mapped = read_map(tmp_path / "a_classes.tif", valid.shape)
    assert (valid & ~mapped).any()
    assert (tmp_path / "a_overlay.png").exists()
