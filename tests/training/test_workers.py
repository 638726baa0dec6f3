"""Training in two processes on this machine, which communicate like two machines."""

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from lcc_tf.training.checkpoints import read_state
from lcc_tf.training.history import HISTORY
from lcc_tf.training.train import train
from tests.run_comparison import arrays_of
from tests.training.ports import free_addresses

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@contextlib.contextmanager
def processes(module, *arguments, seeds=(None, None)):
    """Starts one process per seed, and kills the processes at the end."""
    workers = free_addresses(len(seeds))
    started = [
        subprocess.Popen(
            [sys.executable, "-m", module, "--workers", ",".join(workers)]
            + ["--worker-index", str(index), *map(str, arguments)]
            + ([] if seed is None else ["--seed", str(seed)]),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, seed in enumerate(seeds)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def ended(process):
    """Returns exit code, standard output and standard error of a process that ends."""
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


def wait_for_epoch(epoch, folder, *started):
    """Waits until the history of a run contains an epoch."""
    deadline = time.monotonic() + 300
    while not (
        (folder / HISTORY).exists()
        and f"\n{epoch}," in (folder / HISTORY).read_text(encoding="utf-8")
    ):
        for process in started:
            assert process.poll() is None, ended(process)
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture
def config(tiny_config):
    # The learning rate is small for the reason that tests/training/test_replicas.py explains.
    return dataclasses.replace(
        tiny_config,
        arch="unetpp",
        encoder="mobilenetv2",
        batch_size=6,
        epochs=200,
        learning_rate=1e-5,
        schedule="constant",
    )


def options_of(config):
    """Returns the options of train.py for a configuration."""
    data = config.data
    return [
        *("--arch", config.arch, "--encoder", config.encoder, "--encoder-weights", "none"),
        *("--data", "demo", "--demo-count", data.demo_count, "--demo-size", data.demo_size),
        *("--cache-dir", data.cache_dir, "--image-size", config.image_size),
        *("--batch-size", config.batch_size, "--crops-per-image", 1, "--schedule", "constant"),
        *("--learning-rate", config.learning_rate, "--ema-decay", config.ema_decay),
    ]


def test_lost_worker_ends_the_training_which_resumes_like_one_device(
    config, builder, small_networks, tmp_path, monkeypatch
):
    options = [*options_of(config), "--workdir", tmp_path / "two"]
    with processes("tests.training.small_training", *options, "--epochs", 200) as (chief, other):
        wait_for_epoch(1, tmp_path / "two", chief, other)
        other.kill()
        start = time.monotonic()
        code, _, errors = ended(chief)
        assert code == 4
        assert "Worker 1 (127.0.0.1:" in errors
        assert "with `--resume`" in errors
        assert "Traceback" not in errors
        assert time.monotonic() - start < 60  # docs/scaling.md states the time on an idle machine

    # A signal for one worker stops all workers after the same step.
    epochs = read_state(tmp_path / "two")[0].epoch + 1
    with processes(
        "tests.training.small_training", *options, "--epochs", 200, "--resume"
    ) as started:
        wait_for_epoch(epochs, tmp_path / "two", *started)
        started[1].terminate()
        for process in started:
            code, _, errors = ended(process)
            assert code == 128 + signal.SIGTERM, errors
            assert "--resume continues at the last checkpoint" in errors

    epochs = read_state(tmp_path / "two")[0].epoch + 1
    assert 3 <= epochs <= 200
    options += ["--epochs", epochs, "--resume"]
    with processes("tests.training.small_training", *options) as (chief, other):
        printed = []
        for process in (chief, other):
            code, output, errors = ended(process)
            assert code == 0, errors
            printed.append(output.splitlines())
        assert len(printed[0]) > 1
        assert printed[1] == printed[0][-1:]  # only the chief prints, and both have equal scores

    # Dropout is off in both trainings, because its random numbers differ between replicas.
    monkeypatch.setattr(keras.layers.Dropout, "call", lambda self, x, training=False: x)
    one = train(dataclasses.replace(config, epochs=epochs), tmp_path / "one").history
    two = read_state(tmp_path / "two")[0].history
    for row, expected in zip(two, one, strict=True):
        for name in row.keys() - {"seconds"}:
            # Counts of pixels are equal. Losses and means of the scores of images are rounded.
            rel = 0 if name.endswith("mean_iou") else 1e-5 if name.endswith("loss") else 1e-6
            assert row[name] == pytest.approx(expected[name], rel=rel, abs=0), name
    weights = []
    for folder in ("one", "two"):
        arrays = arrays_of(read_state(tmp_path / folder)[1])
        weights.append(
            np.concatenate([arrays[name].ravel() for name in arrays if name.startswith("weights/")])
        )
    # The gradients of the bias before a batch normalization are 0, except for rounding errors. A
    # step of AdamW still changes these weights by the learning rate, 1e-5, in any direction.
    differences = np.abs(weights[1] - weights[0])
    assert np.mean(differences > 1e-6) < 2e-3


def test_different_options_raise(config, builder, tmp_path):
    options = [*options_of(config), "--workdir", tmp_path / "run"]
    with processes("tests.training.small_training", *options, seeds=(0, 1)) as started:
        for process in started:
            code, _, errors = ended(process)
            assert code == 2
            assert "All workers must have the same `--seed`" in errors
    assert not (tmp_path / "run").exists()


def test_keras_still_needs_the_patches():
    # If this test fails, remove the patches that `adapt_to_workers` no longer needs.
    with processes("tests.training.keras_patches") as started:
        for process in started:
            code, output, errors = ended(process)
            assert code == 0, errors
            results = json.loads(output)
            assert "PerReplica" in results["without patches"]
            assert "Invalid reduction dimension" in results["without the patch of the logs"]
            assert results["with both patches"] == "trained"
