"""Folder of tiles, and the record of its files. The record shows if a file was changed later."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from lcc_tf.errors import InputError
from lcc_tf.files import check_new_folder

RECORD = "tiles.json"  # sizes and times of the other files
CONTENTS = {"images", "masks", "class_dict.csv", RECORD}  # files and folders in a folder of tiles


def check_tile_folder(folder: Path, inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Checks that a folder of tiles can be created or replaced, and that no other file is deleted.

    Args:
        folder: folder of tiles.
        inputs: files from which the tiles are cut.
        overwrite: True to replace an earlier folder of tiles.

    Raises:
        InputError: one of these reasons:

            - The folder contains an input.
            - The folder contains files that are not in its record, or that were changed.
            - The folder is not empty, and `overwrite` is False.
    """
    for file in inputs:
        if file.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"`output` must not be a folder that contains the input {file}. Received: "
                f"output={folder}. Choose another folder as `output`."
            )
    check_new_folder(folder, contents=CONTENTS, overwrite=overwrite)
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = {}
    current = _files(folder)
    if foreign := [name for name in sorted(current) if record.get(name) != current[name]]:
        raise InputError(
            f"{folder} contains {len(foreign)} files that tiles.py did not write, or that were "
            f"changed or copied, such as {foreign[0]}. Choose another folder as `output`, or "
            "delete this folder."
        )


def write_record(folder: Path) -> None:
    """Writes the record of a complete folder of tiles."""
    (folder / RECORD).write_text(json.dumps(_files(folder)), encoding="utf-8")


def _files(folder: Path) -> Mapping[str, list[int]]:
    """Returns the size and the time of each file in a folder, without the record."""
    found = {}
    for file in folder.rglob("*"):
        name = file.relative_to(folder).as_posix()
        if name != RECORD and (file.is_symlink() or not file.is_dir()):
            status = file.lstat()
            found[name] = [status.st_size, status.st_mtime_ns]
    return found
