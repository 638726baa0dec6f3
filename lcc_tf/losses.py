"""Losses for segmentation, from logits and class ids.

A loss is a sum of terms, each a plain function in `LOSS_TERMS`. Pixels without truth and those of
an ignored class are taken out once, before any term: what a network says there changes neither the
value nor a gradient, and a batch that has no others costs exactly 0.

Under `tf.distribute` each replica sees its share of the global batch, and Keras averages what a
loss gives each sample over all replicas. What is no such mean, like the sums of Dice, is summed
over all replicas first. Every term then equals its value of the whole batch on one device.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.keras_backend import keras
from lcc_tf.metrics import NO_TRUTH

FOCAL_GAMMA = 2.0  # the best in Lin et al. 2017, table 1b
SMOOTHING_TERMS = ("cross_entropy", "focal")  # those that compare with a distribution over classes


class Pixels(NamedTuple):
    """What the terms of a loss are computed from."""

    truth: tf.Tensor  # float32 (batch, height, width, num_classes), one-hot; 0 where left out
    logits: tf.Tensor  # float32 (batch, height, width, num_classes); 0 where left out
    probabilities: tf.Tensor  # float32 (batch, height, width, num_classes); 0 where left out
    class_weights: tf.Tensor  # float32 (num_classes,)
    label_smoothing: float


def cross_entropy(pixels: Pixels) -> tf.Tensor:
    """Mean cross entropy of the pixels that count.

    With class weights it is sum(w l) / sum(w), w the weight of a pixel's true class, as in
    PyTorch's `cross_entropy`. Smoothed labels are (1 - s) one-hot + s / num_classes (Szegedy et al.
    2016, https://arxiv.org/abs/1512.00567, section 7), weighted by the true class alone too.

    `keras.losses.categorical_crossentropy` gives each pixel's value; the mean of
    `keras.losses.SparseCategoricalCrossentropy` divides by all pixels, ignored ones included.

    Returns:
        float32 `(batch,)`, not negative, whose mean is the loss.
    """
    per_pixel = keras.losses.categorical_crossentropy(
        pixels.truth, pixels.logits, from_logits=True, label_smoothing=pixels.label_smoothing
    )
    return _mean_over_pixels(per_pixel, pixels)


def focal(pixels: Pixels) -> tf.Tensor:
    """Mean focal loss, -(1 - p)^gamma log(p) for the probability p of a pixel's class, gamma 2.

    Lin et al. 2017, https://arxiv.org/abs/1708.02002, equation 4, with softmax probabilities; class
    weights take the place of the paper's alpha, and they and smoothed labels enter as in
    `cross_entropy`. `keras.losses.CategoricalFocalCrossentropy` clips the probabilities, so that
    pixels that are utterly wrong get no gradient; `CategoricalFocalLoss` of segmentation-models
    clips as well, and averages over classes, too.

    Returns:
        float32 `(batch,)`, not negative, whose mean is the loss.
    """
    target = pixels.truth
    if pixels.label_smoothing:
        share = pixels.label_smoothing / target.shape[-1]
        target = (1.0 - pixels.label_smoothing) * target + share
    easy = (1.0 - pixels.probabilities) ** FOCAL_GAMMA
    per_pixel = -tf.reduce_sum(target * easy * tf.nn.log_softmax(pixels.logits), axis=-1)
    return _mean_over_pixels(per_pixel, pixels)


def dice(pixels: Pixels) -> tf.Tensor:
    """Multi-class Dice loss over the whole batch, as the original trained with.

    For each class, 1 - 2 sum(p y) / (sum(p) + sum(y)) with the sums over all pixels of the batch
    (Milletari et al. 2016, https://arxiv.org/abs/1606.04797, with plain instead of squared sums in
    the denominator); the mean over classes, weighted by `class_weights`, where a class that the
    batch's truth lacks adds 0. This is `DiceLoss(mode="multiclass")` of
    segmentation_models_pytorch. `keras.losses.Dice` and `DiceLoss` of segmentation-models differ:
    a class that the truth lacks adds 1 where it is predicted at all.

    Returns:
        float32 `(batch,)`, each the loss of the whole batch, in [0, 1].
    """
    intersection, predicted, actual = _class_sums(pixels)
    return _mean_over_classes(2.0 * intersection, predicted + actual, actual, pixels)


def jaccard(pixels: Pixels) -> tf.Tensor:
    """Multi-class soft Jaccard loss over the whole batch.

    As `dice`, but for each class 1 - sum(p y) / (sum(p) + sum(y) - sum(p y)) (Rahman & Wang 2016,
    https://doi.org/10.1007/978-3-319-50835-1_22, equation 3). This is
    `JaccardLoss(mode="multiclass")` of segmentation_models_pytorch. `JaccardLoss` of
    segmentation-models differs in classes that the truth lacks, as its Dice loss does.

    Returns:
        float32 `(batch,)`, each the loss of the whole batch, in [0, 1].
    """
    intersection, predicted, actual = _class_sums(pixels)
    return _mean_over_classes(intersection, predicted + actual - intersection, actual, pixels)


def lovasz(pixels: Pixels) -> tf.Tensor:
    """Lovasz-Softmax: the Lovasz extension of the Jaccard loss, per image, classes present.

    Berman et al. 2018, https://arxiv.org/abs/1705.08790, equations 9 and 11, of each image for
    itself: the mean, weighted by `class_weights`, over the classes that occur in its truth, then
    the mean over images. Neither Keras nor segmentation-models has it. Taking the pixels of the
    whole batch together, as the paper's default does, would need a sort across replicas.

    Returns:
        float32 `(batch,)`, not negative, whose mean is the loss.
    """
    errors = _classes_first(tf.abs(pixels.truth - pixels.probabilities))
    truth = _classes_first(pixels.truth)
    # Pixels left out have an error of 0. They come last, or among equals, and add nothing.
    errors, order = tf.math.top_k(errors, k=tf.shape(errors)[-1])
    truth = tf.gather(truth, order, batch_dims=2)
    actual = tf.reduce_sum(truth, axis=-1, keepdims=True)
    missed = tf.cumsum(truth, axis=-1)
    union = actual + tf.cumsum(1.0 - truth, axis=-1)
    # The Jaccard loss if the k pixels with the largest errors, and no others, were wrong
    jaccard_of_first = 1.0 - tf.math.divide_no_nan(actual - missed, union)
    slopes = tf.concat(
        [jaccard_of_first[..., :1], jaccard_of_first[..., 1:] - jaccard_of_first[..., :-1]], axis=-1
    )
    per_class = tf.reduce_sum(errors * slopes, axis=-1)
    weights = pixels.class_weights * tf.cast(actual[..., 0] > 0, tf.float32)
    per_image = tf.math.divide_no_nan(
        tf.reduce_sum(weights * per_class, axis=-1), tf.reduce_sum(weights, axis=-1)
    )
    return _mean_over_samples(per_image, tf.cast(tf.reduce_any(weights > 0, axis=-1), tf.float32))


LOSS_TERMS = {
    "dice": dice,
    "cross_entropy": cross_entropy,
    "focal": focal,
    "jaccard": jaccard,
    "lovasz": lovasz,
}


@keras.saving.register_keras_serializable("lcc_tf")
class SegmentationLoss(keras.losses.Loss):
    """Sum of terms of `LOSS_TERMS`; `get_loss` explains its arguments and checks them."""

    def __init__(
        self,
        terms: Sequence[str],
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        ignore_class: int | None = None,
    ) -> None:
        super().__init__(name="_".join(terms))
        self.terms = tuple(terms)
        self.class_weights = class_weights
        self.label_smoothing = label_smoothing
        self.ignore_class = ignore_class

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """The loss a sample, whose mean over all samples is the loss of the batch.

        Args:
            y_true: class ids `(batch, height, width)`; pixels of `NO_TRUTH` and of `ignore_class`
                are left out.
            y_pred: float logits `(batch, height, width, num_classes)`.

        Returns:
            float32 `(batch,)`.

        Raises:
            InputError: `class_weights` or `ignore_class` do not fit the number of classes.
        """
        num_classes = y_pred.shape[-1]
        weights = np.ones(num_classes) if self.class_weights is None else self.class_weights
        weights = np.array(weights, np.float32)
        if len(weights) != num_classes:
            raise InputError(
                f"`class_weights` must hold a number for each of the {num_classes} classes. "
                f"Received: {self.class_weights}."
            )
        y_true = tf.cast(y_true, tf.int32)
        if self.ignore_class is not None:
            if not 0 <= self.ignore_class < num_classes:
                raise InputError(
                    f"`ignore_class` must be a class id in [0, {num_classes}). "
                    f"Received: {self.ignore_class}."
                )
            y_true = tf.where(tf.equal(y_true, self.ignore_class), NO_TRUTH, y_true)
            weights[self.ignore_class] = 0  # it is no class that a mean over classes could be over
        counts = tf.not_equal(y_true, NO_TRUTH)[..., None]
        # Not multiplied by 0: left out is left out, were it infinite.
        logits = tf.where(counts, tf.cast(y_pred, tf.float32), 0.0)
        pixels = Pixels(
            truth=tf.one_hot(y_true, num_classes),  # zeros for ids that are none
            logits=logits,
            probabilities=tf.where(counts, tf.nn.softmax(logits), 0.0),
            class_weights=tf.constant(weights),
            label_smoothing=self.label_smoothing,
        )
        return tf.add_n([LOSS_TERMS[term](pixels) for term in self.terms])

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {
            "terms": self.terms,
            "class_weights": self.class_weights,
            "label_smoothing": self.label_smoothing,
            "ignore_class": self.ignore_class,
        }


def check_loss(
    name: str, *, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0
) -> None:
    """Checks the arguments of `get_loss`.

    Raises:
        InputError: an unknown or repeated term, smoothing that is out of range or that no term has,
            weights of classes that are negative, infinite or all 0.
    """
    terms = name.split("+")
    if unknown := [term for term in terms if term not in LOSS_TERMS]:
        raise InputError(
            f"Unknown loss. Received: {name!r}, where {unknown[0]!r} is no term. Use one of "
            f"{list(LOSS_TERMS)}, or a sum such as 'cross_entropy+dice'."
        )
    if len(set(terms)) < len(terms):
        raise InputError(f"A loss has each term once. Received: {name!r}.")
    if not 0 <= label_smoothing < 1:
        raise InputError(f"`label_smoothing` must be in [0, 1). Received: {label_smoothing}.")
    if label_smoothing and set(SMOOTHING_TERMS).isdisjoint(terms):
        raise InputError(
            f"The loss {name!r} has no labels to smooth. Received: "
            f"label_smoothing={label_smoothing}. Leave it out, or use a loss with one of "
            f"{list(SMOOTHING_TERMS)}."
        )
    if class_weights is not None and not (
        min(class_weights) >= 0 and 0 < sum(class_weights) < float("inf")
    ):
        raise InputError(
            "`class_weights` must be finite, not negative and not all 0. "
            f"Received: {tuple(class_weights)}."
        )


def get_loss(
    name: str,
    *,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    ignore_class: int | None = None,
) -> SegmentationLoss:
    """Builds a loss by its name.

    Args:
        name: a key of `LOSS_TERMS`, or several joined by "+", such as "cross_entropy+dice".
        class_weights: one a class, not negative, not all 0; None for equal ones. What they weigh,
            each term says.
        label_smoothing: share of a label that is spread evenly over all classes, in [0, 1); for
            cross entropy and focal loss.
        ignore_class: class id whose pixels are left out and that has weight 0 in means over
            classes; None for no such class.

    Raises:
        InputError: what `check_loss` raises.
    """
    if class_weights is not None:
        class_weights = tuple(float(weight) for weight in class_weights)
    check_loss(name, class_weights=class_weights, label_smoothing=label_smoothing)
    return SegmentationLoss(name.split("+"), class_weights, label_smoothing, ignore_class)


def class_weights_from_pixels(
    pixels: np.ndarray, method: str, *, ignore_class: int | None = None
) -> np.ndarray:
    """Weights that give rare classes more say.

    Args:
        pixels: int64 `(num_images, num_classes)`, pixels of each class in each training image.
        method: "inverse_frequency", 1 / (share of the class in all pixels), or "median_frequency",
            median(f) / f, where f is the share of the class in the pixels of those images that it
            occurs in (Eigen & Fergus 2015, https://arxiv.org/abs/1411.4734, section 6.3.2).
        ignore_class: a class id whose pixels are not counted; None for no such class.

    Returns:
        float64 `(num_classes,)` with a mean of 1 over the classes that occur; 0 for those that
        don't, and for `ignore_class`.

    Raises:
        InputError: unknown method, or no class occurs.
    """
    pixels = np.array(pixels, np.float64)
    if ignore_class is not None:
        pixels[:, ignore_class] = 0
    if method == "inverse_frequency":
        seen_in = np.full(pixels.shape[1], pixels.sum())
    elif method == "median_frequency":
        seen_in = pixels.sum(axis=1) @ (pixels > 0)
    else:
        raise InputError(
            f"Unknown method of class weights. Received: {method!r}. "
            "Use 'inverse_frequency' or 'median_frequency'."
        )
    total = pixels.sum(axis=0)
    present = total > 0
    if not present.any():
        raise InputError(
            "No training pixel has a class that counts, so that no class is rare or frequent. "
            f"Received: ignore_class={ignore_class} and counts of shape {pixels.shape}."
        )
    # The median of the frequencies is the same factor for all, so the mean of 1 takes care of it.
    weights = np.zeros_like(total)
    weights[present] = seen_in[present] / total[present]
    return weights / weights[present].mean()


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
        sums: float32 `(batch,)`.
        weights: float32 `(batch,)`; where all are 0, the result is 0.

    Returns:
        float32 `(batch,)`.
    """
    samples = tf.cast(tf.shape(weights)[0], tf.float32)
    weight, samples = tf.unstack(_sum_over_replicas(tf.stack([tf.reduce_sum(weights), samples])))
    return sums * tf.math.divide_no_nan(samples, weight)


def _mean_over_pixels(per_pixel: tf.Tensor, pixels: Pixels) -> tf.Tensor:
    """Mean of float32 `(batch, height, width)`, weighted by the pixels' true classes."""
    weights = tf.linalg.matvec(pixels.truth, pixels.class_weights)
    return _mean_over_samples(
        tf.reduce_sum(weights * per_pixel, axis=(1, 2)), tf.reduce_sum(weights, axis=(1, 2))
    )


def _class_sums(pixels: Pixels) -> list[tf.Tensor]:
    """sum(p y), sum(p) and sum(y) of each class over all pixels of all replicas."""
    products = (pixels.probabilities * pixels.truth, pixels.probabilities, pixels.truth)
    sums = tf.stack([tf.reduce_sum(x, axis=(0, 1, 2)) for x in products])
    return tf.unstack(_sum_over_replicas(sums))


def _mean_over_classes(
    numerator: tf.Tensor, denominator: tf.Tensor, actual: tf.Tensor, pixels: Pixels
) -> tf.Tensor:
    """Mean of 1 - numerator / denominator over classes, once a sample; 0 for absent classes."""
    per_class = tf.where(actual > 0, 1.0 - tf.math.divide_no_nan(numerator, denominator), 0.0)
    weights = pixels.class_weights
    loss = tf.math.divide_no_nan(tf.reduce_sum(weights * per_class), tf.reduce_sum(weights))
    return tf.repeat(loss, tf.shape(pixels.truth)[0])


def _classes_first(x: tf.Tensor) -> tf.Tensor:
    """Reorders `(batch, height, width, num_classes)` to `(batch, num_classes, pixels)`."""
    x = tf.transpose(x, (0, 3, 1, 2))
    return tf.reshape(x, tf.concat([tf.shape(x)[:2], [-1]], axis=0))
