"""Area of each class in a map."""

import csv
import io
from collections.abc import Sequence

import numpy as np

from lcc_tf.mapping.geodesy import has_areas, pixel_hectares
from lcc_tf.mapping.grid import Grid

COLUMNS = ("class", "pixels", "share", "hectares")


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

    def add(self, class_ids: np.ndarray, rows: slice, columns: slice) -> None:
        """Adds a part of the map.

        Args:
            class_ids: uint8 `(n,)`, class ids of the valid pixels in the part. Nodata pixels are
                not included.
            rows: rows of the part.
            columns: columns of the part.
        """
        counts = np.bincount(class_ids, minlength=len(self.class_names))
        self.pixels += counts
        if self.hectares is not None:
            size = pixel_hectares(self.grid, rows, columns)
            self.hectares += counts * size

    def rows(self) -> list[tuple[str, int, str, str]]:
        """Returns one row per class.

        Returns:
            Values of the columns in `COLUMNS`: class name, number of pixels, fraction of all pixels
            (in the column `share`), and hectares. If the area of a pixel is unknown, hectares are
            an empty string.
        """
        total = max(int(self.pixels.sum()), 1)
        return [
            (
                name,
                int(pixels),
                f"{pixels / total:.6f}",
                "" if self.hectares is None else f"{self.hectares[class_id]:.4f}",
            )
            for class_id, (name, pixels) in enumerate(
                zip(self.class_names, self.pixels, strict=True)
            )
        ]

    def to_csv(self) -> str:
        """Returns CSV with a header and one row per class."""
        return csv_text([COLUMNS, *self.rows()])


def csv_text(rows: Sequence[Sequence[object]]) -> str:
    """Formats rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
