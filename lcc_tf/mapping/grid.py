"""Pixel grids of rasters."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import rasterio
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window


@dataclass(frozen=True)
class Grid:
    """Size and georeference of a raster.

    Attributes:
        height: number of rows.
        width: number of columns.
        crs: coordinate system; None if it is missing, or if the raster's position is unknown.
        transform: transform from columns and rows to coordinates of `crs`.
        gcps: ground control points of a raster without `crs`.
        gcps_crs: coordinate system of `gcps`.
        rpcs: rational polynomial coefficients, which describe the camera of a satellite.
    """

    height: int
    width: int
    crs: rasterio.CRS | None
    transform: rasterio.Affine
    gcps: Sequence[GroundControlPoint] = field(default=(), compare=False)
    gcps_crs: rasterio.CRS | None = field(default=None, compare=False)
    rpcs: RPC | None = field(default=None, compare=False)

    @classmethod
    def of(cls, dataset: rasterio.DatasetReader | WarpedVRT) -> "Grid":
        """Returns the grid of an open raster."""
        if isinstance(dataset, WarpedVRT):  # a resampled raster, which has a coordinate system
            return cls(*dataset.shape, dataset.crs, dataset.transform)
        gcps = dataset.gcps if dataset.crs is None else ([], None)
        # Without a geotransform, the position of the raster in its coordinate system is unknown.
        crs = None if dataset.transform.is_identity else dataset.crs
        return cls(*dataset.shape, crs, dataset.transform, *gcps, dataset.rpcs)

    @property
    def georeference(self) -> dict[str, object]:
        """Arguments of `rasterio.open` that write the georeference of the raster."""
        rpcs = {"rpcs": self.rpcs} if self.rpcs else {}
        if self.gcps and self.gcps_crs:  # rasterio cannot write points without coordinate system
            return {"gcps": self.gcps, "crs": self.gcps_crs} | rpcs
        return {"crs": self.crs, "transform": self.transform} | rpcs

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.height, self.width


def window_of(rows: slice, columns: slice) -> Window:
    """Converts slices of rows and columns to a rasterio window."""
    return Window.from_slices(rows, columns)
