import contextlib
import fcntl
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import tfds_deepglobe
from tfds_deepglobe import prepare as prepare_module
from tfds_deepglobe.archive import Archive, open_archive
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES
from tfds_deepglobe.deepglobe_dataset_builder import CLASS_PIXELS
from tfds_deepglobe.errors import InputError, NotPreparedError
from tfds_deepglobe.fake_archive import write_kaggle_folder, write_pair, zip_folder
from tfds_deepglobe.prepare import load, prepare
from tfds_deepglobe.source_files import RECORD
from tfds_deepglobe.sources import Folder

# Fingerprint in the first release, of the archive of the fixture `data` with files of 100 bytes.
KNOWN_FINGERPRINT = "6a0a81bef56ad4f49ad0861f5846425895e9f2464373881bb700c8a16524f6b5"


@pytest.fixture
def data(tmp_path):
    return write_kaggle_folder(tmp_path / "raw", count=8)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Returns an archive and its prepared data set. Tests must not change them."""
    root = tmp_path_factory.mktemp("prepared")
    data = write_kaggle_folder(root / "raw", count=8)
    return data, prepare(data, root / "cache")


def fingerprint(builder):
    return builder.info.metadata["fingerprint"]


def read(builder, *splits, **options):
    """Returns the examples of a split, by default of all splits. Key: id. Value: example."""
    return {
        example["id"].decode(): example
        for split in splits or builder.info.splits
        for example in tfds.as_numpy(builder.as_dataset(split=split, **options))
    }


def shards(builder, split):
    return sorted(Path(builder.data_dir).glob(f"deepglobe-{split}.tfrecord-*"))


def write_split_files(folder, **lists):
    for split, text in lists.items():
        (folder / f"{split}.txt".replace("validation", "val")).write_text(text)


def test_tfrecords_contain_the_files_of_the_archive(prepared):
    data, builder = prepared
    archive = open_archive(data)
    pairs = {pair.id: pair for pair in archive.pairs}
    for split, count in (("train", 6), ("validation", 1), ("test", 1)):
        assert len(read(builder, split)) == builder.info.splits[split].num_examples == count
    examples = read(builder, decoders={"image": tfds.decode.SkipDecoding()})
    assert set(examples) == set(pairs)
    for image_id, example in examples.items():
        assert example["image"] == (data / pairs[image_id].image.name).read_bytes()
        mask = example["segmentation_mask"]
        assert mask.shape == (24, 32, 1)
        np.testing.assert_array_equal(mask[..., 0], archive.read(pairs[image_id], {}).class_ids)


def test_numbers_of_pixels_per_class_are_saved_for_training_images(prepared):
    _, builder = prepared
    stored = np.load(Path(builder.data_dir) / CLASS_PIXELS)
    assert stored.dtype == np.int64
    counted = [
        np.bincount(example["segmentation_mask"].ravel(), minlength=8).tolist()
        for example in read(builder, "train").values()
    ]
    assert sorted(stored.tolist()) == sorted(counted)


def test_each_file_is_read_only_once(data, cache, monkeypatch):
    read_bytes, names = Path.read_bytes, []

    def spy(path):
        names.append(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", spy)
    prepare(data, cache)
    images = [name for name in names if name.endswith((".jpg", ".png"))]
    assert len(images) == len(set(images)) == 16


def test_folder_and_zip_are_the_same_data_set_and_prepared_once(data, cache, tmp_path, capsys):
    builder = prepare(data, cache)
    written = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    assert "train: 6 images" in capsys.readouterr().out
    for other in (data, zip_folder(data, tmp_path / "d.zip", top="archive/")):
        assert fingerprint(prepare(other, cache)) == fingerprint(builder)
        assert "already prepared" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == written


def test_prepared_data_set_is_opened_without_reading_files(data, cache, monkeypatch):
    before = fingerprint(prepare(data, cache))
    monkeypatch.setattr(prepare_module, "import_tensorflow", None)  # must not be called
    monkeypatch.setattr(Folder, "checksum", None)
    assert fingerprint(prepare(data, cache)) == before


def correct_mask(data, image_id="100"):
    """Changes the labels of an uncompressed mask. The size of the file does not change."""
    path = data / "train" / f"{image_id}_mask.bmp"
    size = path.stat().st_size
    Image.open(path).transpose(Image.Transpose.ROTATE_180).save(path)
    assert path.stat().st_size == size


@pytest.fixture
def bmp_masks(data):
    """Returns options for an archive with uncompressed masks."""
    for path in sorted((data / "train").glob("*_mask.png")):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    return {"mask_pattern": "*_mask.bmp"}


@pytest.mark.parametrize("source", ["folder", "zip"])
def test_file_that_changed_with_the_same_size_raises(data, cache, tmp_path, bmp_masks, source):
    def archive():
        return data if source == "folder" else zip_folder(data, tmp_path / "d.zip")

    old = prepare(archive(), cache, **bmp_masks)
    labels = read(old)["100"]["segmentation_mask"]
    written = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    correct_mask(data)
    with pytest.raises(InputError, match="Files have changed since .*train/100_mask.bmp") as error:
        prepare(archive(), cache, **bmp_masks)
    assert f"`rm -r {old.data_dir}` and repeat" in str(error.value)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == written
    shutil.rmtree(old.data_dir)
    new = prepare(archive(), cache, **bmp_masks)
    assert (read(new)["100"]["segmentation_mask"] == labels[::-1, ::-1]).all()
    assert fingerprint(new) != fingerprint(old)
    assert new.data_dir == old.data_dir
    with pytest.raises(NotPreparedError, match="has another fingerprint"):
        load(cache, fingerprint(old))


def test_other_files_of_the_same_zip_raise(data, cache, tmp_path, bmp_masks):
    """Other patterns can choose files with the same ids and sizes."""
    for path in sorted((data / "train").glob("*_mask.bmp")):
        image = Image.open(path).transpose(Image.Transpose.ROTATE_180)
        image.save(path.with_name(path.name.replace("_mask", "_other")))
    archive = zip_folder(data, tmp_path / "d.zip")
    prepare(archive, cache, mask_pattern="*_mask.bmp")
    with pytest.raises(InputError, match="or other files were used for it: train/100_other.bmp"):
        prepare(archive, cache, mask_pattern="*_other.bmp")


def test_change_with_the_same_modification_time_raises(data, cache, bmp_masks):
    prepare(data, cache, **bmp_masks)
    mask = data / "train" / "103_mask.bmp"
    times = mask.stat().st_atime_ns, mask.stat().st_mtime_ns
    correct_mask(data, "103")
    os.utime(mask, ns=times)
    with pytest.raises(InputError, match="Files have changed since .*103_mask.bmp"):
        prepare(data, cache, **bmp_masks)


def test_copied_archive_is_the_same_data_set(data, cache, tmp_path, capsys, monkeypatch):
    before = fingerprint(prepare(data, cache))
    for path in data.rglob("*.*"):
        os.utime(path)
    shutil.copytree(data, tmp_path / "copy", copy_function=shutil.copyfile)
    capsys.readouterr()
    for other in (data, tmp_path / "copy"):
        assert fingerprint(prepare(other, cache)) == before
        assert "already prepared" in capsys.readouterr().out
    monkeypatch.setattr(Folder, "checksum", None)  # the new times were saved
    assert fingerprint(prepare(tmp_path / "copy", cache)) == before


def as_written_by_an_earlier_version(builder, old_fingerprint):
    directory = Path(builder.data_dir)
    (directory / RECORD).unlink()
    metadata = json.loads((directory / "metadata.json").read_text())
    metadata["fingerprint"] = old_fingerprint
    (directory / "metadata.json").write_text(json.dumps(metadata))


def test_data_set_of_an_earlier_version_is_opened(data, cache, capsys, bmp_masks):
    builder = prepare(data, cache, **bmp_masks)
    new = fingerprint(builder)
    as_written_by_an_earlier_version(builder, new[:64])
    for requested in (new, new[:64], new[:16]):
        assert fingerprint(load(cache, requested)) == new[:64]
    capsys.readouterr()
    assert fingerprint(prepare(data, cache, **bmp_masks)) == new[:64]
    assert "newer" not in capsys.readouterr().out
    correct_mask(data)
    assert fingerprint(prepare(data, cache, **bmp_masks)) == new[:64]
    out = capsys.readouterr().out
    assert (
        f"Files are newer than the prepared data set {builder.data_dir}: train/100_mask.bmp" in out
    )


def test_tfrecords_of_folder_and_zip_are_equal(prepared, tmp_path):
    data, from_folder = prepared
    from_zip = prepare(zip_folder(data, tmp_path / "d.zip"), tmp_path / "cache")
    for split in ("train", "validation", "test"):
        for one, other in zip(shards(from_folder, split), shards(from_zip, split), strict=True):
            assert one.read_bytes() == other.read_bytes()


def append_byte(data):
    with (data / "train" / "100_sat.jpg").open("ab") as file:
        file.write(b"\0")


def rename_class(data):
    path = data / "class_dict.csv"
    path.write_text(path.read_text().replace("water", "sea"))


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (append_byte, {}),
        (rename_class, {}),
        (lambda data: write_pair(data / "train", "200"), {}),
        (lambda data: None, {"seed": 1}),
        (lambda data: None, {"map_color": ["255,0,0=unknown"]}),
    ],
)
def test_changed_input_has_another_fingerprint(data, cache, change, options):
    before = fingerprint(prepare(data, cache))
    change(data)
    after = fingerprint(prepare(data, cache, **options))
    assert after != before
    assert fingerprint(load(cache, before)) == before


def test_fingerprint_is_the_same_in_every_release(data, cache, capsys):
    """Later versions must find prepared data sets, because runs refer to them by fingerprint."""
    found = Path(prepare(data, cache).data_dir)
    known = cache / "deepglobe" / KNOWN_FINGERPRINT[:16] / "1.0.0"
    as_written_by_an_earlier_version(load(cache, found.parent.name), KNOWN_FINGERPRINT)
    found.parent.rename(known.parent)
    for path in (data / "train").iterdir():  # sizes of JPEG files depend on Pillow
        os.truncate(path, 100)
    assert Path(prepare(data, cache).data_dir) == known
    assert f"already prepared: {known}" in capsys.readouterr().out


def test_renamed_files_have_the_same_fingerprint(data, cache):
    before = fingerprint(prepare(data, cache))
    for path in sorted((data / "train").iterdir()):
        path.rename(path.with_name(path.name.replace("_sat", "").replace("_mask", "_gt")))
    names = {"image_glob": "train/*.jpg", "mask_pattern": "train/*_gt.png"}
    assert fingerprint(prepare(data, cache, **names)) == before


def test_png_images_are_prepared(data, cache, tmp_path):
    names = {"image_glob": "*_sat.png", "mask_pattern": "*_mask.png"}
    pixels = {}
    for path in (data / "train").glob("*_sat.jpg"):
        with Image.open(path) as image:
            pixels[path.name.removesuffix("_sat.jpg")] = np.asarray(image)
            image.save(path.with_suffix(".png"))
    builder = prepare(data, cache, **names)
    assert builder.info.features["image"].encoding_format == "png"
    examples = read(builder)
    assert set(examples) == set(pixels)
    for image_id, example in examples.items():
        np.testing.assert_array_equal(example["image"], pixels[image_id])
    lists = {"train": "100_sat.png\n101", "validation": "102", "test": "103_sat.png"}
    write_split_files(tmp_path, **lists)
    builder = prepare(data, cache, **names, split_files=tmp_path)
    assert set(read(builder, "train")) == {"100", "101"}


def test_data_set_with_user_defined_classes_does_not_cite_deepglobe(data, cache, prepared):
    assert "DeepGlobe" in prepared[1].info.citation
    rename_class(data)
    info = prepare(data, cache).info
    assert "DeepGlobe" not in info.citation + info.homepage
    assert "forest_land, sea, barren_land" in info.description


def test_changed_split_list_has_another_fingerprint(data, cache):
    write_split_files(data, train="100\n101", validation="102", test="103")
    before = fingerprint(prepare(data, cache, split_files=data))
    (data / "train.txt").write_text("\r\n100_sat.jpg\r\n101_sat.jpg")  # the same ids
    assert fingerprint(prepare(data, cache, split_files=data)) == before
    write_split_files(data, train="100\n101\n106", validation="102", test="103")
    assert fingerprint(prepare(data, cache, split_files=data)) != before


@pytest.mark.parametrize(("num_shards", "expected"), [(1, 1), (4, 4), (16, 6)])
def test_number_of_shards(data, cache, num_shards, expected):
    builder = prepare(data, cache, num_shards=num_shards)
    assert len(shards(builder, "train")) == builder.info.splits["train"].num_shards == expected
    assert len(shards(builder, "test")) == 1
    assert len(read(builder, "train")) == 6


def test_number_of_shards_below_one_raises(data, cache):
    with pytest.raises(InputError, match="`num_shards` must be 1 or more. Received: num_shards=0"):
        prepare(data, cache, num_shards=0)


@pytest.mark.parametrize("option", [{"split": "random"}, {"group_by": "folder"}])
def test_split_files_with_other_options_for_splits_raise(data, cache, option):
    write_split_files(data, train="100", validation="101", test="102")
    with pytest.raises(InputError, match="`split_files` .* cannot be used with `split` or `group"):
        prepare(data, cache, split_files=data, **option)


def test_split_files_with_an_empty_split(data, cache, capsys):
    write_split_files(data, train="100\n101\n1\n2\n3\n4", validation="5", test="102")
    builder = prepare(data, cache, split_files=data)
    out = capsys.readouterr().out
    assert "not in the archive: 5 images: 1, 2, 3, 4, 5" in out
    assert "not used: 5 images: 103, 104, 105, 106, 107" in out
    assert "validation: 0 images, skipped" in out
    assert set(read(builder, "train")) == {"100", "101"}
    assert set(read(builder, "test")) == {"102"}
    assert set(builder.info.splits) == {"train", "test"}
    assert builder.info.metadata["num_examples"] == {"train": 2, "validation": 0, "test": 1}


def test_less_than_3_images_need_split_files(tmp_path, cache):
    write_pair(tmp_path / "raw", "1")
    with pytest.raises(InputError, match="at least 3 images with masks"):
        prepare(tmp_path / "raw", cache)
    write_split_files(tmp_path, train="1", validation="", test="")
    builder = prepare(tmp_path / "raw", cache, split_files=tmp_path)
    assert set(read(builder)) == {"1"}


def test_color_map_assigns_a_class_to_a_color(data, cache):
    red = np.zeros((24, 32, 3), np.uint8) + np.array([230, 9, 9], np.uint8)
    Image.fromarray(red).save(data / "train" / "100_mask.png")
    with pytest.raises(InputError, match=r"768 pixels of \(255, 0, 0\)"):
        prepare(data, cache)
    builder = prepare(data, cache, map_color=["255,0,0=unknown"])
    assert set(read(builder)["100"]["segmentation_mask"].ravel()) == {6}


def test_data_set_is_read_without_this_package(prepared, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("tfds_deepglobe")]:
        monkeypatch.setitem(sys.modules, name, None)  # an import raises an error
    directory = prepared[1].data_dir
    builder = tfds.builder_from_directory(directory)
    assert type(builder) is tfds.core.read_only_builder.ReadOnlyBuilder
    examples = read(builder, "train")
    assert [example["image"].shape for example in examples.values()] == [(24, 32, 3)] * 6
    metadata = builder.info.metadata
    names = builder.info.features["segmentation_mask"].names
    assert names == metadata["class_names"] == list(DEEPGLOBE_CLASSES.names)
    assert metadata["palette"] == [list(color) for color in DEEPGLOBE_CLASSES.palette]
    assert metadata["num_examples"] == {"train": 6, "validation": 1, "test": 1}
    assert len(metadata["fingerprint"]) == 80
    assert metadata["fingerprint"][:16] == Path(directory).parent.name


def test_load(prepared, cache):
    with pytest.raises(InputError, match="The prepared data set .* does not exist.*`cache_dir`"):
        load(cache, "0" * 64)
    whole = fingerprint(prepared[1])
    cache = Path(prepared[1].data_dir).parents[2]
    for form in (whole, whole[:16]):
        builder = load(cache, form)
        assert fingerprint(builder) == whole
        assert len(read(builder, "test")) == 1


def test_archive_with_faults_is_not_prepared_and_all_faults_are_listed(data, cache):
    broken = ["100", "101", "104", "107"]  # images of all splits
    for image_id in broken:
        (data / "train" / f"{image_id}_sat.jpg").write_bytes(b"x")
    with pytest.raises(InputError) as error:
        prepare(data, cache)
    assert str(error.value).splitlines() == [
        f"{data} cannot be used. It has 4 faults:",
        *(
            f"train/{i}_sat.jpg: is not a JPEG file; content and extension do not match"
            for i in broken
        ),
    ]
    assert list(cache.iterdir()) == []


def test_masks_in_black_and_white_without_a_class_table_are_not_prepared(tmp_path, cache):
    for number in range(4):
        write_pair(tmp_path / "raw", str(number))
        mask = np.full((24, 32), 255 * (number % 2), np.uint8)
        Image.fromarray(mask).save(tmp_path / "raw" / f"{number}_mask.png")
    with pytest.raises(InputError, match=r"(?s)cannot be used.*1 fault.*only black and white"):
        prepare(tmp_path / "raw", cache)
    assert not list(cache.rglob("*.tfrecord*"))


def test_missing_masks_and_damaged_images_are_reported_before_writing(data, cache):
    (data / "train" / "100_sat.jpg").write_bytes(b"x")
    (data / "train" / "101_mask.png").unlink()
    with pytest.raises(InputError) as error:
        prepare(data, cache)
    assert str(error.value).splitlines() == [
        f"{data} cannot be used. It has 2 faults:",
        "train/101_sat.jpg: missing mask 101_mask.png",
        "train/100_sat.jpg: is not a JPEG file; content and extension do not match",
    ]
    assert not cache.exists()


def test_faults_are_reported_before_the_number_of_images_is_checked(tmp_path, cache):
    write_pair(tmp_path / "raw", "1")
    (tmp_path / "raw" / "1_mask.png").unlink()
    with pytest.raises(InputError, match="1_sat.jpg: missing mask 1_mask.png"):
        prepare(tmp_path / "raw", cache)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ZeroDivisionError])
def test_error_while_writing_deletes_the_incomplete_data_set(data, cache, monkeypatch, error):
    read_pair, calls = Archive.read, []

    def fail_at_the_fifth(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise error
        return read_pair(*arguments)

    monkeypatch.setattr(Archive, "read", fail_at_the_fifth)
    with pytest.raises(error):
        prepare(data, cache)
    assert list(cache.iterdir()) == []
    monkeypatch.undo()
    assert len(read(prepare(data, cache), "train")) == 6


def test_incomplete_folder_is_deleted_and_prepared_again(data, cache, capsys):
    complete = Path(prepare(data, cache).data_dir)
    leftover = complete.with_name("incomplete.ABCDEF_1.0.0")  # TFDS uses such names
    complete.rename(leftover)
    assert len(read(prepare(data, cache), "train")) == 6
    assert "already" not in capsys.readouterr().out
    assert [path.name for path in complete.parent.iterdir()] == ["1.0.0"]


@pytest.mark.slow  # the test above already covers the incomplete folder of a killed process
def test_data_set_of_a_killed_process_is_prepared_again(data, cache, capsys):
    script = f"""if True:
        import os, signal
        from tfds_deepglobe.archive import Archive
        from tfds_deepglobe.prepare import prepare
        read, calls = Archive.read, []
        def die_at_the_end(self, *arguments):
            calls.append(arguments)
            if len(calls) == 8:
                os.kill(os.getpid(), signal.SIGKILL)
            return read(self, *arguments)
        Archive.read = die_at_the_end
        prepare({str(data)!r}, {str(cache)!r})
    """
    root = Path(tfds_deepglobe.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    (leftover,) = cache.glob("deepglobe/*/incomplete.*")
    builder = prepare(data, cache)
    assert "already" not in capsys.readouterr().out
    assert [path.name for path in leftover.parent.iterdir()] == ["1.0.0"]
    assert len(read(builder, "train")) == 6


def test_incomplete_folders_of_other_data_sets_are_not_deleted(data, cache):
    other = cache / "deepglobe" / ("0" * 16) / "incomplete.ABCDEF_1.0.0"
    other.mkdir(parents=True)
    prepare(data, cache)
    assert other.exists()


def test_second_process_waits_and_does_not_write_again(data, cache):
    """The lock belongs to an open file. Therefore, a thread can replace the second process."""
    cache.mkdir()
    lock = os.open(cache, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    waiting = threading.Thread(target=prepare, args=(data, cache))
    # `capsys` is not used, because it can lose text that a thread prints during `readouterr`.
    with contextlib.redirect_stdout(io.StringIO()) as output:
        waiting.start()
        while "waiting for another process" not in output.getvalue():
            assert waiting.is_alive()
            time.sleep(0.01)
        assert list(cache.iterdir()) == []
        # The other process writes the data set and ends.
        written = Path(prepare(data, cache.with_name("other")).data_dir)
        shutil.copytree(written.parents[1], cache / "deepglobe")
        before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.tfrecord*")}
        os.close(lock)
        waiting.join()
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.tfrecord*")} == before
    assert output.getvalue().count("prepared in") == 2


def test_full_disk_raises(data, cache):
    """The test limits the size of files, which causes similar errors to a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="writing the data set failed: .*File too large"):
            prepare(data, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(cache.iterdir()) == []


def test_too_little_disk_space_is_reported_before_reading(data, cache, monkeypatch):
    (data / "train" / "100_sat.jpg").write_bytes(b"x")
    usage = type(shutil.disk_usage("/"))(10, 9, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="The data set needs .* GB, but .* has only 0.0 GB left"):
        prepare(data, cache)


def test_cache_dir_without_write_permission_is_reported_before_reading(data, tmp_path, monkeypatch):
    (data / "train" / "100_sat.jpg").write_bytes(b"x")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=f"Cannot write to {tmp_path}/file, because it is a file"):
        prepare(data, tmp_path / "file" / "cache")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # needed if the user is root
    with pytest.raises(InputError, match=f"Cannot write to {tmp_path}, because it is a file or"):
        prepare(data, tmp_path / "cache")
