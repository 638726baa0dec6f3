import numpy as np
import tensorflow as tf

from lcc_tf.exporting.comparison import Comparison
from lcc_tf.exporting.samples import Samples


def test_checked_tiles_are_fewer_where_they_are_large():
    for tile, count in ((512, 4), (1024, 1), (2448, 1)):
        assert len(Comparison(lambda image: image, Zeros(), tile).tiles) == count


def test_compared_with_all_digits_of_float32():
    """GPUs that have TF32 compute with it unless told not to."""
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    seen = []

    def predict(image):
        seen.append(enabled())
        return image.astype(np.float32)

    assert enabled()
    Comparison(predict, Zeros(), tile=64).check("x", 1, predict, any_size=True, max_difference=0)
    assert enabled()
    assert seen == [False] * 10


class Zeros(Samples):
    def crops(self, split, side, count):
        return [np.zeros((side, side, 3), np.uint8)] * count
