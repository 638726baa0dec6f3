"""Files and folders that are there whole or not at all."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lcc_tf.errors import InputError


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


@contextlib.contextmanager
def unfinished_folder(path: Path) -> Iterator[Path]:
    """Gives a folder beside a path, to fill what will get that name; it vanishes in the end.

    What a killed process has left in it goes first.

    Raises:
        InputError: another process is filling it.
    """
    folder = unfinished_name(path)
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:  # held until the process ends, however it does
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{path} is being written by another process. Wait for it, or choose another "
                "`--output`."
            ) from error
        except OSError:  # a file system without locks, such as a mounted cloud drive
            pass
        try:
            for left in folder.iterdir():
                if left.name != "lock":
                    left.unlink()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def flush(file: Path) -> None:
    """Waits until a file is on the disk, so that no crash can leave its name with half of it."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def not_written(file: Path, reason: object) -> OSError:
    """The error of a file that a library could not write.

    Libraries rarely say that the disk is full, which is why most files can't be written.
    """
    free = shutil.disk_usage(file.parent).free
    return OSError(
        f"{file} cannot be written, most likely for want of room: {free / 1e6:.1f} MB are free "
        f"there ({reason}). Make room, or choose another `--output`."
    )


def check_no_file(folder: Path, option: str = "--output") -> None:
    """Checks that what shall be a folder is not a file.

    Raises:
        InputError: it is one.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder. Choose another `{option}`.")


def check_new_folder(
    path: Path, *, holds: set[str], overwrite: bool = False, option: str = "--output"
) -> None:
    """Checks what `new_folder` checks, so that several can be refused before the first is filled.

    Args:
        path: see `new_folder`, as all others.
        holds: names of what such a folder holds.
        overwrite: replaces the folder of that name.
        option: what the user chooses another folder by.

    Raises:
        InputError: `path` is taken and not to be overwritten.
    """
    check_no_file(path, option)
    there = {entry.name for entry in path.iterdir()} if path.exists() else set()
    if foreign := sorted(there - holds):
        raise InputError(
            f"{path} exists and holds other files ({', '.join(foreign[:3])}). Choose another "
            f"`{option}`."
        )
    if there and not overwrite:
        raise InputError(
            f"{path} exists already, and nothing is overwritten unasked. Choose another "
            f"`{option}`, or replace it by `--overwrite`."
        )


@contextlib.contextmanager
def new_folder(
    path: Path, *, holds: set[str], overwrite: bool = False, option: str = "--output"
) -> Iterator[Path]:
    """Gives a folder to fill, which gets its name when all of it is there.

    Args:
        path: the folder's name in the end.
        holds: names of what such a folder holds; one that holds anything else is never overwritten.
        overwrite: replaces the folder of that name, once the new one is complete.
        option: what the user chooses another folder by.

    Yields:
        An empty folder beside `path`. It vanishes where filling it fails.

    Raises:
        InputError: `path` is taken and not to be overwritten.
    """
    check_new_folder(path, holds=holds, overwrite=overwrite, option=option)
    made = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Under a name of its own, since for a moment it is all that holds what is overwritten.
        with tempfile.TemporaryDirectory(
            prefix=f".unfinished.{path.name}.", dir=path.parent
        ) as unfinished:
            new, old = Path(unfinished) / "new", Path(unfinished) / "old"
            new.mkdir()
            yield new
            try:
                if path.exists():
                    os.replace(path, old)
                os.replace(new, path)
            finally:
                if old.exists() and not path.exists():
                    os.replace(old, path)
    finally:
        for parent in made:  # nothing is in them where filling the folder failed
            with contextlib.suppress(OSError):
                parent.rmdir()
