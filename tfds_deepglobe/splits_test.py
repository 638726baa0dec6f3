import itertools
import random

import pytest

from tfds_deepglobe.errors import InputError
from tfds_deepglobe.splits import SPLITS, assign, folder_groups, plan_split, published_split


def sizes(splits):
    return tuple(len(splits[split]) for split in SPLITS)


def ids(count):
    return [str(i) for i in range(count)]


@pytest.mark.parametrize(
    ("count", "expected"),
    # For 100 images, 100 * 73 / 803 = 9.09 is rounded to 9 and 100 * 81 / 803 = 10.09 to 10.
    [(803, (649, 73, 81)), (100, (81, 9, 10)), (8, (6, 1, 1)), (4, (2, 1, 1)), (3, (1, 1, 1))],
)
def test_sizes_of_random_splits(count, expected):
    assert sizes(assign(ids(count))) == expected


def test_each_image_is_in_one_split():
    splits = assign(ids(50))
    assert sorted(itertools.chain(*splits.values())) == sorted(ids(50))


def test_split_depends_on_the_seed_and_not_on_the_order():
    shuffled = random.Random(0).sample(ids(50), 50)
    assert assign(shuffled, seed=1) == assign(ids(50), seed=1)
    assert assign(ids(50), seed=1) != assign(ids(50), seed=2)


def test_split_is_the_same_in_every_release():
    # The sha256 hashes of "0:0", "0:1", ... "0:4" begin with ac72, ef13, 9328, 76d3 and 48f0.
    assert assign(ids(5)) == {"train": ("4", "3", "2"), "validation": ("0",), "test": ("1",)}


def in_folders(*sizes):
    """Returns the folder of each image, for folders with these numbers of images."""
    return {f"{f}/{i}": f"Tile {f}" for f, size in enumerate(sizes) for i in range(size)}


@pytest.mark.parametrize("sizes_of_folders", [(1, 1, 1), (9,) * 6, (1, 50, 2, 3), (30, 1, 1, 1, 1)])
@pytest.mark.parametrize("seed", range(5))
def test_images_of_a_group_are_in_the_same_split(sizes_of_folders, seed):
    groups = in_folders(*sizes_of_folders)
    splits = assign(groups, seed, groups)
    assert sorted(itertools.chain(*splits.values())) == sorted(groups)
    folders = [{groups[image_id] for image_id in splits[split]} for split in SPLITS]
    assert all(folders)
    assert sum(map(len, folders)) == len(sizes_of_folders)


def test_groups_fill_the_splits_to_their_sizes():
    """Of 81 images, 7 are for validation and 8 for testing. Each group has 4 images or 1 image."""
    groups = in_folders(*20 * [4], 1)
    numbers = sizes(assign(groups, 0, groups))
    assert 7 <= numbers[1] <= 10
    assert 8 <= numbers[2] <= 12
    assert assign(groups, 1, groups) != assign(groups, 0, groups)


@pytest.mark.parametrize("seed", range(20))
def test_large_groups_are_in_the_training_split(seed):
    groups = in_folders(40, 3, 3, 3, 3, 3)
    train, validation, test = sizes(assign(groups, seed, groups))
    assert (train >= 43, validation <= 6, test <= 6) == (True, True, True)


def test_two_groups_raise():
    groups = in_folders(5, 5)
    with pytest.raises(InputError, match="at least 3 groups of images. Received: 2 .*`group_by`"):
        assign(groups, 0, groups)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ({"train": 8, "val": 2, "test": 3}, (8, 2, 3)),
        ({"Train/Urban": 4, "Train/Rural": 4, "Valid": 2, "TEST/a": 3}, (8, 2, 3)),
        ({"training": 8, "validation": 2, "testing": 3}, (8, 2, 3)),
        ({"train": 80, "test": 3}, (73, 7, 3)),
        ({"Train/Urban": 40, "Train/Rural": 40, "Val/Urban": 5}, (73, 7, 5)),
        ({"train_images": 4, "val_images": 1, "test_images": 2}, (4, 1, 2)),
        ({"val": 8, "test": 2}, None),
        ({"a": 8, "b": 2, "c": 1}, None),
        ({"train/val": 20, "test": 2}, (18, 2, 2)),
    ],
)
def test_folders_with_names_of_splits_are_the_splits(folders, expected):
    folder_of = {f"{f}/{i}": f for f, count in folders.items() for i in range(count)}
    splits = published_split(folder_of)
    assert (splits and sizes(splits)) == expected
    plan = plan_split(folder_of)
    if splits:
        assert plan.splits == plan.chosen_by == splits
        assert plan.lines[0].startswith(f"split by folders: train {expected[0]}, validation ")
        for name in ("train", "test"):
            word = {"test": "test", "train": "train"}[name]
            assert all(word in i.lower() or "val" in i.lower() for i in splits[name])
    else:
        with pytest.raises(InputError, match="`split=folders` needs images with masks in folders"):
            plan_split(folder_of, split="folders")
    assert plan_split(folder_of, split="random", group_by="none").chosen_by == {"seed": 0}


def test_group_by_is_used_if_the_validation_images_are_in_training_folders():
    counts = {"train/a": 60, "train/b": 6, "train/c": 6, "train/d": 6, "val": 5}
    folders = {f"{f}/{i}": f for f, count in counts.items() for i in range(count)}
    plan = plan_split(folders, group_by="folder")
    split_of = {folders[i]: name for name, ids in plan.splits.items() for i in ids}
    assert all(split_of[folders[i]] == name for name, ids in plan.splits.items() for i in ids)
    assert plan.lines[1].endswith("at random for validation, in groups (folder)")
    ungrouped = plan_split(folders, group_by="none")
    assert len({folders[i] for i in ungrouped.splits["validation"]}) > 1
    assert ungrouped.lines[1].endswith("at random for validation")
    two = {i: folder for i, folder in folders.items() if folder in ("train/a", "train/b", "val")}
    with pytest.raises(InputError, match="at least 3 groups of images. Received: 2 groups"):
        plan_split(two, group_by="folder")


def test_images_of_similar_folders_are_groups_by_default():
    folders = in_folders(*6 * [9])
    plan = plan_split(folders)
    assert plan.lines[0] == (
        "random split of 6 groups (folder): train 36, validation 9, test 9 images"
    )
    assert sorted(line.split(":")[0] for line in plan.lines[1:]) == [
        *("  test", "  train", "  validation")
    ]
    assert plan_split(folders, group_by="folder") == plan
    assert len({folders[i] for i in plan_split(folders, group_by="none").splits["test"]}) > 1
    # Folders are not groups if there are only two, or if two of them contain most images.
    assert folder_groups(in_folders(9, 9)) is None
    assert folder_groups(in_folders(9, 9, 9)) is None
    plan = plan_split(in_folders(9, 9, 9))
    assert plan.chosen_by == {"seed": 0}
    assert plan.lines[1].startswith("warning: the random split separates images of the same folder")
    assert "use `group_by=folder`. If they are not neighbors" in plan.lines[1]
    assert len(plan_split(in_folders(9, 9), group_by="none").lines) == 1


def test_images_whose_ids_contain_the_same_text_are_groups():
    folders = {f"t{tile}_{i:03d}": "" for tile in range(6) for i in range(9)}
    plan = plan_split(folders)
    assert plan.lines[0] == "random split: train 44, validation 5, test 5 images"
    assert plan.lines[1].startswith("warning: the image ids look like parts of 6 scenes, which ")
    pattern = plan.lines[1].split("`group_by=")[1].split("`")[0]
    grouped = plan_split(folders, group_by=pattern)
    assert sizes(grouped.splits) == (36, 9, 9)
    assert all(len({i[:2] for i in ids}) == len(ids) // 9 for ids in grouped.splits.values())
    assert plan_split(folders, group_by="^t[0-9]").splits == grouped.splits
    assert len(plan_split(folders, group_by="none").lines) == 1
    for wrong in ("x(", "^q", "(t)"):
        with pytest.raises(InputError, match="`group_by|groups"):
            plan_split(folders, group_by=wrong)
    with pytest.raises(InputError, match="`split` must be one of auto, folders, random"):
        plan_split(folders, split="Folders")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([f"{city}{i}" for city in ("austin", "vienna", "chicago") for i in range(9)], True),
        ([f"scene{i}_{x}_{y}" for i in range(4) for x in range(3) for y in range(3)], True),
        ([str(i) for i in range(100, 200)], False),
        ([f"IMG_{i:06d}" for i in range(50)], False),
        ([f"{i}_{name}" for i in range(9) for name in ("a", "b")], False),
        ([f"p{i}_1" for i in range(50)], False),
    ],
)
def test_ids_that_look_like_parts_of_scenes_are_found(names, found):
    lines = plan_split(dict.fromkeys(names, "")).lines
    assert (len(lines) == 2) == found


def test_too_few_images_raise():
    with pytest.raises(InputError, match="at least 3 images .* Received: 2.*`split_files`"):
        assign(ids(2))


@pytest.mark.parametrize("other", ["other", ""])
def test_folders_beside_folders_of_splits_raise(other):
    folders = {"1": "train", "2": "test", "3": "val", "4": other}
    with pytest.raises(InputError, match=f"others are not .{other or '.'}.. Rename the folders"):
        plan_split(folders)
    assert plan_split(folders, split="random", group_by="none").chosen_by == {"seed": 0}


def test_groups_are_kept_together_in_random_validation_images():
    folders = {f"city{c}_{i}": "train" for c in range(10) for i in range(8)}
    folders |= {f"town_{i}": "val" for i in range(5)}
    plan = plan_split(folders, group_by="^([a-z]+[0-9]?)_")
    assert sizes(plan.splits) == (72, 8, 5)
    assert len({image_id.split("_")[0] for image_id in plan.splits["validation"]}) == 1
    assert "part of the training images is chosen at random for validation" in plan.lines[1]
    folders |= {f"x_{i}": "test" for i in range(5)}
    with pytest.raises(InputError, match="has no effect, because the folders are the splits"):
        plan_split(folders, group_by="^([a-z]+[0-9]?)_")


@pytest.mark.parametrize("pattern", ["(x)?.", "(xxx|yyy)?", "", "(", "q"])
def test_patterns_that_do_not_match_each_id_raise(pattern):
    with pytest.raises(InputError, match="`group_by"):
        plan_split({f"{i}": "" for i in range(9)}, group_by=pattern)


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ([f"{c}_{x:02d}_{y:02d}" for c in ("austin", "tyrol", "wien") for x in range(5)
          for y in range(5)], 3),
        ([f"tile_{x}_{y}" for x in range(5) for y in range(5)], 1),
        ([f"a_x{x}_y{y}" for x in range(5) for y in range(5)], 1),
        ([f"{c}_{i}" for c in "ab" for i in range(16)], 2),
    ],
)  # fmt: skip
def test_scenes_are_not_divided_into_rows(names, count):
    (_, warning) = plan_split(dict.fromkeys(names, "")).lines
    assert f"look like parts of {count} scene" in warning
    assert ("`group_by=^" in warning) == (count >= 3)
    if count >= 3:
        pattern = warning.split("`group_by=")[1].split("`")[0]
        assert len(plan_split(dict.fromkeys(names, ""), group_by=pattern).lines) == 4
