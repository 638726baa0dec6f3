import csv
import dataclasses
import json

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.data.pipeline import evaluation_batches
from lcc_tf.errors import InputError
from lcc_tf.losses import get_loss
from lcc_tf.models import build_model
from lcc_tf.runs import BEST, read_run
from lcc_tf.training.checkpoints import LAST, read_state
from lcc_tf.training.history import HISTORY
from lcc_tf.training.label_rules import LabelRules
from lcc_tf.training.network import compile_for
from lcc_tf.training.phases import phases_of
from lcc_tf.training.train import train

SCORES = ("loss", "mean_iou", "iou", "accuracy", "precision", "recall", "f1")


def test_run_folder_contains_its_files(runs):
    folder = runs / "unetpp"
    assert sorted(path.name for path in folder.iterdir()) == [
        BEST,
        "config.json",
        "curves.png",
        HISTORY,
        LAST,
        "tensorboard",
    ]
    rows = list(csv.DictReader((folder / HISTORY).open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for score in SCORES:
        assert 0 < float(rows[-1][score]) < 10
        assert 0 < float(rows[-1][f"val_{score}"]) < 10
    for split in ("train", "validation"):
        assert list((folder / "tensorboard" / split).glob("events.*"))


@pytest.mark.parametrize("arch", ["unetpp", "deeplabv3plus"])
def test_training_learns(arch, runs):
    state, _ = read_state(runs / arch)
    assert state.history[-1]["loss"] < 0.97 * state.history[0]["loss"]
    assert state.best_score == max(row["val_mean_iou"] for row in state.history)
    assert state.history[state.best_epoch - 1]["val_mean_iou"] == state.best_score


def test_frozen_encoder_keeps_its_weights_and_statistics(eagerly, tiny_config, tmp_path):
    start = tmp_path / "start.weights.h5"
    source = build_model("deeplabv3plus", 7, encoder="tiny", encoder_weights=None)
    encoder = source.get_layer("encoder")
    encoder.save_weights(start)
    config = dataclasses.replace(tiny_config, regime="frozen", epochs=1, encoder_weights=str(start))
    train(config, tmp_path / "run")
    model = build_model("deeplabv3plus", 7, encoder="tiny", encoder_weights=None)
    model.load_weights(tmp_path / "run" / LAST)
    for ours, theirs in zip(
        model.get_layer("encoder").get_weights(), encoder.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_saved_weights_have_the_recorded_score(runs, builder, tiny_config):
    # The moving average of the weights, on four crops of each validation image.
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
    # The step; two moments of what is trained; an average of that and of the statistics.
    assert len(names) == 1 + 2 * len(model.trainable_weights) + len(model.weights)


def test_encoder_rate_slows_the_encoder(tiny_config):
    config = dataclasses.replace(tiny_config, encoder_rate=0.1, schedule="constant")
    model = build_model("deeplabv3plus", 7, encoder="tiny", encoder_weights=None)
    compile_for(phases_of(config)[0], model, config, LabelRules(7), steps_per_epoch=10)
    before = {variable.path: variable.numpy() for variable in model.trainable_variables}
    model.optimizer.apply([np.ones(v.shape, "float32") for v in model.trainable_variables])
    encoder = {variable.path for variable in model.get_layer("encoder").trainable_variables}
    for variable in model.trainable_variables:
        step = np.abs(variable.numpy() - before[variable.path]).mean()
        expected = 1e-3 if variable.path in encoder else 1e-2
        assert step == pytest.approx(expected, rel=0.1), variable.path


def test_deep_supervision_trains_each_head(eagerly, tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, arch="unetpp", deep_supervision=True, epochs=1)
    state = train(config, tmp_path / "run")
    assert {name for name in state.history[0] if not name.startswith("head")} >= {
        *SCORES,
        *(f"val_{score}" for score in SCORES),
    }
    heads = [value for name, value in state.history[0].items() if name.startswith("head")]
    assert state.history[0]["loss"] < 4 * np.mean(heads)


def test_mixed_precision_in_a_single_step(eagerly, tiny_config, tmp_path):
    # Of the two, float16 is the one whose loss is scaled.
    config = dataclasses.replace(tiny_config, precision="mixed_float16", epochs=1, batch_size=13)
    state = train(config, tmp_path / "run")
    assert np.isfinite(state.history[0]["loss"])
    assert state.history[0]["learning_rate"] == pytest.approx(tiny_config.learning_rate)
    assert keras.config.dtype_policy().name == "float32"


def test_infinite_loss_ends_the_training(eagerly, tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, learning_rate=1e30, schedule="constant")
    with pytest.raises(InputError, match="not a finite number in epoch 1.*lower `learning_rate`"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / LAST).exists()


def test_too_large_batch_leaves_no_folder(tiny_config, tmp_path):
    with pytest.raises(InputError, match="fewer than a batch.*batch_size=14"):
        train(dataclasses.replace(tiny_config, batch_size=14), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_out_of_memory_error_names_remedies(tiny_config, tmp_path, monkeypatch):
    def out_of_memory(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr(keras.Model, "fit", out_of_memory)
    with pytest.raises(InputError, match="batch_size=4 and image_size=64.*`batch_size`"):
        train(tiny_config, tmp_path / "run")


def test_missing_encoder_weights_leave_no_folder(tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, encoder_weights="no_such_file.h5")
    with pytest.raises(InputError, match="no_such_file"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_configuration_records_the_data_set(runs, builder):
    assert read_run(runs / "unetpp").fingerprint == builder.info.metadata["fingerprint"]
    assert json.loads((runs / "unetpp" / "config.json").read_text())["class_names"][5] == (
        "barren_land"
    )
