"""Scores that are computed from the confusion matrices of all images.

A predictor is anything that predicts class probabilities: a network, an ensemble of networks or
the color baseline. The functions of this module compute the scores of one predictor.
"""

from collections.abc import Sequence

import numpy as np

from lcc_tf.confusion_matrix import (
    cohen_kappa,
    f1_per_class,
    iou_per_class,
    micro_scores,
    pixel_accuracy,
    precision_per_class,
    recall_per_class,
    weighted_mean,
)
from lcc_tf.scoring.protocols import ScoringRules

DICE_BATCH = 7  # images per Dice loss; the batch size in the original PyTorch notebooks
RESAMPLES = 1000  # number of bootstrap resamples
INTERVAL = (2.5, 97.5)  # lower and upper end of a 95 % interval, percentiles of the resamples
# Key: name of a score of a single class. Value: function that computes it from a confusion matrix.
PER_CLASS = {
    "iou": iou_per_class,
    "precision": precision_per_class,
    "recall": recall_per_class,
    "f1": f1_per_class,
}


def scores(rules: ScoringRules, matrices: np.ndarray, probability_sums: np.ndarray) -> dict:
    """Computes all scores of one predictor.

    `lcc_tf.scoring.definitions` contains a definition of each score.

    Args:
        rules: the scoring rules with which the confusion matrices were computed.
        matrices: int64 `(num_images, num_classes, num_classes)`, one confusion matrix per image.
        probability_sums: float64 `(num_images, num_classes, num_classes)`, one result of
            `lcc_tf.scoring.confusion.probability_matrix` per image.

    Returns:
        Dictionary. Key: name of a score. Value: a float, or a dictionary with one float per class
        name. An undefined score is NaN. Two keys are not scores: "intervals" contains a dictionary
        with the 95 % interval of each score, and "confusion_matrix" contains the confusion matrix
        over all images.
    """
    if rules.ignore_class is not None:
        probability_sums = probability_sums.copy()
        probability_sums[:, rules.ignore_class] = 0
    matrix = matrices.sum(axis=0)
    per_image = _scores_per_image(matrices[:, rules.predicted][:, :, rules.predicted])
    # The prefix `class_` is necessary because "precision", "recall" and "f1" are already the names
    # of scores of the original notebooks.
    per_class = {
        name if name == "iou" else f"class_{name}": dict(
            zip(rules.class_names, score(matrix).tolist(), strict=True)
        )
        for name, score in PER_CLASS.items()
    }
    return {
        **{name: float(value) for name, value in pooled_scores(matrix, rules.averaged).items()},
        **per_class,
        **{name: float(_mean(values)) for name, values in per_image.items()},
        "loss": dice_loss(matrices, probability_sums, rules.predicted),
        "intervals": _intervals(matrices, per_image, rules.averaged),
        "confusion_matrix": matrix.tolist(),
    }


def pooled_scores(matrix: np.ndarray, averaged: Sequence[int]) -> dict[str, np.ndarray]:
    """Computes the scores of a confusion matrix over all images.

    Args:
        matrix: int64 `(..., num_classes, num_classes)`.
        averaged: ids of the classes that are included in means over classes.

    Returns:
        Dictionary. Key: name of a score. Value: float64 array `(...)`. The names are
        "pixel_accuracy" and "cohen_kappa". For each key of `PER_CLASS`, the dictionary also
        contains "mean_<key>" and "frequency_weighted_<key>".
    """
    result = {"pixel_accuracy": pixel_accuracy(matrix), "cohen_kappa": cohen_kappa(matrix)}
    pixels = matrix.sum(axis=-1)[..., averaged]
    for name, score in PER_CLASS.items():
        values = score(matrix)[..., averaged]
        result[f"mean_{name}"] = weighted_mean(values, np.ones(len(averaged)))
        result[f"frequency_weighted_{name}"] = weighted_mean(values, pixels)
    return result


def _scores_per_image(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Computes the scores of the original notebooks for each image.

    Returns:
        Dictionary. Key: name of a score. Value: float64 array `(num_images,)`.
    """
    micro = micro_scores(matrices)
    return {"image_iou" if name == "iou" else name: values for name, values in micro.items()}


def _mean(values: np.ndarray) -> np.ndarray:
    """Averages the values that are not NaN, along the last axis."""
    return weighted_mean(values, np.ones(values.shape[-1]))


def dice_loss(matrices: np.ndarray, probability_sums: np.ndarray, classes: Sequence[int]) -> float:
    """Computes the loss of the original notebooks, a multi-class Dice loss.

    The loss is computed over batches of `DICE_BATCH` images. The loss of one class in one batch is
    1 - 2 sum(p y) / (sum(p) + sum(y)), where

    - p is the predicted probability of the class at a pixel;
    - y is 1 if the ground truth of the pixel is this class, otherwise 0;
    - the sums are over all pixels of the batch.

    If a class is not in the ground truth of the batch, the loss of this class is 0. The loss of a
    batch is the mean over classes. The result is the mean over batches, weighted by the number of
    images per batch.

    Args:
        matrices: int64 `(num_images, num_classes, num_classes)`, one confusion matrix per image.
        probability_sums: float64 `(num_images, num_classes, num_classes)`, one result of
            `lcc_tf.scoring.confusion.probability_matrix` per image.
        classes: ids of the classes that are included in the mean over classes.

    Returns:
        The loss, in [0, 1].
    """
    total = 0.0
    for start in range(0, len(matrices), DICE_BATCH):
        batch = slice(start, start + DICE_BATCH)
        actual = matrices[batch].sum(axis=(0, 2))[classes]
        sums = probability_sums[batch].sum(axis=0)
        size = sums.sum(axis=0)[classes] + actual
        overlap = np.diagonal(sums)[classes]
        per_class = np.where(actual > 0, 1 - 2 * overlap / np.maximum(size, 1e-7), 0)
        total += per_class.mean() * len(matrices[batch])
    return total / len(matrices)


def _intervals(
    matrices: np.ndarray, per_image: dict[str, np.ndarray], averaged: Sequence[int]
) -> dict[str, list[float]]:
    """Computes 95 % confidence intervals with a bootstrap over images (Efron 1979).

    The bootstrap resamples images, not pixels, because the pixels of an image are not independent
    samples. The random seed is fixed. Therefore the resamples are the same for all predictors.

    Returns:
        Dictionary. Key: name of a score. Value: lower and upper end of the interval.
    """
    count = len(matrices)
    # Array `(RESAMPLES, num_images)`: how many times each resample contains each image
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    resampled = pooled_scores(np.tensordot(draws, matrices, axes=1), averaged)
    resampled |= {name: weighted_mean(values, draws) for name, values in per_image.items()}
    intervals = {}
    for name, values in resampled.items():
        values = values[~np.isnan(values)]
        # With a single image, all resamples are equal. Therefore the interval is undefined.
        defined = count > 1 and len(values) > 0
        intervals[name] = np.percentile(values, INTERVAL).tolist() if defined else [np.nan] * 2
    return intervals
