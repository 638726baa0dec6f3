import csv
import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.checkpoints import BEST, HISTORY, LAST, read_run, read_state
from lcc_tf.distribution import synchronize_batch_norm
from lcc_tf.losses import get_loss
from lcc_tf.models import build_model
from lcc_tf.training import RunRecorder, check_workdir, compile_for, phases_of, train
from tfds_deepglobe.errors import InputError

SCORES = ("loss", "mean_iou", "iou", "accuracy", "precision", "recall", "f1")


def weights_of(file, config):
    model = build_model(config.arch, 7, encoder=config.encoder, encoder_weights=None)
    model.load_weights(file)
    return model.get_weights()


def losses(state):
    return [(row["loss"], row["val_loss"]) for row in state.history]


def test_run_folder_holds_what_it_should(runs):
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


def test_training_learns(tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, epochs=12)
    state = train(config, tmp_path / "run")
    assert state.history[-1]["loss"] < 0.8 * state.history[0]["loss"]
    assert state.best_score == max(row["val_mean_iou"] for row in state.history)
    assert state.history[state.best_epoch - 1]["val_mean_iou"] == state.best_score


@pytest.mark.parametrize("arch", ["unetpp", "deeplabv3plus"])
def test_two_replicas_give_the_losses_of_one_device(
    arch, tiny_config, tmp_path, monkeypatch, two_replicas
):
    # 49 training and 5 validation images: the last batch of 4 has to be filled up. Dropout differs
    # by replica, so it is off. AdamW's first steps are as long as the rate whatever the gradient,
    # which turns rounding into other weights: the rate is the original's small one.
    monkeypatch.setattr(keras.layers.Dropout, "call", lambda self, x, training=False: x)
    config = dataclasses.replace(
        tiny_config,
        arch=arch,
        data=dataclasses.replace(tiny_config.data, demo_count=60),
        learning_rate=1e-5,
        schedule="constant",
    )
    one = train(config, tmp_path / "one")
    two = train(config, tmp_path / "two", strategy=two_replicas)
    np.testing.assert_allclose(losses(two), losses(one), rtol=5e-5)
    for score in ("val_mean_iou", "val_iou", "iou"):
        np.testing.assert_allclose(
            [row[score] for row in two.history], [row[score] for row in one.history], atol=1e-3
        )


def test_two_replicas_take_the_step_of_one_device(two_replicas):
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    masks = rng.integers(0, 3, (4, 32, 32))
    weights = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = build_model("unetpp", 3, encoder="tiny", encoder_weights=None)
            synchronize_batch_norm(model, strategy)
            model.compile(keras.optimizers.SGD(0.5), loss=get_loss("cross_entropy+dice"))
        before = model.get_weights()
        model.fit(images, masks, batch_size=4, epochs=1, verbose=0)
        steps = [after - b for after, b in zip(model.get_weights(), before, strict=True)]
        weights.append(np.concatenate([step.ravel() for step in steps]))
    one, two = weights
    assert np.abs(one).max() > 0.01
    np.testing.assert_allclose(two, one, atol=1e-4 * np.abs(one).max())


@pytest.mark.parametrize("regime", ["finetune", "gradual"])
def test_interrupted_training_goes_on_as_if_nothing_had_been(
    regime, tiny_config, tmp_path, monkeypatch
):
    # `gradual` is interrupted where its second phase begins, with an optimizer of its own.
    config = dataclasses.replace(tiny_config, epochs=4, regime=regime, frozen_epochs=2)
    through = train(config, tmp_path / "through")

    on_epoch_begin = RunRecorder.on_epoch_begin

    def interrupt(recorder, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt
        on_epoch_begin(recorder, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(RunRecorder, "on_epoch_begin", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "broken")
    assert read_state(tmp_path / "broken")[0].epoch == 2
    resumed = train(config, tmp_path / "broken", resume=True)
    np.testing.assert_allclose(losses(resumed), losses(through), rtol=1e-5)
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3, 4]
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


def test_early_stopping_counts_on_after_a_resume(tiny_config, tmp_path, monkeypatch):
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


def test_frozen_encoder_keeps_its_weights_and_statistics(tiny_config, tmp_path):
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


def test_gradual_thaws_the_encoder_at_a_tenth_of_the_rate(tiny_config, tmp_path):
    config = dataclasses.replace(
        tiny_config, regime="gradual", frozen_epochs=1, epochs=2, schedule="constant"
    )
    frozen, all_train = phases_of(config)
    assert (frozen.start, frozen.end, frozen.encoder_trains) == (0, 1, False)
    assert (all_train.start, all_train.end, all_train.encoder_trains) == (1, 2, True)
    state = train(config, tmp_path / "run")
    rates = [row["learning_rate"] for row in state.history]
    np.testing.assert_allclose(rates, [1e-2, 1e-3], rtol=1e-5)
    assert read_state(tmp_path / "run")[0].phase == 1


def test_cosine_schedule_warms_up_and_ends_at_zero(tiny_config):
    config = dataclasses.replace(tiny_config, epochs=10)
    model = build_model("deeplabv3plus", 7, encoder="tiny", encoder_weights=None)
    compile_for(phases_of(config)[0], model, config, 7, steps=10)
    schedule = model.optimizer._learning_rate
    rates = [float(schedule(step)) for step in range(101)]
    assert rates[0] == 0
    assert max(rates) == pytest.approx(config.learning_rate)
    assert rates.index(max(rates)) == 5
    assert rates[100] == pytest.approx(0, abs=1e-9)


def test_deep_supervision_trains_each_head(tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, arch="unetpp", deep_supervision=True, epochs=1)
    state = train(config, tmp_path / "run")
    assert {name for name in state.history[0] if not name.startswith("head")} >= {
        *SCORES,
        *(f"val_{score}" for score in SCORES),
    }
    heads = [value for name, value in state.history[0].items() if name.startswith("head")]
    assert state.history[0]["loss"] < 4 * np.mean(heads)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(tiny_config, tmp_path, precision):
    config = dataclasses.replace(tiny_config, precision=precision, epochs=1)
    state = train(config, tmp_path / "run")
    assert np.isfinite(state.history[0]["loss"])
    assert keras.config.dtype_policy().name == "float32"


def test_loss_that_is_no_number_ends_the_training(tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, learning_rate=1e30, schedule="constant")
    with pytest.raises(InputError, match="no finite number in epoch 1.*lower `--learning-rate`"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / LAST).exists()


def test_changed_data_set_is_refused(tiny_config, tmp_path):
    train(dataclasses.replace(tiny_config, epochs=1), tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    grown = dataclasses.replace(tiny_config.data, demo_count=17)
    with pytest.raises(InputError, match="has changed since the run"):
        train(dataclasses.replace(tiny_config, data=grown), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_training_of_a_single_step(tiny_config, tmp_path):
    state = train(dataclasses.replace(tiny_config, epochs=1, batch_size=13), tmp_path / "run")
    assert state.history[0]["learning_rate"] == pytest.approx(tiny_config.learning_rate)


def test_too_large_batch_leaves_nothing(tiny_config, tmp_path):
    with pytest.raises(InputError, match="fewer than a batch.*batch_size=14"):
        train(dataclasses.replace(tiny_config, batch_size=14), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_lack_of_memory_names_the_ways_out(tiny_config, tmp_path, monkeypatch):
    def out_of_memory(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")

    monkeypatch.setattr("lcc_tf.training.fit", out_of_memory)
    with pytest.raises(InputError, match="batch_size=4 and image_size=64.*--batch-size"):
        train(tiny_config, tmp_path / "run")


def test_taken_folders(tiny_config, runs, tmp_path):
    with pytest.raises(InputError, match="not empty.*--resume"):
        check_workdir(tiny_config, runs / "deeplabv3plus", resume=False)
    other = dataclasses.replace(tiny_config, seed=3, epochs=50)
    with pytest.raises(InputError, match="seed=0, now 3") as error:
        check_workdir(other, runs / "deeplabv3plus", resume=True)
    assert "epochs=" not in str(error.value)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not a run folder"):
        check_workdir(tiny_config, tmp_path, resume=True)
    check_workdir(tiny_config, tmp_path / "new", resume=True)


def test_nothing_is_left_where_the_weights_cannot_be_had(tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, encoder_weights="no_such_file.h5")
    with pytest.raises(InputError, match="no_such_file"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_configuration_records_the_data_set(runs, builder):
    assert read_run(runs / "unetpp").fingerprint == builder.info.metadata["fingerprint"]
    assert json.loads((runs / "unetpp" / "config.json").read_text())["class_names"][5] == (
        "barren_land"
    )
