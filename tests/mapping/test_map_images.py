import csv
import dataclasses
import re
import zipfile
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.shutil
import shapely
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.enums import Resampling
from rasterio.rpc import RPC

from lcc_tf.errors import InputError
from lcc_tf.mapping.input_images import images_to_map
from lcc_tf.mapping.map_images import check_earlier_maps, is_mapped, map_images, write_map
from lcc_tf.mapping.map_raster import read_map
from lcc_tf.mapping.outputs import EXTRAS, Outputs
from lcc_tf.mapping.scene import open_scene
from lcc_tf.mapping.scene_reading import SceneReading
from lcc_tf.mapping.zones import Zones
from lcc_tf.prediction.predictors import Average, EnsemblePredictor, Predictor
from tests.mapping.scenes import CLASSES, HALF_METER, write_scene


def by_color(sharpness):
    """Returns a function that predicts the class of the largest color: red 0, green 1, blue 2."""

    def predict(images):
        values = np.exp(sharpness * images / 255)
        return (values / values.sum(axis=-1, keepdims=True)).astype(np.float32)

    return predict


def always(class_id):
    """Returns a function that predicts the same class for all pixels."""
    return lambda images: np.broadcast_to(
        np.eye(3, dtype=np.float32)[class_id], (*images.shape[:3], 3)
    )


def ensemble_of(*functions, weights=None):
    """Builds an ensemble whose networks predict tiles of 32 x 32 pixels with `functions`."""
    members = [Predictor("any", predict, "crops", 32, 32, size_divisor=1) for predict in functions]
    return EnsemblePredictor(CLASSES, members, Average.of(len(members), weights))


@pytest.fixture(scope="module")
def model():
    return ensemble_of(by_color(8), always(1), weights=[3, 1])


@pytest.fixture(scope="module")
def mapped(model, image, tmp_path_factory):
    """Folder with a scene, whose first rows are nodata, and with all kinds of output files."""
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


def test_map_has_the_size_georeference_and_nodata_of_the_scene(mapped, image):
    with rasterio.open(mapped / "scene_classes.tif") as dataset:
        assert (dataset.shape, dataset.transform) == ((93, 131), HALF_METER)
        assert (dataset.crs.to_epsg(), dataset.nodata) == (32633, 255)
        ids = dataset.read(1)
    assert (ids[:9] == 255).all()
    np.testing.assert_array_equal(ids[9:], image[1][9:])


@pytest.mark.parametrize("nodata", [0, np.nan])
def test_nodata_pixels_of_the_scene_are_nodata_in_every_raster(tmp_path, image, nodata):
    pixels = image[0].astype(np.float32)
    pixels[:, 30:] = nodata
    write_scene(tmp_path / "a.tif", pixels, nodata=nodata)
    num_tiles = []

    def predict(images):
        assert not np.isnan(images).any()
        num_tiles.append(images.any(axis=(1, 2, 3)).sum())
        return by_color(8)(images)

    with open_scene(tmp_path / "a.tif", SceneReading(scale=(0, 255))) as scene:
        write_map(scene, ensemble_of(predict, always(1)), Outputs(tmp_path, EXTRAS))
    # The scene has 4 rows and 6 columns of tiles. Only 2 columns have valid pixels.
    assert sum(num_tiles) == 4 * 2
    for kind in ("classes", "probabilities", "confidence", "disagreement"):
        written = read(tmp_path / f"a_{kind}.tif")
        assert (written[..., 30:] == 255).all()
        assert (written[..., :30] < 255).all()


def test_probabilities_confidence_and_disagreement_are_stored(mapped, image, model):
    pixels, ids = image
    first, second = (
        network.predict_batch(pixels[None].astype(np.float32))[0] for network in model.members
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


def test_areas_of_the_map_are_written(mapped, image):
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


def test_areas_of_zones_are_written(mapped, image):
    with (mapped / "scene_zones.csv").open() as file:
        rows = list(csv.DictReader(file))
    counted = {
        name: [int(row["pixels"]) for row in rows if row["name"] == name]
        for name in ("west", "spot", "elsewhere")
    }
    ids = image[1]
    assert counted["west"] == np.bincount(ids[9:, :40].ravel(), minlength=3).tolist()
    # This zone is 10 m to 12 m to the right of the upper left corner of the scene, and 17 m to 20 m
    # below the corner.
    assert counted["spot"] == np.bincount(ids[34:40, 20:24].ravel(), minlength=3).tolist()
    assert counted["elsewhere"] == [0, 0, 0]
    assert [row["zone"] for row in rows] == ["1"] * 3 + ["2"] * 3 + ["3"] * 3


def test_polygons_are_written(mapped, image):
    meta, _, shapes, (class_ids, names, hectares) = pyogrio.raw.read(mapped / "scene_polygons.gpkg")
    assert (mapped / "scene_polygons.qml").exists()
    assert meta["crs"] == "EPSG:32633"
    polygons = shapely.from_wkb(shapes)
    assert shapely.is_valid(polygons).all()
    np.testing.assert_allclose(shapely.area(polygons) / 1e4, hectares)
    assert [CLASSES.names[i] for i in class_ids] == names.tolist()
    counts = np.bincount(image[1][9:].ravel(), minlength=3)
    by_class = np.bincount(class_ids, weights=hectares, minlength=3)
    # Only some regions at the border have fewer than 100 pixels and are merged.
    np.testing.assert_allclose(by_class, counts * 0.25e-4, rtol=0.02)


def test_overlay_shows_image_and_map(mapped):
    with Image.open(mapped / "scene_overlay.png") as picture:
        pixels = np.array(picture.convert("RGB")).reshape(-1, 3)
    # This color is the mean of red in the image and green in the map.
    assert (np.abs(pixels.astype(int) - [110, 138, 10]) <= 2).all(axis=-1).sum() > 1000


def test_map_of_a_png_is_a_png(tmp_path, model, image):
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
    assert rows[1].endswith(",")  # the column of hectares is empty
    assert all(np.isnan(pyogrio.raw.read(tmp_path / "photo_polygons.gpkg")[3][2]))


def test_orientation_tag_is_reported_and_not_applied(tmp_path, model, image, capsys):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(image[0]).save(tmp_path / "photo.png", exif=exif)
    map_images([tmp_path / "photo.png"], model, Outputs(tmp_path))
    assert "photo.png (6). The tags are not applied" in capsys.readouterr().out
    assert read(tmp_path / "photo_classes.png").shape == (1, 93, 131)
    map_images([tmp_path / "photo.png"], model, Outputs(tmp_path), verbose=0)
    assert capsys.readouterr().out == ""


def test_map_has_the_nodata_value_of_the_scene_unless_it_is_a_class_id(tmp_path, model, image):
    for value, expected in ((9, 9), (1, 255)):
        pixels = image[0].copy()
        pixels[:5] = value
        write_scene(tmp_path / "a.tif", pixels, nodata=value)
        with open_scene(tmp_path / "a.tif") as scene:
            write_map(scene, model, Outputs(tmp_path))
        with rasterio.open(tmp_path / "a_classes.tif") as dataset:
            assert dataset.nodata == expected
            assert (dataset.read(1)[:5] == expected).all()


def test_other_images_are_mapped_if_some_images_cannot_be_read(tmp_path, model, image, capsys):
    write_scene(tmp_path / "good.tif", image[0])
    (tmp_path / "bad.tif").write_text("not an image")
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
    with pytest.raises(InputError, match="bad.tif cannot be read"):  # raises for a single image
        map_images(paths[:1], model, Outputs(out))


def test_invalid_arguments_raise_before_the_first_image(tmp_path, model, capsys):
    images = [tmp_path / "a.tif", tmp_path / "b.tif"]
    with pytest.raises(InputError, match=r"`overlap` must be in \[0, 16\].*overlap=17"):
        map_images(images, model, Outputs(tmp_path / "out"), overlap=17)
    single = ensemble_of(always(1))
    with pytest.raises(InputError, match="'disagreement' only for two networks.*Received: any"):
        map_images(images, single, Outputs(tmp_path / "out", ["disagreement"]))
    assert not (tmp_path / "out").exists()
    assert capsys.readouterr().err == ""


def test_failure_of_polygons_writes_no_polygons_and_areas(tmp_path, model, image, monkeypatch):
    write_scene(tmp_path / "a.tif", image[0])
    full = pyogrio.errors.FeatureError("database or disk is full")
    monkeypatch.setattr("pyogrio.raw.write", Mock(side_effect=full))
    outputs = Outputs(tmp_path / "out", polygons="gpkg")
    with pytest.raises(OSError, match="a_polygons.gpkg cannot be written.*disk is full"):
        map_images([tmp_path / "a.tif"], model, outputs)
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"a_classes.qml", "a_classes.tif", "a_classes.tif.aux.xml"}


def test_interrupted_map_is_mapped_again_on_resume(tmp_path, model, image, monkeypatch):
    write_scene(tmp_path / "a.tif", image[0])
    outputs = Outputs(tmp_path, polygons="gpkg")
    with open_scene(tmp_path / "a.tif") as scene:
        write_map(scene, model, outputs)
        assert images_to_map([scene.path], outputs, resume=True, overwrite=False) == []
        monkeypatch.setattr("pyogrio.raw.write", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_map(scene, model, outputs)
    assert images_to_map([scene.path], outputs, resume=True, overwrite=False) == [scene.path]


def test_range_of_scaled_values_is_printed(tmp_path, model, image, capsys):
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


@pytest.fixture
def folder(tmp_path, image):
    """Folder with the image a.tif."""
    write_scene(tmp_path / "a.tif", image[0])
    return tmp_path


def map_in(folder, model, *, name="a.tif", output="out", **options):
    """Maps an image in a folder and returns the names of the written files."""
    map_images([folder / name], model, Outputs(folder / output, **options))
    return sorted(file.name for file in (folder / output).iterdir())


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_files_of_the_earlier_map_are_deleted(folder, model, image, capsys, name):
    Image.fromarray(image[0]).save(folder / "a.png")
    plain = map_in(folder, model, name=name, output="plain")
    options = {"extras": EXTRAS, "polygons": "gpkg"}
    assert len(map_in(folder, model, name=name, **options)) > len(plain) + 4
    assert map_in(folder, model, name=name) == plain
    printed = capsys.readouterr().out
    assert f"{name}: deleted from the earlier map: " in printed
    assert "a_polygons.gpkg" in printed
    assert map_in(folder, model, name=name) == plain
    assert "deleted" not in capsys.readouterr().out


@pytest.mark.parametrize("own", ["a_zones.csv", "a_overlay.png", "a_polygons.geojson"])
def test_files_that_are_not_listed_by_the_earlier_map_are_never_deleted(folder, model, own):
    map_in(folder, model, extras=["confidence"])
    (folder / "out" / own).write_text("mine")
    with pytest.raises(InputError, match=f"{own} would remain beside the new map of .*a.tif"):
        map_in(folder, model)
    assert (folder / "out" / own).read_text() == "mine"
    assert (folder / "out" / "a_confidence.tif").exists()


def test_earlier_maps_of_other_networks_and_settings_raise(folder, model, capsys):
    other = dataclasses.replace(model, average=Average.of(2, [1, 3]))
    outputs = Outputs(folder / "out", polygons="gpkg")
    image = [folder / "a.tif"]
    map_images(image, model, outputs)
    check_earlier_maps(image, model, outputs)
    assert "unknown" not in capsys.readouterr().out
    for changed in (
        {"predictor": other},
        {"outputs": dataclasses.replace(outputs, min_region=5)},
        {"reading": SceneReading(bands=(3, 2, 1))},
        {"reading": SceneReading(scale="minmax")},
        {"overlap": 3},
    ):
        arguments = {"predictor": model, "outputs": outputs} | changed
        with pytest.raises(
            InputError, match="`resume` needs earlier maps.*a_classes.tif.*`overwrite=True`"
        ):
            check_earlier_maps(image, **arguments)
    sidecar = folder / "a.tif.aux.xml"  # this file can change the order of the bands
    sidecar.write_text("<PAMDataset></PAMDataset>")
    with pytest.raises(InputError, match="another version of .*a.tif"):
        check_earlier_maps(image, model, outputs)
    sidecar.unlink()
    check_earlier_maps(image, model, outputs)
    with (folder / "a.tif").open("ab") as file:  # another version of the image
        file.write(b"0")
    with pytest.raises(InputError, match="another version of .*a.tif"):
        check_earlier_maps(image, model, outputs)


def test_images_of_a_vrt_file_belong_to_the_scene(folder, model):
    scene, outputs = folder / "scene.vrt", Outputs(folder / "out")
    rasterio.shutil.copy(folder / "a.tif", scene, driver="VRT")
    map_images([scene], model, outputs)
    assert is_mapped(scene, model, outputs)
    rasterio.shutil.copy(folder / "a.tif", folder / "scene.vrt.ovr", driver="GTiff")
    with rasterio.open(scene) as dataset:
        assert str(folder / "scene.vrt.ovr") in dataset.files
    assert is_mapped(scene, model, outputs)
    with (folder / "a.tif").open("ab") as file:  # another version of the image
        file.write(b"0")
    assert not is_mapped(scene, model, outputs)


def test_earlier_maps_without_a_fingerprint_are_kept_and_reported(folder, model, capsys):
    outputs = Outputs(folder)
    with open_scene(folder / "a.tif") as scene:
        write_map(scene, model, outputs)
    check_earlier_maps([folder / "a.tif"], model, outputs)
    assert re.search("1 maps are kept.*a_classes.tif.*unknown", capsys.readouterr().out)


def test_unexpected_error_of_one_image_does_not_end_the_batch(folder, model, image, capsys):
    write_scene(folder / "b.tif", 255 - image[0])

    def predict(images):
        if images[0, 0, 0, 0] == image[0][0, 0, 0]:
            raise TypeError("a defect")
        return model.members[0].predict_batch(images)

    paths = [folder / "a.tif", folder / "b.tif"]
    outputs = Outputs(folder / "out")
    assert map_images(paths, ensemble_of(predict), outputs) == paths[:1]
    assert re.search("TypeError: a defect\nerror: .*a.tif could not be", capsys.readouterr().err)
    assert (folder / "out" / "b_areas.csv").exists()
    assert not (folder / "out" / "a_classes.tif").exists()
    with pytest.raises(TypeError, match="a defect"):
        map_images(paths[:1], ensemble_of(predict), outputs)


GCPS = [
    GroundControlPoint(row, column, 10 + column / 1e4 + row / 1e5, 50 - row / 1e4 + column / 1e6)
    for row in (0, 93)
    for column in (0, 131)
]
RPCS = RPC(
    **dict.fromkeys(("err_bias", "err_rand"), 0.0),
    **dict.fromkeys(("height_off", "height_scale", "line_off", "line_scale"), 100.0),
    **dict.fromkeys(("samp_off", "samp_scale", "lat_off", "lat_scale"), 50.0),
    **dict.fromkeys(("long_off", "long_scale"), 10.0),
    **dict.fromkeys(("line_den_coeff", "samp_den_coeff"), [1.0, *[0.0] * 19]),
    **dict.fromkeys(("line_num_coeff", "samp_num_coeff"), [0.0, 1.0, *[0.0] * 18]),
)


@pytest.mark.parametrize(
    ("georeference", "note"),
    [
        ({"gcps": GCPS, "crs": "EPSG:4326"}, "4 ground control points.*`gdalwarp`"),
        ({"rpcs": RPCS, "crs": None}, "rational polynomial coefficients.*`gdalwarp -rpc`"),
    ],
)
def test_maps_have_the_control_points_of_the_scene(
    tmp_path, model, image, capsys, georeference, note
):
    write_scene(tmp_path / "a.tif", image[0], transform=None, **georeference)
    map_images([tmp_path / "a.tif"], model, Outputs(tmp_path / "out", ["confidence"]))
    assert re.search(f"a.tif: the image has {note}", capsys.readouterr().out)
    for kind in ("classes", "confidence"):
        with (
            rasterio.open(tmp_path / "a.tif") as scene,
            rasterio.open(tmp_path / "out" / f"a_{kind}.tif") as raster,
        ):
            points = [(point.row, point.col, point.x, point.y) for point in raster.gcps[0]]
            assert points == [(point.row, point.col, point.x, point.y) for point in scene.gcps[0]]
            assert (raster.crs, raster.gcps[1]) == (None, scene.gcps[1])
            assert raster.tags(ns="RPC") == scene.tags(ns="RPC")
            assert raster.gcps[0] or raster.tags(ns="RPC")


def test_scene_with_control_points_without_a_coordinate_system_is_mapped(tmp_path, model, image):
    write_scene(tmp_path / "a.tif", image[0], crs=None, transform=None)
    points = "".join(
        f'<GCP Id="{i}" Pixel="{x}" Line="{y}" X="{x + 5}" Y="{y + 7}"/>'
        for i, (x, y) in enumerate([(0, 0), (20, 0), (0, 20), (20, 20)])
    )
    height, width = image[0].shape[:2]
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename '
        f'relativeToVRT="1">a.tif</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource>'
        "</VRTRasterBand>"
        for band in (1, 2, 3)
    )
    (tmp_path / "b.vrt").write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><GCPList>{points}</GCPList>'
        f"{bands}</VRTDataset>"
    )
    assert map_images([tmp_path / "b.vrt"], model, Outputs(tmp_path / "out")) == []
    assert read(tmp_path / "out" / "b_classes.tif").shape[-2:] == image[0].shape[:2]


def test_scene_inside_a_zip_is_mapped(tmp_path, model, image, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scene(tmp_path / "a.tif", image[0])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.tif", "a.tif")
    inside = Path("/vsizip/a.zip/a.tif")
    assert map_images([inside], model, Outputs(tmp_path / "out")) == []


@pytest.mark.parametrize("crs", [None, 'LOCAL_CS["site",UNIT["metre",1]]'])
def test_geojson_of_a_scene_without_a_position_raises(tmp_path, model, image, crs):
    write_scene(tmp_path / "a.tif", image[0], crs=crs)
    outputs = Outputs(tmp_path / "out", polygons="geojson")
    with pytest.raises(InputError, match="`polygons='geojson'` needs.*a.tif, which has no coord"):
        map_images([tmp_path / "a.tif"], model, outputs)
    assert list((tmp_path / "out").iterdir()) == []
    map_images([tmp_path / "a.tif"], model, Outputs(tmp_path / "out", polygons="gpkg"))
    assert (tmp_path / "out" / "a_polygons.gpkg").exists()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_map_of_a_scene_of_nodata_pixels_is_empty(tmp_path, model, capsys, dtype):
    write_scene(tmp_path / "a.tif", np.zeros((20, 30, 3), dtype), nodata=0)
    map_images([tmp_path / "a.tif"], model, Outputs(tmp_path / "out"))
    assert (read(tmp_path / "out" / "a_classes.tif") == 255).all()
    assert (
        "warning: " + str(tmp_path / "a.tif") + ": all pixels are nodata" in capsys.readouterr().out
    )


@pytest.mark.parametrize(("overlap", "num_tiles"), [(None, 4 * 6), (8, 4 * 6), (0, 3 * 5)])
def test_overlap_changes_the_number_of_tiles(tmp_path, image, overlap, num_tiles):
    write_scene(tmp_path / "a.tif", image[0])
    batches = []

    def predict(images):
        batches.append(len(images))
        return by_color(8)(images)

    with open_scene(tmp_path / "a.tif") as scene:
        write_map(scene, ensemble_of(predict), Outputs(tmp_path), overlap=overlap)
    assert sum(batches) == num_tiles


def test_overlay_is_written_if_overviews_of_scene_and_map_have_different_nodata(
    tmp_path, model, image, monkeypatch
):
    # A small side is used because overviews would otherwise be read only from scenes of megapixels.
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


def test_resume_with_other_outputs_needs_the_same_network(folder, model):
    images, options = [folder / "a.tif"], {"extras": ["overlay"], "polygons": "gpkg"}
    map_in(folder, model)
    more = Outputs(folder / "out", **options)
    check_earlier_maps(images, model, more)
    other = dataclasses.replace(model, average=Average.of(2, [1, 3]))
    with pytest.raises(InputError, match="needs earlier maps of the same network.*a_classes.tif"):
        check_earlier_maps(images, other, more)
    assert not is_mapped(images[0], model, more)
    map_in(folder, model, **options)
    assert is_mapped(images[0], model, more)
    assert not is_mapped(images[0], other, more)
    (folder / "out" / "a_overlay.png").unlink()
    assert not is_mapped(images[0], model, more)
    # An interrupted map has rasters, which have the fingerprint, but no class map.
    confidence = Outputs(folder / "out", extras=["confidence"])
    map_in(folder, model, extras=["confidence"])
    for name in ("a_classes.tif", "a_areas.csv"):
        (folder / "out" / name).unlink()
    check_earlier_maps(images, model, confidence)


@pytest.mark.parametrize("mapped_before", [True, False])
def test_resume_does_not_replace_files_of_the_user(folder, model, mapped_before):
    if mapped_before:
        map_in(folder, model)
    (folder / "out").mkdir(exist_ok=True)
    (folder / "out" / "a_overlay.png").write_text("mine")
    outputs = Outputs(folder / "out", extras=["overlay"])
    with pytest.raises(InputError, match="`resume` would replace .*a_overlay.png.*`overwrite=True"):
        check_earlier_maps([folder / "a.tif"], model, outputs)


def test_resume_with_a_damaged_map_raises(folder, model):
    map_in(folder, model)
    file = folder / "out" / "a_classes.tif"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="keep .*a_classes.tif, which cannot be read.*damaged"):
        check_earlier_maps([folder / "a.tif"], model, Outputs(folder / "out"))
