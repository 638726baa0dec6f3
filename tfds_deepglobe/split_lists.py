"""Published split lists: text files with the images of each split."""

import collections
import re
import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path

from tfds_deepglobe.errors import InputError, shorten
from tfds_deepglobe.file_names import FileNames
from tfds_deepglobe.splits import Assignment
from tfds_deepglobe.words import folded

MAX_SIZE = 100_000_000  # bytes of the largest split list that is read: about a million names
# File names of published split lists
_LIST_NAMES = {
    "train": ("train.txt",),
    "validation": ("crossvali.txt", "val.txt"),
    "test": ("test.txt",),
}


def read_split_files(split_files: str | Path, names: FileNames | None = None) -> Assignment:
    """Reads published split lists.

    Args:
        split_files: folder with `train.txt`, `crossvali.txt` (or `val.txt`) and `test.txt`. Each
            line is the file name or the id of an image.
        names: name patterns of images and masks; None for `<id>_sat.jpg` and `<id>_mask.png`.

    Returns:
        Dictionary. Key: name of each split in `SPLITS`. Value: ids in the list of the split. The
        lists may contain ids of images that do not exist.

    Raises:
        InputError: A list does not exist or exists twice, a list is not text, or an id is in two
            lists.
    """
    directory = Path(split_files)
    names = names or FileNames.parse()
    lists: Assignment = {}
    split_of: dict[str, str] = {}
    for split, list_names in _LIST_NAMES.items():
        paths = [path for name in list_names if (path := directory / name).is_file()]
        if len(paths) > 1:
            raise InputError(
                f"{directory} has {' and '.join(path.name for path in paths)}, two lists of the "
                f"split {split}. Delete one of them."
            )
        if not paths:
            raise InputError(
                f"`split_files` has no {' or '.join(list_names)}. Expected: a folder with "
                "train.txt, crossvali.txt (or val.txt) and test.txt. Each line must be "
                f"{names.images.name_of('<id>')} or <id>. Received: split_files={directory}."
            )
        (path,) = paths
        if path.stat().st_size > MAX_SIZE:
            raise InputError(
                f"{path} has {path.stat().st_size / 1e6:.0f} MB, but a split list has at most "
                f"{MAX_SIZE / 1e6:.0f} MB. Write one id per line."
            )
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise InputError(f"{path} is not a text file in UTF-8. Save it as UTF-8.") from None
        ids = dict.fromkeys(names.id_in_list(line.strip()) for line in lines if line.strip())
        for image_id in ids:
            text = unicodedata.normalize("NFC", image_id)
            if (other := split_of.setdefault(text, split)) != split:
                raise InputError(
                    f"{image_id} is in two lists of {directory}: {other} and {split}. Delete "
                    "this id from one of the two lists."
                )
        lists[split] = tuple(ids)
    return lists


def keep_present(
    lists: Mapping[str, Collection[str]], paths: Mapping[str, str]
) -> tuple[Assignment, list[str], list[str]]:
    """Removes ids from split lists if their images do not exist.

    Args:
        lists: result of `read_split_files`. Key: name of a split. Value: ids.
        paths: key: id of an image that exists and has a mask. Value: path of the image.

    Returns:
        A tuple of three items:

        - the split lists, without the ids of images that do not exist,
        - the removed ids,
        - the ids of images that are not in any list.

    Raises:
        InputError: No image of the lists exists, or a line contains an id together with other text.

    Example:
        >>> keep_present({"train": ("1", "2"), "test": ("3",)}, {"2": "2.jpg", "4": "4.jpg"})
        ({'train': ('2',), 'test': ()}, ['1', '3'], ['4'])
    """
    present = set(paths)
    # A list and a file name can contain the same text in two forms of Unicode.
    by_text = {unicodedata.normalize("NFC", image_id): image_id for image_id in paths}

    # A line can begin with more folders than the id of the image, such as `data/train/7` for the id
    # `train/7`. Omit these folders.
    found: dict[str, str] = {}
    omitted = collections.defaultdict[str, set[str]](set)
    for line in dict.fromkeys(line for ids_in_list in lists.values() for line in ids_in_list):
        parts = unicodedata.normalize("NFC", line).split("/")
        for start in range(len(parts)):
            if image_id := by_text.get("/".join(parts[start:])):
                found[line] = image_id
                omitted[image_id].add("/".join(parts[:start]))
                break
    # Several lines can have the same image name, but different folders. This happens if the lists
    # describe a larger data set than the archive. Then use only the line whose folders are also in
    # the path of the image.
    for line, image_id in list(found.items()):
        folders = set(folded(paths[image_id]).split("/"))
        in_path = {text for text in omitted[image_id] if set(folded(text).split("/")) <= folders}
        own = unicodedata.normalize("NFC", line).removesuffix(
            unicodedata.normalize("NFC", image_id)
        )
        if len(omitted[image_id] - {""}) > 1 and in_path and own.rstrip("/") not in in_path | {""}:
            del found[line]
    lists = {
        split: dict.fromkeys(found.get(line, line) for line in listed)
        for split, listed in lists.items()
    }
    split_of: dict[str, str] = {}
    for split, ids_in_list in lists.items():
        for image_id in ids_in_list:
            if (other := split_of.setdefault(image_id, split)) != split:
                raise InputError(
                    f"{image_id} is in two lists of `split_files`: {other} and {split}. Delete "
                    "this id from one of the two lists."
                )
    kept = {split: tuple(i for i in listed if i in present) for split, listed in lists.items()}
    if not any(kept.values()):
        example = next((i for listed in lists.values() for i in listed), "none")
        raise InputError(
            "None of the images in `split_files` is in the archive. First id in the lists: "
            f"{example}; first id in the archive: {min(paths, default='none')}. Use split lists of "
            "this archive."
        )
    listed_ids = {image_id for listed in lists.values() for image_id in listed}
    unused = present - listed_ids
    for line in sorted(listed_ids - present):
        words = re.split(r"[\s,;\"'/\\]+", line)
        # Also find the id 7 in names such as "7_sat" and "7_mask.png".
        words += [re.sub(r"_[a-z]+(\.\w+)?$", "", word) for word in words]
        if found := unused.intersection(words):
            raise InputError(
                f"A line of a list in `split_files` is {shorten(line, 80)!r}, which is neither a "
                f"file name nor an id of the archive. It contains the id {min(found)}. Write one "
                "id per line."
            )
    return kept, sorted(listed_ids - present), sorted(present - listed_ids)
