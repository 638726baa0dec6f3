"""Losses for segmentation, from logits and class ids.

Each loss is a plain function of `LossInputs`, which `loss_inputs` makes of masks and logits, and a
Keras class around it. Pixels that are left out
(see `lcc_tf.ground_truth`) are removed once, before any loss: a prediction there changes neither
the value nor a gradient, and a batch in which nothing counts costs exactly 0.

Weights of pixels. The weight of a pixel is its sample weight, 1 by default; of a sample weight of
shape `(batch,)`, that of its image. A weight of 0 leaves a pixel out. Cross entropy and focal loss
are sum(w l) / sum(w), Dice and Jaccard take weighted sums, Lovasz counts pixels by weight. All of
them keep their value if all weights are doubled, so a sum of losses keeps its balance, and weights
of 0 and 1 are a mask. `keras.losses` divides by the number of pixels instead; multiply by the mean
weight for its values.

Under `tf.distribute` each replica has its part of the global batch, and Keras averages the values
of the samples over all replicas. Where a loss is no such mean, like Dice with its sums over the
batch, the sums are taken over all replicas first. Each loss then equals its value of the whole
batch on one device.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.ground_truth import NO_TRUTH, image_weights, read_ground_truth
from lcc_tf.keras_backend import keras

__all__ = [
    "CrossEntropy",
    "CrossEntropyDice",
    "Dice",
    "Focal",
    "Jaccard",
    "LossInputs",
    "LossSum",
    "Lovasz",
    "SegmentationLoss",
    "check_loss",
    "class_weights_from_pixels",
    "cross_entropy",
    "dice",
    "focal",
    "get_loss",
    "jaccard",
    "loss_inputs",
    "lovasz",
]

FOCAL_GAMMA = 2.0  # the best in Lin et al. 2017, table 1b


class LossInputs(NamedTuple):
    """Inputs of the losses. Floats are float64 for float64 logits, else float32."""

    truth: tf.Tensor  # (batch, height, width, num_classes), one-hot; 0 where left out
    logits: tf.Tensor  # (batch, height, width, num_classes); 0 where left out
    probabilities: tf.Tensor  # (batch, height, width, num_classes); 0 where left out
    class_weights: tf.Tensor  # (num_classes,)
    pixel_weights: tf.Tensor | None  # (batch, height, width); 0 where left out; None: all 1
    is_valid: tf.Tensor  # bool (batch,), see `lcc_tf.ground_truth.GroundTruth`


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


class SegmentationLoss(keras.losses.Loss):
    """Base class of the losses: reads masks and weights, and adds losses up.

    `loss_a + loss_b` and `0.5 * loss_a` make a `LossSum`.

    Args:
        class_weights: one weight per class, not negative, not all 0; None for equal weights. Cross
            entropy and focal loss weigh pixels by their true class, the other losses weigh classes
            in the mean over classes.
        ignore_class: a label whose pixels are left out, such as 255. Inside the classes it also has
            weight 0 in means over classes. None for no such label; -1 is always left out.
        reduction: as in `keras.losses`; the values that are reduced are one per sample.
        name: name of the loss; None for the class's name in snake case.
        dtype: float32 or float64, the dtype of the computation; None for `keras.config.floatx()`.

    Calling a loss: `loss(y_true, y_pred, sample_weight=None)` with
        y_true: class ids `(batch, height, width)` or `(batch, height, width, 1)`.
        y_pred: float logits `(batch, height, width, num_classes)`.
        sample_weight: not negative, `(batch,)`, `(batch, height, width)` or
            `(batch, height, width, 1)`; this module's docstring says what it means.

    Raises:
        InputError: arguments or shapes that do not fit.
        tf.errors.InvalidArgumentError: a label outside the classes that is not left out. XLA
            drops this check; the loss is NaN as well.
    """

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(name or _snake_case(type(self).__name__), reduction, dtype)
        if self.dtype not in ("float32", "float64"):
            raise InputError(
                f"A loss is computed in float32 or float64. Received: dtype={self.dtype!r}. Leave "
                "it out: logits of any dtype are accepted."
            )
        if class_weights is not None:
            class_weights = tuple(float(weight) for weight in class_weights)
            _check_class_weights(class_weights)
        self.class_weights = class_weights
        self.ignore_class = None if ignore_class is None else int(ignore_class)

    # Not a property: Keras saves a model by walking all attributes, and would never end here.
    def terms(self) -> list[tuple[float, "SegmentationLoss"]]:
        """Returns the factors and losses that the loss is the sum of."""
        return [(1.0, self)]

    def per_sample(self, inputs: LossInputs) -> tf.Tensor:
        """Returns float `(batch,)`, whose mean is the loss; subclasses implement it."""
        raise NotImplementedError

    def __call__(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Computes the loss of a batch."""
        if sample_weight is not None:
            # Keras would multiply the values of samples by it. It has to enter their sums.
            y_true = tf.convert_to_tensor(y_true), tf.convert_to_tensor(sample_weight)
        return super().__call__(y_true, y_pred)

    def call(self, y_true: tf.Tensor | tuple[tf.Tensor, tf.Tensor], y_pred: tf.Tensor) -> tf.Tensor:
        """Computes one value per sample, whose mean over all samples is the loss of the batch.

        Args:
            y_true: class ids; or a pair of class ids and sample weights.
            y_pred: float logits `(batch, height, width, num_classes)`.

        Returns:
            float `(batch,)`; NaN for samples with labels or weights out of range.
        """
        y_true, sample_weight = y_true if isinstance(y_true, tuple) else (y_true, None)
        values, inputs_of = [], {}
        for factor, loss in self.terms():
            rules = loss.class_weights, loss.ignore_class
            if rules not in inputs_of:
                inputs_of[rules] = loss_inputs(y_true, y_pred, sample_weight, *rules)
            inputs = inputs_of[rules]
            value = factor * loss.per_sample(inputs)
            values.append(tf.where(inputs.is_valid, value, float("nan")))
        return tf.add_n(values)

    def __add__(self, other: "SegmentationLoss") -> "LossSum":
        """Returns the sum of two losses."""
        if not isinstance(other, SegmentationLoss):
            return NotImplemented
        settings = [(loss.reduction, loss.dtype) for loss in (self, other)]
        if settings[0] != settings[1]:
            raise InputError(
                "Losses that are added must have the same `reduction` and `dtype`. "
                f"Received: {settings[0]} and {settings[1]}."
            )
        return self._sum_of([*self.terms(), *other.terms()])

    def __radd__(self, other: int) -> "SegmentationLoss":
        """Returns the loss itself for 0 + loss, the first step of `sum([...])`."""
        return self if other == 0 else NotImplemented

    def __mul__(self, factor: float) -> "LossSum":
        """Returns the loss times a number."""
        if not isinstance(factor, (int, float)):
            return NotImplemented
        return self._sum_of([(factor * own, loss) for own, loss in self.terms()])

    __rmul__ = __mul__

    def _sum_of(self, terms: list[tuple[float, "SegmentationLoss"]]) -> "LossSum":
        factors, losses = zip(*terms, strict=True)
        return LossSum(losses, factors, reduction=self.reduction, dtype=self.dtype)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        weights = self.class_weights
        return super().get_config() | {
            "dtype": self.dtype,
            "class_weights": None if weights is None else list(weights),
            "ignore_class": self.ignore_class,
        }


@keras.saving.register_keras_serializable("lcc_tf")
class CrossEntropy(SegmentationLoss):
    """Cross entropy, see `cross_entropy`.

    Args:
        class_weights: see `SegmentationLoss`, as the arguments that follow.
        label_smoothing: fraction of a label that is spread evenly over all classes, in [0, 1).
        ignore_class: a label whose pixels are left out.
        reduction: as in `keras.losses`.
        name: name of the loss.
        dtype: float32 or float64.

    Example:
        Two pixels, logits of the probabilities (3/4, 1/4) for both; the second pixel is void:

        >>> logits = np.log([[[[0.75, 0.25], [0.75, 0.25]]]])
        >>> loss = CrossEntropy(ignore_class=255)
        >>> print(f"{loss(np.array([[[0, 255]]]), logits):.4f}")  # -log(3/4)
        0.2877
    """

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(
            class_weights=class_weights,
            ignore_class=ignore_class,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )
        _check_label_smoothing(label_smoothing)
        self.label_smoothing = label_smoothing

    def per_sample(self, inputs: LossInputs) -> tf.Tensor:
        """Returns float `(batch,)`, whose mean over all samples is the loss of the batch."""
        return cross_entropy(inputs, self.label_smoothing)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return super().get_config() | {"label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable("lcc_tf")
class Focal(CrossEntropy):
    """Focal loss: cross entropy with less weight on pixels that are easy, see `focal`.

    Args:
        gamma: exponent of (1 - p), not negative; 0 is cross entropy.
        **options: arguments of `CrossEntropy`.

    Example:
        A pixel of class 0 with the probabilities (3/4, 1/4):

        >>> logits = np.log([[[[0.75, 0.25]]]])
        >>> print(f"{Focal()(np.array([[[0]]]), logits):.4f}")  # -(1/4)^2 log(3/4)
        0.0180
    """

    def __init__(self, *, gamma: float = FOCAL_GAMMA, **options: Any) -> None:
        super().__init__(**options)
        if not 0 <= gamma < float("inf"):
            raise InputError(f"`gamma` must be 0 or larger. Received: {gamma}.")
        self.gamma = gamma

    def per_sample(self, inputs: LossInputs) -> tf.Tensor:
        """Returns float `(batch,)`, whose mean over all samples is the loss of the batch."""
        return focal(inputs, self.label_smoothing, self.gamma)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return super().get_config() | {"gamma": self.gamma}


@keras.saving.register_keras_serializable("lcc_tf")
class Dice(SegmentationLoss):
    """Multi-class Dice loss over the whole batch, see `dice`; arguments of `SegmentationLoss`.

    Example:
        Two pixels of the classes 0 and 1, each with a probability of 3/4 for its class. For both
        classes sum(p y) = 3/4, sum(p) = 1, sum(y) = 1:

        >>> logits = np.log([[[[0.75, 0.25], [0.25, 0.75]]]])
        >>> print(f"{Dice()(np.array([[[0, 1]]]), logits):.4f}")  # 1 - 2 (3/4) / (1 + 1)
        0.2500
    """

    def per_sample(self, inputs: LossInputs) -> tf.Tensor:
        """Returns float `(batch,)`, each the loss of the whole batch."""
        return dice(inputs)


@keras.saving.register_keras_serializable("lcc_tf")
class Jaccard(SegmentationLoss):
    """Multi-class soft Jaccard loss, see `jaccard`; arguments of `SegmentationLoss`.

    Example:
        The pixels of the example of `Dice`:

        >>> logits = np.log([[[[0.75, 0.25], [0.25, 0.75]]]])
        >>> print(f"{Jaccard()(np.array([[[0, 1]]]), logits):.4f}")  # 1 - (3/4) / (2 - 3/4)
        0.4000
    """

    def per_sample(self, inputs: LossInputs) -> tf.Tensor:
        """Returns float `(batch,)`, each the loss of the whole batch."""
        return jaccard(inputs)


@keras.saving.register_keras_serializable("lcc_tf")
class Lovasz(SegmentationLoss):
    """Lovasz-Softmax loss, see `lovasz`; arguments of `SegmentationLoss`.

    Example:
        The pixels of the example of `Dice`. For both classes the errors are 1/4 and 1/4. The
        Jaccard loss is 1/2 with one pixel wrong and 1 with both:

        >>> logits = np.log([[[[0.75, 0.25], [0.25, 0.75]]]])
        >>> print(f"{Lovasz()(np.array([[[0, 1]]]), logits):.4f}")  # 1/4 (1/2) + 1/4 (1 - 1/2)
        0.2500
    """

    def per_sample(self, inputs: LossInputs) -> tf.Tensor:
        """Returns float `(batch,)`, whose mean over all samples is the loss of the batch."""
        return lovasz(inputs)


@keras.saving.register_keras_serializable("lcc_tf")
class CrossEntropyDice(CrossEntropy):
    """Cross entropy plus Dice loss, one to one; arguments of `CrossEntropy`.

    Example:
        The pixels of the example of `Dice`:

        >>> logits = np.log([[[[0.75, 0.25], [0.25, 0.75]]]])
        >>> print(f"{CrossEntropyDice()(np.array([[[0, 1]]]), logits):.4f}")  # -log(3/4) + 1/4
        0.5377
    """

    def per_sample(self, inputs: LossInputs) -> tf.Tensor:
        """Returns float `(batch,)`, whose mean over all samples is the loss of the batch."""
        return super().per_sample(inputs) + dice(inputs)


@keras.saving.register_keras_serializable("lcc_tf")
class LossSum(SegmentationLoss):
    """Weighted sum of losses, made by `+` and `*`.

    Args:
        losses: losses of this module; each keeps its own class weights and ignored class.
        factors: one number per loss; None for 1 each.
        reduction: as in `keras.losses`, of the sum.
        name: name of the loss; None for the names of the losses.
        dtype: float32 or float64.

    Example:
        >>> logits = np.log([[[[0.75, 0.25], [0.25, 0.75]]]])
        >>> loss = Jaccard() + 2 * Dice()
        >>> print(f"{loss(np.array([[[0, 1]]]), logits):.4f}")  # 0.4 + 2 * 0.25
        0.9000
    """

    def __init__(
        self,
        losses: Sequence[SegmentationLoss],
        factors: Sequence[float] | None = None,
        *,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        factors = [1.0] * len(losses) if factors is None else [float(x) for x in factors]
        if not losses or len(factors) != len(losses):
            raise InputError(
                "A sum of losses needs at least one loss and one factor per loss. "
                f"Received: {len(losses)} losses and {len(factors)} factors."
            )
        name = name or "_".join(loss.name for loss in losses)
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        self.losses = tuple(losses)
        self.factors = factors

    def terms(self) -> list[tuple[float, SegmentationLoss]]:
        """Returns the factors and losses that the loss is the sum of."""
        return [
            (factor * inner, loss)
            for factor, member in zip(self.factors, self.losses, strict=True)
            for inner, loss in member.terms()
        ]

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            "losses": [keras.losses.serialize(loss) for loss in self.losses],
            "factors": self.factors,
            "reduction": self.reduction,
            "name": self.name,
            "dtype": self.dtype,
        }

    @classmethod
    def from_config(cls, config: dict) -> "LossSum":
        """Builds the loss from what `get_config` returned."""
        losses = [keras.losses.deserialize(loss) for loss in config["losses"]]
        return cls(**config | {"losses": losses})


# By their names in configurations, where "cross_entropy+dice" is a sum
LOSS_TERMS = {
    "dice": Dice,
    "cross_entropy": CrossEntropy,
    "focal": Focal,
    "jaccard": Jaccard,
    "lovasz": Lovasz,
}
SMOOTHING_TERMS = tuple(
    name for name, loss in LOSS_TERMS.items() if issubclass(loss, CrossEntropy)
)  # those that compare with a distribution over classes


def check_loss(
    name: str, *, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0
) -> None:
    """Checks the arguments of `get_loss`.

    Raises:
        InputError: an unknown or repeated loss, smoothing that is out of range or that no loss of
            the sum has, class weights that are negative, infinite or all 0.
    """
    terms = name.split("+")
    if unknown := [term for term in terms if term not in LOSS_TERMS]:
        raise InputError(
            f"Unknown loss. Received: {name!r}, where {unknown[0]!r} is no term. Use one of "
            f"{list(LOSS_TERMS)}, or a sum such as 'cross_entropy+dice'."
        )
    if len(set(terms)) < len(terms):
        raise InputError(f"A loss has each term once. Received: {name!r}.")
    _check_label_smoothing(label_smoothing)
    if label_smoothing and set(SMOOTHING_TERMS).isdisjoint(terms):
        raise InputError(
            f"The loss {name!r} has no labels to smooth. Received: "
            f"label_smoothing={label_smoothing}. Leave it out, or use a loss with one of "
            f"{list(SMOOTHING_TERMS)}."
        )
    if class_weights is not None:
        _check_class_weights(tuple(class_weights))


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
        class_weights: see `SegmentationLoss`.
        label_smoothing: see `CrossEntropy`; for cross entropy and focal loss.
        ignore_class: see `SegmentationLoss`.

    Raises:
        InputError: see `check_loss`.
    """
    check_loss(name, class_weights=class_weights, label_smoothing=label_smoothing)
    losses = []
    for term in name.split("+"):
        options: dict[str, Any] = {"class_weights": class_weights, "ignore_class": ignore_class}
        if term in SMOOTHING_TERMS:
            options["label_smoothing"] = label_smoothing
        losses.append(LOSS_TERMS[term](**options))
    return losses[0] if len(losses) == 1 else LossSum(losses)


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


def _check_class_weights(class_weights: tuple[float, ...]) -> None:
    if not class_weights or not (min(class_weights) >= 0 and 0 < sum(class_weights) < float("inf")):
        raise InputError(
            "`class_weights` must be finite, not negative and not all 0. "
            f"Received: {class_weights}."
        )


def _check_label_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 1:
        raise InputError(f"`label_smoothing` must be in [0, 1). Received: {label_smoothing}.")


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


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
