"""Patterns for the file names of images and masks, such as `images/*.tif`."""

import dataclasses
import functools
import posixpath
import re
import unicodedata
from typing import Self

from tfds_deepglobe.errors import InputError, shorten
from tfds_deepglobe.words import folded

IMAGE_GLOB = "*_sat.jpg"
MASK_PATTERN = "*_mask.png"

# Key: extension of a file name, in lower case. Value: Pillow's name of the format.
_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".npy": "NPY",
}
# Extensions of other image formats, which this package does not read
_OTHER_FORMATS = {
    *(".jpe", ".jfif", ".jp2", ".j2k", ".webp", ".gif", ".heic", ".avif", ".jxl"),
    *(".vrt", ".img", ".ecw", ".sid", ".ppm", ".pgm", ".pnm", ".tga"),
}


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A pattern for file names, in which `*` stands for the id of the image.

    A pattern with folders matches the end of a path: `images/*.tif` also matches
    `train/images/7.tif`. A pattern without folders matches files in any folder. In the name of a
    folder, `*` stands for any text. The letter case is ignored. The two extensions of a format,
    such as .jpg and .jpeg, are equal. For example, `*_sat.jpg` matches `7_SAT.JPEG`.

    Attributes:
        folders: folders in the pattern, from the outermost to the innermost folder.
        prefix: part of the file name before the id.
        suffix: part of the file name after the id. If the id is the name of the last folder, the
            suffix includes the file name: `images/*/B02.tif` has the suffix "/B02.tif".

    Example:
        >>> Pattern.parse("images/*.tif", "image_glob").match("train/images/7.tif")
        ('7', 'train')
        >>> Pattern.parse("images/*/*.tif", "image_glob").match("images/train/7.tif")
        ('7', 'train')
    """

    folders: tuple[str, ...]
    prefix: str
    suffix: str

    @classmethod
    def parse(cls, text: str, argument: str) -> Self:
        """Parses a pattern.

        Args:
            text: pattern such as "*_sat.jpg" or "images/*.tif".
            argument: name of the Python argument in error messages.

        Raises:
            InputError: one of the following is wrong.

                - The file name contains several `*`.
                - The file name contains no `*`, and the last folder does not contain exactly one.
                - The name of a folder is empty, `.` or `..`.
                - The extension is not the extension of a supported image format.
        """
        *folders, base = text.replace("\\", "/").removeprefix("./").split("/")
        if "*" not in base and folders and "*" in folders[-1]:
            base = f"{folders.pop()}/{base}"
        prefix, star, suffix = base.partition("*")
        if not star or "*" in suffix:
            raise InputError(
                f"`{argument}` needs exactly one * in the file name, which stands for the id of "
                "the image. Examples: *_sat.jpg, images/*.tif, Tile */images/*.tif. If the id is "
                "the name of a folder, the last folder needs the *, such as images/*/image.tif. "
                f"Received: {argument}={shorten(text)}."
            )
        if any(folder in ("", ".", "..") for folder in folders):
            raise InputError(
                f"`{argument}` contains an empty folder name, '.' or '..'. Write the name of each "
                f"folder, such as images/*.tif. Received: {argument}={text}."
            )
        if format_of(suffix) is None:
            raise InputError(
                f"`{argument}` must end in one of {', '.join(_FORMATS)}, such as images/*.tif. "
                f"Received: {argument}={shorten(text)}."
            )
        return cls(tuple(folders), prefix, suffix)

    @property
    def format(self) -> str:
        """Pillow's name of the image format, such as "JPEG"."""
        return _FORMATS[_extension(self.suffix)]

    @property
    def precision(self) -> tuple[int, int]:
        """Number of fixed characters in the file name, and number of folders.

        If two patterns match a file, the pattern with the larger value is used.
        """
        return len(self.prefix + self.suffix), len(self.folders)

    def match(self, name: str) -> tuple[str, str] | None:
        """Compares the path of a file with the pattern.

        Args:
            name: path relative to the archive's root, with slashes.

        Returns:
            The id of the image, and the remaining folders, joined with slashes. Remaining folders
            are the folders before the pattern and the folders that match a `*`. Example: with the
            pattern `images/*.tif`, "train/images/7.tif" returns "7" and "train". None if the
            pattern does not match.
        """
        *folders, base = name.split("/")
        if "/" in self.suffix and folders:
            base = f"{folders.pop()}/{base}"
        around = len(folders) - len(self.folders)
        if around < 0:
            return None
        starred = []
        for folder, pattern in zip(folders[around:], self.folders, strict=True):
            if not matches_folder(folder, pattern):
                return None
            starred += [folder] * ("*" in pattern)
        image_id = self.id_in(base)
        return None if image_id is None else (image_id, "/".join(folders[:around] + starred))

    def id_in(self, base: str) -> str | None:
        """Returns the id in a file name without folders, or None if the pattern does not match."""
        if format_of(base) != self.format:
            return None
        stem, after = (posixpath.splitext("x" + text)[0][1:] for text in (base, self.suffix))
        # Some programs write "é" as one character (NFC), other programs as two characters.
        composed = [unicodedata.normalize("NFC", text) for text in (stem, self.prefix, after)]
        for name, prefix, suffix in ((stem, self.prefix, after), composed):
            end = len(name) - len(suffix)
            if (
                end > len(prefix)
                and folded(name[: len(prefix)]) == folded(prefix)
                and folded(name[end:]) == folded(suffix)
            ):
                return name[len(prefix) : end]
        return None

    def name_of(self, image_id: str) -> str:
        """Returns the pattern with an id instead of the `*`, such as "images/7.tif"."""
        return "/".join((*self.folders, self.prefix + image_id + self.suffix))

    def __str__(self) -> str:
        return self.name_of("*")


@dataclasses.dataclass(frozen=True)
class FileNames:
    """File name patterns of a data set.

    Attributes:
        images: pattern for the images.
        masks: pattern for the masks. The id in the name of a mask is the id of its image.
        bands: names of the bands, if each band of an image is a separate file; otherwise empty.
        others: patterns for the files of all bands except the first, whose pattern is `images`.

    Example:
        >>> names = FileNames.parse("images/*.tif", "labels/*_gt.png")
        >>> names.match("train/labels/7_gt.png")
        ('7', 'train', True)
    """

    images: Pattern
    masks: Pattern
    bands: tuple[str, ...] = ()
    others: tuple[Pattern, ...] = ()

    @classmethod
    def parse(cls, image_glob: str = IMAGE_GLOB, mask_pattern: str = MASK_PATTERN) -> Self:
        """Parses the patterns for images and masks.

        Args:
            image_glob: pattern for the images, such as "images/*.tif". If each band of an image is
                a separate file, the pattern contains the names of the bands in braces, such as
                "images/*_{B04,B03,B02}.tif".
            mask_pattern: pattern for the masks, such as "labels/*_gt.png".

        Raises:
            InputError: A pattern is not valid, the masks are JPEG or NumPy files, or the patterns
                are equal.
        """
        bands, globs = _expand(image_glob)
        images, *others = [Pattern.parse(text, "image_glob") for text in globs]
        masks = Pattern.parse(mask_pattern, "mask_pattern")
        if masks.format == "JPEG":
            raise InputError(
                "`mask_pattern` must not match JPEG files, because JPEG changes the colors of "
                "masks. Save the original masks as PNG files. "
                f"Received: mask_pattern={mask_pattern}."
            )
        if masks.format == "NPY":
            raise InputError(
                "`mask_pattern` must match image files, such as labels/*.png. Received: "
                f"mask_pattern={mask_pattern}."
            )
        if folded(str(images)) == folded(str(masks)):
            raise InputError(
                "`image_glob` and `mask_pattern` must differ, such as images/*.png and "
                f"masks/*.png. Received: {image_glob} for both."
            )
        return cls(images, masks, bands, tuple(others))

    @classmethod
    def parse_or_none(cls, image_glob: str | None, mask_pattern: str | None) -> Self | None:
        """Parses the patterns like `parse`; returns None if both patterns are None.

        If only one of the patterns is None, it has the default of `parse`.
        """
        if image_glob is None and mask_pattern is None:
            return None
        return cls.parse(image_glob or IMAGE_GLOB, mask_pattern or MASK_PATTERN)

    @property
    def is_deepglobe(self) -> bool:
        """True if the patterns are the file names of the DeepGlobe archive."""
        return (str(self.images), str(self.masks)) == (IMAGE_GLOB, MASK_PATTERN)

    def match(self, name: str) -> tuple[str, str, bool] | None:
        """Finds the pattern that matches the path of a file.

        If both patterns match, the pattern with more fixed characters is used. For example, if the
        patterns are `*.png` and `*_mask.png`, the file `1_mask.png` is a mask.

        Args:
            name: path relative to the archive's root, with slashes.

        Returns:
            The id of the image, the remaining folders (see `Pattern.match`), and True if the file
            is a mask. None if no pattern matches.
        """
        image, mask = self.images.match(name), self.masks.match(name)
        if image and mask:
            is_mask = self.masks.precision >= self.images.precision
        else:
            is_mask = mask is not None
        found = mask if is_mask else image
        return found and (*found, is_mask)

    def band_of(self, name: str) -> tuple[int, str, str] | None:
        """Finds the band that a file contains, if each band of an image is a file.

        Args:
            name: path relative to the archive's root, with slashes.

        Returns:
            Three values. None if the file is not a band, or is the first band.

            - index of the band, counted from 0. The second band has the index 1.
            - id of the image.
            - remaining folders, see `Pattern.match`.
        """
        for number, pattern in enumerate(self.others, start=1):
            if matched := pattern.match(name):
                return number, *matched
        return None

    def id_in_list(self, line: str) -> str:
        """Returns the id in a line of a split list, with the folders in the line.

        Args:
            line: path, file name or id of an image.
        """
        line = line.replace("\\", "/")
        if matched := self.images.match(line):
            image_id, top = matched
            return posixpath.join(top, image_id)
        return self.images.id_in(posixpath.basename(line)) or line


def _expand(text: str) -> tuple[tuple[str, ...], list[str]]:
    """Expands the braces of a pattern, such as `*_{B04,B03}.tif`.

    Returns:
        The texts in the braces, and one pattern per text. Without braces, the result is an empty
        tuple and the original pattern.

    Raises:
        InputError: There are several braces, or the texts in the braces are not valid.
    """
    before, brace, rest = text.partition("{")
    inside, closing, after = rest.partition("}")
    if not brace:
        return (), [text]
    bands = tuple(band.strip() for band in inside.split(","))
    if not closing or "{" in rest or len({*map(folded, bands)}) < len(bands) or "" in bands:
        raise InputError(
            "`image_glob` can contain the names of bands once, in braces and with commas, such as "
            f"images/*_{{B04,B03,B02}}.tif. Received: image_glob={shorten(text)}."
        )
    return bands, [before + band + after for band in bands]


@functools.lru_cache(maxsize=4096)
def matches_folder(folder: str, pattern: str) -> bool:
    """Returns True if the name of a folder matches a pattern in which `*` stands for any text.

    Example:
        >>> matches_folder("train_images", "*_Images"), matches_folder("images", "masks")
        (True, False)
    """
    expression = re.escape(folded(pattern)).replace(r"\*", ".*")
    return re.fullmatch(expression, folded(folder), re.DOTALL) is not None


def format_of(name: str) -> str | None:
    """Returns Pillow's name of the format of a file, or None if the format is not supported.

    Example:
        >>> format_of("7.TIF"), format_of("7.jp2")
        ('TIFF', None)
    """
    return _FORMATS.get(_extension(name))


def looks_like_image(name: str) -> bool:
    """Returns True if a file name has the extension of an image format.

    Example:
        >>> looks_like_image("scenes/7.JP2"), looks_like_image("notes.txt")
        (True, False)
    """
    return _extension(name.strip()) in {*_FORMATS, *_OTHER_FORMATS}


def _extension(suffix: str) -> str:
    """Returns the extension of a file name in lower case, such as ".jpg"."""
    return posixpath.splitext("x" + suffix)[1].lower()
