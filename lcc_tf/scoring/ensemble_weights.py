"""Tuning of an ensemble's weights on the validation split."""

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

MAX_PIXELS = 2**15  # pixels per image on which weights are scored: 0.9 MB per member and image
FIRST_STEP, LAST_STEP = 1 / 4, 1 / 64  # part of the total weight that moves between two members


@dataclass(frozen=True)
class TunedWeights:
    """Tuned weights and their score.

    Attributes:
        protocol: name of the protocol.
        weights: one weight per member, with a sum of 1.
        mean_iou: mean IoU of the ensemble with these weights on the validation split, from at most
            `MAX_PIXELS` pixels per image.
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
    """Searches weights that score higher on the validation split than equal weights.

    Each image is predicted once. Only a regular grid of about `MAX_PIXELS` pixels at the protocol's
    resolution is used, so that the probabilities of all images fit into memory.

    Args:
        members: the ensemble's members.
        builder: a prepared data set; only its split "validation" is read.
        rules: the rules for the mean IoU that is maximized.
        average: "probabilities" or "logits".

    Raises:
        InputError: the validation split is empty.
    """
    side = rules.protocol.side
    samples = []  # per image: mask and each member's probabilities on the grid
    examples = split_examples(builder, "validation", "tuning weights")
    for predicted in ScoredPredictors(members).predict(examples):
        predicted = predicted if side is None else predicted.resize((side, side))
        height, width = predicted.mask.shape
        step = math.ceil(math.sqrt(height * width / MAX_PIXELS))
        rows = slice(0, height, step)
        # Copies, since a view would keep the whole map in memory
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
    """Searches weights by hill climbing, which starts from equal weights.

    Each round tries to move one step of weight between every pair of members. The best move is kept
    if it scores strictly higher. Otherwise the step is halved. So the result never scores lower
    than equal weights.

    Args:
        score: function from weights, float64 `(num_members,)` with a sum of 1, to a score; higher
            is better.
        num_members: number of weights.

    Returns:
        float64 `(num_members,)`, not negative, with a sum of 1.
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
