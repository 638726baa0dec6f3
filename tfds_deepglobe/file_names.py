"""How images and masks are told by their names, and which mask is which image's."""

import dataclasses
import posixpath
from typing import Self

from tfds_deepglobe.errors import InputError

IMAGE_GLOB = "*_sat.jpg"
MASK_PATTERN = "*_mask.png"

# Pillow's name of the format, by the file name's ending in lower case.
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
    """File names with one `*`, such as `images/*.tif`; the `*` stands for the image's id.

    Folders are matched from the right, so that it does not matter how deep an archive is packed;
    without folders a file may lie anywhere. Upper and lower case differ.

    Attributes:
        folders: names of the folders that hold the file, the innermost last.
        prefix: of the file's name, before the id.
        suffix: of the file's name, after the id.
    """

    folders: tuple[str, ...]
    prefix: str
    suffix: str

    @classmethod
    def parse(cls, text: str, option: str) -> Self:
        """Parses a pattern.

        Args:
            text: such as `"*_sat.jpg"` or `"images/*.tif"`.
            option: of the command line, for messages.

        Raises:
            InputError: there is not exactly one `*`, in the last part; a part is empty or `..`; or
                the ending is not that of an image file.
        """
        *folders, base = text.replace("\\", "/").removeprefix("./").split("/")
        prefix, star, suffix = base.partition("*")
        if not star or "*" in suffix or any("*" in folder for folder in folders):
            raise InputError(
                f"{option} takes one `*`, in the file's name, which stands for the image's id, "
                f"such as `*_sat.jpg` or `images/*.tif`. Received: `{text}`."
            )
        if any(folder in ("", ".", "..") for folder in folders):
            raise InputError(
                f"{option} takes names of folders inside of the archive before the file's name, "
                f"such as `images/*.tif`. Received: `{text}`."
            )
        pattern = cls(tuple(folders), prefix, suffix)
        if pattern.format is None:
            raise InputError(
                f"{option} must end in one of {', '.join(_FORMATS)}, such as `images/*.tif`. "
                f"Received: `{text}`."
            )
        return pattern

    @property
    def format(self) -> str | None:
        """Pillow's name of the files' format; None if the ending is unknown."""
        return _FORMATS.get(posixpath.splitext("x" + self.suffix)[1].lower())

    @property
    def precision(self) -> tuple[int, int]:
        """How much of a name the pattern sets; of two that match, the larger one is meant."""
        return len(self.prefix + self.suffix), len(self.folders)

    def match(self, name: str) -> tuple[str, str] | None:
        """Takes a path apart.

        Args:
            name: path from the archive's root, with slashes.

        Returns:
            The image's id, and the path of the folder that the pattern begins in; None if the
            pattern does not match.
        """
        *folders, base = name.split("/")
        around = len(folders) - len(self.folders)
        if around < 0 or tuple(folders[around:]) != self.folders:
            return None
        image_id = self.id_in(base)
        return None if image_id is None else (image_id, "/".join(folders[:around]))

    def id_in(self, base: str) -> str | None:
        """The id in a file's name without folders; None if the pattern does not match."""
        if len(base) <= len(self.prefix + self.suffix):
            return None
        if not (base.startswith(self.prefix) and base.endswith(self.suffix)):
            return None
        return base[len(self.prefix) : len(base) - len(self.suffix)]

    def name_of(self, image_id: str) -> str:
        """The file's name for an id, with the pattern's folders."""
        return "/".join((*self.folders, self.prefix + image_id + self.suffix))

    def __str__(self) -> str:
        return self.name_of("*")


@dataclasses.dataclass(frozen=True)
class FileNames:
    """What the files of a data set are called.

    Attributes:
        images: of the images.
        masks: of the masks; its `*` stands for what that of `images` does.
    """

    images: Pattern
    masks: Pattern

    @classmethod
    def parse(cls, image_glob: str = IMAGE_GLOB, mask_pattern: str = MASK_PATTERN) -> Self:
        """Parses what the command line takes as `--image-glob` and `--mask-pattern`.

        Raises:
            InputError: a pattern has another form, masks are JPEG, or both are the same.
        """
        images = Pattern.parse(image_glob, "--image-glob")
        masks = Pattern.parse(mask_pattern, "--mask-pattern")
        if masks.format == "JPEG":
            raise InputError(
                "--mask-pattern cannot be of JPEG files, which do not keep colours exactly; save "
                f"the masks anew as PNG, from where they were drawn. Received: `{mask_pattern}`."
            )
        if images == masks:
            raise InputError(
                "--image-glob and --mask-pattern must differ, by folders such as `images/*.png` "
                f"and `masks/*.png`. Received: `{image_glob}` for both."
            )
        return cls(images, masks)

    @property
    def is_deepglobe(self) -> bool:
        """Whether files are called as in the DeepGlobe archive."""
        return (str(self.images), str(self.masks)) == (IMAGE_GLOB, MASK_PATTERN)

    def match(self, name: str) -> tuple[str, str, bool] | None:
        """Tells what a file is.

        Args:
            name: path from the archive's root, with slashes.

        Returns:
            The image's id, the path of the folder that the pattern begins in, and whether it is a
            mask; None for another file. What both patterns match is what the one says that sets
            more of the file's name: `1_mask.png` is a mask by `*_mask.png`, though `*.png` matches.
        """
        image, mask = self.images.match(name), self.masks.match(name)
        if image and mask:
            is_mask = self.masks.precision >= self.images.precision
        else:
            is_mask = mask is not None
        found = mask if is_mask else image
        return found and (*found, is_mask)

    def id_in_list(self, line: str) -> str:
        """The id that a line of a split list names: an image's file name or the id itself."""
        return self.images.id_in(posixpath.basename(line)) or line
