import errno
import hashlib
import json
import os
import re
import shutil

import h5py
import keras
import numpy as np
import pytest

from lcc_tf.config import TrainConfig
from lcc_tf.errors import InputError
from lcc_tf.files import unfinished_name
from lcc_tf.runs import BEST, load_weights
from lcc_tf.training.checkpoints import (
    LAST,
    TrainingState,
    read_state,
    restore,
    save_checkpoint,
)
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


def test_checkpoint_restores_weights_optimizer_and_state(tmp_path):
    model = trained(1)
    weights = model.get_weights()
    model.optimizer.swap_averages()
    averages = model.get_weights()
    save_checkpoint(tmp_path, model, state_after(3, best_epoch=3))
    state, file = read_state(tmp_path)
    assert state == state_after(3, best_epoch=3)
    assert file == tmp_path / LAST

    other = small_model(2)
    restore(other, file, with_optimizer=True)
    assert int(other.optimizer.iterations) == 2
    restored = other.get_weights()
    other.optimizer.swap_averages()
    for ours, theirs in zip([*restored, *other.get_weights()], [*weights, *averages], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(other.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_restored_weights_without_their_optimizer_start_a_new_optimizer(tmp_path):
    model = trained(1)
    save_checkpoint(tmp_path, model, state_after(1, best_epoch=1))
    other = small_model(2)
    restore(other, tmp_path / LAST, with_optimizer=False)
    assert int(other.optimizer.iterations) == 0
    for _ in ("weights", "averages"):
        for ours, theirs in zip(other.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        other.optimizer.swap_averages()


def test_best_weights_are_from_the_best_epoch(tmp_path):
    best = trained(1)
    save_checkpoint(tmp_path, best, state_after(1, best_epoch=1))
    save_checkpoint(tmp_path, trained(2), state_after(2, best_epoch=1))
    model = small_model(3)
    model.load_weights(tmp_path / BEST)
    np.testing.assert_array_equal(model.get_weights()[0], best.get_weights()[0])
    assert read_state(tmp_path)[0].epoch == 2


def test_checkpoint_on_a_file_system_without_links(tmp_path, monkeypatch):
    def no_links(*args):
        raise OSError(errno.EPERM, "links are not supported")

    monkeypatch.setattr("os.link", no_links)
    save_checkpoint(tmp_path, small_model(1), state_after(1, best_epoch=1))
    assert (tmp_path / BEST).read_bytes() == (tmp_path / LAST).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [BEST, LAST]


def test_interrupted_write_does_not_change_earlier_files(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, small_model(1), state_after(1, best_epoch=1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def disk_full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, small_model(2), state_after(2, best_epoch=2))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_full_disk_raises_before_a_file_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=f"{LAST} cannot be written.*0.0 MB are necessary"):
        save_checkpoint(tmp_path, small_model(1), state_after(1, best_epoch=1))
    assert list(tmp_path.iterdir()) == []


def test_best_weights_replace_damaged_last_weights(tmp_path, capsys):
    save_checkpoint(tmp_path, small_model(1), state_after(1, best_epoch=1))
    save_checkpoint(tmp_path, small_model(2), state_after(2, best_epoch=1))
    content = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(content[: len(content) // 2])
    state, file = read_state(tmp_path)
    assert (state.epoch, file) == (1, tmp_path / BEST)
    expected = f"{LAST} is damaged .*. The training resumes from {BEST}, after epoch 1."
    assert re.search(expected, capsys.readouterr().out)
    (tmp_path / LAST).unlink()
    assert read_state(tmp_path)[0].epoch == 1
    assert f"{LAST} is missing. The training resumes" in capsys.readouterr().out
    (tmp_path / BEST).write_bytes(b"")
    with pytest.raises(
        InputError, match=f"no weights file can be read.*{LAST} is missing; {BEST} is damaged"
    ):
        read_state(tmp_path)


def test_missing_best_weights_are_reported_and_written_again(tmp_path, capsys):
    """For example, a user copies only a part of the run folder to another machine."""
    save_checkpoint(tmp_path, small_model(1), state_after(1, best_epoch=1))
    (tmp_path / BEST).unlink()
    state, file = read_state(tmp_path)
    assert (state.epoch, state.best_epoch, state.best_score) == (1, 0, float("-inf"))
    assert file == tmp_path / LAST
    assert f"{BEST} is missing. Copy it from the original folder" in capsys.readouterr().out


def test_link_that_a_killed_process_left_does_not_change_the_best_weights(tmp_path):
    save_checkpoint(tmp_path, small_model(1), state_after(1, best_epoch=1))
    best = (tmp_path / BEST).read_bytes()
    os.link(tmp_path / BEST, unfinished_name(tmp_path / LAST))
    save_checkpoint(tmp_path, small_model(2), state_after(2, best_epoch=1))
    assert (tmp_path / BEST).read_bytes() == best


def test_folder_without_weights_has_a_new_state(tmp_path):
    assert read_state(tmp_path) == (TrainingState(), None)


@pytest.mark.parametrize(
    ("arch", "precision", "layout"),
    [
        ("unetpp", "float32", "d082dbebdd48827f"),
        ("deeplabv3plus", "mixed_float16", "82fd8fbf3f1cb93e"),
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
    save_checkpoint(tmp_path, model, state_after(1, best_epoch=1))
    shapes = {}

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            shapes[name] = list(item.shape)

    with h5py.File(tmp_path / LAST) as file:
        file.visititems(add)
    text = "\n".join(f"{name} {shape}" for name, shape in sorted(shapes.items()))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == layout


def flip_byte_of_weights(file):
    """Flips a bit of a weight in a file."""
    arrays = []
    with h5py.File(file, "r") as content:
        content["layers"].visititems(
            lambda name, item: arrays.append(item[()]) if isinstance(item, h5py.Dataset) else None
        )
    values = max(arrays, key=np.size)
    content = bytearray(file.read_bytes())
    place = content.index(values.tobytes())
    content[place] ^= 1
    file.write_bytes(bytes(content))


def test_flipped_bit_of_the_weights_is_found(tmp_path, capsys):
    model = trained(1)
    save_checkpoint(tmp_path, model, state_after(1, best_epoch=1))
    save_checkpoint(tmp_path, model, state_after(2, best_epoch=1))
    flip_byte_of_weights(tmp_path / LAST)
    state, file = read_state(tmp_path)
    assert (state.epoch, file.name) == (1, BEST)
    assert "last.weights.h5 is damaged (the checksum is wrong" in capsys.readouterr().out
    flip_byte_of_weights(tmp_path / BEST)
    with pytest.raises(InputError, match="the checksum is wrong, because bytes of the file have"):
        load_weights(keras.Model(model.inputs, model.outputs), tmp_path / BEST)
    with pytest.raises(InputError, match="no weights file can be read"):
        read_state(tmp_path)


def test_file_of_an_earlier_version_has_no_checksum(tmp_path):
    model = trained(1)
    save_checkpoint(tmp_path, model, state_after(1, best_epoch=1))
    with h5py.File(tmp_path / LAST, "a") as content:
        (name,) = content.attrs
        del content.attrs[name]
    assert read_state(tmp_path)[0].epoch == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": -3},
        {"epoch": 2.0},
        {"best_epoch": 9},
        {"phase": -1},
        {"finished": 1},
        {"history": []},
        {"history": [{"epoch": 1}, {"epoch": 3}]},
    ],
)
def test_impossible_state_is_damage(tmp_path, changes):
    save_checkpoint(tmp_path, trained(1), state_after(2, best_epoch=1))
    with h5py.File(tmp_path / LAST, "a") as content:
        state = json.loads(content["training_state"][()]) | changes
        del content["training_state"]
        content["training_state"] = json.dumps(state)
        for name in list(content.attrs):
            del content.attrs[name]
    with pytest.raises(InputError, match="the state of the training is impossible"):
        read_state(tmp_path)


def test_checkpoint_without_variables_of_the_optimizer_raises(tmp_path):
    model = trained(1)
    save_checkpoint(tmp_path, model, state_after(1, best_epoch=1))
    with h5py.File(tmp_path / LAST, "a") as content:
        del content["optimizer"]
    with pytest.raises(InputError, match=r"must contain \d+ variables of the opt.*Received: 0"):
        restore(small_model(2), tmp_path / LAST, with_optimizer=True)
