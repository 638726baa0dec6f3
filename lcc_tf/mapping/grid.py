"""Pixel grids of rasters."""

from dataclasses import dataclass

import rasterio
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window


@dataclass(frozen=True)
class Grid:
    """Size and georeference of a raster.

    Attributes:
        height: number of rows.
        width: number of columns.
        crs: coordinate system; None for a raster without georeference.
        transform: transform from columns and rows to coordinates of `crs`.
    """

    height: int
    width: int
    crs: rasterio.CRS | None
    transform: rasterio.Affine

    @classmethod
    def of(cls, dataset: rasterio.DatasetReader | WarpedVRT) -> "Grid":
        """Returns the grid of an open raster."""
        return cls(*dataset.shape, dataset.crs, dataset.transform)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.height, self.width


def window_of(rows: slice, columns: slice) -> Window:
    """Converts slices of rows and columns to a rasterio window."""
    return Window.from_slices(rows, columns)
