import pytest

from tfds_deepglobe.errors import InputError
from tfds_deepglobe.file_names import FileNames, Pattern


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*_sat.jpg", "12_sat.jpg", ("12", "")),
        ("*_sat.jpg", "a/b/12_sat.jpg", ("12", "a/b")),
        ("*_sat.jpg", "_sat.jpg", None),
        ("*_sat.jpg", "Train/a_SAT.JPG", ("a", "Train")),
        ("*.tif", "A.TIF", ("A", "")),
        ("Images/IMG_*.bmp", "x/images/img_A.Bmp", ("A", "x")),
        ("m\u00fcll/\u00fc*.png", "mu\u0308ll/u\u03081.png", ("1", "")),  # the same text
        ("images/*.tif", "images/12.tif", ("12", "")),
        ("images/*.tif", "a/images/12.tif", ("12", "a")),
        ("images/*.tif", "my_images/12.tif", None),
        ("images/*.tif", "images/a/12.tif", None),
        ("images/*/*.tif", "x/images/train/12.tif", ("12", "x/train")),
        ("Tile */images/*.tif", "Tile 1/images/12.tif", ("12", "Tile 1")),
        ("Tile */images/*.tif", "images/12.tif", None),
        ("*_sat.jpg", "12_sat.JPEG", ("12", "")),
        ("*.tiff", "12.tif", ("12", "")),
        ("*.jpg.png", "12.jpg.png", ("12", "")),
        ("*.jpg", "12.jpg.png", None),
        ("images/*.tif", "12.tif", None),
        ("a/images/*.tif", "x/a/images/12.tif", ("12", "x")),
        ("./images\\\\img_*_rgb.TIF".replace("\\\\", "\\"), "images/img_1_2_rgb.TIF", ("1_2", "")),
        ("a*a.png", "a.png", None),
        ("a*a.png", "aa.png", None),
        ("a*a.png", "aba.png", ("b", "")),
        ("[1-9]*.png", "[1-9]7.png", ("7", "")),  # only * is a wildcard, not [1-9]
        ("*/a.png", "7/a.png", ("7", "")),  # the id is the name of the folder
        ("x/i*/a.png", "t/x/i7/a.png", ("7", "t")),
        ("*/a.png", "7/b.png", None),
        ("*/a.png", "a.png", None),
    ],
)
def test_match(pattern, name, expected):
    parsed = Pattern.parse(pattern, "image_glob")
    assert parsed.match(name) == expected


@pytest.mark.parametrize("text", ["", "images/a.tif", "**.tif", "*/a/b.tif", "*.t*f"])
def test_pattern_without_exactly_one_star_raises(text):
    with pytest.raises(
        InputError, match=r"`image_glob` needs exactly one \*.*Received: image_glob="
    ):
        Pattern.parse(text, "image_glob")


@pytest.mark.parametrize("text", ["/images/*.tif", "../images/*.tif", "a//*.tif", "a/./*.tif"])
def test_pattern_with_invalid_folders_raises(text):
    with pytest.raises(InputError, match="`mask_pattern` contains an empty folder name.*Received"):
        Pattern.parse(text, "mask_pattern")


@pytest.mark.parametrize("text", ["*", "images/*", "*.jp2", "*_sat", "*.gif"])
def test_pattern_without_an_image_extension_raises(text):
    with pytest.raises(InputError, match=r"`image_glob` must end in one of .jpg, .*Received"):
        Pattern.parse(text, "image_glob")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("*.JPG", "JPEG"), ("*.jpeg", "JPEG"), ("*.a.png", "PNG"), ("*.tiff", "TIFF")],
)
def test_image_format_of_a_pattern(text, expected):
    assert Pattern.parse(text, "image_glob").format == expected


@pytest.mark.parametrize(
    ("images", "masks", "name", "expected"),
    [
        # Both patterns match the file name, except in the fifth and the last row.
        ("*.png", "*_mask.png", "1_mask.png", ("1", "", True)),
        ("*_sat.png", "*.png", "1_sat.png", ("1", "", False)),
        ("images/*.png", "*_mask.png", "images/1_mask.png", ("1", "images", True)),
        ("*.png", "masks/*.png", "masks/1.png", ("1", "", True)),
        ("*.png", "masks/*.png", "a/1.png", ("1", "a", False)),
        ("images/*.png", "*.png", "images/1.png", ("1", "", False)),
        ("*.png", "*_mask.png", "1.txt", None),
    ],
)
def test_pattern_with_more_fixed_characters_is_used(images, masks, name, expected):
    assert FileNames.parse(images, masks).match(name) == expected


def test_jpeg_masks_and_equal_patterns_raise():
    with pytest.raises(InputError, match=r"`mask_pattern` must not match JPEG.*PNG.*=\*_mask.jpg"):
        FileNames.parse("*_sat.jpg", "*_mask.jpg")
    with pytest.raises(InputError, match="must differ, such as.*for both"):
        FileNames.parse("*.png", "./*.PNG")


def test_is_deepglobe():
    assert FileNames.parse().is_deepglobe
    assert not FileNames.parse("images/*_sat.jpg").is_deepglobe


@pytest.mark.parametrize("line", ["12", "img_12.tif", "images/img_12.tif", "train/img_12.tif"])
def test_line_of_a_split_list_is_an_id_or_a_file_name(line):
    names = FileNames.parse("images/img_*.tif", "labels/*.png")
    assert names.id_in_list(line) == "12"
