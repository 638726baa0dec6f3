"""Maps as GeoTIFFs and PNGs, written window by window, so that no size is too large."""

import contextlib
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil

# A private name, since rasterio raises GDAL's errors on closing a file as they are and has no
# public class for them. Without it, a full disk ends in a traceback; test_full_disk fails.
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from tqdm import tqdm

from lcc_tf.files import flush, not_written, unfinished_folder
from lcc_tf.mapping.gis_styles import write_categories, write_raster_style
from lcc_tf.mapping.grid import Grid
from tfds_deepglobe.classes import ClassTable

BLOCK = 256  # side of a GeoTIFF's blocks, pixels
NODATA = 255  # nodata value of class maps; all class ids are smaller


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
    """Writes a uint8 raster, whose file appears only when it is complete.

    A `.tif` becomes a Cloud Optimized GeoTIFF with overviews, a `.png` a plain picture. A class map
    gets a file with class names for GDAL (`.aux.xml`) and a style for QGIS (`.qml`).

    Args:
        path: file to write, `.tif` or `.png`.
        grid: size and georeference.
        nodata: nodata value; None if no pixel is nodata.
        classes: names and colors of a class map's classes; None for other rasters.
        band_names: one description per band.
        scale: what a value of 1 stands for.

    Yields:
        A data set to write windows to.

    Raises:
        InputError: another process writes the same file.
        OSError: the disk is full, or the folder cannot be written.
    """
    is_tiff = path.suffix == ".tif"
    with unfinished_folder(path) as folder:
        # Not compressed, since blocks are rewritten several times until they are complete.
        raw, final = folder / "raw.tif", folder / path.name
        need = grid.height * grid.width * len(band_names)
        if (free := shutil.disk_usage(folder).free) < 1.5 * need:
            need, free = (tqdm.format_sizeof(count, "B") for count in (1.5 * need, free))
            raise OSError(
                f"Writing {path} needs up to {need} of disk space; {free} are free. Make room, or "
                "choose another `output`."
            )
        with _writable(path), _without_georeference_warnings():
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
    """Reads a class map, resampled to the nearest pixels.

    Args:
        path: a map that `new_raster` wrote.
        size: height and width of the result, pixels.

    Returns:
        uint8 `size`, class ids, and bool `size`, True for pixels that are not nodata.
    """
    with _without_georeference_warnings(), rasterio.open(path) as dataset:
        return dataset.read(1, out_shape=size), dataset.read_masks(1, out_shape=size) > 0


@contextlib.contextmanager
def _without_georeference_warnings() -> Iterator[None]:
    """Silences warnings about images without georeference, such as plain pictures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Turns GDAL's errors on writing a file into one line for the user."""
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:
        raise not_written(path, error) from error


def _check_copy(source: Path, copy: Path) -> None:
    """Reads a copy again, since GDAL closes an incomplete one without an error on a full disk."""
    with rasterio.open(source) as original, rasterio.open(copy) as copied:
        for band in original.indexes:
            if original.checksum(band) != copied.checksum(band):
                raise RasterioIOError("the file is not complete")
