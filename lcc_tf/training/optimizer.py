"""AdamW with a lower learning rate for some variables and a moving average of the weights.

Keras and TensorFlow have no public names for five parts of this optimizer. An upgrade that renames
one breaks it as follows:

- `_var_key`: `AttributeError` in the first step.
- `_apply_weight_decay`: weights decay twice, once here and once in Keras.
- `_backend_apply_gradients`: the averages stay at the first weights.
- `_distribution_strategy`, `tf.__internal__.distribute.interim.maybe_merge_call`:
  `AttributeError` in the first step with averages.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf


class AveragingAdamW(keras.optimizers.AdamW):
    """AdamW for a network with a pretrained part.

    Keras' own versions of the two features do not fit here: `MultiOptimizer` has no learning rate
    to record, and `use_ema` averages trained variables only. The statistics of batch normalization
    would then not match the averaged weights.

    The average is `average = d * average + (1 - d) * weight` after each step (Tarvainen & Valpola
    2017, https://arxiv.org/abs/1703.01780, section 2). Its decay d is the smaller one of
    `average_decay` and (1 + step) / (10 + step), as in `tf.train.ExponentialMovingAverage`, so that
    the first weights lose their influence soon.

    Args:
        learning_rate: a number or a schedule.
        weight_decay: decoupled; a step shrinks weights by this fraction of the learning rate.
        slow_variables: variables that learn and decay at `slow_rate` times the learning rate.
        slow_rate: in [0, 1].
        averaged_variables: variables to average, trained or not.
        average_decay: in [0, 1).
        **kwargs: of `keras.optimizers.AdamW`.

    Example:
        >>> encoder, head = keras.Variable(1.0), keras.Variable(1.0)
        >>> optimizer = AveragingAdamW(
        ...     0.1, weight_decay=0.0, slow_variables=[encoder], slow_rate=0.5
        ... )
        >>> optimizer.apply([1.0, 1.0], [encoder, head])
        >>> round(float(encoder), 3), round(float(head), 3)
        (0.95, 0.9)
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
        *,
        weight_decay: float,
        slow_variables: Sequence[keras.Variable] = (),
        slow_rate: float = 1.0,
        averaged_variables: Sequence[keras.Variable] = (),
        average_decay: float = 0.0,
        **kwargs: object,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)
        self.slow_rate = slow_rate
        self.average_decay = average_decay
        self._slow = {self._var_key(variable) for variable in slow_variables}
        # A function, since Keras would save a list of variables as variables of the optimizer.
        self._averaged = lambda: averaged_variables

    def build(self, variables: list[keras.Variable]) -> None:
        """Creates the moments and the averages."""
        if self.built:
            return
        super().build(variables)
        self._averages = self.add_optimizer_variables(self._averaged(), "average")
        self.start_averages()

    def start_averages(self) -> None:
        """Sets the averages to the current weights."""
        for variable, average in zip(self._averaged(), self._averages, strict=True):
            average.assign(variable)

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Decays and updates one variable."""
        slow = self._var_key(variable) in self._slow
        rate = tf.cast(learning_rate, variable.dtype) * (self.slow_rate if slow else 1.0)
        self.assign_sub(variable, variable * self.weight_decay * rate)
        super().update_step(gradient, variable, rate)

    def _apply_weight_decay(self, variables: list[keras.Variable]) -> None:
        """Does nothing: `update_step` decays each variable at its own learning rate."""

    def _backend_apply_gradients(
        self, grads: list[tf.Tensor], trainable_variables: list[keras.Variable]
    ) -> None:
        super()._backend_apply_gradients(grads, trainable_variables)
        if not self._averages:
            return
        step = tf.cast(tf.convert_to_tensor(self.iterations), tf.float32)
        decay = tf.minimum(self.average_decay, (1 + step) / (10 + step))

        def update(strategy: tf.distribute.Strategy, decay: tf.Tensor) -> None:
            for variable, average in zip(self._averaged(), self._averages, strict=True):
                strategy.extended.update(
                    average.value,
                    lambda average, weight, decay: average.assign_sub(
                        (1 - tf.cast(decay, average.dtype)) * (average - weight)
                    ),
                    args=(variable.value, decay),
                    group=False,
                )

        tf.__internal__.distribute.interim.maybe_merge_call(
            update, self._distribution_strategy, decay
        )

    def swap_averages(self) -> None:
        """Swaps the averages and the model's weights; a second call swaps them back."""
        for variable, average in zip(self._averaged(), self._averages, strict=True):
            weight = variable.numpy()
            variable.assign(average)
            average.assign(weight)


def averaging_optimizer(model: keras.Model) -> AveragingAdamW:
    """Returns a compiled model's optimizer, without the wrapper that scales float16's loss."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)
