"""Search for the mask of each image. The file names of both contain the same id."""

import collections
import dataclasses
import posixpath
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from tfds_deepglobe.errors import listed, shorten
from tfds_deepglobe.file_names import FileNames, looks_like_image
from tfds_deepglobe.sources import File
from tfds_deepglobe.words import split_of_folder, without_kinds

_MAX_EXAMPLES = 3  # largest number of file names in an error message


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image and its mask.

    Attributes:
        id: id in the file names of the image and the mask. If several folders contain the same id,
            all ids begin with the folder, such as "Tile 1/7".
        image: file of the image.
        mask: file of the mask.
        folder: folder of the image, such as "Tile 1". Outer folders that contain all images, and
            the folders in the name pattern, are omitted.
    """

    id: str
    image: File
    mask: File
    folder: str


@dataclasses.dataclass(frozen=True)
class Pairing:
    """Result of `pair_files`.

    Attributes:
        pairs: pairs of an image and its mask, sorted by id.
        unlabeled: number of images without masks. Key: name of a folder, such as `test`. Value:
            number of such images in folders with this name.
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
        top: folders that the name pattern does not define.
        place: form of `top` that is equal for an image and its mask.
        file: the file.
    """

    top: str
    place: str
    file: File


# Key: id of an image. Value: files of images and files of masks with this id.
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
    bands: dict[tuple[int, str, str], File] = {}
    for file in files:
        if band := names.band_of(file.name):
            bands[band] = file
        elif matched := names.match(file.name):
            image_id, top, is_mask = matched
            place = _Place(top, without_kinds(top), file)
            by_id.setdefault(image_id, ([], []))[is_mask].append(place)
        elif looks_like_image(file.name):
            left_out.append(file.name)
    _join_equal_texts(by_id)
    # The ids of DeepGlobe are unique. A second file with the same id is a copy. An image and its
    # mask can be in any two folders.
    only_places = False
    if not names.is_deepglobe:
        by_id = _with_folders(by_id)
        places = [
            {place.place for group in by_id.values() for place in group[kind]} for kind in (0, 1)
        ]
        # Without a common place, images and masks are paired only if all images are in one place,
        # all masks are in one place, and both places are of the same split.
        only_places = (
            any(_common_places(group) for group in by_id.values())
            or any(len(found) > 1 for found in places)
            or len({split_of_folder(place) for found in places for place in found} - {None}) > 1
        )
    with_masks = {
        tuple(parts[:depth])
        for _, masks in by_id.values()
        for mask in masks
        for parts in [_parts(mask.top)]
        for depth in range(len(parts) + 1)
    }
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
    for image_id, group in sorted(by_id.items()):
        images, masks = group
        if len(images) > 1 or len(masks) > 1:
            duplicates = images if len(images) > 1 else masks
            paths = listed([place.file.name for place in duplicates])
            faults.append(
                f"duplicate id {shorten(image_id, 80)}: {paths}; rename the files, so that each "
                "image has its own id"
            )
        if len(images) == len(masks) == 1 and not (only_places and not _common_places(group)):
            pairs.append((image_id, images[0], masks[0]))
            continue
        mask_in = {mask.place: mask for mask in masks}
        base = posixpath.basename(image_id)
        for image in images:
            if image.place in mask_in:
                pairs.append((image_id, image, mask_in.pop(image.place)))
            elif folder := _unlabeled_folder(image.top or root, with_masks):
                unlabeled[folder] += 1
            else:
                faults.append(missing("mask", image.file, names.masks.name_of(base)))
        for mask in mask_in.values():
            faults.append(missing("image", mask.file, names.images.name_of(base)))
    if names.bands:
        pairs, missing_bands = _with_all_bands(pairs, names, bands)
        faults += missing_bands
    tops = [_parts(image.top) for _, image, _ in pairs]
    common = len(posixpath.commonprefix(tops))
    return Pairing(
        tuple(
            Pair(image_id, image.file, mask.file, "/".join(top[common:]))
            for (image_id, image, mask), top in zip(pairs, tops, strict=True)
        ),
        dict(sorted(unlabeled.items(), reverse=True)),
        tuple(faults),
        tuple(left_out),
    )


def _with_all_bands(
    pairs: Iterable[tuple[str, _Place, _Place]],
    names: FileNames,
    bands: Mapping[tuple[int, str, str], File],
) -> tuple[list[tuple[str, _Place, _Place]], list[str]]:
    """Adds the files of the other bands to images with one file per band.

    Args:
        pairs: id, file of the first band, and mask of each image.
        names: name patterns of images and masks.
        bands: key: number of a band, id in the file name, and folders. Value: file.

    Returns:
        The images with all bands, and one fault per missing band.
    """
    complete, faults = [], []
    for pair_id, image, mask in pairs:
        place = names.images.match(image.file.name)
        keys = [(number, *(place or ("", ""))) for number in range(1, len(names.bands))]
        files = [image.file, *(bands[key] for key in keys if key in bands)]
        if absent := [names.bands[number] for number, *key in keys if (number, *key) not in bands]:
            faults.append(
                f"{shorten(image.file.name, 120)}: missing file of the band {listed(absent)}"
            )
            continue
        file = dataclasses.replace(
            image.file,
            size=sum(file.size for file in files),
            times=max(file.times for file in files),
            parts=tuple(file.name for file in files),
        )
        complete.append((pair_id, image._replace(file=file), mask))
    return complete, faults


def _parts(top: str) -> list[str]:
    """Returns the folders of a path; an empty list for `""`."""
    return top.split("/") if top else []


def _common_places(group: tuple[list[_Place], list[_Place]]) -> set[str]:
    """Returns the places that contain both an image and a mask."""
    images, masks = ({place.place for place in places} for places in group)
    return images & masks


def _unlabeled_folder(top: str, with_masks: Collection[tuple[str, ...]]) -> str | None:
    """Returns the folder for validation or testing that contains an image and no mask, or None.

    In Kaggle's archive of DeepGlobe, for example, images in such folders have no masks.

    Args:
        top: folders of an image without a mask.
        with_masks: all folders that contain masks, also in their subfolders.
    """
    parts = _parts(top)
    for depth, part in enumerate(parts, start=1):
        is_unlabeled = split_of_folder(part) in ("validation", "test")
        if is_unlabeled and tuple(parts[:depth]) not in with_masks:
            return part
    return None


def _with_folders(by_id: _Groups) -> _Groups:
    """Adds folders to the ids, if images or masks in several folders have the same id.

    For example, the ids of `data/Tile 1/images/7.jpg` and `data/Tile 2/images/7.jpg` are `Tile 1/7`
    and `Tile 2/7`. The folder `data` is not added, because it contains all pairs.
    """
    if not any(map(_common_places, by_id.values())) or not any(
        len({place.place for place in places}) > 1 for group in by_id.values() for places in group
    ):
        return by_id
    by_place: dict[tuple[str, str], tuple[list[_Place], list[_Place]]] = {}
    for image_id, group in by_id.items():
        for is_mask, places in enumerate(group):
            for place in places:
                by_place.setdefault((place.place, image_id), ([], []))[is_mask].append(place)
    # The ids of pairs do not depend on images without masks.
    complete = [_parts(images[0].top) for images, masks in by_place.values() if images and masks]
    common = len(posixpath.commonprefix(complete))
    groups = {}
    for (_, image_id), (images, masks) in by_place.items():
        folders = _parts((images or masks)[0].top)
        omitted = common if images and masks else 0
        groups["/".join([*folders[omitted:], image_id])] = (images, masks)
    return groups


def _join_equal_texts(by_id: _Groups) -> None:
    """Joins images with masks whose ids are the same text in different forms of Unicode.

    Some programs write "é" as one character (NFC), other programs as two characters (NFD). The two
    ids look the same. Without this function, a message would report a missing mask, although a file
    with this name seems to exist.
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


def inventory(files: Sequence[File], names: FileNames | None) -> str:
    """Describes the files of an archive for an error message, if no image has a mask.

    Args:
        files: all files of the archive.
        names: name patterns of images and masks; None if no patterns were recognized.
    """
    if not files:
        return "found no files"
    kinds = collections.Counter(
        shorten(posixpath.splitext(file.name)[1], 20) or "without extension" for file in files
    )
    counts = [f"{count} {kind}" for kind, count in kinds.most_common()]
    found = f"found {len(files)} file{'s' * (len(files) != 1)}: {listed(counts, 4)}"
    matches = {file.name: names and names.match(file.name) for file in files}
    if names:
        masks = [is_mask for *_, is_mask in filter(None, matches.values())]
        found += (
            f"; {masks.count(False)} images match {shorten(str(names.images), 80)}, "
            f"{masks.count(True)} masks match {shorten(str(names.masks), 80)}"
        )
    # Show at most one example per folder, because the files of a folder usually have similar names.
    examples = {file.folder: file.name for file in reversed(files) if not matches[file.name]}
    if examples:
        other = " of other files" * bool(names)
        found += f"; examples{other}: {listed(sorted(examples.values())[:_MAX_EXAMPLES])}"
    return found
