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
from typing import Any

import tensorflow as tf

from lcc_tf.class_weights import class_weights_from_pixels
from lcc_tf.errors import InputError
from lcc_tf.keras_backend import keras
from lcc_tf.loss_functions import (
    FOCAL_GAMMA,
    LossInputs,
    cross_entropy,
    dice,
    focal,
    jaccard,
    loss_inputs,
    lovasz,
)

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
