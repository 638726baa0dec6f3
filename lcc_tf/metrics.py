"""Keras metrics for segmentation, and the scores of a confusion matrix."""

import tensorflow as tf

from lcc_tf.confusion_matrix import (
    cohen_kappa,
    confusion_matrix,
    f1_per_class,
    iou_per_class,
    micro_scores,
    pixel_accuracy,
    precision_per_class,
    recall_per_class,
    weighted_mean,
)
from lcc_tf.errors import InputError
from lcc_tf.ground_truth import NO_TRUTH, image_weights, read_ground_truth
from lcc_tf.keras_backend import keras

__all__ = [
    "ImagewiseScore",
    "MeanIoU",
    "PixelAccuracy",
    "cohen_kappa",
    "confusion_matrix",
    "f1_per_class",
    "iou_per_class",
    "micro_scores",
    "pixel_accuracy",
    "precision_per_class",
    "recall_per_class",
    "weighted_mean",
]

MICRO_SCORES = ("accuracy", "f1", "precision", "recall", "iou")  # see `micro_scores`


class _ConfusionMatrixMetric(keras.metrics.Metric):
    """Adds up one confusion matrix over all batches, in float64.

    Counts are exact up to 2^53 pixels per entry. `keras.metrics.MeanIoU` counts in float32, which
    is exact up to 2^24 pixels, no more than 64 images of 512x512.
    """

    default_name: str  # of the metric; set by subclasses

    def __init__(
        self,
        num_classes: int,
        ignore_class: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name or self.default_name, dtype=dtype)
        self.num_classes = num_classes
        self.ignore_class = ignore_class
        # A private name of Keras. Without it, `EarlyStopping` and `ModelCheckpoint` in mode "auto"
        # refuse to monitor the metric.
        self._direction = "up"
        self.matrix = self.add_weight(
            shape=(num_classes, num_classes), initializer="zeros", dtype="float64", name="matrix"
        )

    def update_state(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        """Adds a batch.

        Args:
            y_true: class ids `(batch, height, width)` or `(batch, height, width, 1)`.
            y_pred: logits or probabilities `(batch, height, width, num_classes)`.
            sample_weight: how often a pixel counts; `(batch,)`, `(batch, height, width)` or
                `(batch, height, width, 1)`; None for once. Keras passes it on to
                `weighted_metrics` of `compile` only.

        Raises:
            InputError: a shape does not fit.
            tf.errors.InvalidArgumentError: a label that is no class and not left out. XLA drops
                this check; the result is NaN as well.
        """
        _check_num_classes(y_pred, self.num_classes)
        truth = read_ground_truth(
            y_true,
            y_pred,
            ignore_class=self.ignore_class,
            sample_weight=sample_weight,
            weight_dtype="float64",
        )
        size = self.num_classes**2
        pairs = truth.class_ids * self.num_classes + tf.argmax(y_pred, -1, tf.int32)
        pairs = tf.where(tf.equal(truth.class_ids, NO_TRUTH), size, pairs)
        ids = tf.reshape(pairs, [-1])
        counts = tf.ones_like(ids) if truth.weights is None else tf.reshape(truth.weights, [-1])
        # Pixels that are left out are counted behind the matrix. Not `tf.math.bincount`: XLA, with
        # which Keras compiles the steps on a single GPU, does not compile it.
        counts = tf.math.unsorted_segment_sum(counts, ids, size + 1)[:size]
        counts = tf.cast(tf.reshape(counts, self.matrix.shape), tf.float64)
        nan = tf.constant(float("nan"), tf.float64)
        self.matrix.assign_add(tf.where(tf.reduce_all(truth.is_valid), counts, nan))

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        config = {"num_classes": self.num_classes, "ignore_class": self.ignore_class}
        return super().get_config() | config


@keras.saving.register_keras_serializable("lcc_tf")
class MeanIoU(_ConfusionMatrixMetric):
    """Mean IoU of one confusion matrix over all images while a model trains.

    The mean is over the classes that occur in the masks or in the predictions.

    Args:
        num_classes: number of classes.
        ignore_class: a label whose pixels are left out, such as 255. Inside the classes it is also
            left out of the mean. None for no such label; -1 is always left out.
        name: name of the metric; None for `mean_iou`.
        dtype: dtype of the result; None for `keras.config.floatx()`.

    Example:
        Four pixels, the last one void. Class 0: 1 of 2 pixels that are or were predicted class 0;
        class 1: 1 of 2.

        >>> metric = MeanIoU(num_classes=2, ignore_class=255)
        >>> metric.update_state(np.array([[[0, 1, 1, 255]]]), tf.one_hot([[[0, 1, 0, 0]]], 2))
        >>> print(float(metric.result()))
        0.5
    """

    default_name = "mean_iou"

    def result(self) -> tf.Tensor:
        """Returns the mean over the classes that occur in masks or predictions, 0 without any."""
        matrix = tf.convert_to_tensor(self.matrix)
        tp = tf.linalg.diag_part(matrix)
        union = tf.reduce_sum(matrix, 0) + tf.reduce_sum(matrix, 1) - tp
        present = tf.cast(tf.not_equal(union, 0), tf.float64)  # also where it is NaN
        if self.ignore_class is not None:  # predicted in place of another, it would count as 0
            present *= 1 - tf.one_hot(self.ignore_class, self.num_classes, dtype=tf.float64)
        iou = tf.math.divide_no_nan(tp, union)
        mean = tf.math.divide_no_nan(tf.reduce_sum(iou * present), tf.reduce_sum(present))
        return tf.cast(mean, self.dtype)


@keras.saving.register_keras_serializable("lcc_tf")
class PixelAccuracy(_ConfusionMatrixMetric):
    """Fraction of pixels whose class is right, over all images, while a model trains.

    Args:
        num_classes: number of classes.
        ignore_class: a label whose pixels are left out; None for no such label.
        name: name of the metric; None for `pixel_accuracy`.
        dtype: dtype of the result; None for `keras.config.floatx()`.

    Example:
        >>> metric = PixelAccuracy(num_classes=2, ignore_class=255)
        >>> metric.update_state(np.array([[[0, 1, 1, 255]]]), tf.one_hot([[[0, 1, 0, 0]]], 2))
        >>> print(f"{float(metric.result()):.4f}")
        0.6667
    """

    default_name = "pixel_accuracy"

    def result(self) -> tf.Tensor:
        """Returns the fraction, 0 without any pixels."""
        matrix = tf.convert_to_tensor(self.matrix)
        return tf.cast(
            tf.math.divide_no_nan(tf.linalg.trace(matrix), tf.reduce_sum(matrix)), self.dtype
        )


@keras.saving.register_keras_serializable("lcc_tf")
class ImagewiseScore(keras.metrics.Mean):
    """One of `micro_scores`, averaged over images while a model trains.

    It follows from each image's pixel accuracy alone (see `micro_scores`). Images of which every
    pixel is left out are left out.

    Args:
        score: "accuracy", "f1", "precision", "recall" or "iou".
        num_classes: number of classes.
        ignore_class: a label whose pixels are left out; None for no such label.
        name: name of the metric; None for `score`.
        dtype: dtype of the result; None for `keras.config.floatx()`.

    Raises:
        InputError: unknown score.

    Example:
        Two images of two pixels, with two and one right:

        >>> metric = ImagewiseScore("f1", num_classes=2)
        >>> metric.update_state(np.array([[[0, 1]], [[0, 1]]]), tf.one_hot([[[0, 1]], [[0, 0]]], 2))
        >>> print(float(metric.result()))
        0.75
    """

    def __init__(
        self,
        score: str,
        num_classes: int,
        ignore_class: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        if score not in MICRO_SCORES:
            raise InputError(f"Unknown score. Received: {score!r}. Use one of {MICRO_SCORES}.")
        super().__init__(name=name or score, dtype=dtype)
        self.score = score
        self.num_classes = num_classes
        self.ignore_class = ignore_class
        self._direction = "up"  # see `_ConfusionMatrixMetric`

    def update_state(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        """Adds a batch.

        Args:
            y_true: class ids `(batch, height, width)` or `(batch, height, width, 1)`.
            y_pred: logits or probabilities `(batch, height, width, num_classes)`.
            sample_weight: `(batch,)`, `(batch, height, width)` or `(batch, height, width, 1)`; None
                for equal weights. An image's accuracy weighs its pixels; its weight in the mean
                over images is the mean of its pixels' positive weights. Keras passes it on to
                `weighted_metrics` of `compile` only.

        Raises:
            InputError: a shape does not fit.
            tf.errors.InvalidArgumentError: a label that is no class and not left out. XLA drops
                this check; the result is NaN as well.
        """
        _check_num_classes(y_pred, self.num_classes)
        truth = read_ground_truth(
            y_true, y_pred, ignore_class=self.ignore_class, sample_weight=sample_weight
        )
        weights = truth.weights
        if weights is None:
            weights = tf.cast(tf.not_equal(truth.class_ids, NO_TRUTH), tf.float32)
        hits = tf.cast(tf.equal(tf.argmax(y_pred, -1, tf.int32), truth.class_ids), tf.float32)
        right = tf.math.divide_no_nan(
            tf.reduce_sum(weights * hits, axis=(1, 2)), tf.reduce_sum(weights, axis=(1, 2))
        )
        if self.score == "accuracy":
            right = 1 - 2 * (1 - right) / self.num_classes
        elif self.score == "iou":
            right = right / (2 - right)
        right = tf.where(truth.is_valid, right, float("nan"))
        super().update_state(right, sample_weight=image_weights(weights))

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "score": self.score,
            "num_classes": self.num_classes,
            "ignore_class": self.ignore_class,
        }


def _check_num_classes(y_pred: tf.Tensor, num_classes: int) -> None:
    if y_pred.shape[-1] != num_classes:
        raise InputError(
            "`num_classes` of a metric must be the number of the model's outputs per pixel. "
            f"Received: num_classes={num_classes}, with predictions of shape "
            f"{tuple(y_pred.shape)}."
        )
