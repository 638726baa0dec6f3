"""Probabilities of an image of any size, from networks that take squares of one size.

An image is covered by tiles that overlap, and where they do, their predictions are blended: summed
with weights that fall smoothly towards a tile's ends, then divided by the sum of the weights. Tiles
are predicted row by row of tiles, and what no later tile can change is handed out at once, so that
no more than a strip of the image is ever held.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.reflect_padding import reflect_indices

OVERLAP = 1 / 4  # of neighbouring tiles, as a share of a tile's side
BATCH_PIXELS = 8 * 512**2  # of the tiles that are predicted at once, at most
# Test-time augmentation: quarter turns, and whether the turned image is mirrored left to right.
TTA = {
    "none": ((0, False),),
    "flip": ((0, False), (0, True), (2, False), (2, True)),
    "d4": tuple((turns, flipped) for turns in range(4) for flipped in (False, True)),
}

END = object()  # of the tiles

# From images float32 `(batch, side, side, 3)`, RGB in [0, 255], to float32
# `(batch, side, side, channels)`.
Predict = Callable[[np.ndarray], np.ndarray]
# From rows and columns of an image to their pixels `(rows, columns, channels)`; None where all of
# them are missing.
Read = Callable[[slice, slice], np.ndarray | None]


class Block(NamedTuple):
    """A finished part of a prediction."""

    rows: slice
    columns: slice
    # float32 (rows, columns, channels); None where the image has nothing
    values: np.ndarray | None


def probabilities_of(model: keras.Model) -> Predict:
    """What predicts probabilities by a model that gives logits."""

    @tf.function
    def probabilities(images: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(tf.cast(model(images, training=False), tf.float32))

    # Traced once for all sizes: images of different sizes make batches of different ones.
    traced = probabilities.get_concrete_function(tf.TensorSpec((None, None, None, 3), tf.float32))

    def predict(images: np.ndarray) -> np.ndarray:
        return traced(tf.constant(images, tf.float32)).numpy()

    return predict


def predict_as_trained(
    predict: Predict, image: np.ndarray, *, framing: str, image_size: int
) -> np.ndarray:
    """Predicts an image in the way that a network has been trained.

    Args:
        predict: for squares of `image_size`.
        image: uint8 or float32 `(height, width, 3)`, RGB in [0, 255].
        framing: "whole": the image is resized to the square that the network takes; "crops": it is
            covered by overlapping tiles at its own resolution.
        image_size: side of the square or the tiles, pixels.

    Returns:
        float32 `(image_size, image_size, num_classes)` for "whole", `(height, width, num_classes)`
        for "crops".
    """
    if framing == "whole":
        resized = tf.image.resize(image, (image_size, image_size), method="bilinear")
        return predict(resized.numpy()[None])[0]
    return predict_tiled(predict, image, tile=image_size)


def averaged_over_symmetries(predict: Predict, tta: str) -> Predict:
    """Averages what is predicted for turned and mirrored images, each brought back.

    Args:
        predict: for square images.
        tta: a key of `TTA`: "none", "flip" (both mirrorings and both together) or "d4" (all eight
            symmetries of the square).

    Raises:
        InputError: unknown `tta`.
    """
    if tta not in TTA:
        raise InputError(f"Unknown `tta`. Received: {tta!r}. Choose one of {list(TTA)}.")

    def averaged(images: np.ndarray) -> np.ndarray:
        total = 0.0
        for turns, flipped in TTA[tta]:
            seen = np.rot90(images, turns, axes=(1, 2))
            seen = seen[:, :, ::-1] if flipped else seen
            predicted = predict(np.ascontiguousarray(seen))
            predicted = predicted[:, :, ::-1] if flipped else predicted
            total = total + np.rot90(predicted, -turns, axes=(1, 2))
        return total / len(TTA[tta])

    return averaged


def predict_tiled(
    predict: Predict, image: np.ndarray, *, tile: int, overlap: int | None = None
) -> np.ndarray:
    """Predicts an image that is in memory by tiles.

    Args:
        predict: for tiles.
        image: `(height, width, 3)`.
        tile: side of the tiles, pixels.
        overlap: of neighbouring tiles, pixels; None for `OVERLAP`.

    Returns:
        float32 `(height, width, channels)`.
    """
    size = image.shape[:2]
    result = None
    read = lambda rows, columns: image[rows, columns]  # noqa: E731
    for block in predict_blocks(predict, read, size, tile=tile, overlap=overlap):
        if result is None:
            result = np.empty((*size, block.values.shape[-1]), np.float32)
        result[block.rows, block.columns] = block.values
    return result


def predict_blocks(
    predict: Predict,
    read: Read,
    size: tuple[int, int],
    *,
    tile: int,
    overlap: int | None = None,
) -> Iterator[Block]:
    """Predicts an image of any size by tiles, and gives it in blocks as they are finished.

    Tiles reach over the image's border, where it is mirrored. Those in which the image has nothing
    are not predicted.

    Args:
        predict: for tiles.
        read: reads a part of the image; called from one other thread.
        size: height and width of the image, pixels.
        tile: side of the tiles, pixels.
        overlap: of neighbouring tiles, pixels; None for `OVERLAP`.

    Yields:
        Blocks that cover each pixel of the image exactly once.

    Raises:
        InputError: a tile or an overlap that can't be, see `overlap_of`.
    """
    overlap = overlap_of(tile, overlap)
    step = tile - overlap
    tops, lefts = (tile_origins(side, tile, overlap) for side in size)
    window = blending_window(tile, overlap)
    # The weights at a pixel are products of its row's and its column's; so is their sum.
    row_weights = _sum_of_weights(tops, size[0], window)[:, None, None]
    column_weights = _sum_of_weights(lefts, size[1], window)[None, :, None]
    weights = window[:, None, None] * window[None, :, None]
    origins = [(top, left) for top in tops for left in lefts]
    beside = below = None  # sums that the next tile to the right, and the next row, have a part in
    for (top, left), values in zip(
        origins, _predicted_tiles(predict, read, size, origins, tile), strict=True
    ):
        columns_done = tile if left == lefts[-1] else step
        rows_done = tile if top == tops[-1] else step
        rows, tile_rows = _common(top, rows_done, size[0])
        columns, tile_columns = _common(left, columns_done, size[1])
        if values is None:
            # What its neighbours would add here is lost, but no pixel is here to need it.
            beside = None
            yield Block(rows, columns, None)
            continue
        values = values * weights
        if below is None:
            below = np.zeros((overlap, lefts[-1] + tile - lefts[0], values.shape[-1]), np.float32)
        if beside is not None and left != lefts[0]:
            values[:, :overlap] += beside
        beside = values[:, step:].copy()
        values = values[:, :columns_done]
        shared = below[:, left - lefts[0] :][:, :columns_done]
        if top != tops[0]:
            values[:overlap] += shared
        shared[:] = values[tile - overlap :]
        values = values[tile_rows, tile_columns]
        yield Block(rows, columns, values / row_weights[rows] / column_weights[:, columns])


def overlap_of(tile: int, overlap: int | None = None) -> int:
    """Overlap of neighbouring tiles, pixels.

    Args:
        tile: side of the tiles, pixels.
        overlap: as the user gives it; None for `OVERLAP`.

    Raises:
        InputError: no pixel is left in a tile, or tiles of this size can't overlap so.
    """
    if tile < 1:
        raise InputError(f"Tiles need a side of 1 pixel or more. Received: tile={tile}.")
    if overlap is None:
        return round(tile * OVERLAP)
    if not 0 <= overlap <= tile // 2:
        raise InputError(
            f"Tiles of {tile} pixels can overlap by 0 to {tile // 2}. Received: overlap={overlap}."
        )
    return overlap


def _predicted_tiles(
    predict: Predict,
    read: Read,
    size: tuple[int, int],
    origins: Sequence[tuple[int, int]],
    tile: int,
) -> Iterator[np.ndarray | None]:
    """Predicts tiles in batches, while the next batch is read."""
    # Batches of one size, so that the network's graph is traced once for an image size.
    num_batches = math.ceil(len(origins) / max(BATCH_PIXELS // tile**2, 1))
    batch_size = math.ceil(len(origins) / num_batches)
    tiles = (read_tile(read, size, origin, tile) for origin in origins)

    def read_batch() -> list[np.ndarray | None]:
        """The next tiles, until as many are there as a batch holds."""
        batch, missing = [], batch_size
        while missing and (following := next(tiles, END)) is not END:
            batch.append(following)
            missing -= following is not None
        return batch

    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read_batch)
        while batch := ahead.result():
            ahead = reader.submit(read_batch)
            there = [pixels for pixels in batch if pixels is not None]
            if there:
                filling = [(0, batch_size - len(there)), (0, 0), (0, 0), (0, 0)]
                predicted = iter(predict(np.pad(np.stack(there).astype(np.float32), filling)))
            yield from (None if pixels is None else next(predicted) for pixels in batch)


def tile_origins(side: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along one side of an image.

    The outer ones reach over the border by half of the overlap or more, so that no pixel lies at
    the very edge of all of its tiles. An image that fits into a tile lies in the middle of one.

    Args:
        side: of the image, pixels.
        tile: side of a tile, pixels.
        overlap: of neighbouring tiles, pixels.

    Returns:
        First rows or columns, `tile - overlap` apart; the first one may be negative.
    """
    if side <= tile:
        return [-((tile - side) // 2)]
    first = -(overlap // 2)
    # The last one has to reach as far over the border as the first one does.
    steps = math.ceil((side - tile - 2 * first) / (tile - overlap))
    return [first + i * (tile - overlap) for i in range(steps + 1)]


def read_tile(
    read: Read, size: tuple[int, int], origin: tuple[int, int], tile: int
) -> np.ndarray | None:
    """Reads a tile of an image that goes on mirrored beyond its border.

    Args:
        read: reads a part of the image.
        size: height and width of the image, pixels.
        origin: first row and column; may lie outside.
        tile: side of the tile, pixels.

    Returns:
        `(tile, tile, channels)`, of the image's type; None where the image has nothing.
    """
    places = [
        reflect_indices(np.arange(first, first + tile), side)
        for first, side in zip(origin, size, strict=True)
    ]
    pixels = read(*(slice(at.min(), at.max() + 1) for at in places))
    if pixels is None:
        return None
    rows, columns = (at - at.min() for at in places)
    return pixels[rows][:, columns]


def blending_window(tile: int, overlap: int) -> np.ndarray:
    """Weights along a tile's side: 1 in the middle, falling smoothly towards both ends, never 0.

    Where two tiles overlap, their weights sum to 1.

    Args:
        tile: side of a tile, pixels.
        overlap: of neighbouring tiles, pixels.

    Returns:
        float32 `(tile,)`.
    """
    to_the_end = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 0.5
    ramp = np.minimum(to_the_end / max(overlap, 0.5), 1)
    return (np.sin(np.pi / 2 * ramp) ** 2).astype(np.float32)


def _common(first: int, length: int, side: int) -> tuple[slice, slice]:
    """What of an image's side a stretch covers, in pixels of the image and of the stretch."""
    start, stop = max(first, 0), min(first + length, side)
    return slice(start, stop), slice(start - first, stop - first)


def _sum_of_weights(origins: Sequence[int], side: int, window: np.ndarray) -> np.ndarray:
    """Sum of all tiles' windows along an image's side, float32 `(side,)`."""
    total = np.zeros(side, np.float32)
    for first in origins:
        place, part = _common(first, len(window), side)
        total[place] += window[part]
    return total
