"""UNet++: connections, filters and deep supervision."""

import dataclasses

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.models import UNetPlusPlus, build_model, encoders


def inputs_of(model, name):
    """Returns the names of the layers whose outputs are the inputs of a layer, in order."""
    names = {id(layer.output): layer.name for layer in model.layers if layer.name != "encoder"}
    tensors = keras.tree.flatten(model.get_layer(name).input)
    return [names.get(id(tensor), "encoder") for tensor in tensors]


@pytest.fixture(scope="module")
def model():
    return UNetPlusPlus(7, encoder="tiny", encoder_weights=None)


def test_nodes_are_connected_as_in_equation_1(model):
    assert inputs_of(model, "x_0_3_concat") == [
        "x_0_3_upsampling",
        "x_0_2_conv2_relu",
        "x_0_1_conv2_relu",
        "encoder",
    ]
    assert inputs_of(model, "x_0_3_upsampling") == ["x_1_2_conv2_relu"]
    assert inputs_of(model, "x_3_1_upsampling") == ["encoder"]
    assert inputs_of(model, "full_resolution_upsampling") == ["x_0_4_conv2_relu"]
    nodes = {name.rsplit("_", 1)[0] for name in (x.name for x in model.layers) if "concat" in name}
    assert nodes == {f"x_{i}_{j}" for j in range(1, 5) for i in range(5 - j)}


def test_weights_files_have_the_layout_of_older_runs(model, tmp_path):
    """Weights files contain the layers of each class in the order of the graph."""
    model.save_weights(tmp_path / "model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5") as file:
        names = [name for name in file["layers"] if "conv" in name]
    assert sorted(names) == sorted(["conv2d", *(f"conv2d_{index}" for index in range(1, 23))])
    order = [layer.name for layer in model.layers if layer.name.endswith(("conv1", "conv2"))]
    first_columns = "x_3_1_conv1 x_2_1_conv1 x_1_1_conv1 x_3_1_conv2 x_0_1_conv1 x_2_1_conv2"
    assert order[:6] == first_columns.split()


def test_filters(model):
    filters = {
        name: model.get_layer(f"{name}_conv2").filters
        for name in ("x_3_1", "x_2_2", "x_1_3", "x_0_4", "full_resolution", "x_2_1", "x_0_3")
    }
    assert filters == {
        "x_3_1": 256,
        "x_2_2": 128,
        "x_1_3": 64,
        "x_0_4": 32,
        "full_resolution": 16,
        "x_2_1": 16,  # the same number as in the encoder's feature of stride 8
        "x_0_3": 8,  # the same number as in the encoder's feature of stride 2
    }


def test_deep_supervision_predicts_the_mean_of_its_heads():
    model = build_model("unetpp", 3, encoder="tiny", encoder_weights=None, deep_supervision=True)
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 32, 3)).astype(np.float32)
    mean, *heads = model(image)
    assert len(heads) == 4
    assert all(head.shape == (1, 64, 32, 3) for head in heads)
    np.testing.assert_allclose(mean, np.mean(heads, axis=0), atol=1e-5)


def test_every_weight_has_a_gradient(model):
    image = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(image, training=True)[..., 0] ** 2)
    gradients = tape.gradient(loss, model.trainable_weights)
    assert all(gradient is not None for gradient in gradients)


def test_encoder_without_features_of_stride_2(monkeypatch):
    tiny = encoders.ENCODERS["tiny"]
    without = dataclasses.replace(tiny, taps=tiny.taps[1:])
    monkeypatch.setitem(encoders.ENCODERS, "tiny_without", without)
    model = UNetPlusPlus(7, encoder="tiny_without", encoder_weights=None)
    assert model(np.zeros((1, 64, 32, 3), np.float32)).shape == (1, 64, 32, 7)
    assert inputs_of(model, "x_0_3_concat") == [
        "x_0_3_upsampling",
        "x_0_2_conv2_relu",
        "x_0_1_conv2_relu",
    ]
    assert inputs_of(model, "x_0_1_conv1") == ["x_0_1_upsampling"]
    assert inputs_of(model, "x_1_1_concat") == ["x_1_1_upsampling", "encoder"]
    filters = [model.get_layer(f"x_0_{column}_conv2").filters for column in (1, 2, 3, 4)]
    assert filters == [32, 32, 32, 32]
    # The encoder's feature of stride 4 has 8 channels.
    assert model.get_layer("x_1_2_conv2").filters == 8
