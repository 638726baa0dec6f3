"""Tests of the measurement of batch sizes, with simulated memory."""

import dataclasses
import json

import keras
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.models import ARCHITECTURES
from lcc_tf.training import batch_size
from lcc_tf.training.label_rules import LabelRules
from lcc_tf.training.train import train
from tests.untrained_runs import small_unet

FIT = keras.Model.fit

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture
def memory_for(monkeypatch):
    """Returns a function that limits the number of images per step. Larger batches raise errors."""

    def limit(images):
        def fit(model, batches, **options):
            size = len(next(iter(batches))[0])
            if size > images:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM")
            return FIT(model, batches, **options)

        monkeypatch.setattr(keras.Model, "fit", fit)

    return limit


@pytest.fixture
def config(tiny_config, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "unetpp", small_unet)
    return dataclasses.replace(
        tiny_config, arch="unetpp", image_size=32, batch_size=None, crops_per_image=1, epochs=1
    )


def stored_batch_size(folder):
    return json.loads((folder / "config.json").read_text())["config"]["batch_size"]


def test_largest_batch_size_that_fits_is_stored_and_resumed(config, tmp_path, memory_for, capsys):
    memory_for(3)
    measured = train(config, tmp_path / "measured")
    assert stored_batch_size(tmp_path / "measured") == 2
    assert "4 images per step: too little memory" in capsys.readouterr().out
    # The measurement does not change the training.
    given = train(dataclasses.replace(config, batch_size=2), tmp_path / "given")
    assert measured.history[0]["loss"] == given.history[0]["loss"]
    # The resumed run does not measure again.
    train(config, tmp_path / "measured", resume=True)
    assert stored_batch_size(tmp_path / "measured") == 2
    assert "images per step:" not in capsys.readouterr().out


@pytest.mark.parametrize(("crops_per_image", "size"), [(1, 2), (None, 8)])
def test_epoch_has_enough_steps_for_an_update(crops_per_image, size, config, tmp_path, memory_for):
    """The training split has 13 images. With one crop each, 4 images per step make 3 steps."""
    memory_for(64)
    config = dataclasses.replace(config, accumulate=4, crops_per_image=crops_per_image)
    assert train(config, tmp_path / "run").epoch == config.epochs
    assert stored_batch_size(tmp_path / "run") == size


def test_cpu_stops_before_the_memory_is_full(config, monkeypatch):
    # The second image needs 100 bytes, so that two more images need about 200 bytes.
    used = iter([1000, 1050, 1150])
    monkeypatch.setattr(batch_size, "_used_memory", lambda: next(used))
    monkeypatch.setattr(batch_size, "resident_memory", lambda: 1100)
    monkeypatch.setattr(batch_size, "available_memory", lambda: 1349 / 0.8 - 1100)
    monkeypatch.setattr(batch_size, "fits", lambda *arguments: True)
    strategy = tf.distribute.get_strategy()
    assert batch_size.largest_batch_size(config, LabelRules(7), strategy, None, 13) == 2


def test_out_of_memory_error_names_a_batch_size_that_fits(config, tmp_path, memory_for):
    memory_for(6)
    with pytest.raises(InputError, match="batch_size=13.*Use `batch_size=4`, which was measured"):
        train(dataclasses.replace(config, batch_size=13), tmp_path / "run")
