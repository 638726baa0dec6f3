from pathlib import Path

import numpy as np

from lcc_tf.data.pipeline import encoded_examples, split_size
from lcc_tf.data.statistics import CLASS_PIXELS, class_pixels, native_size
from tfds_deepglobe.fake_archive import write_pair
from tfds_deepglobe.prepare import prepare


def test_class_pixels_are_counted_once(builder):
    counts = class_pixels(builder)
    num_classes = len(builder.info.metadata["class_names"])
    assert counts.shape == (split_size(builder, "train"), num_classes)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts.sum(axis=1), 64 * 64)

    import tensorflow as tf

    first = next(iter(encoded_examples(builder, "train")))
    mask = tf.io.decode_png(first["segmentation_mask"]).numpy()
    np.testing.assert_array_equal(counts[0], np.bincount(mask.ravel(), minlength=num_classes))

    assert native_size(builder) == 64

    file = Path(builder.data_dir) / CLASS_PIXELS
    np.save(file, counts + 1)
    np.testing.assert_array_equal(class_pixels(builder), counts + 1)
    np.save(file, counts)


def test_native_size_of_images_that_differ_is_the_median(tmp_path):
    sizes = [(16, 16), (20, 20), (100, 25), (60, 60), (90, 90), (8, 8), (8, 8)]
    for i, size in enumerate(sizes):
        write_pair(tmp_path / "raw", str(i), size=size)
    for split, ids in (("train", "01234"), ("val", "5"), ("test", "6")):
        (tmp_path / f"{split}.txt").write_text("\n".join(ids))
    builder = prepare(tmp_path / "raw", tmp_path / "cache", split_files=tmp_path)
    assert native_size(builder) == 50  # sides 16, 20, 50 (of 100x25), 60 and 90
