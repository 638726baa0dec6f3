import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.exporting.savedmodel import export_savedmodel
from lcc_tf.exporting.source_model import SourceModel
from lcc_tf.models import build_model, ensemble, outputs_probabilities
from lcc_tf.prediction.predictors import Average, Predictor, probability_function
from lcc_tf.scoring.resizing import resized_rows
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES


@pytest.fixture(scope="module")
def members():
    keras.utils.set_random_seed(0)
    return [
        build_model(arch, 3, encoder="tiny", encoder_weights=None)
        for arch in ("unetpp", "deeplabv3plus")
    ]


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).uniform(0, 255, (2, 64, 32, 3)).astype(np.float32)


@pytest.mark.parametrize(("weights", "shares"), [(None, (0.5, 0.5)), ((3, 1), (0.75, 0.25))])
def test_weighted_mean_of_probabilities(members, image, weights, shares):
    probabilities = ensemble(members, weights)(image)
    expected = sum(
        share * tf.nn.softmax(model(image)) for share, model in zip(shares, members, strict=True)
    )
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(np.sum(probabilities, axis=-1), 1, atol=1e-6)


def test_members_own_probabilities_can_be_had(members, image):
    model = ensemble(members)
    for index, member in enumerate(members):
        own = keras.Model(model.inputs[0], model.get_layer(f"member_{index}_probabilities").output)
        np.testing.assert_allclose(own(image), tf.nn.softmax(member(image)), atol=1e-6)


def test_saves_and_loads_as_one_model(members, image, tmp_path):
    model = ensemble(members, (3, 1), average="logits", scales=(0.5, 1))
    model.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(tmp_path / "ensemble.keras")
    np.testing.assert_allclose(loaded(image), model(image), atol=1e-6)
    model.save_weights(tmp_path / "ensemble.weights.h5")
    other = keras.models.clone_model(model)
    assert not np.allclose(other(image), model(image), atol=1e-3)
    other.load_weights(tmp_path / "ensemble.weights.h5")
    np.testing.assert_allclose(other(image), model(image), atol=1e-6)


def test_deep_supervision_enters_by_its_prediction_alone(image):
    model = build_model("unetpp", 3, encoder="tiny", encoder_weights=None, deep_supervision=True)
    np.testing.assert_allclose(ensemble([model])(image), tf.nn.softmax(model(image)[0]), atol=1e-6)


def test_average_of_logits(members, image):
    """Softmax of the mean of the logits, whose constant at each pixel does not matter."""
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


def output_kinds():
    """Models of one layer with a softmax or without, by a description."""
    image = keras.Input((8, 8, 3))
    logits = keras.layers.Conv2D(2, 1)(image)
    softmax = keras.layers.Softmax()
    probabilities = softmax(logits)
    nested = keras.Model(image, [logits, probabilities])
    outer = keras.Input((8, 8, 3))
    flipped = outer[:, ::-1]
    return {
        "softmax layer": (keras.Model(image, probabilities), True),
        "its second use": (keras.Model(image, softmax(2 * logits)), True),
        "activation layer": (keras.Model(image, keras.layers.Activation("softmax")(logits)), True),
        "activation of a convolution": (
            keras.Sequential(
                [keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 1, activation="softmax")]
            ),
            True,
        ),
        "operation": (keras.Model(image, keras.ops.softmax(logits)), True),
        "nested": (keras.Model(outer, nested(flipped)[1]), True),
        "first of several outputs": (keras.Model(image, [probabilities, logits]), True),
        "ensemble": (ensemble([keras.Model(image, logits)], average="logits"), True),
        "logits": (keras.Model(image, logits), False),
        "nested logits": (keras.Model(outer, nested(flipped)[0]), False),
        "softmax in between": (keras.Model(image, keras.layers.Conv2D(2, 1)(probabilities)), False),
        "second of several outputs": (keras.Model(image, [logits, probabilities]), False),
    }


def test_models_of_probabilities_are_told_from_models_of_logits():
    kinds = output_kinds()
    found = {name: outputs_probabilities(model) for name, (model, _) in kinds.items()}
    assert found == {name: expected for name, (_, expected) in kinds.items()}


def test_members_that_output_probabilities_are_averaged(image):
    for name, (model, _) in output_kinds().items():
        x = image[:, :8, :8]
        output = keras.tree.flatten(model(x))[0]
        expected = output if outputs_probabilities(model) else tf.nn.softmax(output)
        np.testing.assert_allclose(ensemble([model])(x), expected, atol=1e-6, err_msg=name)


def at_half_size(member, image):
    """Predicts with a member that works at half of the image's resolution."""
    half = tf.image.resize(image, [side // 2 for side in image.shape[1:3]])
    padding = [(0, 0), *((0, -side % 32) for side in half.shape[1:3]), (0, 0)]
    padded = np.pad(half, padding, mode="reflect")
    inside = tf.nn.softmax(member(padded))[:, : half.shape[1], : half.shape[2]]
    return tf.image.resize(inside, image.shape[1:3])


def test_members_may_work_at_different_scales(members):
    image = np.random.default_rng(0).uniform(0, 255, (1, 96, 160, 3)).astype(np.float32)
    probabilities = ensemble(members, (3, 1), scales=(0.5, 1))(image)
    expected = 0.75 * at_half_size(members[0], image) + 0.25 * tf.nn.softmax(members[1](image))
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(np.sum(probabilities, axis=-1), 1, atol=1e-5)


def test_ensemble_at_scales_equals_what_is_evaluated(members):
    """Members trained on whole images of 32 pixels, scored on an image of 64."""
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    own = [
        Predictor("", probability_function(model), "whole", 32, 32, 32).predict_image(image)
        for model in members
    ]
    resized = [resized_rows(p, (64, 64), slice(0, 64)) for p in own]
    for average in ("probabilities", "logits"):
        model = ensemble(members, (3, 1), average=average, scales=(0.5, 0.5))
        evaluated = Average((3.0, 1.0), average)(resized)
        np.testing.assert_allclose(model(image[None])[0], evaluated, atol=1e-5)


def test_scaled_member_exports_with_sizes_unknown(members, tmp_path):
    """The exporter compares on 201x333 pixels too, of which 0.3 are 60x100."""
    original = SourceModel(ensemble(members[1:], scales=(0.3,)), DEEPGLOBE_CLASSES, tile=250)
    assert original.comparison.odd_image.shape == (1, 201, 333, 3)
    (exported,) = export_savedmodel(original, tmp_path / "exported")
    assert exported.agreement.max_difference < 1e-5


@pytest.mark.parametrize("weights", [(1,), (1, -1), (0, 0), (1, float("nan"))])
def test_weights_that_cannot_be_used(members, weights):
    with pytest.raises(InputError, match="2 members needs 2 weights"):
        ensemble(members, weights)


def test_members_must_agree_in_classes(members):
    other = build_model("unetpp", 4, encoder="tiny", encoder_weights=None)
    with pytest.raises(InputError, match=r"\[3, 4\]"):
        ensemble([members[0], other])
    with pytest.raises(InputError, match="at least one"):
        ensemble([])


def test_average_and_scales_that_cannot_be_used(members):
    with pytest.raises(InputError, match="'median'.*'probabilities', 'logits'"):
        ensemble(members, average="median")
    for scales in ((1,), (1, 0), (1, float("inf"))):
        with pytest.raises(InputError, match="2 members needs 2 scales"):
            ensemble(members, scales=scales)


def test_softmax_is_found_behind_layers_that_keep_probabilities():
    image = keras.Input((8, 8, 3))
    logits = keras.layers.Conv2D(2, 1)(image)
    for make in (keras.layers.Softmax(), lambda x: x):
        x = keras.layers.UpSampling2D(2, interpolation="bilinear")(make(logits))
        x = keras.layers.Activation("linear", dtype="float32")(keras.layers.Cropping2D(1)(x))
        expected = isinstance(make, keras.layers.Softmax)
        assert outputs_probabilities(keras.Model(image, x)) == expected
