"""Ensembles: averages, scales, saving and export."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.exporting.savedmodel import export_savedmodel
from lcc_tf.exporting.source_model import SourceModel
from lcc_tf.models import build_model, ensemble
from lcc_tf.models.preprocessing import EncoderPreprocessing
from lcc_tf.prediction.predictors import Average, Predictor, probability_function
from lcc_tf.scoring.resizing import resized_rows
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES


def small_network(num_classes=3, size_divisor=32):
    """Builds a network of two convolutions for image sizes divisible by `size_divisor`."""
    image = keras.Input((None, None, 3))
    x = EncoderPreprocessing("tf", size_divisor)(image)
    x = keras.layers.Conv2D(8, 5, padding="same", activation="relu")(x)
    return keras.Model(image, keras.layers.Conv2D(num_classes, 1)(x))


@pytest.fixture(scope="module")
def members():
    """Two networks with random weights, for image sizes divisible by 32 and by 16."""
    keras.utils.set_random_seed(0)
    return [small_network(), small_network(size_divisor=16)]


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).uniform(0, 255, (2, 64, 32, 3)).astype(np.float32)


@pytest.mark.parametrize(("weights", "fractions"), [(None, (0.5, 0.5)), ((3, 1), (0.75, 0.25))])
def test_weighted_mean_of_probabilities(members, image, weights, fractions):
    probabilities = ensemble(members, weights)(image)
    expected = sum(
        fraction * tf.nn.softmax(model(image))
        for fraction, model in zip(fractions, members, strict=True)
    )
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(np.sum(probabilities, axis=-1), 1, atol=1e-6)


def test_probabilities_of_each_member_are_outputs_of_layers(members, image):
    model = ensemble(members)
    for index, member in enumerate(members):
        layer = keras.Model(
            model.inputs[0], model.get_layer(f"member_{index}_probabilities").output
        )
        np.testing.assert_allclose(layer(image), tf.nn.softmax(member(image)), atol=1e-6)


def test_loaded_ensemble_returns_the_same_probabilities(members, image, tmp_path):
    model = ensemble(members, (3, 1), average="logits", scales=(0.5, 1))
    model.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(tmp_path / "ensemble.keras")
    np.testing.assert_allclose(loaded(image), model(image), atol=1e-6)
    model.save_weights(tmp_path / "ensemble.weights.h5")
    other = keras.models.clone_model(model)
    assert not np.allclose(other(image), model(image), atol=1e-3)
    other.load_weights(tmp_path / "ensemble.weights.h5")
    np.testing.assert_allclose(other(image), model(image), atol=1e-6)


def test_only_the_first_output_of_deep_supervision_is_averaged(image):
    model = build_model("unetpp", 3, encoder="tiny", encoder_weights=None, deep_supervision=True)
    np.testing.assert_allclose(ensemble([model])(image), tf.nn.softmax(model(image)[0]), atol=1e-6)


def test_average_of_logits(members, image):
    probabilities = ensemble(members, (3, 1), average="logits")(image)
    expected = tf.nn.softmax(0.75 * members[0](image) + 0.25 * members[1](image))
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_ensemble_of_ensembles_applies_softmax_once(members, image, tmp_path):
    model = ensemble([ensemble(members, (3, 1)), members[1]])
    expected = 0.375 * tf.nn.softmax(members[0](image)) + 0.625 * tf.nn.softmax(members[1](image))
    np.testing.assert_allclose(model(image), expected, atol=1e-6)
    inner = keras.Model(model.inputs[0], model.get_layer("member_0_probabilities").output)
    np.testing.assert_allclose(inner(image), ensemble(members, (3, 1))(image), atol=1e-6)
    model.save(tmp_path / "nested.keras")
    loaded = keras.models.load_model(tmp_path / "nested.keras")
    np.testing.assert_allclose(loaded(image), model(image), atol=1e-6)


def at_half_size(member, image):
    """Returns the probabilities that a member predicts from an image of half the resolution."""
    half = tf.image.resize(image, [side // 2 for side in image.shape[1:3]])
    padding = [(0, 0), *((0, -side % 32) for side in half.shape[1:3]), (0, 0)]
    padded = np.pad(half, padding, mode="reflect")
    inside = tf.nn.softmax(member(padded))[:, : half.shape[1], : half.shape[2]]
    return tf.image.resize(inside, image.shape[1:3])


def test_members_at_different_scales(members):
    image = np.random.default_rng(0).uniform(0, 255, (1, 96, 160, 3)).astype(np.float32)
    probabilities = ensemble(members, (3, 1), scales=(0.5, 1))(image)
    expected = 0.75 * at_half_size(members[0], image) + 0.25 * tf.nn.softmax(members[1](image))
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(np.sum(probabilities, axis=-1), 1, atol=1e-5)


def test_ensemble_at_scales_equals_the_evaluated_ensemble(members):
    """The members predict an image of 64x64 pixels like runs on whole images of 32x32 pixels."""
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    probabilities = [
        Predictor("", probability_function(model), "whole", 32, 32, 32).predict_image(image)
        for model in members
    ]
    resized = [resized_rows(p, (64, 64), slice(0, 64)) for p in probabilities]
    for average in ("probabilities", "logits"):
        model = ensemble(members, (3, 1), average=average, scales=(0.5, 0.5))
        evaluated = Average((3.0, 1.0), average)(resized)
        np.testing.assert_allclose(model(image[None])[0], evaluated, atol=1e-5)


def test_scaled_member_is_exported_for_images_of_any_size(members, tmp_path):
    # The exporter also compares an image of 201x333 pixels. The scale 0.3 reduces it to 60x100.
    original = SourceModel(ensemble(members[1:], scales=(0.3,)), DEEPGLOBE_CLASSES, tile=250)
    assert original.comparison.odd_image.shape == (1, 201, 333, 3)
    (exported,) = export_savedmodel(original, tmp_path / "exported")
    assert exported.agreement.max_difference < 1e-5


@pytest.mark.parametrize("kind", [set, dict.fromkeys, lambda _: "ab"])
def test_members_that_are_not_a_list_raise(members, kind):
    """The order of a set is arbitrary, and weights would belong to other members."""
    with pytest.raises(InputError, match="`members` must be a list of models"):
        ensemble(kind(members), weights=[2, 1])


@pytest.mark.parametrize("weights", [(1,), (1, -1), (0, 0), (1, float("nan"))])
def test_invalid_weights_raise(members, weights):
    with pytest.raises(InputError, match="2 members needs 2 weights"):
        ensemble(members, weights)


def test_members_with_different_numbers_of_classes_raise(members):
    with pytest.raises(InputError, match=r"\[3, 4\]"):
        ensemble([members[0], small_network(num_classes=4)])
    for no_list in (members[0], {"a": members[0]}, (model for model in members)):
        with pytest.raises(InputError, match=f"must be a list of models.*{type(no_list).__name__}"):
            ensemble(no_list)
    with pytest.raises(InputError, match="at least one"):
        ensemble([])


def test_invalid_average_and_scales_raise(members):
    with pytest.raises(InputError, match="'median'.*'probabilities', 'logits'"):
        ensemble(members, average="median")
    for scales in ((1,), (1, 0), (1, float("inf"))):
        with pytest.raises(InputError, match="2 members needs 2 `scales`"):
            ensemble(members, scales=scales)


def test_members_for_images_of_different_sizes_raise():
    small, large = (
        keras.Sequential([keras.Input((side, side, 3)), keras.layers.Conv2D(3, 1)])
        for side in (32, 64)
    )
    with pytest.raises(InputError, match=r"same size.*\(32, 32\), \(64, 64\).*input_shape=None"):
        ensemble([small, large])
    ensemble([small, large], scales=[0.5, 1])
    ensemble([small, small_network()])


@pytest.mark.parametrize("numbers", [{0: 5.0, 1: 1.0}, "51"])
def test_weights_and_scales_that_are_not_sequences_of_numbers_raise(members, numbers):
    for argument in ("weights", "scales"):
        with pytest.raises(InputError, match=f"`{argument}` must be a sequence.*per member.*list"):
            ensemble(members, **{argument: numbers})
