"""Opening and verification of a raw archive: a folder or a zip with images and masks.

A fault is a reason why a file of the archive cannot be used, such as a damaged image or a missing
mask. An archive may contain a class table, `class_dict.csv`.
"""

import collections
import contextlib
import dataclasses
import posixpath
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tfds_deepglobe.bands import Bands, Raster, find_bands, parse_bands, read_raster
from tfds_deepglobe.class_files import (
    MAX_SIZE,
    TABLE,
    TABLE_FILES,
    NoClassTableError,
    read_class_table,
)
from tfds_deepglobe.classes import (
    DEEPGLOBE_CLASSES,
    RGB,
    VOID_ID,
    ClassTable,
    other_palette_text,
    parse_color_map,
)
from tfds_deepglobe.decoding import decode_image, decode_mask, encode_png, size_text
from tfds_deepglobe.errors import (
    FileFaultsError,
    InputError,
    OtherPaletteError,
    UnknownColorError,
    UnsupportedBandsError,
    listed,
    shorten,
)
from tfds_deepglobe.file_names import IMAGE_GLOB, MASK_PATTERN, FileNames, looks_like_image
from tfds_deepglobe.layouts import recognize_layout
from tfds_deepglobe.pairing import Pair, inventory, pair_files
from tfds_deepglobe.parallel import ordered_map
from tfds_deepglobe.relabeling import Relabeling, relabel
from tfds_deepglobe.sources import File, Folder, Zip
from tfds_deepglobe.words import OTHER_WORDS, without_kinds, words_of

DOWNLOAD = (
    "Download DeepGlobe from Kaggle ("
    "https://www.kaggle.com/datasets/balraj98/deepglobe-land-cover-classification-dataset), as a "
    f"zip or folder that contains {IMAGE_GLOB.replace('*', '<id>')} with "
    f"{MASK_PATTERN.replace('*', '<id>')}."
)
_OTHER_NAMES = (
    "If your files have other names, set `image_glob` and `mask_pattern`, such as "
    '`image_glob="images/*.tif"` and `mask_pattern="labels/*_gt.png"`.'
)
_USUAL_NAMES = (
    "Recognized names: folders (images/7.tif with masks/7.png, labels/7.png, annotations/7.png or "
    "gt/7.png) and suffixes (7.jpg with 7_mask.png, 7_label.png, 7_gt.png or 7_seg.png)."
)
_MAX_COLORS = 12  # colors in a table
# Limits of the search for class tables with other names: bytes per text file, number of files.
# With these limits, the search is short in archives with many text files.
_MAX_TABLE_SIZE, _MAX_TEXTS = 100_000, 20
_MAX_DEPTH = 100  # folders in a path; layouts are searched in all folders of a path
_MAX_TRIES = 5  # number of images in which bands are searched
_NO_TABLE = "the archive has no class_dict.csv, therefore the classes of DeepGlobe are used"
_ORIENTATIONS = (
    "has the orientation tag {}, but its mask ({}) has the orientation tag {}; lcc_tf ignores "
    "these tags, so the mask may not fit the image; if viewers show that both fit, rotate the "
    "stored pixels: `magick FILE -auto-orient FILE`; if the stored pixels fit, delete the tag: "
    "`exiftool -Orientation= FILE`"
)


@dataclasses.dataclass(frozen=True)
class Example:
    """An image and its decoded mask.

    Attributes:
        image: image with 8 bits per channel, in RGB, or in RGBA without transparent pixels. The
            pixels of a JPEG image are decoded when they are first used. Two threads must not use
            this image at the same time. If the archive has `bands`, a `Raster` with these bands.
        class_ids: mask as class ids, uint8 `(height, width)`; `VOID_ID` for void pixels.
        image_file: content of the image file.
    """

    image: Image.Image | Raster
    class_ids: np.ndarray
    image_file: bytes

    def encoded_image(self) -> bytes | np.ndarray:
        """Returns the image as the content of a JPEG or PNG file, without loss.

        JPEG and PNG files are not changed. Files of other formats are converted to PNG. If the
        archive has `bands`, returns the pixels, `(height, width, bands)`.
        """
        if isinstance(self.image, Raster):
            return self.image.values
        if self.image.format in ("JPEG", "PNG"):
            return self.image_file
        return encode_png(self.image.convert("RGB"))

    def encoded_mask(self) -> bytes:
        """Returns the class ids as the content of a PNG file with one channel."""
        # With level 1, TensorFlow decodes a mask of DeepGlobe in half of the time. The file is
        # twice as large, but is small compared to its image.
        return encode_png(Image.fromarray(self.class_ids), level=1)


@dataclasses.dataclass(frozen=True)
class Archive:
    """Images, masks and classes of a folder or a zip.

    Attributes:
        path: path of the folder or the zip.
        pairs: pairs of an image and its mask, sorted by id.
        mask_classes: class table of the masks. If the archive contains no class table, this is
            the class table of DeepGlobe.
        table: name of the file with the class table; None if the archive contains no class table.
        names: name patterns of images and masks.
        unlabeled: number of images without masks. Key: name of a folder, such as `test`. Value:
            number of such images in folders with this name.
        left_out: names of image files that match no name pattern.
        faults: faults that were found without reading the files, such as missing masks; one line
            per fault.
        source: folder or zip from which the files are read.
        relabeling: conversion of the classes of the masks to the classes for training; None if
            both are the same classes.
        bands: bands of the images; None for images in RGB with 8 bits per channel.
        named_bands: numbers of the bands that the user named.
        turned: names of images with orientation tags, among the images that `read` has decoded.
            The tags are not applied.
        contents: contents of files that `with_bands` has read. `read` does not read these files
            again.
    """

    path: Path
    pairs: tuple[Pair, ...]
    mask_classes: ClassTable
    table: str | None
    names: FileNames
    unlabeled: Mapping[str, int]
    left_out: tuple[str, ...]
    faults: tuple[str, ...]
    source: Folder | Zip
    relabeling: Relabeling | None = None
    bands: Bands | None = None
    named_bands: Collection[int] = ()
    turned: set[str] = dataclasses.field(default_factory=set, compare=False)
    contents: dict[str, bytes] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def has_class_table(self) -> bool:
        """True if the archive contains a class table."""
        return self.table is not None

    @property
    def classes(self) -> ClassTable:
        """Classes for training."""
        return self.relabeling.classes if self.relabeling else self.mask_classes

    @property
    def image_encoding(self) -> str:
        """Encoding of the images that `Example.encoded_image` returns: "jpeg", "png" or "raw"."""
        if self.bands:
            return "raw"
        return "jpeg" if self.names.images.format == "JPEG" else "png"

    def read(self, pair: Pair, color_map: Mapping[RGB, int]) -> Example:
        """Reads and decodes an image and its mask.

        Args:
            pair: an element of `pairs`.
            color_map: class ids of colors that are not in the class table.

        Raises:
            FileFaultsError: The image or the mask cannot be used.
        """
        faults = []
        try:
            image, turned, image_file = self._read_image(pair.image)
        except InputError as error:
            faults.append((pair.image.name, error))
        try:
            mask, mask_turned = decode_mask(
                self.source.read(pair.mask.name),
                self.names.masks.format,
                {*self.mask_classes.palette, *color_map},
            )
            class_ids = self.mask_classes.encode(mask, color_map)
            if self.relabeling:
                class_ids = self.relabeling(class_ids)
        except InputError as error:
            faults.append((pair.mask.name, error))
        if faults:
            raise FileFaultsError(*faults)
        if turned != mask_turned:
            error = InputError(_ORIENTATIONS.format(turned, self.names.masks, mask_turned))
            raise FileFaultsError((pair.image.name, error))
        if turned != 1:
            self.turned.add(pair.image.name)
        if image.size != class_ids.shape[::-1]:
            error = InputError(
                f"has {size_text(class_ids.shape[::-1])} pixels, but "
                f"{pair.image.name} has {size_text(image.size)} pixels"
            )
            raise FileFaultsError((pair.mask.name, error))
        if isinstance(image, Raster):
            class_ids = np.where(image.valid, class_ids, np.uint8(VOID_ID))
        return Example(image, class_ids, image_file)

    def checksum(self, file: File) -> int:
        """Returns the CRC-32 of a file, or of all files of an image with one file per band.

        Raises:
            InputError: The file cannot be read.
        """
        if not file.parts:
            return self.source.checksum(file.name)
        checksums = [self.source.checksum(name) for name in file.parts]
        return zlib.crc32(np.array(checksums, np.uint32).tobytes())

    def has_one_color(self, file: File) -> bool:
        """Returns True if an image has only one color, or cannot be decoded."""
        try:
            image, _, _ = self._read_image(file)
        except InputError:
            return True
        if isinstance(image, Raster):
            pixels = image.values[image.valid]
            return bool((pixels == pixels[:1]).all())
        return all(low == high for low, high in image.convert("RGB").getextrema())

    def _content(self, name: str) -> bytes:
        """Returns the content of a file."""
        content = self.contents.pop(name, None)
        return self.source.read(name) if content is None else content

    def _read_image(self, file: File) -> tuple[Image.Image | Raster, int, bytes]:
        """Returns an image, its orientation, and the content of its file.

        For an image with one file per band, the content is empty.
        """
        kind = self.names.images.format
        if self.bands:
            contents = [self._content(name) for name in file.parts or (file.name,)]
            raster = read_raster(contents, kind, self.bands, self.named_bands)
            return raster, raster.orientation, b""
        image_file = self._content(file.name)
        return *decode_image(image_file, kind, pixels=False), image_file


@dataclasses.dataclass(frozen=True)
class Report:
    """Result of `verify`.

    Attributes:
        faults: one line per fault.
        sizes: number of images per size. Key: `(width, height)`, pixels. Value: number of images
            with this size. Images with faults are not counted.
        pixels: number of pixels per class, int64 `(num_classes,)`. Masks with faults are not
            counted.
        num_void: number of void pixels.
    """

    faults: tuple[str, ...]
    sizes: Mapping[tuple[int, int], int]
    pixels: np.ndarray
    num_void: int


def open_archive(path: str | Path, names: FileNames | None = None) -> Archive:
    """Finds the images and masks of an archive without reading them.

    Args:
        path: path of a folder or a zip. The images and masks may be in subfolders. Hidden files and
            the folder `__MACOSX` are skipped.
        names: name patterns of images and masks; None to recognize them, see `recognize_layout`.

    Raises:
        InputError: one of these reasons:

            - The path does not exist, or the file is not a zip.
            - The archive contains no image with a mask.
            - Several layouts are possible.
            - The class table is not valid.
        OSError: The files of a folder cannot be listed.
    """
    path = Path(path)
    if not path.exists():
        download = "" if names else DOWNLOAD
        raise InputError(f"{path} does not exist. {download or 'Choose a folder or a zip.'}")
    source = Folder(path) if path.is_dir() else Zip(path)
    files, faults, names_found = [], [], set[str]()
    for file in source.files():
        if file.name in names_found:
            faults.append(f"{shorten(file.name)}: the zip contains several files with this name")
        elif file.name.count("/") > _MAX_DEPTH:
            faults.append(f"{shorten(file.name)}: the path has more than {_MAX_DEPTH} folders")
        elif _leaves_archive(file.name):
            faults.append(f"{shorten(file.name)}: the path points outside the archive")
        elif looks_like_image(file.name) and not _is_text(file.name):
            faults.append(f"{shorten(file.name)}: the name is not text in UTF-8; rename the file")
        elif not any(p.startswith(".") or p == "__MACOSX" for p in file.name.split("/")):
            files.append(file)
        names_found.add(file.name)
    files.sort(key=lambda file: file.name)
    is_recognized = names is None
    used = files
    if names is None:
        # Skip folders such as `predictions` and `previews`, unless all images are in such folders.
        used = [file for file in files if not OTHER_WORDS & {*words_of(file.folder)}]
        if not any(looks_like_image(file.name) for file in used):
            used = files
        try:
            names = recognize_layout(used) or FileNames.parse()
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    found = pair_files(used, names, root=path.name if path.is_dir() else "")
    used_names = {file.name for file in used}
    left_out = [f.name for f in files if f.name not in used_names and looks_like_image(f.name)]
    # If no pair was found, the patterns are probably wrong. In this case, raise one error instead
    # of one fault per file. DeepGlobe images without masks, and masks without images, are reported
    # as one fault per file.
    if not found.pairs and not (is_recognized and (faults or found.faults)):
        remedies = [_USUAL_NAMES] * is_recognized + [_OTHER_NAMES] * bool(files)
        if is_recognized and not any(looks_like_image(file.name) for file in files):
            remedies = [_OTHER_NAMES] * bool(files) + [DOWNLOAD]
        elif found.faults:
            remedies.append(f"First fault: {found.faults[0]}.")
        text = inventory(files, None if is_recognized else names)
        raise InputError(f"No image with a mask in {path}: {text}. {' '.join(remedies)}".rstrip())
    classes, table = _read_class_table(source, files) or (None, None)
    return Archive(
        path=path,
        pairs=found.pairs,
        mask_classes=classes or DEEPGLOBE_CLASSES,
        table=table,
        names=names,
        unlabeled=found.unlabeled,
        left_out=(*found.left_out, *left_out),
        faults=tuple(sorted((*faults, *found.faults))),
        source=source,
    )


def with_bands(archive: Archive, text: str | None) -> Archive:
    """Reads the first images of an archive to find its bands.

    Args:
        archive: archive, as returned by `open_archive`.
        text: bands to use, such as "4=red,3=green,2=blue,8", see `bands.parse_bands`. None for all
            bands, or for RGB if the images have RGB colors with 8 bits per channel.

    Raises:
        InputError: one of these reasons:

            - `text` is invalid, or none of the first images has these bands.
            - `text` is None, and the first images are NumPy files that cannot be read.
            - `text` is None, and the bands of the first images are not supported.
    """
    named: Collection[int] = parse_bands(text)[1] if text is not None else ()
    if archive.names.bands:
        named = range(1, len(archive.names.bands) + 1)
    kind = archive.names.images.format
    fault, is_unsupported, found, contents = None, False, [], {}
    for pair in archive.pairs[:_MAX_TRIES]:
        try:
            parts = pair.image.parts or (pair.image.name,)
            new = {name: archive.source.read(name) for name in parts}
            bands = find_bands([*new.values()], kind, text=text, part_names=archive.names.bands)
        except InputError as error:
            if not fault or (isinstance(error, UnsupportedBandsError) and not is_unsupported):
                fault = InputError(f"{pair.image.name} {error}")
                is_unsupported = isinstance(error, UnsupportedBandsError)
            continue
        contents |= new
        found.append(bands)
        if bands is None or text is not None:
            break
    # Raise these faults here. Without `bands`, `read` would use the decoder of RGB images, which
    # cannot describe these faults.
    if fault and not found and (text is not None or kind == "NPY" or is_unsupported):
        raise fault
    # If one of the images is RGB, read all images as RGB. A gray image is then a fault. If no image
    # can be read, `read` reports the faults.
    bands = found[0] if found and None not in found else None
    return dataclasses.replace(archive, bands=bands, named_bands=named, contents=contents)


def with_labels(
    archive: Archive,
    map_color: Sequence[str] = (),
    merge: Sequence[str] = (),
    void: Sequence[str] = (),
) -> tuple[Archive, dict[RGB, int]]:
    """Applies the options for the classes to an archive.

    Args:
        archive: archive, as returned by `open_archive`.
        map_color: texts such as "255,0,0=water", see `parse_color_map`.
        merge: texts such as "urban=building+road", see `relabel`.
        void: names of void classes or void values, see `relabel`.

    Returns:
        The archive with its relabeling, and the class id of each additional color.

    Raises:
        InputError: An option is invalid.
    """
    color_map = archive.mask_classes.resolve_color_map(parse_color_map(map_color))
    relabeling, color_map = relabel(archive.mask_classes, color_map, merge=merge, void=void)
    return dataclasses.replace(archive, relabeling=relabeling), color_map


def verify(archive: Archive, color_map: Mapping[RGB, int]) -> Report:
    """Reads and decodes every file of an archive, on all cores, with a progress bar.

    Args:
        archive: archive, as returned by `open_archive`.
        color_map: class ids of colors that are not in the class table.

    Returns:
        All faults, and statistics of the pairs without faults.
    """

    def inspect(
        pair: Pair,
    ) -> tuple[Sequence[tuple[str, InputError]], tuple[int, int], np.ndarray | int]:
        try:
            example = archive.read(pair, color_map)
        except FileFaultsError as error:
            return error.faults, (0, 0), 0
        return [], example.image.size, count_pixels(example.class_ids, archive.classes.num_classes)

    faults: list[tuple[str, InputError]] = []
    sizes = collections.Counter[tuple[int, int]]()
    pixels = np.zeros(archive.classes.num_classes, np.int64)
    for pair_faults, size, pair_pixels in ordered_map(inspect, archive.pairs, "verifying"):
        faults += pair_faults
        sizes[size] += not pair_faults
        pixels += pair_pixels
    lines = [*_lines(archive, faults), *copies(archive, archive.pairs)]
    lines += [] if faults else binary_masks(archive, pixels)
    total = sum(width * height * count for (width, height), count in sizes.items())
    return Report((*archive.faults, *lines), +sizes, pixels, total - int(pixels.sum()))


def copies(archive: Archive, pairs: Sequence[Pair]) -> list[str]:
    """Returns one fault per image that exists twice, because copies could be in two splits.

    Copies of images with a single color, such as areas without data, are accepted.

    Args:
        archive: the archive.
        pairs: pairs that `Archive.read` has read before.
    """
    by_size = collections.defaultdict[int, list[File]](list)
    for pair in pairs:
        by_size[pair.image.size].append(pair.image)
    equal = collections.defaultdict[int, list[File]](list)
    for file in (file for group in by_size.values() if len(group) > 1 for file in group):
        with contextlib.suppress(InputError):  # `read` reports files that cannot be read
            equal[archive.checksum(file)].append(file)
    return [
        f"{files[0].name}: the same image is also {listed([file.name for file in files[1:]])}; "
        "delete the copies"
        for files in equal.values()
        if len(files) > 1 and not archive.has_one_color(files[0])
    ]


def binary_masks(archive: Archive, pixels: np.ndarray) -> list[str]:
    """Returns a fault if masks without a class table contain only black and white.

    One mask of DeepGlobe can contain only black and white. If all masks contain only black and
    white, they probably are not masks of DeepGlobe.

    Args:
        archive: archive whose masks have no other faults.
        pixels: int64 `(num_classes,)`, number of pixels per class.
    """
    used = {archive.classes.palette[class_id] for class_id in np.flatnonzero(pixels)}
    if archive.has_class_table or archive.relabeling or used != {(0, 0, 0), (255, 255, 255)}:
        return []
    return [
        "all masks contain only black and white, therefore they probably have other classes than "
        "DeepGlobe; use a class_dict.csv with one row per class: name,r,g,b / background,0,0,0 / "
        f"object,255,255,255; {_NO_TABLE}"
    ]


def _lines(archive: Archive, faults: Sequence[tuple[str, InputError]]) -> list[str]:
    """Formats faults with one line per file.

    There are three exceptions:

    - If all images, or all masks, have the same fault, the fault is formatted as one line.
    - All masks that need another class table are formatted as one line, which proposes a class
      table.
    - If several masks contain colors without a class, all these colors are formatted as one table.
    """
    images = {pair.image.name for pair in archive.pairs}
    colors = [error.colors for _, error in faults if isinstance(error, OtherPaletteError)]
    proposal = other_palette_text({rgb for rgbs in colors for rgb in rgbs})
    hint = "" if archive.has_class_table else f"; {_NO_TABLE}"
    unknown = {n: error.counts for n, error in faults if isinstance(error, UnknownColorError)}
    files: dict[tuple[str, str], list[str]] = {}
    for name, error in faults:
        text = proposal + hint if isinstance(error, OtherPaletteError) else str(error)
        text += hint * isinstance(error, UnknownColorError)
        if len(unknown) > 1 and name in unknown:
            text = _color_table(unknown, archive.mask_classes) + hint
        files.setdefault(("images" if name in images else "masks", text), []).append(name)
    ordered: dict[str, str] = {}
    for (kind, text), names in files.items():
        if len(names) == len(archive.pairs) > 1:
            ordered[names[0]] = f"all {len(names)} {kind}, such as {shorten(names[0], 120)}: {text}"
        elif len(names) > 1 and (text.startswith(proposal) or names[0] in unknown):
            ordered[names[0]] = f"{len(names)} {kind}, such as {shorten(names[0], 120)}: {text}"
        else:
            ordered |= {name: f"{shorten(name, 120)}: {text}" for name in names}
    return [ordered[name] for name, _ in faults if name in ordered]


def _color_table(counts: Mapping[str, Mapping[RGB, int]], classes: ClassTable) -> str:
    """Formats a table of the colors without a class in several masks.

    Args:
        counts: key: name of a mask. Value: number of pixels of each color without a class.
        classes: the class table.
    """
    pixels, masks = collections.Counter[RGB](), collections.Counter[RGB]()
    for colors in counts.values():
        pixels.update(colors)
        masks.update(colors.keys())
    lines = ["colors without a class:"]
    for color, count in pixels.most_common(_MAX_COLORS):
        differences = np.array(classes.palette) - color
        distances = np.sqrt((differences**2).sum(axis=1))
        nearest = int(distances.argmin())
        in_masks = f"in {masks[color]} mask{'s' * (masks[color] != 1)}"
        lines.append(
            f"  {','.join(map(str, color)):11s} {count:9d} pixels {in_masks}; the nearest class is "
            f"{shorten(classes.names[nearest], 40)} "
            f"({','.join(map(str, classes.palette[nearest]))}, distance {distances[nearest]:.0f})"
        )
    if len(pixels) > _MAX_COLORS:
        lines.append(f"  and {len(pixels) - _MAX_COLORS} more colors")
    example = ",".join(map(str, pixels.most_common(1)[0][0]))
    lines.append(
        f"  to assign a class to a color, use `map_color={example}=CLASS`; for a new class table, "
        "use the command `classes`"
    )
    return "\n".join(lines)


def turned_line(archive: Archive) -> str:
    """Returns a line about the images with orientation tags."""
    return (
        f"{len(archive.turned)} of {len(archive.pairs)} images have orientation tags, for "
        f"example {min(archive.turned)}; their masks have the same tags; the pixels are used as "
        "they are stored"
    )


def require_faultless(archive: Archive, color_map: Mapping[RGB, int]) -> None:
    """Reads and verifies every file of an archive, and raises an error if a file has a fault.

    Raises:
        InputError: The archive has faults. The message lists all faults, one per line.
    """
    if faults := verify(archive, color_map).faults:
        count = f"{len(faults)} fault{'s' * (len(faults) != 1)}"
        raise InputError("\n".join([f"{archive.path} cannot be used. It has {count}:", *faults]))


def count_pixels(class_ids: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts the pixels of each class in a mask.

    Args:
        class_ids: class ids, uint8 `(height, width)`.
        num_classes: number of classes.

    Returns:
        Number of pixels per class, int64 `(num_classes,)`.
    """
    # Pillow's histogram is several times faster than numpy's bincount.
    return np.array(Image.fromarray(class_ids).histogram()[:num_classes], np.int64)


def describe(archive: Archive) -> str:
    """Summarizes the content of an archive in one line."""
    text = f"{len(archive.pairs)} images with masks, {archive.classes.num_classes} classes"
    if archive.bands:
        text += f", {archive.bands}"
    if archive.unlabeled:
        folders = ", ".join(f"{name}/" for name in archive.unlabeled)
        text += f"; skipped {sum(archive.unlabeled.values())} images without masks in {folders}"
    return text


def remarks(archive: Archive) -> list[str]:
    """Describes properties of an archive that can be mistakes of the user, one per line."""
    lines = []
    grays = [color[0] for color in archive.mask_classes.palette if len({*color}) == 1]
    if len(grays) == len(archive.mask_classes.palette) and min(grays) > 0 and max(grays) < 255:
        lines.append(
            f"the mask values {min(grays)} to {max(grays)} become class ids that start at 0"
        )
    if not archive.names.is_deepglobe:
        lines.append(f"images: {archive.names.images}; masks: {archive.names.masks}")
    if archive.left_out:
        count = len(archive.left_out)
        files = "image file that matches" if count == 1 else "image files that match"
        lines.append(
            f"skipped {count} {files} neither "
            f"{archive.names.images} nor {archive.names.masks}: {listed(archive.left_out)}"
        )
    if not archive.has_class_table:
        lines.append(_NO_TABLE)
    elif posixpath.basename(archive.table or "").lower() != TABLE:
        lines.append(f"classes: {archive.table}")
    pair = next(iter(archive.pairs), None)
    if pair and not archive.names.is_deepglobe:
        folders = [posixpath.dirname(file.name) for file in (pair.image, pair.mask)]
        if len({*map(without_kinds, folders)}) > 1:
            lines.append(f"images in {folders[0]}/ are paired with masks in {folders[1]}/")
    return lines


def _leaves_archive(name: str) -> bool:
    """Returns True if a path points outside the archive, on any operating system.

    `name` must be a normalized path.
    """
    return name.startswith(("/", "../")) or name == ".." or name[1:2] == ":"


def _is_text(name: str) -> bool:
    """Returns False if a file name contains bytes that are not UTF-8. Python escapes such bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_class_table(source: Folder | Zip, files: Sequence[File]) -> tuple[ClassTable, str] | None:
    """Reads the class table of an archive, which may be in any folder.

    The names of the files in `TABLE_FILES` may have any letter case.

    Returns:
        The class table and the name of its file; None if the archive contains no class table.

    Raises:
        InputError: A table is not valid, two tables differ, or the only table has a file name that
            is not in `TABLE_FILES`.
    """
    for base in TABLE_FILES:
        tables = {}
        for file in files:
            if posixpath.basename(file.name).lower() == base:
                if file.size > MAX_SIZE:
                    raise InputError(
                        f"{shorten(file.name, 120)} has {file.size / 1e6:.0f} MB, but a class "
                        f"table has at most {MAX_SIZE / 1e6:.0f} MB. If the file is another table, "
                        "rename the file."
                    )
                try:
                    tables[file.name] = read_class_table(file.name, source.read(file.name))
                except NoClassTableError:  # other content with the same file name
                    continue
                except InputError as error:
                    raise InputError(f"{shorten(file.name, 120)}: {error}") from error
        different = {table: name for name, table in reversed(tables.items())}
        if len(different) > 1:
            raise InputError(
                f"The class tables {listed(sorted(different.values()))} differ. Delete all of them "
                "except one, or choose the folder of one data set as `data`."
            )
        if different:
            return next(iter(different.items()))
    if name := _misnamed_table(source, files):
        raise InputError(
            f"{shorten(name, 120)} is a class table, but only a file with the name {TABLE} is "
            f"used. Rename the file to {TABLE}."
        )
    return None


def _misnamed_table(source: Folder | Zip, files: Sequence[File]) -> str | None:
    """Finds a class table whose file name is not in `TABLE_FILES`. Returns its name, or None."""
    texts = [
        file.name
        for suffix in (".csv", ".tsv", ".txt")  # an archive can have one `.txt` file per image
        for file in files
        if file.name.lower().endswith(suffix) and file.size < _MAX_TABLE_SIZE
    ]
    for name in texts[:_MAX_TEXTS]:
        try:
            table = read_class_table(name, source.read(name))
        except InputError:  # another kind of text
            continue
        is_gray = all(red == green == blue for red, green, blue in table.palette)
        # A file with names and numbers, but without colors, is usually not a class table.
        if table != DEEPGLOBE_CLASSES and not is_gray:
            return name
    return None
