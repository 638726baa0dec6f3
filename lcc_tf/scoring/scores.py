"""Scores of one predictor: numbers from the confusion matrices of images."""

from collections.abc import Sequence

import numpy as np

from lcc_tf.metrics import (
    cohen_kappa,
    f1_per_class,
    iou_per_class,
    micro_scores,
    pixel_accuracy,
    precision_per_class,
    recall_per_class,
    weighted_mean,
)
from lcc_tf.scoring.protocols import Protocol

DICE_BATCH = 7  # images; the original's batch, over which it takes the Dice loss
RESAMPLES = 1000  # of the bootstrap
INTERVAL = (2.5, 97.5)  # percentiles
PER_CLASS = {
    "iou": iou_per_class,
    "precision": precision_per_class,
    "recall": recall_per_class,
    "f1": f1_per_class,
}


def scores(
    protocol: Protocol,
    matrices: np.ndarray,
    probability_sums: np.ndarray,
    class_names: Sequence[str],
) -> dict:
    """All scores of one predictor by a protocol; `definitions` says what each is.

    Args:
        protocol: that the matrices were made by.
        matrices: int64 `(num_images, num_classes, num_classes)`, as `protocol_matrix` makes them.
        probability_sums: float64 of the same shape, as `probability_matrix` makes them.
        class_names: of all classes.

    Returns:
        Floats, NaN where a score is not defined; by the class's name where there is one a class.
    """
    predicted, averaged = protocol.predicted(class_names), protocol.averaged(class_names)
    ignored = protocol.ignore_class(class_names)
    if ignored is not None:
        probability_sums = probability_sums.copy()
        probability_sums[:, ignored] = 0
    matrix = matrices.sum(axis=0)
    by_image = _imagewise(matrices[:, predicted][:, :, predicted])
    # "precision", "recall" and "f1" are the names of the original's scores.
    per_class = {
        name if name == "iou" else f"class_{name}": dict(
            zip(class_names, score(matrix).tolist(), strict=True)
        )
        for name, score in PER_CLASS.items()
    }
    return {
        **{name: float(value) for name, value in pooled_scores(matrix, averaged).items()},
        **per_class,
        **{name: float(_mean(values)) for name, values in by_image.items()},
        "loss": dice_loss(matrices, probability_sums, predicted),
        "intervals": _intervals(matrices, by_image, averaged),
        "confusion_matrix": matrix.tolist(),
    }


def pooled_scores(matrix: np.ndarray, averaged: Sequence[int]) -> dict[str, np.ndarray]:
    """Scores of one confusion matrix over all images.

    Args:
        matrix: int64 `(..., num_classes, num_classes)`.
        averaged: ids of the classes that means are over.

    Returns:
        "pixel_accuracy", "cohen_kappa", and "mean_" and "frequency_weighted_" each of `PER_CLASS`;
        float64 `(...)`.
    """
    result = {"pixel_accuracy": pixel_accuracy(matrix), "cohen_kappa": cohen_kappa(matrix)}
    pixels = matrix.sum(axis=-1)[..., averaged]
    for name, score in PER_CLASS.items():
        values = score(matrix)[..., averaged]
        result[f"mean_{name}"] = weighted_mean(values, np.ones(len(averaged)))
        result[f"frequency_weighted_{name}"] = weighted_mean(values, pixels)
    return result


def _imagewise(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """The original's scores of each image, `(num_images,)`."""
    micro = micro_scores(matrices)
    return {"image_iou" if name == "iou" else name: values for name, values in micro.items()}


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is defined."""
    return weighted_mean(values, np.ones(values.shape[-1]))


def dice_loss(matrices: np.ndarray, probability_sums: np.ndarray, classes: Sequence[int]) -> float:
    """The original's loss: multi-class Dice over batches of `DICE_BATCH` images, in their order.

    For each class 1 - 2 sum(p y) / (sum(p) + sum(y)) over all pixels of a batch, 0 where the
    batch's truth lacks the class; then the mean over classes, and over images.

    Args:
        matrices: int64 `(num_images, num_classes, num_classes)`, as `protocol_matrix` makes them.
        probability_sums: float64 of the same shape, as `probability_matrix` makes them.
        classes: ids of the classes that the mean is over.
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
    matrices: np.ndarray, by_image: dict[str, np.ndarray], averaged: Sequence[int]
) -> dict[str, list[float]]:
    """95 % percentile intervals of a bootstrap over images (Efron 1979).

    Images, not pixels, are drawn anew: pixels of one image are no independent samples. The draws
    are the same for every predictor.
    """
    count = len(matrices)
    # How often each image is in each resample.
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    resampled = pooled_scores(np.tensordot(draws, matrices, axes=1), averaged)
    resampled |= {name: weighted_mean(values, draws) for name, values in by_image.items()}
    intervals = {}
    for name, values in resampled.items():
        values = values[~np.isnan(values)]
        # One image says nothing of how images differ.
        defined = count > 1 and len(values) > 0
        intervals[name] = np.percentile(values, INTERVAL).tolist() if defined else [np.nan] * 2
    return intervals
