"""Record of the files from which a data set was prepared. It shows if they were changed later.

The fingerprint of a data set begins with a hash of the image ids, the file sizes, the classes and
the split. With this hash, `prepare` finds a prepared data set without reading the files. The record
contains checksums of the files. If the times of files have changed, `prepare` compares their
checksums with the record.
"""

import contextlib
import functools
import hashlib
import json
import os
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tfds_deepglobe.archive import Archive
from tfds_deepglobe.errors import InputError, listed
from tfds_deepglobe.parallel import ordered_map
from tfds_deepglobe.sources import File, Folder

RECORD = "source_files.json"  # file in the folder of the TFRecords
# Key: id of an image. Value: list of three elements: (1) checksum and times of the image, (2)
# checksum and times of the mask, (3) name of the split. In data sets of earlier versions, the name
# of the split is missing.
Record = dict[str, list[Any]]


def record_of(archive: Archive, ids: Collection[str], split: str) -> Record:
    """Returns the record of the files of a split. The caller has already read these files."""
    return {
        pair.id: [
            *((archive.checksum(f), f.times) for f in (pair.image, pair.mask)),
            split,
        ]
        for pair in archive.pairs
        if pair.id in ids
    }


def content_hash(record: Record) -> str:
    """Returns a hash of the checksums in a record, 16 hexadecimal digits."""
    checksums = sorted((i, image[0], mask[0]) for i, (image, mask, *_) in record.items())
    return hashlib.sha256(json.dumps(checksums).encode()).hexdigest()[:16]


def image_checksums(directory: Path, split: str) -> dict[str, int]:
    """Returns the checksum of each image in a split of a prepared data set.

    Args:
        directory: folder of the prepared data set.
        split: "train", "validation" or "test".

    Returns:
        Dictionary. Key: image id. Value: CRC-32 checksum. The dictionary is empty if the data set
        does not exist or was prepared by an earlier version.
    """
    file = directory / RECORD
    record: Record = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {i: image[0] for i, (image, _, *splits) in record.items() if splits == [split]}


def equal_fingerprints(one: str, other: str) -> bool:
    """Returns True if two fingerprints belong to data sets with the same content.

    Fingerprints of earlier versions end before the hash of the content. Such a fingerprint is equal
    to each fingerprint that begins with it.

    Example:
        >>> equal_fingerprints("0123", "0123ab"), equal_fingerprints("0123ab", "0123cd")
        (True, False)
    """
    return one.startswith(other) or other.startswith(one)


def delete_and_repeat(directory: Path) -> str:
    """Explains how to prepare a data set again."""
    return f"delete the data set with `rm -r {shlex.quote(str(directory))}` and repeat the command"


def check_unchanged(archive: Archive, directory: Path) -> None:
    """Checks that the files of an archive are the files from which a data set was prepared.

    A file of a folder is read only if its times differ from the record, for example in a copy of
    the archive.

    Data sets of earlier versions have no record. In this case, the function prints the files that
    are newer than the data set.

    Args:
        archive: the archive, with the same ids and file sizes as the data set.
        directory: folder of the prepared data set.

    Raises:
        InputError: The content of a file has changed.
    """
    file = directory / RECORD
    again = delete_and_repeat(directory)
    if not file.exists():
        files = [file for pair in archive.pairs for file in (pair.image, pair.mask)]
        written = (directory / "dataset_info.json").stat().st_mtime_ns
        if newer := [file.name for file in files if file.times[0] > written]:
            print(
                f"Files are newer than the prepared data set {directory}: "
                f"{listed(newer)}. If their content has changed, {again}."
            )
        return
    record: Record = json.loads(file.read_text(encoding="utf-8"))
    # In a zip, each file has the times of the zip. Equal times therefore do not prove that the data
    # set was prepared from these files. Compare the checksums of all files.
    is_folder = isinstance(archive.source, Folder)
    suspects = [
        (pair.id, place, current)
        for pair in archive.pairs
        if pair.id in record
        for place, current in enumerate((pair.image, pair.mask))
        if not is_folder or list(record[pair.id][place][1:]) != [list(current.times)]
    ]

    def is_equal(suspect: tuple[str, int, File]) -> bool:
        image_id, place, current = suspect
        try:
            return archive.checksum(current) == record[image_id][place][0]
        except InputError:  # the file cannot be read
            return False

    # The checksums of a zip are in its list of files. Reading a folder takes longer.
    from_folder = is_folder and bool(suspects)
    run = functools.partial(ordered_map, description="comparing files") if from_folder else map
    equal = list(run(is_equal, suspects))
    changed = [
        current.name for (_, _, current), same in zip(suspects, equal, strict=True) if not same
    ]
    if changed:
        raise InputError(
            f"Files have changed since {directory} was prepared, or other files were used for it: "
            f"{listed(changed)}. Another data set can have the same ids and file sizes. "
            f"To use the present files, {again}. To keep the earlier data set, choose another "
            "`cache_dir`."
        )
    if from_folder:
        for image_id, place, current in suspects:
            record[image_id][place] = (record[image_id][place][0], current.times)
        # With the new times, the next call does not read the files. Errors are ignored, because the
        # folder may be read-only.
        unfinished = file.with_name(f".{RECORD}.{os.getpid()}")
        with contextlib.suppress(OSError):
            unfinished.write_text(json.dumps(record), encoding="utf-8")
            unfinished.replace(file)
