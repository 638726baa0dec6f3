import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from lcc_tf.data.pipeline import encoded_examples
from lcc_tf.data.statistics import bands_of_data, class_pixels, native_size
from tfds_deepglobe.deepglobe_dataset_builder import CLASS_PIXELS
from tfds_deepglobe.fake_archive import write_pair
from tfds_deepglobe.prepare import prepare


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    """Returns a data set with images of different sizes."""
    root = tmp_path_factory.mktemp("sizes")
    sizes = [(16, 16), (20, 20), (100, 25), (60, 60), (90, 90), (8, 8), (8, 8)]
    for i, size in enumerate(sizes):
        write_pair(root / "raw", str(i), size=size)
    for split, ids in (("train", "01234"), ("val", "5"), ("test", "6")):
        (root / f"{split}.txt").write_text("\n".join(ids))
    return prepare(root / "raw", root / "cache", split_files=root)


def test_class_pixels_are_counted_in_the_training_masks(builder):
    counts = class_pixels(builder)
    assert counts.dtype == np.int64
    expected = [
        np.bincount(tf.io.decode_png(example["segmentation_mask"]).numpy().ravel(), minlength=7)
        for example in encoded_examples(builder, "train")
    ]
    assert sorted(counts.tolist()) == sorted(row.tolist() for row in expected)


def test_missing_file_of_class_pixels_is_written_once(builder):
    """Earlier versions of `prepare` did not write the file of class pixels."""
    file = Path(builder.data_dir) / CLASS_PIXELS
    written = np.load(file)
    file.unlink()
    counts = class_pixels(builder)
    assert sorted(np.load(file).tolist()) == sorted(written.tolist())
    # Earlier versions did not write the number of void pixels.
    np.save(file, counts + 1)
    np.testing.assert_array_equal(class_pixels(builder), counts + 1)
    np.save(file, written)


@pytest.mark.parametrize(
    "damage",
    [
        lambda counts: b"",
        lambda counts: bytes(500),
        lambda counts: b"PK" + bytes(99),
        lambda counts: npy(counts)[:-1],
        lambda counts: npy(counts[1:]),
        lambda counts: npy(counts[:, 1:]),
        lambda counts: npy(counts.astype(np.float32)),
        lambda counts: npy(-counts),
        lambda counts: npy(counts * 0),
        lambda counts: npy(counts).replace(b"(5, 7)", b"(9**9)"),
    ],
)
def test_damaged_file_of_class_pixels_is_counted_again(builder, damage):
    file = Path(builder.data_dir) / CLASS_PIXELS
    counts = class_pixels(builder)
    file.write_bytes(damage(counts))
    assert sorted(class_pixels(builder).tolist()) == sorted(counts.tolist())
    assert sorted(np.load(file)[:, :7].tolist()) == sorted(counts.tolist())


def npy(array):
    """Returns an array as the content of a file."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def test_native_size_is_the_median_side(builder):
    assert native_size(builder) == 50  # sides: 16, 20, 50 (for 100x25), 60, 90


def test_range_of_a_constant_band_is_valid(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
    for index in range(4):
        image = rng.uniform(0, 1, (8, 9, 3)).astype(np.float32)
        image[..., 1:] = 1e16, 7
        np.save(tmp_path / "raw" / "images" / f"{index}.npy", image)
        mask = Image.fromarray(rng.integers(0, 2, (8, 9), np.uint8))
        mask.save(tmp_path / "raw" / "masks" / f"{index}.png")
    (tmp_path / "raw" / "class_dict.csv").write_text("name,id\nland,0\nwater,1\n")
    bands = bands_of_data(prepare(tmp_path / "raw", tmp_path / "cache"), "minmax")
    low, high = bands.ranges[1]
    assert low == np.float32(1e16) < np.float32(high)
    assert bands.ranges[2] == (7, 8)
    assert (bands.count, bands.dtype) == (3, "float32")
