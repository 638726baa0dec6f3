import keras
import numpy as np
import pytest

from lcc_tf.errors import InputError
from lcc_tf.prediction.tiling import (
    blending_window,
    overlap_in_pixels,
    predict_array,
    predict_blocks,
    read_tile,
    tile_origins,
)


def predict_pixels(images):
    """Predicts two probabilities per pixel from the red value of the pixel."""
    red = images[..., 0] / 255
    return np.stack([red, 1 - red], axis=-1).astype(np.float32)


def predict_mean(tiles):
    """Predicts the mean of a tile for all pixels of the tile. Unblended edges are visible."""
    values = tiles.mean(axis=(1, 2, 3), keepdims=True) / 255
    return np.broadcast_to(values, (*tiles.shape[:3], 1)).astype(np.float32)


def reader(image):
    """Returns a function that reads a part of an image."""
    return lambda rows, columns: image[rows, columns]


@pytest.mark.parametrize("seed", range(30))
def test_blocks_cover_each_pixel_once(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 150, 2)
    tile = int(rng.choice([16, 17, 32, 48]))
    overlap = int(rng.integers(0, tile // 2 + 1))
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    counts = np.zeros((height, width), int)
    for rows, columns, valid, values in predict_blocks(
        predict_pixels, reader(image), (height, width), tile=tile, overlap=overlap
    ):
        assert valid.all()
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, predict_pixels(image[rows, columns]), atol=1e-6)
        counts[rows, columns] += 1
    assert (counts == 1).all()


def test_small_integers_of_numpy_are_valid():
    """Sums such as 16 tiles of 16 pixels are too large for 8 bits."""
    image = np.random.default_rng(0).uniform(0, 255, (300, 25, 3))
    expected = predict_array(predict_mean, image, tile=16, overlap=4)
    result = predict_array(predict_mean, image, tile=np.uint8(16), overlap=np.uint8(4))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("overlap", [0, 3, 4, 7, 8])
def test_blended_tiles_are_weighted_means(overlap):
    image = np.random.default_rng(0).uniform(0, 255, (40, 25, 3))
    result = predict_array(predict_mean, image, tile=16, overlap=overlap)
    window = blending_window(16, overlap)
    total, weights = np.zeros((40, 25)), np.zeros((40, 25))
    padded = np.pad(image, [(16, 16), (16, 16), (0, 0)], mode="reflect")
    for top in tile_origins(40, 16, overlap):
        for left in tile_origins(25, 16, overlap):
            value = padded[top + 16 : top + 32, left + 16 : left + 32].mean() / 255
            for row in range(max(top, 0), min(top + 16, 40)):
                for column in range(max(left, 0), min(left + 16, 25)):
                    weight = window[row - top] * window[column - left]
                    total[row, column] += weight * value
                    weights[row, column] += weight
    np.testing.assert_allclose(result[..., 0], total / weights, atol=1e-6)


@pytest.mark.parametrize(
    ("side", "overlap", "origins"),
    [
        (7, 4, [-4]),  # the image is in the center of one tile
        (16, 4, [0]),  # the image has the size of one tile
        (17, 4, [-2, 10]),  # tiles start every 12 pixels
        (24, 4, [-2, 10]),  # tiles extend 2 pixels beyond both borders
        (25, 4, [-2, 10, 22]),
        (33, 0, [0, 16, 32]),
        (32, 8, [-4, 4, 12, 20]),
    ],
)
def test_origins_of_tiles_of_16_pixels(side, overlap, origins):
    assert tile_origins(side, 16, overlap) == origins


@pytest.mark.parametrize(("tile", "overlap"), [(16, 4), (512, 128), (32, 16), (31, 15)])
def test_blending_window_is_smooth_and_never_zero(tile, overlap):
    window = blending_window(tile, overlap)
    assert window.min() > 0
    assert window[overlap : tile - overlap].min(initial=1) == 1
    np.testing.assert_allclose(window, window[::-1])
    np.testing.assert_allclose(window[:overlap] + window[-overlap:], 1, atol=1e-6)
    assert np.abs(np.diff(window)).max() < 2 / overlap
    # The weights change slowly at both ends of the overlap. If they were linear, all steps would be
    # equal.
    steps = np.diff(window[: overlap + 1])
    assert max(steps[0], steps[-1]) < 0.9 * steps.max()


def test_invalid_tiles_and_overlaps_raise():
    with pytest.raises(InputError, match="`tile` must be 1 pixel or more.*Received: tile=0"):
        predict_array(predict_pixels, np.zeros((20, 20, 3)), tile=0)
    with pytest.raises(
        InputError, match=r"`overlap` must be in \[0, 8\].*16 pixels. Received: overlap=9"
    ):
        predict_array(predict_pixels, np.zeros((20, 20, 3)), tile=16, overlap=9)


def test_tiles_are_reflect_padded():
    image = np.arange(30).reshape(5, 6, 1)
    expected = np.pad(image, [(3, 3), (3, 2), (0, 0)], mode="reflect")[:11, :11]
    np.testing.assert_array_equal(read_tile(reader(image), (5, 6), (-3, -3), 11), expected)
    small = image[:1, :2]
    np.testing.assert_array_equal(
        read_tile(reader(small), (1, 2), (-2, -3), 6)[..., 0], [[1, 0, 1, 0, 1, 0]] * 6
    )


def test_each_read_contains_at_most_one_tile():
    sizes = []

    def read(rows, columns):
        sizes.append((rows.stop - rows.start, columns.stop - columns.start))
        assert min(rows.start, columns.start) >= 0
        assert rows.stop <= 100
        assert columns.stop <= 83
        return np.zeros((*sizes[-1], 3))

    for _ in predict_blocks(predict_pixels, read, (100, 83), tile=16, overlap=4):
        pass
    assert np.max(sizes) == 16


def random_network():
    """Builds a network with random weights. Each output pixel depends on 13 x 13 input pixels."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(8, 5, padding="same", activation="relu") for _ in range(3)]
    return keras.Sequential(
        [keras.Input((None, None, 3)), *layers, keras.layers.Conv2D(4, 1, activation="softmax")]
    )


def test_prediction_is_equal_after_a_shift_by_whole_tile_steps():
    network = random_network()
    image = np.random.default_rng(0).integers(0, 256, (230, 190, 3)).astype(np.float32)
    # The first shift is one step of 24 pixels, the second shift is two steps of 16 pixels.
    for overlap, shift in ((8, 24), (16, 32)):
        whole = predict_array(network.predict_on_batch, image, tile=32, overlap=overlap)
        part = predict_array(
            network.predict_on_batch, image[shift:, shift:], tile=32, overlap=overlap
        )
        # Only the first and last tiles contain reflect-padded pixels.
        np.testing.assert_allclose(
            part[shift:-shift, shift:-shift],
            whole[2 * shift : -shift, 2 * shift : -shift],
            atol=1e-5,
        )


def test_prediction_of_a_constant_image_is_constant():
    result = predict_array(predict_mean, np.full((70, 45, 3), 99.0), tile=16)
    np.testing.assert_allclose(result, 99 / 255, atol=1e-7)


def test_batches_have_the_same_shape():
    shapes = []

    def predict(tiles):
        shapes.append(tiles.shape)
        return predict_pixels(tiles)

    # The image has 6 x 6 tiles. A batch can contain at most 16 tiles.
    predict_array(predict, np.zeros((550, 550, 3), np.uint8), tile=128)
    assert shapes == [(12, 128, 128, 3)] * 3


@pytest.mark.parametrize("seed", range(20))
def test_tiles_with_only_nodata_are_not_predicted(seed, monkeypatch):
    # A small batch size, because images with several batches would otherwise have megapixels.
    monkeypatch.setattr("lcc_tf.prediction.tiling.BATCH_PIXELS", 4 * 16**2)
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 120, 2)
    overlap = int(rng.integers(0, 9))
    image = rng.uniform(1, 255, (height, width, 3))
    # Valid pixels are on one side of a slanted line, like in the file of a rotated scene.
    valid = np.add.outer(rng.uniform(-1, 1) * np.arange(height), np.arange(width)) < width / 2
    image[~valid] = np.nan
    has_pixels = []

    def predict(tiles):
        has_pixels.append(tiles.any(axis=(1, 2, 3)))
        return predict_mean(tiles)

    expected = predict_array(predict_mean, np.nan_to_num(image), tile=16, overlap=overlap)
    covered = np.zeros((height, width), int)
    blocks = list(predict_blocks(predict, reader(image), (height, width), tile=16, overlap=overlap))
    for block in blocks:
        part = block.rows, block.columns
        covered[part] += 1
        np.testing.assert_array_equal(block.valid, valid[part])
        if block.values is None:
            assert not block.valid.any()
        else:
            received = block.values[block.valid]
            np.testing.assert_allclose(received, expected[part][block.valid], atol=1e-6)
    assert (covered == 1).all()
    empty = sum(block.values is None for block in blocks)
    assert np.sum(has_pixels) == len(blocks) - empty
    assert np.all(has_pixels[:-1])  # all batches except the last batch are full
    assert seed or empty > 5


@pytest.mark.parametrize("tile", [0, 16385, 10**9])
def test_tiles_outside_the_range_of_sides_raise(tile):
    with pytest.raises(InputError, match=f"`tile` must be.*at most 16384.*Received: tile={tile}"):
        overlap_in_pixels(tile)
    overlap_in_pixels(16384)


@pytest.mark.parametrize("seed", range(10))
def test_rows_of_tiles_have_the_values_of_the_whole_prediction(seed):
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 255, (150, 70, 3)).astype(np.float32)
    top, left = rng.integers(0, 60, 2)
    image[top : top + 60, left:] = np.nan
    arguments = (predict_mean, reader(image), image.shape[:2])
    overlap = int(rng.integers(0, 9))
    options = {"tile": 16, "overlap": overlap}
    num_rows, part = len(tile_origins(150, 16, overlap)), int(rng.integers(1, 5))
    whole = list(predict_blocks(*arguments, **options))
    parts = [
        block
        for start in range(0, num_rows, part)
        for block in predict_blocks(
            *arguments, **options, tile_rows=range(start, min(start + part, num_rows))
        )
    ]
    assert len(parts) == len(whole)
    for block, expected in zip(parts, whole, strict=True):
        assert (block.rows, block.columns) == (expected.rows, expected.columns)
        np.testing.assert_array_equal(block.valid, expected.valid)
        if expected.values is not None:
            valid = expected.valid
            np.testing.assert_array_equal(block.values[valid], expected.values[valid])
