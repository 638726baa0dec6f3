"""Encoders with dilated stages compute the same features as strided encoders, on a denser grid."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

# These modules are not public. They build small networks, but `keras.applications` contains
# only networks of full size. If Keras moves the modules, change only these imports.
from keras.src.applications import convnext, efficientnet_v2, resnet

from lcc_tf.models import DeepLabV3Plus, UNetPlusPlus
from lcc_tf.models.convolutions import ChannelwiseConv2D
from lcc_tf.models.encoders import ENCODERS, build_encoder


def small_resnet(**arguments):
    def stages(x):
        for stage, blocks in enumerate((1, 1, 2, 2), start=2):
            strides = 1 if stage == 2 else 2
            x = resnet.stack_residual_blocks_v1(x, 4, blocks, strides, name=f"conv{stage}")
        return x

    return resnet.ResNet(stages, preact=False, use_bias=True, **arguments)


# Key: encoder. Value: small network of the same type, and taps of the small network. Taps are names
# of the layers that return features.
SMALL = {
    "resnet50": (
        small_resnet,
        (
            *("conv1_relu", "conv2_block1_out", "conv3_block1_out"),
            *("conv4_block2_out", "conv5_block2_out"),
        ),
    ),
    "efficientnetv2b0": (
        functools.partial(
            efficientnet_v2.EfficientNetV2,
            width_coefficient=0.25,
            depth_coefficient=0.25,
            default_size=224,
            name="efficientnetv2-b0",
            include_preprocessing=False,
        ),
        (
            *("block1a_project_activation", "block2a_project_bn", "block3a_project_bn"),
            *("block5b_add", "block6b_add"),
        ),
    ),
    "convnext_tiny": (
        functools.partial(
            convnext.ConvNeXt,
            [1, 1, 2, 2],
            [4, 6, 8, 10],
            name="convnext_tiny",
            include_preprocessing=False,
        ),
        ENCODERS["convnext_tiny"].taps,
    ),
}


@pytest.fixture
def small(monkeypatch):
    """Function that registers a network with few channels and blocks as the encoder "small"."""

    def register(name):
        application, taps = SMALL[name]
        spec = dataclasses.replace(ENCODERS[name], application=application, taps=taps)
        monkeypatch.setitem(ENCODERS, "small", spec)

    return register


@pytest.mark.parametrize("arch", [UNetPlusPlus, DeepLabV3Plus])
def test_convnext_can_be_trained_saved_and_loaded(arch, small, tmp_path):
    small("convnext_tiny")
    model = arch(3, encoder="small", encoder_weights=None)
    depthwise = model.get_layer("encoder").get_layer("convnext_tiny_stage_0_block_0_depthwise_conv")
    assert isinstance(depthwise, ChannelwiseConv2D)
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 32, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(image)[..., 0] ** 2)
    gradients = tape.gradient(loss, model.trainable_weights)
    assert all(gradient is not None for gradient in gradients)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(image), model(image), atol=1e-6)


# `phase` is the row and the column of the first dense feature that equals a strided feature. It
# depends on the padding of the strided convolutions.
@pytest.mark.parametrize(
    ("name", "phase"), [("resnet50", 0), ("efficientnetv2b0", 3), ("convnext_tiny", 1)]
)
def test_dilated_features_contain_the_strided_features(name, phase, small):
    """Every fourth pixel of the features at output stride 8 equals a pixel at output stride 32."""
    small(name)
    keras.utils.set_random_seed(0)
    strided = build_encoder("small", weights=None, output_stride=32)
    for layer in strided.layers:
        # Switch off squeeze-and-excitation, because its mean over the image depends on the stride.
        if layer.name.endswith("se_expand"):
            layer.kernel.assign(tf.zeros_like(layer.kernel))
        # Replace the initial scale of 1e-6, because it would hide the outputs of the blocks.
        if layer.name.endswith("layer_scale"):
            layer.gamma.assign(tf.ones_like(layer.gamma))
    dilated = build_encoder("small", weights=None, output_stride=8)
    dilated.set_weights(strided.get_weights())
    image = np.random.default_rng(0).uniform(0, 255, (1, 96, 64, 3)).astype(np.float32)
    coarse, fine = strided(image)[-1].numpy(), dilated(image)[-1].numpy()
    scale = np.abs(coarse).max()
    np.testing.assert_allclose(fine[:, phase::4, phase::4] / scale, coarse / scale, atol=1e-5)
    assert coarse.std() > 0.05 * scale


@pytest.mark.parametrize(
    ("name", "strided", "following"),
    [
        ("resnet18_v1.5", "conv5_block1_1_conv", "conv5_block2_1_conv"),
        ("mobilenetv2", "block_13_depthwise", "block_14_depthwise"),
    ],
)
def test_strided_kernels_have_the_dilation_rate_of_their_stage(name, strided, following):
    encoder = build_encoder(name, weights=None, output_stride=8)
    for layer in (strided, following):
        assert encoder.get_layer(layer).strides == (1, 1)
        assert encoder.get_layer(layer).dilation_rate == (4, 4)
