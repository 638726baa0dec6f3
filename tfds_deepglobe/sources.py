"""Reading of the files in an archive, which is a folder or a zip. A zip is not extracted."""

import dataclasses
import lzma
import os
import posixpath
import struct
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
    OverflowError,
    struct.error,
    lzma.LZMAError,
    zlib.error,
)
# The last record of a zip, "end of central directory" (APPNOTE.TXT 4.3.16), and the record with the
# same purpose in a large zip (4.3.14). In each record, the number of files is at a fixed offset.
_END, _END_NUMBER = b"PK\5\6", struct.Struct("<10xH")
_END64, _END64_NUMBER = b"PK\6\6", struct.Struct("<32xQ")
# Bytes of the largest file that is read from a zip. Without a limit, a small zip could fill the
# memory ("decompression bomb").
MAX_SIZE = 1 << 30
_MAX_END = 65_700  # size of the last record with its longest comment, and of the fields before it


@dataclasses.dataclass(frozen=True)
class File:
    """A file of an archive.

    Attributes:
        name: path relative to the archive's root, with slashes.
        size: file size, bytes.
        times: times of the last change of the content and of the metadata, in nanoseconds. For a
            file in a zip, they are the times of the zip.
        parts: names of all files of an image that has one file per band. `name` is the first name,
            `size` is the sum of the sizes, and `times` are the latest times. Empty for other files.
    """

    name: str
    size: int
    times: tuple[int, int] = dataclasses.field(default=(0, 0), compare=False)
    parts: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    @property
    def folder(self) -> str:
        """Path of the file's folder relative to the archive's root; `""` for the root."""
        return posixpath.dirname(self.name)


class Folder:
    """An archive that is a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._checksums: dict[str, int] = {}

    def files(self) -> Iterator[File]:
        """Yields the files in the folder and in all its subfolders.

        Symbolic links are followed, except links to a folder that contains the link.

        Raises:
            OSError: A folder cannot be listed.
        """

        def fail(error: OSError) -> None:  # by default, os.walk skips folders it cannot list
            raise error

        for folder, subfolders, names in os.walk(self._path, onerror=fail, followlinks=True):
            subfolders[:] = [name for name in subfolders if not self._is_loop(Path(folder, name))]
            for name in names:
                path = Path(folder, name)
                relative = path.relative_to(self._path).as_posix()
                if path.exists():
                    stat = path.stat()
                    if not path.is_file():  # such as a named pipe, which would block the reader
                        continue
                    yield File(relative, stat.st_size, (stat.st_mtime_ns, stat.st_ctime_ns))
                else:  # a link to a file that does not exist; `read` raises an error for it
                    yield File(relative, 0)

    def _is_loop(self, path: Path) -> bool:
        """Returns True if a path is a link to a folder that contains the link."""
        if not path.is_symlink():
            return False
        target = path.resolve()
        passed = (path.parents[i] for i in range(len(path.relative_to(self._path).parts)))
        return any(folder.resolve().is_relative_to(target) for folder in passed)

    def read(self, name: str) -> bytes:
        """Returns the content of a file.

        Raises:
            InputError: The file cannot be read.
        """
        try:
            content = (self._path / name).read_bytes()
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}") from error
        self._checksums[name] = zlib.crc32(content)
        return content

    def checksum(self, name: str) -> int:
        """Returns the CRC-32 of a file. The file is read, unless it was read before.

        Raises:
            InputError: The file cannot be read.
        """
        if name not in self._checksums:
            self.read(name)
        return self._checksums[name]


class Zip:
    """An archive that is a zip. Its files are read without extracting the zip.

    Several threads may read files at the same time.

    Raises:
        InputError: The file is not a zip, or the zip is truncated or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._members: dict[str, zipfile.ZipInfo] = {}
        stat = path.stat()
        self._times = stat.st_mtime_ns, stat.st_ctime_ns
        try:
            self._zip = zipfile.ZipFile(path)
            _check_number_of_files(path, len(self._zip.infolist()))
            if any(not member.filename for member in self._zip.infolist()):
                raise zipfile.BadZipFile("its list contains a file without a name")
        except _ZIP_ERRORS as error:
            if isinstance(error, OSError) and error.errno:  # such as a missing permission
                raise
            raise InputError(
                f"{path} is neither a folder nor a complete zip ({error}). If it is another kind "
                "of archive, unpack it. If it is a zip, download it again, or repair it: "
                "`zip -FF BROKEN.zip --out NEW.zip`."
            ) from error

    def files(self) -> Iterator[File]:
        """Yields all files in their order in the zip."""
        for member in self._zip.infolist():
            if not member.is_dir():
                # Normalize the path, because some programs write "./train/1_sat.jpg" or
                # backslashes.
                name = posixpath.normpath(member.filename.replace("\\", "/"))
                self._members[name] = member
                yield File(name, member.file_size, self._times)

    def read(self, name: str) -> bytes:
        """Returns the content of a file.

        Raises:
            InputError: The file cannot be read.
        """
        member = self._members[name]
        if member.file_size > MAX_SIZE:  # `zipfile` reads no more than this number of bytes
            raise InputError(
                f"has {member.file_size / 1e9:.1f} GB, but at most {MAX_SIZE / 1e9:.1f} GB are "
                "read from a zip; unpack the zip, if you trust its origin"
            )
        try:
            return self._zip.read(member)
        except _ZIP_ERRORS as error:
            raise InputError(f"cannot be read from the zip: {error}") from error

    def checksum(self, name: str) -> int:
        """Returns the CRC-32 of a file from the list of files, without reading the file."""
        return self._members[name].CRC


def _check_number_of_files(path: Path, found: int) -> None:
    """Compares the number of files in the list of a zip with the number in its last record.

    `zipfile` does not compare these numbers. Therefore, if the list ends early, `zipfile` finds
    fewer files and raises no error.

    Raises:
        zipfile.BadZipFile: The numbers differ.
    """
    with path.open("rb") as file:
        file.seek(-min(_MAX_END, path.stat().st_size), os.SEEK_END)
        end = file.read()
    place = end.rfind(_END)
    (expected,) = _END_NUMBER.unpack_from(end, place)
    if expected == 0xFFFF and (place := end.rfind(_END64, 0, place)) >= 0:
        (expected,) = _END64_NUMBER.unpack_from(end, place)
    # Some programs write the lowest 16 bits of a larger number.
    if found != expected and found % 0x10000 != expected:
        raise zipfile.BadZipFile(f"its list contains {found} of {expected} files")
