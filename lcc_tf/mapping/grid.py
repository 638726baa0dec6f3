"""Where the pixels of a raster lie."""

from dataclasses import dataclass

import rasterio
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie."""

    height: int
    width: int
    crs: rasterio.CRS | None  # None without georeference
    transform: rasterio.Affine  # from columns and rows to coordinates of `crs`

    @classmethod
    def of(cls, dataset: rasterio.DatasetReader | WarpedVRT) -> "Grid":
        """That of an open raster."""
        return cls(*dataset.shape, dataset.crs, dataset.transform)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.height, self.width


def window_of(rows: slice, columns: slice) -> Window:
    """A part of an image as rasterio wants it."""
    return Window.from_slices(rows, columns)
