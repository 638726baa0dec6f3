import pytest

from lcc_tf.checkpoints import find_runs
from lcc_tf.exporting import load_original


@pytest.fixture(scope="module")
def original(runs):
    """Both runs, of which DeepLabV3+ is dilated; their stride of 32 does not divide the tile."""
    return load_original(find_runs(runs), [3, 1], tile=72)
