"""Weights of an ensemble's members, tuned on the validation split."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from lcc_tf.prediction.predictors import Average, Predictor
from lcc_tf.scoring.confusion import ConfusionMatrices
from lcc_tf.scoring.examples import split_examples
from lcc_tf.scoring.protocols import ScoringRules
from lcc_tf.scoring.resizing import resized_rows
from lcc_tf.scoring.scored_predictors import ScoredPredictors
from lcc_tf.scoring.scores import pooled_scores

MAP_SIDE = 256  # largest side of the maps to search on, pixels: 0.9 MB per member and image
FIRST_STEP, LAST_STEP = 1 / 4, 1 / 64  # weight that is moved between two members


@dataclass(frozen=True)
class TunedWeights:
    """Tuned weights and the scores that they were chosen by.

    Attributes:
        protocol: name of the protocol.
        weights: one weight per member, with a sum of 1.
        mean_iou: mean IoU of the ensemble with these weights on the validation split.
        equal_mean_iou: mean IoU of the ensemble with equal weights on the validation split.
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

    The search uses small maps, which fit into memory. Found and equal weights are then scored
    exactly by the protocol, and equal weights are kept unless the found weights score higher.

    Args:
        members: the ensemble's members.
        builder: a prepared data set; only its split "validation" is read.
        rules: the rules whose mean IoU is maximized.
        average: "probabilities" or "logits".

    Raises:
        InputError: the validation split is empty.
    """
    equal = (1 / len(members),) * len(members)
    found = _search_on_maps(members, builder, rules, average)
    ensembles = {"equal": Average(equal, average), "found": Average(found, average)}
    predictors = ScoredPredictors(members, ensembles)
    confusion = ConfusionMatrices([rules])
    for predicted in predictors.predict(split_examples(builder, "validation", "comparing weights")):
        confusion.add(predicted)
    mean_iou = {
        name: _mean_iou(matrices.sum(axis=0), rules)
        for name, (matrices, _) in confusion.matrices(rules).items()
    }
    best = "found" if mean_iou["found"] > mean_iou["equal"] else "equal"
    return TunedWeights(
        protocol=rules.protocol.name,
        weights=found if best == "found" else equal,
        mean_iou=mean_iou[best],
        equal_mean_iou=mean_iou["equal"],
    )


def _search_on_maps(
    members: Sequence[Predictor],
    builder: tfds.core.DatasetBuilder,
    rules: ScoringRules,
    average: str,
) -> tuple[float, ...]:
    """Runs `search_weights` on maps of at most `MAP_SIDE`."""
    maps, masks = [], []  # per image; the maps are one float16 array per member
    for image, mask in split_examples(builder, "validation", "predicting validation"):
        size = tuple(min(side, MAP_SIDE) for side in mask.shape)
        masks.append(tf.image.resize(mask[..., None], size, "nearest")[..., 0].numpy())
        predictions = [member.predict_image(image) for member in members]
        resized = [resized_rows(p, size, slice(0, size[0])) for p in predictions]
        maps.append([p.astype(np.float16) for p in resized])

    def score(weights: np.ndarray) -> float:
        combine = Average(tuple(weights.tolist()), average)
        matrices = []
        for member_maps, mask in zip(maps, masks, strict=True):
            probabilities = combine([p.astype(np.float32) for p in member_maps])
            matrices.append(rules.confusion_matrix(mask, rules.predicted_ids(probabilities)))
        return _mean_iou(sum(matrices), rules)

    return tuple(search_weights(score, len(members)).tolist())


def _mean_iou(matrix: np.ndarray, rules: ScoringRules) -> float:
    return float(pooled_scores(matrix, rules.averaged)["mean_iou"])


def search_weights(score: Callable[[np.ndarray], float], num_members: int) -> np.ndarray:
    """Climbs from equal weights until no small move of weight scores higher.

    Each round tries to move one step of weight between every pair of members, and makes the best
    move if it scores strictly higher. Otherwise it halves the step. The result therefore never
    scores lower than equal weights.

    Args:
        score: scores weights, float64 `(num_members,)` that sum to 1; higher is better.
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
