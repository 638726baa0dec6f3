import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tfds_deepglobe import prepare as prepare_module
from tfds_deepglobe.archive import Archive, open_archive
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.fake_archive import write_kaggle_folder, write_pair, zip_folder
from tfds_deepglobe.file_names import FileNames
from tfds_deepglobe.prepare import load, prepare


@pytest.fixture
def data(tmp_path):
    return write_kaggle_folder(tmp_path / "raw", count=8)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def fingerprint(builder):
    return builder.info.metadata["fingerprint"]


def read(builder, split, **options):
    """The examples of a split by id."""
    dataset = tfds.as_numpy(builder.as_dataset(split=split, **options))
    return {example["id"].decode(): example for example in dataset}


def shards(builder, split):
    return sorted(Path(builder.data_dir).glob(f"deepglobe-{split}.tfrecord-*"))


def test_what_is_written_is_what_was_read(data, cache):
    builder = prepare(data, cache)
    archive = open_archive(data)
    pairs = {pair.id: pair for pair in archive.pairs}
    seen = set()
    for split, count in (("train", 6), ("validation", 1), ("test", 1)):
        decoders = {"image": tfds.decode.SkipDecoding()}
        examples = read(builder, split, decoders=decoders)
        assert len(examples) == builder.info.splits[split].num_examples == count
        for image_id, example in examples.items():
            assert example["image"] == (data / pairs[image_id].image.name).read_bytes()
            mask = example["segmentation_mask"]
            assert mask.shape == (24, 32, 1)
            np.testing.assert_array_equal(
                mask[..., 0], archive.encode_mask(pairs[image_id], color_map={})
            )
        seen |= set(examples)
    assert seen == set(pairs)


def test_folder_and_zip_are_one_data_set_and_prepared_once(data, cache, tmp_path, capsys):
    builder = prepare(data, cache)
    written = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    assert "train: 6 images" in capsys.readouterr().out
    for other in (data, zip_folder(data, tmp_path / "d.zip", top="archive/")):
        assert fingerprint(prepare(other, cache)) == fingerprint(builder)
        assert "already prepared" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == written


def test_second_call_reads_no_file(data, cache, monkeypatch):
    prepare(data, cache)
    monkeypatch.setattr(prepare_module, "verify", None)
    monkeypatch.setattr(prepare_module, "import_tensorflow", None)
    prepare(data, cache)


def test_zip_is_prepared_alike(data, tmp_path):
    from_folder = prepare(data, tmp_path / "1")
    from_zip = prepare(zip_folder(data, tmp_path / "d.zip"), tmp_path / "2")
    for split in ("train", "validation", "test"):
        for one, other in zip(shards(from_folder, split), shards(from_zip, split), strict=True):
            assert one.read_bytes() == other.read_bytes()


def append_byte(data):
    with (data / "train" / "100_sat.jpg").open("ab") as file:
        file.write(b"\0")


def rename_class(data):
    path = data / "class_dict.csv"
    path.write_text(path.read_text().replace("water", "sea"))


def grow_split_list(data):
    write_split_files(data, train="100\n101\n106", validation="102", test="103")


def write_split_files(folder, **lists):
    for split, text in lists.items():
        (folder / f"{split}.txt".replace("validation", "val")).write_text(text)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (append_byte, {}),
        (rename_class, {}),
        (lambda data: write_pair(data / "train", "200"), {}),
        (lambda data: None, {"seed": 1}),
        (lambda data: None, {"color_map": {(255, 0, 0): "unknown"}}),
    ],
)
def test_changed_input_is_prepared_anew(data, cache, change, options):
    before = fingerprint(prepare(data, cache))
    change(data)
    after = fingerprint(prepare(data, cache, **options))
    assert after != before
    assert fingerprint(load(cache, before)) == before


def test_known_archive_keeps_its_fingerprint(data, cache):
    """Prepared data sets, and runs that name them, outlive a new version of this package."""
    for path in data.rglob("*_*.*"):  # of sizes that no version of Pillow changes
        if path.suffix in (".jpg", ".png"):
            os.truncate(path, 100)
    archive = open_archive(data)
    found = prepare_module._fingerprint(archive, {}, {"seed": 0})
    assert found == "6a0a81bef56ad4f49ad0861f5846425895e9f2464373881bb700c8a16524f6b5"


def test_other_names_of_the_same_files_make_no_other_data_set(data, cache):
    before = fingerprint(prepare(data, cache))
    for path in sorted((data / "train").iterdir()):
        path.rename(path.with_name(path.name.replace("_sat", "").replace("_mask", "_gt")))
    names = FileNames.parse("train/*.jpg", "train/*_gt.png")
    assert fingerprint(prepare(data, cache, names=names)) == before


def test_png_images_are_a_data_set_of_their_own(data, cache, tmp_path):
    names = FileNames.parse("*_sat.png", "*_mask.png")
    pixels = {}
    for path in (data / "train").glob("*_sat.jpg"):
        with Image.open(path) as image:
            pixels[path.name.removesuffix("_sat.jpg")] = np.asarray(image)
            image.save(path.with_suffix(".png"))
    builder = prepare(data, cache, names=names)
    assert builder.info.features["image"].encoding_format == "png"
    examples = {k: v for split in builder.info.splits for k, v in read(builder, split).items()}
    assert set(examples) == set(pixels)
    for image_id, example in examples.items():
        np.testing.assert_array_equal(example["image"], pixels[image_id])
    lists = {"train": "100_sat.png\n101", "validation": "102", "test": "103_sat.png"}
    write_split_files(tmp_path, **lists)
    builder = prepare(data, cache, names=names, split_files=tmp_path)
    assert set(read(builder, "train")) == {"100", "101"}


def test_data_set_of_other_classes_is_not_called_deepglobe(data, cache):
    assert "DeepGlobe" in prepare(data, cache).info.citation
    rename_class(data)
    info = prepare(data, cache).info
    assert "DeepGlobe" not in info.citation + info.homepage
    assert "forest_land, sea, barren_land" in info.description


def test_changed_split_list_is_prepared_anew(data, cache):
    write_split_files(data, train="100\n101", validation="102", test="103")
    before = prepare(data, cache, split_files=data)
    (data / "train.txt").write_text("\r\n100_sat.jpg\r\n101_sat.jpg")  # the same ids
    assert fingerprint(prepare(data, cache, split_files=data)) == fingerprint(before)
    grow_split_list(data)
    assert fingerprint(prepare(data, cache, split_files=data)) != fingerprint(before)


@pytest.mark.parametrize(("num_shards", "expected"), [(1, 1), (4, 4), (16, 6)])
def test_number_of_shards(data, cache, num_shards, expected):
    builder = prepare(data, cache, num_shards=num_shards)
    assert len(shards(builder, "train")) == builder.info.splits["train"].num_shards == expected
    assert len(shards(builder, "test")) == 1
    assert len(read(builder, "train")) == 6


def test_number_of_shards_below_one(data, cache):
    with pytest.raises(InputError, match="at least 1. Received: 0"):
        prepare(data, cache, num_shards=0)


def test_split_files_and_empty_splits(data, cache, capsys):
    write_split_files(data, train="100\n101\n1\n2\n3\n4", validation="5", test="102")
    builder = prepare(data, cache, split_files=data)
    out = capsys.readouterr().out
    assert "not in the archive: 5 images: 1, 2, 3, 4, 5" in out
    assert "in no split: 5 images: 103, 104, 105, 106, 107" in out
    assert "validation: 0 images, left out" in out
    assert set(read(builder, "train")) == {"100", "101"}
    assert set(read(builder, "test")) == {"102"}
    assert set(builder.info.splits) == {"train", "test"}
    assert builder.info.metadata["num_examples"] == {"train": 2, "validation": 0, "test": 1}


def test_few_images_need_split_files(tmp_path, cache):
    write_pair(tmp_path / "raw", "1")
    with pytest.raises(InputError, match="at least 3 labelled images"):
        prepare(tmp_path / "raw", cache)
    write_split_files(tmp_path, train="1", validation="", test="")
    builder = prepare(tmp_path / "raw", cache, split_files=tmp_path)
    assert set(read(builder, "train")) == {"1"}


def test_mapped_color(data, cache):
    red = np.zeros((24, 32, 3), np.uint8) + np.array([200, 9, 9], np.uint8)
    Image.fromarray(red).save(data / "train" / "100_mask.png")
    with pytest.raises(InputError, match=r"768 pixels of \(255, 0, 0\)"):
        prepare(data, cache)
    builder = prepare(data, cache, color_map={(255, 0, 0): "unknown"})
    examples = {k: v for split in builder.info.splits for k, v in read(builder, split).items()}
    assert set(examples["100"]["segmentation_mask"].ravel()) == {6}


def test_read_back_without_archive_and_without_this_package(data, cache, tmp_path):
    directory = prepare(data, cache).data_dir
    shutil.rmtree(data)
    script = """if True:
        import json, sys
        import tensorflow_datasets as tfds
        builder = tfds.builder_from_directory(sys.argv[1])
        examples = list(tfds.as_numpy(builder.as_dataset(split="train")))
        mask = builder.info.features["segmentation_mask"]
        metadata = dict(builder.info.metadata.items())
        assert "tfds_deepglobe" not in sys.modules
        print(json.dumps([len(examples), examples[0]["image"].shape, mask.names, metadata]))
    """
    # Not from the project's folder, so that the package cannot be imported.
    command = [sys.executable, "-c", script, directory]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    count, shape, names, metadata = json.loads(done.stdout)
    assert (count, shape, names) == (6, [24, 32, 3], list(DEEPGLOBE_CLASSES.names))
    assert metadata["class_names"] == names
    assert metadata["palette"] == [list(color) for color in DEEPGLOBE_CLASSES.palette]
    assert metadata["num_examples"] == {"train": 6, "validation": 1, "test": 1}
    assert len(metadata["fingerprint"]) == 64
    assert metadata["fingerprint"][:16] == Path(directory).parent.name


def test_load(data, cache):
    with pytest.raises(InputError, match="make it with python -m tfds_deepglobe prepare"):
        load(cache, "0" * 64)
    whole = fingerprint(prepare(data, cache))
    for form in (whole, whole[:16]):
        builder = load(cache, form)
        assert fingerprint(builder) == whole
        assert len(read(builder, "test")) == 1


def test_faulty_archive_is_refused_before_anything_is_written(data, cache):
    (data / "train" / "100_sat.jpg").write_bytes(b"x")
    (data / "train" / "101_mask.png").unlink()
    with pytest.raises(InputError) as error:
        prepare(data, cache)
    assert str(error.value).splitlines() == [
        f"{data} cannot be used, 2 fault(s):",
        "train/101_sat.jpg: missing partner 101_mask.png",
        "train/100_sat.jpg: is not a JPEG file, whatever its name says",
    ]
    assert not cache.exists()


def test_faults_are_told_before_a_lack_of_images(tmp_path, cache):
    write_pair(tmp_path / "raw", "1")
    (tmp_path / "raw" / "1_mask.png").unlink()
    with pytest.raises(InputError, match="1_sat.jpg: missing partner 1_mask.png"):
        prepare(tmp_path / "raw", cache)


def test_every_fault_is_listed(tmp_path, cache):
    for i in range(23):
        write_pair(tmp_path / "raw", f"{i:02d}")
        (tmp_path / "raw" / f"{i:02d}_sat.jpg").write_bytes(b"x")
    with pytest.raises(InputError) as error:
        prepare(tmp_path / "raw", cache)
    assert len(str(error.value).splitlines()) == 24


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_failure_while_writing_leaves_nothing(data, cache, monkeypatch, error):
    fail_after(monkeypatch, 4, error)
    with pytest.raises(error):
        prepare(data, cache)
    assert list(cache.iterdir()) == []
    monkeypatch.undo()
    assert len(read(prepare(data, cache), "train")) == 6


def fail_after(monkeypatch, count, error):
    """Lets `count` masks be written, after the 8 that are verified, before one fails."""
    encode_mask, calls = Archive.encode_mask, []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) > 8 + count:
            raise error
        return encode_mask(*arguments)

    monkeypatch.setattr(Archive, "encode_mask", fail)


def test_killed_run_is_not_taken_for_complete(data, cache, capsys):
    script = f"""if True:
        import os, signal
        from tfds_deepglobe.archive import Archive
        from tfds_deepglobe.deepglobe_dataset_builder import Builder
        from tfds_deepglobe.prepare import prepare
        read_all = Builder._generate_examples
        def die_at_the_end(self, config, split):
            if split == "test":
                os.kill(os.getpid(), signal.SIGKILL)
            yield from read_all(self, config, split)
        Builder._generate_examples = die_at_the_end
        prepare({str(data)!r}, {str(cache)!r})
    """
    root = Path(prepare_module.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True)
    assert done.returncode == -9
    (leftover,) = cache.glob("deepglobe/*/incomplete.*")
    builder = prepare(data, cache)
    assert "already" not in capsys.readouterr().out
    assert not leftover.exists()
    assert [path.name for path in leftover.parent.iterdir()] == ["1.0.0"]
    assert len(read(builder, "train")) == 6


def test_leftovers_of_other_data_sets_stay(data, cache):
    other = cache / "deepglobe" / ("0" * 16) / "incomplete.ABCDEF_1.0.0"
    other.mkdir(parents=True)
    prepare(data, cache)
    assert other.exists()


def test_two_processes_prepare_one_data_set_once(data, cache):
    root = Path(prepare_module.__file__).parents[1]
    command = [sys.executable, "-m", "tfds_deepglobe", "prepare"]
    command += ["--data", str(data), "--cache-dir", str(cache)]
    runs = [
        subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for run in runs:
        _, err = run.communicate()
        assert run.returncode == 0, err
    assert len(list(cache.glob("deepglobe/*/*"))) == 1


def test_full_disk(data, cache):
    """A limit on the size of files stands in for the disk's end."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="writing the data set failed: .*File too large"):
            prepare(data, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(cache.iterdir()) == []


def test_lack_of_disk_space_is_told_before_verifying(data, cache, monkeypatch):
    monkeypatch.setattr(prepare_module, "verify", None)
    usage = type(shutil.disk_usage("/"))(10, 9, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="the data set needs .* GB, but .* has only 0.0 GB left"):
        prepare(data, cache)


def test_unwritable_cache_dir_is_told_before_verifying(data, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "verify", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=f"cannot write to {tmp_path}/file: no permission"):
        prepare(data, tmp_path / "file" / "cache")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(InputError, match=f"cannot write to {tmp_path}: no permission"):
        prepare(data, tmp_path / "cache")
