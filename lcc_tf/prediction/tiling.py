"""Prediction of images of any size in overlapping tiles.

The predictions of overlapping tiles are blended: the result at each pixel is a weighted mean of the
predictions of all tiles that contain the pixel. The weights of a tile decrease smoothly towards its
edges.

Tiles are predicted row by row. A part of the result is yielded when all tiles that overlap this
part have been predicted. Therefore the required memory grows with the width of the image, but not
with its height.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.reflect_padding import reflect_indices

OVERLAP = 1 / 4  # default overlap of neighboring tiles, fraction of the side of a tile
# Maximum side of a tile, pixels. Even a small image is reflect-padded to the size of a tile. A tile
# with this side has 3 GB as float32 RGB. The prediction of a larger tile would fill the memory.
MAX_TILE = 16384
# Maximum number of pixels per batch on a CPU. If a tile has more pixels, a batch contains one tile.
# Larger batches need more memory and are not faster.
BATCH_PIXELS = 512**2
# Maximum number of pixels per batch on a GPU, which has many cores and therefore needs more pixels.
GPU_BATCH_PIXELS = 8 * 512**2

# Function whose argument is float32 `(batch, side, side, 3)`, RGB in [0, 255]. It returns
# predictions, float32 `(batch, side, side, channels)`.
Predict = Callable[[np.ndarray], np.ndarray]
# Function whose arguments are the rows and the columns of a part of an image. It returns the pixels
# of the part, `(rows, columns, channels)`. Nodata pixels are NaN.
Read = Callable[[slice, slice], np.ndarray]


class Block(NamedTuple):
    """Rectangular part of an image, with the finished prediction for this part.

    Attributes:
        rows: rows of the part in the image.
        columns: columns of the part in the image.
        valid: bool `(rows, columns)`, False for nodata pixels.
        values: prediction, float32 `(rows, columns, channels)`; None if the tile of the part
            contains only nodata pixels.
    """

    rows: slice
    columns: slice
    valid: np.ndarray
    values: np.ndarray | None


def predict_array(
    predict: Predict, image: np.ndarray, *, tile: int, overlap: int | None = None
) -> np.ndarray:
    """Predicts an image in overlapping tiles and returns the whole prediction.

    Args:
        predict: function that predicts tiles.
        image: uint8 or float32 `(height, width, 3)`, RGB in [0, 255].
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
    fill: float | np.ndarray = 0,
) -> Iterator[Block]:
    """Predicts an image of any size in overlapping tiles and yields the prediction in parts.

    The image is reflect-padded, because tiles extend beyond its borders. Tiles that contain only
    nodata pixels are not predicted. In all other tiles, nodata pixels are replaced with `fill`.

    Args:
        predict: function that predicts tiles.
        read: function that reads a part of the image. It is called in another thread.
        size: height and width of the image, pixels.
        tile: side of the tiles, pixels.
        overlap: overlap of neighboring tiles, pixels; None for a quarter of a tile.
        fill: value of nodata pixels in the input of the network: a number, or one number per band.

    Yields:
        Blocks that do not overlap. Together they cover the whole image.

    Raises:
        InputError: `tile` or `overlap` is invalid, see `overlap_in_pixels`.
    """
    overlap, tile = overlap_in_pixels(tile, overlap), int(tile)
    step = tile - overlap
    tops, lefts = (tile_origins(side, tile, overlap) for side in size)
    window = blending_window(tile, overlap)
    # The weight of a pixel in a tile is the weight of the row times the weight of the column.
    # Therefore the sum over all tiles is the sum of row weights times the sum of column weights.
    row_weights = _sum_of_weights(tops, size[0], window)[:, None, None]
    column_weights = _sum_of_weights(lefts, size[1], window)[None, :, None]
    weights = window[:, None, None] * window[None, :, None]
    origins = [(top, left) for top in tops for left in lefts]
    # Sums of weighted predictions in regions that later tiles overlap:
    # `beside` is the overlap with the next tile, `below` is the overlap with the next row of tiles.
    beside = below = None
    for (top, left), predicted in zip(
        origins, _predicted_tiles(predict, read, size, origins, tile, fill), strict=True
    ):
        columns_done = tile if left == lefts[-1] else step
        rows_done = tile if top == tops[-1] else step
        rows, tile_rows = _intersection(top, rows_done, size[0])
        columns, tile_columns = _intersection(left, columns_done, size[1])
        if predicted is None:
            # All pixels are nodata. Therefore the sums are not needed.
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
    """Verifies the overlap of neighboring tiles and returns it in pixels.

    Args:
        tile: side of the tiles, pixels.
        overlap: requested overlap, pixels; None for a quarter of a tile.

    Raises:
        InputError: `tile` is invalid, see `check_tile`, or `overlap` is negative or more than half
            a tile.
    """
    check_tile(tile)
    if overlap is None:
        return round(int(tile) * OVERLAP)
    if not 0 <= overlap <= tile // 2:
        raise InputError(
            f"`overlap` must be in [0, {tile // 2}], at most half of a tile of {tile} pixels. "
            f"Received: overlap={overlap}."
        )
    return int(overlap)  # sums of small NumPy integers can overflow


def check_tile(tile: int) -> None:
    """Verifies the side of the tiles.

    Args:
        tile: side of the tiles, pixels.

    Raises:
        InputError: `tile` is less than 1 or more than `MAX_TILE`.

    Example:
        >>> check_tile(512)
    """
    if not 1 <= tile <= MAX_TILE:
        raise InputError(
            f"`tile` must be 1 pixel or more, and at most {MAX_TILE} pixels. "
            f"Received: tile={tile}. Use the side of the training images, such as 512."
        )


def images_per_batch(pixels: int, maximum: float = math.inf) -> int:
    """Returns the number of images in a batch, 1 or more.

    Args:
        pixels: number of pixels of an image.
        maximum: upper limit for the number of pixels of a batch, in addition to `BATCH_PIXELS` or
            `GPU_BATCH_PIXELS`.

    Example:
        >>> images_per_batch(512**2, maximum=512**2)
        1
    """
    limit = GPU_BATCH_PIXELS if tf.config.list_logical_devices("GPU") else BATCH_PIXELS
    return max(int(min(limit, maximum)) // pixels, 1)


def _predicted_tiles(
    predict: Predict,
    read: Read,
    size: tuple[int, int],
    origins: Sequence[tuple[int, int]],
    tile: int,
    fill: float | np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray] | None]:
    """Predicts tiles in batches. At the same time, another thread reads the next batch.

    Yields:
        Two arrays for each tile, or None for a tile with only nodata pixels:

        - mask, bool `(tile, tile)`, False for nodata pixels.
        - prediction, float32 `(tile, tile, channels)`.
    """
    # All batches of an image have the same size, because cuDNN selects algorithms again for each
    # new size.
    num_batches = math.ceil(len(origins) / images_per_batch(tile**2))
    batch_size = math.ceil(len(origins) / num_batches)
    tiles = (read_tile(read, size, origin, tile) for origin in origins)

    def read_batch() -> tuple[list[np.ndarray | None], list[np.ndarray]]:
        """Reads tiles until a batch is full, and returns their masks and the batch.

        The mask of a tile with only nodata pixels is None, and the tile is not part of the batch.
        """
        masks, batch = [], []
        while len(batch) < batch_size and (pixels := next(tiles, None)) is not None:
            valid = ~np.isnan(pixels[..., 0])
            if valid.any():
                masks.append(valid)
                batch.append(np.where(valid[..., None], pixels, fill))
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
    """Returns the first row or column of each tile along one side of an image.

    The first tile and the last tile extend beyond the borders of the image by half of the overlap
    or more. Therefore each pixel is at least this far from the edges of at least one tile.

    If the image is not larger than a tile, the only tile has the image in its center.

    Args:
        side: side of the image, pixels.
        tile: side of a tile, pixels.
        overlap: overlap of neighboring tiles, pixels.

    Returns:
        Positions in the image, in steps of `tile - overlap`. The first position can be negative.

    Example:
        >>> tile_origins(24, tile=16, overlap=4)
        [-2, 10]
    """
    if side <= tile:
        return [-((tile - side) // 2)]
    first = -(overlap // 2)
    # The last tile extends beyond the border at least as far as the first tile.
    steps = math.ceil((side - tile - 2 * first) / (tile - overlap))
    return [first + i * (tile - overlap) for i in range(steps + 1)]


def read_tile(read: Read, size: tuple[int, int], origin: tuple[int, int], tile: int) -> np.ndarray:
    """Reads a tile of a reflect-padded image.

    Args:
        read: function that reads a part of the image.
        size: height and width of the image, pixels.
        origin: first row and first column of the tile. They can be outside the image.
        tile: side of the tile, pixels.

    Returns:
        `(tile, tile, channels)` with the dtype that `read` returns.
    """
    indices = [
        reflect_indices(np.arange(first, first + tile), side)
        for first, side in zip(origin, size, strict=True)
    ]
    pixels = read(*(slice(index.min(), index.max() + 1) for index in indices))
    rows, columns = (index - index.min() for index in indices)
    return pixels[rows][:, columns]


def blending_window(tile: int, overlap: int) -> np.ndarray:
    """Computes the blending weights of the pixels along one side of a tile.

    The weights are 1 in the center and decrease towards both ends, but they are never 0. At each
    pixel in the overlap of two neighboring tiles, the two weights sum to 1.

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
    """Computes the part of an interval that is inside an image, along one side of the image.

    Args:
        first: first position of the interval in the image, which can be negative.
        length: length of the interval, pixels.
        side: side of the image, pixels.

    Returns:
        Two slices of the same part. The first slice is relative to the border of the image. The
        second slice is relative to the start of the interval.
    """
    start, stop = max(first, 0), min(first + length, side)
    return slice(start, stop), slice(start - first, stop - first)


def _sum_of_weights(origins: Sequence[int], side: int, window: np.ndarray) -> np.ndarray:
    """Sums the weights of all tiles at each position along one side of an image.

    Args:
        origins: first position of each tile.
        side: side of the image, pixels.
        window: weights of a tile along one side, float32 `(tile,)`.

    Returns:
        float32 `(side,)`.
    """
    total = np.zeros(side, np.float32)
    for first in origins:
        image_part, tile_part = _intersection(first, len(window), side)
        total[image_part] += window[tile_part]
    return total
