"""Search for the mask of each image. The file names of both contain the same id."""

import collections
import dataclasses
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tfds_deepglobe.file_names import FileNames
from tfds_deepglobe.sources import File

# In these folders of Kaggle's archive, images have no masks.
_UNLABELED_FOLDERS = ("valid", "test")
_MAX_EXAMPLES = 4  # largest number of file names in an error message


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image and its mask.

    Attributes:
        id: id in the file names of the image and the mask.
        image: file of the image.
        mask: file of the mask.
    """

    id: str
    image: File
    mask: File


@dataclasses.dataclass(frozen=True)
class Pairing:
    """Result of `pair_files`.

    Attributes:
        pairs: pairs of an image and its mask, sorted by id.
        unlabeled: mapping from a folder name (`valid` or `test`) to the number of images without
            masks in folders with this name.
        faults: one line per missing image, missing mask or duplicate id.
    """

    pairs: tuple[Pair, ...]
    unlabeled: Mapping[str, int]
    faults: tuple[str, ...]


class _Place(NamedTuple):
    """A file and its location.

    Attributes:
        top: part of the path before the name pattern.
        file: the file.
    """

    top: str
    file: File


def pair_files(files: Iterable[File], names: FileNames, root: str) -> Pairing:
    """Pairs images and masks that have the same id.

    Args:
        files: all files of an archive.
        names: name patterns of images and masks.
        root: name of the folder if the archive is a folder; `""` if the archive is a zip.
    """
    by_id: dict[str, tuple[list[_Place], list[_Place]]] = {}
    for file in files:
        if matched := names.match(file.name):
            image_id, top, is_mask = matched
            by_id.setdefault(image_id, ([], []))[is_mask].append(_Place(top, file))
    tops_with_masks = {mask.top for _, masks in by_id.values() for mask in masks}

    pairs, unlabeled, faults = [], collections.Counter[str](), []
    for image_id, (images, masks) in sorted(by_id.items()):
        if len(images) > 1 or len(masks) > 1:
            duplicates = images if len(images) > 1 else masks
            listed = ", ".join(place.file.name for place in duplicates)
            faults.append(f"duplicate id {image_id}: {listed}")
        # One image and one mask are a pair, even if they are in different folders.
        if len(images) == len(masks) == 1:
            pairs.append(Pair(image_id, images[0].file, masks[0].file))
            continue
        mask_in = {mask.top: mask.file for mask in masks}
        for top, image in images:
            folder = posixpath.basename(top) or root
            if top in mask_in:
                pairs.append(Pair(image_id, image, mask_in.pop(top)))
            elif folder in _UNLABELED_FOLDERS and top not in tops_with_masks:
                unlabeled[folder] += 1
            else:
                faults.append(f"{image.name}: missing mask {names.masks.name_of(image_id)}")
        for mask in mask_in.values():
            faults.append(f"{mask.name}: missing image {names.images.name_of(image_id)}")
    counts = {folder: unlabeled[folder] for folder in _UNLABELED_FOLDERS if unlabeled[folder]}
    return Pairing(tuple(pairs), counts, tuple(faults))


def inventory(files: Sequence[File], names: FileNames) -> str:
    """Describes the files of an archive for an error message, if no image has a mask."""
    if not files:
        return "found no files"
    kinds = collections.Counter(
        posixpath.splitext(file.name)[1] or "without extension" for file in files
    )
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(8))
    matches = {file.name: names.match(file.name) for file in files}
    masks = [is_mask for *_, is_mask in filter(None, matches.values())]
    found = (
        f"found {len(files)} file{'s' * (len(files) != 1)}: {listed}; "
        f"{masks.count(False)} images match {names.images}, "
        f"{masks.count(True)} masks match {names.masks}"
    )
    # Show at most one example per folder, because the files of a folder usually have similar names.
    examples = {file.folder: file.name for file in reversed(files) if not matches[file.name]}
    if examples:
        found += (
            f"; examples of other files: {', '.join(sorted(examples.values())[:_MAX_EXAMPLES])}"
        )
    return found
