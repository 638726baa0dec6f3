import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.prediction.tta import TTA, with_tta


@pytest.mark.parametrize("tta", TTA)
def test_augmentation_does_not_change_a_symmetric_function(tta):
    # The first channel is the pixel. The second channel is the mean of the 3 x 3 pixels around it.
    kernel = np.ones((3, 3, 1, 1), np.float32) / 9

    def symmetric(tiles):
        red = tiles[..., :1] / 255
        return np.concatenate([red, tf.nn.conv2d(red, kernel, 1, "SAME")], axis=-1)

    tiles = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype(np.float32)
    result = with_tta(symmetric, tta)(tiles)
    np.testing.assert_allclose(result, symmetric(tiles), atol=1e-6)


@pytest.mark.parametrize(("tta", "count"), [("none", 1), ("flip", 4), ("d4", 8)])
def test_augmentation_predicts_each_transformed_image_once(tta, count):
    images = []

    def corner(tiles):
        """Predicts the value of the upper left pixel for this pixel, and 0 for all other pixels."""
        images.append(tiles[0, ..., 0].copy())
        result = np.zeros((1, 2, 2, 1), np.float32)
        result[0, 0, 0] = tiles[0, 0, 0, 0]
        return result

    tile = np.arange(1.0, 5.0).reshape(1, 2, 2, 1)
    result = with_tta(corner, tta)(tile)[0, ..., 0]
    assert len({image.tobytes() for image in images}) == len(images) == count
    # Each corner is the upper left pixel in the same number of transformed images.
    expected = tile[0, ..., 0] / 4 if count > 1 else [[1, 0], [0, 0]]
    np.testing.assert_allclose(result, expected)
    with pytest.raises(InputError, match="`tta` must be one of.*'d4'.*Received: 'd8'"):
        with_tta(corner, "d8")
