"""Weights of an ensemble's members, tuned on the validation split."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from lcc_tf.prediction.predictors import Average, Predictor
from lcc_tf.scoring.confusion import SplitCounts
from lcc_tf.scoring.examples import native_images
from lcc_tf.scoring.protocols import Protocol, predicted_ids, protocol_matrix
from lcc_tf.scoring.resizing import resized_rows
from lcc_tf.scoring.scored_predictors import Predictors
from lcc_tf.scoring.scores import pooled_scores

MAP_SIDE = 256  # pixels, at most, of the maps to search on: 0.9 MB a member and image
FIRST_STEP, LAST_STEP = 1 / 4, 1 / 64  # of weight that is moved between two members


@dataclass(frozen=True)
class TunedWeights:
    """What tuning has found."""

    protocol: str
    weights: tuple[float, ...]  # one a member, with a sum of 1
    mean_iou: float  # of the ensemble with them, on the validation split
    equal_mean_iou: float  # of the ensemble with equal weights, there


def tune_weights(
    members: Sequence[Predictor],
    builder: tfds.core.DatasetBuilder,
    protocol: Protocol,
    average: str,
    class_names: Sequence[str],
) -> TunedWeights:
    """Finds weights that score higher on the validation split than equal ones, if it can.

    They are searched on small maps, which fit into memory. Then both are scored by the protocol to
    the letter, and equal weights are kept unless the others are better.

    Args:
        members: of the ensemble.
        builder: a prepared data set; no split of it but "validation" is read.
        protocol: whose mean IoU shall grow.
        average: "probabilities" or "logits".
        class_names: of the data set.

    Raises:
        InputError: the validation split is empty.
    """
    equal = (1 / len(members),) * len(members)
    found = _search_on_maps(members, builder, protocol, average, class_names)
    predictors = Predictors(
        members, {"equal": Average(equal, average), "found": Average(found, average)}
    )
    counts = SplitCounts([protocol], class_names)
    for image, mask in native_images(builder, "validation", "comparing weights"):
        counts.add(predictors, [member.predict_image(image) for member in members], image, mask)
    mean_iou = {
        name: _mean_iou(matrices.sum(axis=0), protocol, class_names)
        for name, (matrices, _) in counts.matrices(protocol).items()
    }
    best = "found" if mean_iou["found"] > mean_iou["equal"] else "equal"
    return TunedWeights(
        protocol=protocol.name,
        weights=found if best == "found" else equal,
        mean_iou=mean_iou[best],
        equal_mean_iou=mean_iou["equal"],
    )


def _search_on_maps(
    members: Sequence[Predictor],
    builder: tfds.core.DatasetBuilder,
    protocol: Protocol,
    average: str,
    class_names: Sequence[str],
) -> tuple[float, ...]:
    """The weights that `search_weights` finds for maps of at most `MAP_SIDE`."""
    maps, masks = [], []
    for image, mask in native_images(builder, "validation", "predicting validation"):
        size = tuple(min(side, MAP_SIDE) for side in mask.shape)
        masks.append(tf.image.resize(mask[..., None], size, "nearest")[..., 0].numpy())
        own = [
            resized_rows(member.predict_image(image), size, slice(0, size[0])) for member in members
        ]
        maps.append([p.astype(np.float16) for p in own])

    def score(weights: np.ndarray) -> float:
        combine = Average(tuple(weights.tolist()), average)
        matrices = []
        for own, mask in zip(maps, masks, strict=True):
            ids = predicted_ids(combine([p.astype(np.float32) for p in own]), protocol, class_names)
            matrices.append(protocol_matrix(mask, ids, protocol, class_names))
        return _mean_iou(sum(matrices), protocol, class_names)

    return tuple(search_weights(score, len(members)).tolist())


def _mean_iou(matrix: np.ndarray, protocol: Protocol, class_names: Sequence[str]) -> float:
    return float(pooled_scores(matrix, protocol.averaged(class_names))["mean_iou"])


def search_weights(score: Callable[[np.ndarray], float], num_members: int) -> np.ndarray:
    """Climbs from equal weights, and stops where no small move of weight scores higher.

    In each round, a step's worth of weight is moved between every two members in turn, and the best
    such move is made if it scores strictly higher; if none does, the step is halved. The result
    therefore never scores lower than equal weights.

    Args:
        score: of weights, float64 `(num_members,)` with a sum of 1; higher is better.
        num_members: how many weights to find.

    Returns:
        float64 `(num_members,)`, not negative, with a sum of 1.
    """
    best = np.full(num_members, 1 / num_members)
    best_score = score(best)
    step = FIRST_STEP
    while step >= LAST_STEP:
        moves = []
        for giver, taker in itertools.permutations(range(num_members), 2):
            moved = best.copy()
            moved[giver] = max(best[giver] - step, 0)
            moved[taker] += best[giver] - moved[giver]
            moves.append((score(moved), moved))
        top_score, top = max(moves, key=lambda move: move[0], default=(-np.inf, best))
        if top_score > best_score:
            best, best_score = top, top_score
        else:
            step /= 2
    return best
