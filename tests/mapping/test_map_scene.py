import keras
import numpy as np
import pytest
import rasterio

from lcc_tf.errors import InputError
from lcc_tf.mapping.map_scene import map_scene
from tests.mapping.scenes import CLASSES, write_scene
from tfds_deepglobe.classes import ClassTable


@pytest.fixture(scope="module")
def keras_model():
    """Logits model that predicts the class of the largest color: red 0, green 1, blue 2."""
    image = keras.Input((None, None, 3))
    logits = keras.layers.Dense(3, kernel_initializer="identity", use_bias=False)(image)
    return keras.Model(image, logits, name="strongest_color")


def test_scene_is_mapped_with_a_keras_model(tmp_path, keras_model, image):
    pixels = image[0].copy()
    pixels[:5] = 0
    write_scene(tmp_path / "a.tif", pixels, nodata=0)
    arguments = {"classes": CLASSES, "tile": 32, "bands": (2, 1, 3), "polygons": "gpkg"}
    files = map_scene(
        keras_model,
        str(tmp_path / "a.tif"),
        str(tmp_path / "maps"),
        extras=["overlay"],
        **arguments,
    )
    assert list(files) == ["classes", "overlay", "polygons", "areas"]
    assert all(file.exists() for file in files.values())
    with rasterio.open(files["classes"]) as dataset:
        class_ids = dataset.read(1)
    assert (class_ids[:5] == 255).all()
    np.testing.assert_array_equal(class_ids[5:], np.array([1, 0, 2])[image[1][5:]])
    with pytest.raises(InputError, match="a_classes.tif already exists.*`overwrite=True`"):
        map_scene(keras_model, tmp_path / "a.tif", tmp_path / "maps", **arguments)
    arguments["bands"] = (1, 2, 3)
    map_scene(keras_model, tmp_path / "a.tif", tmp_path / "maps", overwrite=True, **arguments)
    with rasterio.open(files["classes"]) as dataset:
        np.testing.assert_array_equal(dataset.read(1)[5:], image[1][5:])


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"scene": "gone.tif"}, "gone.tif cannot be read.*the file does not exist"),
        ({"classes": ClassTable(("a",), ((0, 0, 0),))}, "`classes` must have.*1 classes"),
        ({"classes": ["a", "b", "c"]}, r"classes=\['a.*`lcc_tf.ClassTable\(names, palette\)`"),
        ({"classes": None}, r"classes=None.*`lcc_tf.ClassTable\(names, palette\)`"),
        ({"tile": 0}, "`tile` must be 1 pixel or more"),
        ({"overlap": 300}, "`overlap` must be"),
        ({"tta": "d8"}, "`tta` must be one of.*Received: 'd8'"),
        ({"extras": ["disagreement"]}, "Received: strongest_color. Use more networks"),
        ({"bands": (1, 2)}, "`bands` must be.*bands=1,2"),
        ({"scale": "max"}, "`scale` must be.*scale=max"),
        ({"resample_to": -1}, "`resample_to` must be.*-1"),
        ({"zones": "gone.gpkg"}, "gone.gpkg cannot be read as polygons"),
        ({"scene": None}, "`scene` must be a text or a path. Received: None"),
        ({"tile": "64"}, "`tile` must be a whole number. Received: '64'"),
        ({"overlap": 8.5}, "`overlap` must be a whole number or None. Received: 8.5"),
        ({"tta": ["d4"]}, "`tta` must be a text"),
        ({"extras": "overlay"}, "`extras` must be a list of texts. Received: 'overlay'"),
        ({"min_region": 5.5}, "`min_region` must be a whole number"),
        ({"bands": (True, True, True)}, "`bands` must be a list of whole numbers or None"),
        ({"bands": {1: 1, 2: 2, 3: 3}}, "`bands` must be a list of whole numbers or None"),
        ({"scale": ("0", "1")}, "`scale` must be a text or a list of finite numbers or None"),
        ({"resample_to": True}, "`resample_to` must be a finite number or None"),
        ({"overwrite": "no"}, "`overwrite` must be True or False. Received: 'no'"),
    ],
)
def test_invalid_arguments_raise_and_write_no_files(tmp_path, keras_model, image, changed, match):
    scene = write_scene(tmp_path / "a.tif", image[0])
    arguments = {"scene": scene, "classes": CLASSES} | changed
    with pytest.raises(InputError, match=match):
        map_scene(keras_model, output=tmp_path / "maps", **arguments)
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize("verbose", [0, 1])
def test_progress_is_shown_only_if_verbose_is_1(tmp_path, keras_model, image, capsys, verbose):
    scene = write_scene(tmp_path / "a.tif", image[0].astype(np.uint16))
    map_scene(keras_model, scene, tmp_path / "maps", classes=CLASSES, tile=32, verbose=verbose)
    shown = capsys.readouterr()
    assert ("a.tif: red, green and blue are scaled" in shown.out) == bool(verbose)
    assert ("a.tif: 100%" in shown.err) == bool(verbose)
    assert verbose or shown == ("", "")


def test_arguments_of_numpy_and_other_paths_are_accepted(tmp_path, keras_model, image, recwarn):
    class OtherPath:
        def __fspath__(self):
            return str(tmp_path / "a.tif")

    write_scene(tmp_path / "a.tif", image[0])
    options = {"bands": range(1, 4), "scale": np.array([0, 255], np.float32), "verbose": 0}
    map_scene(
        keras_model,
        OtherPath(),
        tmp_path / "maps",
        classes=CLASSES,
        tile=np.int64(32),
        resample_to=np.float32(0.5),
        overwrite=np.True_,
        **options,
    )
    assert not [warning for warning in recwarn if "overflow" in str(warning.message)]
