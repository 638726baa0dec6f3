"""Batches of limited memory, and the retry after an out-of-memory error."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.exporting.description import Description
from lcc_tf.exporting.savedmodel import load_savedmodel
from lcc_tf.models import ensemble
from lcc_tf.prediction.batches import in_batches
from lcc_tf.prediction.predictors import Predictor, predict_tiled, probability_function
from lcc_tf.prediction.tiling import predict_array
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES

# Maximum number of tiles per batch on a CPU, for each tile size
TILES_PER_BATCH = {64: 64, 128: 16, 192: 7, 256: 4, 512: 1, 1024: 1}


def predict_red(images):
    """Returns the red channel."""
    return images[..., :1]


class LimitedMemory:
    """Function that predicts batches of at most `maximum` images and raises for larger batches."""

    def __init__(self, maximum):
        self.maximum = maximum
        self.sizes = []

    def __call__(self, images):
        self.sizes.append(len(images))
        if len(images) > self.maximum:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return predict_red(images)


def noise(*shape):
    """Returns random RGB values, float32."""
    return np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.float32)


@pytest.mark.parametrize("tile", TILES_PER_BATCH)
def test_batches_of_an_image_have_a_maximum_size(tile):
    predict = LimitedMemory(TILES_PER_BATCH[tile])
    predict_array(predict, np.zeros((800, 800, 3), np.uint8), tile=tile)
    assert TILES_PER_BATCH[tile] / 2 < max(predict.sizes) <= TILES_PER_BATCH[tile]


@pytest.mark.parametrize("tile", TILES_PER_BATCH)
def test_many_images_are_predicted_in_several_batches(tile):
    predict = LimitedMemory(TILES_PER_BATCH[tile])
    images = np.zeros((TILES_PER_BATCH[tile] + 1, tile, tile, 3), np.float32)
    assert in_batches(predict)(images).shape == (*images.shape[:3], 1)
    assert predict.sizes == [TILES_PER_BATCH[tile], 1]


def test_resized_tiles_have_batches_of_the_size_that_the_network_receives():
    predict = LimitedMemory(TILES_PER_BATCH[256])
    upsampling = Predictor("", predict, "whole", image_size=256, tile=64, size_divisor=1)
    assert upsampling.predict_tiles(np.zeros((9, 64, 64, 3), np.float32)).shape == (9, 64, 64, 1)
    assert predict.sizes == [4, 4, 1]


def test_gpu_has_larger_batches(monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    predict = LimitedMemory(8)
    in_batches(predict)(np.zeros((9, 512, 512, 3), np.float32))
    assert predict.sizes == [8, 1]


def test_out_of_memory_halves_this_batch_and_all_later_batches(capsys):
    predict = LimitedMemory(8)
    function = in_batches(predict)
    images = noise(16, 128, 128)
    np.testing.assert_array_equal(function(images), predict_red(images))
    assert predict.sizes == [16, 8, 8]
    (line,) = capsys.readouterr().err.splitlines()
    assert "not enough for 16 tiles of 128x128 pixels per batch" in line
    assert "All later batches have 8 tiles." in line
    np.testing.assert_array_equal(function(images), predict_red(images))
    assert predict.sizes == [16, 8, 8, 8, 8]
    # The limit is a number of pixels. It also applies to tiles of another size.
    function(noise(4, 256, 256))
    assert predict.sizes[5:] == [2, 2]
    assert not capsys.readouterr().err


def test_batches_are_halved_until_the_memory_is_enough(capsys):
    predict = LimitedMemory(1)
    images = noise(7, 64, 64)
    np.testing.assert_array_equal(in_batches(predict)(images), predict_red(images))
    assert predict.sizes == [7, 3, *[1] * 7]
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_map_is_equal_after_an_out_of_memory_error():
    image = noise(300, 500)
    expected = predict_array(predict_red, image, tile=64)
    received = predict_array(in_batches(LimitedMemory(5)), image, tile=64)
    np.testing.assert_array_equal(received, expected)


def test_too_little_memory_for_one_image_raises():
    with pytest.raises(InputError, match="not enough to predict.*32x64 pixels.*smaller tiles"):
        in_batches(LimitedMemory(0))(noise(2, 32, 64))


def test_other_errors_are_not_repeated():
    def predict(images):
        raise tf.errors.InternalError(None, None, "failure")

    with pytest.raises(tf.errors.InternalError, match="failure"):
        in_batches(predict)(noise(2, 8, 8))


class Traced(keras.layers.Layer):
    """Layer that stores the shape of its input each time it is traced."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def call(self, images):
        # lcc_tf first predicts one image of fixed shape, which shows the kind of the output.
        if images.shape[0] is None:
            self.shapes.append(tuple(images.shape))
        return images


def traced_network():
    """Returns a network whose output equals its input, and the list of its traced shapes."""
    image = keras.Input((None, None, 3))
    layer = Traced()
    network = keras.Model(image, layer(image))
    layer.shapes.clear()
    return network, layer.shapes


def test_network_is_traced_once_for_each_tile_size():
    network, shapes = traced_network()
    predict = probability_function(network)
    for size in (3, 1, 2):  # numbers of images
        for sides in ((4, 4), (8, 8), (4, 8)):
            images = noise(size, *sides) / 64
            np.testing.assert_allclose(predict(images), tf.nn.softmax(images), atol=1e-6)
    assert shapes == [(None, 4, 4, 3), (None, 8, 8, 3), (None, 4, 8, 3)]


@pytest.mark.parametrize("tta", ["none", "d4"])
def test_image_is_predicted_with_one_trace(tta, monkeypatch):
    monkeypatch.setattr("lcc_tf.prediction.tiling.BATCH_PIXELS", 4 * 16**2)
    network, shapes = traced_network()
    predict_tiled(network, noise(50, 70), tile=16, tta=tta)
    assert shapes == [(None, 16, 16, 3)]


def test_members_of_an_ensemble_are_traced_once():
    network, shapes = traced_network()
    predict_tiled(ensemble([network]), noise(50, 70), tile=16)
    assert shapes.count((None, 16, 16, 3)) == 1


def test_savedmodel_retries_with_half_of_the_batch(tmp_path, monkeypatch):
    (tmp_path / "assets.extra").mkdir()
    Description(DEEPGLOBE_CLASSES, tile=64, scale=1).write(tmp_path / "assets.extra")
    predict = LimitedMemory(2)

    class Loaded:
        signatures = {  # noqa: RUF012 (one test)
            "serving_default": lambda image: {
                "probabilities": tf.cast(predict(image), tf.float32) / 255
            }
        }

    monkeypatch.setattr(tf.saved_model, "load", lambda folder: Loaded)
    images = noise(65, 64, 64)
    received = load_savedmodel(tmp_path).predict(images)
    np.testing.assert_allclose(received, predict_red(images) / 255, atol=1e-6)
    assert predict.sizes[:6] == [64, 32, 16, 8, 4, 2]
    assert predict.sizes[6:] == [2] * 31 + [1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_predictions_that_are_not_finite_raise(value):
    def predict(images):
        predicted = np.full((*images.shape[:3], 2), 0.5, np.float32)
        predicted[-1, 3, 4] = value
        return predicted

    with pytest.raises(InputError, match="must be finite. Received: NaN or infinite"):
        in_batches(predict)(np.zeros((2, 8, 8, 3), np.float32))
