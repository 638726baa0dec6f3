"""Training on two replicas equals training on one device."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from lcc_tf.losses import get_loss
from lcc_tf.models import build_model
from lcc_tf.training.distribution import synchronize_batch_norm
from lcc_tf.training.optimizer import AveragingAdamW
from lcc_tf.training.train import train


def losses(state):
    return [(row["loss"], row["val_loss"]) for row in state.history]


def test_two_replicas_give_the_losses_of_one_device(
    tiny_config, tmp_path, monkeypatch, two_replicas
):
    # 49 training and 5 validation images: the last batch of 4 has to be filled up. Dropout differs
    # by replica, so it is off. AdamW's first steps are as long as the rate whatever the gradient,
    # which turns rounding into other weights: the rate is the original's small one.
    monkeypatch.setattr(keras.layers.Dropout, "call", lambda self, x, training=False: x)
    config = dataclasses.replace(
        tiny_config,
        data=dataclasses.replace(tiny_config.data, demo_count=60),
        learning_rate=1e-5,
        schedule="constant",
    )
    one = train(config, tmp_path / "one")
    two = train(config, tmp_path / "two", strategy=two_replicas)
    np.testing.assert_allclose(losses(two), losses(one), rtol=5e-5)
    for score in ("val_mean_iou", "val_iou", "iou"):
        np.testing.assert_allclose(
            [row[score] for row in two.history], [row[score] for row in one.history], atol=1e-3
        )


def test_two_replicas_take_the_step_of_one_device(two_replicas):
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    masks = rng.integers(0, 3, (4, 32, 32))
    weights = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = build_model("unetpp", 3, encoder="tiny", encoder_weights=None)
            synchronize_batch_norm(model, strategy)
            model.compile(keras.optimizers.SGD(0.5), loss=get_loss("cross_entropy+dice"))
        before = model.get_weights()
        model.fit(images, masks, batch_size=4, epochs=1, verbose=0)
        steps = [after - b for after, b in zip(model.get_weights(), before, strict=True)]
        weights.append(np.concatenate([step.ravel() for step in steps]))
    one, two = weights
    assert np.abs(one).max() > 0.01
    np.testing.assert_allclose(two, one, atol=1e-4 * np.abs(one).max())


def test_two_replicas_average_the_weights_of_one_device(two_replicas):
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 1, (16, 8, 8, 3)).astype(np.float32)
    masks = rng.integers(0, 3, (16, 8, 8))
    averages = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = keras.Sequential(
                [
                    keras.Input((8, 8, 3)),
                    keras.layers.Conv2D(4, 3, padding="same", use_bias=False),
                    keras.layers.BatchNormalization(),
                    keras.layers.Conv2D(3, 1),
                ]
            )
            synchronize_batch_norm(model, strategy)
            optimizer = AveragingAdamW(
                0.01, weight_decay=0.0, averaged_variables=model.variables, average_decay=0.9
            )
            model.compile(optimizer, loss=get_loss("cross_entropy"))
        model.fit(images, masks, batch_size=4, epochs=2, shuffle=False, verbose=0)
        trained = model.get_weights()
        optimizer.swap_averages()
        averaged = model.get_weights()
        assert all(
            np.abs(after - average).max() > 1e-3
            for after, average in zip(trained, averaged, strict=True)
        )
        averages.append(averaged)
    for one, two in zip(*averages, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-3 * np.abs(one).max())
