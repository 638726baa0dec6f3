"""Fast convolution layers equal Keras' layers."""

import keras
import numpy as np
import pytest

from lcc_tf.models.convolutions import AtrousSeparableConv2D, ChannelwiseConv2D


def compare(theirs, ours, shape):
    """Asserts that two layers with the same weights return the same for random features."""
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = theirs(x)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(x), expected, atol=1e-5)
    config = ours.get_config()
    assert type(ours).from_config(config).get_config() == config


@pytest.mark.parametrize("rate", [1, 2, 5, 7, 12])
def test_atrous_separable_convolution_equals_keras(rate):
    keras.utils.set_random_seed(0)
    ours = AtrousSeparableConv2D(4, 3, padding="same", dilation_rate=rate, use_bias=False)
    theirs = keras.layers.SeparableConv2D(4, 3, padding="same", dilation_rate=rate, use_bias=False)
    x = np.random.default_rng(0).normal(size=(2, 9, 7, 5)).astype(np.float32)
    theirs.build(x.shape)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"dilation_rate": 3},  # with a bias
        {"dilation_rate": 3, "activation": "sigmoid"},
        {"dilation_rate": 3, "padding": "valid"},
        {"dilation_rate": 3, "depth_multiplier": 2},
        {"strides": 2},
        {"strides": 2, "padding": "valid", "activation": "relu", "use_bias": False},
    ],
)
def test_atrous_separable_convolution_with_other_arguments_equals_keras(options):
    keras.utils.set_random_seed(0)
    options = {"padding": "same", "bias_initializer": "uniform"} | options
    compare(
        keras.layers.SeparableConv2D(4, 3, **options),
        AtrousSeparableConv2D(4, 3, **options),
        (2, 9, 8, 5),
    )


@pytest.mark.parametrize(
    "options",
    [
        {"use_bias": False},
        {"activation": "relu"},
        {"strides": 2, "padding": "valid"},
        {"strides": (1, 2)},
        {"groups": 3},
    ],
)
def test_channelwise_convolution_with_other_arguments_equals_keras(options):
    keras.utils.set_random_seed(0)
    options = {"padding": "same", "groups": 6, "bias_initializer": "uniform"} | options
    compare(keras.layers.Conv2D(6, 3, **options), ChannelwiseConv2D(6, 3, **options), (2, 8, 9, 6))


def test_dilated_channelwise_convolution_equals_keras():
    keras.utils.set_random_seed(0)
    options = {"padding": "same", "dilation_rate": 2, "bias_initializer": "uniform"}
    theirs = keras.layers.Conv2D(6, 7, groups=6, **options)
    ours = ChannelwiseConv2D(6, 7, groups=6, **options)
    x = np.random.default_rng(0).normal(size=(2, 12, 9, 6)).astype(np.float32)
    expected = theirs(x)
    ours.build(x.shape)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(x), expected, atol=1e-5)


def test_groups_of_several_channels_equal_keras():
    keras.utils.set_random_seed(0)
    compare(keras.layers.Conv2D(3, 3, groups=3), ChannelwiseConv2D(3, 3, groups=3), (1, 8, 8, 6))
