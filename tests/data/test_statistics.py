from pathlib import Path

import numpy as np

from lcc_tf.data.pipeline import encoded_examples, split_size
from lcc_tf.data.statistics import CLASS_PIXELS, class_pixels


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

    file = Path(builder.data_dir) / CLASS_PIXELS
    np.save(file, counts + 1)
    np.testing.assert_array_equal(class_pixels(builder), counts + 1)
    np.save(file, counts)
