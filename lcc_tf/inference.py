"""Probabilities of an image of any size, by a network that takes squares of one size."""

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from lcc_tf.mirroring import mirrored

OVERLAP = 1 / 4  # of neighbouring tiles, as a share of a tile's side
BATCH_PIXELS = 8 * 512**2  # of the tiles that are predicted at once, at most


def predict_probabilities(
    model: keras.Model, image: np.ndarray, *, framing: str, image_size: int
) -> np.ndarray:
    """Predicts an image in the way that a network has been trained.

    Args:
        model: from float32 `(batch, image_size, image_size, 3)`, RGB in [0, 255], to logits.
        image: uint8 or float32 `(height, width, 3)`, RGB in [0, 255].
        framing: "whole": the image is resized to the square that the network takes; "crops": it is
            covered by overlapping tiles at its own resolution.
        image_size: side of the square or the tiles, pixels.

    Returns:
        float32 `(image_size, image_size, num_classes)` for "whole", `(height, width, num_classes)`
        for "crops".
    """

    def predict(images: np.ndarray) -> np.ndarray:
        return tf.nn.softmax(tf.cast(model.predict_on_batch(images), tf.float32)).numpy()

    if framing == "whole":
        resized = tf.image.resize(image, (image_size, image_size), method="bilinear")
        return predict(resized.numpy()[None])[0]
    return predict_tiled(predict, image, tile=image_size)


def predict_tiled(
    predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray, *, tile: int
) -> np.ndarray:
    """Predicts overlapping tiles and blends them: each pixel is a mean that favours tiles' middles.

    Args:
        predict: from float32 `(batch, tile, tile, 3)` to `(batch, tile, tile, num_classes)`.
        image: `(height, width, 3)`.
        tile: side of the tiles, pixels. Tiles reach over the image's border, where it is mirrored.

    Returns:
        float32 `(height, width, num_classes)`.
    """
    height, width = image.shape[:2]
    tops, lefts = tile_origins(height, tile), tile_origins(width, tile)
    origins = [(top, left) for top in tops for left in lefts]
    # Batches of one size, so that the network's graph is traced once for an image size.
    num_batches = math.ceil(len(origins) / max(BATCH_PIXELS // tile**2, 1))
    batch_size = math.ceil(len(origins) / num_batches)
    tiles = np.empty((batch_size, tile, tile, image.shape[2]), np.float32)
    window = blending_window(tile)
    for start in range(0, len(origins), batch_size):
        batch = origins[start : start + batch_size]
        for i, origin in enumerate(batch):  # what is left of the last batch stays as it was
            tiles[i] = read_tile(image, origin, tile)
        predicted = predict(tiles)
        if start == 0:
            blended = np.zeros((height, width, predicted.shape[-1]), np.float32)
        for (top, left), probabilities in zip(batch, predicted, strict=False):
            rows, tile_rows = _common(top, height, tile)
            columns, tile_columns = _common(left, width, tile)
            weights = window[tile_rows, None, None] * window[None, tile_columns, None]
            blended[rows, columns] += weights * probabilities[tile_rows, tile_columns]
    # The weights at a pixel are products of its row's and its column's; so is their sum.
    blended /= _sum_of_weights(tops, height, window)[:, None, None]
    blended /= _sum_of_weights(lefts, width, window)[None, :, None]
    return blended


def tile_origins(side: int, tile: int) -> list[int]:
    """Where tiles begin along one side of an image, evenly spaced.

    Neighbours overlap by `OVERLAP` of a tile or more, and the outer ones reach over the border by
    half of that, so that no pixel lies at the very edge of all of its tiles.

    Args:
        side: of the image, pixels.
        tile: side of a tile, pixels.

    Returns:
        First rows or columns; the first ones may be negative.
    """
    overlap = round(tile * OVERLAP)
    covered = side + overlap  # with half an overlap beyond either border
    if covered <= tile:
        return [-((tile - side) // 2)]
    count = math.ceil(side / (tile - overlap))
    return (np.linspace(0, covered - tile, count).round().astype(int) - overlap // 2).tolist()


def read_tile(image: np.ndarray, origin: tuple[int, int], tile: int) -> np.ndarray:
    """Cuts a tile out of an image that goes on mirrored beyond its border.

    Args:
        image: `(height, width, channels)`.
        origin: first row and column; may lie outside.
        tile: side of the tile, pixels.

    Returns:
        `(tile, tile, channels)`, of the image's type.
    """
    rows, columns = (
        mirrored(np.arange(first, first + tile), side)
        for first, side in zip(origin, image.shape[:2], strict=True)
    )
    return image[rows][:, columns]


def blending_window(tile: int) -> np.ndarray:
    """Weights along a tile's side: 1 in the middle, falling smoothly towards both ends, never 0.

    Where two tiles overlap by `OVERLAP`, their weights sum to 1.

    Args:
        tile: side of a tile, pixels.

    Returns:
        float32 `(tile,)`.
    """
    to_the_end = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 0.5
    ramp = np.minimum(to_the_end / max(round(tile * OVERLAP), 1), 1)
    return (np.sin(np.pi / 2 * ramp) ** 2).astype(np.float32)


def _common(first: int, side: int, tile: int) -> tuple[slice, slice]:
    """The part of an image's side that a tile covers, in pixels of the image and of the tile."""
    start, stop = max(first, 0), min(first + tile, side)
    return slice(start, stop), slice(start - first, stop - first)


def _sum_of_weights(origins: list[int], side: int, window: np.ndarray) -> np.ndarray:
    """Sum of all tiles' windows along an image's side, float32 `(side,)`."""
    total = np.zeros(side, np.float32)
    for first in origins:
        place, part = _common(first, side, len(window))
        total[place] += window[part]
    return total
