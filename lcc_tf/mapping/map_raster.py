"""Maps as GeoTIFFs and PNGs, written window by window, so that no size is too large."""

import contextlib
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError  # what GDAL signals on closing a file
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from tqdm import tqdm

from lcc_tf.files import flush, not_written, unfinished_folder
from lcc_tf.mapping.gis_styles import write_categories, write_raster_style
from lcc_tf.mapping.grid import Grid
from tfds_deepglobe.classes import ClassTable

BLOCK = 256  # side of a GeoTIFF's blocks, pixels
NODATA = 255  # of class maps, whose class ids are smaller


@contextlib.contextmanager
def new_raster(
    path: Path,
    grid: Grid,
    *,
    nodata: int | None = None,
    classes: ClassTable | None = None,
    band_names: Sequence[str] = ("class",),
    scale: float = 1,
) -> Iterator[rasterio.io.DatasetWriter]:
    """Writes a uint8 raster; the file gets its name when it is complete.

    A `.tif` becomes a Cloud Optimized GeoTIFF with overviews, a `.png` a plain picture. Beside a
    class map lie its names for GDAL (`.aux.xml`) and its legend for QGIS (`.qml`).

    Args:
        path: ends in `.tif` or `.png`.
        grid: that it has.
        nodata: value of missing pixels; None where none are missing.
        classes: of a class map: colours and names.
        band_names: a description of each band.
        scale: what a value of 1 stands for.

    Yields:
        A data set to write windows to.

    Raises:
        OSError: the disk is full, or the folder can't be written.
    """
    is_tiff = path.suffix == ".tif"
    with unfinished_folder(path) as folder:
        # Not compressed, since blocks are written several times until they are complete.
        raw, final = folder / "raw.tif", folder / path.name
        need = grid.height * grid.width * len(band_names)
        if (free := shutil.disk_usage(folder).free) < 1.5 * need:
            need, free = (tqdm.format_sizeof(count, "B") for count in (1.5 * need, free))
            raise OSError(
                f"Writing {path} takes up to {need} beside it; {free} are free. Make room, or "
                "choose another `--output`."
            )
        with _writable(path), _quietly():
            with rasterio.open(
                raw,
                "w",
                driver="GTiff",
                height=grid.height,
                width=grid.width,
                count=len(band_names),
                dtype="uint8",
                crs=grid.crs,
                transform=grid.transform,
                nodata=nodata,
                tiled=True,
                blockxsize=BLOCK,
                blockysize=BLOCK,
                bigtiff="IF_SAFER",
                photometric="MINISBLACK",
            ) as dataset:
                if classes:
                    dataset.write_colormap(1, dict(enumerate(classes.palette)))
                    dataset.colorinterp = [ColorInterp.palette]
                    dataset.update_tags(CLASS_NAMES=",".join(classes.names))
                for band, name in enumerate(band_names, start=1):
                    dataset.set_band_description(band, name)
                dataset.scales = [scale] * len(band_names)
                yield dataset
            options = {"driver": "PNG"}
            if is_tiff:
                resampling = "MODE" if classes else "AVERAGE"
                options = {
                    "driver": "COG",
                    "compress": "DEFLATE",
                    "predictor": "NO" if classes else "YES",
                    "overview_resampling": resampling,
                    "bigtiff": "IF_SAFER",
                    "num_threads": "ALL_CPUS",
                }
            rasterio.shutil.copy(raw, final, **options)
            flush(final)
            _check_copy(raw, final)
        sidecars = [final.with_name(f"{final.name}.aux.xml"), final.with_suffix(".qml")]
        if classes:
            write_categories(sidecars[0], classes)
            write_raster_style(sidecars[1], classes)
        for sidecar in sidecars:
            if sidecar.exists():
                sidecar.replace(path.with_name(sidecar.name))
        final.replace(path)


def read_map(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Reads a class map, shrunk to the nearest pixels.

    Args:
        path: a map that `new_raster` wrote.
        size: height and width of the result, pixels.

    Returns:
        uint8 `size`, class ids, and bool `size`, which pixels are there.
    """
    with _quietly(), rasterio.open(path) as dataset:
        return dataset.read(1, out_shape=size), dataset.read_masks(1, out_shape=size) > 0


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without warnings of images that lack a georeference, which plain pictures may."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Turns what GDAL says where it cannot write into one line for the user."""
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:
        raise not_written(path, error) from error


def _check_copy(source: Path, copy: Path) -> None:
    """Reads a copy again, since GDAL closes one that the disk was too small for without a word."""
    with rasterio.open(source) as one, rasterio.open(copy) as two:
        for band in one.indexes:
            if one.checksum(band) != two.checksum(band):
                raise RasterioIOError("the file is not complete")
