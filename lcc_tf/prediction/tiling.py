"""Tiled prediction of images of any size, with networks that take tiles of one size.

Tiles overlap. Where they do, their predictions are blended: each is multiplied by a weight that
falls smoothly towards the tile's edges, then the sum is divided by the sum of the weights. Tiles
are predicted row by row. A block of the image is yielded as soon as no later tile overlaps it, so
memory grows with the width of the image and not with its height.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from lcc_tf.errors import InputError
from lcc_tf.reflect_padding import reflect_indices

OVERLAP = 1 / 4  # default overlap of neighboring tiles, as a fraction of the tile's side
BATCH_PIXELS = 8 * 512**2  # largest number of pixels that are predicted at once

# From images, float32 `(batch, side, side, 3)`, RGB in [0, 255], to float32
# `(batch, side, side, channels)`
Predict = Callable[[np.ndarray], np.ndarray]
# From rows and columns of an image to its pixels `(rows, columns, channels)`, NaN where nodata
Read = Callable[[slice, slice], np.ndarray]


class Block(NamedTuple):
    """A finished part of a prediction."""

    rows: slice
    columns: slice
    valid: np.ndarray  # bool (rows, columns), False for nodata pixels
    values: np.ndarray | None  # float32 (rows, columns, channels); None if its tile has only nodata


def predict_array(
    predict: Predict, image: np.ndarray, *, tile: int, overlap: int | None = None
) -> np.ndarray:
    """Predicts an array in tiles.

    Args:
        predict: predicts tiles.
        image: `(height, width, 3)`.
        tile: side of the tiles, pixels.
        overlap: overlap of neighboring tiles, pixels; None for a quarter of a tile.

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
    """Predicts an image of any size in tiles and yields finished blocks.

    Tiles reach beyond the image's border; there the image is reflect-padded. Tiles without a valid
    pixel are not predicted.

    Args:
        predict: predicts tiles.
        read: reads a part of the image; called from one other thread.
        size: height and width of the image, pixels.
        tile: side of the tiles, pixels.
        overlap: overlap of neighboring tiles, pixels; None for a quarter of a tile.

    Yields:
        Blocks that together cover each pixel of the image exactly once.

    Raises:
        InputError: an invalid tile or overlap, see `overlap_in_pixels`.
    """
    overlap = overlap_in_pixels(tile, overlap)
    step = tile - overlap
    tops, lefts = (tile_origins(side, tile, overlap) for side in size)
    window = blending_window(tile, overlap)
    # A tile's weight at a pixel is a row weight times a column weight; so is the sum over tiles.
    row_weights = _sum_of_weights(tops, size[0], window)[:, None, None]
    column_weights = _sum_of_weights(lefts, size[1], window)[None, :, None]
    weights = window[:, None, None] * window[None, :, None]
    origins = [(top, left) for top in tops for left in lefts]
    beside = below = None  # partial sums that the next tile, and the next row of tiles, add to
    for (top, left), predicted in zip(
        origins, _predicted_tiles(predict, read, size, origins, tile), strict=True
    ):
        columns_done = tile if left == lefts[-1] else step
        rows_done = tile if top == tops[-1] else step
        rows, tile_rows = _intersection(top, rows_done, size[0])
        columns, tile_columns = _intersection(left, columns_done, size[1])
        if predicted is None:
            # The sums of neighboring tiles are lost here, where all pixels are nodata.
            beside = None
            valid = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
            yield Block(rows, columns, valid, None)
            continue
        valid, values = predicted
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
        values = values / row_weights[rows] / column_weights[:, columns]
        yield Block(rows, columns, valid[tile_rows, tile_columns], values)


def overlap_in_pixels(tile: int, overlap: int | None = None) -> int:
    """Checks the overlap of neighboring tiles and fills in the default.

    Args:
        tile: side of the tiles, pixels.
        overlap: pixels; None for a quarter of a tile.

    Returns:
        The overlap, pixels.

    Raises:
        InputError: a tile without pixels, or an overlap of more than half a tile.
    """
    if tile < 1:
        raise InputError(f"`tile` must be 1 pixel or more. Received: tile={tile}.")
    if overlap is None:
        return round(tile * OVERLAP)
    if not 0 <= overlap <= tile // 2:
        raise InputError(
            f"`overlap` must be in [0, {tile // 2}], half of a tile of {tile} pixels. "
            f"Received: overlap={overlap}."
        )
    return overlap


def _predicted_tiles(
    predict: Predict,
    read: Read,
    size: tuple[int, int],
    origins: Sequence[tuple[int, int]],
    tile: int,
) -> Iterator[tuple[np.ndarray, np.ndarray] | None]:
    """Predicts tiles in batches, while the next batch is read.

    Yields:
        Per tile, bool `(tile, tile)`, False for nodata pixels, and the prediction, float32
        `(tile, tile, channels)`. None for a tile with only nodata pixels.
    """
    # Batches have equal sizes, so that the network is traced once for an image size.
    num_batches = math.ceil(len(origins) / max(BATCH_PIXELS // tile**2, 1))
    batch_size = math.ceil(len(origins) / num_batches)
    tiles = (read_tile(read, size, origin, tile) for origin in origins)

    def read_batch() -> tuple[list[np.ndarray | None], list[np.ndarray]]:
        """Reads tiles until a batch of tiles with valid pixels is full."""
        masks, batch = [], []
        while len(batch) < batch_size and (pixels := next(tiles, None)) is not None:
            valid = ~np.isnan(pixels[..., 0])
            if valid.any():
                masks.append(valid)
                batch.append(np.where(valid[..., None], pixels, 0))
            else:
                masks.append(None)
        return masks, batch

    with ThreadPoolExecutor(1) as reader:
        next_batch = reader.submit(read_batch)
        while any(result := next_batch.result()):
            next_batch = reader.submit(read_batch)
            masks, batch = result
            if batch:
                padding = [(0, batch_size - len(batch)), (0, 0), (0, 0), (0, 0)]
                predicted = iter(predict(np.pad(np.stack(batch).astype(np.float32), padding)))
            yield from (None if valid is None else (valid, next(predicted)) for valid in masks)


def tile_origins(side: int, tile: int, overlap: int) -> list[int]:
    """Returns where tiles begin along one side of an image.

    The outer tiles reach beyond the border by at least half of the overlap, so that no pixel lies
    at the edge of all of its tiles. An image smaller than a tile lies in the middle of one tile.

    Args:
        side: side of the image, pixels.
        tile: side of a tile, pixels.
        overlap: overlap of neighboring tiles, pixels.

    Returns:
        First rows or columns, `tile - overlap` apart; the first one may be negative.
    """
    if side <= tile:
        return [-((tile - side) // 2)]
    first = -(overlap // 2)
    # The last tile reaches beyond the border at least as far as the first one.
    steps = math.ceil((side - tile - 2 * first) / (tile - overlap))
    return [first + i * (tile - overlap) for i in range(steps + 1)]


def read_tile(read: Read, size: tuple[int, int], origin: tuple[int, int], tile: int) -> np.ndarray:
    """Reads a tile of an image that is reflect-padded beyond its border.

    Args:
        read: reads a part of the image.
        size: height and width of the image, pixels.
        origin: first row and column; may lie outside the image.
        tile: side of the tile, pixels.

    Returns:
        `(tile, tile, channels)`, of the image's dtype.
    """
    indices = [
        reflect_indices(np.arange(first, first + tile), side)
        for first, side in zip(origin, size, strict=True)
    ]
    pixels = read(*(slice(index.min(), index.max() + 1) for index in indices))
    rows, columns = (index - index.min() for index in indices)
    return pixels[rows][:, columns]


def blending_window(tile: int, overlap: int) -> np.ndarray:
    """Returns the weights along a tile's side: 1 in the middle, smaller towards both ends, never 0.

    Where two tiles overlap, their weights sum to 1.

    Args:
        tile: side of a tile, pixels.
        overlap: overlap of neighboring tiles, pixels.

    Returns:
        float32 `(tile,)`.
    """
    distance_to_edge = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 0.5
    ramp = np.minimum(distance_to_edge / max(overlap, 0.5), 1)
    return (np.sin(np.pi / 2 * ramp) ** 2).astype(np.float32)


def _intersection(first: int, length: int, side: int) -> tuple[slice, slice]:
    """Returns the overlap of an interval with an image's side, in image and interval pixels."""
    start, stop = max(first, 0), min(first + length, side)
    return slice(start, stop), slice(start - first, stop - first)


def _sum_of_weights(origins: Sequence[int], side: int, window: np.ndarray) -> np.ndarray:
    """Returns the sum of all tiles' windows along an image's side, float32 `(side,)`."""
    total = np.zeros(side, np.float32)
    for first in origins:
        place, part = _intersection(first, len(window), side)
        total[place] += window[part]
    return total
