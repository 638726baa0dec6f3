"""Recognition of the usual layouts of data sets, such as `images/1.tif` and `labels/1.tif`."""

import collections
import posixpath
import re
from collections.abc import Iterable, Sequence

from tfds_deepglobe.errors import InputError
from tfds_deepglobe.file_names import FileNames, looks_like_image
from tfds_deepglobe.pairing import pair_files
from tfds_deepglobe.sources import File

# Names of folders, and parts of file names before and after the id, in lower case. The names of
# folders can also end in the file format, such as "images_png".
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "sat", "rgb", "jpegimages", "imagery", "tiles")
_MASK_FOLDERS = (
    *("masks", "mask", "msk", "labels", "label", "annotations", "annotation", "gt", "ground_truth"),
    *("groundtruth", "segmentationclass", "segmentation", "seg", "targets", "target"),
)
_FOLDER_END = r"(?:[_-](?:png|jpe?g|tiff?|bmp|rgb|all))?"
_IMAGE_PREFIXES, _MASK_PREFIXES = ("img_", "image_"), ("msk_", "mask_", "label_", "gt_")
_IMAGE_SUFFIXES = ("_sat", "_image", "_img", "_rgb")
_MASK_SUFFIXES = ("_mask", "_masks", "_label", "_labels", "_gt", "_seg", "_segmentation")
_MAX_PATTERNS = 12  # more patterns than any usual layout has
_MAX_EXAMPLES = 4  # largest number of other patterns in an error message


def recognize_layout(files: Sequence[File]) -> FileNames | None:
    """Finds the name patterns of images and masks.

    Recognized are pairs in folders (`images/` and `masks/`, `labels/`, `annotations/`, `gt/`, ...)
    at any depth, and pairs whose names differ in a prefix or a suffix (`7.jpg` and `7_mask.png`).

    Args:
        files: all files of an archive.

    Returns:
        The patterns with the largest number of pairs; None if there are no pairs.

    Raises:
        InputError: Several patterns are possible, for example because there are two folders of
            masks. The message lists them.

    Example:
        >>> files = [File(f"train/{folder}/7.png", 1) for folder in ("images", "gt")]
        >>> found = recognize_layout(files)
        >>> str(found.images), str(found.masks)
        ('images/*.png', 'gt/*.png')
    """
    patterns = _patterns(file.name for file in files)
    candidates = []
    for image_glob in patterns[False]:
        for mask_pattern in patterns[True]:
            try:
                names = FileNames.parse(image_glob, mask_pattern)
            except InputError:  # such as masks in the format JPEG
                continue
            found = pair_files(files, names, root="").pairs
            if found:
                pairs = {(pair.image.name, pair.mask.name) for pair in found}
                candidates.append((names, pairs))
    if not candidates:
        return None
    names, pairs = max(candidates, key=lambda candidate: len(candidate[1]))
    # Patterns that find other images, or other masks of the same images
    rivals = [other for other, found in candidates if not found <= pairs]
    if rivals:
        texts = [
            f"image_glob={other.images} with mask_pattern={other.masks}"
            for other in (names, *rivals[:_MAX_EXAMPLES])
        ]
        raise InputError(
            "Several name patterns of images and masks are possible. Choose one with `image_glob` "
            f"and `mask_pattern`. Possible patterns: {'; '.join(texts)}."
        )
    return names


def _patterns(names: Iterable[str]) -> dict[bool, list[str]]:
    """Returns the patterns of image files: `False` for images, and `True` for masks.

    The most frequent patterns come first. A name without a known folder, prefix or suffix, such as
    `7.jpg`, can be an image.
    """
    counts = {False: collections.Counter[str](), True: collections.Counter[str]()}
    for name in filter(looks_like_image, names):
        *folders, base = name.split("/")
        stem, extension = posixpath.splitext(base)
        folder = folders[-1] if folders else ""
        by_folder = _kind(folder, _IMAGE_FOLDERS, _MASK_FOLDERS, r"(?:{})" + _FOLDER_END)
        prefix, by_prefix = _affix(stem, _IMAGE_PREFIXES, _MASK_PREFIXES, "({}).+")
        suffix, by_suffix = _affix(stem, _IMAGE_SUFFIXES, _MASK_SUFFIXES, ".+({})")
        kinds = [kind for kind in (by_folder, by_prefix, by_suffix) if kind is not None]
        is_mask = any(kinds)
        where = f"{folder}/" if by_folder is not None else ""
        counts[is_mask][f"{where}*{extension.lower()}"] += 1
        for before, after in ((prefix, ""), ("", suffix)):
            if before or after:
                counts[is_mask][f"{where}{before}*{after}{extension.lower()}"] += 1
    return {
        kind: [pattern for pattern, _ in counter.most_common(_MAX_PATTERNS)]
        for kind, counter in counts.items()
    }


def _kind(text: str, images: Sequence[str], masks: Sequence[str], expression: str) -> bool | None:
    """Returns True for a word of masks, False for a word of images, and None for other words."""
    for is_mask, words in ((False, images), (True, masks)):
        if re.fullmatch(expression.format("|".join(words)), text, re.IGNORECASE):
            return is_mask
    return None


def _affix(
    stem: str, images: Sequence[str], masks: Sequence[str], expression: str
) -> tuple[str, bool | None]:
    """Returns a known prefix or suffix of a file name, and True if it is a word of masks."""
    for is_mask, words in ((True, masks), (False, images)):
        if found := re.fullmatch(expression.format("|".join(words)), stem, re.IGNORECASE):
            return found[1], is_mask
    return "", None
