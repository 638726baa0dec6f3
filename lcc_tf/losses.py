"""Losses for segmentation: Keras classes, sums of losses, and losses that are built from a name.

Each class calls a function of `lcc_tf.loss_functions`. The docstring of that module defines the
symbols in the formulas, void pixels, pixel weights and the sums over several replicas.
"""

import re
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from lcc_tf.arguments import check_ignore_class, number_per
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
    """Base class of the losses: reads masks and weights, and supports sums.

    `loss_a + loss_b` and `0.5 * loss_a` return a `LossSum`.

    Call a loss with `loss(y_true, y_pred, sample_weight=None)`:

    - y_true: class ids, any integer or floating dtype, `(batch, height, width)` or
      `(batch, height, width, 1)`.
    - y_pred: float logits `(batch, height, width, num_classes)`.
    - sample_weight: float, not negative, `(batch,)`, `(batch, height, width)` or
      `(batch, height, width, 1)`; see `lcc_tf.loss_functions`.

    Args:
        class_weights: one weight per class, not negative, not all 0; None for equal weights. Cross
            entropy and focal loss multiply the loss of a pixel by the weight of its true class. The
            other losses use the weights in their mean over classes.
        ignore_class: label of void pixels, such as 255; None for no label. If the label is a class
            id, means over classes also exclude this class. Pixels with the label -1 are always
            void.
        reduction: reduction of the values of the samples, as in `keras.losses`.
        name: name of the loss; None for the class name in snake case.
        dtype: dtype of the computation, float32 or float64; None for `keras.config.floatx()`.

    Raises:
        InputError: an argument or a shape is invalid.
        tf.errors.InvalidArgumentError: a label is neither a class id nor void. XLA drops this
            check; the loss is then NaN.
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
                f"`dtype` of a loss must be float32 or float64. Received: dtype={self.dtype!r}. "
                "Omit `dtype`; logits can have any dtype."
            )
        if class_weights is not None:
            class_weights = _check_class_weights(class_weights)
        self.class_weights = class_weights
        self.ignore_class = check_ignore_class(ignore_class)

    # `terms` is not a property, because Keras visits all attributes of a loss to save a model. The
    # terms contain the loss itself, so that the visit of a property `terms` would never end.
    def terms(self) -> list[tuple[float, "SegmentationLoss"]]:
        """Returns the factor and the loss of each term of the sum."""
        return [(1.0, self)]

    def per_sample(self, inputs: LossInputs) -> tf.Tensor:
        """Computes one value per sample, float `(batch,)`; the mean of the values is the loss.

        Subclasses implement this method.
        """
        raise NotImplementedError

    def __call__(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Computes the loss of a batch."""
        if sample_weight is not None:
            # Keras would multiply the value of each sample by `sample_weight`. Instead, `call` uses
            # `sample_weight` in the sums over pixels.
            y_true = tf.convert_to_tensor(y_true), tf.convert_to_tensor(sample_weight)
        return super().__call__(y_true, y_pred)

    def call(self, y_true: tf.Tensor | tuple[tf.Tensor, tf.Tensor], y_pred: tf.Tensor) -> tf.Tensor:
        """Computes one value per sample; the mean of all values is the loss of the batch.

        Args:
            y_true: class ids, or a pair of class ids and sample weights.
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
                "Losses in a sum must have the same `reduction` and `dtype`. "
                f"Received: {settings[0]} and {settings[1]}."
            )
        return self._sum_of([*self.terms(), *other.terms()])

    def __radd__(self, other: int) -> "SegmentationLoss":
        """Returns the loss itself for `0 + loss`, because `sum([...])` starts with 0."""
        return self if other == 0 else NotImplemented

    def __mul__(self, factor: float) -> "LossSum":
        """Returns the loss times a number."""
        if not isinstance(factor, (int, float)):
            return NotImplemented
        return self._sum_of([(factor * inner, loss) for inner, loss in self.terms()])

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
    """Cross entropy, see `lcc_tf.losses.cross_entropy`.

    Args:
        label_smoothing: fraction of the label's probability, in [0, 1). It is divided equally
            among all classes.
        **options: arguments of `SegmentationLoss`.

    Example:
        Both pixels have the probabilities (3/4, 1/4), and the second pixel is void:

        >>> logits = np.log([[[[0.75, 0.25], [0.75, 0.25]]]])
        >>> loss = CrossEntropy(ignore_class=255)
        >>> print(f"{loss(np.array([[[0, 255]]]), logits):.4f}")  # -log(3/4)
        0.2877
    """

    def __init__(self, *, label_smoothing: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        _check_label_smoothing(label_smoothing)
        self.label_smoothing = label_smoothing

    def per_sample(self, inputs: LossInputs) -> tf.Tensor:
        """Computes one value per sample, float `(batch,)`; the mean of the values is the loss."""
        return cross_entropy(inputs, self.label_smoothing)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return super().get_config() | {"label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable("lcc_tf")
class Focal(CrossEntropy):
    """Focal loss, cross entropy with less weight on easy pixels, see `lcc_tf.losses.focal`.

    Args:
        gamma: exponent of (1 - p), where p is the predicted probability of the true class. It must
            not be negative. With 0, the focal loss equals cross entropy.
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
        """Computes one value per sample, float `(batch,)`; the mean of the values is the loss."""
        return focal(inputs, self.label_smoothing, self.gamma)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return super().get_config() | {"gamma": self.gamma}


@keras.saving.register_keras_serializable("lcc_tf")
class Dice(SegmentationLoss):
    """Multi-class Dice loss of the whole batch, see `lcc_tf.losses.dice`.

    Args: see `SegmentationLoss`.

    Example:
        The first pixel is of class 0, the second pixel of class 1. For each pixel, the true class
        has the probability 3/4. Both classes have sum(p y) = 3/4, sum(p) = 1 and sum(y) = 1:

        >>> logits = np.log([[[[0.75, 0.25], [0.25, 0.75]]]])
        >>> print(f"{Dice()(np.array([[[0, 1]]]), logits):.4f}")  # 1 - 2 (3/4) / (1 + 1)
        0.2500
    """

    def per_sample(self, inputs: LossInputs) -> tf.Tensor:
        """Computes the loss of the whole batch and repeats it for each sample, float `(batch,)`."""
        return dice(inputs)


@keras.saving.register_keras_serializable("lcc_tf")
class Jaccard(SegmentationLoss):
    """Multi-class soft Jaccard loss of the whole batch, see `lcc_tf.losses.jaccard`.

    Args: see `SegmentationLoss`.

    Example:
        The pixels are the same as in the example of `Dice`:

        >>> logits = np.log([[[[0.75, 0.25], [0.25, 0.75]]]])
        >>> print(f"{Jaccard()(np.array([[[0, 1]]]), logits):.4f}")  # 1 - (3/4) / (2 - 3/4)
        0.4000
    """

    def per_sample(self, inputs: LossInputs) -> tf.Tensor:
        """Computes the loss of the whole batch and repeats it for each sample, float `(batch,)`."""
        return jaccard(inputs)


@keras.saving.register_keras_serializable("lcc_tf")
class Lovasz(SegmentationLoss):
    """Lovasz-Softmax loss, see `lcc_tf.losses.lovasz`.

    Args: see `SegmentationLoss`.

    Example:
        The pixels are the same as in the example of `Dice`. The error of a pixel for a class is
        |y - p|. It is 1/4 for each pixel and each class. The Jaccard loss of a class is 1/2 if one
        pixel is wrong, and 1 if both pixels are wrong:

        >>> logits = np.log([[[[0.75, 0.25], [0.25, 0.75]]]])
        >>> print(f"{Lovasz()(np.array([[[0, 1]]]), logits):.4f}")  # 1/4 (1/2) + 1/4 (1 - 1/2)
        0.2500
    """

    def per_sample(self, inputs: LossInputs) -> tf.Tensor:
        """Computes one value per sample, float `(batch,)`; the mean of the values is the loss."""
        return lovasz(inputs)


@keras.saving.register_keras_serializable("lcc_tf")
class CrossEntropyDice(CrossEntropy):
    """Sum of cross entropy and Dice loss.

    Args: see `CrossEntropy`.

    Example:
        The pixels are the same as in the example of `Dice`:

        >>> logits = np.log([[[[0.75, 0.25], [0.25, 0.75]]]])
        >>> print(f"{CrossEntropyDice()(np.array([[[0, 1]]]), logits):.4f}")  # -log(3/4) + 1/4
        0.5377
    """

    def per_sample(self, inputs: LossInputs) -> tf.Tensor:
        """Computes one value per sample, float `(batch,)`; the mean of the values is the loss."""
        return super().per_sample(inputs) + dice(inputs)


@keras.saving.register_keras_serializable("lcc_tf")
class LossSum(SegmentationLoss):
    """Weighted sum of losses, the result of `+` and `*`.

    Args:
        losses: losses of this module. Their class weights and ignored classes can differ.
        factors: one number per loss; None if all factors are 1.
        reduction: reduction of the values of the samples, as in `keras.losses`.
        name: name of the sum; None to join the names of the losses.
        dtype: float32 or float64; None for `keras.config.floatx()`.

    Raises:
        InputError: `losses` is empty, or the numbers of losses and factors differ.

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
        """Returns the factor and the loss of each term of the sum, nested sums included."""
        return [
            (factor * inner, loss)
            for factor, outer_loss in zip(self.factors, self.losses, strict=True)
            for inner, loss in outer_loss.terms()
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
        """Builds the loss from the result of `get_config`."""
        losses = [keras.losses.deserialize(loss) for loss in config["losses"]]
        return cls(**config | {"losses": losses})


# Key: name of a loss. Value: class of the loss. In `get_loss`, "+" joins the names of a sum.
LOSS_TERMS = {
    "dice": Dice,
    "cross_entropy": CrossEntropy,
    "focal": Focal,
    "jaccard": Jaccard,
    "lovasz": Lovasz,
}
# Names of the losses that have the argument `label_smoothing`
SMOOTHING_TERMS = tuple(name for name, loss in LOSS_TERMS.items() if issubclass(loss, CrossEntropy))


def check_loss(
    name: str, *, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0
) -> None:
    """Checks the arguments of `get_loss`.

    Raises:
        InputError: one of the following is wrong.

            - A loss is unknown, or a sum contains the same loss twice.
            - `label_smoothing` is out of range, or no loss of the sum supports it.
            - `class_weights` is not a sequence of numbers.
            - A class weight is negative or infinite, or all class weights are 0.
    """
    terms = name.split("+")
    if unknown := [term for term in terms if term not in LOSS_TERMS]:
        raise InputError(
            f"Unknown loss {unknown[0]!r}. Received: {name!r}. Use one of {list(LOSS_TERMS)}, or "
            "a sum such as 'cross_entropy+dice'."
        )
    if len(set(terms)) < len(terms):
        raise InputError(
            f"A sum must not contain the same loss twice. Received: {name!r}. Name each loss once."
        )
    _check_label_smoothing(label_smoothing)
    if label_smoothing and set(SMOOTHING_TERMS).isdisjoint(terms):
        raise InputError(
            f"The loss {name!r} does not support `label_smoothing`. Received: "
            f"label_smoothing={label_smoothing}. Use 0, or a loss that contains one "
            f"of {list(SMOOTHING_TERMS)}."
        )
    if class_weights is not None:
        _check_class_weights(class_weights)


def get_loss(
    name: str,
    *,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    ignore_class: int | None = None,
) -> SegmentationLoss:
    """Builds a loss from its name.

    Args:
        name: a key of `LOSS_TERMS`, or several keys joined by "+", such as "cross_entropy+dice".
        class_weights: see `SegmentationLoss`.
        label_smoothing: see `CrossEntropy`. Only cross entropy and focal loss support it.
        ignore_class: see `SegmentationLoss`.

    Raises:
        InputError: see `check_loss`.

    Example:
        >>> get_loss("cross_entropy+dice", ignore_class=255).name
        'cross_entropy_dice'
    """
    check_loss(name, class_weights=class_weights, label_smoothing=label_smoothing)
    losses = []
    for term in name.split("+"):
        options: dict[str, Any] = {"class_weights": class_weights, "ignore_class": ignore_class}
        if term in SMOOTHING_TERMS:
            options["label_smoothing"] = label_smoothing
        losses.append(LOSS_TERMS[term](**options))
    return losses[0] if len(losses) == 1 else LossSum(losses)


def _check_class_weights(class_weights: Sequence[float]) -> tuple[float, ...]:
    class_weights = number_per("class", class_weights, "class_weights")
    if not class_weights or not (min(class_weights) >= 0 and 0 < sum(class_weights) < float("inf")):
        raise InputError(
            "`class_weights` must be finite, not negative and not all 0. "
            f"Received: {class_weights}."
        )
    return class_weights


def _check_label_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 1:
        raise InputError(f"`label_smoothing` must be in [0, 1). Received: {label_smoothing}.")


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
