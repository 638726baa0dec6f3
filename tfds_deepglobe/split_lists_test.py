import pytest

from tfds_deepglobe.errors import InputError
from tfds_deepglobe.file_names import FileNames
from tfds_deepglobe.split_lists import keep_present, read_split_files


def in_archive(*ids):
    """Returns the paths of images, which are equal to their ids."""
    return {image_id: image_id for image_id in ids}


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
    kept, absent, unlisted = keep_present(
        read_split_files(write_lists(tmp_path)), in_archive("2", "4", "9")
    )
    assert kept == {"train": ("2",), "validation": (), "test": ("4",)}
    assert absent == ["1", "3"]
    assert unlisted == ["9"]


def test_lists_without_an_existing_image_raise(tmp_path):
    with pytest.raises(InputError, match="First id in the lists: 1; first id in the archive: 7"):
        keep_present(read_split_files(write_lists(tmp_path)), in_archive("8", "7"))


def test_ids_in_lists_can_have_another_form_of_unicode():
    composed, decomposed = "\u00e9", "e\u0301"  # both are shown as "é"
    kept, absent, unlisted = keep_present({"train": (composed, "1")}, in_archive(decomposed, "1"))
    assert (kept, absent, unlisted) == ({"train": (decomposed, "1")}, [], [])
    kept, *_ = keep_present({"train": (composed,)}, in_archive(decomposed, composed))
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
    kept, absent, unlisted = keep_present(lists, in_archive("Tile 1/7", "Tile 2/7", "Tile 3/7"))
    assert kept == {"train": ("Tile 1/7",), "validation": ("Tile 2/7",), "test": ("Tile 3/7",)}
    assert (absent, unlisted) == ([], [])
    # The ids of DeepGlobe have no folders.
    kept, _, _ = keep_present(
        {"train": ("a/1",), "validation": ("2",), "test": ("b/3",)}, in_archive(*"123")
    )
    assert kept == {"train": ("1",), "validation": ("2",), "test": ("3",)}


def test_image_in_two_lists_with_different_folders_raises():
    with pytest.raises(InputError, match="1 is in two lists.*train and test"):
        keep_present({"train": ("a/1",), "validation": ("2",), "test": ("b/1",)}, in_archive(*"12"))


@pytest.mark.parametrize(
    "line", ["2_sat", "2_mask.png", "x 2_sat.jpg", '"2"', "2_sat.jpg 2_mask.png", "2,train"]
)
def test_line_that_contains_an_id_raises(line):
    lists = {"train": ("1", line, "77"), "test": ("3",)}
    with pytest.raises(InputError, match="It contains the id 2. Write one id per line"):
        keep_present(lists, in_archive("1", "2", "3"))
    assert keep_present(lists, in_archive("1", "3"))[0] == {"train": ("1",), "test": ("3",)}


def test_lists_of_several_folders_can_be_used_with_the_archive_of_one_folder():
    lists = {"train": ("Tile 1/0", "Tile 2/1"), "validation": ("Tile 2/2",), "test": ("Tile 1/1",)}
    lists["test"] += ("Tile 1/2",)
    paths = {i: f"Tile 1/images/{i}.png" for i in "012"}
    kept, absent, unlisted = keep_present(lists, paths)
    assert kept == {"train": ("0",), "validation": (), "test": ("1", "2")}
    assert (absent, unlisted) == (["Tile 2/1", "Tile 2/2"], [])


def test_image_that_a_list_names_twice_is_used_once(tmp_path):
    write_lists(tmp_path, train="train/0_sat.jpg\n0_sat.jpg\ntrain\\1_sat.jpg")
    kept, absent, _ = keep_present(read_split_files(tmp_path), in_archive(*"01234"))
    assert kept == {"train": ("0", "1"), "validation": ("3",), "test": ("4",)}
    assert absent == []


def test_large_list_raises_without_reading(tmp_path):
    for name in ("train.txt", "val.txt", "test.txt"):
        (tmp_path / name).write_text("1\n")
    with (tmp_path / "train.txt").open("ab") as file:
        file.truncate(101_000_000)
    with pytest.raises(InputError, match="train.txt has 101 MB, but a split list has at most 100"):
        read_split_files(tmp_path)
