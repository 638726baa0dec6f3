"""Opening of a prepared data set, with checks for missing and damaged files.

The images and masks of a split are in several TFRecord files, which are called shards.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds
from google.protobuf import json_format

from tfds_deepglobe.classes import ClassTable
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.source_files import RECORD, content_hash, delete_and_repeat
from tfds_deepglobe.tensorflow_import import import_tensorflow

# Errors that TFDS raises if one of its text files is missing or damaged. Files were damaged at
# random to find these errors.
_DAMAGE_ERRORS = (
    *(ValueError, TypeError, AttributeError, LookupError, OSError, ImportError, RuntimeError),
    json_format.Error,
)
# A TFRecord begins with its length and the checksum of the length, 12 bytes. It ends with the
# checksum of the content, 4 bytes. See https://www.tensorflow.org/tutorials/load_data/tfrecord.
_HEADER, _FOOTER = struct.Struct("<QI"), 4
CHECKSUMS = "shards.json"  # file in the folder of the TFRecords: one checksum per shard
_OPTIONAL = (RECORD, CHECKSUMS)  # files that data sets of earlier versions do not have


def open_data_set(directory: Path) -> tfds.core.DatasetBuilder:
    """Opens the folder of a prepared data set, and checks the structure of all its files.

    The content of the TFRecords is not read. `check_records` reads it.

    Raises:
        InputError: A file is missing or damaged.
    """
    try:
        builder = tfds.builder_from_directory(directory)
        metadata, features = builder.info.metadata, builder.info.features
        ClassTable(tuple(metadata["class_names"]), tuple(map(tuple, metadata["palette"])))
        if features["segmentation_mask"].names != metadata["class_names"]:
            raise ValueError("the class names differ")
        if metadata.get("bands"):
            if features["image"].shape[-1] != len(metadata["bands"]["names"]):
                raise ValueError("the numbers of bands differ")
        elif features["image"].encoding_format not in ("jpeg", "png"):
            raise ValueError("the images have an unknown encoding")
        sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
        if sizes != {split: size for split, size in metadata["num_examples"].items() if size}:
            raise ValueError("the numbers of images differ")
        fingerprint, record = metadata["fingerprint"], directory / RECORD
        # Earlier versions did not write the file `RECORD`.
        if record.exists() and not fingerprint.endswith(
            content_hash(json.loads(record.read_bytes()))
        ):
            raise ValueError("the checksums of the files differ")
        # Earlier versions did not write the file `CHECKSUMS`.
        file = directory / CHECKSUMS
        checksums = json.loads(file.read_bytes()) if file.exists() else {}
        expected = {path: checksums.get(path.name) for path, _ in _shards(builder)}
        if checksums and None in expected.values():
            raise ValueError("a shard has no checksum")
    except _DAMAGE_ERRORS as error:
        raise _damage(directory, *_damaged_text(directory, error)) from error
    for path, count in _shards(builder):
        if not path.is_file():
            raise _damage(directory, path.name, "does not exist")
        found, checksum = _scan(path)
        if found != count:
            raise _damage(
                directory, path.name, f"does not contain exactly {count} complete records"
            )
        if expected[path] not in (None, checksum):
            raise _damage(directory, path.name, "contains a damaged record, or other records")
    return builder


def write_checksums(directory: Path) -> None:
    """Writes the checksums of all shards of a data set, so that `open_data_set` can compare them.

    Args:
        directory: folder with the complete shards.
    """
    checksums = {path.name: _scan(path)[1] for path in sorted(directory.glob("*.tfrecord-*"))}
    (directory / CHECKSUMS).write_text(json.dumps(checksums), encoding="utf-8")


def check_records(builder: tfds.core.DatasetBuilder) -> None:
    """Reads all TFRecords of a data set and verifies their checksums.

    Raises:
        InputError: A shard is missing or damaged.
    """
    tf = import_tensorflow()
    directory = Path(builder.data_dir)
    open_data_set(directory)
    for path, _ in _shards(builder):
        try:
            for _ in tf.data.TFRecordDataset(str(path)):
                pass
        except tf.errors.OpError as error:
            raise _damage(directory, path.name, "contains a damaged record") from error


def _shards(builder: tfds.core.DatasetBuilder) -> Iterator[tuple[Path, int]]:
    """Yields the path and the number of records of each shard."""
    for info in builder.info.splits.values():
        yield from zip(map(Path, info.filepaths), info.shard_lengths, strict=True)


def _scan(path: Path) -> tuple[int | None, int]:
    """Scans the beginnings and the ends of the records of a shard, without their content.

    Returns:
        Two values:

        - number of records; None for a damaged shard.
        - CRC-32 of the lengths and the checksums of all records.
    """
    size, place, count, checksum = path.stat().st_size, 0, 0, 0
    with path.open("rb") as file:
        while place < size:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size or not (length := _HEADER.unpack(header)[0]):
                return None, 0  # a file of zeros has records of length 0
            place += _HEADER.size + length + _FOOTER
            if place > size:
                return None, 0
            file.seek(place - _FOOTER)
            checksum = zlib.crc32(header + file.read(_FOOTER), checksum)
            count += 1
    return count, checksum


def _damaged_text(directory: Path, error: Exception) -> tuple[str, str]:
    """Returns the name of the damaged text file and the damage."""
    for name in ("dataset_info.json", "features.json", "metadata.json", *_OPTIONAL):
        path = directory / name
        if not path.exists() and name not in _OPTIONAL:
            return name, "does not exist"
        try:
            json.loads(path.read_bytes() if path.exists() else b"0")
        except (ValueError, RecursionError) as wrong:
            return name, f"is not valid JSON ({wrong})"
    return "one of its text files", f"contains wrong values ({error})"


def _damage(directory: Path, name: str, text: str) -> InputError:
    reason = " ".join(text.split())[:200]
    return InputError(
        f"The prepared data set {directory} is damaged: {name} {reason}. To prepare it again, "
        f"{delete_and_repeat(directory)}."
    )
