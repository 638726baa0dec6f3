"""Scores: one integer confusion matrix, pure functions of it, and Keras metrics for training.

A confusion matrix is int64 `(..., num_classes, num_classes)`: row = true class, column = predicted
class, entry = pixels. Leading dimensions, such as one for images, are kept by every function.
A score whose denominator is zero, such as the IoU of a class that is neither in the truth nor in
the prediction, is NaN and left out of means.
"""

import keras
import numpy as np
import tensorflow as tf

NO_TRUTH = -1  # the class id of pixels without truth, which losses and metrics leave out


def confusion_matrix(y_true: np.ndarray, y_pred: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts pixels by true and predicted class.

    Args:
        y_true: class ids of any shape, in `[0, num_classes)`.
        y_pred: class ids of the same shape and range.
        num_classes: number of classes.

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
    for name, ids in (("y_true", y_true), ("y_pred", y_pred)):
        if ids.size and not 0 <= ids.min() <= ids.max() < num_classes:
            raise ValueError(
                f"`{name}` must hold class ids in [0, {num_classes}). "
                f"Received: minimum={ids.min()}, maximum={ids.max()}."
            )
    pairs = y_true.astype(np.int64).ravel() * num_classes + y_pred.ravel()
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


def iou_per_class(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, tp / (tp + fp + fn), float64 `(..., num_classes)`."""
    tp, fp, fn = _counts(matrix)
    return _divide(tp, tp + fp + fn)


def mean_iou(matrix: np.ndarray) -> np.ndarray:
    """Mean of `iou_per_class` over the classes that have one, float64 `(...)`."""
    iou = iou_per_class(matrix)
    return _divide(np.nansum(iou, axis=-1), np.sum(~np.isnan(iou), axis=-1))


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


class ImagewiseScore(keras.metrics.Mean):
    """One of `micro_scores`, averaged over images while a model trains.

    It follows from each image's pixel accuracy alone (see `micro_scores`). Pixels without truth
    are left out, and so are images that have no others.

    Args:
        score: "accuracy", "f1", "precision", "recall" or "iou"; also the metric's name.
        num_classes: number of classes.
    """

    def __init__(self, score: str, num_classes: int) -> None:
        super().__init__(name=score)
        self.score = score
        self.num_classes = num_classes

    def update_state(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        """Adds a batch: class ids `(batch, height, width)` and logits `(..., num_classes)`."""
        y_true = tf.cast(y_true, tf.int64)
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
        name: of the metric.
    """

    def __init__(self, num_classes: int, name: str = "mean_iou") -> None:
        super().__init__(name=name)
        self.num_classes = num_classes
        self.matrix = self.add_weight(
            shape=(num_classes, num_classes), initializer="zeros", dtype="int64", name="matrix"
        )

    def update_state(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        """Adds a batch: class ids `(batch, height, width)` and logits `(..., num_classes)`."""
        y_true = tf.cast(y_true, tf.int64)
        size = self.num_classes**2
        pairs = y_true * self.num_classes + tf.argmax(y_pred, -1)
        pairs = tf.where(tf.equal(y_true, NO_TRUTH), tf.cast(size, tf.int64), pairs)
        # Of fixed length; what has no truth falls into a place of its own, behind the matrix.
        counts = tf.math.bincount(
            tf.reshape(tf.cast(pairs, tf.int32), [-1]), minlength=size + 1, maxlength=size + 1
        )[:size]
        self.matrix.assign_add(tf.cast(tf.reshape(counts, self.matrix.shape), tf.int64))

    def result(self) -> tf.Tensor:
        """Mean over the classes that occur in truth or prediction, float32."""
        matrix = tf.cast(self.matrix.value, tf.float64)
        tp = tf.linalg.diag_part(matrix)
        union = tf.reduce_sum(matrix, 0) + tf.reduce_sum(matrix, 1) - tp
        present = tf.cast(union > 0, tf.float64)
        iou = tf.math.divide_no_nan(tp, union)
        return tf.cast(
            tf.math.divide_no_nan(tf.reduce_sum(iou), tf.reduce_sum(present)), tf.float32
        )
