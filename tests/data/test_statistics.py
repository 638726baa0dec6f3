from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.data.pipeline import encoded_examples
from lcc_tf.data.statistics import class_pixels, native_size
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
    assert sorted(counts.tolist()) == sorted(written.tolist())
    np.save(file, counts + 1)
    np.testing.assert_array_equal(class_pixels(builder), counts + 1)
    np.save(file, written)


def test_native_size_is_the_median_side(builder):
    assert native_size(builder) == 50  # sides: 16, 20, 50 (for 100x25), 60, 90
