import pytest

from lcc_tf.exporting import load_original
from lcc_tf.runs import read_run


@pytest.fixture(scope="module")
def original(runs, whole_image_run):
    """Two members, one of them dilated and at half the scale; no stride divides the tile."""
    return load_original([whole_image_run, read_run(runs / "unetpp")], [3, 1], tile=72)
