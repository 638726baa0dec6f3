import csv
import dataclasses
import json

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lcc_tf.data.pipeline import evaluation_batches
from lcc_tf.errors import InputError
from lcc_tf.losses import get_loss
from lcc_tf.models import build_model
from lcc_tf.runs import BEST, read_run
from lcc_tf.training.checkpoints import LAST, read_state
from lcc_tf.training.history import CURVES, HISTORY
from lcc_tf.training.label_rules import LabelRules
from lcc_tf.training.network import build_network, compile_for
from lcc_tf.training.phases import phases_of
from lcc_tf.training.recorder import RunRecorder
from lcc_tf.training.train import train

SCORES = ("loss", "mean_iou", "iou", "accuracy", "precision", "recall", "f1")


@pytest.fixture(scope="session")
def one_step(tiny_config):
    """Configuration with one training step, because a batch contains all 13 training images."""
    return dataclasses.replace(tiny_config, image_size=32, batch_size=13, epochs=1)


def test_run_folder_contains_its_files(runs):
    folder = runs / "unetpp"
    assert sorted(path.name for path in folder.iterdir()) == [
        BEST,
        "config.json",
        CURVES,
        HISTORY,
        LAST,
        "tensorboard",
    ]
    rows = list(csv.DictReader((folder / HISTORY).open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for score in SCORES:
        assert 0 < float(rows[-1][score]) < 10
        assert 0 < float(rows[-1][f"val_{score}"]) < 10


def test_tensorboard_has_each_score(runs):
    for split in ("train", "validation"):
        events = EventAccumulator(str(runs / "unetpp" / "tensorboard" / split)).Reload()
        assert {f"epoch_{score}" for score in SCORES} <= set(events.Tags()["tensors"])


@pytest.mark.parametrize("arch", ["unetpp", "deeplabv3plus"])
def test_training_learns(arch, runs):
    state, _ = read_state(runs / arch)
    assert state.history[-1]["loss"] < 0.97 * state.history[0]["loss"]
    assert state.best_score == max(row["val_mean_iou"] for row in state.history)
    assert state.history[state.best_epoch - 1]["val_mean_iou"] == state.best_score


def test_saved_weights_have_the_recorded_validation_loss(runs, builder, tiny_config):
    # The saved weights are the moving averages. Validation uses four crops of each image.
    state, file = read_state(runs / "unetpp")
    model = build_model("unetpp", 7, encoder="tiny", encoder_weights=None)
    model.load_weights(file)
    model.compile(loss=get_loss(tiny_config.loss, ignore_class=6))
    batches = evaluation_batches(
        builder, "validation", image_size=64, batch_size=4, quarters=True, fill_up=True
    )
    loss = model.evaluate(batches, verbose=0)
    assert loss == pytest.approx(state.history[-1]["val_loss"], rel=1e-4)
    with h5py.File(file) as content:
        names = list(content["optimizer"]["vars"])
    # One step counter, two moments per trained variable and one average per variable
    assert len(names) == 1 + 2 * len(model.trainable_weights) + len(model.weights)


def test_configuration_records_the_data_set(runs, builder):
    assert read_run(runs / "unetpp").fingerprint == builder.info.metadata["fingerprint"]
    content = json.loads((runs / "unetpp" / "config.json").read_text())
    assert content["class_names"][5] == "barren_land"


def test_weights_and_statistics_of_a_frozen_encoder_do_not_change(eagerly, one_step, tmp_path):
    start = tmp_path / "start.weights.h5"
    source = build_model("deeplabv3plus", 7, encoder="tiny", encoder_weights=None)
    encoder = source.get_layer("encoder")
    encoder.save_weights(start)
    train(
        dataclasses.replace(one_step, regime="frozen", encoder_weights=str(start)), tmp_path / "run"
    )
    model = build_model("deeplabv3plus", 7, encoder="tiny", encoder_weights=None)
    model.load_weights(tmp_path / "run" / LAST)
    for ours, theirs in zip(
        model.get_layer("encoder").get_weights(), encoder.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_encoder_rate_reduces_the_learning_rate_of_the_encoder(tiny_config):
    config = dataclasses.replace(tiny_config, encoder_rate=0.1, schedule="constant")
    model = build_network(config, 7, pretrained=False)
    compile_for(phases_of(config)[0], model, config, LabelRules(7), steps_per_epoch=10)
    before = {variable.path: variable.numpy() for variable in model.trainable_variables}
    model.optimizer.apply([np.ones(v.shape, "float32") for v in model.trainable_variables])
    encoder = {variable.path for variable in model.get_layer("encoder").trainable_variables}
    for variable in model.trainable_variables:
        step = np.abs(variable.numpy() - before[variable.path]).mean()
        expected = 1e-3 if variable.path in encoder else 1e-2
        assert step == pytest.approx(expected, rel=0.1), variable.path


def test_deep_supervision_trains_each_head(eagerly, one_step, tmp_path):
    config = dataclasses.replace(one_step, arch="unetpp", deep_supervision=True)
    (row,) = train(config, tmp_path / "run").history
    heads = {name: value for name, value in row.items() if name.startswith("head")}
    assert set(row) - set(heads) >= {*SCORES, *(f"val_{score}" for score in SCORES)}
    assert row["loss"] < 4 * np.mean(list(heads.values()))


def test_mixed_precision(eagerly, one_step, tmp_path):
    # The test uses float16, because the loss is scaled in float16 but not in bfloat16.
    config = dataclasses.replace(one_step, precision="mixed_float16", schedule="constant")
    (row,) = train(config, tmp_path / "run").history
    assert np.isfinite(row["loss"])
    assert row["learning_rate"] == pytest.approx(one_step.learning_rate)
    assert keras.config.dtype_policy().name == "float32"


def test_infinite_loss_raises(eagerly, one_step, tmp_path):
    config = dataclasses.replace(one_step, learning_rate=1e30, schedule="constant")
    with pytest.raises(
        InputError, match="not a finite number in epoch 1.*lower `learning_rate`"
    ) as error:
        train(config, tmp_path / "run")
    assert "Earlier epochs" not in str(error.value)  # there are none
    assert not (tmp_path / "run" / LAST).exists()


def test_infinite_loss_names_the_folder_of_earlier_epochs(eagerly, one_step, tmp_path, monkeypatch):
    class Divergence(RunRecorder):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs | ({"loss": float("inf")} if epoch else {}))

    config = dataclasses.replace(one_step, epochs=2)
    monkeypatch.setattr("lcc_tf.training.train.RunRecorder", Divergence)
    with pytest.raises(InputError, match=f"in epoch 2.*Earlier epochs are in {tmp_path}/run"):
        train(config, tmp_path / "run")
    assert read_state(tmp_path / "run")[0].epoch == 1


def test_batch_larger_than_the_split_raises_before_a_folder_exists(one_step, tmp_path):
    with pytest.raises(InputError, match="fewer than one batch.*batch_size=14"):
        train(dataclasses.replace(one_step, batch_size=14, crops_per_image=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_encoder_weights_raise_before_a_folder_exists(one_step, tmp_path):
    config = dataclasses.replace(one_step, encoder_weights="no_such_file.h5")
    with pytest.raises(InputError, match="no_such_file"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_out_of_memory_error_suggests_other_options(one_step, tmp_path, monkeypatch):
    def out_of_memory(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr(keras.Model, "fit", out_of_memory)
    with pytest.raises(InputError, match="batch_size=13, image_size=32.*`batch_size`"):
        train(one_step, tmp_path / "run")
