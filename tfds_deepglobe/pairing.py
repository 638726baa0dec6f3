"""Search for the mask of each image. The file names of both contain the same id."""

import collections
import dataclasses
import posixpath
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tfds_deepglobe.errors import listed, shorten
from tfds_deepglobe.file_names import FileNames, looks_like_image
from tfds_deepglobe.sources import File

# In these folders of Kaggle's archive, images have no masks.
_UNLABELED_FOLDERS = ("valid", "test")
_MAX_EXAMPLES = 3  # largest number of file names in an error message


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image and its mask.

    Attributes:
        id: id in the file names of the image and the mask. If several folders contain the same id,
            all ids begin with the folder, such as "Tile 1/7".
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
        left_out: names of image files that match no name pattern.
    """

    pairs: tuple[Pair, ...]
    unlabeled: Mapping[str, int]
    faults: tuple[str, ...]
    left_out: tuple[str, ...]


class _Place(NamedTuple):
    """A file and its location.

    Attributes:
        top: part of the path before the name pattern.
        file: the file.
    """

    top: str
    file: File


# Dictionary from the id of an image to the files of images and of masks with this id
_Groups = dict[str, tuple[list[_Place], list[_Place]]]


def pair_files(files: Iterable[File], names: FileNames, root: str) -> Pairing:
    """Pairs images and masks that have the same id.

    Args:
        files: all files of an archive.
        names: name patterns of images and masks.
        root: name of the folder if the archive is a folder; `""` if the archive is a zip.
    """
    by_id: _Groups = {}
    left_out = []
    for file in files:
        if matched := names.match(file.name):
            image_id, top, is_mask = matched
            by_id.setdefault(image_id, ([], []))[is_mask].append(_Place(top, file))
        elif looks_like_image(file.name):
            left_out.append(file.name)
    _join_equal_texts(by_id)
    if not names.is_deepglobe:  # the ids of DeepGlobe are unique; the same id is a copy
        by_id = _with_folders(by_id)
    tops_with_masks = {mask.top for _, masks in by_id.values() for mask in masks}
    incomplete = [
        place.file.name
        for images, masks in by_id.values()
        if len(images) != len(masks)
        for place in images + masks
    ]
    similar = collections.defaultdict[str, list[str]](list)
    for name in incomplete + left_out:
        similar[_stem(name)].append(name)

    def missing(partner: str, file: File, expected: str) -> str:
        found = [name for name in similar[_stem(expected)] if name != file.name]
        hint = f"; a similar name is {listed(found, 1)}" * bool(found)
        return f"{shorten(file.name, 120)}: missing {partner} {shorten(expected, 80)}{hint}"

    pairs, unlabeled, faults = [], collections.Counter[str](), []
    for image_id, (images, masks) in sorted(by_id.items()):
        if len(images) > 1 or len(masks) > 1:
            duplicates = images if len(images) > 1 else masks
            paths = listed([place.file.name for place in duplicates])
            faults.append(
                f"duplicate id {shorten(image_id, 80)}: {paths}; rename the files, such that each "
                "image has another id"
            )
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
                faults.append(
                    missing("mask", image, names.masks.name_of(posixpath.basename(image_id)))
                )
        for mask in mask_in.values():
            faults.append(
                missing("image", mask, names.images.name_of(posixpath.basename(image_id)))
            )
    counts = {folder: unlabeled[folder] for folder in _UNLABELED_FOLDERS if unlabeled[folder]}
    return Pairing(tuple(pairs), counts, tuple(faults), tuple(left_out))


def _with_folders(by_id: _Groups) -> _Groups:
    """Adds folders to the ids, if several folders contain complete pairs with the same id.

    Folders that contain all pairs are not added. For example, the ids of
    `data/Tile 1/images/7.jpg` and `data/Tile 2/images/7.jpg` are `Tile 1/7` and `Tile 2/7`.
    """
    by_folder = {}
    for image_id, group in by_id.items():
        folders: dict[str, tuple[list[_Place], list[_Place]]] = {}
        for is_mask, places in enumerate(group):
            for place in places:
                folders.setdefault(place.top, ([], []))[is_mask].append(place)
        if complete := [top for top, (images, masks) in folders.items() if images and masks]:
            by_folder[image_id] = folders, len(complete)
    if max((complete for _, complete in by_folder.values()), default=0) < 2:
        return by_id
    tops = [top.split("/") for folders, _ in by_folder.values() for top in folders]
    common = len(posixpath.commonprefix(tops))
    groups = {image_id: group for image_id, group in by_id.items() if image_id not in by_folder}
    for image_id, (folders, _) in by_folder.items():
        for top, group in folders.items():
            groups["/".join([*top.split("/")[common:], image_id])] = group
    return groups


def _join_equal_texts(by_id: _Groups) -> None:
    """Joins images with masks whose ids are the same text in different forms of Unicode.

    Some programs write "é" as one character (NFC), other programs as two characters (NFD). The ids
    look alike, and the message for a missing mask would show a name that seems to exist.
    """
    by_text = collections.defaultdict[str, list[str]](list)
    for image_id in by_id:
        by_text[unicodedata.normalize("NFC", image_id)].append(image_id)
    for ids in by_text.values():
        images = [image_id for image_id in ids if not by_id[image_id][1]]
        masks = [image_id for image_id in ids if not by_id[image_id][0]]
        if len(images) == len(masks) == 1:
            by_id[images[0]][1].extend(by_id.pop(masks[0])[1])


def _stem(name: str) -> str:
    """Returns a form of a file name that is equal for similar names."""
    base = posixpath.splitext(posixpath.basename(name))[0]
    return unicodedata.normalize("NFKC", base).casefold()


def inventory(files: Sequence[File], names: FileNames) -> str:
    """Describes the files of an archive for an error message, if no image has a mask."""
    if not files:
        return "found no files"
    kinds = collections.Counter(
        shorten(posixpath.splitext(file.name)[1], 20) or "without extension" for file in files
    )
    counts = [f"{count} {kind}" for kind, count in kinds.most_common()]
    matches = {file.name: names.match(file.name) for file in files}
    masks = [is_mask for *_, is_mask in filter(None, matches.values())]
    found = (
        f"found {len(files)} file{'s' * (len(files) != 1)}: {listed(counts, 4)}; "
        f"{masks.count(False)} images match {shorten(str(names.images), 80)}, "
        f"{masks.count(True)} masks match {shorten(str(names.masks), 80)}"
    )
    # Show at most one example per folder, because the files of a folder usually have similar names.
    examples = {file.folder: file.name for file in reversed(files) if not matches[file.name]}
    if examples:
        found += f"; examples of other files: {listed(sorted(examples.values())[:_MAX_EXAMPLES])}"
    return found
