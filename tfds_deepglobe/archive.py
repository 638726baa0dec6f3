"""Finds, reads and verifies the files of a raw archive: a folder or a zip, read in place."""

import collections
import concurrent.futures
import dataclasses
import io
import os
import posixpath
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin
from tqdm import tqdm

from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, RGB, ClassTable
from tfds_deepglobe.errors import InputError, UnknownColorError
from tfds_deepglobe.file_names import IMAGE_GLOB, MASK_PATTERN, FileNames

DOWNLOAD = (
    'Download DeepGlobe from Kaggle, "balraj98/deepglobe-land-cover-classification-dataset" '
    "(https://www.kaggle.com/datasets/balraj98/deepglobe-land-cover-classification-dataset), and "
    "give its folder or its zip: it must hold "
    f"{IMAGE_GLOB.replace('*', '<id>')} with {MASK_PATTERN.replace('*', '<id>')}. "
    "`python train.py --data demo` works without it."
)
_OTHER_NAMES = (
    "Say what your files are called by --image-glob and --mask-pattern, such as "
    "--image-glob 'images/*.tif' --mask-pattern 'labels/*_gt.png'."
)

# Kaggle's archive has images without masks in these folders.
_UNLABELLED_FOLDERS = ("valid", "test")
# Largest file accepted, 16384x16384 pixels. It bounds memory in place of Pillow's own limit against
# decompression bombs, which large scenes exceed.
_MAX_PIXELS = 1 << 28
# Decoders by Pillow's name of the format, and how files of that format begin. Not `Image.open`,
# which guesses the format.
_DECODERS = {
    "JPEG": (JpegImagePlugin.JpegImageFile, (b"\xff\xd8",)),
    "PNG": (PngImagePlugin.PngImageFile, (b"\x89PNG",)),
    "TIFF": (TiffImagePlugin.TiffImageFile, (b"II", b"MM")),
    "BMP": (BmpImagePlugin.BmpImageFile, (b"BM",)),
}
_NO_TABLE = (
    "the archive has no class_dict.csv with classes of its own, so that DeepGlobe's seven count"
)
_HOW_TO_RGB = (
    "`gdal_translate -b 1 -b 2 -b 3 -co PHOTOMETRIC=RGB in.tif out.tif` makes RGB of a scene's "
    "first three bands, with `-ot Byte -scale MIN MAX`, the same for all images, where they have "
    "more bits"
)
_MAX_EXAMPLES = 4  # names of files in a message
# Beyond this many workers the disk is the limit, and the look-ahead costs memory.
_MAX_WORKERS = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class File:
    """A file of an archive: its path from the archive's root, with slashes, and its bytes."""

    name: str
    size: int

    @property
    def folder(self) -> str:
        """Path of the folder that holds the file, from the archive's root; the root is `""`."""
        return posixpath.dirname(self.name)


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    id: str
    image: File
    mask: File


@dataclasses.dataclass(frozen=True)
class Archive:
    """What a folder or a zip holds.

    Attributes:
        path: the folder or the zip.
        pairs: the labelled images, by id.
        classes: the class table: `class_dict.csv`, or DeepGlobe's where there is none.
        has_class_table: whether there is a `class_dict.csv`.
        names: what the files are called.
        unlabelled: how many images without masks lie in folders named `valid` and `test`.
        faults: what is wrong with the files' names, a line each.
        source: reads the files.
    """

    path: Path
    pairs: tuple[Pair, ...]
    classes: ClassTable
    has_class_table: bool
    names: FileNames
    unlabelled: Mapping[str, int]
    faults: tuple[str, ...]
    source: "_Folder | _Zip"

    @property
    def image_encoding(self) -> str:
        """How `encode_image` encodes every image: "jpeg" or "png"."""
        return "jpeg" if self.names.images.format == "JPEG" else "png"

    def encode_image(self, pair: Pair) -> bytes:
        """Gives an image as a whole JPEG or PNG file, without any loss.

        Args:
            pair: one of `pairs`.

        Returns:
            The file's own bytes where it is JPEG or PNG; else its pixels as PNG.

        Raises:
            InputError: the file cannot be used; the message begins with its name.
        """
        try:
            data = self.source.read(pair.image.name)
            if self.names.images.format in ("JPEG", "PNG"):
                return data
            return _png(_decode_image(data, self.names.images.format))
        except InputError as error:
            raise InputError(f"{pair.image.name}: {error}") from error

    def encode_mask(self, pair: Pair, color_map: Mapping[RGB, int]) -> np.ndarray:
        """Reads a mask as class ids.

        Args:
            pair: one of `pairs`.
            color_map: class ids of colours that are not in the class table.

        Returns:
            uint8 `(height, width)`, class ids.

        Raises:
            InputError: the file cannot be used; the message begins with its name.
        """
        try:
            mask = _decode_mask(self.source.read(pair.mask.name), self.names.masks.format)
            return self.classes.encode(mask, color_map)
        except UnknownColorError as error:
            hint = "" if self.has_class_table else "; " + _NO_TABLE
            raise InputError(f"{pair.mask.name}: {error}{hint}") from error
        except InputError as error:
            raise InputError(f"{pair.mask.name}: {error}") from error


@dataclasses.dataclass(frozen=True)
class Report:
    """What `verify` found.

    Attributes:
        faults: what is wrong, a line each; empty if nothing is.
        sizes: how many images have each `(width, height)` in pixels.
        pixels: int64 `(num_classes,)`, pixels of each class.
    """

    faults: tuple[str, ...]
    sizes: Mapping[tuple[int, int], int]
    pixels: np.ndarray


def open_archive(path: str | Path, names: FileNames | None = None) -> Archive:
    """Finds the images and masks of an archive, without reading them.

    Args:
        path: a folder or a zip with images and masks at any depth. Hidden files and `__MACOSX` are
            skipped.
        names: what the files are called; None for `<id>_sat.jpg` and `<id>_mask.png`.

    Raises:
        InputError: the path is missing, is no archive, or holds no image with a mask; or the class
            table is faulty.
        OSError: a folder cannot be listed.
    """
    path = Path(path)
    names = names or FileNames.parse()
    how = DOWNLOAD if names.is_deepglobe else ""
    if not path.exists():
        raise InputError(f"{path} does not exist. {how or 'Name a folder or a zip.'}")
    source = _Folder(path) if path.is_dir() else _Zip(path)
    files, faults = [], []
    for file in source.files():
        if _leaves(file.name):
            faults.append(f"{file.name}: its path leaves the archive")
        elif not any(p.startswith(".") or p == "__MACOSX" for p in file.name.split("/")):
            files.append(file)
    files.sort(key=lambda file: file.name)
    pairs, unlabelled, unpaired = _match(files, names, root=path.name if path.is_dir() else "")
    # With names of the user's own, one mistake in a pattern would be a fault of every file.
    nothing_fits = not pairs and not names.is_deepglobe
    if not (pairs or faults or unpaired) or nothing_fits:
        how = " ".join([_OTHER_NAMES] * bool(files) + [how] * bool(how))
        raise InputError(f"no labelled image in {path}: {_inventory(files, names)}. {how}".rstrip())
    faults += unpaired
    classes = _read_class_table(source, files)
    return Archive(
        path=path,
        pairs=tuple(pairs),
        classes=classes or DEEPGLOBE_CLASSES,
        has_class_table=classes is not None,
        names=names,
        unlabelled=unlabelled,
        faults=tuple(sorted(faults)),
        source=source,
    )


def verify(archive: Archive, color_map: Mapping[RGB, int]) -> Report:
    """Reads and decodes every file of an archive, on all cores, with a progress bar.

    Args:
        archive: from `open_archive`.
        color_map: class ids of colours that are not in the class table.

    Returns:
        All faults, and statistics of the faultless pairs.
    """

    def inspect(pair: Pair) -> tuple[list[str], tuple[int, int] | None, list[int]]:
        faults, image_size, mask_size, pixels = [], None, None, [0] * archive.classes.num_classes
        try:
            data = archive.source.read(pair.image.name)
            image_size = _decode_image(data, archive.names.images.format).size
        except InputError as error:
            faults.append(f"{pair.image.name}: {error}")
        try:
            class_ids = archive.encode_mask(pair, color_map)
            mask_size = class_ids.shape[::-1]
            pixels = Image.fromarray(class_ids).histogram()[: archive.classes.num_classes]
        except InputError as error:
            faults.append(str(error))
        if image_size and mask_size and image_size != mask_size:
            faults.append(
                f"{pair.mask.name}: is {_size(mask_size)}, but {pair.image.name} is "
                f"{_size(image_size)}"
            )
        return faults, image_size, pixels

    faults, sizes = list(archive.faults), collections.Counter()
    pixels = np.zeros(archive.classes.num_classes, np.int64)
    for pair_faults, size, pair_pixels in ordered_map(inspect, archive.pairs, "verifying"):
        faults += pair_faults
        if not pair_faults:
            sizes[size] += 1
            pixels += pair_pixels
    return Report(tuple(faults), sizes, pixels)


def describe(archive: Archive) -> str:
    """Says in a line what an archive holds."""
    text = f"{len(archive.pairs)} labelled images, {archive.classes.num_classes} classes"
    if archive.unlabelled:
        folders = ", ".join(f"{name}/" for name in archive.unlabelled)
        text += f"; {sum(archive.unlabelled.values())} unlabelled images in {folders} left out"
    return text


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], description: str
) -> Iterator[Result]:
    """Maps a function on threads on all cores, in order, with a progress bar.

    Threads serve, since Pillow, numpy and zlib release the interpreter lock. At most two results
    per thread are held, so memory does not grow with the number of items.

    Args:
        function: called from several threads at once.
        items: its arguments.
        description: label of the progress bar.

    Yields:
        The results, in the order of the items.
    """
    items = list(items)
    workers = min(num_cores(), _MAX_WORKERS)
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    pending = collections.deque()
    # Where it is not a terminal that shows the bar, each update is a line of a log.
    interval = 0.2 if sys.stderr.isatty() else 10.0
    try:
        with tqdm(total=len(items), desc=description, unit="image", mininterval=interval) as bar:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) == 2 * workers:
                    yield pending.popleft().result()
                    bar.update()
            while pending:
                yield pending.popleft().result()
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)


def num_cores() -> int:
    """Counts the cores this process may use; `os.cpu_count` counts those it is kept from, too."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Folder:
    """Reads files from a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def files(self) -> Iterator[File]:
        def fail(error: OSError) -> None:  # os.walk would skip what it cannot list
            raise error

        for folder, _, names in os.walk(self._path, onerror=fail, followlinks=True):
            for name in names:
                path = Path(folder, name)
                # A dangling link has no size; reading it becomes a fault later.
                size = path.stat().st_size if path.exists() else 0
                yield File(path.relative_to(self._path).as_posix(), size)

    def read(self, name: str) -> bytes:
        try:
            return (self._path / name).read_bytes()
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}") from error


class _Zip:
    """Reads files from a zip, without extracting it."""

    def __init__(self, path: Path) -> None:
        self._members: dict[str, zipfile.ZipInfo] = {}
        try:
            self._zip = zipfile.ZipFile(path)  # may be read from several threads
        except zipfile.BadZipFile as error:
            raise InputError(
                f"{path} is neither a folder nor a whole zip ({error}); the download may have "
                f"been cut short. {DOWNLOAD}"
            ) from error

    def files(self) -> Iterator[File]:
        for member in self._zip.infolist():
            if not member.is_dir():
                # Some tools write "./train/1_sat.jpg" or backslashes.
                name = posixpath.normpath(member.filename.replace("\\", "/"))
                self._members[name] = member
                yield File(name, member.file_size)

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(self._members[name])
        # zipfile has no common error: a wrong checksum, a broken stream, an encrypted member.
        except Exception as error:
            raise InputError(f"cannot be read from the zip: {error}") from error


def _leaves(name: str) -> bool:
    """Whether a normalised path would, on any operating system, leave the archive's root."""
    return name.startswith(("/", "../")) or name == ".." or name[1:2] == ":"


def _match(
    files: Iterable[File], names: FileNames, root: str
) -> tuple[list[Pair], dict[str, int], list[str]]:
    """Finds pairs: `(pairs by id, unlabelled images by folder name, faults)`."""
    by_id: dict[str, tuple[list[_Place], list[_Place]]] = {}
    for file in files:
        if matched := names.match(file.name):
            image_id, top, is_mask = matched
            by_id.setdefault(image_id, ([], []))[is_mask].append(_Place(top, file))
    tops_with_masks = {mask.top for _, masks in by_id.values() for mask in masks}

    def folder_name(image: _Place) -> str:
        return posixpath.basename(image.top) or root

    pairs, unlabelled, faults = [], collections.Counter(), []
    for image_id, (images, masks) in sorted(by_id.items()):
        if len(images) > 1 or len(masks) > 1:
            places = ", ".join(p.file.name for p in (images if len(images) > 1 else masks))
            faults.append(f"duplicate id {image_id}: {places}")
        if len(images) == len(masks) == 1:  # be they in one folder or in images/ and masks/
            pairs.append(Pair(image_id, images[0].file, masks[0].file))
            continue
        mask_in = {mask.top: mask.file for mask in masks}
        for image in images:
            if image.top in mask_in:
                pairs.append(Pair(image_id, image.file, mask_in.pop(image.top)))
            elif folder_name(image) in _UNLABELLED_FOLDERS and image.top not in tops_with_masks:
                unlabelled[folder_name(image)] += 1
            else:
                faults.append(f"{image.file.name}: missing partner {names.masks.name_of(image_id)}")
        for mask in mask_in.values():
            faults.append(f"{mask.name}: missing partner {names.images.name_of(image_id)}")
    return pairs, {n: unlabelled[n] for n in _UNLABELLED_FOLDERS if unlabelled[n]}, faults


class _Place(NamedTuple):
    """A file, and the path of the folder in which the pattern that it matches begins."""

    top: str
    file: File


def _inventory(files: Sequence[File], names: FileNames) -> str:
    """Says what was found where images and masks were expected."""
    if not files:
        return "found no file"
    kinds = collections.Counter(posixpath.splitext(file.name)[1] or "no suffix" for file in files)
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(8))
    found = f"found {len(files)} file{'s' * (len(files) != 1)}: {listed}"
    matches = {file.name: names.match(file.name) for file in files}
    masks = [is_mask for *_, is_mask in filter(None, matches.values())]
    found += (
        f"; {masks.count(False)} images match {names.images}, {masks.count(True)} masks match "
        f"{names.masks}"
    )
    # One other file of each folder says more than several of one.
    examples = {file.folder: file.name for file in reversed(files) if not matches[file.name]}
    if examples:
        found += f"; other files are {', '.join(sorted(examples.values())[:_MAX_EXAMPLES])}"
    return found


def _read_class_table(source: _Folder | _Zip, files: Iterable[File]) -> ClassTable | None:
    """Reads `class_dict.csv` at the root or one level in; None without one."""
    names = [
        file.name
        for file in files
        if posixpath.basename(file.name) == "class_dict.csv" and file.name.count("/") <= 1
    ]
    tables = {}
    for name in sorted(names, key=lambda name: (name.count("/"), name)):
        try:
            tables[name] = ClassTable.from_csv(source.read(name))
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    if len(set(tables.values())) > 1:
        raise InputError(f"the class tables {', '.join(tables)} differ: keep one")
    return next(iter(tables.values()), None)


def _decode(data: bytes, kind: str, otherwise: str = "") -> Image.Image:
    """Decodes a whole file of a format, by its name in Pillow; of several pages the first.

    `otherwise` says how to mend a file that Pillow knows the format of, but not the pixels.
    """
    decoder, beginnings = _DECODERS[kind]
    if not data.startswith(beginnings):
        raise InputError(f"is not a {kind} file, whatever its name says")
    # Pillow has no common error for broken files: OSError, SyntaxError, ValueError and more occur.
    try:
        image = decoder(io.BytesIO(data))
    except Exception as error:
        raise InputError(f"is not a {kind} file that can be read: {error}{otherwise}") from error
    if image.width * image.height > _MAX_PIXELS:
        raise InputError(f"is {_size(image.size)}, more than {_MAX_PIXELS} pixels")
    # Pillow reads PNG of 16 bits as 8-bit RGB without a word, so the header's bit depth is asked.
    if kind == "PNG" and data[24] > 8:
        raise InputError(f"has mode {image.mode} of {data[24]} bits; expected 8 bits a channel")
    try:
        image.load()
    except Exception as error:
        raise InputError(f"is truncated or broken: {error}") from error
    return image


def _decode_image(data: bytes, kind: str) -> Image.Image:
    """Decodes an image of mode RGB, or RGBA with nothing transparent."""
    otherwise = f"; {_HOW_TO_RGB}" if kind == "TIFF" else ""
    image = _decode(data, kind, otherwise)
    if image.mode != "RGB" and not _is_opaque(image):
        raise InputError(f"has mode {image.mode}; expected RGB, 3 channels of 8 bits{otherwise}")
    return image


def _decode_mask(data: bytes, kind: str) -> np.ndarray:
    """Decodes a mask as its colours, uint8 `(height, width, 3)`; gray ones have r = g = b."""
    mask = _decode(data, kind)
    if mask.mode not in ("RGB", "P", "L", "1") and not _is_opaque(mask):
        raise InputError(f"has mode {mask.mode}; expected RGB or gray of 8 bits, or a palette")
    return np.asarray(mask.convert("RGB"))


def _is_opaque(image: Image.Image) -> bool:
    """Whether an image is RGB with an alpha channel that says nothing."""
    return image.mode == "RGBA" and image.getextrema()[3] == (255, 255)


def _png(image: Image.Image) -> bytes:
    """Encodes an image's three colours as PNG."""
    data = io.BytesIO()
    image.convert("RGB").save(data, "PNG")
    return data.getvalue()


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
