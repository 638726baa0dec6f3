"""Name patterns of images and masks."""

import dataclasses
import posixpath
from typing import Self

from tfds_deepglobe.errors import InputError

IMAGE_GLOB = "*_sat.jpg"
MASK_PATTERN = "*_mask.png"

# Pillow's name of the format, by the extension of the file name in lower case.
_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A name pattern with one `*` for the image's id, such as `images/*.tif`.

    Folders are compared from the right, so an archive may be packed in further folders. A pattern
    without folders matches files in any folder. Upper case and lower case differ.

    Attributes:
        folders: folders of the file, the innermost last.
        prefix: part of the file name before the id.
        suffix: part of the file name after the id.

    Example:
        >>> Pattern.parse("images/*.tif", "image_glob").match("train/images/7.tif")
        ('7', 'train')
    """

    folders: tuple[str, ...]
    prefix: str
    suffix: str

    @classmethod
    def parse(cls, text: str, argument: str) -> Self:
        """Parses a pattern.

        Args:
            text: such as "*_sat.jpg" or "images/*.tif".
            argument: name of the Python argument, for error messages.

        Raises:
            InputError: The file name does not contain exactly one `*`, a folder is empty or `..`,
                or the extension is not an image format.
        """
        *folders, base = text.replace("\\", "/").removeprefix("./").split("/")
        prefix, star, suffix = base.partition("*")
        if not star or "*" in suffix or any("*" in folder for folder in folders):
            raise InputError(
                f"`{argument}` needs exactly one *, in the file name, for the image's id, such as "
                f"*_sat.jpg or images/*.tif. Received: {argument}={text}."
            )
        if any(folder in ("", ".", "..") for folder in folders):
            raise InputError(
                f"`{argument}` needs names of folders in the archive before the file name, such as "
                f"images/*.tif. Received: {argument}={text}."
            )
        if _extension(suffix) not in _FORMATS:
            raise InputError(
                f"`{argument}` must end in one of {', '.join(_FORMATS)}, such as images/*.tif. "
                f"Received: {argument}={text}."
            )
        return cls(tuple(folders), prefix, suffix)

    @property
    def format(self) -> str:
        """Pillow's name of the files' format, such as "JPEG"."""
        return _FORMATS[_extension(self.suffix)]

    @property
    def precision(self) -> tuple[int, int]:
        """Number of fixed characters in the file name, and number of folders."""
        return len(self.prefix + self.suffix), len(self.folders)

    def match(self, name: str) -> tuple[str, str] | None:
        """Matches the path of a file.

        Args:
            name: path from the archive's root, with slashes.

        Returns:
            The image's id, and the path of the folder in which the pattern begins; None if the
            pattern does not match.
        """
        *folders, base = name.split("/")
        around = len(folders) - len(self.folders)
        if around < 0 or tuple(folders[around:]) != self.folders:
            return None
        image_id = self.id_in(base)
        return None if image_id is None else (image_id, "/".join(folders[:around]))

    def id_in(self, base: str) -> str | None:
        """Returns the id in a file name without folders; None if the pattern does not match."""
        if len(base) <= len(self.prefix + self.suffix):
            return None
        if not (base.startswith(self.prefix) and base.endswith(self.suffix)):
            return None
        return base[len(self.prefix) : len(base) - len(self.suffix)]

    def name_of(self, image_id: str) -> str:
        """Returns the file name for an id, with the pattern's folders."""
        return "/".join((*self.folders, self.prefix + image_id + self.suffix))

    def __str__(self) -> str:
        return self.name_of("*")


@dataclasses.dataclass(frozen=True)
class FileNames:
    """Name patterns of a data set.

    Attributes:
        images: pattern of the images.
        masks: pattern of the masks, with the id of their image.

    Example:
        >>> names = FileNames.parse("images/*.tif", "labels/*_gt.png")
        >>> names.match("train/labels/7_gt.png")
        ('7', 'train', True)
    """

    images: Pattern
    masks: Pattern

    @classmethod
    def parse(cls, image_glob: str = IMAGE_GLOB, mask_pattern: str = MASK_PATTERN) -> Self:
        """Parses both patterns.

        Args:
            image_glob: names of images, such as "images/*.tif".
            mask_pattern: names of masks, such as "labels/*_gt.png".

        Raises:
            InputError: A pattern cannot be used, masks are JPEG files, or the patterns are equal.
        """
        images = Pattern.parse(image_glob, "image_glob")
        masks = Pattern.parse(mask_pattern, "mask_pattern")
        if masks.format == "JPEG":
            raise InputError(
                "`mask_pattern` must not be of JPEG files, because JPEG changes colors. Save the "
                f"masks as PNG from their source. Received: mask_pattern={mask_pattern}."
            )
        if images == masks:
            raise InputError(
                "`image_glob` and `mask_pattern` must differ, such as images/*.png and "
                f"masks/*.png. Received: {image_glob} for both."
            )
        return cls(images, masks)

    @property
    def is_deepglobe(self) -> bool:
        """True for the file names of the DeepGlobe archive."""
        return (str(self.images), str(self.masks)) == (IMAGE_GLOB, MASK_PATTERN)

    def match(self, name: str) -> tuple[str, str, bool] | None:
        """Finds the pattern that matches the path of a file.

        If both match, the pattern with more fixed characters wins: `1_mask.png` is a mask with
        `*_mask.png`, although `*.png` matches too.

        Args:
            name: path from the archive's root, with slashes.

        Returns:
            The image's id, the path of the folder in which the pattern begins, and True for a mask;
            None if no pattern matches.
        """
        image, mask = self.images.match(name), self.masks.match(name)
        if image and mask:
            is_mask = self.masks.precision >= self.images.precision
        else:
            is_mask = mask is not None
        found = mask if is_mask else image
        return found and (*found, is_mask)

    def id_in_list(self, line: str) -> str:
        """Returns the id in a line of a split list: an image's file name, or the id itself."""
        return self.images.id_in(posixpath.basename(line)) or line


def _extension(suffix: str) -> str:
    """Returns the extension of a file name in lower case, such as ".jpg"."""
    return posixpath.splitext("x" + suffix)[1].lower()
