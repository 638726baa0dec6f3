import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.models import build_model, ensemble
from tfds_deepglobe.errors import InputError


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
    model = ensemble(members, (3, 1))
    model.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(tmp_path / "ensemble.keras")
    np.testing.assert_allclose(loaded(image), model(image), atol=1e-6)


def test_deep_supervision_enters_by_its_prediction_alone(image):
    model = build_model("unetpp", 3, encoder="tiny", encoder_weights=None, deep_supervision=True)
    np.testing.assert_allclose(ensemble([model])(image), tf.nn.softmax(model(image)[0]), atol=1e-6)


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
