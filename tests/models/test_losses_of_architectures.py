"""Training steps of every architecture with every loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.losses import get_loss
from lcc_tf.models import ARCHITECTURES, build_model
from lcc_tf.models.segmentation_models import BASELINES

LOSSES = ("dice", "cross_entropy", "focal", "jaccard", "lovasz", "cross_entropy+dice")


@pytest.fixture(scope="module")
def small_networks(tiny_encoder):
    """Key: architecture. Value: small network."""
    keras.utils.set_random_seed(0)
    return {
        arch: build_model(
            arch, 3, encoder="resnet18" if arch in BASELINES else tiny_encoder, encoder_weights=None
        )
        for arch in ARCHITECTURES
    }


# Tests that are not slow: every architecture with one loss, and every loss with one architecture
@pytest.mark.parametrize(
    ("arch", "loss"),
    [
        pytest.param(
            arch,
            loss,
            marks=()
            if loss == "cross_entropy+dice" or arch == "deeplabv3plus"
            else pytest.mark.slow,
        )
        for arch in ARCHITECTURES
        for loss in LOSSES
    ],
)
def test_two_steps_of_every_architecture_with_every_loss(arch, loss, small_networks):
    model, loss = small_networks[arch], get_loss(loss)
    optimizer = keras.optimizers.SGD(1e-3)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    masks = rng.integers(0, 3, (2, 32, 32))
    masks[0, :8] = -1
    # Run the steps eagerly, because tracing a graph would take a hundred times as long.
    for _ in range(2):
        with tf.GradientTape() as tape:
            value = loss(masks, model(images, training=True))
        gradients = tape.gradient(value, model.trainable_weights)
        assert all(gradient is not None for gradient in gradients)
        norm = float(tf.linalg.global_norm(gradients))
        assert 0 < norm < np.inf
        assert 0 < float(value) < 10
        optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
