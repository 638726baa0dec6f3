import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tfds_deepglobe
from tfds_deepglobe.__main__ import main
from tfds_deepglobe.fake_archive import write_kaggle_folder, write_pair, zip_folder

ROOT = Path(tfds_deepglobe.__file__).parents[1]
INTERRUPTED = "interrupted; nothing was left half-written"


@pytest.fixture
def data(tmp_path):
    return write_kaggle_folder(tmp_path / "raw", count=8)


def run(*arguments):
    command = [sys.executable, "-m", "tfds_deepglobe", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_check_of_a_faultless_archive(data, capsys):
    assert main(["check", "--data", str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        f"{data}: 8 labelled images, 7 classes; 2 unlabelled images in valid/, test/ left out; "
        "no fault"
    )
    assert lines[1] == "image sizes: 8 of 32x24"
    assert lines[2].split() == ["0", "urban_land", "(0,", "255,", "255)", "14.58%", "of", "pixels"]
    assert len(lines) == 2 + 7


def test_check_of_a_faulty_archive(data, capsys):
    (data / "train" / "100_sat.jpg").write_bytes(b"x")
    (data / "train" / "101_mask.png").unlink()
    assert main(["check", "--data", str(data)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "train/101_sat.jpg: missing partner 101_mask.png",
        "train/100_sat.jpg: is not a JPEG file, whatever its name says",
        f"{data}: 2 faults",
    ]


def test_check_of_many_faults_lists_all(tmp_path, capsys):
    for i in range(50):
        write_pair(tmp_path, f"{i:02d}", size=(8, 8))
        (tmp_path / f"{i:02d}_sat.jpg").write_bytes(b"x")
    assert main(["check", "--data", str(tmp_path)]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 51


def test_archive_that_cannot_be_opened_is_a_fault_to_check(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"PK")
    for name in ("empty", "broken.zip"):
        assert main(["check", "--data", str(tmp_path / name)]) == 1
        assert capsys.readouterr().out.endswith(f"{tmp_path / name}: 1 fault\n")
        assert main(["prepare", "--data", str(tmp_path / name)]) == 2
        assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("command", ["check", "prepare"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "/nowhere"], "error: /nowhere does not exist. Download DeepGlobe from Kaggle"),
        (["--image-glob", "images/*"], "error: --image-glob must end in one of .jpg"),
        (["--mask-pattern", "1.png"], "error: --mask-pattern takes one `*`"),
        (["--map-color", "1,2=x"], "error: --map-color takes R,G,B=CLASS"),
        (["--map-color", "255,0,0=lava"], "error: no class is named 'lava'; the classes are urban"),
    ],
)
def test_input_that_cannot_be_used(data, capsys, command, options, message):
    assert main([command, "--data", str(data), *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith(message)


def test_files_of_other_names(data, tmp_path, capsys):
    for path in sorted((data / "train").iterdir()):
        path.rename(path.with_name(path.name.replace("_sat", "").replace("_mask", "_gt")))
    shutil.rmtree(data / "valid")
    shutil.rmtree(data / "test")
    names = ["--image-glob", "train/*.jpg", "--mask-pattern", "*_gt.png"]
    assert main(["check", "--data", str(data), *names]) == 0
    assert "8 labelled images, 7 classes; no fault" in capsys.readouterr().out
    cache = tmp_path / "cache"
    assert main(["prepare", "--data", str(data), "--cache-dir", str(cache), *names]) == 0
    assert "train: 6 images" in capsys.readouterr().out
    assert main(["check", "--data", str(data), "--image-glob", "imgs/*.jpg"]) == 1
    assert "0 images match imgs/*.jpg" in capsys.readouterr().out


def test_prepare_refuses_with_the_list_of_faults(data, tmp_path, capsys):
    (data / "train" / "101_mask.png").unlink()
    arguments = ["prepare", "--data", str(data), "--cache-dir", str(tmp_path / "cache")]
    assert main(arguments) == 2
    error = capsys.readouterr().err[: -len("\n")].split("error: ")[1]
    assert error.splitlines() == [
        f"{data} cannot be used, 1 fault(s):",
        "train/101_sat.jpg: missing partner 101_mask.png",
    ]


def test_file_system_errors_are_one_line(data, capsys, monkeypatch):
    def fail(*arguments, **options):
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(os, "walk", fail)
    assert main(["check", "--data", str(data)]) == 2
    assert (
        capsys.readouterr().err
        == "error: x: Permission denied. Give this user the right to it, or choose another place.\n"
    )


def test_prepare_with_every_option(data, tmp_path):
    for name, ids in (("train", "100\n101"), ("val", "102"), ("test", "103_sat.jpg")):
        (tmp_path / f"{name}.txt").write_text(ids)
    archive = zip_folder(data, tmp_path / "d.zip")
    options = ["--split-files", tmp_path, "--map-color", "255,0,0=unknown", "--num-shards", "2"]
    options += ["--cache-dir", tmp_path / "cache"]
    first = run("prepare", "--data", archive, *options)
    assert first.returncode == 0, first.stderr
    assert "train: 2 images, 2 files" in first.stdout
    assert "Dataset deepglobe downloaded" not in first.stdout  # which TFDS says
    progress = first.stderr.replace("\r", "\n").splitlines()
    labels = ("verifying: ", "writing train: ", "writing validation: ", "writing test: ")
    assert progress
    assert all(not line or line.startswith(labels) for line in progress)  # no noise of TensorFlow
    second = run("prepare", "--data", archive, *options)
    assert (second.returncode, second.stderr) == (0, "")
    assert "already prepared: " in second.stdout


def test_interruption(data, tmp_path):
    script = """if True:
        import os, runpy, signal, sys, time
        from tfds_deepglobe.deepglobe_dataset_builder import Builder
        interrupt, read_all = int(sys.argv.pop()), Builder._generate_examples
        def be_interrupted(self, config, split):
            if split == "test":
                os.kill(os.getpid(), interrupt)
                time.sleep(5)
            yield from read_all(self, config, split)
        Builder._generate_examples = be_interrupted
        # Where the tests run in the background of a script, SIGINT is ignored from the start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        runpy.run_module("tfds_deepglobe", run_name="__main__", alter_sys=True)
    """
    runs = {}
    for interrupt in (signal.SIGINT, signal.SIGTERM):
        cache = tmp_path / interrupt.name
        command = [sys.executable, "-c", script, "prepare", "--data", data, "--cache-dir", cache]
        command.append(str(int(interrupt)))
        runs[cache, 128 + interrupt] = subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
    for (cache, code), run in runs.items():
        _, error = run.communicate()
        assert (run.returncode, error.splitlines()[-1]) == (code, INTERRUPTED)
        assert list(cache.iterdir()) == []


def test_help_and_check_load_no_tensorflow(data):
    script = f"""if True:
        import sys
        from tfds_deepglobe.__main__ import main
        assert main(["check", "--data", {str(data)!r}]) == 0
        loaded = set(sys.modules) & {{"tensorflow", "tensorflow_datasets", "keras"}}
        assert not loaded, loaded
    """
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["prepare", "--help"]])
def test_help_shows_examples(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    assert "python -m tfds_deepglobe prepare --data archive.zip" in capsys.readouterr().out
