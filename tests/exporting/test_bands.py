"""Exports of a network whose images have four bands of different units."""

import json

import keras
import numpy as np
import pytest

from lcc_tf.bands import Bands
from lcc_tf.errors import InputError
from lcc_tf.exporting.export import export_source
from lcc_tf.exporting.scaled_input import with_scaled_input
from lcc_tf.exporting.source_model import SourceModel
from lcc_tf.models import ensemble
from lcc_tf.models.preprocessing import EncoderPreprocessing
from tfds_deepglobe.classes import ClassTable

# Reflectance, temperature in kelvin, backscatter in decibel
BANDS = Bands(("red", "nir", "thermal", "vv"), ((0, 1), (0, 1), (250, 330), (-25, 0)))
CLASSES = ClassTable(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))


def network(bands=BANDS, seed=0):
    keras.utils.set_random_seed(seed)
    image = keras.Input((None, None, len(bands)))
    x = EncoderPreprocessing("unit", size_divisor=8, bands=bands)(image)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    return keras.Model(image, keras.layers.Conv2D(3, 3, padding="same")(x))


def images(count=4, side=40):
    rng = np.random.default_rng(0)
    low, high = np.array(BANDS.ranges).T
    blocks = rng.uniform(low, high, (count, side // 8, side // 8, len(BANDS)))
    return blocks.repeat(8, axis=1).repeat(8, axis=2).astype(np.float32)


@pytest.fixture(scope="module")
def source():
    return SourceModel.from_model(network(), CLASSES, tile=40, images=images())


@pytest.mark.parametrize(
    ("name", "files"),
    [("savedmodel", 1), ("onnx", 2), ("litert", 3)],
)
def test_exports_equal_the_network(source, tmp_path, name, files):
    exported = export_source(source, tmp_path, name)  # compares both
    assert len(exported) == files
    if name == "litert":
        assert exported[2].agreement.fraction > 0.9  # int8
        content = json.loads((tmp_path / name / "model.json").read_text())
        assert Bands.from_json(content["bands"]) == BANDS
        assert content["files"]["float32.tflite"]["image"]["shape"] == [1, 40, 40, 4]


def test_scaled_input_gives_equal_outputs_for_members_with_other_ranges():
    other = Bands(BANDS.names, ((-1, 2), (0, 2), (200, 300), (-30, 10)))
    model = ensemble([network(), network(other, seed=1)])
    image = images(1)
    factor, offset = BANDS.affine
    scaled = with_scaled_input(model)((image * factor + offset).astype(np.float32))
    np.testing.assert_allclose(scaled, model(image), atol=1e-5)


def test_procedural_samples_are_in_the_ranges():
    crops = SourceModel.from_model(network(), CLASSES, tile=40).samples.crops("test", 64, 2)
    low, high = np.array(BANDS.ranges).T
    for crop in crops:
        assert crop.shape == (64, 64, 4)
        assert (crop >= low - 1e-3).all()
        assert (crop <= high + 1e-3).all()
        assert (crop.std(axis=(0, 1)) > 0.01 * (high - low)).all()


def test_samples_with_other_channels_raise():
    with pytest.raises(InputError, match=r"numbers of the shape \(height, width, 4\)"):
        SourceModel.from_model(network(), CLASSES, tile=40, images=images()[..., :3])
