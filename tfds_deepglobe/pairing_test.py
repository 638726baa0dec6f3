import pytest

from tfds_deepglobe.file_names import FileNames
from tfds_deepglobe.pairing import inventory, pair_files
from tfds_deepglobe.sources import File

OTHER_NAMES = FileNames.parse("images/*.png", "labels/*_gt.tif")

RENAME = "; rename the files, so that each image has its own id"


def pairing(*names, patterns=None, root=""):
    return pair_files([File(name, 1) for name in names], patterns or FileNames.parse(), root)


def named(pairs):
    return [(pair.id, pair.image.name, pair.mask.name) for pair in pairs]


def test_image_and_mask_may_be_in_the_same_folder_or_in_different_folders():
    found = pairing(
        *("2_mask.png", "2_sat.jpg", "a/b/1_sat.jpg", "a/b/1_mask.png"),
        *("images/3_sat.jpg", "masks/3_mask.png", "notes.txt"),
    )
    assert named(found.pairs) == [
        ("1", "a/b/1_sat.jpg", "a/b/1_mask.png"),
        ("2", "2_sat.jpg", "2_mask.png"),
        ("3", "images/3_sat.jpg", "masks/3_mask.png"),
    ]
    assert (found.faults, found.unlabeled) == ((), {})


@pytest.mark.parametrize("folder", ["train", "valid", "test", "other"])
def test_images_without_masks_are_accepted_only_in_valid_and_test(folder):
    labeled = ("labeled/1_sat.jpg", "labeled/1_mask.png")
    images = (f"{folder}/2_sat.jpg", f"{folder}/3_sat.jpg")
    beside_a_mask = pairing(*labeled, *images, f"{folder}/3_mask.png")
    assert beside_a_mask.faults == (f"{folder}/2_sat.jpg: missing mask 2_mask.png",)
    without_masks = pairing(*labeled, *images)
    accepted = folder in ("valid", "test")
    assert len(without_masks.faults) == (0 if accepted else 2)
    assert without_masks.unlabeled == ({folder: 2} if accepted else {})


@pytest.mark.parametrize(("root", "unlabeled"), [("test", {"test": 1}), ("train", {})])
def test_archive_folder_named_test_may_have_no_masks(root, unlabeled):
    assert pairing("1_sat.jpg", root=root).unlabeled == unlabeled


@pytest.mark.parametrize("folder", ["train", "valid"])
def test_mask_without_image_is_a_fault(folder):
    found = pairing(f"{folder}/1_mask.png", f"{folder}/2_sat.jpg", f"{folder}/2_mask.png")
    assert found.faults == (f"{folder}/1_mask.png: missing image 1_sat.jpg",)


def test_duplicate_id_is_a_fault_and_both_pairs_are_returned():
    found = pairing("a/1_sat.jpg", "a/1_mask.png", "b/1_sat.jpg", "b/1_mask.png")
    assert found.faults == (f"duplicate id 1: a/1_sat.jpg, b/1_sat.jpg{RENAME}",)
    assert len(found.pairs) == 2


@pytest.mark.parametrize("top", ["", "archive/", "a/b/"])
def test_patterns_with_folders_match_the_end_of_a_path(top):
    names = ("images/7.png", "labels/7_gt.tif", "7.png", "images/8.jpg")
    found = pairing(*(top + name for name in names), patterns=OTHER_NAMES)
    assert named(found.pairs) == [("7", f"{top}images/7.png", f"{top}labels/7_gt.tif")]
    assert found.faults == ()


@pytest.mark.parametrize("top", ["", "data/", "data/all/"])
def test_ids_begin_with_the_folder_if_folders_contain_the_same_id(top):
    names = [
        f"{top}{folder}/{file}"
        for folder in ("Tile 1", "Tile 2/b", "Tile 2/c")
        for file in ("images/7.png", "labels/7_gt.tif")
    ]
    more = [f"{top}Tile 2/c/{file}" for file in ("images/8.png", "labels/8_gt.tif")]
    found = pairing(*names, *more, patterns=OTHER_NAMES)
    assert [pair.id for pair in found.pairs] == [
        "Tile 1/7",
        "Tile 2/b/7",
        "Tile 2/c/7",
        "Tile 2/c/8",
    ]
    assert all(pair.image.name.split("/images/")[0] in pair.mask.name for pair in found.pairs)
    assert found.faults == ()
    assert [pair.folder for pair in found.pairs] == ["Tile 1", "Tile 2/b", *2 * ["Tile 2/c"]]
    # Without the folders "Tile 1" and "Tile 2/b", all ids are different.
    found = pairing(*names[-2:], *more, patterns=OTHER_NAMES)
    assert [pair.id for pair in found.pairs] == ["7", "8"]


def test_incomplete_pair_in_a_folder_is_a_fault_of_this_folder():
    names = ("a/images/7.png", "a/labels/7_gt.tif", "b/images/7.png", "b/labels/7_gt.tif")
    found = pairing(*names, "c/images/7.png", "images/8.png", patterns=OTHER_NAMES)
    assert [pair.id for pair in found.pairs] == ["a/7", "b/7"]
    assert sorted(fault.split(";")[0] for fault in found.faults) == [
        "c/images/7.png: missing mask labels/7_gt.tif",
        "images/8.png: missing mask labels/8_gt.tif",
    ]


@pytest.mark.parametrize("ids", ["77", "78"])
def test_image_and_mask_in_folders_of_other_pairs_are_no_pair(ids):
    names = [
        f"{tile}/{folder}/{i}{end}"
        for tile, i in zip("ab", ids, strict=True)
        for folder, end in (("images", ".png"), ("labels", "_gt.tif"))
    ]
    found = pairing(*names, "a/images/9.png", "b/labels/9_gt.tif", patterns=OTHER_NAMES)
    assert len(found.pairs) == 2
    assert [fault.split(";")[0] for fault in found.faults] == [
        "a/images/9.png: missing mask labels/9_gt.tif",
        "b/labels/9_gt.tif: missing image images/9.png",
    ]


def test_ids_of_images_without_an_outer_folder_have_no_slash():
    names = [f"{top}{file}" for top in ("", "x/") for file in ("images/7.png", "labels/7_gt.tif")]
    found = pairing(*names, patterns=OTHER_NAMES)
    assert [(pair.id, pair.folder) for pair in found.pairs] == [("7", ""), ("x/7", "x")]


def test_images_and_masks_can_be_in_folders_that_differ_in_a_word():
    names = FileNames.parse("img/IMG_*.tif", "msk/MSK_*.tif")
    files = [
        file
        for zone in ("Z1", "Z2")
        for file in (f"train_imgs/{zone}/img/IMG_7.tif", f"train_labels/{zone}/msk/MSK_7.tif")
    ]
    found = pairing(*files, patterns=names)
    assert [(pair.id, pair.mask.name) for pair in found.pairs] == [
        (f"{zone}/7", f"train_labels/{zone}/msk/MSK_7.tif") for zone in ("Z1", "Z2")
    ]


@pytest.mark.parametrize(
    ("folder", "accepted"),
    [
        *(("Test/Urban", "Test"), ("VAL", "VAL"), ("uavid_test/seq2", "uavid_test")),
        *(("a/validation", "validation"), ("latest", None), ("trainval", None)),
    ],
)
def test_images_without_masks_below_folders_for_testing_are_counted(folder, accepted):
    names = ("a/images/7.png", "a/labels/7_gt.tif", f"{folder}/images/8.png")
    found = pairing(*names, patterns=OTHER_NAMES)
    assert found.unlabeled == ({accepted: 1} if accepted else {})
    assert len(found.faults) == (0 if accepted else 1)


def test_faults_with_user_defined_patterns():
    found = pairing(
        *("train/images/7.png", "train/labels/7_gt.tif", "more/images/7.png"),
        *("more/labels/7_gt.tif", "train/images/9.png", "train/labels/10_gt.tif"),
        patterns=OTHER_NAMES,
    )
    assert sorted(found.faults) == [
        "train/images/9.png: missing mask labels/9_gt.tif",
        "train/labels/10_gt.tif: missing image images/10.png",
    ]
    assert sorted(pair.mask.name for pair in found.pairs) == [
        "more/labels/7_gt.tif",
        "train/labels/7_gt.tif",
    ]


def test_images_without_masks_are_counted_with_user_defined_patterns():
    names = ("train/images/7.png", "train/labels/7_gt.tif", "test/images/8.png")
    assert pairing(*names, patterns=OTHER_NAMES).unlabeled == {"test": 1}


def test_inventory_counts_files_and_shows_one_example_per_folder():
    names = FileNames.parse("pictures/*.png", "labels/*_gt.tif")
    files = ["class_dict.csv", "images/1.png", "images/2.png", "labels/1_gt.tif"]
    assert inventory([File(name, 1) for name in files], names) == (
        "found 4 files: 2 .png, 1 .csv, 1 .tif; 0 images match pictures/*.png, "
        "1 masks match labels/*_gt.tif; examples of other files: class_dict.csv, images/1.png"
    )
    assert inventory([], names) == "found no files"


def test_names_of_any_letter_case_are_pairs():
    found = pairing("A_sat.JPG", "A_mask.PNG", "b_sat.jpg", "b_mask.png", "C_SAT.JPG", "C_MASK.PNG")
    assert [pair.id for pair in found.pairs] == ["A", "C", "b"]
    assert (found.faults, found.left_out) == ((), ())
    patterns = FileNames.parse("images/*.tif", "labels/*.bmp")
    found = pairing("Images/1.TIF", "LABELS/1.BMP", patterns=patterns)
    assert named(found.pairs) == [("1", "Images/1.TIF", "LABELS/1.BMP")]


def test_image_files_that_match_no_pattern_are_left_out():
    names = ("1_sat.jpg", "1_mask.png", "2_sat.png", "a/3.TIF", "4.jp2", "notes.txt")
    assert pairing(*names).left_out == ("2_sat.png", "a/3.TIF", "4.jp2")


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (
            ("0_sat.png", "0_mask.png"),
            "0_mask.png: missing image 0_sat.jpg; a similar name is 0_sat.png",
        ),
        (
            ("x/0_sat.jpg", "x/0_mask.TIF"),
            "x/0_sat.jpg: missing mask 0_mask.png; a similar name is x/0_mask.TIF",
        ),
        (
            ("A_sat.jpg", "a_mask.png"),
            "A_sat.jpg: missing mask A_mask.png; a similar name is a_mask.png",
        ),
        (
            ("1_sat.jpg", "1_mask.png "),
            "1_sat.jpg: missing mask 1_mask.png; a similar name is 1_mask.png ",
        ),
        (("1\n2_sat.jpg",), "1\\n2_sat.jpg: missing mask 1\\n2_mask.png"),
        (("1_sat.jpg", "2_mask.png"), "1_sat.jpg: missing mask 1_mask.png"),
    ],
)
def test_fault_for_a_missing_file_shows_a_similar_name(names, fault):
    assert fault in pairing(*names).faults


def test_ids_that_are_the_same_text_are_a_pair():
    composed, decomposed = "\u00e9", "e\u0301"  # both are shown as "é"
    found = pairing(f"{decomposed}_sat.jpg", f"{composed}_mask.png")
    assert [pair.id for pair in found.pairs] == [decomposed]  # as in earlier versions
    assert found.faults == ()
    both = [f"{text}_{end}" for text in (composed, decomposed) for end in ("sat.jpg", "mask.png")]
    assert [pair.id for pair in pairing(*both).pairs] == [decomposed, composed]


def test_faults_of_long_and_many_names_are_short():
    many = [f"{i}/{'x' * 200}_sat.jpg" for i in range(50)]
    for names in (many, many[:1]):
        for fault in pairing("1_sat.jpg", "1_mask.png", *names).faults:
            assert len(fault) < 400
    text = inventory([File(f"{i}.{'y' * 200}{i}", 1) for i in range(50)], OTHER_NAMES)
    assert len(text) < 700
