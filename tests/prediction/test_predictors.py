import dataclasses
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.exporting.savedmodel import export_savedmodel, load_savedmodel
from lcc_tf.exporting.source_model import SourceModel
from lcc_tf.models import ensemble
from lcc_tf.models.preprocessing import EncoderPreprocessing
from lcc_tf.prediction.predictors import (
    Average,
    EnsemblePredictor,
    Predictor,
    predict_tiled,
    probability_function,
)
from tests.untrained_runs import write_untrained_run
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES


@pytest.fixture(scope="module")
def two_runs(small_networks, tiny_config, builder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [
        write_untrained_run(folder / str(seed), tiny_config, builder, seed=seed)
        for seed in range(2)
    ]


@pytest.fixture(scope="module")
def half_scale_run(two_runs):
    """Run for whole images of 128 x 128 pixels, resized to 64 x 64 pixels."""
    config = dataclasses.replace(two_runs[0].config, framing="whole")
    return dataclasses.replace(two_runs[0], config=config, native_size=128.0)


@pytest.fixture(scope="module")
def exported(two_runs, half_scale_run, tmp_path_factory):
    """Folder with two SavedModels: the ensemble of `two_runs`, and `half_scale_run`."""
    folder = tmp_path_factory.mktemp("exported")
    export_savedmodel(SourceModel.from_runs(two_runs, [3, 1]), folder / "ensemble")
    export_savedmodel(SourceModel.from_runs([half_scale_run]), folder / "half_scale")
    return folder


def noise_tiles(side):
    """Returns two tiles `(2, side, side, 3)` with random values."""
    return np.random.default_rng(0).integers(0, 256, (2, side, side, 3)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_two_devices_predict_the_same_as_one_device(count, two_runs, two_replicas, monkeypatch):
    tiles = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3)).astype(np.float32)
    expected = Predictor.from_run(two_runs[0]).predict_tiles(tiles)
    monkeypatch.setattr("lcc_tf.prediction.predictors.local_strategy", lambda: two_replicas)
    predicted = Predictor.from_run(two_runs[0]).predict_tiles(tiles)
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


def test_savedmodel_and_its_runs_predict_equal_probabilities(exported, two_runs):
    from_runs = EnsemblePredictor.from_runs(two_runs, [3, 1], tta="flip", tile=96)
    from_file = load_savedmodel(exported / "ensemble", tta="flip", tile=96)
    assert from_file.classes == from_runs.classes
    assert from_file.tile == from_runs.tile == 96
    tiles = noise_tiles(96)
    (received,) = from_file.split(from_file.predict(tiles))
    members = from_runs.split(from_runs.predict(tiles))
    np.testing.assert_allclose(received, from_runs.average(members), atol=1e-4)
    assert np.abs(members[0] - members[1]).max() > 0.1


@pytest.mark.parametrize("tile", [None, 192])
def test_savedmodel_and_run_for_resized_images_predict_equal_probabilities(
    exported, half_scale_run, tile
):
    from_run = EnsemblePredictor.from_runs([half_scale_run], tile=tile)
    from_file = load_savedmodel(exported / "half_scale", tile=tile)
    assert from_file.tile == from_run.tile == (tile or 128)
    # The SavedModel rounds the values of resized images to integers. Here they are integers,
    # because pairs of pixels have equal values.
    tiles = noise_tiles(from_run.tile // 2).repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(from_file.predict(tiles), from_run.predict(tiles), atol=1e-3)


def test_default_tile_of_a_savedmodel_is_the_size_of_the_training_images(exported):
    assert load_savedmodel(exported / "ensemble").tile == 64
    assert load_savedmodel(exported / "half_scale").tile == 128


def test_folder_without_an_exported_savedmodel_raises(tmp_path):
    with pytest.raises(InputError, match="not a SavedModel that lcc_tf exported.*model.json"):
        load_savedmodel(tmp_path)


def predictor(network, framing):
    return Predictor("network", probability_function(network), framing, 32, 32, size_divisor=1)


@pytest.fixture(scope="module")
def network():
    """Network with two logits: the mean of the 3 x 3 pixels around each pixel, and zero."""
    inputs = keras.Input((None, None, 3))
    kernel = np.full((3, 3, 3, 1), 1 / 900, np.float32)
    x = keras.layers.Conv2D(1, 3, padding="same", use_bias=False)
    outputs = keras.layers.Concatenate()([x(inputs), 0 * x(inputs)])
    model = keras.Model(inputs, outputs)
    x.set_weights([kernel])
    return model


def test_whole_image_is_resized_to_the_image_size_of_the_network(network):
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    result = predictor(network, "whole").predict_image(image)
    resized = tf.image.resize(image, (32, 32))[None]
    np.testing.assert_allclose(result, tf.nn.softmax(network(resized))[0], atol=1e-6)


def test_each_member_predicts_tiles_at_its_training_resolution(network):
    batches = []

    def predict(images):
        batches.append(images.shape)
        return probability_function(network)(images)

    half = Predictor("half", predict, "whole", image_size=48, tile=96, size_divisor=16)
    both = EnsemblePredictor(DEEPGLOBE_CLASSES, [half, predictor(network, "crops")], Average.of(2))
    assert both.tile == 96
    result = both.predict(np.full((2, 96, 96, 3), [200, 20, 20], np.float32))
    assert batches == [(2, 48, 48, 3)]
    assert result.shape == (2, 96, 96, 4)
    inside = result[:, 20:-20, 20:-20]  # without edge pixels, which depend on zero padding
    np.testing.assert_allclose(inside[..., :2], inside[..., 2:], atol=0.01)
    smaller = half.with_tile(60)
    # Half of 60 is 30, which is not divisible by 16.
    assert (smaller.tile, smaller.image_size) == (60, 32)


def test_network_for_crops_predicts_images_at_full_resolution(network):
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    result = predictor(network, "crops").predict_image(image)
    padded = np.pad(image, [(1, 1), (1, 1), (0, 0)], mode="reflect").astype(np.float32)
    expected = tf.nn.softmax(network(padded[None]))[0, 1:-1, 1:-1]
    # The network pads tiles with zeros. Therefore pixels at the edges of tiles differ, but they
    # have small weights.
    np.testing.assert_allclose(result, expected, atol=0.02)
    np.testing.assert_allclose(result[10:20, 5:18], expected[10:20, 5:18], atol=1e-6)


@pytest.mark.parametrize("tile", [32, 100])
def test_predict_tiled_returns_probabilities_of_a_logits_model(network, tile):
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    result = predict_tiled(network, image, tile=tile, tta="flip")
    padded = np.pad(image, [(1, 1), (1, 1), (0, 0)], mode="reflect").astype(np.float32)
    expected = tf.nn.softmax(network(padded[None]))[0, 1:-1, 1:-1]
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=0.02)
    np.testing.assert_allclose(result.sum(axis=-1), 1, atol=1e-6)


def test_predict_tiled_applies_no_second_softmax_to_probabilities(network):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    expected = predict_tiled(network, image, tile=32)
    with_softmax = keras.Sequential([network, keras.layers.Softmax()])
    for model in (with_softmax, ensemble([network]), ensemble([ensemble([network]), network])):
        np.testing.assert_allclose(predict_tiled(model, image, tile=32), expected, atol=1e-6)


def test_predict_tiled_rounds_the_tile_to_a_multiple_of_the_stride():
    inputs = keras.Input((None, None, 3))
    outputs = keras.layers.Conv2D(2, 9, padding="same")(EncoderPreprocessing("tf", 32)(inputs))
    model = keras.Model(inputs, outputs)
    image = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    result = predict_tiled(model, image, tile=70)
    np.testing.assert_array_equal(result, predict_tiled(model, image, tile=64))
    assert (result != predict_tiled(model, image, tile=96)).any()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((20, 20)), r"`image` must be RGB.*image.shape=\(20, 20\)"),
        (np.zeros((2, 20, 20, 3)), r"image.shape=\(2, 20, 20, 3\)"),
        (np.zeros((20, 20, 4)), r"image.shape=\(20, 20, 4\)"),
        (np.full((20, 20, 3), 256.0), r"RGB in \[0, 255\].*values in \[256.0, 256.0\]"),
        (np.full((20, 20, 3), -1), r"values in \[-1, -1\]"),
        (np.ones((20, 20, 3), bool), "integers or floats. Received: bool"),
        (np.full((20, 20, 3), np.nan), r"values in \[nan, nan\]"),
    ],
)
def test_image_that_is_not_rgb_raises(network, image, message):
    with pytest.raises(InputError, match=message):
        predict_tiled(network, image)


def test_image_with_values_between_0_and_1_warns(network):
    with pytest.warns(UserWarning, match="largest value is 0.5.*by 255"):
        predict_tiled(network, np.full((20, 20, 3), 0.5), tile=32)


class Subclassed(keras.Model):
    def call(self, images):
        return images


def test_model_without_known_outputs_raises():
    with pytest.raises(InputError, match="functional or sequential.*Received: Subclassed"):
        predict_tiled(Subclassed(), np.zeros((20, 20, 3)), tile=32)
    with pytest.raises(InputError, match="functional or sequential.*Received: Subclassed"):
        EnsemblePredictor.from_model(Subclassed(), DEEPGLOBE_CLASSES, tile=32)
    with pytest.raises(InputError, match="functional or sequential.*Received: Subclassed"):
        ensemble([Subclassed()])


def test_unknown_average_raises():
    with pytest.raises(InputError, match="`average` must be one of probabilities, logits.*'mean'"):
        Average((1.0,), "mean")


def test_number_of_classes_that_differs_from_the_output_channels_raises(network):
    with pytest.raises(InputError, match="has 2 output channels. Received: 7 classes"):
        EnsemblePredictor.from_model(network, DEEPGLOBE_CLASSES, tile=32)


def test_tile_that_would_fill_the_memory_raises():
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(3, 1)])
    with pytest.raises(InputError, match="`tile` must be.*at most 16384.*tile=1000000000"):
        Predictor.from_model(model, tile=10**9)


def test_arguments_of_other_types_raise(network):
    image = np.ones((40, 40, 3), np.uint8)
    with pytest.raises(InputError, match="`tile` must be a whole number. Received: '64'"):
        predict_tiled(network, image, tile="64")
    masked = np.ma.masked_array(image, image == 1)
    with pytest.raises(InputError, match="must not contain masked values.*`image.filled"):
        predict_tiled(network, masked, tile=32)


def test_fingerprint_changes_with_weights_and_augmentation():
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1)])

    def fingerprint(tta="none"):
        return Predictor.from_model(model, tile=32, tta=tta).fingerprint()

    first = fingerprint()
    assert fingerprint() == first
    assert fingerprint("flip") != first
    model.set_weights([weight + 1 for weight in model.get_weights()])
    assert fingerprint() != first


def test_fingerprint_changes_with_the_settings_of_layers(network):
    """Without them, `--resume` would keep the maps of an ensemble with other weights."""

    def fingerprint(weights):
        return Predictor.from_model(ensemble([network, network], weights), tile=32).fingerprint()

    assert fingerprint([3, 1]) == fingerprint([3, 1])
    assert fingerprint([3, 1]) != fingerprint([1, 3])


def test_fingerprint_of_a_model_with_a_layer_without_settings():
    class Doubled(keras.layers.Layer):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def call(self, x):
            return x * self.factor

    model = keras.Sequential([keras.Input((None, None, 3)), Doubled(2), keras.layers.Conv2D(2, 1)])
    assert Predictor.from_model(model, tile=32).fingerprint()


def test_fingerprint_of_a_savedmodel_belongs_to_the_loaded_files(exported, tmp_path):
    """A later export must not change the fingerprint of a model in memory."""
    folder = shutil.copytree(exported / "ensemble", tmp_path / "ensemble")
    expected = load_savedmodel(folder).fingerprint
    predictor = load_savedmodel(folder)
    with (folder / "saved_model.pb").open("ab") as file:
        file.write(b"x")
    assert predictor.fingerprint == expected
