"""Confusion matrix of class ids, and scores of a confusion matrix, in numpy.

A confusion matrix is int64 `(..., num_classes, num_classes)`. A row is a true class, a column is a
predicted class, and an entry is a number of pixels. A matrix can have leading dimensions, such as a
dimension of images. The scores of such a matrix have the same leading dimensions.

In the formulas, tp, fp and fn are the numbers of true positive, false positive and false negative
pixels of a class.

If the denominator of a score is 0, the score is NaN, and averages ignore this score. For example,
the IoU of a class is NaN if neither ground truth nor prediction contain the class.
"""

import numpy as np

from lcc_tf.errors import InputError
from lcc_tf.ground_truth import NO_TRUTH


def confusion_matrix(
    y_true: np.ndarray, y_pred: np.ndarray, num_classes: int, *, ignore_class: int | None = None
) -> np.ndarray:
    """Counts pixels per true and predicted class.

    Args:
        y_true: class ids of any shape, in `[0, num_classes)`. Pixels with the label `NO_TRUTH` (-1)
            or `ignore_class` are not counted.
        y_pred: class ids of the same shape, in `[0, num_classes)`.
        num_classes: number of classes.
        ignore_class: label of pixels that are not counted. The label can be a class id or another
            number. None if no pixel is void.

    Returns:
        int64 `(num_classes, num_classes)`.

    Raises:
        InputError: the shapes differ, or a class id is out of range or not a whole number.

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
        if ids.dtype.kind not in "biuf" or (ids.dtype.kind == "f" and (ids % 1 != 0).any()):
            raise InputError(
                f"`{name}` must contain class ids, which are whole numbers. "
                f"Received: other values of the type {ids.dtype}."
            )
        if ids.size and not 0 <= ids.min() <= ids.max() < num_classes:
            raise InputError(
                f"`{name}` must contain class ids in [0, {num_classes}). "
                f"Received: minimum={ids.min()}, maximum={ids.max()}."
            )
    pairs = y_true[counted].astype(np.int64) * num_classes + y_pred[counted].astype(np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def pixel_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Computes the fraction of pixels with the right class, float64 `(...)`.

    Example:
        >>> print(pixel_accuracy(np.array([[1, 0], [1, 2]])))
        0.75
    """
    return _divide(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum(axis=(-2, -1)))


def cohen_kappa(matrix: np.ndarray) -> np.ndarray:
    """Computes Cohen's kappa, the agreement beyond chance, float64 `(...)`.

    Kappa is (p - e) / (1 - e). p is the pixel accuracy. e is the pixel accuracy of a random map
    with the same class fractions as the prediction (Cohen 1960,
    https://doi.org/10.1177/001316446002000104).

    Example:
        >>> print(cohen_kappa(np.array([[2, 0], [1, 1]])))  # p = 3/4, e = 1/2
        0.5
    """
    fractions = _divide(matrix, matrix.sum(axis=(-2, -1), keepdims=True))
    by_chance = (fractions.sum(axis=-1) * fractions.sum(axis=-2)).sum(axis=-1)
    return _divide(np.trace(fractions, axis1=-2, axis2=-1) - by_chance, 1 - by_chance)


def iou_per_class(matrix: np.ndarray) -> np.ndarray:
    """Computes the intersection over union of each class, float64 `(..., num_classes)`.

    The IoU is tp / (tp + fp + fn).

    Example:
        >>> iou_per_class(np.array([[1, 0], [1, 2]]))
        array([0.5       , 0.66666667])
    """
    tp, fp, fn = _counts(matrix)
    return _divide(tp, tp + fp + fn)


def precision_per_class(matrix: np.ndarray) -> np.ndarray:
    """Computes the precision of each class, float64 `(..., num_classes)`.

    Precision is tp / (tp + fp): the fraction of right pixels among the pixels predicted as the
    class.

    Example:
        >>> precision_per_class(np.array([[1, 0], [1, 2]]))
        array([0.5, 1. ])
    """
    tp, fp, _ = _counts(matrix)
    return _divide(tp, tp + fp)


def recall_per_class(matrix: np.ndarray) -> np.ndarray:
    """Computes the recall of each class, float64 `(..., num_classes)`.

    Recall is tp / (tp + fn): the fraction of right pixels among the true pixels of the class.

    Example:
        >>> recall_per_class(np.array([[1, 0], [1, 2]]))
        array([1.        , 0.66666667])
    """
    tp, _, fn = _counts(matrix)
    return _divide(tp, tp + fn)


def f1_per_class(matrix: np.ndarray) -> np.ndarray:
    """Computes the F1 of each class, float64 `(..., num_classes)`.

    F1 is 2 tp / (2 tp + fp + fn), the harmonic mean of precision and recall.

    Example:
        >>> f1_per_class(np.array([[1, 0], [1, 2]]))
        array([0.66666667, 0.8       ])
    """
    tp, fp, fn = _counts(matrix)
    return _divide(2 * tp, 2 * tp + fp + fn)


def weighted_mean(per_class: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Averages scores over the classes whose score is not NaN.

    Args:
        per_class: float64 `(..., num_classes)`.
        weights: weights of the classes, in a shape that broadcasts to the shape of `per_class`.
            If all weights are 1, the result is the macro mean. If the weights are the numbers of
            true pixels per class, the result is the frequency-weighted mean.

    Returns:
        float64 `(...)`; NaN if all classes with a weight above 0 have the score NaN.

    Example:
        >>> print(weighted_mean(np.array([0.5, np.nan, 1.0]), np.ones(3)))
        0.75
    """
    weights = np.where(np.isnan(per_class), 0, weights)
    return _divide(np.nansum(per_class * weights, axis=-1), weights.sum(axis=-1))


def micro_scores(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Computes micro scores: sums tp, fp and fn over the classes, then divides.

    These are the scores of the original PyTorch notebooks. Each pixel has one label. A wrong pixel
    is therefore a false positive of one class and a false negative of another class. As a result,
    precision, recall and F1 equal the pixel accuracy. The accuracy also counts true negatives. A
    pixel is a true negative of a class if neither ground truth nor prediction is this class. The
    accuracy equals 1 - 2 (1 - pixel accuracy) / num_classes.

    Args:
        matrix: int64 `(..., num_classes, num_classes)`.

    Returns:
        Dictionary with the keys "accuracy", "f1", "precision", "recall" and "iou". Each value is
        float64 `(...)`.

    Example:
        >>> scores = micro_scores(np.array([[1, 0], [1, 2]]))
        >>> {name: float(score) for name, score in scores.items()}
        {'accuracy': 0.75, 'f1': 0.75, 'precision': 0.75, 'recall': 0.75, 'iou': 0.6}
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


def _counts(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns true positives, false positives and false negatives per class, int64."""
    tp = np.diagonal(matrix, axis1=-2, axis2=-1)
    return tp, matrix.sum(axis=-2) - tp, matrix.sum(axis=-1) - tp


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divides in float64; the quotient is NaN if the denominator is 0."""
    nan = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=nan, where=np.asarray(denominator) != 0)
