"""Runs scripts in separate processes, like users do. tests/cli uses the process of the tests."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lcc_tf.training.checkpoints import read_state

ROOT = Path(__file__).parents[2]
SMALL = (
    *("--data", "demo", "--demo-count", "12", "--demo-size", "64", "--cache-dir", "tfds"),
    *("--encoder", "resnet18_v1.5", "--encoder-weights", "none"),
    *(
        "--image-size",
        "64",
        "--batch-size",
        "4",
        "--crops-per-image",
        "1",
        "--workdir",
        "runs/trained",
    ),
)


def command(script, *arguments):
    return [sys.executable, str(ROOT / script), *map(str, arguments)]


def run(folder, script, *arguments):
    """Runs a script to its end and returns its output."""
    result = subprocess.run(
        command(script, *arguments), cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Returns a folder with a run whose training was terminated after the first epochs."""
    folder = tmp_path_factory.mktemp("project")
    log = folder / "log.txt"
    with (
        log.open("w") as output,
        subprocess.Popen(
            command("train.py", "--arch", "deeplabv3plus", *SMALL, "--epochs", 200),
            cwd=folder,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            deadline = time.monotonic() + 240
            while not (folder / "runs/trained/history.csv").exists():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            process.terminate()
            assert process.wait(timeout=60) == 128 + signal.SIGTERM
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
