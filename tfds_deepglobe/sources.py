"""Reads the files of an archive in place: from a folder or from a zip."""

import dataclasses
import lzma
import os
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from tfds_deepglobe.errors import InputError

# Errors of zipfile and its decompressors for a damaged, encrypted or unsupported member, found with
# randomly damaged zips. NotImplementedError is a RuntimeError, UnicodeDecodeError a ValueError.
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
        name: path from the archive's root, with slashes.
        size: bytes.
    """

    name: str
    size: int

    @property
    def folder(self) -> str:
        """Path of the file's folder from the archive's root; `""` for the root."""
        return posixpath.dirname(self.name)


class Folder:
    """Files of a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def files(self) -> Iterator[File]:
        """Yields all files at any depth. Links are followed.

        Raises:
            OSError: A folder cannot be listed.
        """

        def fail(error: OSError) -> None:  # by default, os.walk skips such a folder
            raise error

        for folder, _, names in os.walk(self._path, onerror=fail, followlinks=True):
            for name in names:
                path = Path(folder, name)
                # A dangling link has no size. Reading it is an error later.
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
    """Files of a zip, read without extracting it, from several threads if needed.

    Raises:
        InputError: The file is not a zip, or a truncated zip.
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
        """Yields all files in the order of the zip."""
        for member in self._zip.infolist():
            if not member.is_dir():
                # Some programs write "./train/1_sat.jpg" or backslashes.
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
