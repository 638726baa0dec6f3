"""Confusion matrices per protocol, predictor and image."""

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lcc_tf.ground_truth import NO_TRUTH
from lcc_tf.scoring.protocols import ScoringRules
from lcc_tf.scoring.scored_predictors import PredictedImage

# Number of pixels per strip. The full-size probabilities of many predictors would need too much
# memory.
STRIP_PIXELS = 2**17

# Confusion and probability matrix for each pair of a protocol and a predictor
Counts = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]


class ConfusionMatrices:
    """Confusion and probability matrices of each image.

    Args:
        rules: the rules of each protocol.
    """

    def __init__(self, rules: Sequence[ScoringRules]) -> None:
        self.rules = rules
        self._matrices: dict[str, dict[str, list]] = {
            protocol_rules.protocol.name: defaultdict(list) for protocol_rules in rules
        }

    def add(self, predicted: PredictedImage) -> None:
        """Counts the pixels of an image for each protocol and predictor."""
        for side in {rules.protocol.side for rules in self.rules}:
            same_side = [rules for rules in self.rules if rules.protocol.side == side]
            resized = predicted if side is None else predicted.resize((side, side))
            for (protocol, name), matrices in _count(resized, same_side).items():
                self._matrices[protocol][name].append(matrices)

    def matrices(self, rules: ScoringRules) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Returns the matrices of each predictor.

        Args:
            rules: the rules of one protocol.

        Returns:
            By the predictor's name: confusion matrices, int64
            `(num_images, num_classes, num_classes)`, and results of `probability_matrix`, float64
            `(num_images, num_classes, num_classes)`.
        """
        return {
            name: tuple(np.stack(part) for part in zip(*counts, strict=True))
            for name, counts in self._matrices[rules.protocol.name].items()
        }


def _count(predicted: PredictedImage, all_rules: Sequence[ScoringRules]) -> Counts:
    """Counts an image at its size, in horizontal strips that are processed in parallel."""

    def count_strip(rows: slice) -> Counts:
        mask = predicted.mask[rows]
        counts = {}
        for name, probabilities in predicted.probabilities(rows):
            sums = probability_matrix(mask, probabilities)
            for rules in all_rules:
                matrix = rules.confusion_matrix(mask, rules.predicted_ids(probabilities))
                counts[rules.protocol.name, name] = matrix, sums
        return counts

    height, width = predicted.mask.shape
    step = max(STRIP_PIXELS // width, 1)
    strips = [slice(i, min(i + step, height)) for i in range(0, height, step)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        counted = list(threads.map(count_strip, strips))
    return {
        key: tuple(sum(part) for part in zip(*(counts[key] for counts in counted), strict=True))
        for key in counted[0]
    }


def probability_matrix(mask: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Sums the probabilities of each class over the pixels of each ground-truth class.

    Args:
        mask: integer `(height, width)`, class ids; pixels of `lcc_tf.ground_truth.NO_TRUTH` are
            ignored.
        probabilities: float `(height, width, num_classes)`, in [0, 1].

    Returns:
        float64 `(num_classes, num_classes)`: a confusion matrix (row = ground truth, column =
        prediction) in which a pixel counts with its probabilities.
    """
    num_classes = probabilities.shape[-1]
    if mask.min(initial=0) == NO_TRUTH:
        labeled = mask != NO_TRUTH
        mask, probabilities = mask[labeled], probabilities[labeled]
    sums = [
        np.bincount(mask.ravel(), probabilities[..., k].ravel(), minlength=num_classes)
        for k in range(num_classes)
    ]
    return np.stack(sums, axis=-1)
