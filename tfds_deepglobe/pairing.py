"""Finds the mask of each image by their names."""

import collections
import dataclasses
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tfds_deepglobe.file_names import FileNames
from tfds_deepglobe.sources import File

# Kaggle's archive has images without masks in these folders.
_UNLABELED_FOLDERS = ("valid", "test")
_MAX_EXAMPLES = 4  # file names in a message


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image and its mask.

    Attributes:
        id: the part of the file name that both share.
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
        pairs: images with masks, sorted by id.
        unlabeled: number of images without masks in folders named `valid` and `test`.
        faults: one line per missing partner or duplicate id.
    """

    pairs: tuple[Pair, ...]
    unlabeled: Mapping[str, int]
    faults: tuple[str, ...]


class _Place(NamedTuple):
    """A file, and the path of the folder in which its name pattern begins."""

    top: str
    file: File


def pair_files(files: Iterable[File], names: FileNames, root: str) -> Pairing:
    """Pairs images and masks that have the same id.

    Args:
        files: all files of an archive.
        names: name patterns of images and masks.
        root: name of the archive's folder; `""` for a zip.
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
        if len(images) == len(masks) == 1:  # in the same folder or in different folders
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
                faults.append(f"{image.name}: missing partner {names.masks.name_of(image_id)}")
        for mask in mask_in.values():
            faults.append(f"{mask.name}: missing partner {names.images.name_of(image_id)}")
    counts = {folder: unlabeled[folder] for folder in _UNLABELED_FOLDERS if unlabeled[folder]}
    return Pairing(tuple(pairs), counts, tuple(faults))


def inventory(files: Sequence[File], names: FileNames) -> str:
    """Describes the files that exist, for an archive in which no pair was found."""
    if not files:
        return "found no file"
    kinds = collections.Counter(posixpath.splitext(file.name)[1] or "no suffix" for file in files)
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(8))
    matches = {file.name: names.match(file.name) for file in files}
    masks = [is_mask for *_, is_mask in filter(None, matches.values())]
    found = (
        f"found {len(files)} file{'s' * (len(files) != 1)}: {listed}; "
        f"{masks.count(False)} images match {names.images}, "
        f"{masks.count(True)} masks match {names.masks}"
    )
    # One example per folder shows more than several examples of one folder.
    examples = {file.folder: file.name for file in reversed(files) if not matches[file.name]}
    if examples:
        found += f"; other files are {', '.join(sorted(examples.values())[:_MAX_EXAMPLES])}"
    return found
