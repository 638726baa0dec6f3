import pytest

from lcc_tf.exporting.source_model import SourceModel
from lcc_tf.runs import read_run


@pytest.fixture(scope="module")
def source(runs, whole_image_run):
    """Two members, one of them dilated and at half the scale; no stride divides the tile."""
    return SourceModel.from_runs([whole_image_run, read_run(runs / "unetpp")], [3, 1], tile=72)
