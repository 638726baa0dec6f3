"""Scores of one predictor, from the confusion matrices of all images."""

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

DICE_BATCH = 7  # images per Dice loss; the original's batch size
RESAMPLES = 1000  # number of bootstrap resamples
INTERVAL = (2.5, 97.5)  # percentiles
PER_CLASS = {
    "iou": iou_per_class,
    "precision": precision_per_class,
    "recall": recall_per_class,
    "f1": f1_per_class,
}


def scores(rules: ScoringRules, matrices: np.ndarray, probability_sums: np.ndarray) -> dict:
    """Computes all scores of one predictor; `lcc_tf.scoring.definitions` defines each score.

    Args:
        rules: the rules of the confusion matrices.
        matrices: int64 `(num_images, num_classes, num_classes)`, confusion matrices.
        probability_sums: float64 `(num_images, num_classes, num_classes)`, results of
            `lcc_tf.scoring.confusion.probability_matrix`.

    Returns:
        Scores by name: a float, or a dictionary with one float per class name. An undefined score
        is NaN.
    """
    if rules.ignore_class is not None:
        probability_sums = probability_sums.copy()
        probability_sums[:, rules.ignore_class] = 0
    matrix = matrices.sum(axis=0)
    per_image = _scores_per_image(matrices[:, rules.predicted][:, :, rules.predicted])
    # Without the prefix, "precision", "recall" and "f1" are scores of the original.
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
        averaged: ids of the classes that means include.

    Returns:
        float64 `(...)` by name: "pixel_accuracy", "cohen_kappa", and "mean_<name>" and
        "frequency_weighted_<name>" for each key of `PER_CLASS`.
    """
    result = {"pixel_accuracy": pixel_accuracy(matrix), "cohen_kappa": cohen_kappa(matrix)}
    pixels = matrix.sum(axis=-1)[..., averaged]
    for name, score in PER_CLASS.items():
        values = score(matrix)[..., averaged]
        result[f"mean_{name}"] = weighted_mean(values, np.ones(len(averaged)))
        result[f"frequency_weighted_{name}"] = weighted_mean(values, pixels)
    return result


def _scores_per_image(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Computes the original's scores of each image, float64 `(num_images,)` by name."""
    micro = micro_scores(matrices)
    return {"image_iou" if name == "iou" else name: values for name, values in micro.items()}


def _mean(values: np.ndarray) -> np.ndarray:
    """Averages the defined values along the last axis."""
    return weighted_mean(values, np.ones(values.shape[-1]))


def dice_loss(matrices: np.ndarray, probability_sums: np.ndarray, classes: Sequence[int]) -> float:
    """Computes the original's loss: multi-class Dice over batches of `DICE_BATCH` images.

    The loss of a class is 1 - 2 sum(p y) / (sum(p) + sum(y)) over all pixels of a batch. It is 0
    for a class that is not in the batch's ground truth. The result is the mean over classes, then
    over images.

    Args:
        matrices: int64 `(num_images, num_classes, num_classes)`, confusion matrices.
        probability_sums: float64 `(num_images, num_classes, num_classes)`, results of
            `lcc_tf.scoring.confusion.probability_matrix`.
        classes: ids of the classes that the mean includes.

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
    """Computes 95 % percentile intervals of a bootstrap over images (Efron 1979).

    Images are drawn instead of pixels, since the pixels of an image are not independent samples.
    The draws are the same for all predictors.
    """
    count = len(matrices)
    # (resamples, images): how often a resample contains an image
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    resampled = pooled_scores(np.tensordot(draws, matrices, axes=1), averaged)
    resampled |= {name: weighted_mean(values, draws) for name, values in per_image.items()}
    intervals = {}
    for name, values in resampled.items():
        values = values[~np.isnan(values)]
        # A single image shows no differences between images.
        defined = count > 1 and len(values) > 0
        intervals[name] = np.percentile(values, INTERVAL).tolist() if defined else [np.nan] * 2
    return intervals
