"""AdamW with a lower learning rate for some variables and a moving average of the weights."""

from collections.abc import Sequence
from types import SimpleNamespace

import keras
import tensorflow as tf

from lcc_tf.errors import InputError

# Decay rates of the moments: defaults of Adam (https://arxiv.org/abs/1412.6980, algorithm 1)
BETA_1 = 0.9
BETA_2 = 0.999


class AveragingAdamW(keras.optimizers.Optimizer):
    """AdamW with a lower learning rate for some variables and a moving average of weights.

    Each variable is updated by the operation `ResourceApplyAdam` of TensorFlow (Kingma & Ba 2015,
    https://arxiv.org/abs/1412.6980, section 2). `keras.optimizers.AdamW` needs about 30 operations
    per variable, so that the first step of a large network starts several seconds later.

    Keras has two features for learning rates and averages, which are not sufficient:

    - `keras.optimizers.MultiOptimizer` has no learning rate that the history could record.
    - The argument `use_ema` averages trained variables only. It does not average the statistics of
      batch normalization. These statistics would not match the averaged weights.

    The average is `average = d * average + (1 - d) * weight` after each step (Tarvainen & Valpola
    2017, https://arxiv.org/abs/1703.01780, section 2). The decay d is the smaller of
    `average_decay` and (1 + step) / (10 + step), as in `tf.train.ExponentialMovingAverage`. In the
    first steps, d is therefore small, and the initial weights soon have no influence.

    Args:
        learning_rate: a number or a schedule.
        weight_decay: decoupled weight decay. Each step multiplies the weights by
            (1 - weight_decay * learning_rate) (Loshchilov & Hutter 2019,
            https://arxiv.org/abs/1711.05101, algorithm 2).
        slow_variables: variables whose learning rate is `slow_rate` times `learning_rate`. Their
            weight decay uses the same lower learning rate.
        slow_rate: factor of the learning rate of `slow_variables`, in [0, 1].
        averaged_variables: variables to average; they can include variables that are not trained.
        average_decay: largest value of the decay d, in [0, 1).
        accumulate: number of steps per update. An update uses the mean gradient of these steps. The
            trained variables and the averages change only with an update. With a strategy that
            copies variables to devices, `accumulate` must be 1. For larger values, Keras raises an
            error.
        epsilon: small number that prevents a division by 0. The default is the default of PyTorch,
            which the original PyTorch notebooks use.
        **kwargs: arguments of `keras.optimizers.Optimizer`.

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
        accumulate: int = 1,
        epsilon: float = 1e-8,
        **kwargs: object,
    ) -> None:
        steps = None if accumulate == 1 else accumulate
        super().__init__(learning_rate, gradient_accumulation_steps=steps, **kwargs)
        # The attribute is not called `weight_decay`, because Keras would then decay all variables
        # at the same learning rate.
        self.decoupled_decay = weight_decay
        self.slow_rate = slow_rate
        self.average_decay = average_decay
        self.epsilon = epsilon
        # `update_step` receives the copy of a variable on a replica. Therefore `_slow` contains the
        # copies.
        copies = tf.distribute.get_strategy().experimental_local_results
        self._slow = {copy.ref() for slow in slow_variables for copy in copies(slow.value)}
        # `_averaged` is a function that returns the list. If `_averaged` were the list, Keras would
        # save these variables as variables of the optimizer.
        self._averaged = lambda: averaged_variables

    def build(self, variables: list[keras.Variable]) -> None:
        """Creates the moments of Adam, the averages and the norm of the gradient.

        Raises:
            InputError: a variable is not float32.
        """
        if self.built:
            return
        if others := sorted({variable.dtype for variable in variables} - {"float32"}):
            raise InputError(
                f"The variables must be float32. Received variables of {', '.join(others)}. Use a "
                "dtype policy such as 'mixed_bfloat16', whose variables are float32."
            )
        super().build(variables)
        moments = self.add_optimizer_variables(variables, ["momentum", "velocity"])
        copies = tf.distribute.get_strategy().experimental_local_results
        self._moments = {
            copy.ref(): pair
            for variable, *pair in zip(variables, *moments, strict=True)
            for copy in copies(variable.value)
        }
        self.gradient_norm = self.add_variable((), name="gradient_norm", aggregation="mean")
        self._averages = self.add_optimizer_variables(self._averaged(), "average")
        self.start_averages()

    @property
    def averages(self) -> list[tuple[keras.Variable, keras.Variable]]:
        """Pairs of an averaged variable and its average."""
        return list(zip(self._averaged(), self._averages, strict=True))

    def start_averages(self) -> None:
        """Sets the averages to the current weights."""
        for variable, average in self.averages:
            average.assign(variable)

    def update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Decays and updates one variable, with the learning rate of this variable."""
        factor = self.slow_rate if variable.ref() in self._slow else 1.0
        shared = self._shared
        if factor not in shared.rates:
            rate = tf.cast(learning_rate, tf.float32) * factor
            shared.rates[factor] = rate, self.decoupled_decay * rate
        rate, decay = shared.rates[factor]
        # Decay a variable only after the gradients are computed. Otherwise, TensorFlow must keep a
        # copy of the old value, because the gradients need it.
        with tf.control_dependencies([gradient]):
            self.assign_sub(variable, variable * decay)
        momentum, velocity = self._moments[variable.ref()]
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.value.handle,
            v=velocity.value.handle,
            lr=rate,
            grad=gradient,
            **shared.constants,
        )

    def apply(
        self, grads: list[tf.Tensor], trainable_variables: list[keras.Variable] | None = None
    ) -> None:
        """Updates the variables, then the averages.

        In float16, `LossScaleOptimizer` does not call `apply` if gradients are infinite. The
        variables and the averages then stay the same.
        """
        updates = tf.convert_to_tensor(self.iterations)
        # All variables share these tensors and the learning rates. If each variable had its own
        # tensors, the graph of a large network would have 1.5 times as many operations, and the
        # first step would end seconds later.
        step = tf.cast(updates + 1, tf.float32)
        constants = {
            "beta1": tf.constant(BETA_1),
            "beta2": tf.constant(BETA_2),
            "beta1_power": BETA_1**step,
            "beta2_power": BETA_2**step,
            "epsilon": tf.constant(self.epsilon),
        }
        # Key of `rates`: factor of the learning rate. Value: learning rate, and its product with
        # the weight decay. A namespace hides the dictionaries from Keras, which wraps and tracks
        # dictionaries that are attributes of an optimizer.
        self._shared = SimpleNamespace(constants=constants, rates={})
        super().apply(grads, trainable_variables)
        # This norm is not finite if a gradient is not finite.
        self.gradient_norm.assign(tf.linalg.global_norm([*map(tf.convert_to_tensor, grads)]))
        step = tf.cast(updates, tf.float32)
        decay = tf.minimum(self.average_decay, (1 + step) / (10 + step))
        is_update = tf.cast(tf.convert_to_tensor(self.iterations) - updates, tf.float32)
        fraction = is_update * (1 - decay)
        for variable, average in self.averages:
            difference = average - tf.convert_to_tensor(variable)
            self.assign_sub(average, tf.cast(fraction, average.dtype) * difference)

    def swap_averages(self) -> None:
        """Swaps the averages and the weights of the model; a second call swaps them back."""
        for variable, average in self.averages:
            weight = tf.convert_to_tensor(variable)  # keeps its values when the variable changes
            variable.assign(average)
            average.assign(weight)


def averaging_optimizer(model: keras.Model) -> AveragingAdamW:
    """Returns the `AveragingAdamW` of a compiled model.

    In float16, the optimizer of the model is a `LossScaleOptimizer`, which wraps `AveragingAdamW`.
    """
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)
