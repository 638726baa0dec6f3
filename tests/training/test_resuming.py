"""Training that resumes after an interruption."""

import dataclasses
import errno
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.files import unfinished_name
from lcc_tf.runs import CONFIG
from lcc_tf.training.checkpoints import CHECKPOINTS, CheckpointWriter, WeightsFile, read_state
from lcc_tf.training.history import HISTORY
from lcc_tf.training.phases import phases_of
from lcc_tf.training.recorder import RunRecorder
from lcc_tf.training.resuming import check_workdir
from lcc_tf.training.train import train
from tests.run_comparison import assert_equal_runs


@pytest.fixture(scope="module")
def config(small_networks, tiny_config):
    """Configuration of two phases, which have one and two epochs and separate optimizers."""
    config = dataclasses.replace(
        tiny_config,
        image_size=32,
        batch_size=3,
        regime="gradual",
        epochs=3,
        frozen_epochs=1,
        schedule="constant",
    )
    frozen, all_train = phases_of(config)
    assert (frozen.start, frozen.end, frozen.encoder_trains) == (0, 1, False)
    assert (all_train.start, all_train.end, all_train.encoder_trains) == (1, 3, True)
    return config


@pytest.fixture(scope="module")
def uninterrupted(config, tmp_path_factory):
    """Run folder of a training without interruption."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    tf.config.run_functions_eagerly(True)
    try:
        train(config, folder)
    finally:
        tf.config.run_functions_eagerly(False)
    return folder


def test_interrupted_training_equals_uninterrupted_training(
    eagerly, config, uninterrupted, tmp_path, monkeypatch
):
    """Signals arrive in the middle of training steps and of validation steps, in each phase."""
    folder = tmp_path / "run"
    # Epoch, number of finished training steps, number of finished validation steps. After the last
    # validation step, the checkpoint contains the whole epoch.
    positions = {(0, 1, 0): (0, 2, 0), (0, 4, 1): (1, 0, 0), (1, 4, 0): (1, 4, 1)}
    positions |= {(2, 1, 0): (2, 2, 0), (2, 4, 0): (2, 4, 1)}
    for before, after in positions.items():

        def interrupt(recorder, batch, logs=None, position=before):
            state = recorder.state
            if (state.epoch, state.step, state.validation_step) == position:
                signal.raise_signal(signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(RunRecorder, "on_train_batch_begin", interrupt)
            patch.setattr(RunRecorder, "on_test_batch_begin", interrupt)
            with pytest.raises(KeyboardInterrupt):
                train(config, folder)  # resumes, because the options are the same
        state = read_state(folder)[0]
        assert (state.epoch, state.step, state.validation_step) == after
    train(config, folder, resume=True)
    assert_equal_runs(folder, uninterrupted)
    rates = [row["learning_rate"] for row in read_state(folder)[0].history]
    np.testing.assert_allclose(rates, [1e-2, 1e-3, 1e-3], rtol=1e-5)
    assert read_state(folder)[0].phase == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "mixed_float16", "batch_size": 13},  # a single step per epoch
        # Three steps per epoch: the second epoch starts in the middle of an update.
        {"accumulate": 2},
        pytest.param(
            {"deep_supervision": True, "arch": "unetpp", "regime": "frozen"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_other_configurations_resume(changes, eagerly, small_networks, tiny_config, tmp_path):
    """Two trainings of one epoch equal a training of two epochs, and the state is restored."""
    config = dataclasses.replace(
        tiny_config, image_size=32, epochs=2, schedule="constant", **changes
    )
    train(config, tmp_path / "once")
    train(dataclasses.replace(config, epochs=1), tmp_path / "twice")
    train(config, tmp_path / "twice", resume=True)
    assert_equal_runs(tmp_path / "twice", tmp_path / "once")


@pytest.mark.parametrize(
    ("writer", "method", "complete"),
    [
        (CheckpointWriter, "_write_checkpoint", 0),
        (CheckpointWriter, "_write_checkpoint", 1),
        (WeightsFile, "write", 0),
        (WeightsFile, "write", 1),
    ],
)
def test_training_resumes_if_its_disk_is_full(
    writer, method, complete, eagerly, uninterrupted, config, monkeypatch, tmp_path
):
    """The first checkpoint or weights file is complete, or not, and then the disk is full."""
    original, calls = getattr(writer, method), []

    def write_file(*arguments):
        calls.append(arguments)
        if len(calls) > complete:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(writer, method, write_file)
        with pytest.raises(OSError, match="No space"):
            train(config, tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    assert_equal_runs(tmp_path / "run", uninterrupted)


def test_training_does_not_write_into_a_folder_that_replaces_its_folder(
    eagerly, config, monkeypatch, tmp_path
):
    """The second folder can belong to another training."""
    on_epoch_end = RunRecorder.on_epoch_end

    def replace_folder(recorder, epoch, logs):
        recorder.checkpoints.finish()
        shutil.rmtree(tmp_path / "run")
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "other").touch()
        on_epoch_end(recorder, epoch, logs)

    monkeypatch.setattr(RunRecorder, "on_epoch_end", replace_folder)
    with pytest.raises(OSError, match="run was deleted, moved or replaced during the training"):
        train(config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["other"]


def test_resume_of_a_finished_run_does_nothing(uninterrupted, config, capsys):
    before = [file.read_bytes() for file in sorted((uninterrupted / CHECKPOINTS).iterdir())]
    state = train(config, uninterrupted, resume=True)
    assert state.epoch == 3
    assert "nothing is left to train" in capsys.readouterr().out
    files = sorted(uninterrupted.rglob("events*"))
    train(config, uninterrupted, resume=True)
    assert sorted(uninterrupted.rglob("events*")) == files
    after = [file.read_bytes() for file in sorted((uninterrupted / CHECKPOINTS).iterdir())]
    assert after == before


def test_run_that_was_killed_after_its_last_checkpoint_is_completed(
    uninterrupted, config, tmp_path
):
    killed = shutil.copytree(uninterrupted, tmp_path / "killed")
    shutil.rmtree(killed / "tensorboard")
    (killed / HISTORY).unlink()
    train(config, killed, resume=True)
    assert_equal_runs(killed, uninterrupted)


def test_resumed_training_continues_to_count_epochs_without_a_better_score(
    eagerly, config, tmp_path, monkeypatch
):
    config = dataclasses.replace(config, regime="finetune", batch_size=13, epochs=9, patience=3)
    on_epoch_end = RunRecorder.on_epoch_end
    falling_scores = iter([0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.01])
    monkeypatch.setattr(
        RunRecorder,
        "on_epoch_end",
        lambda self, epoch, logs: on_epoch_end(
            self, epoch, logs | {"val_mean_iou": next(falling_scores)}
        ),
    )
    train(dataclasses.replace(config, epochs=2), tmp_path / "run")
    state = train(config, tmp_path / "run", resume=True)
    # The average of a single epoch is not compared with the averages of three epochs.
    assert (state.epoch, state.best_epoch, state.finished) == (6, 3, True)
    assert read_state(tmp_path / "run")[0].finished


def test_changed_data_set_raises(uninterrupted, config, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    larger = dataclasses.replace(config.data, demo_count=17)
    with pytest.raises(InputError, match="has changed since the run"):
        train(dataclasses.replace(config, data=larger, epochs=4), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_folders_with_other_content_raise(config, uninterrupted, tmp_path):
    with pytest.raises(InputError, match="not empty.*`resume=True`"):
        check_workdir(config, uninterrupted, resume=False)
    other = dataclasses.replace(config, seed=3, epochs=50)
    with pytest.raises(InputError, match="seed=3 instead of 0"):
        check_workdir(other, uninterrupted, resume=None)
    with pytest.raises(InputError, match="not empty.*`resume=True`"):
        train(config, uninterrupted)  # the training is finished
    with pytest.raises(InputError, match="not empty.*`resume=True`"):
        check_workdir(dataclasses.replace(config, epochs=4), uninterrupted, resume=None)
    with pytest.raises(InputError, match="seed=3 instead of 0") as error:
        check_workdir(other, uninterrupted, resume=True)
    assert "epochs=" not in str(error.value)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not a run folder"):
        check_workdir(config, tmp_path, resume=True)
    check_workdir(config, tmp_path / "new", resume=True)


def test_folder_of_a_training_that_was_killed_in_its_first_seconds_is_free(config, tmp_path):
    unfinished_name(tmp_path / CONFIG).write_text("{")
    check_workdir(config, tmp_path, resume=False)
    check_workdir(config, tmp_path, resume=True)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        check_workdir(config, tmp_path, resume=False)
