"""Training on two replicas equals training on one device."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.losses import get_loss
from lcc_tf.models import UNetPlusPlus
from lcc_tf.training.distribution import synchronize_batch_norm
from lcc_tf.training.optimizer import AveragingAdamW
from lcc_tf.training.train import train
from tests.untrained_runs import small_unet


def test_two_replicas_have_the_same_losses_and_scores_as_one_device(
    eagerly, small_networks, tiny_config, tmp_path, monkeypatch, two_replicas
):
    # Switch dropout off, because its random numbers differ between replicas.
    monkeypatch.setattr(keras.layers.Dropout, "call", lambda self, x, training=False: x)
    # The first steps of AdamW change each weight by the learning rate, even if the gradient is very
    # small. A rounding error of a gradient can therefore change a weight by the learning rate.
    # Therefore the learning rate of this test is small. With this batch size, the last validation
    # batch must be filled up.
    config = dataclasses.replace(
        tiny_config,
        image_size=32,
        batch_size=6,
        epochs=1,
        learning_rate=1e-5,
        schedule="constant",
    )
    (one,) = train(config, tmp_path / "one").history
    (two,) = train(config, tmp_path / "two", strategy=two_replicas).history
    for name in ("loss", "val_loss"):
        assert two[name] == pytest.approx(one[name], rel=5e-5)
    for name in ("iou", "val_iou", "val_mean_iou"):
        assert two[name] == pytest.approx(one[name], abs=1e-3)


def convolutions():
    """Builds a network whose steps compile in seconds."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.Conv2D(3, 1),
        ]
    )


def unetpp():
    return UNetPlusPlus(3, encoder="tiny", encoder_weights=None)


def small_unet_without_dropout():
    """Builds a small UNet. Dropout is off, because its random numbers differ between replicas."""
    model = small_unet(3)
    (dropout,) = (layer for layer in model.layers if isinstance(layer, keras.layers.Dropout))
    dropout.rate = 0.0
    return model


@pytest.mark.parametrize(
    ("network", "is_eager"),
    [
        (convolutions, False),
        (small_unet_without_dropout, True),
        pytest.param(unetpp, True, marks=pytest.mark.slow),
    ],
)
def test_two_replicas_compute_the_same_steps_as_one_device(network, is_eager, two_replicas):
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (8, 32, 32, 3)).astype(np.float32)
    masks = rng.integers(0, 3, (8, 32, 32))
    results = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = network()
            synchronize_batch_norm(model, strategy)
            optimizer = AveragingAdamW(
                0.01,
                weight_decay=0.1,
                slow_variables=model.trainable_variables[:1],
                slow_rate=0.1,
                averaged_variables=model.weights,
                average_decay=0.9,
                epsilon=1.0,  # large, so that the size of a step depends on the gradient
            )
            optimizer.build(model.trainable_variables)
            model.compile(optimizer, get_loss("cross_entropy+dice"), run_eagerly=is_eager)
        initial = model.get_weights()
        model.fit(images, masks, batch_size=4, epochs=1, shuffle=False, verbose=0)
        trained = model.get_weights()
        optimizer.swap_averages()
        averages = model.get_weights()
        results.append(
            [
                np.concatenate([(b - a).ravel() for a, b in zip(first, last, strict=True)])
                for first, last in ((initial, trained), (initial, averages), (averages, trained))
            ]
        )
    for one, two in zip(*results, strict=True):
        largest = np.abs(one).max()
        assert largest > 1e-3
        np.testing.assert_allclose(two, one, atol=2e-5 * largest)
