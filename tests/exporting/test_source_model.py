import pytest

from lcc_tf.errors import InputError
from lcc_tf.exporting.source_model import SourceModel


def test_tile_and_resolution_equal_the_run_with_the_finest_resolution(crops_run, whole_run):
    coarse = SourceModel.from_runs([whole_run])
    assert (coarse.tile, coarse.resolution) == (64, 1.0)
    both = SourceModel.from_runs([crops_run, whole_run], resolution=0.3)
    assert (both.tile, both.resolution) == (128, 0.3)
    assert SourceModel.from_runs([crops_run, whole_run], tile=96).tile == 96


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"tile": 16385}, "`tile`.*at most 16384.*tile=16385"),
        ({"tile": 31}, "`tile` must be 32.*31"),
        ({"resolution": 0.0}, "`resolution`.*0.0"),
    ],
)
def test_invalid_options_raise(crops_run, option, match):
    with pytest.raises(InputError, match=match):
        SourceModel.from_runs([crops_run], **option)


def test_weights_that_are_too_large_for_a_file_raise(monkeypatch, source):
    source.check_file_size()
    monkeypatch.setattr("lcc_tf.exporting.source_model.MAX_FILE_SIZE", 1000)
    with pytest.raises(InputError, match="less than 2 GB.*savedmodel"):
        source.check_file_size()
