"""Losses for segmentation, from logits and class ids.

Under `tf.distribute` each replica sees its share of the global batch. Keras averages the
per-sample values of a loss over all replicas; Dice is no such mean, so its sums are taken over
all replicas first. Both then equal the loss of the whole batch on one device.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from lcc_tf.metrics import NO_TRUTH
from tfds_deepglobe.errors import InputError


def _sum_over_replicas(x: tf.Tensor) -> tf.Tensor:
    """Sum of a tensor over all replicas, with gradients to each of them."""
    context = tf.distribute.get_replica_context()
    # None while Keras builds a model symbolically, outside of any replica.
    if context is None or context.num_replicas_in_sync == 1:
        return x
    return context.all_reduce(tf.distribute.ReduceOp.SUM, x)


@keras.saving.register_keras_serializable("lcc_tf")
class Dice(keras.losses.Loss):
    """Multi-class Dice loss over the whole batch, as the original trained with.

    For each class, 1 - 2 sum(p y) / (sum(p) + sum(y)) with the sums over all pixels of the batch
    (Milletari et al. 2016, https://arxiv.org/abs/1606.04797, with plain instead of squared sums in
    the denominator); averaged over classes, where one that the batch's masks lack adds 0. This is
    `DiceLoss(mode="multiclass")` of segmentation_models_pytorch. `keras.losses.Dice` differs: it
    adds 1 - 0 for a class that is absent from the masks and predicted anywhere.
    """

    def __init__(self, name: str = "dice") -> None:
        super().__init__(name=name)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """The loss of the batch, once a sample.

        Args:
            y_true: class ids `(batch, height, width)`; pixels of `NO_TRUTH` are left out.
            y_pred: float logits `(batch, height, width, num_classes)`.

        Returns:
            float32 `(batch,)`, each the Dice loss of the whole batch, in [0, 1].
        """
        y_true = tf.cast(y_true, tf.int32)
        truth = tf.one_hot(y_true, y_pred.shape[-1], dtype=tf.float32)
        probabilities = tf.nn.softmax(tf.cast(y_pred, tf.float32))
        probabilities *= tf.cast(tf.not_equal(y_true, NO_TRUTH), tf.float32)[..., None]
        sums = _sum_over_replicas(
            tf.stack(
                [
                    tf.reduce_sum(probabilities * truth, axis=(0, 1, 2)),
                    tf.reduce_sum(probabilities, axis=(0, 1, 2)),
                    tf.reduce_sum(truth, axis=(0, 1, 2)),
                ]
            )
        )
        intersection, predicted, actual = tf.unstack(sums)
        per_class = 1.0 - 2.0 * intersection / tf.maximum(predicted + actual, 1e-7)
        loss = tf.reduce_mean(tf.where(actual > 0, per_class, 0.0))
        return tf.repeat(loss, tf.shape(y_true)[0])

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"name": self.name}


@keras.saving.register_keras_serializable("lcc_tf")
class CrossEntropyDice(keras.losses.Loss):
    """Sum of pixel-wise cross entropy and `Dice`.

    Cross entropy has a gradient at every pixel from the first step on, Dice weighs the classes
    alike: the sum is the most robust loss over segmentation data sets in Ma et al. 2021, Loss
    odyssey, https://doi.org/10.1016/j.media.2021.102035.
    """

    def __init__(self, name: str = "cross_entropy_dice") -> None:
        super().__init__(name=name)
        self._dice = Dice()

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """The loss a sample, of the shapes that `Dice.call` takes and returns."""
        y_true = tf.cast(y_true, tf.int32)
        cross_entropy = keras.losses.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=True, ignore_class=NO_TRUTH
        )
        # The mean over the pixels that have a truth, in all replicas together: Keras will divide
        # the sum over the samples by their number.
        pixels = tf.reduce_sum(tf.cast(tf.not_equal(y_true, NO_TRUTH), tf.float32))
        samples = tf.cast(tf.shape(y_true)[0], tf.float32)
        pixels, samples = tf.unstack(_sum_over_replicas(tf.stack([pixels, samples])))
        mean = tf.reduce_sum(cross_entropy, axis=(1, 2)) * tf.math.divide_no_nan(samples, pixels)
        return mean + self._dice.call(y_true, y_pred)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"name": self.name}


LOSSES: dict[str, Callable[[], keras.losses.Loss]] = {
    "dice": Dice,
    "cross_entropy+dice": CrossEntropyDice,
}


def get_loss(name: str) -> keras.losses.Loss:
    """Builds a loss by its name.

    Args:
        name: a key of `LOSSES`.

    Raises:
        InputError: unknown name.
    """
    if name not in LOSSES:
        raise InputError(f"Unknown loss. Received: {name!r}. Choose one of {list(LOSSES)}.")
    return LOSSES[name]()
