"""Scores: one integer confusion matrix, pure functions of it, and Keras metrics for training.

A confusion matrix is int64 `(..., num_classes, num_classes)`: row = true class, column = predicted
class, entry = pixels. Leading dimensions, such as one for images, are kept by every function.
A score whose denominator is zero, such as the IoU of a class that is neither in the truth nor in
the prediction, is NaN and left out of means.
"""

import numpy as np
import tensorflow as tf

from lcc_tf.keras_backend import keras

NO_TRUTH = -1  # the class id of pixels without truth, which losses and metrics leave out


def confusion_matrix(
    y_true: np.ndarray, y_pred: np.ndarray, num_classes: int, *, ignore_class: int | None = None
) -> np.ndarray:
    """Counts pixels by true and predicted class; those whose truth is `NO_TRUTH` are left out.

    Args:
        y_true: class ids of any shape, in `[0, num_classes)` or `NO_TRUTH`.
        y_pred: class ids of the same shape, in `[0, num_classes)`.
        num_classes: number of classes.
        ignore_class: a class whose true pixels are left out too; None for none.

    Returns:
        int64 `(num_classes, num_classes)`.

    Raises:
        ValueError: shapes differ, or an id is out of range.
    """
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    if y_true.shape != y_pred.shape:
        raise ValueError(
            "`y_true` and `y_pred` must have the same shape. "
            f"Received: y_true.shape={y_true.shape}, y_pred.shape={y_pred.shape}."
        )
    for name, ids, lowest in (("y_true", y_true, NO_TRUTH), ("y_pred", y_pred, 0)):
        if ids.size and not lowest <= ids.min() <= ids.max() < num_classes:
            raise ValueError(
                f"`{name}` must hold class ids in [{lowest}, {num_classes}). "
                f"Received: minimum={ids.min()}, maximum={ids.max()}."
            )
    pairs = y_true.astype(np.int64) * num_classes + y_pred
    ignored = NO_TRUTH if ignore_class is None else ignore_class
    counted = (y_true != NO_TRUTH) & (y_true != ignored)
    return np.bincount(pairs[counted], minlength=num_classes**2).reshape(num_classes, num_classes)


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


def _without(y_true: tf.Tensor, ignore_class: int | None) -> tf.Tensor:
    """Class ids as int64, those of `ignore_class` turned into `NO_TRUTH`."""
    y_true = tf.cast(y_true, tf.int64)
    if ignore_class is None:
        return y_true
    return tf.where(tf.equal(y_true, ignore_class), tf.cast(NO_TRUTH, tf.int64), y_true)


class ImagewiseScore(keras.metrics.Mean):
    """One of `micro_scores`, averaged over images while a model trains.

    It follows from each image's pixel accuracy alone (see `micro_scores`). Pixels without truth
    are left out, and so are images that have no others.

    Args:
        score: "accuracy", "f1", "precision", "recall" or "iou"; also the metric's name.
        num_classes: number of classes.
        ignore_class: a class whose true pixels are left out, like those without truth; None for
            none.
    """

    def __init__(self, score: str, num_classes: int, ignore_class: int | None = None) -> None:
        super().__init__(name=score)
        self.score = score
        self.num_classes = num_classes
        self.ignore_class = ignore_class

    def update_state(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        """Adds a batch: class ids `(batch, height, width)` and logits `(..., num_classes)`."""
        y_true = _without(y_true, self.ignore_class)
        hits = tf.cast(tf.equal(tf.argmax(y_pred, -1), y_true), tf.float32)
        pixels = tf.reduce_sum(tf.cast(tf.not_equal(y_true, NO_TRUTH), tf.float32), axis=(1, 2))
        right = tf.math.divide_no_nan(tf.reduce_sum(hits, axis=(1, 2)), pixels)
        if self.score == "accuracy":
            right = 1 - 2 * (1 - right) / self.num_classes
        elif self.score == "iou":
            right = right / (2 - right)
        super().update_state(right, sample_weight=tf.cast(pixels > 0, tf.float32))


class MeanIoU(keras.metrics.Metric):
    """Mean IoU of one confusion matrix over all images while a model trains.

    `keras.metrics.MeanIoU` counts in float32, which is exact up to 2^24 pixels a cell, no more
    than 64 images of 512x512; this one counts in int64.

    Args:
        num_classes: number of classes.
        ignore_class: a class whose true pixels are left out, like those without truth, and which
            the mean is not over; None for none.
        name: of the metric.
    """

    def __init__(
        self, num_classes: int, ignore_class: int | None = None, name: str = "mean_iou"
    ) -> None:
        super().__init__(name=name)
        self.num_classes = num_classes
        self.ignore_class = ignore_class
        self.matrix = self.add_weight(
            shape=(num_classes, num_classes), initializer="zeros", dtype="int64", name="matrix"
        )

    def update_state(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        """Adds a batch: class ids `(batch, height, width)` and logits `(..., num_classes)`."""
        y_true = _without(y_true, self.ignore_class)
        size = self.num_classes**2
        pairs = y_true * self.num_classes + tf.argmax(y_pred, -1)
        pairs = tf.where(tf.equal(y_true, NO_TRUTH), tf.cast(size, tf.int64), pairs)
        # Pixels without truth are counted behind the matrix. Not `tf.math.bincount`: XLA, with
        # which Keras compiles the steps on a single GPU, does not compile it.
        ids = tf.reshape(tf.cast(pairs, tf.int32), [-1])
        counts = tf.math.unsorted_segment_sum(tf.ones_like(ids), ids, size + 1)[:size]
        self.matrix.assign_add(tf.cast(tf.reshape(counts, self.matrix.shape), tf.int64))

    def result(self) -> tf.Tensor:
        """Mean over the classes that occur in truth or prediction, float32."""
        matrix = tf.cast(self.matrix.value, tf.float64)
        tp = tf.linalg.diag_part(matrix)
        union = tf.reduce_sum(matrix, 0) + tf.reduce_sum(matrix, 1) - tp
        present = tf.cast(union > 0, tf.float64)
        if self.ignore_class is not None:  # predicted in place of another, it would count as 0
            present *= 1 - tf.one_hot(self.ignore_class, self.num_classes, dtype=tf.float64)
        iou = tf.math.divide_no_nan(tp, union)
        return tf.cast(
            tf.math.divide_no_nan(tf.reduce_sum(iou * present), tf.reduce_sum(present)), tf.float32
        )
