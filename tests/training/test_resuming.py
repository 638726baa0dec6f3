"""Training that resumes."""

import dataclasses
import shutil

import numpy as np
import pytest

from lcc_tf.errors import InputError
from lcc_tf.models import build_model
from lcc_tf.training.checkpoints import LAST, read_state
from lcc_tf.training.phases import phases_of
from lcc_tf.training.recorder import RunRecorder
from lcc_tf.training.resuming import check_workdir
from lcc_tf.training.train import train


def weights_of(file, config):
    model = build_model(config.arch, 7, encoder=config.encoder, encoder_weights=None)
    model.load_weights(file)
    return model.get_weights()


def losses(state):
    return [(row["loss"], row["val_loss"]) for row in state.history]


def test_interrupted_training_equals_uninterrupted_training(tiny_config, tmp_path, monkeypatch):
    # Interrupted where the second phase begins, with an optimizer of its own, and in its midst.
    config = dataclasses.replace(
        tiny_config, regime="gradual", epochs=3, frozen_epochs=1, schedule="constant"
    )
    frozen, all_train = phases_of(config)
    assert (frozen.start, frozen.end, frozen.encoder_trains) == (0, 1, False)
    assert (all_train.start, all_train.end, all_train.encoder_trains) == (1, 3, True)
    through = train(config, tmp_path / "through")
    rates = [row["learning_rate"] for row in through.history]
    np.testing.assert_allclose(rates, [1e-2, 1e-3, 1e-3], rtol=1e-5)

    on_epoch_begin = RunRecorder.on_epoch_begin
    for done in (1, 2):

        def interrupt(recorder, epoch, logs=None, done=done):
            if epoch == done:
                raise KeyboardInterrupt
            on_epoch_begin(recorder, epoch, logs)

        with monkeypatch.context() as patch:
            patch.setattr(RunRecorder, "on_epoch_begin", interrupt)
            with pytest.raises(KeyboardInterrupt):
                train(config, tmp_path / "broken", resume=done > 1)
        assert read_state(tmp_path / "broken")[0].epoch == done
    resumed = train(config, tmp_path / "broken", resume=True)
    np.testing.assert_allclose(losses(resumed), losses(through), rtol=1e-5)
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3]
    assert read_state(tmp_path / "broken")[0].phase == 1
    for ours, theirs in zip(
        weights_of(tmp_path / "broken" / LAST, config),
        weights_of(tmp_path / "through" / LAST, config),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_resume_of_a_finished_run_does_nothing(runs, tiny_config, capsys):
    before = (runs / "deeplabv3plus" / LAST).read_bytes()
    state = train(tiny_config, runs / "deeplabv3plus", resume=True)
    assert state.epoch == 2
    assert "nothing is left to train" in capsys.readouterr().out
    assert (runs / "deeplabv3plus" / LAST).read_bytes() == before


def test_resumed_training_keeps_its_patience(eagerly, tiny_config, tmp_path, monkeypatch):
    # With a rate of next to nothing no epoch beats the first one by much; a score that shrinks
    # makes that sure.
    config = dataclasses.replace(tiny_config, epochs=9, patience=3)
    on_epoch_end = RunRecorder.on_epoch_end
    scores = iter([0.5, 0.4, 0.3, 0.2, 0.1])
    monkeypatch.setattr(
        RunRecorder,
        "on_epoch_end",
        lambda self, epoch, logs: on_epoch_end(self, epoch, logs | {"val_mean_iou": next(scores)}),
    )
    train(dataclasses.replace(config, epochs=2), tmp_path / "run")
    state = train(config, tmp_path / "run", resume=True)
    assert (state.epoch, state.best_epoch, state.finished) == (4, 1, True)
    assert read_state(tmp_path / "run")[0].finished


def test_changed_data_set_is_refused(runs, tiny_config, tmp_path):
    shutil.copytree(runs / "deeplabv3plus", tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    grown = dataclasses.replace(tiny_config.data, demo_count=17)
    with pytest.raises(InputError, match="has changed since the run"):
        train(dataclasses.replace(tiny_config, data=grown, epochs=3), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_occupied_folders_are_refused(tiny_config, runs, tmp_path):
    with pytest.raises(InputError, match="not empty.*`resume=True`"):
        check_workdir(tiny_config, runs / "deeplabv3plus", resume=False)
    other = dataclasses.replace(tiny_config, seed=3, epochs=50)
    with pytest.raises(InputError, match="seed=0, now 3") as error:
        check_workdir(other, runs / "deeplabv3plus", resume=True)
    assert "epochs=" not in str(error.value)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not a run folder"):
        check_workdir(tiny_config, tmp_path, resume=True)
    check_workdir(tiny_config, tmp_path / "new", resume=True)
