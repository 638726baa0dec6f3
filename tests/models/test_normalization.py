"""Fused batch normalization: equal to Keras, and used by all networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.models import ARCHITECTURES
from lcc_tf.models.layers import all_layers
from lcc_tf.models.normalization import BatchNormalization


def results(layer, x, call=None):
    """Returns outputs, gradients and all weights after a training step and a prediction."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = (call or layer)(x, training=True)
        loss = tf.reduce_sum(tf.cast(y, tf.float32) ** 3)
    gradients = tape.gradient(loss, [x, *(weight.value for weight in layer.trainable_weights)])
    return [y, *gradients, *layer.get_weights(), layer(x)]


def layer_pair(shape=(None, None, None, 5), **options):
    """Returns a layer of Keras and a layer of lcc_tf with the same random weights."""
    pair = [
        kind(momentum=0.7, **options)
        for kind in (keras.layers.BatchNormalization, BatchNormalization)
    ]
    rng = np.random.default_rng(0)
    for layer in pair:
        layer.build(shape)
    values = [rng.uniform(0.5, 2, weight.shape) for weight in pair[0].weights]
    for layer in pair:
        layer.set_weights(values)
    return pair


def fused_operations(layer, shape=(None, None, None, 5), training=True):
    graph = tf.function(lambda x: layer(x, training=training)).get_concrete_function(
        tf.TensorSpec(shape)
    )
    return [node for node in graph.graph.as_graph_def().node if node.op == "FusedBatchNormV3"]


@pytest.mark.parametrize("shape", [(3, 6, 4, 5), (2, 2, 1, 5), (1, 1, 1, 5)])
@pytest.mark.parametrize("xla", [False, True])
def test_fused_layer_equals_keras(shape, xla):
    x = tf.random.stateless_normal(shape, (0, 1)) * 3 + 1
    expected_layer, layer = layer_pair()
    call = tf.function(layer, jit_compile=xla)
    expected = results(expected_layer, x)
    for received, value in zip(results(layer, x, call), expected, strict=True):
        np.testing.assert_allclose(received, value, rtol=1e-4, atol=1e-4)
    assert len(fused_operations(layer)) == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("trainable", [False, True])
def test_half_precision_has_the_error_of_one_rounding(dtype, xla, trainable):
    """The values are compared with the layer of Keras in float32."""
    x = tf.cast(tf.random.stateless_normal((3, 6, 4, 5), (0, 1)) * 3 + 1, dtype)
    expected_layer, _ = layer_pair(trainable=trainable)
    keras_layer, layer = layer_pair(dtype=f"mixed_{dtype}", trainable=trainable)
    call = tf.function(layer, jit_compile=xla)
    expected = results(expected_layer, tf.cast(x, tf.float32))
    received = [tf.cast(value, tf.float32).numpy() for value in results(layer, x, call)]
    of_keras = [tf.cast(value, tf.float32).numpy() for value in results(keras_layer, x)]
    for value, other, exact in zip(received, of_keras, expected, strict=True):
        exact = np.asarray(exact)
        limit = 1.5 * np.abs(other - exact).max() + 1e-5 * np.abs(exact).max()
        assert np.abs(value - exact).max() <= limit
    assert layer(x).dtype == dtype
    assert len(fused_operations(layer)) == 1
    assert len(fused_operations(layer, training=False)) == 1


def test_predictions_in_float32_are_those_of_keras():
    x = tf.random.stateless_normal((3, 6, 4, 5), (0, 1))
    expected_layer, layer = layer_pair()
    np.testing.assert_array_equal(layer(x), expected_layer(x))
    assert not fused_operations(layer, training=False)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"trainable": False}, (3, 6, 4, 5)),
        ({"dtype": "float64"}, (3, 6, 4, 5)),
        ({"dtype": "bfloat16"}, (3, 6, 4, 5)),
        ({"dtype": "float16"}, (3, 6, 4, 5)),
        ({"scale": False}, (3, 6, 4, 5)),
        ({"center": False}, (3, 6, 4, 5)),
        ({"axis": 1}, (3, 6, 4, 5)),
        ({"renorm": True}, (3, 6, 4, 5)),
        ({}, (30, 5)),
    ],
)
def test_other_cases_call_the_layer_of_keras(options, shape):
    expected_layer, layer = layer_pair(shape, **options)
    x = tf.random.stateless_normal(shape, (0, 1))
    for received, value in zip(results(layer, x), results(expected_layer, x), strict=True):
        np.testing.assert_array_equal(received, value)
    assert not fused_operations(layer, shape)


def test_masked_pixels_do_not_count():
    x = tf.random.stateless_normal((3, 6, 4, 5), (0, 1))
    mask = np.arange(72).reshape(3, 6, 4) % 3 > 0
    expected, received = (layer(x, training=True, mask=mask) for layer in layer_pair())
    np.testing.assert_array_equal(received, expected)


def test_synchronized_statistics_are_not_fused():
    """The fused operation computes the statistics of a single replica."""
    _, layer = layer_pair()
    layer.synchronized = True
    assert not fused_operations(layer)
    # Predictions use the moving statistics, which are the same on all replicas.
    _, layer = layer_pair(dtype="mixed_bfloat16")
    layer.synchronized = True
    assert not fused_operations(layer)
    assert fused_operations(layer, training=False)


@pytest.mark.parametrize("encoder", ["mobilenetv2", "resnet18_v1.5", "efficientnetv2b0"])
@pytest.mark.parametrize("arch", ["unetpp", "deeplabv3plus"])
def test_all_layers_of_a_network_are_fused(arch, encoder):
    model = ARCHITECTURES[arch](3, encoder=encoder, encoder_weights=None)
    norms = [x for x in all_layers(model) if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) > 25
    for layer in norms:
        assert type(layer) is BatchNormalization
        assert layer.momentum == 0.9


def test_a_saved_model_keeps_the_layer(tmp_path):
    inputs = keras.Input((None, None, 5))
    model = keras.Model(inputs, BatchNormalization(momentum=0.7)(inputs))
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert type(copy.layers[-1]) is BatchNormalization
    assert copy.layers[-1].get_config() == model.layers[-1].get_config()
