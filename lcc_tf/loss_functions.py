"""Losses for segmentation as plain functions, one value per sample."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.ground_truth import NO_TRUTH, image_weights, read_ground_truth
from lcc_tf.keras_backend import keras

FOCAL_GAMMA = 2.0  # the best in Lin et al. 2017, table 1b


class LossInputs(NamedTuple):
    """Inputs of the losses. Floats are float64 for float64 logits, else float32."""

    truth: tf.Tensor  # (batch, height, width, num_classes), one-hot; 0 where left out
    logits: tf.Tensor  # (batch, height, width, num_classes); 0 where left out
    probabilities: tf.Tensor  # (batch, height, width, num_classes); 0 where left out
    class_weights: tf.Tensor  # (num_classes,)
    pixel_weights: tf.Tensor | None  # (batch, height, width); 0 where left out; None: all 1
    is_valid: tf.Tensor  # bool (batch,), see `lcc_tf.ground_truth.GroundTruth`


def loss_inputs(
    y_true: tf.Tensor,
    y_pred: tf.Tensor,
    sample_weight: tf.Tensor | None = None,
    class_weights: Sequence[float] | None = None,
    ignore_class: int | None = None,
) -> LossInputs:
    """Reads a batch for the plain functions; see `SegmentationLoss` for the arguments.

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
            f"`class_weights` must hold a number for each of the {num_classes} classes. "
            f"Received: {class_weights}."
        )
    if ignore_class is not None and 0 <= ignore_class < num_classes:
        weights[ignore_class] = 0  # it is no class that a mean over classes could be over
    counts = tf.not_equal(truth.class_ids, NO_TRUTH)[..., None]
    # Not multiplied by 0: left out is left out, were it infinite.
    logits = tf.where(counts, logits, 0.0)
    return LossInputs(
        truth=tf.one_hot(truth.class_ids, num_classes, dtype=logits.dtype),  # zeros for NO_TRUTH
        logits=logits,
        probabilities=tf.where(counts, tf.nn.softmax(logits), 0.0),
        class_weights=tf.constant(weights, logits.dtype),
        pixel_weights=truth.weights,
        is_valid=truth.is_valid,
    )


def cross_entropy(inputs: LossInputs, label_smoothing: float = 0.0) -> tf.Tensor:
    """Returns the mean cross entropy of the pixels that count.

    With weights it is sum(w l) / sum(w), w the class weight of a pixel's true class times the
    weight of the pixel, as in PyTorch's `cross_entropy`. Smoothed labels are
    (1 - s) one-hot + s / num_classes (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567,
    section 7), weighted by the true class only.

    `keras.losses.categorical_crossentropy` computes each pixel's value; the mean of
    `keras.losses.SparseCategoricalCrossentropy` divides by all pixels, ignored ones included.

    Returns:
        float `(batch,)`, not negative, whose mean is the loss.
    """
    per_pixel = keras.losses.categorical_crossentropy(
        inputs.truth, inputs.logits, from_logits=True, label_smoothing=label_smoothing
    )
    return _mean_over_pixels(per_pixel, inputs)


def focal(
    inputs: LossInputs, label_smoothing: float = 0.0, gamma: float = FOCAL_GAMMA
) -> tf.Tensor:
    """Returns the mean focal loss, -(1 - p)^gamma log(p) for the probability p of a pixel's class.

    Lin et al. 2017, https://arxiv.org/abs/1708.02002, equation 4, with softmax probabilities; class
    weights take the place of the paper's alpha, and weights and smoothed labels enter as in
    `cross_entropy`. `keras.losses.CategoricalFocalCrossentropy` clips the probabilities, so that
    pixels that are utterly wrong get no gradient; `CategoricalFocalLoss` of segmentation-models
    clips as well, and averages over classes, too.

    Returns:
        float `(batch,)`, not negative, whose mean is the loss.
    """
    target = inputs.truth
    if label_smoothing:
        target = (1.0 - label_smoothing) * target + label_smoothing / target.shape[-1]
    easy = (1.0 - inputs.probabilities) ** gamma
    per_pixel = -tf.reduce_sum(target * easy * tf.nn.log_softmax(inputs.logits), axis=-1)
    return _mean_over_pixels(per_pixel, inputs)


def dice(inputs: LossInputs) -> tf.Tensor:
    """Returns the multi-class Dice loss over the whole batch, as the original trained with.

    For each class, 1 - 2 sum(p y) / (sum(p) + sum(y)) with the sums over all pixels of the batch
    (Milletari et al. 2016, https://arxiv.org/abs/1606.04797, with plain instead of squared sums in
    the denominator); the mean over classes, weighted by class weights, where a class that is absent
    from the batch's masks adds 0. The weight of a pixel multiplies its terms in all three sums.

    This is `DiceLoss(mode="multiclass")` of segmentation_models_pytorch. `keras.losses.Dice` and
    `DiceLoss` of segmentation-models differ: a class that is absent from the masks adds 1 where it
    is predicted at all.

    Returns:
        float `(batch,)`, each the loss of the whole batch, in [0, 1].
    """
    intersection, predicted, actual = _class_sums(inputs)
    return _mean_over_classes(2.0 * intersection, predicted + actual, actual, inputs)


def jaccard(inputs: LossInputs) -> tf.Tensor:
    """Returns the multi-class soft Jaccard loss over the whole batch.

    As `dice`, but for each class 1 - sum(p y) / (sum(p) + sum(y) - sum(p y)) (Rahman & Wang 2016,
    https://doi.org/10.1007/978-3-319-50835-1_22, equation 3). This is
    `JaccardLoss(mode="multiclass")` of segmentation_models_pytorch. `JaccardLoss` of
    segmentation-models differs in classes that are absent from the masks, as its Dice loss does.

    Returns:
        float `(batch,)`, each the loss of the whole batch, in [0, 1].
    """
    intersection, predicted, actual = _class_sums(inputs)
    return _mean_over_classes(intersection, predicted + actual - intersection, actual, inputs)


def lovasz(inputs: LossInputs) -> tf.Tensor:
    """Returns the Lovasz-Softmax loss: the Lovasz extension of the Jaccard loss, per image.

    Berman et al. 2018, https://arxiv.org/abs/1705.08790, equations 9 and 11, of each image by
    itself: the mean, weighted by class weights, over the classes that occur in its mask, then
    the mean over images. Neither Keras nor segmentation-models has it. Taking the pixels of the
    whole batch together, as the paper's default does, would need a sort across replicas.

    With weights of pixels, the Jaccard index counts pixels by weight, which keeps it submodular
    and the extension convex. An image's weight in the mean over images is the mean of its pixels'
    positive weights.

    Returns:
        float `(batch,)`, not negative, whose mean is the loss.
    """
    errors = _classes_first(tf.abs(inputs.truth - inputs.probabilities))
    truth = _classes_first(inputs.truth)
    # Pixels left out have an error of 0. They come last, or among equals, and add nothing.
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
    # The Jaccard loss if the k pixels with the largest errors, and no others, were wrong
    jaccard_of_first = 1.0 - tf.math.divide_no_nan(actual - missed, union)
    slopes = tf.concat(
        [jaccard_of_first[..., :1], jaccard_of_first[..., 1:] - jaccard_of_first[..., :-1]], axis=-1
    )
    per_class = tf.reduce_sum(errors * slopes, axis=-1)
    weights = inputs.class_weights * tf.cast(actual[..., 0] > 0, errors.dtype)
    per_image = tf.math.divide_no_nan(
        tf.reduce_sum(weights * per_class, axis=-1), tf.reduce_sum(weights, axis=-1)
    )
    of_images = tf.cast(tf.reduce_any(weights > 0, axis=-1), errors.dtype)
    if inputs.pixel_weights is not None:
        of_images *= image_weights(inputs.pixel_weights)
    return _mean_over_samples(of_images * per_image, of_images)


def _sum_over_replicas(x: tf.Tensor) -> tf.Tensor:
    """Sum of a tensor over all replicas, with gradients to each of them."""
    context = tf.distribute.get_replica_context()
    # None while Keras builds a model symbolically, outside of any replica.
    if context is None or context.num_replicas_in_sync == 1:
        return x
    return context.all_reduce(tf.distribute.ReduceOp.SUM, x)


def _mean_over_samples(sums: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """sum(sums) / sum(weights) over all replicas, as values whose mean over all samples it is.

    Args:
        sums: float `(batch,)`.
        weights: float `(batch,)`; where all are 0, the result is 0.

    Returns:
        float `(batch,)`.
    """
    samples = tf.cast(tf.shape(weights)[0], weights.dtype)
    weight, samples = tf.unstack(_sum_over_replicas(tf.stack([tf.reduce_sum(weights), samples])))
    return sums * tf.math.divide_no_nan(samples, weight)


def _mean_over_pixels(per_pixel: tf.Tensor, inputs: LossInputs) -> tf.Tensor:
    """Mean of float `(batch, height, width)`, weighted by true classes and weights of pixels."""
    weights = tf.linalg.matvec(inputs.truth, inputs.class_weights)
    if inputs.pixel_weights is not None:
        weights *= inputs.pixel_weights
    return _mean_over_samples(
        tf.reduce_sum(weights * per_pixel, axis=(1, 2)), tf.reduce_sum(weights, axis=(1, 2))
    )


def _class_sums(inputs: LossInputs) -> list[tf.Tensor]:
    """sum(p y), sum(p) and sum(y) of each class over all pixels of all replicas, by weight."""
    truth, probabilities = inputs.truth, inputs.probabilities
    products = [probabilities * truth, probabilities, truth]
    if inputs.pixel_weights is not None:
        products = [x * inputs.pixel_weights[..., None] for x in products]
    sums = tf.stack([tf.reduce_sum(x, axis=(0, 1, 2)) for x in products])
    return tf.unstack(_sum_over_replicas(sums))


def _mean_over_classes(
    numerator: tf.Tensor, denominator: tf.Tensor, actual: tf.Tensor, inputs: LossInputs
) -> tf.Tensor:
    """Mean of 1 - numerator / denominator over classes, per sample; 0 for absent classes."""
    per_class = tf.where(actual > 0, 1.0 - tf.math.divide_no_nan(numerator, denominator), 0.0)
    weights = inputs.class_weights
    loss = tf.math.divide_no_nan(tf.reduce_sum(weights * per_class), tf.reduce_sum(weights))
    return tf.repeat(loss, tf.shape(inputs.truth)[0])


def _classes_first(x: tf.Tensor) -> tf.Tensor:
    """Reorders `(batch, height, width, num_classes)` to `(batch, num_classes, pixels)`."""
    x = tf.transpose(x, (0, 3, 1, 2))
    return tf.reshape(x, tf.concat([tf.shape(x)[:2], [-1]], axis=0))
