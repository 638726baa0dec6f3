"""A tiny encoder, a tiny data set and two tiny trained runs that many tests share."""

import dataclasses
import os
import signal

# As the commands set them: both are read when TensorFlow and Keras are imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import pytest
import tensorflow as tf

from lcc_tf.config import DataConfig, TrainConfig
from lcc_tf.data.dataset import prepare_dataset
from lcc_tf.models import encoders
from lcc_tf.runs import read_run

# A run in the background ignores SIGINT, and so would the commands that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Two logical devices stand in for two GPUs. They must be set before TensorFlow is first used.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


def tiny_application(include_top, weights, input_tensor):
    """A network with five strided stages, in the manner of keras.applications."""
    x = input_tensor
    for stage, filters in enumerate((8, 8, 16, 16, 24), start=1):
        name = f"stage{stage}"
        x = keras.layers.Conv2D(filters, 3, 2, padding="same", name=f"{name}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
    model = keras.Model(keras.utils.get_source_inputs(input_tensor), x)
    if weights:
        model.load_weights(weights)
    return model


@pytest.fixture(scope="session", autouse=True)
def tiny_encoder():
    """The encoder "tiny", whose graph is built in a second."""
    encoders.ENCODERS["tiny"] = encoders.EncoderSpec(
        application=tiny_application,
        preprocessing="tf",
        taps=tuple(f"stage{stage}_relu" for stage in range(1, 6)),
        stage_16="stage4_",
        stage_32="stage5_",
    )
    yield "tiny"
    del encoders.ENCODERS["tiny"]


@pytest.fixture(scope="session")
def two_replicas():
    """A strategy with two replicas on the CPU.

    One for all tests: a second one would number its collective operations anew, and TensorFlow
    takes those for the first one's.
    """
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture
def eagerly():
    """Steps without a graph: a few of them are done long before one would be."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory):
    """Where the tiny data set comes from: 16 procedural scenes of 64x64."""
    cache_dir = str(tmp_path_factory.mktemp("cache") / "tfds")
    return DataConfig(data="demo", cache_dir=cache_dir, demo_count=16, demo_size=64)


@pytest.fixture(scope="session")
def builder(demo_data):
    """The tiny data set: 14 or so training images, at least one in each other split."""
    return prepare_dataset(**dataclasses.asdict(demo_data))


@pytest.fixture(scope="session")
def tiny_config(demo_data):
    """A configuration that trains in seconds."""
    return TrainConfig(
        data=demo_data,
        arch="deeplabv3plus",
        encoder="tiny",
        encoder_weights=None,
        image_size=64,
        batch_size=4,
        ema_decay=0.999,
        epochs=2,
        learning_rate=1e-2,
    )


@pytest.fixture(scope="session")
def runs(tiny_config, tmp_path_factory):
    """The folder of two trained runs, `unetpp` and `deeplabv3plus`."""
    from lcc_tf.training.train import train

    root = tmp_path_factory.mktemp("runs")
    for arch in ("unetpp", "deeplabv3plus"):
        train(dataclasses.replace(tiny_config, arch=arch), root / arch)
    return root


@pytest.fixture(scope="session")
def whole_image_run(runs):
    """DeepLabV3+ as if trained on images of 128 pixels, resized to 64."""
    run = read_run(runs / "deeplabv3plus")
    config = dataclasses.replace(run.config, framing="whole")
    return dataclasses.replace(run, config=config, native_size=128.0)
