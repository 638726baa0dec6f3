import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.losses import CrossEntropyDice, Dice, get_loss
from tfds_deepglobe.errors import InputError


def logits_of(probabilities):
    return tf.math.log(tf.constant(probabilities, tf.float32))


def test_dice_by_hand():
    # One image of two pixels, three classes; the third is absent from the truth.
    y_true = np.array([[[0, 1]]])
    y_pred = logits_of([[[[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]]]])
    # Class 0: 1 - 2 * 0.7 / (1.0 + 1) = 0.3; class 1: 1 - 2 * 0.6 / (0.8 + 1) = 1/3; class 2: 0.
    expected = (0.3 + 1 / 3 + 0) / 3
    assert float(Dice()(y_true, y_pred)) == pytest.approx(expected, abs=1e-6)


def test_dice_is_taken_over_the_batch_not_image_by_image():
    y_true = np.array([[[0, 0]], [[1, 1]]])
    y_pred = logits_of([[[[0.9, 0.1], [0.9, 0.1]]], [[[0.6, 0.4], [0.6, 0.4]]]])
    # Class 0: 1 - 2 * 1.8 / (3.0 + 2) = 0.28; class 1: 1 - 2 * 0.8 / (1.0 + 2) = 0.4667.
    assert float(Dice()(y_true, y_pred)) == pytest.approx((0.28 + 7 / 15) / 2, abs=1e-6)
    # Each sample carries the batch's value, so that Keras' mean over samples is it again.
    np.testing.assert_allclose(Dice().call(y_true, y_pred), [(0.28 + 7 / 15) / 2] * 2, atol=1e-6)


def test_dice_bounds():
    y_true = np.random.default_rng(0).integers(0, 4, (2, 8, 8))
    right = 100.0 * tf.one_hot(y_true, 4)
    wrong = 100.0 * tf.one_hot((y_true + 1) % 4, 4)
    assert float(Dice()(y_true, right)) == pytest.approx(0, abs=1e-6)
    assert float(Dice()(y_true, wrong)) == pytest.approx(1, abs=1e-6)


def test_cross_entropy_dice_is_the_sum():
    rng = np.random.default_rng(1)
    y_true = rng.integers(0, 3, (2, 4, 4))
    y_pred = rng.normal(size=(2, 4, 4, 3)).astype(np.float32)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = float(cross_entropy(y_true, y_pred)) + float(Dice()(y_true, y_pred))
    assert float(CrossEntropyDice()(y_true, y_pred)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", [Dice, CrossEntropyDice])
def test_losses_and_gradients_of_two_replicas_are_those_of_the_whole_batch(loss, two_replicas):
    rng = np.random.default_rng(2)
    y_true = rng.integers(0, 3, (4, 4, 4))
    y_pred = rng.normal(size=(4, 4, 4, 3)).astype(np.float32)

    def value_and_gradient(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss()(labels, logits)
        return value, tape.gradient(value, logits)

    expected, gradient = value_and_gradient(tf.constant(y_true), tf.constant(y_pred))

    def share(array):
        return two_replicas.experimental_distribute_values_from_function(
            lambda context: tf.constant(array[2 * context.replica_id_in_sync_group :][:2])
        )

    values, gradients = two_replicas.run(
        tf.function(value_and_gradient), args=(share(y_true), share(y_pred))
    )
    # Keras divides each replica's loss by their number; the optimizer adds the gradients up.
    total = sum(float(value) for value in two_replicas.experimental_local_results(values))
    assert total == pytest.approx(float(expected), rel=1e-6)
    joined = tf.concat(two_replicas.experimental_local_results(gradients), axis=0)
    np.testing.assert_allclose(joined, gradient, atol=1e-7)


@pytest.mark.parametrize("loss", [Dice, CrossEntropyDice])
def test_pixels_without_truth_are_left_out(loss):
    rng = np.random.default_rng(3)
    y_true = rng.integers(0, 3, (2, 4, 6))
    y_pred = rng.normal(size=(2, 4, 6, 3)).astype(np.float32)
    expected = float(loss()(y_true[:, :, :4], y_pred[:, :, :4]))
    y_true[:, :, 4:] = -1
    assert float(loss()(y_true, y_pred)) == pytest.approx(expected, rel=1e-6)
    # An image without truth, which fills up a batch
    filled = np.concatenate([y_true, np.full((1, 4, 6), -1)])
    logits = np.concatenate([y_pred, 10 * y_pred[:1]])
    assert float(loss()(filled, logits)) == pytest.approx(expected, rel=1e-6)
    assert float(loss()(np.full_like(y_true, -1), y_pred)) == 0


def test_unknown_loss():
    with pytest.raises(InputError, match=r"'dise'.*cross_entropy\+dice"):
        get_loss("dise")
