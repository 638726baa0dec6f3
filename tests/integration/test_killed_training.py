"""Short version of `tests/integration/killed_training.py`."""

import pytest

from tests.integration.killed_training import small_config, train_with_kills
from tests.run_comparison import assert_equal_runs


def test_killed_training_equals_uninterrupted_training(tmp_path):
    config = small_config(tmp_path / "tfds")
    train_with_kills(config, tmp_path / "uninterrupted", kills=0, seed=0)
    (kill,) = train_with_kills(config, tmp_path / "killed", kills=1, seed=1)
    # The training resumes from the newest complete checkpoint. The kill can come after the file is
    # complete and before the test is told.
    assert kill.lost_steps <= kill.unsaved_steps
    assert_equal_runs(tmp_path / "killed", tmp_path / "uninterrupted")

    # The comparison finds a resumed training whose batches have another seed.
    train_with_kills(config, tmp_path / "other", kills=1, seed=2, other_seed=True)
    with pytest.raises(AssertionError):
        assert_equal_runs(tmp_path / "other", tmp_path / "uninterrupted")
