"""AdamW with a lower rate for some variables and a moving average of the weights."""

from collections.abc import Sequence

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("lcc_tf")
class AveragingAdamW(keras.optimizers.AdamW):
    """AdamW for a network of which one part is trained already.

    Keras has both features in forms that do not do here: `MultiOptimizer` has no learning rate to
    record, and `use_ema` averages what is trained but not the statistics of batch normalisation,
    which then belong to other weights than those that are scored.

    The average is `average = d * average + (1 - d) * weight` after each step (Tarvainen & Valpola
    2017, https://arxiv.org/abs/1703.01780, section 2). Its decay d rises to `average_decay` as
    (1 + step) / (10 + step), as in `tf.train.ExponentialMovingAverage`, so that the start is soon
    forgotten.

    Args:
        learning_rate: a number or a schedule.
        weight_decay: decoupled, as a share of the learning rate a step.
        slow_variables: those that learn, and decay, at `slow_rate` times the learning rate.
        slow_rate: in [0, 1].
        averaged_variables: those whose average is kept, trained or not.
        average_decay: in [0, 1).
        **kwargs: of `keras.optimizers.AdamW`.
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
        # Behind a function, since Keras would save a list of variables as the optimizer's own.
        self._averaged = lambda: averaged_variables

    def build(self, variables: list[keras.Variable]) -> None:
        """Makes the moments and the averages."""
        if self.built:
            return
        super().build(variables)
        self._averages = self.add_optimizer_variables(self._averaged(), "average")
        self.start_averages()

    def start_averages(self) -> None:
        """Starts the averages anew at the weights as they are."""
        for variable, average in zip(self._averaged(), self._averages, strict=True):
            average.assign(variable)

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Decays and moves one variable."""
        slow = self._var_key(variable) in self._slow
        rate = tf.cast(learning_rate, variable.dtype) * (self.slow_rate if slow else 1.0)
        self.assign_sub(variable, variable * self.weight_decay * rate)
        super().update_step(gradient, variable, rate)

    def _apply_weight_decay(self, variables: list[keras.Variable]) -> None:
        """Nothing: `update_step` does it, at each variable's own rate."""

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
        """Exchanges the averages with the model's weights; twice leaves all as it was."""
        for variable, average in zip(self._averaged(), self._averages, strict=True):
            weight = variable.numpy()
            variable.assign(average)
            average.assign(weight)


def averaging_optimizer(model: keras.Model) -> AveragingAdamW:
    """A compiled model's optimizer, without the loss scaling that float16 puts around it."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)
