"""Metrics for segmentation: Keras classes, and functions of a confusion matrix."""

import tensorflow as tf

from lcc_tf.arguments import check_ignore_class, check_num_classes
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
    """Base class of metrics that sum the confusion matrices of all batches, in float64.

    Counts in float64 are exact up to 2^53 pixels per entry. `keras.metrics.MeanIoU` counts in
    float32, which is exact up to 2^24 pixels: 64 images of 512x512.
    """

    default_name: str  # name of the metric, which subclasses set

    def __init__(
        self,
        num_classes: int,
        ignore_class: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name or self.default_name, dtype=dtype)
        self.num_classes = check_num_classes(num_classes)
        self.ignore_class = check_ignore_class(ignore_class)
        # `_direction` is a private name of Keras. Without it, `EarlyStopping` and `ModelCheckpoint`
        # cannot monitor the metric in mode "auto".
        self._direction = "up"
        self.matrix = self.add_weight(
            shape=2 * (self.num_classes,), initializer="zeros", dtype="float64", name="matrix"
        )

    def update_state(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        """Adds a batch.

        Args:
            y_true: class ids, any integer or floating dtype, `(batch, height, width)` or
                `(batch, height, width, 1)`.
            y_pred: float logits or probabilities `(batch, height, width, num_classes)`.
            sample_weight: number of times that a pixel is counted, float, not negative, `(batch,)`,
                `(batch, height, width)` or `(batch, height, width, 1)`. None to count each pixel
                once. Keras passes sample weights only to metrics in the argument
                `weighted_metrics` of `compile`.

        Raises:
            InputError: a shape is wrong.
            tf.errors.InvalidArgumentError: a label is neither a class id nor void. XLA drops this
                check. With XLA, such a label makes the result NaN. NaN in `y_pred` also makes the
                result NaN.
        """
        _check_output_channels(y_pred, self.num_classes)
        truth = read_ground_truth(
            y_true,
            y_pred,
            ignore_class=self.ignore_class,
            sample_weight=sample_weight,
            weight_dtype="float64",
        )
        size = self.num_classes**2
        pairs = truth.class_ids * self.num_classes + tf.argmax(y_pred, -1, tf.int32)
        # Void pixels are counted in an extra entry, which is dropped.
        pairs = tf.where(tf.equal(truth.class_ids, NO_TRUTH), size, pairs)
        ids = tf.reshape(pairs, [-1])
        counts = tf.ones_like(ids) if truth.weights is None else tf.reshape(truth.weights, [-1])
        # Keras compiles steps with XLA on a single GPU, and XLA cannot compile `tf.math.bincount`.
        counts = tf.math.unsorted_segment_sum(counts, ids, size + 1)[:size]
        counts = tf.cast(tf.reshape(counts, self.matrix.shape), tf.float64)
        nan = tf.constant(float("nan"), tf.float64)
        is_valid = tf.reduce_all(truth.is_valid) & tf.reduce_all(_is_number(y_pred))
        self.matrix.assign_add(tf.where(is_valid, counts, nan))

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        config = {"num_classes": self.num_classes, "ignore_class": self.ignore_class}
        return super().get_config() | config


@keras.saving.register_keras_serializable("lcc_tf")
class MeanIoU(_ConfusionMatrixMetric):
    """Mean IoU of the classes, from one confusion matrix over all images.

    The mean includes only classes that occur in the masks or in the predictions.

    Args:
        num_classes: number of classes, 2 or more.
        ignore_class: label of void pixels, such as 255; None for no label. If the label is a class
            id, the mean also excludes this class. Pixels with the label -1 are always void.
        name: name of the metric; None for "mean_iou".
        dtype: dtype of the result; None for `keras.config.floatx()`.

    Raises:
        InputError: `num_classes` or `ignore_class` is invalid.

    Example:
        The last of four pixels is void. For each class, the intersection of mask and prediction has
        1 pixel and the union has 2 pixels:

        >>> metric = MeanIoU(num_classes=2, ignore_class=255)
        >>> metric.update_state(np.array([[[0, 1, 1, 255]]]), tf.one_hot([[[0, 1, 0, 0]]], 2))
        >>> print(float(metric.result()))
        0.5
    """

    default_name = "mean_iou"

    def result(self) -> tf.Tensor:
        """Computes the mean, in [0, 1]; 0 if no class occurs."""
        matrix = tf.convert_to_tensor(self.matrix)
        tp = tf.linalg.diag_part(matrix)
        union = tf.reduce_sum(matrix, 0) + tf.reduce_sum(matrix, 1) - tp
        present = tf.cast(tf.not_equal(union, 0), tf.float64)  # also 1 for NaN
        if self.ignore_class is not None:  # exclude it from the mean
            present *= 1 - tf.one_hot(self.ignore_class, self.num_classes, dtype=tf.float64)
        iou = tf.math.divide_no_nan(tp, union)
        mean = tf.math.divide_no_nan(tf.reduce_sum(iou * present), tf.reduce_sum(present))
        return tf.cast(mean, self.dtype)


@keras.saving.register_keras_serializable("lcc_tf")
class PixelAccuracy(_ConfusionMatrixMetric):
    """Fraction of pixels with the right class, over all images.

    Args:
        num_classes: number of classes, 2 or more.
        ignore_class: label of void pixels, such as 255; None for no label. Pixels with the label -1
            are always void.
        name: name of the metric; None for "pixel_accuracy".
        dtype: dtype of the result; None for `keras.config.floatx()`.

    Raises:
        InputError: `num_classes` or `ignore_class` is invalid.

    Example:
        The last of four pixels is void. Two of the first three pixels are right:

        >>> metric = PixelAccuracy(num_classes=2, ignore_class=255)
        >>> metric.update_state(np.array([[[0, 1, 1, 255]]]), tf.one_hot([[[0, 1, 0, 0]]], 2))
        >>> print(f"{float(metric.result()):.4f}")
        0.6667
    """

    default_name = "pixel_accuracy"

    def result(self) -> tf.Tensor:
        """Computes the fraction. The fraction is 0 before the first pixel."""
        matrix = tf.convert_to_tensor(self.matrix)
        return tf.cast(
            tf.math.divide_no_nan(tf.linalg.trace(matrix), tf.reduce_sum(matrix)), self.dtype
        )


@keras.saving.register_keras_serializable("lcc_tf")
class ImagewiseScore(keras.metrics.Mean):
    """One of the scores of `micro_scores`, averaged over images.

    Each of these scores can be computed from the pixel accuracy of an image, see `micro_scores`.
    The mean excludes images that contain only void pixels.

    Args:
        score: "accuracy", "f1", "precision", "recall" or "iou".
        num_classes: number of classes, 2 or more.
        ignore_class: label of void pixels, such as 255; None for no label. Pixels with the label -1
            are always void.
        name: name of the metric; None for `score`.
        dtype: dtype of the result; None for `keras.config.floatx()`.

    Raises:
        InputError: the score is unknown, or `num_classes` or `ignore_class` is invalid.

    Example:
        In the first image, both pixels are right. In the second image, one of two pixels is right:

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
        self.num_classes = check_num_classes(num_classes)
        self.ignore_class = check_ignore_class(ignore_class)
        self._direction = "up"  # see `_ConfusionMatrixMetric`

    def update_state(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        """Adds a batch.

        Args:
            y_true: class ids, any integer or floating dtype, `(batch, height, width)` or
                `(batch, height, width, 1)`.
            y_pred: float logits or probabilities `(batch, height, width, num_classes)`.
            sample_weight: float, not negative, `(batch,)`, `(batch, height, width)` or
                `(batch, height, width, 1)`; None for equal weights. The accuracy of an image uses
                the weights of its pixels. In the mean over images, the weight of an image is the
                mean weight of its pixels that are not void. Keras passes sample weights only to
                metrics in the argument `weighted_metrics` of `compile`.

        Raises:
            InputError: a shape is wrong.
            tf.errors.InvalidArgumentError: a label is neither a class id nor void. XLA drops this
                check. With XLA, such a label makes the result NaN. NaN in `y_pred` also makes the
                result NaN.
        """
        _check_output_channels(y_pred, self.num_classes)
        truth = read_ground_truth(
            y_true, y_pred, ignore_class=self.ignore_class, sample_weight=sample_weight
        )
        weights = truth.weights
        if weights is None:
            weights = tf.cast(tf.not_equal(truth.class_ids, NO_TRUTH), tf.float32)
        is_right = tf.cast(tf.equal(tf.argmax(y_pred, -1, tf.int32), truth.class_ids), tf.float32)
        accuracy = tf.math.divide_no_nan(
            tf.reduce_sum(weights * is_right, axis=(1, 2)), tf.reduce_sum(weights, axis=(1, 2))
        )
        score = accuracy  # equals "f1", "precision" and "recall"
        if self.score == "accuracy":
            score = 1 - 2 * (1 - accuracy) / self.num_classes
        elif self.score == "iou":
            score = accuracy / (2 - accuracy)
        score = tf.where(truth.is_valid & _is_number(y_pred), score, float("nan"))
        super().update_state(score, sample_weight=image_weights(weights))

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "score": self.score,
            "num_classes": self.num_classes,
            "ignore_class": self.ignore_class,
        }


def _check_output_channels(y_pred: tf.Tensor, num_classes: int) -> None:
    if y_pred.shape[-1] != num_classes:
        raise InputError(
            "`num_classes` of a metric must equal the number of the model's output channels. "
            f"Received: num_classes={num_classes}, with predictions of shape "
            f"{tuple(y_pred.shape)}. Use {y_pred.shape[-1]}."
        )


def _is_number(y_pred: tf.Tensor) -> tf.Tensor:
    """Returns False for images whose logits contain NaN, bool `(batch,)`.

    The argmax of NaN is class 0. Without this check, a network that has diverged would have a score
    and not NaN.
    """
    return tf.logical_not(tf.reduce_any(tf.math.is_nan(y_pred), axis=(1, 2, 3)))
