import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.scoring.resizing import resized_rows


@pytest.mark.parametrize("size", [(90, 70), (31, 200), (20, 7), (1, 1)])
def test_resized_rows_equal_the_rows_of_tf_image_resize(size):
    x = np.random.default_rng(0).random((20, 33, 3), np.float32)
    expected = tf.image.resize(x, size, "bilinear").numpy()
    for start in range(0, size[0], 13):
        rows = slice(start, min(start + 13, size[0]))
        np.testing.assert_allclose(resized_rows(x, size, rows), expected[rows], atol=1e-5)
    np.testing.assert_array_equal(resized_rows(x, (20, 33), slice(4, 9)), x[4:9])
