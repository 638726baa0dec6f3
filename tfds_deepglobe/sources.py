"""Reading of the files in an archive, which is a folder or a zip. A zip is not extracted."""

import dataclasses
import lzma
import os
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from tfds_deepglobe.errors import InputError

# Errors that `zipfile` and its decompressors raise if a file in a zip is damaged, encrypted or
# compressed with an unsupported method. They were found with randomly damaged zips. RuntimeError
# includes NotImplementedError, and ValueError includes UnicodeDecodeError.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    RuntimeError,
    ValueError,
    EOFError,
    OSError,
    lzma.LZMAError,
    zlib.error,
)


@dataclasses.dataclass(frozen=True)
class File:
    """A file of an archive.

    Attributes:
        name: path relative to the archive's root, with slashes.
        size: file size, bytes.
    """

    name: str
    size: int

    @property
    def folder(self) -> str:
        """Path of the file's folder relative to the archive's root; `""` for the root."""
        return posixpath.dirname(self.name)


class Folder:
    """An archive that is a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def files(self) -> Iterator[File]:
        """Yields the files in the folder and in all its subfolders. Follows symbolic links.

        Raises:
            OSError: A folder cannot be listed.
        """

        def fail(error: OSError) -> None:  # by default, os.walk skips folders it cannot list
            raise error

        for folder, _, names in os.walk(self._path, onerror=fail, followlinks=True):
            for name in names:
                path = Path(folder, name)
                # A link to a file that does not exist has no size. `read` raises an error for it.
                size = path.stat().st_size if path.exists() else 0
                yield File(path.relative_to(self._path).as_posix(), size)

    def read(self, name: str) -> bytes:
        """Returns the content of a file.

        Raises:
            InputError: The file cannot be read.
        """
        try:
            return (self._path / name).read_bytes()
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}") from error


class Zip:
    """An archive that is a zip. Its files are read without extracting the zip.

    Several threads may read files at the same time.

    Raises:
        InputError: The file is not a zip, or the zip is truncated.
    """

    def __init__(self, path: Path) -> None:
        self._members: dict[str, zipfile.ZipInfo] = {}
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path} is neither a folder nor a complete zip ({error}). Download it again if "
                "the download was interrupted."
            ) from error

    def files(self) -> Iterator[File]:
        """Yields all files in their order in the zip."""
        for member in self._zip.infolist():
            if not member.is_dir():
                # Normalize the path, because some programs write "./train/1_sat.jpg" or
                # backslashes.
                name = posixpath.normpath(member.filename.replace("\\", "/"))
                self._members[name] = member
                yield File(name, member.file_size)

    def read(self, name: str) -> bytes:
        """Returns the content of a file.

        Raises:
            InputError: The file cannot be read.
        """
        member = self._members[name]
        try:
            return self._zip.read(member)
        except _ZIP_ERRORS as error:
            raise InputError(f"cannot be read from the zip: {error}") from error
