"""Fast convolution layers return the same values as the layers of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.models.convolutions import AtrousSeparableConv2D, ChannelwiseConv2D, NodeConv2D


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


@pytest.mark.parametrize("sizes", [(16, 17), (3, 5)])  # transposed convolution, and a small map
@pytest.mark.parametrize("skips", [(), (3,), (3, 4)])
def test_convolution_of_a_node_equals_keras(sizes, skips):
    """Includes the gradients and graphs for maps of unknown size."""
    keras.utils.set_random_seed(0)
    height, width = sizes
    maps = [
        tf.random.normal((2, height, width, 5)),
        *(tf.random.normal((2, 2 * height, 2 * width, channels)) for channels in skips),
    ]
    expected_layer = keras.layers.Conv2D(6, 3, padding="same", use_bias=False)
    layer = NodeConv2D(6)

    def expected_call(below, *others):
        upsampled = keras.layers.UpSampling2D(2)(below)
        return expected_layer(tf.concat([upsampled, *others], axis=-1))

    expected_call(*maps)
    layer.build([tensor.shape for tensor in maps])
    layer.set_weights(expected_layer.get_weights())
    results = []
    for call, weights in (
        (lambda: expected_call(*maps), expected_layer.weights),
        (lambda: layer(maps), layer.weights),
    ):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            y = call()
            loss = tf.reduce_sum(y**2)
        results.append([y, *tape.gradient(loss, [*maps, *(w.value for w in weights)])])
    for received, expected in zip(*reversed(results), strict=True):
        np.testing.assert_allclose(received, expected, atol=1e-5 * np.abs(expected).max())
    assert layer.compute_output_shape([tensor.shape for tensor in maps]) == results[0][0].shape

    unknown = [tf.TensorSpec((None, None, None, tensor.shape[-1])) for tensor in maps]
    graph = tf.function(lambda maps: layer(maps)).get_concrete_function(unknown)
    np.testing.assert_allclose(graph(*maps), results[0][0], atol=1e-5)
    assert NodeConv2D.from_config(layer.get_config()).get_config() == layer.get_config()


def test_convolution_of_a_node_saves_multiplications():
    """The upsampled map needs 4 of 9 multiplications, and the other map all of them."""
    layer = NodeConv2D(6)
    specs = [tf.TensorSpec((1, 16, 16, 8)), tf.TensorSpec((1, 32, 32, 3))]
    graph = tf.function(lambda maps: layer(maps)).get_concrete_function(specs).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    profile = tf.compat.v1.profiler.profile(graph, options=options)
    convolutions = 2 * 32 * 32 * 6 * (4 * 8 + 9 * 3)
    assert profile.total_float_ops == pytest.approx(convolutions, rel=0.05)
