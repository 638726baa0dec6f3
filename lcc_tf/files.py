"""Functions that write files and folders completely or not at all."""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from lcc_tf.errors import InputError

HASHED_BLOCKS, HASHED_BLOCK = 1024, 1 << 16  # largest number of blocks, and bytes per block


def write_atomically(file: Path, content: bytes) -> None:
    """Writes or replaces a file; if writing fails, an earlier file is unchanged."""
    with complete_file(file) as unfinished:
        unfinished.write_bytes(content)


@contextlib.contextmanager
def complete_file(file: Path) -> Iterator[Path]:
    """Yields a temporary path. When the temporary file is complete, it is renamed to `file`.

    If an error occurs before the file is renamed, an existing `file` is unchanged.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
    """
    unfinished = unfinished_name(file)
    # Earlier versions could leave a hard link at the temporary path. Delete the hard link first.
    # Otherwise, writing to the temporary path would change the linked file.
    unfinished.unlink(missing_ok=True)
    try:
        with explain_write_errors(file):
            yield unfinished
            flush(unfinished)
            os.replace(unfinished, file)
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def explain_write_errors(file: Path) -> Iterator[None]:
    """Raises an `OSError` with the name of the file if the disk or the user's quota is full.

    The `OSError` is also raised if the system limits the size of files.
    """
    try:
        yield
    except Exception as error:
        # TensorFlow and h5py raise other error classes. Their messages contain the message of the
        # operating system, such as "No space left on device".
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                raise not_written(file, os.strerror(number)) from error
        raise


def unfinished_name(file: Path) -> Path:
    """Returns the temporary path of a file that is not complete yet."""
    return file.with_name(f".unfinished.{file.name}")


@contextlib.contextmanager
def unfinished_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder for unfinished files; deletes the folder at the end.

    The folder has the same parent as `path`. If it contains files of an earlier process that was
    killed, these files are deleted first.

    Raises:
        InputError: another process uses the folder.
    """
    folder = unfinished_name(path)
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("wb") as lock:
        _lock(lock.fileno(), path, "output")
        try:
            for file in folder.iterdir():
                if file.name != "lock":
                    file.unlink()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked_folder(folder: Path, argument: str) -> Iterator[None]:
    """Locks a folder, so that no other process uses it with this function at the same time.

    Args:
        folder: path of the folder. A missing folder is created. At the end, this new folder is
            deleted if it is still empty.
        argument: name of the argument with which the user sets the path, for error messages.

    Raises:
        InputError: another process uses the folder, or `folder` is a file.
    """
    check_no_file(folder, argument)
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder, argument)
        yield
    finally:
        # Delete the folder before the lock is released. Otherwise, another process could lock the
        # folder first, and this process would then delete the folder of the other process.
        _delete_empty(new)
        os.close(descriptor)


def _lock(descriptor: int, path: Path, argument: str) -> None:
    """Locks an open file or folder. The system releases the lock if the process is killed.

    Raises:
        InputError: another process has locked the file or folder.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"Another process is writing {path}. Wait until this process ends, or choose another "
            f"folder as `{argument}`."
        ) from error
    except OSError:  # a file system without locks, such as a mounted cloud drive
        pass


def flush(file: Path) -> None:
    """Waits until a file is on the disk. After that, a crash cannot truncate the file."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_free_space(file: Path, size: int) -> None:
    """Verifies that the disk has space for a file, before a library starts to write the file.

    If the disk becomes full while HDF5 writes a file, Python crashes when it exits.

    Args:
        file: file to write.
        size: size of the file, bytes.

    Raises:
        OSError: the disk has too little space.
    """
    if shutil.disk_usage(file.parent).free < size:
        raise not_written(file, f"{size / 1e6:.1f} MB are necessary")


def sampled_hash(file: Path) -> str:
    """Returns a hash of a file's size and content.

    If the file has more than 67 MB, only a part of the content is hashed.
    """
    size = file.stat().st_size
    content = hashlib.blake2b(str(size).encode(), digest_size=16)
    with file.open("rb") as opened:
        for start in range(0, size, max(HASHED_BLOCK, size // HASHED_BLOCKS)):
            opened.seek(start)
            content.update(opened.read(HASHED_BLOCK))
    return content.hexdigest()


def not_written(file: Path, reason: object) -> OSError:
    """Returns the error for a file that a library could not write.

    The most frequent reason is a full disk. The error names this reason, because the error messages
    of libraries rarely name it. If the system limits the size of files, the error names the limit.
    """
    if os.strerror(errno.EFBIG) in str(reason):
        return OSError(
            f"{file} cannot be written, because the system limits the size of files ({reason}). "
            "If `ulimit -f` shows a number, raise this limit. Otherwise, choose a folder on "
            "another file system."
        )
    free = shutil.disk_usage(file.parent).free
    return OSError(
        f"{file} cannot be written, most likely because the disk is full: {free / 1e6:.1f} MB are "
        f"free ({reason}). Delete other files, or choose another folder."
    )


def check_no_file(folder: Path, argument: str = "output") -> None:
    """Checks that neither the path of a folder nor one of its parents is a file.

    Args:
        folder: path of the folder.
        argument: name of the argument with which the user sets the path, for the error message.

    Raises:
        InputError: the path is a file, or one of its parents is a file.
    """
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file, not a folder. Choose a folder as `{argument}`.")


def check_new_folder(
    path: Path, *, contents: set[str], overwrite: bool = False, argument: str = "output"
) -> None:
    """Checks that `new_folder` can create or replace a folder, before long computations start.

    Args:
        path: path of the complete folder.
        contents: names of the files and folders that a complete folder can contain.
        overwrite: True to replace an earlier folder.
        argument: name of the argument with which the user sets the path, for error messages.

    Raises:
        InputError: `path` or one of its parents is a file; `path` contains the current folder;
            `path` contains other files; or `path` is not empty, and `overwrite` is False.
    """
    check_no_file(path, argument)
    if not path.name or Path.cwd().is_relative_to(path.resolve()):
        raise InputError(
            f"`{argument}` must not be the current folder or a folder that contains the current "
            f"folder. Received: {argument}={path}. Choose a new folder."
        )
    names = {entry.name for entry in path.iterdir()} if path.exists() else set()
    if foreign := sorted(names - contents):
        raise InputError(
            f"{path} contains other files ({', '.join(foreign[:3])}). Choose another folder as "
            f"`{argument}`."
        )
    if names and not overwrite:
        raise InputError(
            f"{path} already exists. Replace it with `overwrite=True`, or choose another folder as "
            f"`{argument}`."
        )


@contextlib.contextmanager
def new_folder(
    path: Path, *, contents: set[str], overwrite: bool = False, argument: str = "output"
) -> Iterator[Path]:
    """Yields an empty folder, and renames it to `path` after it was filled.

    Args:
        path: path of the complete folder.
        contents: names of the files and folders that a complete folder can contain. A folder with
            other files is never replaced.
        overwrite: True to replace an earlier folder after the new folder is complete.
        argument: name of the argument with which the user sets the path, for error messages.

    Yields:
        An empty folder. If an error occurs before it is complete, it is deleted.

    Raises:
        InputError: `path` or one of its parents is a file; `path` contains other files; or `path`
            is not empty, and `overwrite` is False; or another process writes the folder.
        OSError: the disk is full.
    """
    check_new_folder(path, contents=contents, overwrite=overwrite, argument=argument)
    new_parents = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # For a short time, the temporary folder contains the only copy of the earlier folder. Its
        # name must be unique, so that no other process deletes it.
        with (
            _locked_path(path, argument),
            tempfile.TemporaryDirectory(
                prefix=f".unfinished.{path.name}.", dir=path.parent
            ) as unfinished,
        ):
            new, old = Path(unfinished) / "new", Path(unfinished) / "old"
            new.mkdir()
            with explain_write_errors(path):
                yield new
            try:
                if path.exists():
                    os.replace(path, old)
                os.replace(new, path)
            finally:
                if old.exists() and not path.exists():
                    os.replace(old, path)
    finally:
        _delete_empty(new_parents)  # they are empty if writing has failed


@contextlib.contextmanager
def _locked_path(path: Path, argument: str) -> Iterator[None]:
    """Prevents that another process writes `path` with this function at the same time.

    The path itself does not need to exist.

    Raises:
        InputError: another process writes the path.
    """
    lock = path.with_name(f".unfinished.{path.name}.lock")
    with lock.open("wb") as file:
        _lock(file.fileno(), path, argument)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _delete_empty(folders: Iterable[Path]) -> None:
    """Deletes folders that are empty, and skips all other folders."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
