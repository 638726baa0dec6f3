import itertools

import numpy as np
import pytest

from lcc_tf.prediction.predictors import Average
from lcc_tf.scoring.confusion import ConfusionMatrices
from lcc_tf.scoring.ensemble_weights import search_weights, tune_weights
from lcc_tf.scoring.examples import split_examples
from lcc_tf.scoring.protocols import GLNET, ORIGINAL
from lcc_tf.scoring.scored_predictors import ScoredPredictors
from lcc_tf.scoring.scores import scores
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES

GLNET_RULES = GLNET.for_classes(DEEPGLOBE_CLASSES)
ORIGINAL_RULES = ORIGINAL.for_classes(DEEPGLOBE_CLASSES)


def test_search_finds_the_maximum_of_a_smooth_score():
    target = np.array([0.6, 0.1, 0.3])
    found = search_weights(lambda weights: -np.sum((weights - target) ** 2), 3)
    np.testing.assert_allclose(found, target, atol=0.02)
    assert found.sum() == pytest.approx(1)


def test_search_can_find_a_weight_of_zero():
    found = search_weights(lambda weights: weights[2] - weights[0], 3)
    np.testing.assert_allclose(found, [0, 0, 1], atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_search_never_scores_lower_than_equal_weights(seed):
    """The score of each combination of weights is random."""
    random_scores = {}

    def noise(weights):
        assert weights.min() >= 0
        assert weights.sum() == pytest.approx(1)
        rng = np.random.default_rng([seed, *np.round(weights * 1e6).astype(int)])
        return random_scores.setdefault(tuple(weights), rng.random())

    found = search_weights(noise, 4)
    assert noise(found) >= noise(np.full(4, 0.25))
    assert len(random_scores) < 500


def test_weights_stay_equal_if_all_scores_are_equal():
    assert search_weights(lambda weights: 1.0, 3).tolist() == [1 / 3] * 3
    assert search_weights(lambda weights: 1.0, 1).tolist() == [1]


class Oracle:
    """A network that predicts the correct class for a fraction of the pixels."""

    def __init__(self, masks, fraction, seed):
        self.name = f"oracle {fraction}"
        self.masks, self.fraction = itertools.cycle(masks), fraction
        self.rng = np.random.default_rng(seed)
        self.wrong = [self.rng.random(mask.shape) > fraction for mask in masks]
        self.turn = itertools.cycle(range(len(masks)))

    def predict_image(self, image):
        mask = (next(self.masks) + self.wrong[next(self.turn)]) % 7
        return (0.04 + 0.72 * np.eye(7)[mask]).astype(np.float32)


@pytest.fixture
def members(builder):
    masks = [mask for _, mask in split_examples(builder, "validation", "reading")]
    return [Oracle(masks, fraction, seed) for seed, fraction in enumerate((0.5, 0.9, 0.5))]


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_better_network_has_a_larger_weight(members, builder, average):
    tuned = tune_weights(members, builder, GLNET_RULES, average)
    assert tuned.protocol == "glnet"
    assert tuned.mean_iou > tuned.equal_mean_iou
    assert tuned.weights[1] > 1 / 2
    assert sum(tuned.weights) == pytest.approx(1)


def test_tuned_score_is_close_to_the_score_of_all_pixels(members, builder):
    """The protocol scores 512x512 pixels, but tuning scores only a grid of these pixels."""
    tuned = tune_weights(members, builder, ORIGINAL_RULES, "probabilities")
    ensembles = {
        "equal": Average((1, 1, 1), "probabilities"),
        "tuned": Average(tuned.weights, "probabilities"),
    }
    confusion = ConfusionMatrices([ORIGINAL_RULES])
    for predicted in ScoredPredictors(members, ensembles).predict(
        split_examples(builder, "validation", "scoring")
    ):
        confusion.add(predicted)
    for name, found in (("equal", tuned.equal_mean_iou), ("tuned", tuned.mean_iou)):
        exact = scores(ORIGINAL_RULES, *confusion.matrices(ORIGINAL_RULES)[name])["mean_iou"]
        assert found == pytest.approx(exact, abs=0.01)


def test_tuning_reads_only_the_validation_split_and_only_once(members, builder, monkeypatch):
    read, as_dataset = [], builder.as_dataset

    def watched(split, **options):
        read.append(split)
        return as_dataset(split=split, **options)

    monkeypatch.setattr(builder, "as_dataset", watched)
    tune_weights(members, builder, GLNET_RULES, "probabilities")
    assert read == ["validation"]
