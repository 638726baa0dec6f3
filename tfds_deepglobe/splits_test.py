import itertools
import random

import pytest

from tfds_deepglobe.errors import InputError
from tfds_deepglobe.file_names import FileNames
from tfds_deepglobe.splits import SPLITS, assign, folders_of, keep_present, read_split_files


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


@pytest.mark.parametrize("sizes_of_folders", [(1, 1, 1), (9,) * 6, (1, 50, 2, 3), (30, 1, 1, 1, 1)])
@pytest.mark.parametrize("seed", range(5))
def test_images_of_a_folder_are_in_the_same_split(sizes_of_folders, seed):
    names = [f"Tile {f}/{i}" for f, size in enumerate(sizes_of_folders) for i in range(size)]
    splits = assign(names, seed)
    assert sorted(itertools.chain(*splits.values())) == sorted(names)
    folders = [{image_id.split("/")[0] for image_id in splits[split]} for split in SPLITS]
    assert all(folders)
    assert sum(map(len, folders)) == len(sizes_of_folders)


def test_folders_fill_the_splits_to_their_sizes():
    """Of 81 images, 7 are for validation and 8 for testing. Each folder has 4 images or 1 image."""
    names = [f"{f}/{i}" for f in range(20) for i in range(4)] + ["x/1"]
    numbers = sizes(assign(names))
    assert 7 <= numbers[1] <= 10
    assert 8 <= numbers[2] <= 11
    assert assign(names, 1) != assign(names, 0)


def test_images_of_two_folders_are_split_at_random():
    names = [f"{f}/{i}" for f in "ab" for i in range(50)]
    splits = assign(names)
    assert all({image_id[0] for image_id in splits[split]} == {"a", "b"} for split in SPLITS)
    assert folders_of([*names, "c/1"])
    assert not folders_of([*names, "c/1", "7"])  # an image without a folder


def test_too_few_images_raise():
    with pytest.raises(InputError, match="at least 3 images .* Received: 2.*`split_files`"):
        assign(ids(2))


def write_lists(folder, train="1_sat.jpg\n2_sat.jpg", validation="3\n", test="4\n"):
    (folder / "train.txt").write_text(train, newline="")
    (folder / "val.txt").write_text(validation, newline="")
    (folder / "test.txt").write_text(test, newline="")
    return folder


def test_split_files(tmp_path):
    write_lists(tmp_path, train="1_sat.jpg\r\n\r\n 2_sat.jpg \r\n5", test="\n4_sat.jpg")
    expected = {"train": ("1", "2", "5"), "validation": ("3",), "test": ("4",)}
    assert read_split_files(tmp_path) == expected
    (tmp_path / "val.txt").rename(tmp_path / "crossvali.txt")
    assert read_split_files(tmp_path) == expected


@pytest.mark.parametrize("name", ["train.txt", "val.txt", "test.txt"])
def test_missing_split_list_raises(tmp_path, name):
    (write_lists(tmp_path) / name).unlink()
    with pytest.raises(InputError, match=f"`split_files` has no .*{name}"):
        read_split_files(tmp_path)


def test_id_in_two_split_lists_raises(tmp_path):
    with pytest.raises(InputError, match="2 is in two lists of .*: train and test"):
        read_split_files(write_lists(tmp_path, test="4\n2\n"))


def test_split_list_that_is_not_text_raises(tmp_path):
    (write_lists(tmp_path) / "test.txt").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InputError, match="test.txt is not a text file"):
        read_split_files(tmp_path)


def test_ids_without_images_and_images_in_no_list_are_found(tmp_path):
    kept, absent, unlisted = keep_present(read_split_files(write_lists(tmp_path)), ["2", "4", "9"])
    assert kept == {"train": ("2",), "validation": (), "test": ("4",)}
    assert absent == ["1", "3"]
    assert unlisted == ["9"]


def test_lists_without_an_existing_image_raise(tmp_path):
    with pytest.raises(InputError, match="First id in the lists: 1; first id in the archive: 7"):
        keep_present(read_split_files(write_lists(tmp_path)), ["8", "7"])


def test_ids_in_lists_can_have_another_form_of_unicode():
    composed, decomposed = "\u00e9", "e\u0301"  # both are shown as "é"
    kept, absent, unlisted = keep_present({"train": (composed, "1")}, [decomposed, "1"])
    assert (kept, absent, unlisted) == ({"train": (decomposed, "1")}, [], [])
    kept, *_ = keep_present({"train": (composed,)}, [decomposed, composed])
    assert kept == {"train": (composed,)}


def test_id_in_two_lists_in_different_forms_of_unicode_raises(tmp_path):
    composed, decomposed = "\u00e91", "e\u03011"
    write_lists(tmp_path, train=composed, validation=decomposed)
    with pytest.raises(InputError, match="is in two lists .* train and validation"):
        read_split_files(tmp_path)


def test_two_lists_of_the_same_split_raise(tmp_path):
    write_lists(tmp_path)
    (tmp_path / "crossvali.txt").write_text("5")
    with pytest.raises(InputError, match="has crossvali.txt and val.txt, two lists of the split"):
        read_split_files(tmp_path)


def test_ids_in_lists_can_have_more_folders_than_the_ids_of_the_archive(tmp_path):
    names = FileNames.parse("images/*.jpg", "masks/*.png")
    write_lists(tmp_path, "data/Tile 1/images/7.jpg", "Tile 2/7", "Tile 3/images/7.jpg")
    lists = read_split_files(tmp_path, names)
    kept, absent, unlisted = keep_present(lists, ["Tile 1/7", "Tile 2/7", "Tile 3/7"])
    assert kept == {"train": ("Tile 1/7",), "validation": ("Tile 2/7",), "test": ("Tile 3/7",)}
    assert (absent, unlisted) == ([], [])
    # The ids of DeepGlobe have no folders.
    kept, _, _ = keep_present({"train": ("a/1",), "validation": ("2",), "test": ("b/3",)}, "123")
    assert kept == {"train": ("1",), "validation": ("2",), "test": ("3",)}


def test_image_in_two_lists_with_different_folders_raises():
    with pytest.raises(InputError, match="1 is in two lists.*train and test"):
        keep_present({"train": ("a/1",), "validation": ("2",), "test": ("b/1",)}, "12")


@pytest.mark.parametrize(
    "line", ["2_sat", "2_mask.png", "x\\2_sat.jpg", '"2"', "2_sat.jpg 2_mask.png", "2,train"]
)
def test_line_that_contains_an_id_raises(line):
    lists = {"train": ("1", line, "77"), "test": ("3",)}
    with pytest.raises(InputError, match="It contains the id 2. Write one id per line"):
        keep_present(lists, ["1", "2", "3"])
    assert keep_present(lists, ["1", "3"])[0] == {"train": ("1",), "test": ("3",)}
