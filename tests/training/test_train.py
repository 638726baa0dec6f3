import csv
import dataclasses
import json

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lcc_tf.data.decoding import decode_mask
from lcc_tf.data.pipeline import encoded_examples, evaluation_batches
from lcc_tf.data.training_images import read_training_images
from lcc_tf.errors import DivergenceError, InputError
from lcc_tf.losses import get_loss
from lcc_tf.models import ARCHITECTURES, build_model
from lcc_tf.runs import BEST, read_run
from lcc_tf.training.checkpoints import CHECKPOINTS, TrainingState, read_state
from lcc_tf.training.history import CURVES, HISTORY
from lcc_tf.training.label_rules import LabelRules
from lcc_tf.training.network import build_network, compile_for
from lcc_tf.training.phases import phases_of
from lcc_tf.training.recorder import RunRecorder
from lcc_tf.training.train import train
from lcc_tf.training.training_data import training_data_of
from tests.untrained_runs import small_unet

SCORES = ("loss", "mean_iou", "iou", "accuracy", "precision", "recall", "f1")


@pytest.fixture(scope="session")
def one_step(tiny_config):
    """Configuration with one training step, because a batch contains all 13 training images."""
    return dataclasses.replace(tiny_config, image_size=32, batch_size=13, epochs=1)


@pytest.fixture
def one_small_step(one_step, monkeypatch):
    """Configuration with one training step of a small network."""
    monkeypatch.setitem(ARCHITECTURES, one_step.arch, small_unet)
    return one_step


@pytest.fixture
def three_steps(tiny_config, monkeypatch):
    """Configuration with two epochs of three training steps of a small network."""
    monkeypatch.setitem(ARCHITECTURES, tiny_config.arch, small_unet)
    return dataclasses.replace(tiny_config, image_size=32, schedule="constant")


def test_run_folder_contains_its_files(runs):
    folder = runs / "unetpp"
    assert sorted(path.name for path in folder.iterdir()) == [
        BEST,
        CHECKPOINTS,
        "config.json",
        CURVES,
        HISTORY,
        "tensorboard",
        "training_images.json",
    ]
    images = read_training_images(folder)
    assert min(map(len, images.values())) > 0
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
    model.load_weights(runs / "unetpp" / BEST)
    model.compile(loss=get_loss(tiny_config.loss, ignore_class=6))
    batches = evaluation_batches(
        builder, "validation", image_size=64, batch_size=4, quarters=True, fill_up=True
    )
    loss = model.evaluate(batches, verbose=0)
    assert loss == pytest.approx(state.history[state.best_epoch - 1]["val_loss"], rel=1e-4)
    with h5py.File(file) as content:
        # Step counter, learning rate or norm of the gradient, and two moments per trained variable
        assert len(content["optimizer"]) == 2 + 2 * len(model.trainable_weights)
        assert len(content["averages"]) == len(content["weights"]) == len(model.weights)


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
    model.load_weights(tmp_path / "run" / BEST)
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


@pytest.mark.parametrize("accumulate", [1, 3])
def test_gradients_that_stay_infinite_in_float16_raise(
    accumulate, eagerly, three_steps, tmp_path, monkeypatch
):
    config = dataclasses.replace(three_steps, precision="mixed_float16", accumulate=accumulate)
    are_finite = iter([False, True, False, False])
    monkeypatch.setattr(
        keras.optimizers.LossScaleOptimizer, "check_finite", lambda *_: next(are_finite)
    )
    monkeypatch.setattr("lcc_tf.training.recorder.MAX_INFINITE_STEPS", 2)
    with pytest.raises(DivergenceError, match="In 2 consecutive.* step 1 of epoch 2.*bfloat16'"):
        train(config, tmp_path / "run")


def test_infinite_loss_raises(eagerly, one_small_step, tmp_path):
    config = dataclasses.replace(one_small_step, learning_rate=1e30, schedule="constant")
    with pytest.raises(DivergenceError, match="not a finite number in epoch 1.*lower `learning_r"):
        train(config, tmp_path / "run")
    assert read_state(tmp_path / "run")[0] == TrainingState()


def test_training_without_an_update_raises(one_small_step, tmp_path):
    config = dataclasses.replace(one_small_step, accumulate=2)
    with pytest.raises(InputError, match="accumulate=2, batch_size=.*epoch=1. Use an `accum"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


class Explosion(RunRecorder):
    """Recorder that sets a weight to NaN before the second step of the second epoch."""

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(batch, logs)
        if (self.state.epoch, self.state.step) == (1, 1):
            kernel = self.model.get_layer("head_logits").kernel
            kernel.assign(np.full(kernel.shape, np.nan))


def test_step_that_is_not_finite_is_named(eagerly, three_steps, tmp_path, monkeypatch):
    monkeypatch.setattr("lcc_tf.training.train.RunRecorder", Explosion)
    with pytest.raises(DivergenceError, match="in step 2 of epoch 2") as error:
        train(three_steps, tmp_path / "run")
    message = str(error.value)
    assert "epoch=nan, gradient norm=nan, learning_rate=0.01, images demo_" in message
    assert "or resume with `on_nan='skip'`" in message
    assert error.value.exit_code == 3
    assert read_state(tmp_path / "run")[0].position == "after 1 epoch"


def test_skipped_step_changes_nothing(eagerly, three_steps, tmp_path, monkeypatch, capsys):
    config = dataclasses.replace(three_steps, on_nan="skip")
    monkeypatch.setattr("lcc_tf.training.train.RunRecorder", Explosion)
    state = train(config, tmp_path / "run")
    assert capsys.readouterr().out.count("skipped an update") == 1
    assert all(np.isfinite(value) for row in state.history for value in row.values())
    with h5py.File(read_state(tmp_path / "run")[1]) as content:
        assert content["optimizer/00000"][()] == 5  # counter of the updates in 6 steps


def test_too_many_skipped_steps_raise(eagerly, three_steps, tmp_path, monkeypatch):
    config = dataclasses.replace(three_steps, on_nan="skip")
    monkeypatch.setattr("lcc_tf.training.train.RunRecorder", Explosion)
    monkeypatch.setattr("lcc_tf.training.recorder.MAX_SKIPPED_STEPS", 0)
    with pytest.raises(DivergenceError, match="0 steps of this epoch were skipped before"):
        train(config, tmp_path / "run")


def test_image_ids_are_the_images_of_the_step(three_steps, builder):
    """Compares the masks of a batch, which are crops of whole images, with the named images."""
    config = dataclasses.replace(three_steps, crop_scale=(1.0, 1.0), image_size=64)
    data = training_data_of(config, builder, LabelRules(7))
    masks = {
        example["id"].numpy().decode(): np.sort(
            decode_mask(example["segmentation_mask"]), axis=None
        )
        for example in encoded_examples(builder, "train")
    }
    (batch,) = data.training_batches(1, 2).take(1)
    for image_id, mask in zip(data.image_ids(1, 2), batch[1].numpy(), strict=True):
        counts = np.bincount(mask.ravel(), minlength=7) - np.bincount(masks[image_id], minlength=7)
        assert np.abs(counts).sum() < 0.1 * mask.size  # the augmentation warps some images


def test_batch_larger_than_the_split_raises_before_a_folder_exists(one_step, tmp_path):
    with pytest.raises(InputError, match="fewer than one batch.*batch_size=14"):
        train(dataclasses.replace(one_step, batch_size=14, crops_per_image=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_encoder_weights_raise_before_a_folder_exists(one_step, tmp_path):
    config = dataclasses.replace(one_step, encoder_weights="no_such_file.h5")
    with pytest.raises(InputError, match="no_such_file"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_out_of_memory_error_suggests_other_options(one_small_step, tmp_path, monkeypatch):
    def out_of_memory(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr(keras.Model, "fit", out_of_memory)
    with pytest.raises(
        InputError, match="batch_size=13, image_size=32.*Use a smaller `image_size`"
    ):
        train(one_small_step, tmp_path / "run")
