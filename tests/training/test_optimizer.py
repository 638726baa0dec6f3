import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.training.optimizer import AveragingAdamW


def variables(values):
    return [keras.Variable(np.float32(value), name=f"v{i}") for i, value in enumerate(values)]


def test_optimizer_without_options_equals_adamw():
    ours, theirs = variables([[1.0, -2.0], [3.0, 4.0]]), variables([[1.0, -2.0], [3.0, 4.0]])
    optimizer = AveragingAdamW(0.1, weight_decay=0.5)
    adamw = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    for step in range(3):
        grads = [np.float32([1.0, -1.0]), np.float32([step, 2.0])]
        optimizer.apply(grads, ours)
        adamw.apply(grads, theirs)
    # 1 - 0.999 ** step is small, so that the rounding errors of float32 are visible. The results of
    # both optimizers differ by 5e-6.
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_slow_variables_have_a_fraction_of_the_learning_rate():
    fast, slow = variables([2.0, 2.0])
    optimizer = AveragingAdamW(0.1, weight_decay=0.5, slow_variables=[slow], slow_rate=0.1)
    optimizer.apply([np.float32(1.0), np.float32(1.0)], [fast, slow])
    # First, the weight is multiplied by (1 - learning rate * weight decay). Then the first step of
    # Adam subtracts the learning rate.
    assert float(fast) == pytest.approx(2.0 * (1 - 0.1 * 0.5) - 0.1, abs=1e-6)
    assert float(slow) == pytest.approx(2.0 * (1 - 0.01 * 0.5) - 0.01, abs=1e-6)


def test_decay_waits_for_the_gradient():
    """Verifies that the decay follows the gradient. Before it, TensorFlow copies the weights."""
    (weight,) = variables([[1.0, 2.0]])
    optimizer = AveragingAdamW(0.1, weight_decay=0.5)
    optimizer.build([weight])
    apply = tf.function(lambda gradient: optimizer.apply([gradient], [weight]))
    graph = apply.get_concrete_function(tf.TensorSpec((2,), tf.float32)).graph
    (decay,) = (op for op in graph.get_operations() if op.type == "AssignSubVariableOp")
    (read,) = (i.op for i in decay.inputs[1].op.inputs if i.op.type == "ReadVariableOp")
    assert read.control_inputs


def test_variables_in_half_precision_raise():
    weight = keras.Variable(1.0, dtype="bfloat16")
    with pytest.raises(InputError, match="Received variables of bfloat16. Use.*'mixed_bfloat16'"):
        AveragingAdamW(0.1, weight_decay=0.5).apply([np.float32(1.0)], [weight])


def test_accumulated_steps_equal_a_step_with_the_mean_gradient():
    gradients = np.float32([[1.0, -3.0], [3.0, 1.0], [0.5, 2.0], [1.5, 4.0]])
    results = []
    for accumulate, steps in ((1, [gradients[:2].mean(0), gradients[2:].mean(0)]), (2, gradients)):
        (weight,) = variables([[2.0, 2.0]])
        optimizer = AveragingAdamW(
            0.1,
            weight_decay=0.5,
            averaged_variables=[weight],
            average_decay=0.15,
            accumulate=accumulate,
        )
        optimizer.build([weight])
        for gradient in steps:
            optimizer.apply([gradient], [weight])
        ((_, average),) = optimizer.averages
        results.append((np.array(weight), np.array(average)))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6)


def test_averages_include_variables_that_are_not_trained():
    weight, statistic = variables([1.0, 10.0])
    optimizer = AveragingAdamW(
        0.1, weight_decay=0.0, averaged_variables=[weight, statistic], average_decay=0.15
    )
    optimizer.build([weight])
    statistic.assign(20.0)
    optimizer.apply([np.float32(1.0)], [weight])
    optimizer.apply([np.float32(1.0)], [weight])
    # The decay is 1/10 in the first step and min(2/11, 0.15) in the second step. The weight is 1 at
    # the start, 0.9 after the first step and 0.8 after the second step.
    first = 0.1 * 1.0 + 0.9 * 0.9
    second = 0.15 * first + 0.85 * 0.8
    optimizer.swap_averages()
    assert float(weight) == pytest.approx(second, abs=1e-5)
    assert float(statistic) == pytest.approx(0.15 * (0.1 * 10 + 0.9 * 20) + 0.85 * 20, abs=1e-5)
    optimizer.swap_averages()
    assert float(weight) == pytest.approx(0.8, abs=1e-5)
    assert float(statistic) == 20.0


def test_averages_are_variables_of_the_optimizer():
    (weight,) = variables([1.0])
    optimizer = AveragingAdamW(
        0.1, weight_decay=0.0, averaged_variables=[weight], average_decay=0.9
    )
    optimizer.build([weight])
    assert optimizer.variables[-1].name.endswith("average")


def test_step_that_is_skipped_in_float16_does_not_change_the_average():
    (weight,) = variables([1.0])
    averaging = AveragingAdamW(
        0.1, weight_decay=0.0, averaged_variables=[weight], average_decay=0.9
    )
    optimizer = keras.optimizers.LossScaleOptimizer(averaging)
    optimizer.build([weight])
    step = tf.function(lambda gradient: optimizer.apply([gradient], [weight]))

    def average():
        averaging.swap_averages()
        value = float(weight)
        averaging.swap_averages()
        return value

    step(tf.constant(np.inf))
    assert (float(weight), average()) == (1.0, 1.0)
    step(tf.constant(1000.0))
    assert float(weight) == pytest.approx(0.9, abs=1e-5)
    assert average() == pytest.approx(0.1 * 1.0 + 0.9 * 0.9, abs=1e-5)
