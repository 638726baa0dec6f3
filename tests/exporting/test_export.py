"""Tests of `export`, which exports Keras models without a run folder."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.exporting.agreement import AgreementError
from lcc_tf.exporting.export import export
from lcc_tf.exporting.formats import FORMATS
from lcc_tf.models import build_model
from lcc_tf.prediction.predictors import probability_function
from tests.untrained_runs import with_several_classes
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, ClassTable


@pytest.fixture(scope="module")
def model():
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.layers.Conv2D(7, 3, padding="same")(image))


def test_savedmodel_of_a_logits_model_returns_its_probabilities(model, tmp_path):
    images = [np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)]
    arguments = {"format": "savedmodel", "classes": DEEPGLOBE_CLASSES, "tile": 64}
    (file,) = export(model, str(tmp_path), images=images, **arguments)
    assert file.agreement.fraction == 1
    assert file.agreement.num_pixels == 4 * 64**2 + 51 * 85
    loaded = tf.saved_model.load(tmp_path / "savedmodel")
    image = np.random.default_rng(1).integers(0, 256, (1, 64, 96, 3), np.uint8)
    received = loaded.signatures["serving_default"](image=tf.constant(image))["probabilities"]
    np.testing.assert_allclose(received, probability_function(model)(image), atol=1e-5)
    with pytest.raises(InputError, match="savedmodel already exists"):
        export(model, tmp_path, **arguments)
    before = (tmp_path / "savedmodel" / "saved_model.pb").stat().st_ino
    export(model, tmp_path, overwrite=True, **arguments)
    assert (tmp_path / "savedmodel" / "saved_model.pb").stat().st_ino != before
    assert [path.name for path in tmp_path.iterdir()] == ["savedmodel"]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"format": "coreml"}, "Unknown `format`.*'coreml'"),
        ({"classes": ClassTable(("a", "b"), ((0, 0, 0), (1, 1, 1)))}, "`classes`.*2 classes"),
        ({"classes": ["a", "b"]}, r"classes=\['a.*`lcc_tf.ClassTable\(names, palette\)`"),
        ({"classes": None}, r"classes=None.*`lcc_tf.ClassTable\(names, palette\)`"),
        ({"tile": 16}, "`tile` must be 32.*tile=16"),
        ({"resolution": -1}, "`resolution` must be larger than 0.*resolution=-1"),
        ({"images": []}, "`images` must contain at least one image"),
        ({"images": [np.zeros((64, 64, 3))]}, r"`images` must be uint8.*float64 \(64, 64, 3\)"),
        ({"images": np.zeros((64, 64, 3), np.uint8)}, r"`images` must be.*uint8 \(64, 3\)"),
    ],
)
def test_invalid_arguments_raise_and_write_nothing(model, tmp_path, changed, match):
    arguments = {"format": "savedmodel", "classes": DEEPGLOBE_CLASSES} | changed
    with pytest.raises(InputError, match=match):
        export(model, tmp_path / "exported", **arguments)
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("output", ["notes.txt", "notes.txt/below", "notes.txt/far/below"])
def test_output_that_is_or_is_below_a_file_raises(model, tmp_path, output):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="notes.txt is a file, not a folder.*folder as `output`"):
        export(model, tmp_path / output, format="savedmodel", classes=DEEPGLOBE_CLASSES)
    assert (tmp_path / "notes.txt").read_text() == "mine"


class Noise(keras.layers.Layer):
    def call(self, x):
        # Use the time as the seed. With a global seed, both models would draw the same numbers.
        seed = tf.cast([1e6 * tf.timestamp(), 0], tf.int64)
        return x + 1000 * tf.random.stateless_normal(tf.shape(x), seed)


def test_export_that_differs_from_the_model_is_not_written(model, tmp_path):
    """The outputs of this network are random. Therefore the export has other outputs."""
    random = keras.Model(model.inputs, Noise()(model.outputs[0]))
    with pytest.raises(AgreementError, match="saved_model.pb differs"):
        export(random, tmp_path / "out", format="savedmodel", classes=DEEPGLOBE_CLASSES, tile=64)
    assert not (tmp_path / "out").exists()


# Each case takes half a minute. Faster tests export the ensemble in conftest.py, which has the same
# layers.
@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("arch", ["unetpp", "deeplabv3plus"])
def test_exports_of_each_network_in_each_format_agree(arch, format, tiny_encoder, tmp_path):
    network = build_model(arch, 7, encoder=tiny_encoder, encoder_weights=None)
    with_several_classes(network)
    files = export(network, tmp_path, format=format, classes=DEEPGLOBE_CLASSES, tile=72)
    assert all(file.agreement.fraction > 0.999 for file in files if file.name != "int8.tflite")
