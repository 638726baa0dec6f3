"""Weighted average of the probabilities of several models, as a function and as a layer."""

import functools
from collections.abc import Sequence

import keras
import tensorflow as tf

from lcc_tf.arguments import number_per
from lcc_tf.errors import InputError

AVERAGES = ("probabilities", "logits")
# Minimum probability before a logarithm, because the logarithm of 0 is not finite. With usual
# logits, all probabilities of a float32 softmax are above this minimum.
_TINY = 1e-30


def weighted_average(
    probabilities: Sequence[tf.Tensor], weights: Sequence[float], average: str = "probabilities"
) -> tf.Tensor:
    """Averages the probabilities of several models.

    Args:
        probabilities: float32 `(..., num_classes)` in [0, 1], one tensor per model.
        weights: one weight per model. Each weight is 0 or more, and at least one weight is above 0.
            The function divides the weights by their sum.
        average: "probabilities" for the weighted mean of the probabilities, or "logits" for the
            softmax of the weighted mean of the logits. For "logits", the function uses the
            logarithms of the probabilities. At each pixel, they differ from the logits only by a
            constant. The softmax removes this constant.

    Returns:
        float32 `(..., num_classes)` in [0, 1]; the sum over the classes is 1.

    Example:
        >>> weighted_average([tf.constant([1.0, 0.0]), tf.constant([0.5, 0.5])], [3, 1]).numpy()
        array([0.875, 0.125], dtype=float32)
    """
    fractions = [weight / sum(weights) for weight in weights]
    if average == "logits":
        probabilities = [tf.math.log(tf.maximum(p, _TINY)) for p in probabilities]
    # Add two tensors at a time, because LiteRT has no 8-bit operation for `tf.add_n`.
    terms = [tf.multiply(p, fraction) for fraction, p in zip(fractions, probabilities, strict=True)]
    mean = functools.reduce(tf.add, terms)
    return tf.nn.softmax(mean) if average == "logits" else mean


def check_member_weights(weights: Sequence[float] | None, num_members: int) -> tuple[float, ...]:
    """Verifies the weights of an ensemble's members (the models that the ensemble averages).

    Args:
        weights: one weight per member; None for equal weights.
        num_members: number of members.

    Returns:
        One weight per member.

    Raises:
        InputError: `weights` is not a sequence of numbers, the number of weights is wrong, a weight
            is negative or not finite, or all weights are zero.
    """
    weights = (1.0,) * num_members if weights is None else number_per("member", weights, "weights")
    if len(weights) != num_members or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise InputError(
            f"An ensemble of {num_members} members needs {num_members} weights. Each weight must "
            "be 0 or more, and at least one weight must be above 0. "
            f"Received: weights={weights}."
        )
    return weights


@keras.saving.register_keras_serializable("lcc_tf")
class WeightedAverage(keras.layers.Layer):
    """Layer that averages probabilities with `weighted_average`.

    Args:
        weights: one weight per tensor. Each weight is 0 or more, and at least one is above 0.
        average: "probabilities" or "logits"; see `weighted_average`.
    """

    def __init__(
        self, weights: Sequence[float], average: str = "probabilities", **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.weights_of_members = [float(weight) for weight in weights]
        self.average = average

    def call(self, tensors: list[tf.Tensor]) -> tf.Tensor:
        """Averages tensors, float `(batch, height, width, num_classes)` in [0, 1]."""
        return weighted_average(tensors, self.weights_of_members, self.average)

    def compute_output_shape(self, shapes: list[tuple]) -> tuple:
        """Returns the shape of the first tensor."""
        return shapes[0]

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "weights": self.weights_of_members,
            "average": self.average,
        }
