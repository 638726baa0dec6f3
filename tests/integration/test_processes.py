"""Runs scripts and trainings in separate processes, like users do.

tests/cli uses the process of the tests.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from lcc_tf.training.checkpoints import read_state
from tests.integration.killed_training import small_config, train_with_kills
from tests.integration.processes import PROCESSES, ROOT, run_script
from tests.run_comparison import assert_equal_runs

SMALL = (
    *("--data", "demo", "--demo-count", "12", "--demo-size", "64", "--cache-dir", "tfds"),
    *("--encoder-weights", "none", "--image-size", "64", "--batch-size", "4"),
    *("--crops-per-image", "1", "--workdir", "runs/trained"),
)


def start(folder, script, *arguments):
    """Starts a script and returns its process; the script writes to `log.txt`."""
    arguments = [script, [str(argument) for argument in arguments], folder, folder / "log.txt"]
    process = PROCESSES.Process(target=run_script, args=arguments)
    process.start()
    return process


def run(folder, script, *arguments):
    """Runs a script to its end and returns its output."""
    process = start(folder, script, *arguments)
    process.join()
    output = (folder / "log.txt").read_text()
    assert process.exitcode == 0, output
    return output


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Returns a folder with a run whose training was terminated after the first epochs."""
    folder = tmp_path_factory.mktemp("project")
    log = folder / "log.txt"
    process = start(folder, "train.py", "--arch", "deeplabv3plus", *SMALL, "--epochs", 200)
    try:
        deadline = time.monotonic() + 240
        while not (folder / "runs/trained/history.csv").exists():
            assert process.is_alive(), log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        process.join(timeout=60)
        assert process.exitcode == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert "terminated; --resume continues at the last checkpoint" in log.read_text()
    return folder


def epochs(project):
    rows = (project / "runs/trained/history.csv").read_text().splitlines()[1:]
    return [int(row.split(",")[0]) for row in rows]


def test_terminated_training_is_resumed_and_evaluated(project):
    done = len(epochs(project))
    assert 0 < done < 200
    state, _ = read_state(project / "runs/trained")
    output = run(project, "train.py", "--resume", "--workdir", "runs/trained", "--epochs", done + 1)
    assert f"resuming the run in runs/trained, {state.position}" in output
    assert "best val_mean_iou" in output
    assert epochs(project) == list(range(1, done + 2))

    output = run(project, "evaluate.py", "--ensemble", "--color-baseline")
    metrics = json.loads((project / "results/metrics.json").read_text())
    assert list(metrics["members"]) == ["trained"]
    for scores in (metrics["ensemble"], metrics["color_baseline"]):
        assert 0 <= scores["mean_iou"] <= 1
    assert f"{100 * metrics['ensemble']['mean_iou']:.2f}" in output
    assert list((project / "results/panels").glob("*.png"))


@pytest.mark.slow
def test_script_trains_in_a_new_interpreter(tmp_path):
    options = ("--encoder", "mobilenetv2", *SMALL, "--image-size", "32", "--epochs", "1")
    command = [sys.executable, ROOT / "train.py", "--arch", "deeplabv3plus", *options]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "best val_mean_iou" in result.stdout


@pytest.mark.parametrize("script", sorted(path.name for path in ROOT.glob("*.py")))
def test_script_starts_in_any_folder(script, tmp_path):
    result = subprocess.run(
        [sys.executable, ROOT / script, "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert f"usage: {script}" in result.stdout


def test_killed_training_equals_uninterrupted_training(tmp_path):
    """Short version of `tests/integration/killed_training.py`."""
    config = dataclasses.replace(small_config(tmp_path / "tfds"), epochs=2, crops_per_image=1)
    train_with_kills(config, tmp_path / "uninterrupted", kills=0, seed=0)
    (kill,) = train_with_kills(config, tmp_path / "killed", kills=1, seed=15)
    # The training resumes from the newest complete checkpoint. The kill can come after the file is
    # complete and before the test is told.
    assert kill.lost_steps <= kill.unsaved_steps
    assert_equal_runs(tmp_path / "killed", tmp_path / "uninterrupted")

    # The comparison finds a resumed training whose batches have another seed.
    train_with_kills(config, tmp_path / "other", kills=1, seed=2, other_seed=True)
    with pytest.raises(AssertionError):
        assert_equal_runs(tmp_path / "other", tmp_path / "uninterrupted")
