"""Division of the images into splits, by folders or at random."""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from tfds_deepglobe.errors import InputError, listed, shorten
from tfds_deepglobe.words import split_of_folder

SPLITS = ("train", "validation", "test")
# Sizes of the splits in the original PyTorch notebooks: of 803 images with masks, 649 are for
# training, 73 for validation and 81 for testing.
_NUM_IMAGES, _NUM_VALIDATION, _NUM_TEST = 803, 73, 81

Assignment = dict[str, tuple[str, ...]]
# Seed of a random split, or the ids in each split
ChosenBy = Mapping[str, int] | Assignment


class SplitPlan(NamedTuple):
    """Result of `plan_split`.

    Attributes:
        splits: key: name of each split in `SPLITS`. Value: ids of its images.
        chosen_by: seed of a random split without groups, or the ids in each split. The value is
            part of the fingerprint of the data set.
        lines: description of the split for the user, and warnings.
        is_ungrouped: True if the split is random without groups, and `group_by` is "auto".
    """

    splits: Assignment
    chosen_by: ChosenBy
    lines: list[str]
    is_ungrouped: bool = False


def plan_split(
    folders: Mapping[str, str],
    *,
    split: str = "auto",
    group_by: str = "auto",
    seed: int = 0,
    near: Callable[[float], dict[str, str] | None] | None = None,
) -> SplitPlan:
    """Splits the images of an archive.

    Args:
        folders: key: id of an image. Value: its folder.
        split: "folders", "random" or "auto", see `tfds_deepglobe.prepare.prepare`.
        group_by: "folder", "none", "auto", a distance or a regular expression, see
            `tfds_deepglobe.prepare.prepare`.
        seed: seed of a random split.
        near: function that accepts a distance in meters and returns groups of images, see
            `distance_groups`. None if the images have no positions.

    Raises:
        InputError: An argument is invalid, the names of the folders do not define the splits, or
            fewer than three images or groups exist.

    Example:
        >>> plan = plan_split({"1": "train", "2": "val", "3": "test"})
        >>> plan.lines
        ['split by folders: train 1, validation 1, test 1 images']
    """
    if split not in (choices := ("auto", "folders", "random")):
        raise InputError(f"`split` must be one of {', '.join(choices)}. Received: split={split}.")
    by_pattern = None
    distance = re.fullmatch(r"(\d+(?:\.\d+)?)m", group_by)
    if distance and near:
        by_pattern = near(float(distance[1]))
    elif group_by not in ("auto", "folder", "none"):
        by_pattern = pattern_groups(folders, group_by)
    what = "folder"
    if by_pattern:
        what = f"at most {distance[1]} m apart" if distance else f"{group_by!r} in the id"

    def groups_of(images: Mapping[str, str]) -> Mapping[str, str] | None:
        """Returns the group of each image; None if the images are not grouped."""
        if by_pattern or group_by == "none":
            return by_pattern
        return images if group_by == "folder" else folder_groups(images)

    published = published_split(folders, seed, groups_of) if split != "random" else None
    if published:
        lines = [f"split by folders: {_sizes(published)}"]
        if {*map(split_of_folder, folders.values())} != {*SPLITS}:
            train = {i: f for i, f in folders.items() if split_of_folder(f) == "train"}
            lines.append(
                "  one of the three splits has no folder: part of the training images is chosen at "
                "random for validation" + f", in groups ({what})" * (groups_of(train) is not None)
            )
        elif by_pattern:
            raise InputError(
                f"`group_by={shorten(group_by)}` has no effect, because the folders are the "
                "splits. Remove `group_by`, or use `split=random`."
            )
        return SplitPlan(published, published, lines)
    if split == "auto" and (named := _named_and_other(folders)):
        raise InputError(
            f"Some folders are named as splits ({listed(named[0])}), but others are not "
            f"({listed(named[1])}). Rename the folders, or use `split=random` or `split_files`."
        )
    if split == "folders":
        examples = ", ".join(sorted(set(folders.values()))[:4]) or "none"
        raise InputError(
            "`split=folders` needs images with masks in folders named train and test (or val). "
            f"Received: {shorten(examples, 200)}. Rename the folders, or use `split_files`."
        )
    groups = groups_of(folders)
    splits = assign(folders, seed, groups)
    if groups is None:
        lines = [f"random split: {_sizes(splits)}"]
        count = len({*folders.values()})
        if group_by == "auto" and count > 1:
            remedy = "`group_by=folder`" if count >= len(SPLITS) else "`split_files`"
            lines.append(
                "warning: the random split separates images of the same folder, because the "
                f"{count} folders are too few or too different in size. If images of a folder are "
                f"neighbors, use {remedy}. If they are not neighbors, use `group_by=none`."
            )
        elif group_by == "auto" and (suspected := suspected_groups(folders)):
            pattern, count = suspected
            remedy = "To choose the splits yourself, use `split_files`"
            if count >= len(SPLITS):
                remedy = f"To keep scenes together, use `group_by={pattern}`"
            lines.append(
                f"warning: the image ids look like parts of {count} scene{'s' * (count > 1)}, "
                "which the random split separates. Neighbors of training images can then be in the "
                f"test split, and the scores are too high. {remedy}; if the images are not "
                "neighbors, use `group_by=none`."
            )
        return SplitPlan(splits, {"seed": seed}, lines, group_by == "auto")
    lines = [f"random split of {len(set(groups.values()))} groups ({what}): {_sizes(splits)}"]
    for name, ids in splits.items():
        lines.append(f"  {name}: {listed(list(dict.fromkeys(map(groups.__getitem__, ids))), 10)}")
    return SplitPlan(splits, splits, lines)


def _sizes(splits: Assignment) -> str:
    return ", ".join(f"{split} {len(ids)}" for split, ids in splits.items()) + " images"


def assign(
    ids: Iterable[str], seed: int = 0, groups: Mapping[str, str] | None = None
) -> Assignment:
    """Splits images at random, in the ratio 649 : 73 : 81.

    The ids are sorted by a hash of the seed and the id. Therefore, the result depends only on the
    ids, the groups and the seed. The order of the files and the number of shards have no effect.

    Args:
        ids: ids of the images with masks.
        seed: random seed.
        groups: group of each image. The images of a group are in the same split. None for one group
            per image.

    Returns:
        Dictionary. Key: name of each split in `SPLITS`. Value: ids of its images. No split is
        empty.

    Raises:
        InputError: There are fewer than 3 images, or fewer than 3 groups.

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
    if groups is not None:
        by_group: dict[str, tuple[str, ...]] = {}
        for image_id in ordered:
            by_group[groups[image_id]] = (*by_group.get(groups[image_id], ()), image_id)
        sizes = {"test": num_test, "validation": num_validation}
        return _assign_groups(by_group, seed, sizes)
    num_train = count - num_validation - num_test
    return {
        "train": tuple(ordered[:num_train]),
        "validation": tuple(ordered[num_train : num_train + num_validation]),
        "test": tuple(ordered[num_train + num_validation :]),
    }


def _assign_groups(
    groups: Mapping[str, tuple[str, ...]], seed: int, sizes: Mapping[str, int]
) -> Assignment:
    """Splits groups at random.

    Groups are added to the test split and to the validation split until the split has about the
    requested size. Groups that are too large for the split are skipped. If all groups are too
    large, the split gets the smallest group. All remaining groups are for training.

    Args:
        groups: key: name of a group. Value: ids of its images.
        seed: random seed.
        sizes: requested number of images per split, without the training split.
    """
    if len(groups) < len(SPLITS):
        raise InputError(
            f"Three splits need at least 3 groups of images. Received: {len(groups)} groups, such "
            f"as {min(groups)!r}. Choose smaller groups with `group_by`, or use `group_by=none`."
        )
    remaining = sorted(groups, key=lambda group: _hash(seed, group))
    splits: Assignment = {}
    for position, (split, size) in enumerate(sizes.items()):
        chosen: tuple[str, ...] = ()
        # At least one group must remain for each of the other splits.
        others = len(sizes) - position
        for group in reversed(list(remaining)):
            fits = len(chosen) + len(groups[group]) <= 1.5 * size
            if fits and len(chosen) < size and len(remaining) > others:
                chosen += groups[group]
                remaining.remove(group)
        if not chosen:
            smallest = min(remaining, key=lambda group: len(groups[group]))
            chosen = groups[smallest]
            remaining.remove(smallest)
        splits[split] = chosen
    train = tuple(image_id for group in remaining for image_id in groups[group])
    return {"train": train, "validation": splits["validation"], "test": splits["test"]}


def _named_and_other(folders: Mapping[str, str]) -> tuple[list[str], list[str]] | None:
    """Returns the folders with names of splits, and the other folders.

    Returns:
        Two lists of folders. None in these cases:

        - All folders have names of splits.
        - No folder is named as the training split.
        - No folder is named as the validation split or the test split.
    """
    named = sorted({folder for folder in folders.values() if split_of_folder(folder)})
    other = sorted({folder or "." for folder in folders.values() if not split_of_folder(folder)})
    is_split = "train" in (found := {*map(split_of_folder, named)}) and len(found) > 1
    return (named, other) if is_split and other else None


def published_split(
    folders: Mapping[str, str],
    seed: int = 0,
    groups_of: Callable[[Mapping[str, str]], Mapping[str, str] | None] | None = None,
) -> Assignment | None:
    """Returns the split of an archive whose folders are splits, such as `train` and `test`.

    Without a folder `test`, the folder `val` is the test split. If no folder is then left for
    validation, images of the training folders are chosen at random for validation.

    Args:
        folders: key: id of an image. Value: its folder.
        seed: random seed.
        groups_of: function for the random choice. The function accepts a dictionary such as
            `folders` and returns the group of each image. None for `folder_groups`.

    Returns:
        Dictionary. Key: name of each split in `SPLITS`. Value: ids of its images. None in these
        cases:

        - The name of a folder contains no name of a split.
        - The split `train` has no folder, or no other split has a folder.
        - Images for validation must be chosen from fewer than three training images.

    Example:
        >>> published_split({"1": "Train", "2": "Val", "3": "Test/city"})
        {'train': ('1',), 'validation': ('2',), 'test': ('3',)}
    """
    splits: dict[str | None, list[str]] = {}
    for image_id, folder in sorted(folders.items()):
        splits.setdefault(split_of_folder(folder), []).append(image_id)
    if None in splits or "train" not in splits or len(splits) < 2:
        return None
    if "test" not in splits:
        splits["test"] = splits.pop("validation")
    if "validation" not in splits:
        train = {image_id: folders[image_id] for image_id in splits["train"]}
        groups = (groups_of or folder_groups)(train)
        if len(train) < len(SPLITS):
            return None
        parts = assign(train, seed, groups)
        splits["validation"] = list(parts["validation"])
        splits["train"] = [*parts["train"], *parts["test"]]
    return {split: tuple(splits[split]) for split in SPLITS}


def folder_groups(folders: Mapping[str, str]) -> dict[str, str] | None:
    """Returns the folder of each image as its group, or None if the folders are not useful groups.

    Three or more folders are useful groups if a random split with seed 0 has at least half of the
    images in the training split.

    Args:
        folders: key: id of an image. Value: its folder.

    Example:
        >>> folder_groups({"1": "a", "2": "a"}) is None
        True
    """
    if len(set(folders.values())) < len(SPLITS):
        return None
    if len(assign(folders, 0, folders)["train"]) * 2 < len(folders):
        return None
    return dict(folders)


def pattern_groups(ids: Iterable[str], pattern: str) -> dict[str, str]:
    """Returns the group of each image: the part of the image id that matches a pattern.

    Args:
        ids: ids of the images.
        pattern: regular expression. If it contains parentheses, the text in the first parentheses
            is the group.

    Raises:
        InputError: The pattern is not a regular expression, or does not match an id.

    Example:
        >>> pattern_groups(["t1_7", "t2_7"], "t[0-9]+")
        {'t1_7': 't1', 't2_7': 't2'}
    """
    groups = {}
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(
            "`group_by` must be auto, folder, none, a distance such as 100m, or a regular "
            f"expression. Received: group_by={shorten(pattern)}, which is not valid: {error}."
        ) from error
    for image_id in ids:
        found = expression.search(image_id)
        if not (found and (found[1] if expression.groups else found[0])):
            raise InputError(
                f"`group_by={shorten(pattern)}` does not match the image id {image_id}. Choose a "
                "regular expression that matches each id."
            )
        groups[image_id] = found[1] if expression.groups else found[0]
    return groups


def suspected_groups(ids: Collection[str]) -> tuple[str, int] | None:
    """Detects ids that look like parts of a few scenes, such as `austin_12`.

    Args:
        ids: ids of the images.

    Returns:
        A regular expression for `pattern_groups`, and the number of scenes. None if the ids do not
        look like parts of scenes.

    Example:
        >>> suspected_groups([f"scene{i}_{j}" for i in range(5) for j in range(9)])
        ('^(.*?)[_-][a-zA-Z]?[0-9]+$', 5)
    """
    number = "[_-][a-zA-Z]?[0-9]+"
    # Rows and columns of a scene, such as austin_3_7
    grid = f"^(.*?)({number})({number})$"
    found = [match.groups() for i in ids if (match := re.search(grid, i))]
    if len(found) == len(ids) and all(len({row[k] for row in found}) > 1 for k in (1, 2)):
        scenes = {row[0] for row in found}
        if len(ids) >= 3 * len(scenes):
            return f"^(.*?){number}{number}$", len(scenes)
    # Numbers of the parts of a scene, such as austin12
    for pattern in (f"^(.*?){number}$", "^(.*?)[0-9]+$"):
        names = [match[1] for i in ids if (match := re.search(pattern, i)) and match[1]]
        if len(names) == len(ids) and len({*names}) > 1 and len(ids) >= 3 * len({*names}):
            return pattern, len({*names})
    return None


def _hash(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()
