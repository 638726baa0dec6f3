"""Fast convolution layers return the same values as the layers of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.models.convolutions import AtrousSeparableConv2D, ChannelwiseConv2D


def compare(expected_layer, layer, shape):
    """Asserts that two layers with the same weights return the same values for random features."""
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = expected_layer(x)
    layer.build(x.shape)
    layer.set_weights(expected_layer.get_weights())
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config


@pytest.mark.parametrize(
    "options",
    [
        *({"dilation_rate": rate, "use_bias": False} for rate in (1, 2, 5, 7, 12)),
        {"dilation_rate": 3},  # with a bias
        {"dilation_rate": 3, "activation": "sigmoid"},
        {"dilation_rate": 3, "padding": "valid"},
        {"dilation_rate": 3, "depth_multiplier": 2},
        {"strides": 2},
        {"strides": 2, "padding": "valid", "activation": "relu", "use_bias": False},
    ],
)
def test_atrous_separable_convolution_equals_keras(options):
    keras.utils.set_random_seed(0)
    options = {"padding": "same", "bias_initializer": "uniform"} | options
    compare(
        keras.layers.SeparableConv2D(4, 3, **options),
        AtrousSeparableConv2D(4, 3, **options),
        (2, 9, 7, 5),
    )


@pytest.mark.parametrize("rate", [2, 7, 8, 9, 40])
@pytest.mark.parametrize("shape", [(None, None, None, 5), (None, 9, None, 5)])
def test_atrous_convolution_of_unknown_size_pads_no_batches(rate, shape):
    keras.utils.set_random_seed(0)
    options = {"padding": "same", "dilation_rate": rate}
    layer, expected = (
        AtrousSeparableConv2D(4, 3, **options),
        keras.layers.SeparableConv2D(4, 3, **options),
    )
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec(shape))
    # TensorFlow moves pixels into the batch axis of a padded map, which can be 100 times as large.
    assert "SpaceToBatchND" not in {operation.type for operation in graph.graph.get_operations()}
    expected.build(shape)
    expected.set_weights(layer.get_weights())
    for width in (1, 7, 20):
        x = np.random.default_rng(0).normal(size=(2, 9, width, 5)).astype(np.float32)
        np.testing.assert_allclose(graph(tf.constant(x)), expected(x), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"use_bias": False},
        {"activation": "relu"},
        {"strides": 2, "padding": "valid"},
        {"strides": (1, 2)},
        {"groups": 3},
        {"kernel_size": 7, "dilation_rate": 2},
    ],
)
def test_channelwise_convolution_equals_keras(options):
    keras.utils.set_random_seed(0)
    defaults = {"kernel_size": 3, "padding": "same", "groups": 6, "bias_initializer": "uniform"}
    options = defaults | options
    compare(keras.layers.Conv2D(6, **options), ChannelwiseConv2D(6, **options), (2, 12, 9, 6))


def test_groups_of_several_channels_equal_keras():
    keras.utils.set_random_seed(0)
    compare(keras.layers.Conv2D(3, 3, groups=3), ChannelwiseConv2D(3, 3, groups=3), (1, 8, 8, 6))
