"""Area of each class in a map."""

import csv
import functools
import io
import math
from collections.abc import Sequence

import numpy as np

from lcc_tf.mapping.geodesy import block_side, has_areas, pixel_hectares
from lcc_tf.mapping.grid import Grid

COLUMNS = ("class", "pixels", "share", "hectares")
EQUAL = 1e-5  # largest relative difference of areas that are considered equal
DECIMALS = 4  # minimum number of decimals of hectares


class Areas:
    """Number of pixels and hectares of each class. The parts of a map are added one after another.

    Args:
        grid: size and georeference of the map.
        class_names: class names of the map.

    Attributes:
        pixels: int64 `(num_classes,)`, number of pixels of each class.
        hectares: float64 `(num_classes,)`, area of each class; None if the area of a pixel is
            unknown.
    """

    def __init__(self, grid: Grid, class_names: Sequence[str]) -> None:
        self.grid = grid
        self.class_names = tuple(class_names)
        self.pixels = np.zeros(len(class_names), np.int64)
        self.hectares = np.zeros(len(class_names)) if has_areas(grid.crs) else None

    def add(self, class_ids: np.ndarray, valid: np.ndarray, rows: slice, columns: slice) -> None:
        """Adds a part of the map.

        Args:
            class_ids: uint8 `(height, width)`, class ids of the part.
            valid: bool `(height, width)`, False for pixels that are not counted.
            rows: rows of the part.
            columns: columns of the part.
        """
        count = len(self.class_names)
        self.pixels += np.bincount(class_ids[valid], minlength=count)
        if self.hectares is None:
            return
        # Within a block, all pixels have almost the same area. Use the area at the block's center.
        side = block_side(self.grid)
        for top in range(rows.start, rows.stop, side):
            bottom = min(top + side, rows.stop)
            part = slice(top - rows.start, bottom - rows.start)
            lefts = np.arange(columns.start, columns.stop, side)
            widths = np.minimum(lefts + side, columns.stop) - lefts
            centers = np.full(len(lefts), (top + bottom) / 2)
            sizes = pixel_hectares(self.grid, centers, lefts + widths / 2)
            if np.ptp(sizes) <= EQUAL * np.max(sizes):
                self.hectares += (
                    np.bincount(class_ids[part][valid[part]], minlength=count) * sizes[0]
                )
                continue
            weights = np.broadcast_to(np.repeat(sizes, widths), class_ids[part].shape)
            self.hectares += np.bincount(
                class_ids[part][valid[part]], weights[valid[part]], minlength=count
            )

    def rows(self) -> list[tuple[str, int, str, str]]:
        """Returns one row per class.

        Returns:
            Values of the columns in `COLUMNS`: class name, number of pixels, fraction of all pixels
            (in the column `share`), and hectares. If the area of a pixel is unknown, hectares are
            an empty string.
        """
        total = max(int(self.pixels.sum()), 1)
        decimals = DECIMALS if self.hectares is None else _decimals(self.grid)
        return [
            (
                name,
                int(pixels),
                f"{pixels / total:.6f}",
                "" if self.hectares is None else f"{self.hectares[class_id]:.{decimals}f}",
            )
            for class_id, (name, pixels) in enumerate(
                zip(self.class_names, self.pixels, strict=True)
            )
        ]

    def to_csv(self) -> str:
        """Returns CSV with a header and one row per class."""
        return csv_text([COLUMNS, *self.rows()])


@functools.lru_cache(maxsize=64)
def _decimals(grid: Grid) -> int:
    """Returns the number of decimals of hectares. Very small pixels need more decimals."""
    pixel = pixel_hectares(grid, *([side / 2] for side in grid.size))[0]
    return max(DECIMALS, -math.floor(math.log10(pixel)) - 1) if pixel else DECIMALS


def csv_text(rows: Sequence[Sequence[object]]) -> str:
    """Formats rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
