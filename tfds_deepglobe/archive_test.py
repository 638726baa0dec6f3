import io
import struct
import threading
import time
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from tfds_deepglobe import archive as archive_module
from tfds_deepglobe.archive import describe, open_archive, ordered_map, verify
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


def test_kaggles_layout(kaggle):
    archive = open_archive(kaggle)
    assert [pair.id for pair in archive.pairs] == ["100", "101", "102", "103", "104"]
    assert archive.faults == ()
    assert describe(archive) == (
        "5 labelled images, 7 classes; 2 unlabelled images in valid/, test/ left out"
    )


def test_faultless_archive_is_counted(kaggle):
    report = verify(open_archive(kaggle), {})
    assert report.faults == ()
    assert report.sizes == {(32, 24): 5}
    # 96 runs of 8 pixels, dealt to the classes in turn: 14 for the first five, 13 for the others.
    assert report.pixels.tolist() == [5 * 8 * 14] * 5 + [5 * 8 * 13] * 2


def test_flat_nested_and_separate_folders(tmp_path):
    write_pair(tmp_path, "1")
    write_pair(tmp_path / "a" / "b", "2")
    write_pair(tmp_path / "images", "3")
    (tmp_path / "masks").mkdir()
    (tmp_path / "images" / "3_mask.png").rename(tmp_path / "masks" / "3_mask.png")
    pairs = open_archive(tmp_path).pairs
    assert [(p.id, p.image.name, p.mask.name) for p in pairs] == [
        ("1", "1_sat.jpg", "1_mask.png"),
        ("2", "a/b/2_sat.jpg", "a/b/2_mask.png"),
        ("3", "images/3_sat.jpg", "masks/3_mask.png"),
    ]


def test_linked_folder_is_followed(tmp_path):
    write_pair(tmp_path / "elsewhere", "1")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(tmp_path / "elsewhere")
    assert open_archive(tmp_path / "data").pairs[0].image.name == "train/1_sat.jpg"


def test_junk_is_ignored(tmp_path):
    write_pair(tmp_path / "train", "1")
    for junk in ("__MACOSX/train/1_sat.jpg", "train/._1_sat.jpg", ".trash/1_sat.jpg"):
        path = tmp_path / junk
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"junk")
    (tmp_path / ".DS_Store").write_bytes(b"junk")
    assert faults_of(tmp_path) == []


@pytest.mark.parametrize("folder", ["train", "valid", "test", "other"])
def test_missing_masks(tmp_path, folder):
    """Unlabelled images may lie in valid/ and test/, but not beside labelled ones."""
    write_pair(tmp_path / "labelled", "1")
    write_pair(tmp_path / folder, "2")
    write_pair(tmp_path / folder, "3")
    (tmp_path / folder / "2_mask.png").unlink()
    assert faults_of(tmp_path) == [f"{folder}/2_sat.jpg: missing partner 2_mask.png"]
    (tmp_path / folder / "3_mask.png").unlink()
    may_be_unlabelled = folder in ("valid", "test")
    assert len(faults_of(tmp_path)) == (0 if may_be_unlabelled else 2)
    assert open_archive(tmp_path).unlabelled == ({folder: 2} if may_be_unlabelled else {})


@pytest.mark.parametrize("folder", ["train", "valid"])
def test_missing_image(tmp_path, folder):
    write_pair(tmp_path / folder, "1")
    write_pair(tmp_path / folder, "2")
    (tmp_path / folder / "1_sat.jpg").unlink()
    assert faults_of(tmp_path) == [f"{folder}/1_mask.png: missing partner 1_sat.jpg"]


def test_duplicate_id(tmp_path):
    write_pair(tmp_path / "a", "1")
    write_pair(tmp_path / "b", "1", size=(8, 8))
    assert faults_of(tmp_path) == ["duplicate id 1: a/1_sat.jpg, b/1_sat.jpg"]
    assert len(open_archive(tmp_path).pairs) == 2  # so that both are verified


def test_missing_path(tmp_path):
    with pytest.raises(InputError) as error:
        open_archive(tmp_path / "nothing")
    assert_says_how_to_begin(str(error.value))
    assert "nothing does not exist" in str(error.value)


def test_folder_without_pairs_says_what_it_holds(tmp_path):
    with pytest.raises(InputError, match="found no file"):
        open_archive(tmp_path)
    for name in ("a.tif", "b.tif", "c.txt", "d", "_sat.jpg"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError) as error:
        open_archive(tmp_path)
    assert "found 5 files: 2 .tif, 1 " in str(error.value)
    assert "other files are " in str(error.value)
    assert "--image-glob 'images/*.tif'" in str(error.value)
    assert_says_how_to_begin(str(error.value))


def test_unlabelled_images_alone(tmp_path):
    write_pair(tmp_path / "test", "1")
    (tmp_path / "test" / "1_mask.png").unlink()
    for path in (tmp_path, tmp_path / "test"):
        with pytest.raises(InputError, match="no labelled image in .*: found 1 file: 1 .jpg"):
            open_archive(path)


def assert_says_how_to_begin(message):
    assert "balraj98/deepglobe-land-cover-classification-dataset" in message
    assert "<id>_sat.jpg with <id>_mask.png" in message
    assert "`python train.py --data demo` works without it" in message
    assert "\n" not in message


def test_what_is_no_zip_or_a_truncated_one(tmp_path):
    path = zip_folder(write_kaggle_folder(tmp_path / "a"), tmp_path / "a.zip")
    for data in (b"GIF89a", path.read_bytes()[:-3000]):
        path.write_bytes(data)
        with pytest.raises(InputError, match="neither a folder nor a whole zip"):
            open_archive(path)


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
def test_zip_with_path_that_leaves_it(tmp_path, name, reported):
    path = zip_folder(write_kaggle_folder(tmp_path / "a"), tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, b"x")
        file.writestr("train/../fine.txt", b"x")
    assert faults_of(path) == [f"{reported}: its path leaves the archive"]


@pytest.mark.parametrize("top", ["./", "x/../", ".\\"])
def test_zip_with_unusual_paths(tmp_path, top):
    path = zip_folder(write_kaggle_folder(tmp_path / "a"), tmp_path / "a.zip", top=top)
    archive = open_archive(path)
    assert archive.pairs[0].image.name == "train/100_sat.jpg"
    assert verify(archive, {}).faults == ()


def test_zip_with_broken_member(tmp_path):
    path = zip_folder(write_kaggle_folder(tmp_path / "a"), tmp_path / "a.zip")
    with zipfile.ZipFile(path) as file:
        member = file.getinfo("train/102_sat.jpg")
    data = bytearray(path.read_bytes())
    data[member.header_offset + 100] ^= 255
    path.write_bytes(data)
    (fault,) = faults_of(path)
    assert fault.startswith("train/102_sat.jpg: cannot be read from the zip: ")


def test_zip_is_never_extracted(tmp_path):
    (tmp_path / "zip").mkdir()
    path = zip_folder(write_kaggle_folder(tmp_path / "a"), tmp_path / "zip" / "a.zip")
    verify(open_archive(path), {})
    assert [p.name for p in (tmp_path / "zip").iterdir()] == ["a.zip"]


def png_of(array):
    data = io.BytesIO()
    Image.fromarray(array).save(data, "PNG")
    return data.getvalue()


def jpeg_of(array, mode):
    data = io.BytesIO()
    Image.fromarray(array).convert(mode).save(data, "JPEG")
    return data.getvalue()


def png_16_bit(width, height):
    """A black RGB PNG of 16 bits, which Pillow can read but not write."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 + 6 * width) * height)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


BLACK = np.zeros((24, 32, 3), np.uint8)
BROKEN = {
    "empty image": ("1_sat.jpg", lambda data: b"", "is not a JPEG file"),
    "truncated image": ("1_sat.jpg", lambda data: data[:-400], "is truncated or broken"),
    "image without end marker": ("1_sat.jpg", lambda data: data[:-2], "is truncated or broken"),
    "image is PNG": ("1_sat.jpg", lambda data: png_of(BLACK), "is not a JPEG file"),
    "image is gray": ("1_sat.jpg", lambda data: jpeg_of(BLACK, "L"), "has mode L; expected RGB"),
    "image is CMYK": ("1_sat.jpg", lambda data: jpeg_of(BLACK, "CMYK"), "has mode CMYK"),
    "truncated mask": ("1_mask.png", lambda data: data[:-80], "is truncated or broken"),
    "mask is JPEG": ("1_mask.png", lambda data: jpeg_of(BLACK, "RGB"), "is not a PNG file"),
    "mask is of class ids": (
        "1_mask.png",
        lambda data: png_of(BLACK[..., 0] + np.uint8(6)),
        "holds shades of gray up to 6 and no other colour, which look like class ids",
    ),
    "mask is transparent": (
        "1_mask.png",
        lambda data: png_of(np.zeros((24, 32, 4), np.uint8)),
        "has mode RGBA; expected RGB or gray of 8 bits, or a palette",
    ),
    "mask has 16 bits": ("1_mask.png", lambda data: png_16_bit(32, 24), "mode RGB of 16 bits"),
    "mask has another size": (
        "1_mask.png",
        lambda data: png_of(BLACK[:20]),
        "is 32x20, but 1_sat.jpg is 32x24",
    ),
    "mask has unknown color": (
        "1_mask.png",
        lambda data: png_of(BLACK + np.array([255, 0, 0], np.uint8)),
        "768 pixels of (255, 0, 0), which no class has; to map a colour on purpose, add "
        "--map-color 255,0,0=CLASS; the archive has no class_dict.csv",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_file(tmp_path, case):
    name, damage, message = BROKEN[case]
    write_pair(tmp_path, "1")
    write_pair(tmp_path, "2")
    path = tmp_path / name
    path.write_bytes(damage(path.read_bytes()))
    (fault,) = faults_of(tmp_path)
    assert fault.startswith(f"{name}: ")
    assert message in fault


def test_all_faults_are_listed(tmp_path):
    for i, (name, damage, _) in enumerate(BROKEN.values()):
        write_pair(tmp_path, f"{i:02d}")
        path = tmp_path / name.replace("1", f"{i:02d}")
        path.write_bytes(damage(path.read_bytes()))
    (tmp_path / "99_sat.jpg").write_bytes(b"")
    faults = faults_of(tmp_path)
    assert len(faults) == len(BROKEN) + 1
    assert not any("\n" in fault for fault in faults)


def test_both_files_of_a_pair_are_reported(tmp_path):
    write_pair(tmp_path, "1")
    (tmp_path / "1_sat.jpg").write_bytes(b"x")
    (tmp_path / "1_mask.png").write_bytes(b"x")
    assert [fault.split(":")[0] for fault in faults_of(tmp_path)] == ["1_sat.jpg", "1_mask.png"]


def test_dangling_link(tmp_path):
    write_pair(tmp_path, "1")
    (tmp_path / "1_sat.jpg").unlink()
    (tmp_path / "1_sat.jpg").symlink_to(tmp_path / "gone.jpg")
    assert faults_of(tmp_path) == ["1_sat.jpg: cannot be read: No such file or directory"]


def test_palette_mask_is_accepted(tmp_path):
    write_pair(tmp_path, "1")
    archive = open_archive(tmp_path)
    expected = archive.encode_mask(archive.pairs[0], {})
    path = tmp_path / "1_mask.png"
    Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE).save(path)
    assert Image.open(path).mode == "P"
    np.testing.assert_array_equal(archive.encode_mask(archive.pairs[0], {}), expected)
    assert faults_of(tmp_path) == []


OTHER_NAMES = FileNames.parse("images/*.png", "labels/*_gt.tif")


def write_other(root, image, mask, table="name,r,g,b\na,10,20,30\nb,40,50,60\n", names=OTHER_NAMES):
    """One pair under other names, from Pillow images, in a format of the names' endings."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    # Not as Pillow would write it by itself, so that a file written anew has other bytes.
    image.save(root / names.images.name_of("7"), compress_level=1)
    mask.save(root / names.masks.name_of("7"))
    (root / "class_dict.csv").write_text(table)
    return open_archive(root, names)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp"])
def test_images_of_every_format_are_stored_without_loss(tmp_path, suffix):
    names = FileNames.parse(f"images/*{suffix}", "labels/*_gt.png")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    mask = Image.fromarray(np.full((24, 32, 3), (40, 50, 60), np.uint8))
    archive = write_other(tmp_path, Image.fromarray(pixels), mask, names=names)
    assert verify(archive, {}).faults == ()
    (pair,) = archive.pairs
    encoded = archive.encode_image(pair)
    assert archive.image_encoding == ("jpeg" if suffix == ".jpg" else "png")
    with Image.open(io.BytesIO(encoded)) as stored:
        assert stored.format == archive.image_encoding.upper()
        if suffix != ".jpg":
            np.testing.assert_array_equal(stored, pixels)
    own_bytes = encoded == (tmp_path / pair.image.name).read_bytes()
    assert own_bytes == (suffix in (".jpg", ".png"))


MODES = [(mode, suffix) for mode in ("RGB", "P", "L", "1") for suffix in (".png", ".tif", ".bmp")]


@pytest.mark.parametrize(("mode", "suffix"), [*MODES, ("RGBA", ".png"), ("RGBA", ".tif")])
def test_masks_of_every_mode_and_format(tmp_path, mode, suffix):
    names = FileNames.parse("images/*.png", f"labels/*_gt{suffix}")
    colors = [(10, 20, 30), (10, 20, 31), (200, 0, 7)]
    if mode in ("L", "1"):  # class ids, and black and white
        colors = [(level,) * 3 for level in ((0, 1, 2) if mode == "L" else (0, 255))]
    class_ids = np.arange(24 * 32).reshape(24, 32) % len(colors)
    if mode == "P":
        mask = Image.fromarray(class_ids.astype(np.uint8), "P")
        mask.putpalette([channel for color in colors for channel in color])
    else:
        mask = Image.fromarray(np.array(colors, np.uint8)[class_ids]).convert(mode)
    rows = [f"class {i},{r},{g},{b}" for i, (r, g, b) in enumerate(colors)]
    table = "\n".join(["name,r,g,b", *rows])
    archive = write_other(tmp_path, Image.new("RGB", (32, 24)), mask, table, names)
    with Image.open(tmp_path / archive.pairs[0].mask.name) as written:
        assert written.mode == mode
    np.testing.assert_array_equal(archive.encode_mask(archive.pairs[0], {}), class_ids)
    assert verify(archive, {}).faults == ()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("L", (32, 24)), "has mode L; expected RGB, 3 channels of 8 bits"),
        (Image.new("P", (32, 24)), "has mode P; expected RGB"),
        (Image.new("RGBA", (32, 24)), "has mode RGBA; expected RGB"),
        (Image.new("I;16", (32, 24)), "16"),
        (Image.new("RGBA", (32, 24), (1, 2, 3, 255)), None),  # alpha says nothing
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_images_that_are_not_rgb(tmp_path, image, message, suffix):
    names = FileNames.parse(f"images/*{suffix}", "labels/*_gt.png")
    mask = Image.new("RGB", (32, 24), (40, 50, 60))
    archive = write_other(tmp_path, image, mask, names=names)
    faults = verify(archive, {}).faults
    if message is None:
        assert faults == ()
        assert Image.open(io.BytesIO(archive.encode_image(archive.pairs[0]))).getpixel((0, 0))[
            :3
        ] == (1, 2, 3)
        return
    (fault,) = faults
    assert fault.startswith(f"images/7{suffix}: ")
    assert message in fault
    assert ("gdal_translate" in fault) == (suffix == ".tif")


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_tiff_of_16_bit_bands_says_how_to_get_8(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    names = FileNames.parse("images/*.tif", "labels/*_gt.png")
    mask = Image.new("RGB", (32, 24), (40, 50, 60))
    archive = write_other(tmp_path, Image.new("RGB", (32, 24)), mask, names=names)
    for bands in (3, 4):
        profile = {"driver": "GTiff", "width": 32, "height": 24, "count": bands}
        with rasterio.open(tmp_path / "images" / "7.tif", "w", dtype="uint16", **profile) as file:
            file.write(np.zeros((bands, 24, 32), np.uint16))
        (fault,) = verify(archive, {}).faults
        assert "gdal_translate -b 1 -b 2 -b 3 -co PHOTOMETRIC=RGB" in fault
        assert "\n" not in fault


def test_gray_mask_of_two_shades_is_cut(tmp_path):
    mask = Image.fromarray(np.array([[0, 3, 250, 255]], np.uint8))
    table = "name,r,g,b\nland,0,0,0\nwater,255,255,255\n"
    archive = write_other(tmp_path, Image.new("RGB", (4, 1)), mask, table)
    assert archive.encode_mask(archive.pairs[0], {}).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("top", ["", "archive/", "a/b/"])
@pytest.mark.parametrize("packed", [False, True])
def test_patterns_with_folders_match_from_the_right(tmp_path, top, packed):
    image = Image.new("RGB", (32, 24))
    root = tmp_path / "outer" / top
    write_other(root, image, Image.new("RGB", (32, 24), (40, 50, 60)))
    image.save(root / "7.png")  # not in images/
    image.save(root / "images" / "8.jpg")
    path = tmp_path / "outer"
    if packed:
        path = zip_folder(path, tmp_path / "a.zip")
    (pair,) = open_archive(path, OTHER_NAMES).pairs
    assert (pair.id, pair.image.name) == ("7", f"{top}images/7.png")
    assert pair.mask.name == f"{top}labels/7_gt.tif"


def test_pairs_of_other_names_that_do_not_fit(tmp_path):
    image = Image.new("RGB", (32, 24))
    mask = Image.new("RGB", (32, 24), (40, 50, 60))
    write_other(tmp_path / "train", image, mask)
    write_other(tmp_path / "more", image, mask)
    image.save(tmp_path / "train" / "images" / "9.png")
    mask.save(tmp_path / "train" / "labels" / "10_gt.tif")
    archive = open_archive(tmp_path, OTHER_NAMES)
    assert archive.faults == (
        "duplicate id 7: more/images/7.png, train/images/7.png",
        "train/images/9.png: missing partner labels/9_gt.tif",
        "train/labels/10_gt.tif: missing partner images/10.png",
    )
    assert [pair.mask.name for pair in archive.pairs] == [
        "more/labels/7_gt.tif",
        "train/labels/7_gt.tif",
    ]


def test_unlabelled_images_of_other_names(tmp_path):
    image = Image.new("RGB", (32, 24))
    write_other(tmp_path / "train", image, Image.new("RGB", (32, 24), (40, 50, 60)))
    write_other(tmp_path / "test", image, image)
    (tmp_path / "test" / "labels" / "7_gt.tif").rename(tmp_path / "test" / "7.txt")
    (tmp_path / "test" / "images" / "7.png").rename(tmp_path / "test" / "images" / "8.png")
    assert open_archive(tmp_path, OTHER_NAMES).unlabelled == {"test": 1}


@pytest.mark.parametrize(
    ("image_glob", "mask_pattern", "counts"),
    [
        ("pictures/*.png", "labels/*_gt.tif", "0 images match pictures/*.png, 1 masks match"),
        ("images/*.png", "masks/*_gt.tif", "1 images match images/*.png, 0 masks match masks/"),
    ],
)
def test_patterns_that_nothing_fits_show_what_is_there(tmp_path, image_glob, mask_pattern, counts):
    write_other(tmp_path, Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), (40, 50, 60)))
    names = FileNames.parse(image_glob, mask_pattern)
    with pytest.raises(InputError, match="no labelled image in .*: found 3 files") as error:
        open_archive(tmp_path, names)
    message = str(error.value)
    assert "--image-glob 'images/*.tif' --mask-pattern" in message
    assert "Kaggle" not in message
    assert counts in message
    others = ["images/7.png", "labels/7_gt.tif"]
    if image_glob.startswith("images"):
        others.reverse()
    listed = message.split("other files are")[1]
    assert others[0] in listed
    assert others[1] not in listed


def test_mapped_color_is_no_fault(tmp_path):
    write_pair(tmp_path, "1")
    Image.fromarray(BLACK + np.array([255, 0, 0], np.uint8)).save(tmp_path / "1_mask.png")
    report = verify(open_archive(tmp_path), {(255, 0, 0): 6})
    assert report.faults == ()
    assert report.pixels.tolist() == [0, 0, 0, 0, 0, 0, 768]


@pytest.mark.parametrize(("limit", "is_fault"), [(32 * 24, False), (32 * 24 - 1, True)])
def test_pixel_limit_is_ours_rather_than_pillows(tmp_path, monkeypatch, limit, is_fault):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    monkeypatch.setattr(archive_module, "_MAX_PIXELS", limit)
    write_pair(tmp_path, "1")
    assert len(faults_of(tmp_path)) == (2 if is_fault else 0)


@pytest.mark.parametrize("place", ["", "archive/"])
def test_class_table_of_the_archive(tmp_path, place):
    classes = ClassTable(("a", "b"), ((1, 2, 3), (4, 5, 6)))
    write_pair(tmp_path / "archive" / "train", "1", classes=classes)
    assert open_archive(tmp_path).classes == DEEPGLOBE_CLASSES
    (tmp_path / place / "class_dict.csv").write_text("name,r,g,b\na,1,2,3\nb,4,5,6\n")
    assert open_archive(tmp_path).classes == classes
    assert faults_of(tmp_path) == []


def test_faulty_class_tables(tmp_path):
    root = write_kaggle_folder(tmp_path)
    (root / "train" / "class_dict.csv").write_text("name,r,g,b\na,1,2,3\n")
    with pytest.raises(InputError, match="class_dict.csv, train/class_dict.csv differ: keep one"):
        open_archive(root)
    (root / "class_dict.csv").write_text("name,r,g\n")
    with pytest.raises(InputError, match="class_dict.csv: class_dict.csv lacks the columns b"):
        open_archive(root)
    (root / "class_dict.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="class_dict.csv: .*not a text file in UTF-8"):
        open_archive(root)


def test_results_come_in_order_from_several_threads(capsys):
    threads = set()

    def slow_at_first(item):
        threads.add(threading.get_ident())
        time.sleep(0.02 if item == 0 else 0.001)
        return item

    assert list(ordered_map(slow_at_first, range(30), "counting")) == list(range(30))
    assert len(threads) == min(archive_module.num_cores(), 32)
    assert "counting: 100%" in capsys.readouterr().err


def test_look_ahead_is_bounded_and_ends_with_its_reader():
    started = []
    results = ordered_map(started.append, range(1000), "counting")
    next(results)
    results.close()
    assert len(started) <= 2 * archive_module.num_cores()


def test_error_in_a_thread_reaches_the_reader():
    def fail(item):
        raise InputError(f"item {item}")

    with pytest.raises(InputError, match="item 0"):
        list(ordered_map(fail, range(3), "failing"))


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize(
    "options",
    [
        {"interleave": "band"},
        {"interleave": "band", "compress": "deflate", "tiled": True},
        {"compress": "lzw", "predictor": 2, "endianness": "big"},
        {"compress": "zstd", "bigtiff": "yes"},
    ],
    ids=str,
)
def test_scenes_as_gis_programs_write_them(tmp_path, options):
    rasterio = pytest.importorskip("rasterio")
    names = FileNames.parse("images/*.tif", "labels/*_gt.png")
    mask = Image.new("RGB", (200, 150), (40, 50, 60))
    archive = write_other(tmp_path, Image.new("RGB", (200, 150)), mask, names=names)
    bands = np.random.default_rng(0).integers(0, 256, (3, 150, 200), np.uint8)
    profile = {"driver": "GTiff", "width": 200, "height": 150, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "images" / "7.tif", "w", **profile, **options) as file:
        file.write(bands)
    assert verify(archive, {}).faults == ()
    with Image.open(io.BytesIO(archive.encode_image(archive.pairs[0]))) as stored:
        np.testing.assert_array_equal(stored, bands.transpose(1, 2, 0))
