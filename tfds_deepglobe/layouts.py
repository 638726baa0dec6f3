"""Recognition of the usual layouts of data sets, such as `images/1.tif` and `labels/1.tif`."""

import collections
import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tfds_deepglobe.errors import InputError
from tfds_deepglobe.file_names import FileNames, format_of, looks_like_image
from tfds_deepglobe.sources import File
from tfds_deepglobe.words import (
    IMAGE_WORDS,
    MASK_WORDS,
    folded,
    without_kinds,
    words_of,
)

_MAX_PATTERNS = 12  # only the most frequent patterns are compared; usual layouts have fewer
_MAX_EXAMPLES = 4  # largest number of other patterns in an error message

# Key: folders and id of an image or a mask. Value: name of the file.
_Files = dict[tuple[str, str], str]


class _Candidate(NamedTuple):
    """Possible patterns of images and masks.

    Attributes:
        names: the patterns.
        is_known: True if a word such as "images" is in the pattern of the images.
        pairs: file names of the image and the mask of each pair.
    """

    names: FileNames
    is_known: bool
    pairs: set[tuple[str, str]]


def recognize_layout(files: Sequence[File]) -> FileNames | None:
    """Finds the name patterns of images and masks.

    Two kinds of layouts are recognized:

    - folders at any depth: `images/` with `masks/`, `labels/`, `annotations/`, `gt/`, ...;
    - names that differ in a prefix or a suffix: `7.jpg` and `7_mask.png`.

    Args:
        files: all files of an archive.

    Returns:
        The patterns with the largest number of pairs; None if no pairs exist. A word such as
        "images" in the pattern of the images is more important than the number of pairs.

    Raises:
        InputError: one of these reasons:

            - The masks are JPEG files.
            - Several patterns are possible, for example because two folders contain masks. The
              message lists the patterns.

    Example:
        >>> files = [File(f"train/{folder}/7.png", 1) for folder in ("images", "gt")]
        >>> found = recognize_layout(files)
        >>> str(found.images), str(found.masks)
        ('images/*.png', 'gt/*.png')
    """
    images, masks, known = _patterns(file.name for file in files)
    candidates, jpeg_masks = [], None
    for image_glob, image_files in images.items():
        for mask_pattern, mask_files in masks.items():
            if pairs := _pairs(image_files, mask_files):
                try:
                    names = FileNames.parse(image_glob, mask_pattern)
                except InputError as error:
                    jpeg_masks = error
                    continue
                candidates.append(_Candidate(names, image_glob in known, pairs))
    if not candidates:
        if jpeg_masks:
            raise jpeg_masks
        return None
    best = max(candidates, key=lambda candidate: (candidate.is_known, len(candidate.pairs)))
    # Patterns with at least one pair that the best patterns do not find
    rivals = [c for c in candidates if c.is_known == best.is_known and not c.pairs <= best.pairs]
    if rivals:
        raise InputError(_several([best, *rivals[:_MAX_EXAMPLES]]))
    return best.names


def _several(candidates: Sequence[_Candidate]) -> str:
    """Formats an error message for several possible patterns. The best patterns are the first."""
    texts = [
        f"`image_glob={names.images}` with `mask_pattern={names.masks}` ({len(pairs)} pairs)"
        for names, _, pairs in candidates
    ]
    without_format = {
        tuple(posixpath.splitext(str(pattern))[0] for pattern in (names.images, names.masks))
        for names, *_ in candidates
    }
    if len(without_format) == 1:
        return (
            f"The images or the masks have several formats: {'; '.join(texts)}. Convert them to "
            "one format."
        )
    return (
        "Several name patterns of images and masks are possible. Choose one with `image_glob` "
        f"and `mask_pattern`. Possible patterns: {'; '.join(texts)}."
    )


def _pairs(images: _Files, masks: _Files) -> set[tuple[str, str]]:
    """Returns images and masks with the same id in the same folder.

    If these pairs do not exist, returns images and masks with the same id in any folder. Then,
    ids that are in several folders are ignored.
    """
    if both := images.keys() & masks.keys():
        return {(images[key], masks[key]) for key in both}
    by_id = []
    for files in (images, masks):
        names = collections.defaultdict[str, list[str]](list)
        for (_, image_id), name in files.items():
            names[image_id].append(name)
        by_id.append({image_id: found[0] for image_id, found in names.items() if len(found) == 1})
    return {(by_id[0][key], by_id[1][key]) for key in by_id[0].keys() & by_id[1].keys()}


def _patterns(names: Iterable[str]) -> tuple[dict[str, _Files], dict[str, _Files], set[str]]:
    """Finds the most frequent name patterns of images and of masks.

    A name without a known word, such as `7.jpg`, can be an image.

    Returns:
        Three values:

        - files of each pattern of images.
        - files of each pattern of masks.
        - patterns of images that contain a word such as "images".
    """
    found: tuple[dict[str, _Files], dict[str, _Files]] = ({}, {})
    spelled: dict[str, str] = {}  # key: pattern in lower case; value: first spelling
    known = set()
    names = list(filter(looks_like_image, names))
    # If a folder contains all files, its name says nothing about the kind of a file.
    common = len(posixpath.commonprefix([name.split("/")[:-1] for name in names]))
    for name in names:
        *folders, base = name.split("/")
        stem, extension = posixpath.splitext(base)
        extension = extension.lower().replace(".jpeg", ".jpg").replace(".tiff", ".tif")
        kinds = [kind if i >= common else None for i, kind in enumerate(map(_kind, folders))]
        at = max((i for i, kind in enumerate(kinds) if kind), default=None)
        where, tops = "", folders
        if at is not None:
            pattern = _folder_pattern(folders[at], kinds[at])
            where = "/".join([pattern, *("*" for _ in folders[at + 1 :]), ""])
            tops = folders[: at + ("*" in pattern)] + folders[at + 1 :]
        affixes = _affixes(stem)
        is_mask = "mask" in {kinds[at] if at is not None else None, *affixes.values()}
        for before, after in ("", ""), *affixes:
            text = f"{where}{before}*{after}{extension}"
            text = spelled.setdefault(folded(text), text)
            image_id = folded(stem[len(before) : len(stem) - len(after)])
            files = found[is_mask].setdefault(text, {})
            files.setdefault((without_kinds("/".join(tops)), image_id), name)
            if not is_mask and (at is not None or before or after):
                known.add(text)
    frequent = [
        dict(sorted(patterns.items(), key=lambda item: -len(item[1]))[:_MAX_PATTERNS])
        for patterns in found
    ]
    return frequent[0], frequent[1], known


def _kind(folder: str) -> str | None:
    """Returns "image", "mask", or None for a folder without a known word."""
    words = set(words_of(folder))
    for kind, known in (("mask", MASK_WORDS), ("image", IMAGE_WORDS)):
        if words & known:
            return kind
    return None


def _folder_pattern(folder: str, kind: str) -> str:
    """Returns a pattern for similar folders, such as "*_images" for "train_images".

    `*` replaces the text before and after the word of the kind. A format after the word, such as
    "png" in "masks_png", is not replaced.
    """
    known = MASK_WORDS if kind == "mask" else IMAGE_WORDS
    word = next(w for w in re.finditer(r"[^\W\d_]+", folder) if folded(w[0]) in known)
    before, after = folder[: word.start()], folder[word.end() :]
    start = "*" + before[-1] if before else ""
    end = after[:1] + "*" if after else ""
    if re.fullmatch(r"[_-](png|jpe?g|tiff?|bmp)", folded(after)):
        end = after
    return f"{start}{word[0]}{end}"


def _affixes(stem: str) -> dict[tuple[str, str], str]:
    """Finds a known prefix and a known suffix of a file name.

    The name of a mask can also contain the extension of its image, such as `7.jpg.png`.

    Returns:
        Dictionary. Key: `(prefix, suffix)`, one of which is empty. Value: "image" or "mask".
    """
    affixes = {}
    if found := re.fullmatch(r"([^\W\d_]+[_-]).+", stem):
        affixes[found[1], ""] = _kind(found[1])
    if found := re.fullmatch(r".+([_-][^\W\d_]+)", stem):
        affixes["", found[1]] = _kind(found[1])
    if format_of(stem):
        affixes["", posixpath.splitext(stem)[1]] = "mask"
    return {affix: kind for affix, kind in affixes.items() if kind in ("image", "mask")}
