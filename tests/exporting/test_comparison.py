import numpy as np
import tensorflow as tf

from lcc_tf.exporting.comparison import Comparison
from lcc_tf.exporting.samples import Samples


def test_number_of_tiles_is_smaller_for_large_tiles():
    for tile, count in ((512, 4), (1024, 1), (2448, 1)):
        assert len(Comparison(lambda image: image, Zeros(), tile).tiles) == count


def test_comparison_disables_tf32():
    """TF32 must be disabled, because TensorFlow uses it by default on GPUs that support it."""
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    tf32_enabled = []

    def predict(image):
        tf32_enabled.append(enabled())
        return image.astype(np.float32)

    assert enabled()
    Comparison(predict, Zeros(), tile=64).check("x", 1, predict, any_size=True, max_difference=0)
    assert enabled()
    assert tf32_enabled == [False] * 10


class Zeros(Samples):
    def crops(self, split, side, count):
        return [np.zeros((side, side, 3), np.uint8)] * count
