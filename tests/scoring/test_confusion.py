import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.models import ensemble
from lcc_tf.prediction.predictors import Average
from lcc_tf.scoring.confusion import ConfusionMatrices
from lcc_tf.scoring.protocols import PROTOCOLS, scoring_rules
from lcc_tf.scoring.scored_predictors import PredictedImage, ScoredPredictors
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES

ORIGINAL, OFFICIAL6, GLNET = scoring_rules(list(PROTOCOLS), DEEPGLOBE_CLASSES)


class FixedMember:
    """A network of an ensemble that predicts random probabilities of a fixed size."""

    def __init__(self, name, seed, size):
        self.name = name
        logits = np.random.default_rng(seed).normal(size=(*size, 7)).astype(np.float32)
        self.probabilities = tf.nn.softmax(logits).numpy()


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (90, 70, 3), np.uint8), rng.integers(0, 7, (90, 70), np.uint8)


@pytest.fixture(scope="module")
def predictors():
    members = [FixedMember("small", 0, (20, 20)), FixedMember("native", 1, (90, 70))]
    ensembles = {
        "mean": Average((3.0, 1.0), "probabilities"),
        "logits": Average((3.0, 1.0), "logits"),
        "native_only": Average((0.0, 1.0), "probabilities"),
    }
    return ScoredPredictors(members, ensembles)


def count(predictors, scene, protocols):
    counts = ConfusionMatrices(protocols)
    probabilities = [member.probabilities for member in predictors.members]
    counts.add(PredictedImage(*scene, probabilities, predictors))
    return counts


def test_probabilities_are_averaged_at_the_resolution_of_the_protocol(predictors, scene):
    """The expected matrices are computed from whole maps, which `tf.image.resize` resizes.

    `ConfusionMatrices` processes 512x512 pixels in two strips.
    """
    image, mask = scene
    counts = count(predictors, scene, [ORIGINAL, GLNET, OFFICIAL6])
    for protocol, ground_truth in (
        (ORIGINAL, tf.image.resize(mask[..., None], (512, 512), "nearest")[..., 0].numpy()),
        (GLNET, mask),
    ):
        p = [
            tf.image.resize(m.probabilities, ground_truth.shape, "bilinear").numpy()
            for m in predictors.members
        ]
        logits = 0.75 * np.log(p[0]) + 0.25 * np.log(p[1])
        expected = {
            "small": p[0],
            "native": p[1],
            "mean": 0.75 * p[0] + 0.25 * p[1],
            "logits": tf.nn.softmax(logits).numpy(),
            "native_only": p[1],
        }
        matrices = counts.matrices(protocol)
        assert list(matrices) == list(expected)
        for name, probabilities in expected.items():
            hard = np.zeros((7, 7), np.int64)
            np.add.at(hard, (ground_truth, probabilities.argmax(-1)), 1)
            soft = np.zeros((7, 7))
            np.add.at(soft, ground_truth, probabilities)
            np.testing.assert_array_equal(matrices[name][0], hard[None])
            np.testing.assert_allclose(matrices[name][1], soft[None], rtol=1e-5)
            if protocol is GLNET:
                hard = np.zeros((7, 7), np.int64)
                known = ground_truth != 6
                np.add.at(hard, (ground_truth[known], probabilities[known][:, :6].argmax(-1)), 1)
                np.testing.assert_array_equal(counts.matrices(OFFICIAL6)[name][0], hard[None])


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_average_equals_the_output_of_the_keras_ensemble(kind):
    rng = np.random.default_rng(0)
    models = []
    for _ in range(3):
        inputs = keras.Input((None, None, 3))
        head = keras.layers.Conv2D(4, 1, name="head")
        models.append(keras.Model(inputs, head(inputs)))
        head.set_weights([rng.normal(size=(1, 1, 3, 4)), rng.normal(size=4)])
    image = rng.normal(size=(1, 8, 8, 3)).astype(np.float32)
    probabilities = [tf.nn.softmax(model(image)).numpy() for model in models]
    weights = (2.0, 0.0, 1.0)
    np.testing.assert_allclose(
        Average(weights, kind)(probabilities),
        ensemble(models, weights, average=kind)(image),
        atol=1e-6,
    )
