"""Tuning of the weights of an ensemble on the validation split.

An ensemble averages the predictions of several networks, its members. Each member has a weight.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow_datasets as tfds

from lcc_tf.prediction.predictors import Average, Predictor
from lcc_tf.scoring.examples import split_examples
from lcc_tf.scoring.protocols import ScoringRules
from lcc_tf.scoring.scored_predictors import ScoredPredictors
from lcc_tf.scoring.scores import pooled_scores

# Maximum number of pixels per image that are used for tuning. For 7 classes, the probabilities of
# these pixels need 0.9 MB per member and image.
MAX_PIXELS = 2**15
# Weight that the search moves from one member to another member: at the beginning of the search,
# and at its end. The sum of all weights is 1.
FIRST_STEP, LAST_STEP = 1 / 4, 1 / 64


@dataclass(frozen=True)
class TunedWeights:
    """Tuned weights of an ensemble, and its score with these weights.

    Attributes:
        protocol: name of the protocol that defines the score.
        weights: one weight per member, with a sum of 1.
        mean_iou: mean IoU of the ensemble with the tuned weights on the validation split, computed
            from at most `MAX_PIXELS` pixels per image.
        equal_mean_iou: mean IoU of the ensemble with equal weights on the same pixels.
    """

    protocol: str
    weights: tuple[float, ...]
    mean_iou: float
    equal_mean_iou: float


def tune_weights(
    members: Sequence[Predictor],
    builder: tfds.core.DatasetBuilder,
    rules: ScoringRules,
    average: str,
) -> TunedWeights:
    """Finds the weights with which the ensemble has the highest mean IoU on the validation split.

    Each member predicts each image once. The probabilities of all images must fit into memory.
    Therefore the search uses only a regular grid of about `MAX_PIXELS` pixels per image. Before the
    grid is selected, each image is resized to the size at which the protocol computes scores.

    Args:
        members: members of the ensemble.
        builder: a prepared data set, of which only the split "validation" is read.
        rules: scoring rules that define the mean IoU.
        average: "probabilities" or "logits", the values that the ensemble averages.

    Raises:
        InputError: the validation split is empty.
    """
    side = rules.protocol.side
    samples = []  # one pair per image: its mask and the probabilities of each member, on the grid
    examples = split_examples(builder, "validation", "tuning weights")
    for predicted in ScoredPredictors(members).predict(examples):
        predicted = predicted if side is None else predicted.resize((side, side))
        height, width = predicted.mask.shape
        step = math.ceil(math.sqrt(height * width / MAX_PIXELS))
        rows = slice(0, height, step)
        # The grid is copied because a view would keep all probabilities of the image in memory.
        probabilities = [p[:, ::step].copy() for _, p in predicted.probabilities(rows)]
        samples.append((predicted.mask[rows, ::step], probabilities))

    def mean_iou(weights: np.ndarray) -> float:
        combine = Average(tuple(weights.tolist()), average)
        matrix = sum(
            rules.confusion_matrix(mask, rules.predicted_ids(combine(probabilities)))
            for mask, probabilities in samples
        )
        return float(pooled_scores(matrix, rules.averaged)["mean_iou"])

    equal = np.full(len(members), 1 / len(members))
    weights = search_weights(mean_iou, len(members))
    return TunedWeights(
        protocol=rules.protocol.name,
        weights=tuple(weights.tolist()),
        mean_iou=mean_iou(weights),
        equal_mean_iou=mean_iou(equal),
    )


def search_weights(score: Callable[[np.ndarray], float], num_members: int) -> np.ndarray:
    """Finds the weights with the highest score by hill climbing.

    The search starts from equal weights. In each round, it tries all moves from the present
    weights, and computes the score after each move. A move subtracts the step from the weight of
    one member (the source), and adds the step to the weight of another member. If the weight of the
    source is smaller than the step, the move uses the whole weight instead of the step.

    - If the best of these scores is higher than the present score, the search makes this move.
    - Otherwise the search continues from the present weights with half the step.

    Therefore the score of the result is never lower than the score of equal weights.

    Args:
        score: function that returns the score of an array of weights. The weights are float64
            `(num_members,)`, and their sum is 1. A higher score is better.
        num_members: number of weights.

    Returns:
        Weights, float64 `(num_members,)`, 0 or more, with a sum of 1.
    """
    best = np.full(num_members, 1 / num_members)
    best_score = score(best)
    step = FIRST_STEP
    while step >= LAST_STEP:
        moves = []
        for source, target in itertools.permutations(range(num_members), 2):
            moved = best.copy()
            moved[source] = max(best[source] - step, 0)
            moved[target] += best[source] - moved[source]
            moves.append((score(moved), moved))
        top_score, top = max(moves, key=lambda move: move[0], default=(-np.inf, best))
        if top_score > best_score:
            best, best_score = top, top_score
        else:
            step /= 2
    return best
