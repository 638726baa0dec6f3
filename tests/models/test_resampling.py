"""Layers that resize feature maps, compared with values that were computed by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.models.resampling import (
    AdaptiveAveragePooling,
    BilinearUpsampling,
    BroadcastLike,
    ConcatenateResized,
)


@pytest.mark.parametrize("factor", [0, 1.5, -2])
def test_invalid_upsampling_factor_raises(factor):
    with pytest.raises(InputError, match=f"whole number of at least 1. Received: factor={factor}"):
        BilinearUpsampling(factor)


def test_bilinear_upsampling_equals_values_computed_by_hand():
    x = np.array([0.0, 1.0], np.float32).reshape(1, 1, 2, 1)
    y = BilinearUpsampling(2)(x).numpy()
    assert y.shape == (1, 2, 4, 1)
    # Pixel centers are at half-integers: 0, 1/4, 3/4, 1.
    np.testing.assert_allclose(y[0, :, :, 0], [[0, 0.25, 0.75, 1]] * 2)


def test_upsampling_with_aligned_corners_equals_values_computed_by_hand():
    x = np.array([0.0, 1.0], np.float32).reshape(1, 1, 2, 1)
    y = BilinearUpsampling(2, align_corners=True)(x).numpy()
    assert y.shape == (1, 2, 4, 1)
    # The first and the last pixel are unchanged. The pixels between them are evenly spaced: 0, 1/3,
    # 2/3, 1.
    np.testing.assert_allclose(y[0, :, :, 0], [[0, 1 / 3, 2 / 3, 1]] * 2, rtol=1e-6)


def test_aligned_corners_are_saved_and_exported(tmp_path):
    inputs = keras.Input((None, None, 1))
    outputs = BilinearUpsampling(4, align_corners=True)(inputs)
    model = keras.Model(inputs, outputs)
    assert outputs.shape == (None, None, None, 1)
    image = np.random.default_rng(0).normal(size=(1, 3, 5, 1)).astype(np.float32)
    expected = model(image).numpy()
    np.testing.assert_allclose(expected[:, ::11, ::19], image[:, ::2, ::4], atol=1e-6)  # corners
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(image), expected)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(image), expected, atol=1e-6)


def test_broadcast_like():
    x = np.arange(3, dtype=np.float32).reshape(1, 1, 1, 3)
    y = BroadcastLike()(x, np.zeros((1, 4, 5, 2), np.float32)).numpy()
    assert y.shape == (1, 4, 5, 3)
    assert (y == x).all()


@pytest.mark.parametrize(
    ("height", "width", "cells"), [(7, 12, 3), (2, 5, 6), (6, 6, 6), (4, 3, 1)]
)
def test_adaptive_pooling_equals_loops_over_cells(height, width, cells):
    x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
    expected = np.empty((2, cells, cells, 3))
    for i in range(cells):
        for j in range(cells):
            rows = slice(int(np.floor(i * height / cells)), int(np.ceil((i + 1) * height / cells)))
            columns = slice(int(np.floor(j * width / cells)), int(np.ceil((j + 1) * width / cells)))
            expected[:, i, j] = x[:, rows, columns].mean(axis=(1, 2))
    layer = AdaptiveAveragePooling(cells)
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)
    of_any_size = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3))])
    np.testing.assert_allclose(of_any_size(x), expected, atol=1e-6)


@pytest.mark.parametrize("cells", [0, 2.5])
def test_invalid_number_of_cells_raises(cells):
    with pytest.raises(InputError, match=f"at least 1. Received: cells={cells}"):
        AdaptiveAveragePooling(cells)


def test_concatenation_upsamples_bilinearly():
    first = np.zeros((1, 2, 4, 1), np.float32)
    second = np.array([0.0, 1.0], np.float32).reshape(1, 1, 2, 1)
    joined = ConcatenateResized()([first, second]).numpy()
    assert joined.shape == (1, 2, 4, 2)
    # Pixel centers are at half-integers: 0, 1/4, 3/4, 1.
    np.testing.assert_allclose(joined[0, :, :, 1], [[0, 0.25, 0.75, 1]] * 2)
