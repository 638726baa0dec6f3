"""Size and number of the graphs that a training builds. They decide how soon a training starts."""

import dataclasses

import keras
import pytest
import tensorflow as tf

from lcc_tf.config import TrainConfig
from lcc_tf.training.label_rules import LabelRules
from lcc_tf.training.network import build_network, compile_for
from lcc_tf.training.phases import phases_of
from lcc_tf.training.train import train
from tests.untrained_runs import small_unet


def test_training_traces_each_step_once(tiny_config, builder, tmp_path, monkeypatch):
    """Includes three epochs with validations, whose last batch is filled up."""
    steps = {"train_step": 0, "test_step": 0}
    for name in steps:
        original = getattr(keras.Model, name)

        def counted(model, data, name=name, original=original):
            steps[name] += 1
            return original(model, data)

        monkeypatch.setattr(keras.Model, name, counted)
    monkeypatch.setattr("lcc_tf.training.network.build_model", lambda *args, **_: small_unet(7))
    config = dataclasses.replace(tiny_config, epochs=3, batch_size=3)
    assert builder.info.splits["validation"].num_examples * 4 % 3
    assert len(train(config, tmp_path / "run").history) == 3
    assert steps == {"train_step": 1, "test_step": 1}


def operations(graph):
    """Returns the number of operations of a graph and of the functions that it calls."""
    definition = graph.as_graph_def()
    functions = [len(function.node_def) for function in definition.library.function]
    return len(definition.node) + sum(functions)


@pytest.mark.parametrize(
    ("arch", "most_operations", "billions"),
    [("unetpp", 6500, 7.406), ("deeplabv3plus", 5600, 2.987)],
)
def test_cost_of_a_network(arch, most_operations, billions):
    """Counts the operations of a training step, and the arithmetic of one image of 256x256 pixels.

    More operations delay the first step. More arithmetic makes each step slower.
    """
    config = TrainConfig(arch=arch, encoder="mobilenetv2", encoder_weights=None, image_size=256)
    model = build_network(config, 7, pretrained=False)
    compile_for(phases_of(config)[0], model, config, LabelRules(7, 6), steps_per_epoch=10)
    images, masks = tf.TensorSpec((1, 256, 256, 3)), tf.TensorSpec((1, 256, 256), tf.int32)
    step = tf.function(model.train_step).get_concrete_function((images, masks))
    assert operations(step.graph) <= most_operations

    predict = tf.function(lambda image: model(image, training=False))
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation() | {"output": "none"}
    graph = predict.get_concrete_function(images).graph
    profile = tf.compat.v1.profiler.profile(graph, options=options)
    assert profile.total_float_ops / 1e9 == pytest.approx(billions, rel=0.01)
