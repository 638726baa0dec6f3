import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.reflect_padding import reflect_indices, reflect_padded_indices


@pytest.mark.parametrize("size", [1, 2, 5, 31, 32, 33, 100])
def test_padding_to_a_multiple_equals_padding_of_numpy(size):
    indices = reflect_padded_indices(tf.constant(size), 32).numpy()
    assert len(indices) == -(-size // 32) * 32
    expected = np.pad(np.arange(size), (0, -size % 32), mode="reflect" if size > 1 else "edge")
    np.testing.assert_array_equal(indices, expected)


@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_reflected_positions_equal_padding_of_numpy(size):
    expected = np.pad(np.arange(size), 60, mode="reflect" if size > 1 else "edge")
    np.testing.assert_array_equal(reflect_indices(np.arange(-60, size + 60), size), expected)
