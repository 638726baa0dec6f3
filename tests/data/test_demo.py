import csv

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_gradient_magnitude

from lcc_tf.data import demo
from lcc_tf.data.demo import render_scene, write_demo_archive
from lcc_tf.errors import InputError
from tfds_deepglobe.archive import open_archive, verify
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES

NUM_CLASSES = DEEPGLOBE_CLASSES.num_classes


@pytest.fixture(scope="module")
def scenes():
    """Images and masks of a part of the default set."""
    images, masks = zip(*(render_scene(0, index, 256) for index in range(80)), strict=True)
    return np.stack(images), np.stack(masks)


def files_of(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("size", [64, 101])
def test_scene_has_an_image_and_class_ids(size):
    image, mask = render_scene(0, 0, size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert mask.shape == (size, size)
    assert mask.dtype == np.uint8
    assert mask.max() < NUM_CLASSES


def test_scene_depends_on_its_arguments_only():
    first = render_scene(3, 5, 96)
    np.random.seed(1)
    others = render_scene(3, 6, 96), render_scene(4, 5, 96)
    again = render_scene(3, 5, 96)
    np.testing.assert_array_equal(again[0], first[0])
    np.testing.assert_array_equal(again[1], first[1])
    for image, _ in others:
        assert (image != first[0]).any()


def test_every_class_is_frequent(scenes):
    _, masks = scenes
    shares = np.bincount(masks.ravel(), minlength=NUM_CLASSES) / masks.size
    assert shares.min() > 0.04
    assert shares.max() < 0.30
    # So that a split of a dozen scenes has each class: the rarest is missing with 0.75^12 = 3 %.
    in_scene = np.stack([(masks == class_id).any(axis=(1, 2)) for class_id in range(NUM_CLASSES)])
    assert in_scene.mean(axis=1).min() > 0.25


def test_every_scene_has_several_classes_but_seldom_all(scenes):
    _, masks = scenes
    counts = np.array([len(np.unique(mask)) for mask in masks])
    assert counts.min() >= 2
    assert counts.mean() < 6


def test_color_is_not_enough_to_tell_the_class(scenes):
    images, masks = scenes
    bins = (images >> 4).astype(int) @ np.array([256, 16, 1])
    fit, held_out = slice(0, 60), slice(60, None)
    votes = np.bincount((bins[fit] * NUM_CLASSES + masks[fit]).ravel(), minlength=7 * 16**3)
    predicted = votes.reshape(-1, NUM_CLASSES).argmax(axis=1)[bins[held_out]]
    ious = []
    for class_id in range(NUM_CLASSES):
        is_class, is_predicted = masks[held_out] == class_id, predicted == class_id
        ious.append((is_class & is_predicted).sum() / (is_class | is_predicted).sum())
    assert np.mean(ious) < 0.42


def test_mask_borders_lie_on_image_edges(scenes):
    images, masks = scenes
    strength = {}
    for shift in (0, 4, -4):
        strengths = []
        for image, mask in zip(images[:30], masks[:30], strict=True):
            edges = gaussian_gradient_magnitude(image.mean(axis=-1), 1)
            borders = np.roll((mask[1:-1, 1:-1] != mask[:-2, 1:-1]), shift, axis=0)
            strengths.append(edges[1:-1, 1:-1][8:-8][borders[8:-8]].mean())
        strength[shift] = np.mean(strengths)
    assert strength[0] > 1.25 * max(strength[4], strength[-4])


def test_builder_reads_the_archive(tmp_path):
    directory = write_demo_archive(tmp_path / "demo", count=4, size=80, seed=7)
    archive = open_archive(directory)
    assert [pair.id for pair in archive.pairs] == [f"demo_{index:06d}" for index in range(4)]
    assert archive.classes == DEEPGLOBE_CLASSES
    report = verify(archive, {})
    assert not report.faults
    assert report.sizes == {(80, 80): 4}


def test_archive_has_kaggles_files(tmp_path):
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
    directory = write_demo_archive(tmp_path / "demo", count=3, size=128, seed=2)
    for index in range(3):
        image, mask = render_scene(2, index, 128)
        stem = directory / "train" / f"demo_{index:06d}"
        with Image.open(f"{stem}_mask.png") as file:
            np.testing.assert_array_equal(np.asarray(file), DEEPGLOBE_CLASSES.colorize(mask))
        with Image.open(f"{stem}_sat.jpg") as file:
            assert np.abs(np.asarray(file).astype(int) - image).mean() < 8


def test_scenes_do_not_depend_on_their_number(tmp_path):
    few = files_of(write_demo_archive(tmp_path / "few", count=3, size=64) / "train")
    many = files_of(write_demo_archive(tmp_path / "many", count=6, size=64) / "train")
    assert few.items() < many.items()


def test_same_archive_is_reused(tmp_path, monkeypatch):
    directory = write_demo_archive(tmp_path / "demo", count=3, size=64)
    monkeypatch.setattr(demo, "render_scene", None)  # rendering anything would fail
    assert write_demo_archive(directory, count=3, size=64) == directory


@pytest.mark.parametrize("change", [{"count": 4}, {"size": 65}, {"seed": 1}])
def test_archive_of_other_scenes_is_not_overwritten(tmp_path, change):
    arguments = {"count": 3, "size": 64, "seed": 0}
    directory = write_demo_archive(tmp_path / "demo", **arguments)
    before = files_of(directory)
    with pytest.raises(InputError, match=r"exists already.*Received: .*Expected: .*Delete"):
        write_demo_archive(directory, **(arguments | change))
    assert files_of(directory) == before


def test_archive_of_an_older_version_is_not_reused(tmp_path, monkeypatch):
    directory = write_demo_archive(tmp_path / "demo", count=3, size=64)
    monkeypatch.setattr(demo, "VERSION", demo.VERSION + 1)
    with pytest.raises(InputError, match="exists already"):
        write_demo_archive(directory, count=3, size=64)


def test_other_folder_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"exists already.*no readable demo\.json"):
        write_demo_archive(tmp_path, count=3, size=64)
    assert files_of(tmp_path) == {"thesis.txt": b"mine"}


def test_interrupted_writing_leaves_no_files(tmp_path, monkeypatch):
    def interrupt_at_2(seed, index, size):
        if index == 2:
            raise KeyboardInterrupt
        return render_scene(seed, index, size)

    monkeypatch.setattr(demo, "render_scene", interrupt_at_2)
    with pytest.raises(KeyboardInterrupt):
        write_demo_archive(tmp_path / "demo", count=6, size=64)
    assert list(tmp_path.iterdir()) == []


def test_folder_has_its_name_only_when_complete(tmp_path, monkeypatch):
    directory = tmp_path / "demo"

    def look_and_render(seed, index, size):
        assert not directory.exists()
        return render_scene(seed, index, size)

    monkeypatch.setattr(demo, "render_scene", look_and_render)
    write_demo_archive(directory, count=5, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_two_writers_share_one_archive(tmp_path, monkeypatch):
    directory = tmp_path / "demo"

    def overtaken(seed, index, size):
        if index == 0:
            monkeypatch.undo()
            write_demo_archive(directory, count=3, size=64)
        return render_scene(seed, index, size)

    monkeypatch.setattr(demo, "render_scene", overtaken)
    assert write_demo_archive(directory, count=3, size=64) == directory
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@pytest.mark.parametrize("wrong", [{"count": 2}, {"size": 63}, {"seed": -1}])
def test_arguments_out_of_range_are_refused(tmp_path, wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(InputError, match=rf"`{name}`.*Received: {name}={value}"):
        write_demo_archive(tmp_path / "demo", **wrong)
