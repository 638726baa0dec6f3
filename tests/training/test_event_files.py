import pytest

from lcc_tf.errors import InputError
from lcc_tf.training.event_files import EventFiles
from tests.run_comparison import scalars_of

HISTORY = [
    {"epoch": 1, "seconds": 9.0, "loss": 2.0, "val_loss": 3.0, "learning_rate": 0.5},
    {"epoch": 2, "seconds": 9.0, "loss": 1.0, "val_loss": 2.0, "learning_rate": 0.25},
]
SCALARS = {
    ("train", "epoch_loss"): [(0, 2.0), (1, 1.0)],
    ("train", "epoch_learning_rate"): [(0, 0.5), (1, 0.25)],
    ("validation", "epoch_loss"): [(0, 3.0), (1, 2.0)],
}


def test_each_epoch_is_written_once(tmp_path):
    EventFiles(tmp_path).write(HISTORY[:1])
    resumed = EventFiles(tmp_path)
    resumed.write(HISTORY[:1])
    resumed.write(HISTORY)
    assert scalars_of(tmp_path) == SCALARS


def test_file_instead_of_the_folder_raises(tmp_path):
    (tmp_path / "tensorboard").touch()
    with pytest.raises(InputError, match="tensorboard is a file, not a folder"):
        EventFiles(tmp_path)


def test_epoch_that_a_killed_process_has_not_written_is_added(tmp_path):
    EventFiles(tmp_path).write(HISTORY)
    for file in tmp_path.glob("tensorboard/*/events*"):
        file.write_bytes(file.read_bytes()[:-3])  # truncates the last score
    EventFiles(tmp_path).write(HISTORY)
    assert scalars_of(tmp_path) == SCALARS
