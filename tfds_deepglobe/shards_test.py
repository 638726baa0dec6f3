import json
import shutil
from pathlib import Path

import pytest

from tfds_deepglobe.errors import InputError
from tfds_deepglobe.fake_archive import write_kaggle_folder
from tfds_deepglobe.prepare import prepare
from tfds_deepglobe.shards import check_records, open_data_set

SHARD = "deepglobe-train.tfrecord-00001-of-00003"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    data = write_kaggle_folder(root / "raw", count=8)
    return Path(prepare(data, root / "cache", num_shards=3).data_dir)


@pytest.fixture
def directory(prepared, tmp_path):
    """Returns a copy of a prepared data set. Tests may change it."""
    return shutil.copytree(prepared, tmp_path / "1.0.0")


def without(content, start, length):
    return content[:start] + bytes(length) + content[start + length :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: bytes(len(content)),
        lambda content: b"garbage" * 10,
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content * 2,  # more records than expected
        lambda content: without(content, len(content) // 2, len(content) // 2),  # zeros at the end
    ],
)
def test_damaged_shard_raises(directory, damage):
    file = directory / SHARD
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(
        InputError, match=f"is damaged: {SHARD} does not contain exactly 2"
    ) as error:
        open_data_set(directory)
    assert f"delete the data set with `rm -r {directory}` and repeat" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_shard_and_other_number_of_shards_raise(directory):
    (directory / SHARD).unlink()
    with pytest.raises(InputError, match=f"is damaged: {SHARD} does not exist"):
        open_data_set(directory)
    for file in directory.glob("*-of-00003"):
        file.rename(file.with_name(file.name.replace("-of-00003", "-of-00002")))
    with pytest.raises(InputError, match="tfrecord-00000-of-00003 does not exist"):
        open_data_set(directory)


@pytest.mark.parametrize("place", [0, 8, -1])  # length, its checksum, checksum of the content
def test_damaged_length_and_damaged_checksums_raise_without_reading_the_content(directory, place):
    file = directory / SHARD
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        InputError, match=f"{SHARD} (does not contain exactly 2|contains a damaged)"
    ):
        open_data_set(directory)


def test_exchanged_shards_raise(directory):
    shards = [directory / SHARD, directory / SHARD.replace("00001-of", "00002-of")]
    contents = [shard.read_bytes() for shard in shards]
    for shard, content in zip(shards, reversed(contents), strict=True):
        shard.write_bytes(content)
    with pytest.raises(InputError, match=f"{SHARD} contains a damaged record, or other records"):
        open_data_set(directory)
    (directory / "shards.json").unlink()  # earlier versions did not write it
    open_data_set(directory)


def test_damaged_record_is_found_by_its_checksum(directory):
    file = directory / SHARD
    file.write_bytes(without(file.read_bytes(), 100, 50))
    builder = open_data_set(directory)  # the lengths of the records are unchanged
    with pytest.raises(InputError, match=f"{SHARD} contains a damaged record"):
        check_records(builder)


def test_complete_data_set_raises_no_error(directory):
    check_records(open_data_set(directory))


@pytest.mark.parametrize(
    "name",
    [
        *("dataset_info.json", "features.json", "metadata.json", "source_files.json"),
        *("shards.json", "segmentation_mask.labels.txt"),
    ],
)
@pytest.mark.parametrize("content", [None, b"", b"\0" * 99, b"[]", b'{"splits": 1}', b"[" * 10**5])
def test_damaged_text_file_raises(directory, name, content):
    if content is None:
        (directory / name).unlink()
        if name in ("source_files.json", "shards.json"):  # earlier versions did not write it
            open_data_set(directory)
            return
    else:
        (directory / name).write_bytes(content)
    with pytest.raises(InputError, match="The prepared data set .* is damaged: .*rm -r") as error:
        open_data_set(directory)
    assert name in str(error.value) or "one of its text files contains wrong values" in str(
        error.value
    )
    assert "\n" not in str(error.value)


def test_record_of_other_files_raises(directory):
    record = json.loads((directory / "source_files.json").read_text())
    record.pop("100")
    (directory / "source_files.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="the checksums of the files differ"):
        open_data_set(directory)
