import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.inference import (
    blending_window,
    predict_probabilities,
    predict_tiled,
    read_tile,
    tile_origins,
)


def shares(images):
    """Two "probabilities" that follow from each pixel alone."""
    red = images[..., 0] / 255
    return np.stack([red, 1 - red], axis=-1).astype(np.float32)


@pytest.mark.parametrize("seed", range(12))
def test_each_pixel_of_any_size_is_predicted(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 150, 2)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    result = predict_tiled(shares, image, tile=int(rng.choice([16, 32, 48])))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, shares(image), atol=1e-6)


def test_tiles_are_blended_by_the_window():
    image = np.random.default_rng(0).uniform(0, 255, (40, 25, 3))

    def by_content(tiles):  # a constant a tile, so that seams would show
        values = tiles.mean(axis=(1, 2, 3), keepdims=True) / 255
        return np.broadcast_to(values, (*tiles.shape[:3], 1))

    result = predict_tiled(by_content, image, tile=16)
    window = blending_window(16)
    total, weights = np.zeros((40, 25)), np.zeros((40, 25))
    padded = np.pad(image, [(16, 16), (16, 16), (0, 0)], mode="reflect")
    for top in tile_origins(40, 16):
        for left in tile_origins(25, 16):
            value = padded[top + 16 : top + 32, left + 16 : left + 32].mean() / 255
            for row in range(max(top, 0), min(top + 16, 40)):
                for column in range(max(left, 0), min(left + 16, 25)):
                    weight = window[row - top] * window[column - left]
                    total[row, column] += weight * value
                    weights[row, column] += weight
    np.testing.assert_allclose(result[..., 0], total / weights, atol=1e-6)


@pytest.mark.parametrize(
    ("side", "origins"),
    [
        (7, [-4]),  # in the middle of one tile
        (12, [-2]),  # all that one tile holds with its margins
        (13, [-2, -1]),
        (24, [-2, 10]),  # 12 apart: a quarter overlaps
        (36, [-2, 10, 22]),
        (37, [-2, 6, 15, 23]),  # evenly, 8 1/3 apart
    ],
)
def test_origins_of_tiles_of_16(side, origins):
    assert tile_origins(side, 16) == origins


@pytest.mark.parametrize("tile", [16, 512])
def test_window_is_smooth_and_never_zero(tile):
    window = blending_window(tile)
    overlap = tile // 4
    assert window.min() > 0
    assert (window[overlap:-overlap] == 1).all()
    np.testing.assert_allclose(window, window[::-1])
    np.testing.assert_allclose(window[:overlap] + window[-overlap:], 1, atol=1e-6)
    assert np.abs(np.diff(window)).max() < 2 / overlap


def test_tiles_go_on_mirrored():
    image = np.arange(30).reshape(5, 6, 1)
    expected = np.pad(image, [(3, 3), (3, 2), (0, 0)], mode="reflect")[:11, :11]
    np.testing.assert_array_equal(read_tile(image, (-3, -3), 11), expected)
    np.testing.assert_array_equal(
        read_tile(image[:1, :2], (-2, -3), 6)[..., 0], [[1, 0, 1, 0, 1, 0]] * 6
    )


def test_batches_have_one_shape(monkeypatch):
    monkeypatch.setattr("lcc_tf.inference.BATCH_PIXELS", 8 * 16**2)
    shapes = []

    def predict(tiles):
        shapes.append(tiles.shape)
        return shares(tiles)

    predict_tiled(predict, np.zeros((60, 60, 3)), tile=16)  # 5 x 5 tiles
    assert shapes == [(7, 16, 16, 3)] * 4


@pytest.fixture(scope="module")
def network():
    """One logit is the mean of a pixel's neighbourhood, the other is zero."""
    inputs = keras.Input((None, None, 3))
    kernel = np.full((3, 3, 3, 1), 1 / 900, np.float32)
    x = keras.layers.Conv2D(1, 3, padding="same", use_bias=False)
    outputs = keras.layers.Concatenate()([x(inputs), 0 * x(inputs)])
    model = keras.Model(inputs, outputs)
    x.set_weights([kernel])
    return model


def test_whole_image_is_resized_to_the_square(network):
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    result = predict_probabilities(network, image, framing="whole", image_size=32)
    resized = tf.image.resize(image, (32, 32))[None]
    np.testing.assert_allclose(result, tf.nn.softmax(network(resized))[0], atol=1e-6)


def test_crops_are_predicted_at_the_images_resolution(network):
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    result = predict_probabilities(network, image, framing="crops", image_size=32)
    mirrored = np.pad(image, [(1, 1), (1, 1), (0, 0)], mode="reflect").astype(np.float32)
    expected = tf.nn.softmax(network(mirrored[None]))[0, 1:-1, 1:-1]
    # Tiles' edges, where the network sees zeros, have little weight.
    np.testing.assert_allclose(result, expected, atol=0.02)
    np.testing.assert_allclose(result[10:20, 5:18], expected[10:20, 5:18], atol=1e-6)
