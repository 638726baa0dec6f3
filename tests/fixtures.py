"""A tiny encoder, a tiny data set and two tiny trained runs that many tests share."""

import contextlib
import dataclasses
import fcntl
import gc
import os
import shutil
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from lcc_tf.config import DataConfig, TrainConfig
from lcc_tf.data.dataset import prepare_dataset
from lcc_tf.models import ARCHITECTURES, encoders
from lcc_tf.runs import read_run
from lcc_tf.training import history
from tests.untrained_runs import small_unet, smallest_network

# Small networks gain nothing from threads, and each core has its own worker process.
tf.config.threading.set_intra_op_parallelism_threads(1)
# Each graph runs only a few times, and the optimization of a graph takes longer than it saves.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
# Tests use two logical devices instead of two GPUs. The devices must be set before the first use of
# TensorFlow.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
# By default, Python looks for garbage after 700 new objects, which takes up to 10 % of the time of
# a test file. With a much larger number, old networks would stay in memory.
gc.set_threshold(20_000, 10, 5)


def tiny_application(include_top, weights, input_tensor):
    """Builds a network with five strided stages, like a function of `keras.applications`."""
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
    """The encoder "tiny", whose construction takes about a second."""
    encoders.ENCODERS["tiny"] = encoders.EncoderSpec(
        application=tiny_application,
        preprocessing="tf",
        taps=tuple(f"stage{stage}_relu" for stage in range(1, 6)),
        stage_16="stage4_",
        stage_32="stage5_",
    )
    yield "tiny"
    del encoders.ENCODERS["tiny"]


@pytest.fixture(scope="session", autouse=True)
def empty_curves():
    """Replaces the figure with the curves of a run by an empty file.

    Drawing takes a second per training. A test of `write_history` draws the figure.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "save_curves", lambda history, file, *, title: file.touch())
        yield


@pytest.fixture(scope="session")
def two_replicas():
    """A strategy with two replicas on the CPU.

    All tests share this strategy. A second strategy would also number its collective operations
    from 0, and TensorFlow would confuse the operations of both strategies.
    """
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture
def eagerly():
    """Runs steps eagerly, because a few eager steps take less time than tracing a graph."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def common_folder(tmp_path_factory):
    """A folder that all worker processes of one pytest call share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@contextlib.contextmanager
def locked(file):
    """Locks a file, so that only one worker process at a time runs the block."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def demo_data(common_folder):
    """Configuration of the tiny data set: 16 synthetic images of 64x64 pixels, already prepared."""
    cache_dir = str(common_folder / "demo" / "tfds")
    data = DataConfig(data="demo", cache_dir=cache_dir, demo_count=16, demo_size=64)
    with locked(common_folder / "demo.lock"):
        prepare_dataset(**dataclasses.asdict(data))
    return data


@pytest.fixture(scope="session")
def builder(demo_data):
    """The tiny data set: 13 training images, one validation image and two test images."""
    return prepare_dataset(**dataclasses.asdict(demo_data))


@pytest.fixture
def damaged_data(demo_data, builder, tmp_path):
    """Configuration of a copy of the tiny data set with one damaged training image."""
    cache_dir = shutil.copytree(demo_data.cache_dir, tmp_path / "damaged")
    directory = cache_dir / Path(builder.data_dir).relative_to(demo_data.cache_dir)
    shard = directory / "deepglobe-train.tfrecord-00002-of-00013"
    content = shard.read_bytes()
    shard.write_bytes(content[:100] + bytes(50) + content[150:])
    return dataclasses.replace(demo_data, cache_dir=str(cache_dir))


@pytest.fixture(scope="session")
def tiny_config(demo_data):
    """A configuration that trains in seconds."""
    return TrainConfig(
        data=demo_data,
        arch="deeplabv3plus",
        encoder="tiny",
        encoder_weights=None,
        image_size=64,
        crops_per_image=1,
        batch_size=4,
        ema_decay=0.999,
        epochs=2,
        learning_rate=1e-2,
    )


@pytest.fixture(scope="session")
def runs(tiny_config, common_folder):
    """The folder of two trained runs, `unetpp` and `deeplabv3plus`.

    All worker processes read the same data set and the same runs. A test that changes a run or the
    data set must first make a copy.
    """
    from lcc_tf.training.train import train

    folder = common_folder / "runs"
    with locked(common_folder / "runs.lock"):
        if not folder.exists():
            unfinished = common_folder / "unfinished_runs"
            tf.config.run_functions_eagerly(True)  # takes less time than building two graphs
            for arch in ("unetpp", "deeplabv3plus"):
                config = dataclasses.replace(tiny_config, arch=arch, batch_size=6)  # two steps
                train(config, unfinished / arch)
            tf.config.run_functions_eagerly(False)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def whole_image_run(runs):
    """The run of DeepLabV3+, configured for whole images resized from 128 to 64 pixels."""
    run = read_run(runs / "deeplabv3plus")
    config = dataclasses.replace(run.config, framing="whole")
    return dataclasses.replace(run, config=config, native_size=128.0)


@pytest.fixture(scope="module")
def small_networks():
    """Replaces both networks with a small network, which takes less time to export or train."""
    with replaced_networks(small_unet):
        yield


@pytest.fixture(scope="module")
def smallest_networks():
    """Replaces both networks with two convolutions, for tests that do not need good predictions."""
    with replaced_networks(smallest_network):
        yield


@contextlib.contextmanager
def replaced_networks(network):
    with pytest.MonkeyPatch.context() as patch:
        for arch in ("unetpp", "deeplabv3plus"):
            patch.setitem(ARCHITECTURES, arch, network)
        yield
