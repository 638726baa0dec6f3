"""Class maps and other rasters as GeoTIFF and PNG.

The rasters are written in parts, and therefore they can have any size.
"""

import contextlib
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil

# rasterio raises an error of this class if the disk is full when a file is closed. The error is
# caught to print one line instead of a traceback. The class has no public name in rasterio.
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from tqdm import tqdm

from lcc_tf.files import flush, not_written, unfinished_folder
from lcc_tf.mapping.gis_styles import write_categories, write_raster_style
from lcc_tf.mapping.grid import Grid
from tfds_deepglobe.classes import ClassTable

BLOCK = 256  # side of the internal tiles of a GeoTIFF, pixels
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
    tags: Mapping[str, str] | None = None,
) -> Iterator[rasterio.io.DatasetWriter]:
    """Creates a uint8 raster that can be written window by window.

    The raster is written to a temporary file, which is moved to `path` when it is complete. A
    `.tif` file is a Cloud Optimized GeoTIFF with overviews. For a class map, two more files are
    written: class names for GDAL (`.aux.xml`) and a style for QGIS (`.qml`).

    Args:
        path: file to write, `.tif` or `.png`.
        grid: size and georeference of the raster.
        nodata: nodata value; None for a raster without nodata pixels.
        classes: class names and colors of a class map; None for other rasters.
        band_names: one description per band.
        scale: factor that converts stored values to real values, such as probabilities.
        tags: names and values of metadata, which `read_tags` reads.

    Yields:
        The open raster.

    Raises:
        InputError: another process is writing the same file.
        OSError: the disk is full, or the folder is not writable.
    """
    is_tiff = path.suffix == ".tif"
    with unfinished_folder(path) as folder:
        # The raw file is not compressed, because each internal tile is written several times.
        raw, final = folder / "raw.tif", folder / path.name
        need = grid.height * grid.width * len(band_names)
        if (free := shutil.disk_usage(folder).free) < 1.5 * need:
            need, free = (tqdm.format_sizeof(count, "B") for count in (1.5 * need, free))
            raise OSError(
                f"Writing {path} needs up to {need} of disk space, but only {free} are free. "
                "Delete other files, or choose another `output`."
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
                **grid.georeference,
                nodata=nodata,
                tiled=True,
                blockxsize=BLOCK,
                blockysize=BLOCK,
                bigtiff="IF_SAFER",
                photometric="MINISBLACK",
            ) as dataset:
                if classes:
                    dataset.write_colormap(1, dict(enumerate(classes.displayed.palette)))
                    dataset.colorinterp = [ColorInterp.palette]
                    dataset.update_tags(CLASS_NAMES=",".join(classes.names))
                dataset.update_tags(**(tags or {}))
                for band, name in enumerate(band_names, start=1):
                    dataset.set_band_description(band, name)
                dataset.scales = [scale] * len(band_names)
                yield dataset
            options = {"driver": "PNG", "write_metadata_as_text": "YES"}
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
    """Reads a class map and resizes it with nearest-neighbor interpolation.

    Args:
        path: class map that `new_raster` wrote.
        size: height and width of the result, pixels.

    Returns:
        Two arrays:

        - class ids, uint8 `(height, width)`.
        - mask, bool `(height, width)`, False for nodata pixels.
    """
    with _without_georeference_warnings(), rasterio.open(path) as dataset:
        return dataset.read(1, out_shape=size), dataset.read_masks(1, out_shape=size) > 0


def read_tags(path: Path) -> dict[str, str]:
    """Reads the metadata of a raster that `new_raster` wrote."""
    try:
        with _without_georeference_warnings(), rasterio.open(path) as dataset:
            return dataset.tags()
    except RasterioError:  # another file, or a damaged file
        return {}


def files_of(path: Path) -> list[Path]:
    """Returns the files from which GDAL reads an image, such as the images of a `.vrt` file."""
    try:
        with _without_georeference_warnings(), rasterio.open(path) as dataset:
            return [Path(file) for file in dataset.files]
    except RasterioError:  # another file, or a damaged file
        return []


def is_raster(path: Path) -> bool:
    """Returns True if GDAL can open a file."""
    try:
        with _without_georeference_warnings(), rasterio.open(path):
            return True
    except RasterioError:
        return False


@contextlib.contextmanager
def _without_georeference_warnings() -> Iterator[None]:
    """Silences warnings about files without georeference, such as PNG files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Converts write errors of GDAL to an `OSError` with a message of one line."""
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:
        raise not_written(path, error) from error


def _check_copy(source: Path, copy: Path) -> None:
    """Verifies that the copy of a raster is complete.

    This is necessary because GDAL does not report an incomplete copy if the disk is full.
    """
    with rasterio.open(source) as original, rasterio.open(copy) as copied:
        for band in original.indexes:
            if original.checksum(band) != copied.checksum(band):
                raise RasterioIOError("the file is not complete")
