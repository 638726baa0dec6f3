"""Members, their averages and a split -> confusion matrices of each image, by protocol."""

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lcc_tf.scoring.protocols import Protocol, predicted_ids, protocol_matrix
from lcc_tf.scoring.resizing import at_side
from lcc_tf.scoring.scored_predictors import Predictors

# Scored at a time, so that the full-size probabilities of many predictors are never held at once.

STRIP_PIXELS = 2**17


class SplitCounts:
    """Collects what scores are computed of, image by image.

    Args:
        protocols: to score by.
        class_names: of the data set.
    """

    def __init__(self, protocols: Sequence[Protocol], class_names: Sequence[str]) -> None:
        self.protocols = protocols
        self.class_names = class_names
        self._matrices: dict[str, dict[str, list]] = {p.name: defaultdict(list) for p in protocols}

    def add(
        self,
        predictors: Predictors,
        own: Sequence[np.ndarray],
        image: np.ndarray,
        mask: np.ndarray,
    ) -> None:
        """Counts one image.

        Args:
            predictors: the same ones for each image.
            own: of each member's `predict`.
            image: uint8 `(height, width, 3)`, RGB, as it is in the data set.
            mask: uint8 `(height, width)`, class ids, as it is in the data set.
        """
        for side in {protocol.side for protocol in self.protocols}:
            protocols = [protocol for protocol in self.protocols if protocol.side == side]
            counts = self._count(predictors, own, *at_side(image, mask, side), protocols)
            for (protocol, name), matrices in counts.items():
                self._matrices[protocol][name].append(matrices)

    def _count(
        self,
        predictors: Predictors,
        own: Sequence[np.ndarray],
        image: np.ndarray,
        truth: np.ndarray,
        protocols: Sequence[Protocol],
    ) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
        """By protocol and predictor: the matrices of an image of the size that is scored."""

        def count_strip(rows: slice) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
            counts = {}
            for name, p in predictors.at(own, image, rows):
                sums = probability_matrix(truth[rows], p)
                for protocol in protocols:
                    ids = predicted_ids(p, protocol, self.class_names)
                    matrix = protocol_matrix(truth[rows], ids, protocol, self.class_names)
                    counts[protocol.name, name] = matrix, sums
            return counts

        height, width = truth.shape
        step = max(STRIP_PIXELS // width, 1)
        strips = [slice(i, min(i + step, height)) for i in range(0, height, step)]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            counted = list(threads.map(count_strip, strips))
        return {
            key: tuple(sum(part) for part in zip(*(counts[key] for counts in counted), strict=True))
            for key in counted[0]
        }

    def matrices(self, protocol: Protocol) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """By the predictor's name: confusion matrices and sums of probabilities of all images.

        Returns:
            int64 and float64, both `(num_images, num_classes, num_classes)`.
        """
        return {
            name: tuple(np.stack(part) for part in zip(*counts, strict=True))
            for name, counts in self._matrices[protocol.name].items()
        }


def probability_matrix(mask: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Sums of probabilities by true class (row) and class (column): a soft confusion matrix.

    Args:
        mask: class ids `(height, width)`.
        probabilities: float `(height, width, num_classes)`.

    Returns:
        float64 `(num_classes, num_classes)`.
    """
    num_classes = probabilities.shape[-1]
    sums = [
        np.bincount(mask.ravel(), probabilities[..., k].ravel(), minlength=num_classes)
        for k in range(num_classes)
    ]
    return np.stack(sums, axis=-1)
