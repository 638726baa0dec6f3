"""Losses for segmentation as plain functions of `LossInputs`.

In the formulas, p is the predicted probability of a class at a pixel. y is 1 if the pixel is of
this class, otherwise 0.

Void pixels. `lcc_tf.ground_truth` defines void pixels, and `loss_inputs` removes them. The logits
of void pixels change neither the loss nor its gradients. If all pixels of a batch are void, the
loss is exactly 0.

Pixel weights. The weight w of a pixel is its sample weight. If sample weights have the shape
`(batch,)`, w is the sample weight of the image. Without sample weights, w is 1. A pixel with the
weight 0 is void. The losses use pixel weights as follows:

- Cross entropy and focal loss are sum(w l) / sum(w), where l is the loss of a pixel.
- Dice and Jaccard loss multiply each term of their sums by w.
- Lovasz loss counts each pixel w times.

If all pixel weights are doubled, no loss changes. In a sum of losses, pixel weights therefore do
not make one loss more important than another loss. `keras.losses` divides by the number of pixels
and not by sum(w). To reproduce the values of `keras.losses`, multiply by the mean weight.

Several replicas. A replica is the copy of a model on one device. Each replica receives a part of
the batch, and Keras averages the loss over all samples. Some losses are not averages over samples.
For example, Dice loss divides sums over the whole batch. These losses therefore first add their
sums over all replicas. Each loss then equals the loss of the whole batch on one device.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.ground_truth import NO_TRUTH, image_weights, read_ground_truth
from lcc_tf.keras_backend import keras

FOCAL_GAMMA = 2.0  # the best value in Lin et al. 2017, table 1b


class LossInputs(NamedTuple):
    """Inputs of the losses. Floats are float64 for float64 logits, otherwise float32."""

    truth: tf.Tensor  # (batch, height, width, num_classes), one-hot; 0 for void pixels
    logits: tf.Tensor  # (batch, height, width, num_classes); 0 for void pixels
    probabilities: tf.Tensor  # (batch, height, width, num_classes); 0 for void pixels
    class_weights: tf.Tensor  # (num_classes,)
    pixel_weights: tf.Tensor | None  # (batch, height, width); 0 for void pixels; None if all are 1
    is_valid: tf.Tensor  # bool (batch,), see `lcc_tf.ground_truth.GroundTruth`


def loss_inputs(
    y_true: tf.Tensor,
    y_pred: tf.Tensor,
    sample_weight: tf.Tensor | None = None,
    class_weights: Sequence[float] | None = None,
    ignore_class: int | None = None,
) -> LossInputs:
    """Computes the inputs of the losses from masks and logits.

    Args:
        y_true: class ids, any integer or floating dtype, `(batch, height, width)` or
            `(batch, height, width, 1)`.
        y_pred: float logits `(batch, height, width, num_classes)`.
        sample_weight: float, not negative, `(batch,)`, `(batch, height, width)` or
            `(batch, height, width, 1)`; None for equal weights.
        class_weights: one weight per class; None for equal weights.
        ignore_class: label of void pixels; None if no pixel is void.

    Raises:
        InputError: a shape or the number of class weights is wrong.
        tf.errors.InvalidArgumentError: see `lcc_tf.ground_truth.read_ground_truth`.

    Example:
        The mean over the batch is the value of `Dice`:

        >>> logits = np.log([[[[0.75, 0.25], [0.25, 0.75]]]])
        >>> print(f"{tf.reduce_mean(dice(loss_inputs(np.array([[[0, 1]]]), logits))):.4f}")
        0.2500
    """
    logits = tf.convert_to_tensor(y_pred)
    logits = tf.cast(logits, tf.float64 if logits.dtype == tf.float64 else tf.float32)
    truth = read_ground_truth(
        y_true,
        logits,
        ignore_class=ignore_class,
        sample_weight=sample_weight,
        weight_dtype=logits.dtype,
    )
    num_classes = logits.shape[-1]
    weights = np.array(np.ones(num_classes) if class_weights is None else class_weights)
    if len(weights) != num_classes:
        raise InputError(
            f"`class_weights` must have one number for each of the {num_classes} classes. "
            f"Received: {class_weights}."
        )
    if ignore_class is not None and 0 <= ignore_class < num_classes:
        weights[ignore_class] = 0  # excludes the class from means over classes
    has_truth = tf.not_equal(truth.class_ids, NO_TRUTH)[..., None]
    # Use `where` and not a product, because 0 * infinity is NaN.
    logits = tf.where(has_truth, logits, 0.0)
    return LossInputs(
        truth=tf.one_hot(truth.class_ids, num_classes, dtype=logits.dtype),  # zeros for NO_TRUTH
        logits=logits,
        probabilities=tf.where(has_truth, tf.nn.softmax(logits), 0.0),
        class_weights=tf.constant(weights, logits.dtype),
        pixel_weights=truth.weights,
        is_valid=truth.is_valid,
    )


def cross_entropy(inputs: LossInputs, label_smoothing: float = 0.0) -> tf.Tensor:
    """Computes the mean cross entropy of the pixels that are not void.

    The mean is sum(w l) / sum(w), as in PyTorch's `cross_entropy`. l is the cross entropy of a
    pixel. w is the pixel weight, multiplied by the class weight of the pixel's true class. With the
    label smoothing s, the labels are (1 - s) y + s / num_classes (Szegedy et al. 2016,
    https://arxiv.org/abs/1512.00567, section 7).

    `keras.losses.SparseCategoricalCrossentropy` divides by the number of all pixels, including void
    pixels.

    Args:
        inputs: result of `loss_inputs`.
        label_smoothing: the number s, in [0, 1).

    Returns:
        float `(batch,)`, not negative. The mean of the values is the loss.
    """
    per_pixel = keras.losses.categorical_crossentropy(
        inputs.truth, inputs.logits, from_logits=True, label_smoothing=label_smoothing
    )
    return _mean_over_pixels(per_pixel, inputs)


def focal(
    inputs: LossInputs, label_smoothing: float = 0.0, gamma: float = FOCAL_GAMMA
) -> tf.Tensor:
    """Computes the mean focal loss of the pixels that are not void.

    The focal loss of a pixel is -(1 - p)^gamma log(p), where p is the predicted probability of the
    true class. The source is equation 4 of Lin et al. 2017, https://arxiv.org/abs/1708.02002. Here,
    probabilities are softmax probabilities, and class weights replace the paper's factor alpha.
    Weights and smoothed labels have the same effect as in `cross_entropy`.

    Two other implementations clip the probabilities. If the true class of a pixel has a probability
    near 0, the pixel therefore has no gradient in these implementations:

    - `keras.losses.CategoricalFocalCrossentropy`
    - `CategoricalFocalLoss` of segmentation-models, which also averages over classes

    Args:
        inputs: result of `loss_inputs`.
        label_smoothing: see `cross_entropy`.
        gamma: exponent, not negative. With 0, the focal loss equals cross entropy.

    Returns:
        float `(batch,)`, not negative. The mean of the values is the loss.
    """
    target = inputs.truth
    if label_smoothing:
        target = (1.0 - label_smoothing) * target + label_smoothing / target.shape[-1]
    factor = (1.0 - inputs.probabilities) ** gamma
    per_pixel = -tf.reduce_sum(target * factor * tf.nn.log_softmax(inputs.logits), axis=-1)
    return _mean_over_pixels(per_pixel, inputs)


def dice(inputs: LossInputs) -> tf.Tensor:
    """Computes the multi-class Dice loss of the whole batch.

    The original PyTorch notebooks use this loss. The value of a class is
    1 - 2 sum(p y) / (sum(p) + sum(y)), with sums over all pixels of the batch. The source is
    Milletari et al. 2016, https://arxiv.org/abs/1606.04797, but their denominator is
    sum(p^2) + sum(y^2). If no mask of the batch contains a class, its value is 0. The loss is the
    mean of the values over classes, weighted by class weights. Pixel weights multiply the terms of
    all three sums.

    `DiceLoss(mode="multiclass")` of segmentation_models_pytorch computes the same loss.
    `keras.losses.Dice` and `DiceLoss` of segmentation-models differ: the value of a class is 1 if
    the class is predicted, but no mask contains the class.

    Returns:
        float `(batch,)`, in [0, 1]; each value is the loss of the whole batch.
    """
    intersection, predicted, actual = _class_sums(inputs)
    return _mean_over_classes(2.0 * intersection, predicted + actual, actual, inputs)


def jaccard(inputs: LossInputs) -> tf.Tensor:
    """Computes the multi-class soft Jaccard loss of the whole batch.

    The value of a class is 1 - sum(p y) / (sum(p) + sum(y) - sum(p y)) (Rahman & Wang 2016,
    https://doi.org/10.1007/978-3-319-50835-1_22, equation 3). The sums, the mean over classes and
    the weights are the same as in `dice`.

    `JaccardLoss(mode="multiclass")` of segmentation_models_pytorch computes the same loss.
    `JaccardLoss` of segmentation-models differs: the value of a class is 1 if the class is
    predicted, but no mask contains the class.

    Returns:
        float `(batch,)`, in [0, 1]; each value is the loss of the whole batch.
    """
    intersection, predicted, actual = _class_sums(inputs)
    return _mean_over_classes(intersection, predicted + actual - intersection, actual, inputs)


def lovasz(inputs: LossInputs) -> tf.Tensor:
    """Computes the Lovasz-Softmax loss, the Lovasz extension of the Jaccard loss, per image.

    The source is Berman et al. 2018, https://arxiv.org/abs/1705.08790, equations 9 and 11. The loss
    of an image is the mean over the classes in its mask, weighted by class weights. The loss of the
    batch is the mean over images. By default, the paper instead sorts the pixels of the whole
    batch. This function does not do this, because each replica has only a part of the batch.

    With pixel weights, the Jaccard loss counts a pixel of weight w as w pixels. The Jaccard loss
    then remains submodular, and its Lovasz extension remains convex. In the mean over images, the
    weight of an image is the mean weight of its pixels that are not void.

    Returns:
        float `(batch,)`, not negative. The mean of the values is the loss.
    """
    errors = _classes_first(tf.abs(inputs.truth - inputs.probabilities))
    truth = _classes_first(inputs.truth)
    # The error of a void pixel is 0, which is the smallest error. Void pixels therefore add 0 to
    # the sum of errors times slopes below, and do not change the terms of larger errors.
    errors, order = tf.math.top_k(errors, k=tf.shape(errors)[-1])
    truth = tf.gather(truth, order, batch_dims=2)
    false = 1.0 - truth
    if inputs.pixel_weights is not None:
        weights = _classes_first(inputs.pixel_weights[..., None] * tf.ones_like(inputs.truth))
        weights = tf.gather(weights, order, batch_dims=2)
        truth, false = weights * truth, weights * false
    actual = tf.reduce_sum(truth, axis=-1, keepdims=True)
    missed = tf.cumsum(truth, axis=-1)
    union = actual + tf.cumsum(false, axis=-1)
    # Entry k is the Jaccard loss of a map in which only the k + 1 pixels with the largest errors
    # are wrong.
    jaccard_losses = 1.0 - tf.math.divide_no_nan(actual - missed, union)
    slopes = tf.concat(
        [jaccard_losses[..., :1], jaccard_losses[..., 1:] - jaccard_losses[..., :-1]], axis=-1
    )
    per_class = tf.reduce_sum(errors * slopes, axis=-1)
    weights = inputs.class_weights * tf.cast(actual[..., 0] > 0, errors.dtype)
    per_image = tf.math.divide_no_nan(
        tf.reduce_sum(weights * per_class, axis=-1), tf.reduce_sum(weights, axis=-1)
    )
    weight_per_image = tf.cast(tf.reduce_any(weights > 0, axis=-1), errors.dtype)
    if inputs.pixel_weights is not None:
        weight_per_image *= image_weights(inputs.pixel_weights)
    return _mean_over_samples(weight_per_image * per_image, weight_per_image)


def _sum_over_replicas(x: tf.Tensor) -> tf.Tensor:
    """Adds the tensors of all replicas; gradients flow back to each replica."""
    context = tf.distribute.get_replica_context()
    # `context` is None while Keras builds a model symbolically, outside of all replicas.
    if context is None or context.num_replicas_in_sync == 1:
        return x
    return context.all_reduce(tf.distribute.ReduceOp.SUM, x)


def _mean_over_samples(sums: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Scales sums, so that the mean of the results is sum(sums) / sum(weights).

    The mean and the two sums include the samples of all replicas.

    Args:
        sums: float `(batch,)`, one weighted sum per sample of this replica.
        weights: float `(batch,)`, one weight per sample of this replica. If the weights of all
            replicas are 0, the result is 0.

    Returns:
        float `(batch,)`.
    """
    samples = tf.cast(tf.shape(weights)[0], weights.dtype)
    weight, samples = tf.unstack(_sum_over_replicas(tf.stack([tf.reduce_sum(weights), samples])))
    return sums * tf.math.divide_no_nan(samples, weight)


def _mean_over_pixels(per_pixel: tf.Tensor, inputs: LossInputs) -> tf.Tensor:
    """Averages float `(batch, height, width)`, weighted by class weights and pixel weights."""
    weights = tf.linalg.matvec(inputs.truth, inputs.class_weights)
    if inputs.pixel_weights is not None:
        weights *= inputs.pixel_weights
    return _mean_over_samples(
        tf.reduce_sum(weights * per_pixel, axis=(1, 2)), tf.reduce_sum(weights, axis=(1, 2))
    )


def _class_sums(inputs: LossInputs) -> list[tf.Tensor]:
    """Computes the weighted sums sum(p y), sum(p) and sum(y) per class, over all replicas."""
    truth, probabilities = inputs.truth, inputs.probabilities
    products = [probabilities * truth, probabilities, truth]
    if inputs.pixel_weights is not None:
        products = [x * inputs.pixel_weights[..., None] for x in products]
    sums = tf.stack([tf.reduce_sum(x, axis=(0, 1, 2)) for x in products])
    return tf.unstack(_sum_over_replicas(sums))


def _mean_over_classes(
    numerator: tf.Tensor, denominator: tf.Tensor, actual: tf.Tensor, inputs: LossInputs
) -> tf.Tensor:
    """Averages 1 - numerator / denominator over classes, and repeats the mean for each sample.

    Classes that are absent from the masks have the value 0 in the mean.

    Args:
        numerator: float `(num_classes,)`.
        denominator: float `(num_classes,)`.
        actual: float `(num_classes,)`; 0 for classes that are absent from the masks.
        inputs: result of `loss_inputs`, with the class weights and the number of samples.

    Returns:
        float `(batch,)`, in which all values are the mean.
    """
    per_class = tf.where(actual > 0, 1.0 - tf.math.divide_no_nan(numerator, denominator), 0.0)
    weights = inputs.class_weights
    loss = tf.math.divide_no_nan(tf.reduce_sum(weights * per_class), tf.reduce_sum(weights))
    return tf.repeat(loss, tf.shape(inputs.truth)[0])


def _classes_first(x: tf.Tensor) -> tf.Tensor:
    """Reorders `(batch, height, width, num_classes)` to `(batch, num_classes, pixels)`."""
    x = tf.transpose(x, (0, 3, 1, 2))
    return tf.reshape(x, tf.concat([tf.shape(x)[:2], [-1]], axis=0))
