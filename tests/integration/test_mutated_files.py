"""Damaged files are refused by `check`, or decoded in the same way by `check` and training.

The short tests make some changes per format. Many changes take ten minutes:

    pytest -m slow tests/integration/test_mutated_files.py
"""

import io
import json
import re
import signal
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from lcc_tf.data.decoding import decode_image, decode_mask, decode_window
from tests.integration.mutations import mutate
from tfds_deepglobe.__main__ import main
from tfds_deepglobe.archive import open_archive, with_bands, with_labels
from tfds_deepglobe.bands import Raster
from tfds_deepglobe.classes import ClassTable
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.fake_archive import zip_folder
from tfds_deepglobe.split_lists import keep_present, read_split_files

FEW, MANY = 8, 500  # changes per file
SECONDS = 20  # limit per changed file
SIDE = 40
CLASSES = ClassTable(("land", "water", "road"), ((10, 200, 30), (0, 0, 0), (90, 90, 91)))
RNG = np.random.default_rng(0)


def image(channels=3, dtype=np.uint8):
    ramp = np.linspace(0, 200, SIDE * SIDE * channels).reshape(SIDE, SIDE, channels)
    return (ramp + RNG.integers(0, 50, ramp.shape)).astype(dtype)


def saved(image, kind, **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def as_npy(values):
    data = io.BytesIO()
    np.save(data, values)
    return data.getvalue()


def as_geotiff(values, **options):
    from rasterio.io import MemoryFile

    with MemoryFile() as memory:
        height, width, count = values.shape
        shape = {"height": height, "width": width, "count": count, "dtype": values.dtype.name}
        with memory.open(driver="GTiff", **shape, **options) as file:
            file.write(np.moveaxis(values, -1, 0))
        return bytes(memory.getbuffer())


def rgb_mask():
    return Image.fromarray(CLASSES.colorize(RNG.integers(0, 3, (SIDE, SIDE))))


def palette_mask():
    mask = Image.fromarray(RNG.integers(0, 3, (SIDE, SIDE), np.uint8), "P")
    mask.putpalette([channel for color in CLASSES.palette for channel in color])
    return mask


def gray_mask():
    return Image.fromarray(RNG.integers(0, 3, (SIDE, SIDE), np.uint8))


COLOR_CSV = "name,r,g,b\nland,10,200,30\nwater,0,0,0\nroad,90,90,91\n"
GRAY_CSV = "name,id\nland,0\nwater,1\nroad,2\n"
LABELMAP = "# label:color_rgb:parts:actions\nland:10,200,30::\nwater:0,0,0::\nroad:90,90,91::\n"
JSON = json.dumps(
    {
        "classes": [
            {"title": name, "color": f"#{bytes(color).hex()}"}
            for name, color in zip(CLASSES.names, CLASSES.palette, strict=True)
        ]
    }
)


def rgb(kind, **options):
    return lambda: saved(Image.fromarray(image()), kind, **options)


# Key: name of the case. Value: suffix and content of the images, content of the masks, class table,
# changed file, and format of the changed file.
CASES = {
    "jpeg": ("jpg", rgb("JPEG", quality=90), rgb_mask, COLOR_CSV, "images/1.jpg", "jpeg"),
    "progressive": (
        *("jpg", rgb("JPEG", progressive=True, subsampling=0), rgb_mask, COLOR_CSV),
        *("images/1.jpg", "jpeg"),
    ),
    "restarts": (
        *("jpg", rgb("JPEG", restart_marker_blocks=2), rgb_mask, COLOR_CSV, "images/1.jpg", "jpeg"),
    ),
    "png": ("png", rgb("PNG"), rgb_mask, COLOR_CSV, "images/1.png", "png"),
    "rgb mask": ("jpg", rgb("JPEG"), rgb_mask, COLOR_CSV, "masks/1.png", "png"),
    "palette mask": ("jpg", rgb("JPEG"), palette_mask, COLOR_CSV, "masks/1.png", "png"),
    "gray mask": ("jpg", rgb("JPEG"), gray_mask, GRAY_CSV, "masks/1.png", "png"),
    "bmp": ("bmp", rgb("BMP"), rgb_mask, COLOR_CSV, "images/1.bmp", "bmp"),
    "tiff": ("tif", rgb("TIFF"), rgb_mask, COLOR_CSV, "images/1.tif", "tiff"),
    "lzw": (
        "tif",
        rgb("TIFF", compression="tiff_lzw"),
        rgb_mask,
        COLOR_CSV,
        "images/1.tif",
        "tiff",
    ),
    "deflate": (
        *("tif", rgb("TIFF", compression="tiff_adobe_deflate"), rgb_mask, COLOR_CSV),
        *("images/1.tif", "tiff"),
    ),
    "geotiff": (
        *("tif", lambda: as_geotiff(image(4, np.uint16), compress="deflate"), rgb_mask, COLOR_CSV),
        *("images/1.tif", "tiff"),
    ),
    "npy": ("npy", lambda: as_npy(image(5, np.uint16)), rgb_mask, COLOR_CSV, "images/1.npy", "npy"),
    "csv": ("jpg", rgb("JPEG"), rgb_mask, COLOR_CSV, "class_dict.csv", "csv"),
    "id csv": ("jpg", rgb("JPEG"), gray_mask, GRAY_CSV, "class_dict.csv", "csv"),
    "labelmap": ("jpg", rgb("JPEG"), rgb_mask, LABELMAP, "labelmap.txt", "csv"),
    "json": ("jpg", rgb("JPEG"), rgb_mask, JSON, "meta.json", "json"),
    "zip": ("jpg", rgb("JPEG"), rgb_mask, COLOR_CSV, "../archive.zip", "zip"),
    "stored zip": ("png", rgb("PNG"), rgb_mask, COLOR_CSV, "../archive.zip", "zip"),
}
# Formats with checksums of all pixels: a random change must not change pixels.
CHECKED = ("png", "rgb mask", "palette mask", "gray mask", "deflate", "zip", "stored zip")


class Hang(BaseException):
    """An error for a file that takes too long. The command does not catch a `BaseException`."""


def write_archive(folder, name):
    """Writes the archive of a case.

    Returns:
        Path of the archive, and path of the file to change.
    """
    suffix, make_image, make_mask, table, changed, _ = CASES[name]
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for image_id in (1, 2):
        (folder / f"images/{image_id}.{suffix}").write_bytes(make_image())
        make_mask().save(folder / f"masks/{image_id}.png")
    tables = {LABELMAP: "labelmap.txt", JSON: "meta.json"}
    (folder / tables.get(table, "class_dict.csv")).write_text(table)
    if "zip" not in name:
        return folder, folder / changed
    path = zip_folder(folder, folder.parent / "archive.zip")
    if name == "stored zip":
        with zipfile.ZipFile(path) as source:
            contents = {info: source.read(info) for info in source.infolist()}
        with zipfile.ZipFile(path, "w") as target:
            for info, content in contents.items():
                target.writestr(info.filename, content)
    return path, path


def decoded(path):
    """Decodes all examples of an archive, and compares the decoders of `check` and training.

    Returns:
        Key: id of the example. Value: pixels and class ids.
    """
    archive, color_map = with_labels(with_bands(open_archive(path), None))
    examples = {}
    for pair in archive.pairs:
        example = archive.read(pair, color_map)
        if isinstance(example.image, Raster):
            pixels = example.encoded_image()
        else:
            pixels = np.asarray(example.image.convert("RGB"))
            data, encoding = tf.constant(example.encoded_image()), archive.image_encoding
            trained = decode_image(data, encoding)
            np.testing.assert_array_equal(trained, pixels)
            size = tf.minimum(tf.shape(trained)[:2], 16)
            corner = tf.shape(trained)[:2] - size
            window = decode_window(data, encoding, corner, size)
            np.testing.assert_array_equal(window, pixels[corner[0] :, corner[1] :])
        np.testing.assert_array_equal(decode_mask(example.encoded_mask()), example.class_ids)
        examples[pair.id] = pixels, example.class_ids
    return examples


def fault_of(path, original, capsys):
    """Checks an archive, and returns a fault of the program; None if the program has no fault.

    Args:
        path: the archive.
        original: result of `decoded` for the archive before the change. None if the change can
            change pixels or class ids.
        capsys: fixture that captures the output.
    """

    def stop(number, frame):
        raise Hang

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        code = main(["check", "--data", str(path)])
        output = capsys.readouterr()
        errors = [line for line in output.err.splitlines() if line.startswith("error")]
        if len(errors) != (code == 2) or not (errors if code == 2 else output.out.strip()):
            return f"exit code {code}, output {output}"
        if text := next((t for t in (output.out, *errors) if not is_plain(t)), None):
            return f"the output is not plain text: {text!r}"
        if code:
            return None
        examples = decoded(path)
        if original and set(examples) != set(original):
            return f"accepted with the images {sorted(examples)}"
        for image_id, arrays in examples.items():
            for array, expected in zip(arrays, (original or examples)[image_id], strict=True):
                np.testing.assert_array_equal(array, expected)
    except (Exception, Hang) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    return None


def is_plain(text):
    """Returns True if a text cannot change a terminal."""
    return not re.search("[\0-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", text)


def faults_of_changes(folder, name, seeds, capsys):
    """Changes a file of a case once per seed, and returns the faults of the program."""
    path, file = write_archive(folder / "archive", name)
    content = file.read_bytes()
    original = decoded(path)
    faults = {}
    for seed in seeds:
        changed, fits = mutate(content, CASES[name][-1], seed)
        file.write_bytes(changed)
        expected = original if name in CHECKED and not fits else None
        if fault := fault_of(path, expected, capsys):
            faults[seed] = fault
            (folder / f"{name} {seed}").write_bytes(changed)
    return [f"seed {seed}: {fault[:500]}" for seed, fault in faults.items()]


@pytest.mark.parametrize("name", CASES)
def test_changed_files_are_refused_or_decoded_equally(tmp_path, name, capsys):
    if faults := faults_of_changes(tmp_path, name, range(FEW), capsys):
        pytest.fail("\n".join(faults), pytrace=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_many_changed_files_are_refused_or_decoded_equally(tmp_path, name, capsys):
    if faults := faults_of_changes(tmp_path, name, range(FEW, MANY), capsys):
        pytest.fail("\n".join(faults), pytrace=False)


def test_changed_split_lists_are_refused_or_well_formed(tmp_path):
    check_changed_split_lists(tmp_path, range(FEW))


@pytest.mark.slow
def test_many_changed_split_lists_are_refused_or_well_formed(tmp_path):
    check_changed_split_lists(tmp_path, range(FEW, MANY))


def check_changed_split_lists(folder, seeds):
    """Changes a split list once per seed. Accepted lists must be disjoint and in the archive."""
    paths = {str(number): f"images/{number}.jpg" for number in range(12)}
    contents = {
        "train.txt": "0\n1\n2\n3_sat.jpg\n4\nimages/5\n6\n7\n",
        "val.txt": "8\n9\n",
        "test.txt": "10\n11\n",
    }
    for seed in seeds:
        for name, text in contents.items():
            (folder / name).write_text(text)
        changed, _ = mutate(contents["train.txt"].encode(), "txt", seed)
        (folder / "train.txt").write_bytes(changed)
        try:
            kept, absent, unlisted = keep_present(read_split_files(folder), paths)
        except InputError as error:
            kept, absent, unlisted = {}, [], [*paths]
            message = str(error)
        else:
            message = ""
        used = [image_id for ids in kept.values() for image_id in ids]
        assert is_plain(message), seed
        assert len(used) == len({*used}), seed
        assert {*used} | {*unlisted} == {*paths}, seed
        assert not {*absent} & {*paths}, seed
