import errno
import hashlib
import json
import re
import shutil
import sys
import threading

import h5py
import keras
import numpy as np
import pytest

from lcc_tf.config import TrainConfig
from lcc_tf.errors import InputError
from lcc_tf.runs import BEST, load_weights
from lcc_tf.training.checkpoints import (
    CHECKPOINTS,
    CheckpointWriter,
    TrainingState,
    WeightsFile,
    best_of_epoch,
    read_state,
    restore,
    save_weights,
)
from lcc_tf.training.history import HISTORY
from lcc_tf.training.label_rules import LabelRules
from lcc_tf.training.network import build_network, compile_for
from lcc_tf.training.optimizer import AveragingAdamW
from lcc_tf.training.phases import phases_of


def small_model(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    optimizer = AveragingAdamW(
        0.1, weight_decay=0.1, averaged_variables=model.weights, average_decay=0.9
    )
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, "mse", run_eagerly=True)
    return model


def trained(seed):
    model = small_model(seed)
    for _ in range(2):
        model.train_on_batch(np.ones((8, 3)), np.ones((8, 2)))
    return model


def state_after(epoch, best_epoch):
    history = [{"epoch": i + 1, "loss": 1 / (i + 1)} for i in range(epoch)]
    return TrainingState(epoch=epoch, best_epoch=best_epoch, best_score=0.5, history=history)


def write(folder, *states, model=None):
    """Writes one checkpoint per state, and returns the numbers of the kept files."""
    writer = CheckpointWriter(folder)
    for state in states:
        writer.write(model or small_model(1), state, wait=True)
    return sorted(int(file.stem) for file in (folder / CHECKPOINTS).iterdir())


def test_checkpoint_restores_weights_optimizer_and_state(tmp_path):
    model = trained(1)
    write(tmp_path, state_after(3, best_epoch=0), model=model)
    state, file = read_state(tmp_path)
    assert state == state_after(3, best_epoch=0)
    assert file == tmp_path / CHECKPOINTS / "000001.h5"

    other = small_model(2)
    arrays = restore(other, file, same_phase=True)
    assert int(other.optimizer.iterations) == 2
    for ours, theirs in zip(
        [*other.weights, *other.optimizer.variables],
        [*model.weights, *model.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    sums = {name: array for name, array in arrays.items() if name.startswith("metrics/")}
    assert sums["metrics/00001"] == 8  # images of the last step


def test_next_phase_starts_with_the_averages_and_a_new_optimizer(tmp_path):
    model = trained(1)
    write(tmp_path, state_after(1, best_epoch=0), model=model)
    model.optimizer.swap_averages()
    averages = model.get_weights()
    other = small_model(2)
    restore(other, tmp_path / CHECKPOINTS / "000001.h5", same_phase=False)
    assert int(other.optimizer.iterations) == 0
    for _ in ("weights", "averages"):
        for ours, theirs in zip(other.get_weights(), averages, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        other.optimizer.swap_averages()


def test_checkpoint_in_the_background_contains_the_values_of_its_step(tmp_path, monkeypatch):
    model = trained(1)
    before = [weight.numpy().copy() for weight in model.weights]
    is_changed = threading.Event()
    writer = CheckpointWriter(tmp_path)
    monkeypatch.setattr(
        "lcc_tf.training.checkpoints.check_free_space", lambda *args: is_changed.wait(10)
    )
    writer.write(model, state_after(1, best_epoch=0), wait=False)
    assert writer.is_writing
    model.train_on_batch(np.ones((8, 3)), np.ones((8, 2)))
    is_changed.set()
    writer.finish()
    assert np.any(model.weights[0].numpy() != before[0])
    restore(model, read_state(tmp_path)[1], same_phase=True)
    for ours, theirs in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_newest_two_checkpoints_are_kept(tmp_path):
    states = [state_after(epoch, best_epoch=0) for epoch in (1, 2, 3)]
    assert write(tmp_path, *states) == [2, 3]
    state, file = read_state(tmp_path)
    assert state.epoch == 3
    (tmp_path / CHECKPOINTS / ".unfinished.000004.h5").write_bytes(b"killed")
    for name in (".unfinished.best.weights.h5", ".unfinished..epoch_4.best.weights.h5"):
        (tmp_path / name).write_bytes(b"killed")
    (tmp_path / CHECKPOINTS / "notes.txt").write_text("mine")
    writer = CheckpointWriter(tmp_path, resumed=file)
    writer.write(small_model(1), state_after(4, best_epoch=0), wait=True)
    names = sorted(path.name for path in (tmp_path / CHECKPOINTS).iterdir())
    assert names == ["000003.h5", "000004.h5", "notes.txt"]
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINTS]


def test_folder_with_the_name_of_a_checkpoint_is_ignored(tmp_path):
    (tmp_path / CHECKPOINTS / "000002.h5").mkdir(parents=True)
    assert write(tmp_path, state_after(1, best_epoch=0), state_after(2, best_epoch=0)) == [2, 3, 4]
    assert read_state(tmp_path)[1].name == "000004.h5"


def test_interrupted_write_does_not_change_earlier_files(tmp_path, monkeypatch):
    write(tmp_path, state_after(1, best_epoch=0))
    before = {path.name: path.read_bytes() for path in (tmp_path / CHECKPOINTS).iterdir()}

    def disk_full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, state_after(2, best_epoch=2))
    after = {path.name: path.read_bytes() for path in (tmp_path / CHECKPOINTS).iterdir()}
    assert after == before


def test_full_disk_raises_before_a_file_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"000001.h5 cannot be written.*0.0 MB are necessary"):
        write(tmp_path, state_after(1, best_epoch=0))
    assert list((tmp_path / CHECKPOINTS).iterdir()) == []
    with pytest.raises(OSError, match=f"{BEST} cannot be written.*0.0 MB are necessary"):
        save_weights(small_model(1), tmp_path / BEST)


def clear_end(file):
    """Replaces the end of a file, and therefore also the checksum, by zeros."""
    size = file.stat().st_size
    with file.open("r+b") as content:
        content.seek(size - 200)
        content.write(bytes(200))


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file):
    file.write_bytes(b"")


def flip_bit_of_a_weight(file):
    """Flips a bit of the largest array of weights in a file."""
    arrays = []
    with h5py.File(file, "r") as content:
        content["weights" if "weights" in content else "layers"].visititems(
            lambda name, item: arrays.append(item[()]) if isinstance(item, h5py.Dataset) else None
        )
    values = max(arrays, key=np.size)
    content = bytearray(file.read_bytes())
    content[content.index(values.tobytes())] ^= 1
    file.write_bytes(bytes(content))


def flip_bit_of_a_byte_order(file):
    """Changes the stored type of a float32 array from little-endian to big-endian."""
    content = file.read_bytes()
    little_endian = bytes([0x11, 0x20, 0x1F, 0, 4, 0, 0, 0])  # class, flags and size in HDF5
    assert little_endian in content
    big_endian = little_endian.replace(b"\x20", b"\x21")
    file.write_bytes(content.replace(little_endian, big_endian, 1))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, ".*"),
        (clear_end, "the end of the file has changed"),
        (empty, ".*"),
        (flip_bit_of_a_weight, "the checksum is wrong"),
        (flip_bit_of_a_byte_order, "the checksum is wrong"),
    ],
)
def test_older_checkpoint_replaces_the_damaged_newest_checkpoint(damage, reason, tmp_path, capsys):
    write(tmp_path, state_after(1, best_epoch=0), state_after(2, best_epoch=0), model=trained(1))
    damage(tmp_path / CHECKPOINTS / "000002.h5")
    state, file = read_state(tmp_path)
    assert (state.epoch, file.name) == (1, "000001.h5")
    expected = rf"000002.h5 is damaged \({reason}.* resumes from 000001.h5, after 1 epoch\."
    assert re.search(expected, capsys.readouterr().out)
    # The next checkpoint replaces the damaged checkpoint.
    CheckpointWriter(tmp_path, resumed=file).write(
        small_model(1), state_after(2, best_epoch=0), wait=True
    )
    assert [file.name for file in sorted((tmp_path / CHECKPOINTS).iterdir())] == [
        "000001.h5",
        "000003.h5",
    ]


def test_damaged_checkpoints_raise(tmp_path):
    write(tmp_path, state_after(1, best_epoch=0), state_after(2, best_epoch=0))
    for file in (tmp_path / CHECKPOINTS).iterdir():
        truncate(file)
    with pytest.raises(InputError, match="no checkpoint can be read.*000002.h5.*; 000001.h5 is"):
        read_state(tmp_path)


def test_run_without_checkpoints_raises(tmp_path):
    """For example, a run of version 0.1.0, or a copy of a run without its checkpoints."""
    save_weights(small_model(1), tmp_path / BEST)
    with pytest.raises(InputError, match=f"contains {BEST}, but no checkpoint"):
        read_state(tmp_path)
    (tmp_path / BEST).rename(tmp_path / HISTORY)
    with pytest.raises(InputError, match=f"contains {HISTORY}, but no checkpoint"):
        read_state(tmp_path)


def test_missing_best_weights_are_reported_and_written_again(tmp_path, capsys):
    """For example, a user copies only a part of the run folder to another machine."""
    write(tmp_path, state_after(1, best_epoch=1))
    state, _ = read_state(tmp_path)
    assert (state.epoch, state.best_epoch, state.best_score) == (1, 0, float("-inf"))
    assert f"{BEST} is missing. Copy it from the original folder" in capsys.readouterr().out


def test_folder_without_weights_has_a_new_state(tmp_path):
    (tmp_path / CHECKPOINTS).mkdir()
    (tmp_path / CHECKPOINTS / ".unfinished.000001.h5").write_bytes(b"killed")
    assert read_state(tmp_path) == (TrainingState(), None)


@pytest.mark.parametrize(
    ("arch", "precision", "layout"),
    [
        ("unetpp", "float32", "d2edf7f5298477ab"),
        ("deeplabv3plus", "mixed_float16", "0ec23edd614d3c5b"),
    ],
)
def test_weights_files_have_the_layout_of_version_0_1(arch, precision, layout, tmp_path):
    """Files of version 0.1.0 can be loaded only if names and shapes in the file do not change."""
    config = TrainConfig(
        arch=arch,
        encoder="tiny",
        encoder_weights=None,
        image_size=64,
        ema_decay=0.9,
        precision=precision,
    )
    model = build_network(config, 7, pretrained=False)
    (phase,) = phases_of(config)
    compile_for(phase, model, config, LabelRules(7, ignore_class=6), 10)
    save_weights(model, tmp_path / BEST)
    shapes = {}

    def add(name, item):
        if isinstance(item, h5py.Dataset) and name.startswith("layers/"):
            shapes[name] = list(item.shape)

    with h5py.File(tmp_path / BEST) as file:
        file.visititems(add)
    text = "\n".join(f"{name} {shape}" for name, shape in sorted(shapes.items()))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == layout


def test_weights_file_has_the_values_of_its_creation(tmp_path):
    model = trained(1)
    expected = model.get_weights()
    file = WeightsFile(model, tmp_path / BEST)
    model.train_on_batch(np.ones((8, 3)), np.ones((8, 2)))
    changed = model.get_weights()
    thread = threading.Thread(target=file.write)
    thread.start()
    thread.join()
    for values, unchanged in zip(model.get_weights(), changed, strict=True):
        np.testing.assert_array_equal(values, unchanged)
    load_weights(keras.Model(model.inputs, model.outputs), tmp_path / BEST)
    for values, saved, other in zip(model.get_weights(), expected, changed, strict=True):
        np.testing.assert_array_equal(values, saved)
        assert np.any(saved != other)


def write_best(folder, epoch, seed):
    """Writes a checkpoint whose epoch is the best, and returns the bytes of the best weights."""
    best = WeightsFile(trained(seed), best_of_epoch(folder, epoch))
    CheckpointWriter(folder).write(small_model(1), state_after(epoch, epoch), wait=True, best=best)
    return (folder / BEST).read_bytes()


def test_best_weights_change_when_their_checkpoint_is_complete(tmp_path, monkeypatch):
    first = write_best(tmp_path, epoch=1, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointWriter, "_write_checkpoint", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_best(tmp_path, epoch=2, seed=2)
    assert (tmp_path / BEST).read_bytes() == first
    assert not [*tmp_path.glob(".*")]
    assert write_best(tmp_path, epoch=2, seed=2) != first


def test_best_weights_of_a_killed_training_belong_to_its_checkpoint(tmp_path):
    write_best(tmp_path, epoch=1, seed=1)
    save_weights(trained(2), best_of_epoch(tmp_path, 2))  # killed before the second checkpoint
    first = (tmp_path / BEST).read_bytes()
    read_state(tmp_path)
    assert (tmp_path / BEST).read_bytes() == first
    (tmp_path / BEST).rename(best_of_epoch(tmp_path, 1))  # killed after the first checkpoint
    assert read_state(tmp_path)[0].best_epoch == 1
    assert (tmp_path / BEST).read_bytes() == first
    (tmp_path / f".mine.{BEST}").touch()
    write(tmp_path, state_after(3, best_epoch=1))
    assert {path.name for path in tmp_path.iterdir()} == {BEST, CHECKPOINTS, f".mine.{BEST}"}


@pytest.mark.parametrize("function", ["os.replace", "lcc_tf.training.checkpoints.flush"])
def test_best_weights_of_a_complete_checkpoint_are_not_lost(function, tmp_path, monkeypatch):
    """Errors after the checkpoint: the resumed training completes the best weights."""
    first = write_best(tmp_path, epoch=1, seed=1)
    module, name = function.rsplit(".", 1)
    original = getattr(sys.modules[module], name)

    def fail(*paths):
        if paths[-1] in (tmp_path / BEST, tmp_path / CHECKPOINTS):
            raise OSError(errno.EIO, "Input/output error")
        original(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(function, fail)
        with pytest.raises(OSError, match="Input/output"):
            write_best(tmp_path, epoch=2, seed=2)
    assert (tmp_path / BEST).read_bytes() == first
    assert read_state(tmp_path, is_chief=False)[0].best_epoch == 2
    assert (tmp_path / BEST).read_bytes() == first
    assert read_state(tmp_path)[0].best_epoch == 2
    assert (tmp_path / BEST).read_bytes() != first


def test_flipped_bit_of_the_best_weights_raises(tmp_path):
    model = trained(1)
    save_weights(model, tmp_path / BEST)
    flip_bit_of_a_weight(tmp_path / BEST)
    with pytest.raises(InputError, match="the checksum is wrong, because bytes of the file have"):
        load_weights(keras.Model(model.inputs, model.outputs), tmp_path / BEST)


def test_file_of_an_earlier_version_has_no_checksum(tmp_path):
    model = trained(1)
    keras.Model(model.inputs, model.outputs).save_weights(tmp_path / BEST)
    load_weights(keras.Model(model.inputs, model.outputs), tmp_path / BEST)


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": -3},
        {"step": -1},
        {"validation_step": 2},
        {"epoch": 2.0},
        {"best_epoch": 9},
        {"phase": -1},
        {"finished": 1},
        {"history": []},
        {"history": [{"epoch": 1}, {"epoch": 3}]},
    ],
)
def test_impossible_state_is_damage(tmp_path, changes):
    write(tmp_path, state_after(2, best_epoch=0))
    with h5py.File(tmp_path / CHECKPOINTS / "000001.h5", "a") as content:
        state = json.loads(content["training_state"][()]) | changes
        del content["training_state"]
        content["training_state"] = json.dumps(state)
    with pytest.raises(InputError, match="the state of the training is impossible"):
        read_state(tmp_path)


@pytest.mark.parametrize("group", ["weights", "averages", "optimizer"])
def test_checkpoint_without_some_variables_raises(group, tmp_path):
    write(tmp_path, state_after(1, best_epoch=0), model=trained(1))
    file = tmp_path / CHECKPOINTS / "000001.h5"
    with h5py.File(file, "a") as content:
        del content[group]
    with pytest.raises(InputError, match=r"does not fit the network.*Received: \d+ arrays; exp"):
        restore(small_model(2), file, same_phase=True)


@pytest.fixture
def full_disk(monkeypatch):
    """Lets the writing of a checkpoint fail."""

    def raise_error(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lcc_tf.training.checkpoints.check_free_space", raise_error)


def test_history_is_written_after_its_checkpoint(tmp_path):
    numbers = []
    with CheckpointWriter(tmp_path) as writer:
        writer.write(
            small_model(1),
            TrainingState(),
            wait=False,
            then=lambda: numbers.extend(file.stem for file in (tmp_path / CHECKPOINTS).iterdir()),
        )
    assert numbers == ["000001"]


def test_error_in_the_background_is_raised_once_and_stops_the_history(tmp_path, full_disk):
    histories = []
    writer = CheckpointWriter(tmp_path)
    writer.write(
        small_model(1), TrainingState(), wait=False, then=lambda: histories.append("written")
    )
    while writer.is_writing:
        pass
    with pytest.raises(OSError, match="No space"):
        writer.raise_errors()
    writer.raise_errors()
    assert not histories


def test_warning_if_a_checkpoint_fails_and_another_error_ends_the_training(
    tmp_path, full_disk, capsys
):
    writer = CheckpointWriter(tmp_path)
    writer.write(small_model(1), TrainingState(), wait=False)
    writer.__exit__(KeyboardInterrupt)
    assert "best weights, could not be written: [Errno 28] No space" in capsys.readouterr().out
