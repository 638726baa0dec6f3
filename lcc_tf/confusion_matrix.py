"""Confusion matrix of class ids, and the scores that follow from it, in numpy.

A confusion matrix is int64 `(..., num_classes, num_classes)`: row = true class, column = predicted
class, entry = pixels. Leading dimensions, such as one for images, are kept by every function.
A score whose denominator is zero, such as the IoU of a class that is neither in the truth nor in
the prediction, is NaN and left out of means.
"""

import numpy as np

from lcc_tf.errors import InputError
from lcc_tf.ground_truth import NO_TRUTH


def confusion_matrix(
    y_true: np.ndarray, y_pred: np.ndarray, num_classes: int, *, ignore_class: int | None = None
) -> np.ndarray:
    """Counts pixels by true and predicted class; those whose truth is `NO_TRUTH` are left out.

    Args:
        y_true: class ids of any shape, in `[0, num_classes)`, `NO_TRUTH` or `ignore_class`.
        y_pred: class ids of the same shape, in `[0, num_classes)`.
        num_classes: number of classes.
        ignore_class: a label, inside or outside the classes, whose true pixels are left out too;
            None for no such label.

    Returns:
        int64 `(num_classes, num_classes)`.

    Raises:
        InputError: shapes differ, or an id is out of range.

    Example:
        >>> confusion_matrix(np.array([0, 1, 1, 255]), np.array([0, 1, 0, 0]), 2, ignore_class=255)
        array([[1, 0],
               [1, 1]])
    """
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    if y_true.shape != y_pred.shape:
        raise InputError(
            "`y_true` and `y_pred` must have the same shape. "
            f"Received: y_true.shape={y_true.shape}, y_pred.shape={y_pred.shape}."
        )
    ignored = NO_TRUTH if ignore_class is None else ignore_class
    counted = (y_true != NO_TRUTH) & (y_true != ignored)
    for name, ids in (("y_true", y_true[counted]), ("y_pred", y_pred)):
        if ids.size and not 0 <= ids.min() <= ids.max() < num_classes:
            raise InputError(
                f"`{name}` must hold class ids in [0, {num_classes}). "
                f"Received: minimum={ids.min()}, maximum={ids.max()}."
            )
    pairs = y_true[counted].astype(np.int64) * num_classes + y_pred[counted]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Float64 quotient; NaN where the denominator is zero."""
    nothing = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=nothing, where=np.asarray(denominator) != 0)


def _counts(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives, false positives and false negatives of each class, int64."""
    tp = np.diagonal(matrix, axis1=-2, axis2=-1)
    return tp, matrix.sum(axis=-2) - tp, matrix.sum(axis=-1) - tp


def pixel_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Share of pixels whose class is right, float64 `(...)`."""
    return _divide(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum(axis=(-2, -1)))


def cohen_kappa(matrix: np.ndarray) -> np.ndarray:
    """Agreement beyond that of chance, float64 `(...)`.

    (p - e) / (1 - e), where p is the pixel accuracy and e the accuracy of a random map with the
    prediction's class shares (Cohen 1960, https://doi.org/10.1177/001316446002000104).
    """
    shares = _divide(matrix, matrix.sum(axis=(-2, -1), keepdims=True))
    by_chance = (shares.sum(axis=-1) * shares.sum(axis=-2)).sum(axis=-1)
    return _divide(np.trace(shares, axis1=-2, axis2=-1) - by_chance, 1 - by_chance)


def iou_per_class(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, tp / (tp + fp + fn), float64 `(..., num_classes)`."""
    tp, fp, fn = _counts(matrix)
    return _divide(tp, tp + fp + fn)


def precision_per_class(matrix: np.ndarray) -> np.ndarray:
    """Share of a predicted class that is right, tp / (tp + fp), float64 `(..., num_classes)`."""
    tp, fp, _ = _counts(matrix)
    return _divide(tp, tp + fp)


def recall_per_class(matrix: np.ndarray) -> np.ndarray:
    """Share of a true class that is found, tp / (tp + fn), float64 `(..., num_classes)`."""
    tp, _, fn = _counts(matrix)
    return _divide(tp, tp + fn)


def f1_per_class(matrix: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall, 2 tp / (2 tp + fp + fn), float64 `(..., classes)`."""
    tp, fp, fn = _counts(matrix)
    return _divide(2 * tp, 2 * tp + fp + fn)


def weighted_mean(per_class: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over the classes whose score is defined, that is not NaN.

    Args:
        per_class: float64 `(..., num_classes)`.
        weights: of the classes, of the same shape or one that broadcasts to it: ones for the macro
            mean, each class's true pixels for the frequency-weighted one.

    Returns:
        float64 `(...)`; NaN where no class with a weight has a score.
    """
    weights = np.where(np.isnan(per_class), 0, weights)
    return _divide(np.nansum(per_class * weights, axis=-1), weights.sum(axis=-1))


def micro_scores(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """The original's scores: the counts of all classes are pooled, then divided.

    With one label a pixel, each wrong pixel is one false positive and one false negative, so
    precision, recall and F1 all equal the pixel accuracy. The accuracy also counts the true
    negatives of `num_classes` one-versus-rest problems, which makes it
    1 - 2 (1 - pixel accuracy) / num_classes.

    Args:
        matrix: int64 `(..., num_classes, num_classes)`.

    Returns:
        "accuracy", "f1", "precision", "recall" and "iou", each float64 `(...)`.
    """
    tp, fp, fn = (count.sum(axis=-1) for count in _counts(matrix))
    all_labels = matrix.sum(axis=(-2, -1)) * matrix.shape[-1]
    return {
        "accuracy": _divide(all_labels - fp - fn, all_labels),
        "f1": _divide(2 * tp, 2 * tp + fp + fn),
        "precision": _divide(tp, tp + fp),
        "recall": _divide(tp, tp + fn),
        "iou": _divide(tp, tp + fp + fn),
    }
