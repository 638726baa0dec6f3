import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from tfds_deepglobe.archive import (
    describe,
    open_archive,
    remarks,
    require_faultless,
    turned_line,
    verify,
)
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, ClassTable
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.fake_archive import write_kaggle_folder, write_pair, zip_folder
from tfds_deepglobe.file_names import FileNames


def faults_of(path, color_map=None):
    return list(verify(open_archive(path), color_map or {}).faults)


@pytest.fixture(params=["folder", "zip", "wrapped folder", "wrapped zip"])
def kaggle(request, tmp_path):
    root = write_kaggle_folder(tmp_path / "outer" / "archive")
    match request.param:
        case "folder":
            return root
        case "wrapped folder":
            return root.parent
        case "zip":
            return zip_folder(root, tmp_path / "deepglobe.zip")
        case "wrapped zip":
            return zip_folder(root, tmp_path / "deepglobe.zip", top="archive/")


def test_archive_of_kaggle_has_no_faults(kaggle):
    archive = open_archive(kaggle)
    assert [pair.id for pair in archive.pairs] == ["100", "101", "102", "103", "104"]
    assert archive.faults == ()
    assert describe(archive) == (
        "5 images with masks, 7 classes; skipped 2 images without masks in valid/, test/"
    )
    report = verify(archive, {})
    assert report.faults == ()
    assert report.sizes == {(32, 24): 5}
    # A mask has 96 groups of 8 pixels. The 7 classes alternate. Therefore, each of the first 5
    # classes has 14 groups, and each of the last 2 classes has 13 groups.
    assert report.pixels.tolist() == [5 * 8 * 14] * 5 + [5 * 8 * 13] * 2
    require_faultless(archive, {})


def test_hidden_files_are_skipped(tmp_path):
    write_pair(tmp_path / "train", "1")
    for junk in ("__MACOSX/train/1_sat.jpg", "train/._1_sat.jpg", ".trash/1_sat.jpg"):
        path = tmp_path / junk
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"junk")
    (tmp_path / ".DS_Store").write_bytes(b"junk")
    assert faults_of(tmp_path) == []


def test_missing_archive_raises(tmp_path):
    with pytest.raises(InputError, match="nothing does not exist") as error:
        open_archive(tmp_path / "nothing")
    assert_explains_download(str(error.value))
    names = FileNames.parse("images/*.png", "labels/*.png")
    with pytest.raises(InputError, match="nothing does not exist. Choose a folder or a zip.$"):
        open_archive(tmp_path / "nothing", names)


def test_folder_without_pairs_raises_and_the_message_describes_its_files(tmp_path):
    with pytest.raises(InputError, match="found no files"):
        open_archive(tmp_path)
    for name in ("a.tif", "b.tif", "c.txt", "d", "_sat.jpg"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError) as error:
        open_archive(tmp_path)
    assert "found 5 files: 2 .tif, 1 " in str(error.value)
    assert "examples: " in str(error.value)
    assert '`image_glob="images/*.tif"`' in str(error.value)
    assert "Recognized names: folders (images/7.tif with masks/7.png" in str(error.value)
    assert "Kaggle" not in str(error.value)
    for path in tmp_path.iterdir():
        path.unlink()
    (tmp_path / "c.txt").touch()
    with pytest.raises(InputError) as error:
        open_archive(tmp_path)
    assert_explains_download(str(error.value))


def test_archive_without_masks_raises(tmp_path):
    write_pair(tmp_path / "test", "1")
    (tmp_path / "test" / "1_mask.png").unlink()
    for path in (tmp_path, tmp_path / "test"):
        with pytest.raises(InputError, match="No image with a mask in .*: found 1 file: 1 .jpg"):
            open_archive(path)


def assert_explains_download(message):
    assert "balraj98/deepglobe-land-cover-classification-dataset" in message
    assert "<id>_sat.jpg with <id>_mask.png" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("image_glob", "mask_pattern", "counts", "example"),
    [
        ("pictures/*.png", "labels/*_gt.tif", "0 images match pictures/*.png, 1 masks", "images/7"),
        ("images/*.png", "masks/*_gt.tif", "1 images match images/*.png, 0 masks", "labels/7"),
    ],
)
def test_patterns_that_match_no_pair_raise(tmp_path, image_glob, mask_pattern, counts, example):
    for name in ("images/7.png", "labels/7_gt.tif"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    names = FileNames.parse(image_glob, mask_pattern)
    with pytest.raises(InputError, match="No image with a mask in .*: found 2 files") as error:
        open_archive(tmp_path, names)
    message = str(error.value)
    assert '`image_glob="images/*.tif"` and `mask_pattern=' in message
    assert "Kaggle" not in message
    assert counts in message
    assert f"examples of other files: {example}" in message


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("/etc/1_sat.jpg", "/etc/1_sat.jpg"),
        ("../x.txt", "../x.txt"),
        ("a/../../x", "../x"),
        ("C:\\x", "C:/x"),
        ("..\\x", "../x"),
    ],
)
def test_path_outside_the_archive_is_a_fault(tmp_path, name, reported):
    write_pair(tmp_path / "a" / "train", "1")
    path = zip_folder(tmp_path / "a", tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, b"x")
        file.writestr("train/../fine.txt", b"x")
    assert faults_of(path) == [f"{reported}: the path points outside the archive"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("train/100_mask.png", "train/100_mask.png: the zip contains several files with this name"),
        ("class_dict.csv", "class_dict.csv: the zip contains several files with this name"),
        ("a/" * 101 + "1.png", "the path has more than 100 folders"),
    ],
)
def test_repeated_and_deep_paths_are_faults(tmp_path, name, fault):
    folder = write_kaggle_folder(tmp_path / "folder")
    path = zip_folder(folder, tmp_path / "archive.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, (folder / name).read_bytes() if fault.startswith(name) else b"")
    (found,) = open_archive(path).faults
    assert fault in found


def test_large_class_table_raises_without_reading(tmp_path):
    folder = write_kaggle_folder(tmp_path / "folder")
    with (folder / "class_dict.csv").open("ab") as file:
        file.truncate(11_000_000)
    with pytest.raises(InputError, match="class_dict.csv has 11 MB, but a class table has at most"):
        open_archive(folder)


def test_damaged_file_in_a_zip_is_a_fault(tmp_path):
    path = zip_folder(write_kaggle_folder(tmp_path / "a"), tmp_path / "a.zip")
    with zipfile.ZipFile(path) as file:
        member = file.getinfo("train/102_sat.jpg")
    data = bytearray(path.read_bytes())
    data[member.header_offset + 100] ^= 255
    path.write_bytes(data)
    (fault,) = faults_of(path)
    assert fault.startswith("train/102_sat.jpg: cannot be read from the zip: ")


def test_zip_is_not_extracted(tmp_path):
    (tmp_path / "zip").mkdir()
    path = zip_folder(write_kaggle_folder(tmp_path / "a"), tmp_path / "zip" / "a.zip")
    verify(open_archive(path), {})
    assert [p.name for p in (tmp_path / "zip").iterdir()] == ["a.zip"]


def png_of(color, size=(32, 24)):
    data = io.BytesIO()
    Image.new("RGB" if isinstance(color, tuple) else "L", size, color).save(data, "PNG")
    return data.getvalue()


FAULTS = {
    "1_sat.jpg": (b"x", "is not a JPEG file; content and extension do not match"),
    "2_mask.png": (b"x", "is not a PNG file; content and extension do not match"),
    "3_mask.png": (png_of((0, 0, 0), (32, 20)), "has 32x20 pixels, but 3_sat.jpg has 32x24 pixels"),
    "4_mask.png": (
        png_of((255, 0, 0)),
        "768 pixels of (255, 0, 0) do not belong to any class; to assign a class to a color, use "
        "`map_color=255,0,0=CLASS`; the archive has no class_dict.csv, therefore the classes of "
        "DeepGlobe are used",
    ),
    "5_mask.png": (png_of(6), "contains the values 6, probably class ids, but all colors of the"),
}


def test_every_fault_is_one_line(tmp_path):
    for i in range(7):
        write_pair(tmp_path, str(i))
    for name, (data, _) in FAULTS.items():
        (tmp_path / name).write_bytes(data)
    for name in ("6_sat.jpg", "6_mask.png"):  # both files of a pair
        (tmp_path / name).write_bytes(b"")
    faults = faults_of(tmp_path)
    assert len(faults) == len(FAULTS) + 2
    for fault, (name, (_, message)) in zip(faults, FAULTS.items(), strict=False):
        assert fault.startswith(f"{name}: ")
        assert message in fault
    assert [fault.split(":")[0] for fault in faults[-2:]] == ["6_sat.jpg", "6_mask.png"]
    with pytest.raises(InputError) as error:
        require_faultless(open_archive(tmp_path), {})
    assert str(error.value).splitlines() == [
        f"{tmp_path} cannot be used. It has 7 faults:",
        *faults,
    ]


def turned(path, orientation):
    """Writes the orientation tag of an image file."""
    with Image.open(path) as image:
        image.load()
    exif = Image.Exif()
    exif[274] = orientation
    image.save(path, exif=exif)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_orientation_tags_are_not_applied_and_must_be_equal(tmp_path, suffix):
    names = FileNames.parse(f"images/*{suffix}", "labels/*.png")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    ids = np.arange(24 * 32).reshape(24, 32) % 7
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for i in range(3):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}{suffix}")
        Image.fromarray(DEEPGLOBE_CLASSES.colorize(ids)).save(tmp_path / "labels" / f"{i}.png")
    turned(tmp_path / "images" / f"1{suffix}", 6)
    turned(tmp_path / "images" / f"2{suffix}", 3)
    turned(tmp_path / "labels" / "2.png", 3)
    archive = open_archive(tmp_path, names)
    (fault,) = verify(archive, {}).faults
    assert fault.startswith(
        f"images/1{suffix}: has the orientation tag 6, but its mask (labels/*.png) has the "
        "orientation tag 1; lcc_tf ignores these tags"
    )
    assert "`magick FILE -auto-orient FILE`" in fault
    assert turned_line(archive) == (
        f"1 of 3 images have orientation tags, for example images/2{suffix}; their masks have the "
        "same tags; the pixels are used as they are stored"
    )
    example = archive.read(archive.pairs[2], {})
    np.testing.assert_array_equal(example.class_ids, ids)
    if suffix != ".jpg":
        np.testing.assert_array_equal(example.image, pixels)


def test_fault_of_all_images_is_one_line(tmp_path):
    for i in range(3):
        write_pair(tmp_path, str(i))
        Image.new("CMYK", (32, 24)).save(tmp_path / f"{i}_sat.jpg")
    (fault,) = faults_of(tmp_path)
    assert fault.startswith("all 3 images, such as 0_sat.jpg: has mode CMYK; expected RGB")
    write_pair(tmp_path, "3")
    for i, fault in enumerate(faults_of(tmp_path)):
        assert fault.startswith(f"{i}_sat.jpg: has mode CMYK")


@pytest.mark.parametrize("table", ["", "name,r,g,b\nland,0,0,0\nbuilding,255,255,255\n"])
def test_masks_of_class_ids_are_one_fault_that_proposes_a_class_table(tmp_path, table):
    for i, ids in enumerate(((0, 255), (1, 4, 255), (2, 3))):
        write_pair(tmp_path, str(i))
        mask = np.array(ids, np.uint8)[np.arange(24 * 32).reshape(24, 32) % len(ids)]
        Image.fromarray(mask).save(tmp_path / f"{i}_mask.png")
    if table:
        (tmp_path / "class_dict.csv").write_text(table)
    (fault,) = faults_of(tmp_path)
    assert fault.startswith(
        "2 masks, such as 1_mask.png: contains the values 1, 2, 3, 4, 255, probably class ids"
    )
    assert ("the archive has no class_dict.csv" in fault) == (not table)
    rows = fault.split("one row per class: ")[1].split(";")[0].replace(" / ", "\n")
    assert rows.endswith("unknown,255,255,255")
    (tmp_path / "class_dict.csv").write_text(rows + "\nbackground,0,0,0\n")
    assert faults_of(tmp_path) == []


@pytest.mark.parametrize(
    ("colors", "table", "num_faults"),
    [
        ([(0, 0, 0), (255, 255, 255)], "", 1),
        ([(0, 0, 0), (255, 255, 255)], "name,r,g,b\nland,0,0,0\nwater,255,255,255\n", 0),
        ([(0, 0, 0), (255, 255, 255), (0, 0, 255)], "", 0),
        ([(255, 255, 255)], "", 0),
    ],
)
def test_archive_with_masks_in_black_and_white_needs_a_class_table(
    tmp_path, colors, table, num_faults
):
    for i, color in enumerate(colors):
        write_pair(tmp_path, str(i))
        (tmp_path / f"{i}_mask.png").write_bytes(png_of(color))
    if table:
        (tmp_path / "class_dict.csv").write_text(table)
    faults = faults_of(tmp_path)
    assert len(faults) == num_faults
    assert all("only black and white" in fault and "background,0,0,0" in fault for fault in faults)


def test_mapped_color_is_not_a_fault(tmp_path):
    write_pair(tmp_path, "1")
    (tmp_path / "1_mask.png").write_bytes(png_of((255, 0, 0)))
    report = verify(open_archive(tmp_path), {(255, 0, 0): 6})
    assert report.faults == ()
    assert report.pixels.tolist() == [0, 0, 0, 0, 0, 0, 768]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp"])
def test_images_are_encoded_without_loss(tmp_path, suffix):
    names = FileNames.parse(f"images/*{suffix}", "labels/*_gt.png")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    file = tmp_path / "images" / f"7{suffix}"
    Image.fromarray(pixels).save(file, compress_level=1)  # encoding again would change the file
    (tmp_path / "labels" / "7_gt.png").write_bytes(png_of((0, 0, 255)))
    archive = open_archive(tmp_path, names)
    example = archive.read(archive.pairs[0], {})
    encoded = example.encoded_image()
    assert archive.image_encoding == ("jpeg" if suffix == ".jpg" else "png")
    with Image.open(io.BytesIO(encoded)) as stored:
        assert stored.format == archive.image_encoding.upper()
        if suffix != ".jpg":
            np.testing.assert_array_equal(stored, pixels)
    assert (encoded == file.read_bytes()) == (suffix in (".jpg", ".png"))
    with Image.open(io.BytesIO(example.encoded_mask())) as stored:
        np.testing.assert_array_equal(stored, np.full((24, 32), 4))


@pytest.mark.parametrize(
    "name", ["class_dict.csv", "archive/class_dict.csv", "archive/train/tables/Class_Dict.CSV"]
)
def test_class_table_in_any_folder_is_read(tmp_path, name):
    classes = ClassTable(("a", "b"), ((1, 2, 3), (4, 5, 6)))
    write_pair(tmp_path / "archive" / "train", "1", classes=classes)
    assert open_archive(tmp_path).classes == DEEPGLOBE_CLASSES
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("name,r,g,b\na,1,2,3\nb,4,5,6\n")
    assert open_archive(tmp_path).classes == classes
    assert faults_of(tmp_path) == []


def test_class_table_with_another_name_raises(tmp_path):
    write_pair(tmp_path, "1")
    (tmp_path / "notes.txt").write_text("name of the author")
    (tmp_path / "metadata.csv").write_text("image_id,split\n1,train\n")
    assert not open_archive(tmp_path).has_class_table
    (tmp_path / "classes.csv").write_text("name;r;g;b\na;1;2;3\nb;4;5;6\n")
    with pytest.raises(InputError, match="classes.csv is a class table, but only .*Rename"):
        open_archive(tmp_path)


def test_class_table_with_another_name_is_found_among_many_texts(tmp_path):
    write_kaggle_folder(tmp_path)
    for index in range(30):
        (tmp_path / f"a{index}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "class_dict.csv").rename(tmp_path / "classes.csv")
    (tmp_path / "classes.csv").write_text("name,r,g,b\nland,0,0,0\nwater,0,0,255\n")
    with pytest.raises(InputError, match="classes.csv is a class table"):
        open_archive(tmp_path)


def test_classes_of_deepglobe_and_left_out_images_are_reported(tmp_path):
    root = write_kaggle_folder(tmp_path)
    assert remarks(open_archive(root)) == []
    (root / "class_dict.csv").unlink()
    for i in range(30):
        (root / f"{i:02d}{'x' * 200}.tif").touch()
    left_out, no_table = remarks(open_archive(root))
    assert left_out.startswith("skipped 30 image files that match neither *_sat.jpg nor *_mask.png")
    assert left_out.endswith(" and 27 more")
    assert len(left_out) < 400
    assert no_table.endswith("no class_dict.csv, therefore the classes of DeepGlobe are used")


def test_invalid_class_tables_raise(tmp_path):
    root = write_kaggle_folder(tmp_path)
    (root / "train" / "a").mkdir()
    (root / "train" / "a" / "CLASS_DICT.csv").write_text("name,r,g,b\na,1,2,3\n")
    with pytest.raises(InputError, match="class_dict.csv, train/a/CLASS_DICT.csv differ. Delete"):
        open_archive(root)
    (root / "class_dict.csv").write_text("name,r,g\n")
    with pytest.raises(InputError, match="^class_dict.csv: .*must contain the columns b"):
        open_archive(root)
    (root / "class_dict.csv").write_bytes(b"\xff\xff")
    with pytest.raises(InputError, match="^class_dict.csv: .*not a text file in UTF-8"):
        open_archive(root)
