"""Confusion matrices of every image of a split, per protocol and predictor."""

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lcc_tf.ground_truth import NO_TRUTH
from lcc_tf.scoring.protocols import ScoringRules
from lcc_tf.scoring.scored_predictors import PredictedImage

# Pixels that are scored at once, so that memory never holds the full-size probabilities of many
# predictors.
STRIP_PIXELS = 2**17

Counts = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]  # by protocol and predictor


class ConfusionMatrices:
    """Counts pixels image by image.

    Args:
        rules: the rules of each protocol to count by.
    """

    def __init__(self, rules: Sequence[ScoringRules]) -> None:
        self.rules = rules
        self._matrices: dict[str, dict[str, list]] = {
            one.protocol.name: defaultdict(list) for one in rules
        }

    def add(self, predicted: PredictedImage) -> None:
        """Counts the pixels of one image."""
        for side in {rules.protocol.side for rules in self.rules}:
            same_side = [rules for rules in self.rules if rules.protocol.side == side]
            resized = predicted if side is None else predicted.resize((side, side))
            for (protocol, name), matrices in _count(resized, same_side).items():
                self._matrices[protocol][name].append(matrices)

    def matrices(self, rules: ScoringRules) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Returns the matrices of all images, by the predictor's name.

        Returns:
            Confusion matrices, int64 `(num_images, num_classes, num_classes)`, and results of
            `probability_matrix`, float64 of the same shape.
        """
        return {
            name: tuple(np.stack(part) for part in zip(*counts, strict=True))
            for name, counts in self._matrices[rules.protocol.name].items()
        }


def _count(predicted: PredictedImage, all_rules: Sequence[ScoringRules]) -> Counts:
    """Counts an image at its size in horizontal strips, several at a time."""

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
    """Sums probabilities by ground truth (row) and class (column): a soft confusion matrix.

    Args:
        mask: integer `(height, width)`, class ids; `lcc_tf.ground_truth.NO_TRUTH` is not counted.
        probabilities: float `(height, width, num_classes)`.

    Returns:
        float64 `(num_classes, num_classes)`.
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
