"""Ground truth: class ids and weights of pixels, read from masks and sample weights."""

from typing import NamedTuple

import tensorflow as tf

from lcc_tf.errors import InputError

NO_TRUTH = -1  # class id of void pixels, which losses and metrics ignore


class GroundTruth(NamedTuple):
    """Class ids and weights of the pixels of a batch."""

    class_ids: tf.Tensor  # int32 (batch, height, width); NO_TRUTH for void pixels
    weights: tf.Tensor | None  # float (batch, height, width); 0 for void pixels; None: all equal
    is_valid: tf.Tensor  # bool (batch,); False for images with labels or weights out of range


def read_ground_truth(
    y_true: tf.Tensor,
    y_pred: tf.Tensor,
    *,
    ignore_class: int | None = None,
    sample_weight: tf.Tensor | None = None,
    weight_dtype: str = "float32",
) -> GroundTruth:
    """Reads masks and sample weights.

    A pixel is void if it has:

    - the label `NO_TRUTH` (-1),
    - the label `ignore_class`, or
    - a sample weight of 0.

    Each label must be void or a class id. Each weight must be finite and not negative. Otherwise,
    an assertion stops the step in eager mode and in graphs. XLA drops assertions. Therefore, the
    function also sets `is_valid` to False, which makes losses and metrics return NaN.

    Args:
        y_true: class ids, any integer or floating dtype, `(batch, height, width)` or
            `(batch, height, width, 1)`.
        y_pred: float logits or probabilities `(batch, height, width, num_classes)`, with 2 or more
            classes.
        ignore_class: a further label of void pixels, a class id or another number; None for no
            further label.
        sample_weight: float, not negative, `(batch,)`, `(batch, height, width)` or
            `(batch, height, width, 1)`; None for equal weights.
        weight_dtype: dtype of the weights in the result.

    Raises:
        InputError: a shape is wrong.
        tf.errors.InvalidArgumentError: a label or a weight is out of range (not with XLA).

    Example:
        >>> logits = tf.zeros((1, 1, 3, 2))
        >>> ground_truth = read_ground_truth([[[0, 1, 255]]], logits, ignore_class=255)
        >>> ground_truth.class_ids.numpy()
        array([[[ 0,  1, -1]]], dtype=int32)
    """
    y_pred = tf.convert_to_tensor(y_pred)
    num_classes = y_pred.shape[-1]
    if y_pred.shape.rank != 4 or num_classes is None or num_classes < 2:
        raise InputError(
            "`y_pred` must have the shape (batch, height, width, num_classes) with 2 or more "
            f"classes. Received: shape {tuple(y_pred.shape)}. Use `num_classes=2` for a binary "
            "task."
        )
    # Check the labels as floats, because a cast to int32 would turn 0.5, NaN and 2^32 into class
    # ids.
    labels = _without_channel(tf.cast(tf.convert_to_tensor(y_true), tf.float32), "y_true", y_pred)
    class_ids = tf.cast(labels, tf.int32)
    has_truth = (
        (labels >= 0) & (labels < num_classes) & tf.equal(labels, tf.cast(class_ids, tf.float32))
    )
    is_void = tf.equal(labels, NO_TRUTH)
    if ignore_class is not None:
        is_ignored = tf.equal(labels, float(ignore_class))
        has_truth, is_void = has_truth & ~is_ignored, is_void | is_ignored
    is_valid = has_truth | is_void
    tf.debugging.Assert(
        tf.reduce_all(is_valid),
        [
            f"`y_true` must contain class ids in [0, {num_classes}), {NO_TRUTH} or "
            f"`ignore_class`. If a label such as 255 marks void pixels, use `ignore_class=255`. "
            f"Received: ignore_class={ignore_class}, smallest and largest label:",
            tf.reduce_min(labels),
            tf.reduce_max(labels),
        ],
    )
    weights = None
    if sample_weight is not None:
        weights = tf.cast(tf.convert_to_tensor(sample_weight), weight_dtype)
        if weights.shape.rank == 1 and weights.shape.is_compatible_with(y_pred.shape[:1]):
            weights = weights[:, None, None] * tf.ones_like(class_ids, weight_dtype)
        weights = _without_channel(weights, "sample_weight", y_pred)
        is_weight = (weights >= 0) & (weights < float("inf"))
        tf.debugging.Assert(
            tf.reduce_all(is_weight),
            [
                "`sample_weight` must be finite and not negative. Received: smallest and largest "
                "weight:",
                tf.reduce_min(weights),
                tf.reduce_max(weights),
            ],
        )
        is_valid &= is_weight
        has_truth &= weights > 0
        weights = tf.where(has_truth, weights, 0.0)
    return GroundTruth(
        tf.where(has_truth, class_ids, NO_TRUTH), weights, tf.reduce_all(is_valid, axis=(1, 2))
    )


def image_weights(weights: tf.Tensor) -> tf.Tensor:
    """Computes the weight of each image in a mean over images.

    The weight of an image is the mean weight of its pixels that are not void. The number of void
    pixels does not change the weight.

    Args:
        weights: float `(batch, height, width)`, 0 for void pixels.

    Returns:
        float `(batch,)`; 0 for images that contain only void pixels.

    Example:
        >>> image_weights(tf.constant([[[3.0, 3.0, 0.0]]])).numpy()
        array([3.], dtype=float32)
    """
    counted = tf.reduce_sum(tf.cast(weights > 0, weights.dtype), axis=(1, 2))
    return tf.math.divide_no_nan(tf.reduce_sum(weights, axis=(1, 2)), counted)


def _without_channel(x: tf.Tensor, name: str, y_pred: tf.Tensor) -> tf.Tensor:
    """Removes the channel dimension of size 1, and checks the shape `(batch, height, width)`."""
    expected = y_pred.shape[:-1]
    if x.shape.rank == 4 and x.shape[-1] in (1, None):
        x = tf.squeeze(x, axis=-1)
    if x.shape.rank is None:
        x = tf.reshape(x, tf.shape(y_pred)[:-1])
    if not x.shape.is_compatible_with(expected):
        other = ", or (batch,)" if name == "sample_weight" else ", with class ids, not one-hot"
        raise InputError(
            f"`{name}` must have the shape (batch, height, width) or (batch, height, width, 1)"
            f"{other}. Received: shape {tuple(x.shape)}, with predictions of shape "
            f"{tuple(y_pred.shape)}."
        )
    return x
