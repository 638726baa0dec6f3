"""Division of the images into splits, at random or with published lists of image ids."""

import hashlib
import posixpath
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from tfds_deepglobe.errors import InputError, shorten
from tfds_deepglobe.file_names import FileNames

SPLITS = ("train", "validation", "test")
# Sizes of the splits in the original PyTorch notebooks: of 803 images with masks, 649 are for
# training, 73 for validation and 81 for testing.
_NUM_IMAGES, _NUM_VALIDATION, _NUM_TEST = 803, 73, 81
# File names of published split lists
_LIST_NAMES = {
    "train": ("train.txt",),
    "validation": ("crossvali.txt", "val.txt"),
    "test": ("test.txt",),
}

Assignment = dict[str, tuple[str, ...]]


def assign(ids: Iterable[str], seed: int = 0) -> Assignment:
    """Splits images at random, in the ratio 649 : 73 : 81.

    The ids are sorted by a hash of the seed and the id. Therefore, the result depends only on the
    ids and the seed. The order of the files and the number of shards do not change it.

    If all ids begin with folders, such as "Tile 1/7", and there are three or more folders, the
    images of a folder are never in different splits. They are often neighbors, and scores of
    neighbors of training images are too high.

    Args:
        ids: ids of the images with masks.
        seed: random seed.

    Returns:
        Dictionary from the name of each split in `SPLITS` to its image ids. No split is empty.

    Raises:
        InputError: There are fewer than 3 images.

    Example:
        >>> {split: len(ids) for split, ids in assign(map(str, range(803))).items()}
        {'train': 649, 'validation': 73, 'test': 81}
    """
    ordered = sorted(ids, key=lambda i: _hash(seed, i))
    count = len(ordered)
    if count < len(SPLITS):
        raise InputError(
            f"Three splits need at least 3 images with masks. Received: {count}. Add images, or "
            "assign the images to splits with `split_files`."
        )
    num_validation = max(1, round(count * _NUM_VALIDATION / _NUM_IMAGES))
    num_test = max(1, round(count * _NUM_TEST / _NUM_IMAGES))
    if folders := folders_of(ordered):
        return _assign_folders(folders, seed, {"test": num_test, "validation": num_validation})
    num_train = count - num_validation - num_test
    return {
        "train": tuple(ordered[:num_train]),
        "validation": tuple(ordered[num_train : num_train + num_validation]),
        "test": tuple(ordered[num_train + num_validation :]),
    }


def folders_of(ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Returns the ids in each folder; an empty dictionary if there are fewer than three folders.

    Example:
        >>> folders_of(["a/1", "a/2", "b/1", "c/1"])
        {'a': ('a/1', 'a/2'), 'b': ('b/1',), 'c': ('c/1',)}
    """
    folders: dict[str, tuple[str, ...]] = {}
    for image_id in ids:
        folder = posixpath.dirname(image_id)
        folders[folder] = (*folders.get(folder, ()), image_id)
    return {} if "" in folders or len(folders) < len(SPLITS) else folders


def _assign_folders(
    folders: Mapping[str, tuple[str, ...]], seed: int, sizes: Mapping[str, int]
) -> Assignment:
    """Splits folders at random. Folders are added to a split until it has the requested size."""
    remaining = sorted(folders, key=lambda folder: _hash(seed, folder))
    splits: Assignment = {}
    for position, (split, size) in enumerate(sizes.items()):
        chosen: tuple[str, ...] = ()
        # At least one folder must remain for each of the other splits.
        while len(chosen) < size and len(remaining) > len(sizes) - position:
            chosen += folders[remaining.pop()]
        splits[split] = chosen
    train = tuple(image_id for folder in remaining for image_id in folders[folder])
    return {"train": train, "validation": splits["validation"], "test": splits["test"]}


def _hash(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()


def read_split_files(split_files: str | Path, names: FileNames | None = None) -> Assignment:
    """Reads published split lists.

    Args:
        split_files: folder with `train.txt`, `crossvali.txt` (or `val.txt`) and `test.txt`. Each
            line is the file name or the id of an image.
        names: name patterns of images and masks; None for `<id>_sat.jpg` and `<id>_mask.png`.

    Returns:
        Dictionary from the name of each split in `SPLITS` to the ids in its list. The lists may
        contain ids of images that do not exist.

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
    lists: Mapping[str, Collection[str]], ids: Collection[str]
) -> tuple[Assignment, list[str], list[str]]:
    """Removes ids from split lists if their images do not exist.

    Args:
        lists: dictionary from split names to ids, as returned by `read_split_files`.
        ids: ids of the images that exist and have masks.

    Returns:
        A tuple of three items:

        - the split lists, without the ids of images that do not exist,
        - the removed ids,
        - the ids of images that are not in any list.

    Raises:
        InputError: No image of the lists exists, or a line contains an id together with other text.

    Example:
        >>> keep_present({"train": ("1", "2"), "test": ("3",)}, ["2", "4"])
        ({'train': ('2',), 'test': ()}, ['1', '3'], ['4'])
    """
    present = set(ids)
    # A list and a file name can contain the same text in two forms of Unicode.
    by_text = {unicodedata.normalize("NFC", image_id): image_id for image_id in ids}

    def present_id(image_id: str) -> str:
        """Leaves out outer folders that are not part of the ids of the archive."""
        parts = unicodedata.normalize("NFC", image_id).split("/")
        texts = ["/".join(parts[start:]) for start in range(len(parts))]
        return next((by_text[text] for text in texts if text in by_text), image_id)

    lists = {split: [*map(present_id, listed)] for split, listed in lists.items()}
    split_of: dict[str, str] = {}
    for split, listed in lists.items():
        for image_id in listed:
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
            f"{example}; first id in the archive: {min(ids, default='none')}. Use split lists of "
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
