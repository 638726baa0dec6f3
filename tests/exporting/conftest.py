import dataclasses

import pytest

from lcc_tf.checkpoints import read_run
from lcc_tf.exporting import load_original


@pytest.fixture(scope="session")
def whole(runs):
    """DeepLabV3+ as if trained on images of 128 pixels, resized to 64."""
    run = read_run(runs / "deeplabv3plus")
    config = dataclasses.replace(run.config, framing="whole")
    return dataclasses.replace(run, config=config, native_size=128.0)


@pytest.fixture(scope="module")
def original(runs, whole):
    """Two members, one of them dilated and at half the scale; no stride divides the tile."""
    return load_original([whole, read_run(runs / "unetpp")], [3, 1], tile=72)
