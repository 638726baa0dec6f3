"""Files that are there whole or not at all."""

import os
import shutil
from pathlib import Path


def write_atomically(file: Path, content: bytes) -> None:
    """Writes a whole file in place of what had its name or, where that fails, nothing."""
    unfinished = unfinished_name(file)
    try:
        unfinished.write_bytes(content)
        flush(unfinished)
        os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Gives a complete file a second name, in place of what had that name before."""
    unfinished = unfinished_name(target)
    unfinished.unlink(missing_ok=True)
    try:
        os.link(source, unfinished)
    except OSError:  # a file system without links, such as a mounted cloud drive
        shutil.copyfile(source, unfinished)
        flush(unfinished)
    os.replace(unfinished, target)


def unfinished_name(file: Path) -> Path:
    """What a file is called until it is complete."""
    return file.with_name(f".unfinished.{file.name}")


def flush(file: Path) -> None:
    """Waits until a file is on the disk, so that no crash can leave its name with half of it."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
