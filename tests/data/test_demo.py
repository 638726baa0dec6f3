import csv
import errno
import json

import numpy as np
import pytest
from PIL import Image

from lcc_tf.data import demo
from lcc_tf.data.demo import PARAMETERS_FILE, write_demo_archive
from lcc_tf.data.demo_scenes import render_scene
from lcc_tf.errors import InputError
from tfds_deepglobe.archive import open_archive, verify
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES


def files_of(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_archive_has_no_faults(tmp_path):
    directory = write_demo_archive(tmp_path / "demo", count=4, size=80, seed=7)
    archive = open_archive(directory)
    assert [pair.id for pair in archive.pairs] == [f"demo_{index:06d}" for index in range(4)]
    assert archive.classes == DEEPGLOBE_CLASSES
    report = verify(archive, {})
    assert not report.faults
    assert report.sizes == {(80, 80): 4}


def test_layout_and_file_names_equal_the_archive_of_kaggle(tmp_path):
    directory = write_demo_archive(tmp_path / "demo", count=3, size=64)
    assert sorted(files_of(directory)) == sorted(
        ["class_dict.csv", "demo.json", "metadata.csv"]
        + [f"train/demo_{index:06d}_{end}" for index in range(3) for end in ("mask.png", "sat.jpg")]
    )
    rows = list(csv.DictReader((directory / "metadata.csv").open()))
    assert rows[1] == {
        "image_id": "demo_000001",
        "split": "train",
        "sat_image_path": "train/demo_000001_sat.jpg",
        "mask_path": "train/demo_000001_mask.png",
    }
    assert len(rows) == 3
    assert (directory / "class_dict.csv").read_text().splitlines()[:2] == [
        "name,r,g,b",
        "urban_land,0,255,255",
    ]


def test_files_contain_the_scenes(tmp_path):
    directory = write_demo_archive(tmp_path / "demo", count=3, size=96, seed=2)
    for index in range(3):
        image, mask = render_scene(2, index, 96)
        stem = directory / "train" / f"demo_{index:06d}"
        with Image.open(f"{stem}_mask.png") as file:
            np.testing.assert_array_equal(np.asarray(file), DEEPGLOBE_CLASSES.colorize(mask))
        with Image.open(f"{stem}_sat.jpg") as file:
            assert np.abs(np.asarray(file).astype(int) - image).mean() < 8


def test_scenes_do_not_depend_on_count(tmp_path):
    few = files_of(write_demo_archive(tmp_path / "few", count=3, size=64) / "train")
    many = files_of(write_demo_archive(tmp_path / "many", count=6, size=64) / "train")
    assert few.items() < many.items()


def test_same_archive_is_reused(tmp_path):
    directory = write_demo_archive(tmp_path / "demo", count=3, size=64)
    written = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    assert write_demo_archive(directory, count=3, size=64) == directory
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == written


@pytest.mark.parametrize("change", [{"count": 4}, {"size": 65}, {"seed": 1}])
def test_archive_of_other_scenes_is_not_overwritten(tmp_path, change):
    arguments = {"count": 3, "size": 64, "seed": 0}
    directory = write_demo_archive(tmp_path / "demo", **arguments)
    before = files_of(directory)
    with pytest.raises(InputError, match=r"already exists.*Received: .*Expected: .*Delete"):
        write_demo_archive(directory, **(arguments | change))
    assert files_of(directory) == before


def test_archive_of_an_older_version_is_not_reused(tmp_path):
    directory = write_demo_archive(tmp_path / "demo", count=3, size=64)
    file = directory / PARAMETERS_FILE
    parameters = json.loads(file.read_text())
    file.write_text(json.dumps(parameters | {"version": parameters["version"] - 1}))
    with pytest.raises(InputError, match="already exists"):
        write_demo_archive(directory, count=3, size=64)


def test_folder_with_other_content_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"already exists.*no readable demo\.json"):
        write_demo_archive(tmp_path, count=3, size=64)
    assert files_of(tmp_path) == {"thesis.txt": b"mine"}


def test_interruption_deletes_all_files(tmp_path, monkeypatch):
    def interrupt_at_2(seed, index, size):
        if index == 2:
            raise KeyboardInterrupt
        return render_scene(seed, index, size)

    monkeypatch.setattr(demo, "render_scene", interrupt_at_2)
    with pytest.raises(KeyboardInterrupt):
        write_demo_archive(tmp_path / "demo", count=6, size=64)
    assert list(tmp_path.iterdir()) == []


def test_folder_does_not_exist_until_it_is_complete(tmp_path, monkeypatch):
    directory = tmp_path / "demo"

    def check_and_render(seed, index, size):
        assert not directory.exists()
        return render_scene(seed, index, size)

    monkeypatch.setattr(demo, "render_scene", check_and_render)
    write_demo_archive(directory, count=5, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_archive_that_another_process_wrote_is_used(tmp_path, monkeypatch):
    directory = tmp_path / "demo"

    def write_archive_and_render(seed, index, size):
        if index == 0:
            monkeypatch.undo()
            write_demo_archive(directory, count=3, size=64)
        return render_scene(seed, index, size)

    monkeypatch.setattr(demo, "render_scene", write_archive_and_render)
    assert write_demo_archive(directory, count=3, size=64) == directory
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@pytest.mark.parametrize("wrong", [{"count": 2}, {"size": 63}, {"seed": -1}])
def test_arguments_out_of_range_raise(tmp_path, wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(InputError, match=rf"`{name}`.*Received: {name}={value}"):
        write_demo_archive(tmp_path / "demo", **wrong)


def test_full_disk_raises_and_leaves_no_archive(tmp_path, monkeypatch):
    def full_disk(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full_disk)
    with pytest.raises(OSError, match="demo cannot be written.*disk is full"):
        write_demo_archive(tmp_path / "demo", count=3, size=64)
    assert list(tmp_path.iterdir()) == []
