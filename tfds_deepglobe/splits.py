"""Which image belongs to which split."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from tfds_deepglobe.errors import InputError
from tfds_deepglobe.file_names import FileNames

SPLITS = ("train", "validation", "test")
# Of the 803 labelled images 73 validate and 81 test, as in the original; the other 649 train.
_NUM_IMAGES, _NUM_VALIDATION, _NUM_TEST = 803, 73, 81
# File names of published split lists, by split; the first that exists is taken.
_LIST_NAMES = {
    "train": ("train.txt",),
    "validation": ("crossvali.txt", "val.txt"),
    "test": ("test.txt",),
}

Assignment = dict[str, tuple[str, ...]]


def assign(ids: Iterable[str], seed: int = 0) -> Assignment:
    """Splits images at random, but always alike.

    The ids are ordered by a hash of seed and id, then cut at the shares 649 : 73 : 81. So only the
    ids and the seed decide, not folders, listing order or shards.

    Args:
        ids: the labelled images' ids.
        seed: another seed is another split.

    Returns:
        The ids of each of `SPLITS`; none is empty.

    Raises:
        InputError: fewer than 3 images, which three splits need.
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


def read_split_files(directory: str | Path, names: FileNames | None = None) -> Assignment:
    """Reads published split lists.

    Args:
        directory: folder with `train.txt`, `crossvali.txt` or `val.txt`, and `test.txt`, each with
            one image's file name or id a line.
        names: what images are called; None for `<id>_sat.jpg`.

    Returns:
        The ids of each of `SPLITS`, whether or not such images exist.

    Raises:
        InputError: the folder or a list is missing or no text, or an id is in two lists.
    """
    directory = Path(directory)
    names = names or FileNames.parse()
    lists: Assignment = {}
    split_of: dict[str, str] = {}
    for split, list_names in _LIST_NAMES.items():
        path = next((p for name in list_names if (p := directory / name).is_file()), None)
        if path is None:
            image = names.images.name_of("<id>")
            raise InputError(
                f"no {' or '.join(list_names)} in {directory}; expected train.txt, crossvali.txt "
                f"(or val.txt) and test.txt with one {image} or <id> a line"
            )
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise InputError(f"{path} is not a text file") from None
        ids = dict.fromkeys(names.id_in_list(line.strip()) for line in lines if line.strip())
        for image_id in ids:
            if other := split_of.setdefault(image_id, split) != split and split_of[image_id]:
                raise InputError(f"{image_id} is in two lists of {directory}: {other} and {split}")
        lists[split] = tuple(ids)
    return lists


def keep_present(
    lists: Mapping[str, Collection[str]], ids: Collection[str]
) -> tuple[Assignment, list[str], list[str]]:
    """Reduces split lists to the images that are there.

    Args:
        lists: ids of each split, from `read_split_files`.
        ids: the labelled images' ids.

    Returns:
        The ids of each split, empty where none is there; the listed ids that are absent; and the
        images that are in no list.

    Raises:
        InputError: not one listed image is there.
    """
    present = set(ids)
    kept = {split: tuple(i for i in listed if i in present) for split, listed in lists.items()}
    if not any(kept.values()):
        example = next((i for listed in lists.values() for i in listed), "none")
        raise InputError(
            "not one of the images in the split files is in the archive. First id listed: "
            f"{example}; first id in the archive: {min(ids, default='none')}."
        )
    listed_ids = {image_id for listed in lists.values() for image_id in listed}
    return kept, sorted(listed_ids - present), sorted(present - listed_ids)
