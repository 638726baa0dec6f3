"""Splits of the images: at random, or from published lists."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from tfds_deepglobe.errors import InputError
from tfds_deepglobe.file_names import FileNames

SPLITS = ("train", "validation", "test")
# The original's split of the 803 labeled images: 649 train, 73 validation, 81 test.
_NUM_IMAGES, _NUM_VALIDATION, _NUM_TEST = 803, 73, 81
# File names of published split lists. The first existing file per split is read.
_LIST_NAMES = {
    "train": ("train.txt",),
    "validation": ("crossvali.txt", "val.txt"),
    "test": ("test.txt",),
}

Assignment = dict[str, tuple[str, ...]]


def assign(ids: Iterable[str], seed: int = 0) -> Assignment:
    """Splits images at random, in the ratio 649 : 73 : 81.

    The ids are ordered by a hash of seed and id. So the split depends only on the ids and the seed,
    not on folders, the order of the files or the number of shards.

    Args:
        ids: ids of the labeled images.
        seed: random seed.

    Returns:
        The ids of each of `SPLITS`. No split is empty.

    Raises:
        InputError: There are fewer than 3 images.

    Example:
        >>> {split: len(ids) for split, ids in assign(map(str, range(803))).items()}
        {'train': 649, 'validation': 73, 'test': 81}
    """
    ordered = sorted(ids, key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).hexdigest())
    count = len(ordered)
    if count < len(SPLITS):
        raise InputError(
            f"Three splits need at least 3 labeled images. Received: {count}. Add images, or "
            "assign them to splits with `split_files`."
        )
    num_validation = max(1, round(count * _NUM_VALIDATION / _NUM_IMAGES))
    num_test = max(1, round(count * _NUM_TEST / _NUM_IMAGES))
    num_train = count - num_validation - num_test
    return {
        "train": tuple(ordered[:num_train]),
        "validation": tuple(ordered[num_train : num_train + num_validation]),
        "test": tuple(ordered[num_train + num_validation :]),
    }


def read_split_files(split_files: str | Path, names: FileNames | None = None) -> Assignment:
    """Reads published split lists.

    Args:
        split_files: folder with `train.txt`, `crossvali.txt` or `val.txt`, and `test.txt`. Each
            line is an image's file name or id.
        names: name patterns; None for `<id>_sat.jpg`.

    Returns:
        The ids of each of `SPLITS`. The images need not exist.

    Raises:
        InputError: A list does not exist or is not text, or an id is in two lists.
    """
    directory = Path(split_files)
    names = names or FileNames.parse()
    lists: Assignment = {}
    split_of: dict[str, str] = {}
    for split, list_names in _LIST_NAMES.items():
        path = next((p for name in list_names if (p := directory / name).is_file()), None)
        if path is None:
            raise InputError(
                f"`split_files` has no {' or '.join(list_names)}. Expected: train.txt, "
                f"crossvali.txt (or val.txt) and test.txt with one {names.images.name_of('<id>')} "
                f"or <id> per line. Received: split_files={directory}."
            )
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise InputError(f"{path} is not a text file in UTF-8. Save it as UTF-8.") from None
        ids = dict.fromkeys(names.id_in_list(line.strip()) for line in lines if line.strip())
        for image_id in ids:
            if (other := split_of.setdefault(image_id, split)) != split:
                raise InputError(
                    f"{image_id} is in two lists of {directory}: {other} and {split}. Delete it "
                    "from one of them."
                )
        lists[split] = tuple(ids)
    return lists


def keep_present(
    lists: Mapping[str, Collection[str]], ids: Collection[str]
) -> tuple[Assignment, list[str], list[str]]:
    """Reduces split lists to existing images.

    Args:
        lists: ids of each split, from `read_split_files`.
        ids: ids of the labeled images.

    Returns:
        The ids of existing images per split, the listed ids without an image, and the ids of images
        that are in no list.

    Raises:
        InputError: None of the listed images exists.

    Example:
        >>> keep_present({"train": ("1", "2"), "test": ("3",)}, ["2", "4"])
        ({'train': ('2',), 'test': ()}, ['1', '3'], ['4'])
    """
    present = set(ids)
    kept = {split: tuple(i for i in listed if i in present) for split, listed in lists.items()}
    if not any(kept.values()):
        example = next((i for listed in lists.values() for i in listed), "none")
        raise InputError(
            "None of the images in `split_files` is in the archive. First id in the lists: "
            f"{example}; first id in the archive: {min(ids, default='none')}. Check that the lists "
            "belong to this archive."
        )
    listed_ids = {image_id for listed in lists.values() for image_id in listed}
    return kept, sorted(listed_ids - present), sorted(present - listed_ids)
