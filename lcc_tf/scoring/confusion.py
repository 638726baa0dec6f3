"""Confusion matrices of each image, for each protocol and each predictor.

A predictor is a network, an ensemble of networks or the color baseline.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lcc_tf.ground_truth import NO_TRUTH
from lcc_tf.scoring.protocols import ScoringRules
from lcc_tf.scoring.scored_predictors import PredictedImage

# Number of pixels per horizontal strip of an image. An image is processed in strips because the
# probabilities of all predictors for the whole image would need too much memory.
STRIP_PIXELS = 2**17

# Key: name of the protocol and name of the predictor. Value: confusion matrix and result of
# `probability_matrix`.
Counts = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]


class ConfusionMatrices:
    """Collection of the confusion matrices and probability matrices of all images.

    Args:
        rules: the scoring rules of each protocol.
    """

    def __init__(self, rules: Sequence[ScoringRules]) -> None:
        self.rules = rules
        self._matrices: dict[str, dict[str, list]] = {
            protocol_rules.protocol.name: defaultdict(list) for protocol_rules in rules
        }

    def add(self, predicted: PredictedImage) -> None:
        """Computes and stores the matrices of an image, for each protocol and each predictor."""
        for side in {rules.protocol.side for rules in self.rules}:
            same_side = [rules for rules in self.rules if rules.protocol.side == side]
            resized = predicted if side is None else predicted.resize((side, side))
            for (protocol, name), matrices in _count(resized, same_side).items():
                self._matrices[protocol][name].append(matrices)

    def matrices(self, rules: ScoringRules) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Returns the matrices of each predictor for one protocol.

        Args:
            rules: the scoring rules of the protocol.

        Returns:
            Dictionary. Key: name of a predictor. Value: two arrays of the shape
            `(num_images, num_classes, num_classes)`. The first array, int64, contains the confusion
            matrices. The second array, float64, contains the results of `probability_matrix`.
        """
        return {
            name: tuple(np.stack(part) for part in zip(*counts, strict=True))
            for name, counts in self._matrices[rules.protocol.name].items()
        }


def _count(predicted: PredictedImage, all_rules: Sequence[ScoringRules]) -> Counts:
    """Computes the matrices of one image without resizing the image.

    The image is divided into horizontal strips, which are processed in parallel.
    """

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
    """Sums the predicted probabilities over the pixels of each ground-truth class.

    In a confusion matrix, a pixel adds 1 to the column of the predicted class. In this matrix, a
    pixel adds the probability of each class to the column of the class.

    Args:
        mask: integer `(height, width)`, class ids; pixels with the label
            `lcc_tf.ground_truth.NO_TRUTH` are ignored.
        probabilities: float `(height, width, num_classes)`, in [0, 1].

    Returns:
        float64 `(num_classes, num_classes)`; row = ground truth, column = prediction.
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
