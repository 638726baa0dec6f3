import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import tfds_deepglobe
from tfds_deepglobe.__main__ import command_line, main
from tfds_deepglobe.archive import Archive
from tfds_deepglobe.classes import ClassTable
from tfds_deepglobe.fake_archive import write_kaggle_folder, write_pair, zip_folder

ROOT = Path(tfds_deepglobe.__file__).parents[1]


@pytest.fixture
def data(tmp_path):
    return write_kaggle_folder(tmp_path / "raw", count=8)


def test_check_of_an_archive_without_faults(data, capsys):
    assert main(["check", "--data", str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        f"{data}: 8 images with masks, 7 classes; skipped 2 images without masks in valid/, test/; "
        "no faults"
    )
    assert lines[1] == "images per size (pixels): 8 with 32x24"
    assert lines[2].split() == ["0", "urban_land", "(0,", "255,", "255)", "14.58%", "of", "pixels"]
    assert len(lines) == 2 + 7 + 1


def test_check_of_an_archive_with_faults(data, capsys):
    (data / "train" / "100_sat.jpg").write_bytes(b"x")
    (data / "train" / "101_mask.png").unlink()
    assert main(["check", "--data", str(data)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "train/101_sat.jpg: missing mask 101_mask.png",
        "train/100_sat.jpg: is not a JPEG file; content and extension do not match",
        f"{data}: 2 faults",
    ]


def test_check_lists_all_faults(tmp_path, capsys):
    for i in range(51):
        write_pair(tmp_path, f"{i:02d}", size=(8, 8))
        if i < 50:
            (tmp_path / f"{i:02d}_sat.jpg").write_bytes(b"x")
    assert main(["check", "--data", str(tmp_path)]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 1 + 51


def test_symbolic_links_and_long_names_print_short_lines(data, capsys):
    (data / "train" / "loop").symlink_to(data)
    (data / "copy").symlink_to(data / "train")  # every image exists twice
    (data / "train" / f"{'x' * 200}_sat.jpg").write_bytes(b"x")
    assert main(["check", "--data", str(data)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(
        "duplicate id 100: copy/100_sat.jpg, train/100_sat.jpg; ren" in line for line in lines
    )
    assert max(map(len, lines)) < 400
    assert len(lines) < 30


def test_file_name_that_is_not_text_is_a_fault(data):
    for end in (b"sat.jpg", b"mask.png"):
        path = data / "train" / os.fsdecode(b"100_" + end)
        path.rename(path.with_name(os.fsdecode(b"\xff_" + end)))
    command = [sys.executable, "-m", "tfds_deepglobe", "check", "--data", str(data)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert done.returncode == 1
    assert rb"train/\udcff_sat.jpg: the name is not text in UTF-8; rename the file" in done.stdout


def test_class_table_and_letter_case_of_a_data_set_with_user_defined_classes(tmp_path, capsys):
    classes = ClassTable(("vineyard", "other"), ((255, 255, 0), (0, 255, 255)))
    for i in range(4):
        write_pair(tmp_path / "x" / "y" / "train", str(i), classes=classes)
    folder = tmp_path / "x" / "y" / "train"
    (folder / "0_sat.jpg").rename(folder / "0_sat.JPG")
    (folder / "1_sat.jpg").rename(folder / "1_SAT.JPG")
    (folder / "1_mask.png").rename(folder / "1_MASK.PNG")
    (folder / "extra.tif").touch()
    table = tmp_path / "x" / "y" / "Class_Dict.CSV"
    table.write_text("name;r;g;b\rvineyard;255;255;0\rother;0;255;255\r")
    assert main(["check", "--data", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path}: 4 images with masks, 2 classes; no faults"
    assert lines[1].startswith("skipped 1 image file that matches neither *_sat.jpg nor")
    assert lines[1].endswith(": x/y/train/extra.tif")
    assert any(line.split()[:2] == ["0", "vineyard"] for line in lines)


def test_check_reports_a_fault_if_the_archive_cannot_be_opened(tmp_path, capsys):
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
        (["--image-glob", "images/*"], "error: `--image-glob` must end in one of .jpg"),
        (["--mask-pattern", "1.png"], "error: `--mask-pattern` needs exactly one *"),
        (["--map-color", "1,2=x"], "error: `--map-color` needs R,G,B=CLASS"),
        (["--map-color", "255,0,0=lava"], "error: 'lava' must be the name of one class"),
    ],
)
def test_invalid_options_have_exit_code_2(data, capsys, command, options, message):
    assert main([command, "--data", str(data), *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith(message)


@pytest.mark.parametrize(
    "options", [("--group-by", "(["), ("--group-by", "9m"), ("--split", "folders")]
)
def test_splits_that_are_not_possible_have_exit_code_2(data, capsys, options):
    assert main(["check", "--data", str(data), *options]) == 2
    output, errors = capsys.readouterr()
    assert "no faults" in output
    assert f"`{options[0]}" in errors


def test_messages_contain_options_instead_of_python_arguments(data, tmp_path, capsys):
    def error_of(*arguments):
        arguments = ["--cache-dir", str(tmp_path / "cache"), *arguments]
        assert main(["prepare", "--data", str(data), *arguments]) == 2
        return capsys.readouterr().err

    assert "`--num-shards` must be 1 or more" in error_of("--num-shards", "0")
    assert '`--image-glob "images/*.tif"`' in error_of("--image-glob", "train/*.tif")
    (tmp_path / "file").write_text("")
    assert "another `--cache-dir`" in error_of("--cache-dir", str(tmp_path / "file" / "cache"))
    write_pair(tmp_path / "one", "1")
    assert "with `--split-files`" in error_of("--data", str(tmp_path / "one"))
    text = (data / "class_dict.csv").read_text().replace("water,0,0,255", "water,255,0,0")
    (data / "class_dict.csv").write_text(text)
    assert main(["check", "--data", str(data)]) == 1
    assert "use `--map-color 0,0,255=CLASS`" in capsys.readouterr().out


def test_user_defined_file_names(data, tmp_path, capsys):
    for path in sorted((data / "train").iterdir()):
        path.rename(path.with_name(path.name.replace("_sat", "").replace("_mask", "_gt")))
    shutil.rmtree(data / "valid")
    shutil.rmtree(data / "test")
    names = ["--image-glob", "train/*.jpg", "--mask-pattern", "*_gt.png"]
    assert main(["check", "--data", str(data), *names]) == 0
    assert "8 images with masks, 7 classes; no faults" in capsys.readouterr().out
    cache = tmp_path / "cache"
    assert main(["prepare", "--data", str(data), "--cache-dir", str(cache), *names]) == 0
    assert "train: 6 images" in capsys.readouterr().out
    assert main(["check", "--data", str(data), "--image-glob", "imgs/*.jpg"]) == 1
    assert "0 images match imgs/*.jpg" in capsys.readouterr().out


def test_orientation_tags_of_images_and_masks_are_reported(data, tmp_path, capsys):
    exif = Image.Exif()
    exif[274] = 8
    for name in ("100_sat.jpg", "100_mask.png"):
        with Image.open(data / "train" / name) as image:
            image.load()
        image.save(data / "train" / name, exif=exif)
    line = "1 of 8 images have orientation tags, for example train/100_sat.jpg; their masks have"
    assert main(["check", "--data", str(data)]) == 0
    assert line in capsys.readouterr().out
    assert main(["prepare", "--data", str(data), "--cache-dir", str(tmp_path / "cache")]) == 0
    assert line in capsys.readouterr().out


def test_prepare_lists_faults(data, tmp_path, capsys):
    (data / "train" / "101_mask.png").unlink()
    arguments = ["prepare", "--data", str(data), "--cache-dir", str(tmp_path / "cache")]
    assert main(arguments) == 2
    error = capsys.readouterr().err[: -len("\n")].split("error: ")[1]
    assert error.splitlines() == [
        f"{data} cannot be used. It has 1 fault:",
        "train/101_sat.jpg: missing mask 101_mask.png",
    ]


def test_file_system_errors_are_one_line(data, capsys, monkeypatch):
    def fail(*arguments, **options):
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(os, "walk", fail)
    assert main(["check", "--data", str(data)]) == 2
    assert (
        capsys.readouterr().err
        == "error: x: Permission denied. Change the permissions, or choose another path.\n"
    )


def write_tiles(folder, numbers):
    """Writes pairs with equal names in several folders."""
    for number in numbers:
        tile = folder / f"Tile {number}"
        write_pair(tile, str(number))
        for name, new in (("sat.jpg", "images/0.jpg"), ("mask.png", "masks/0.png")):
            (tile / new).parent.mkdir()
            (tile / f"{number}_{name}").rename(tile / new)
    return folder


def test_usual_layout_is_recognized_and_split_by_folder(tmp_path, capsys):
    data = write_tiles(tmp_path / "raw", range(5))
    assert main(["check", "--data", str(data)]) == 0
    assert "images: images/*.jpg; masks: masks/*.png" in capsys.readouterr().out.splitlines()
    cache = ["--cache-dir", str(tmp_path / "cache")]
    assert main(["prepare", "--data", str(data), *cache]) == 0
    lines = capsys.readouterr().out.splitlines()
    (start,) = (i for i, line in enumerate(lines) if line.startswith("random split of 5 groups"))
    assert sorted(
        ", ".join(line.split(": ")[1] for line in lines[start + 1 : start + 4]).split(", ")
    ) == [f"Tile {tile}" for tile in range(5)]


def test_same_image_in_two_folders_is_a_fault(tmp_path, capsys):
    data = write_tiles(tmp_path / "raw", range(3))
    shutil.copytree(data / "Tile 1", data / "Tile 7")
    assert main(["check", "--data", str(data)]) == 1
    assert capsys.readouterr().out.splitlines()[-2] == (
        "Tile 1/images/0.jpg: the same image is also Tile 7/images/0.jpg; delete the copies"
    )


def test_prepare_with_every_option(data, tmp_path, capsys):
    for name, ids in (("train", "100\n101"), ("val", "102"), ("test", "103_sat.jpg")):
        (tmp_path / f"{name}.txt").write_text(ids)
    archive = zip_folder(data, tmp_path / "d.zip")
    arguments = ["prepare", "--data", archive, "--split-files", tmp_path, "--num-shards", "2"]
    arguments += ["--map-color", "255,0,0=unknown", "--cache-dir", tmp_path / "cache"]
    arguments = list(map(str, arguments))
    command = [sys.executable, "-m", "tfds_deepglobe", *arguments]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert "train: 2 images, 2 files" in first.stdout
    assert "Dataset deepglobe downloaded" not in first.stdout  # a message that TFDS prints
    progress = first.stderr.replace("\r", "\n").splitlines()
    labels = ("writing train: ", "writing validation: ", "writing test: ")
    assert progress
    # TensorFlow must not print any messages.
    assert all(not line or line.startswith(labels) for line in progress)
    assert main(arguments) == 0
    assert "already prepared: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "handler"),
    # Processes in the background ignore SIGINT. Therefore, set its handler.
    [(signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)],
)
def test_interruption_deletes_incomplete_files(
    data, tmp_path, monkeypatch, capsys, number, handler
):
    read, calls = Archive.read, []

    def interrupt_at_the_last(*arguments):
        calls.append(arguments)
        if len(calls) == 8:
            os.kill(os.getpid(), number)
        return read(*arguments)

    cache = tmp_path / "cache"
    command = ["lcc-data", "prepare", "--data", str(data), "--cache-dir", str(cache)]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(Archive, "read", interrupt_at_the_last)
    earlier = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(number, handler)
    try:
        with pytest.raises(SystemExit) as end:
            command_line()
    finally:
        for n, action in earlier.items():
            signal.signal(n, action)
    assert end.value.code == 128 + number
    message = "interrupted; the incomplete data set was deleted"
    assert capsys.readouterr().err.splitlines()[-1] == message
    assert list(cache.iterdir()) == []


def test_check_does_not_import_tensorflow(data):
    script = f"""if True:
        import sys
        from tfds_deepglobe.__main__ import main
        assert main(["check", "--data", {str(data)!r}]) == 0
        loaded = set(sys.modules) & {{"tensorflow", "tensorflow_datasets", "keras"}}
        assert not loaded, loaded
    """
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["prepare", "--help"]])
@pytest.mark.parametrize(
    ("started", "name"),
    [
        ("/usr/bin/lcc-data", "lcc-data"),
        ("/x/tfds_deepglobe/__main__.py", "python -m tfds_deepglobe"),
    ],
)
def test_help_shows_the_command_that_the_user_runs(arguments, started, name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [started])
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: {name} ")
    assert f"\n  {name} prepare --data archive.zip\n" in out
    assert ("lcc-data" in out) != ("python -m tfds_deepglobe" in out)
