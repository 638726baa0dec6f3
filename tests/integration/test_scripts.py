"""The scripts as a user runs them, each in a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = (
    *("--data", "demo", "--demo-count", "12", "--demo-size", "64", "--cache-dir", "tfds"),
    *("--encoder", "resnet18_v1.5", "--encoder-weights", "none"),
    *("--image-size", "64", "--batch-size", "4"),
)


def command(script, *arguments):
    return [sys.executable, str(ROOT / script), *map(str, arguments)]


def run(folder, script, *arguments):
    return subprocess.run(
        command(script, *arguments), cwd=folder, capture_output=True, text=True, check=False
    )


def assert_refused(result, *texts):
    """One line of error, exit code 2, no traceback."""
    assert result.returncode == 2, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for text in texts:
        assert text in errors[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained run, and a copy of it as a second member."""
    folder = tmp_path_factory.mktemp("project")
    result = run(folder, "train.py", "--arch", "deeplabv3plus", *SMALL, "--epochs", 1)
    assert result.returncode == 0, result.stderr
    assert "best val_mean_iou" in result.stdout
    shutil.copytree(folder / "runs" / "deeplabv3plus", folder / "runs" / "other")
    return folder


def test_train_evaluate_export(folder):
    scored = run(folder, "evaluate.py", "--ensemble", "--color-baseline")
    assert scored.returncode == 0, scored.stderr
    metrics = json.loads((folder / "results" / "metrics.json").read_text())
    assert list(metrics["members"]) == ["deeplabv3plus", "other"]
    for scores in (metrics["ensemble"], metrics["color_baseline"]):
        assert 0 <= scores["mean_iou"] <= 1
    assert f"{100 * metrics['ensemble']['mean_iou']:.2f}" in scored.stdout
    assert list((folder / "results" / "panels").glob("*.png"))

    exported = run(folder, "export.py", "--format", "savedmodel")
    assert exported.returncode == 0, exported.stderr
    assert (folder / "exported" / "savedmodel" / "saved_model.pb").is_file()

    assert_refused(run(folder, "evaluate.py", "--ensemble"), "results exists", "--overwrite")
    assert_refused(run(folder, "export.py"), "savedmodel exists", "--overwrite")
    assert_refused(run(folder, "train.py", "--arch", "deeplabv3plus"), "not empty", "--resume")


def test_predict(folder):
    scenes = folder / "scenes"
    scenes.mkdir()
    for image in sorted((folder / "tfds").glob("demo_*/**/*_sat.jpg"))[:2]:
        shutil.copy(image, scenes)
    (scenes / "broken.tif").write_text("no image")
    options = ("--input", "scenes", "--extras", "overlay", "--tta", "flip")
    mapped = run(folder, "predict.py", *options)
    assert mapped.returncode == 1, mapped.stderr
    assert "2 of 3 images mapped" in mapped.stdout
    assert mapped.stderr.count("error: ") == 1
    assert "broken.tif cannot be read" in mapped.stderr
    assert len(list((folder / "maps").glob("*_classes.png"))) == 2
    assert_refused(run(folder, "predict.py", *options), "already exists", "--resume")
    (scenes / "broken.tif").unlink()
    shutil.copy(image, scenes / "third.jpg")
    rest = run(folder, "predict.py", *options, "--resume")
    assert rest.returncode == 0, rest.stderr
    assert "1 of 1 images mapped to maps; 2 were already mapped" in rest.stdout
    again = run(folder, "predict.py", *options, "--resume")
    assert again.returncode == 0, again.stderr
    assert "all 3 images are already mapped" in again.stdout


def test_killed_training_goes_on(folder):
    arguments = (*SMALL, "--epochs", 200, "--workdir", "killed")
    with subprocess.Popen(
        command("train.py", "--arch", "deeplabv3plus", *arguments),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        last = folder / "killed" / "last.weights.h5"
        deadline = time.monotonic() + 240
        while not last.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        os.kill(process.pid, signal.SIGKILL)
    done = len((folder / "killed" / "history.csv").read_text().splitlines()) - 1
    assert 0 < done < 200
    result = run(folder, "train.py", "--resume", "--workdir", "killed", "--epochs", done + 1)
    assert result.returncode == 0, result.stderr
    history = (folder / "killed" / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in history[1:]] == [str(i + 1) for i in range(done + 1)]


@pytest.mark.parametrize(
    ("script", "arguments", "texts"),
    [
        ("train.py", (), ("data/deepglobe", "kaggle.com", "--data demo")),
        ("train.py", ("--arch", "unet3"), ("'unet3'", "unetpp")),
        ("train.py", (*SMALL, "--image-size", "100"), ("image_size=100", "Use 96")),
        (
            "train.py",
            (*SMALL, "--encoder-weights", "imagenet"),
            ("resnet18_v1.5", "weights none`", "path as `--enc"),
        ),
        ("train.py", ("--data", "demo", "--demo-count", "2"), ("`--demo-count` must be 3",)),
        ("train.py", (*SMALL, "--batch-size", "99"), ("fewer than a batch", "batch_size=99")),
        ("evaluate.py", ("--ensemble",), ("no trained run in runs", "train.py")),
        ("evaluate.py", ("--runs", "nowhere"), ("nowhere is not a run folder",)),
        ("predict.py", ("--input", "nowhere.tif"), ("'nowhere.tif', which matches no image",)),
        ("export.py", ("--runs", "nowhere"), ("nowhere is not a run folder",)),
    ],
)
def test_what_cannot_be_used_is_one_line(script, arguments, texts, tmp_path, monkeypatch):
    # An address that refuses at once stands in for a missing network.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert_refused(run(tmp_path, script, *arguments), *texts)
    left = {path.name for path in tmp_path.iterdir()} - {"keras", "tfds"}
    assert not left
