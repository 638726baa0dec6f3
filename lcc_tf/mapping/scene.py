"""Image files and GeoTIFFs, read window by window, so that no size is too large."""

import contextlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT

from lcc_tf.errors import InputError
from lcc_tf.mapping.geodesy import pixel_meters
from lcc_tf.mapping.grid import Grid, window_of
from lcc_tf.mapping.scene_reading import SceneReading, joined

# GDAL's default is a twentieth of the machine's memory.
CACHE_MEGABYTES = 256
# Longest side of the overview from which a stretch is computed, pixels
OVERVIEW_SIDE = 2048
PERCENTILES = (2, 98)  # QGIS's "cumulative count cut"
# Formats that are decoded from the start, whole lines at a time. Headers that claim more pixels
# than the file can hold are rejected: deflate, which compresses more than JPEG, expands a byte to
# at most 1032 bytes (https://zlib.net/zlib_tech.html).
PLAIN_FORMATS = ("JPEG", "PNG")
PIXELS_PER_BYTE = 1032
# Pixel sizes with a smaller relative difference are equal, since files round pixel sizes.
SAME_SIZE = 1e-3


class Scene:
    """An open image of any size, read as RGB in [0, 255]. Made by `open_scene`.

    Attributes:
        path: the file.
        grid: size and georeference, after any resampling.
        nodata: the file's nodata value; None if it has none.
        has_nodata: whether pixels can be nodata.
        stretch: lower and upper ends of each band that become 0 and 255, float64 `(2, 3)`; None if
            the bands' values are unchanged.
    """

    def __init__(
        self,
        path: Path,
        dataset: rasterio.DatasetReader | WarpedVRT,
        bands: Sequence[int],
        scale: str | Sequence[float] | None,
        has_mask: bool,
    ) -> None:
        self.path = path
        self.grid = Grid.of(dataset)
        self.nodata = dataset.nodata
        self._dataset = dataset
        self._bands = list(bands)
        self._lock = threading.Lock()  # GDAL's data sets serve one thread at a time
        self._has_mask = has_mask
        # NaN is nodata in bands of floats.
        self.has_nodata = has_mask or any(dataset.dtypes[i - 1].startswith("float") for i in bands)
        self.stretch = self._stretch(scale)

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Reads a part of the image.

        Returns:
            float32 `(rows, columns, 3)`, RGB in [0, 255]; NaN in nodata pixels.

        Raises:
            InputError: the file is truncated or broken.
        """
        image, valid = self._read(window=window_of(rows, columns))
        image = self._stretched(image)
        image[~valid] = np.nan
        return image

    def thumbnail(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads the whole image, resampled to the nearest pixels.

        Args:
            side: longest side of the result, pixels.

        Returns:
            float32 `(height, width, 3)`, RGB in [0, 255], and bool `(height, width)`, True for
            pixels that are not nodata.
        """
        image, valid = self._overview(side)
        return self._stretched(image), valid

    def _overview(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Like `thumbnail`, but with the file's own values."""
        factor = min(1, side / max(self.grid.size))
        return self._read(out_shape=(3, *(max(1, round(s * factor)) for s in self.grid.size)))

    def _read(self, **options: object) -> tuple[np.ndarray, np.ndarray]:
        """Reads values of the chosen bands, `(rows, columns, 3)`, and which pixels are valid."""
        with self._lock, _readable(self.path):
            image = np.moveaxis(self._dataset.read(self._bands, **options), 0, -1)
            valid = np.isfinite(image).all(axis=-1)
            if self._has_mask:
                # A pixel is nodata if all chosen bands are, as in GDAL.
                valid &= self._dataset.read_masks(self._bands, **options).any(axis=0)
        return image, valid

    def _stretched(self, image: np.ndarray) -> np.ndarray:
        """Converts the file's values to float32 in [0, 255]."""
        image = image.astype(np.float32)
        if self.stretch is not None:
            low, high = self.stretch.astype(np.float32)
            image = ((image - low) / np.maximum(high - low, 1e-12) * 255).clip(0, 255)
        return np.nan_to_num(image)

    def _stretch(self, scale: str | Sequence[float] | None) -> np.ndarray | None:
        """Computes lower and upper ends of each band, float64 `(2, 3)`; None for 8 bit."""
        dtypes = {self._dataset.dtypes[band - 1] for band in self._bands}
        if scale is None:
            if dtypes == {"uint8"}:
                return None
            scale = "percentile"
        if not isinstance(scale, str):
            return np.repeat(np.array(scale, float)[:, None], 3, axis=1)
        image, valid = self._overview(OVERVIEW_SIDE)
        if not valid.any():
            raise InputError(f"{self.path} has only nodata pixels.")
        ends = (0, 100) if scale == "minmax" else PERCENTILES
        return np.percentile(image[valid].astype(np.float64), ends, axis=0)


@contextlib.contextmanager
def open_scene(path: Path, reading: SceneReading | None = None) -> Iterator[Scene]:
    """Opens an image file of any format that GDAL reads.

    Args:
        path: the file.
        reading: bands, value range and pixel size; None for the defaults.

    Yields:
        The open scene.

    Raises:
        InputError: not an image, a broken file, missing bands or bands that must be chosen, more
            pixels than a file of its size can hold, or no georeference for resampling.
    """
    reading = reading or SceneReading()
    with rasterio.Env(
        GDAL_CACHEMAX=CACHE_MEGABYTES,
        # For large progressive JPEGs. `_check_pixels` rejects wrong sizes.
        GDAL_ALLOW_LARGE_LIBJPEG_MEM_ALLOC="YES",
        GDAL_PAM_ENABLED="YES",
    ):
        with _readable(path), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path)
        with contextlib.ExitStack() as stack:
            stack.enter_context(dataset)
            _check_pixels(path, dataset)
            with _readable(path):
                alpha_is_mask = _alpha_is_mask(dataset)
            chosen = _chosen_bands(path, dataset, reading.bands, alpha_is_mask)
            flags = [dataset.mask_flag_enums[band - 1] for band in chosen]
            has_mask = any(MaskFlags.all_valid not in flag for flag in flags)
            if any(MaskFlags.alpha in flag for flag in flags):
                has_mask = alpha_is_mask
            if reading.resample_to is not None:
                size = _resampled_size(path, dataset, reading.resample_to)
                alpha = _alpha_bands(dataset)
                # GDAL would use such a band as a mask and hide pixels.
                if marked := sorted(set(chosen) & set(alpha)):
                    raise InputError(
                        f"{path}: band {marked[0]} is marked as transparency, so it cannot be "
                        "resampled as a color. Remove the mark, for example with `gdal_translate "
                        f"-colorinterp_{marked[0]} undefined {path} unmarked.tif`."
                    )
                alpha = alpha if alpha_is_mask else []
                dataset = stack.enter_context(_resampled(path, [*chosen, *alpha], size))
                chosen = range(1, len(chosen) + 1)
            yield Scene(path, dataset, chosen, reading.scale, has_mask)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns GDAL's errors on reading a file into one line for the user."""
    try:
        yield
    except RasterioError as error:
        # The reason is GDAL's own error, which rasterio chains.
        reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
        if not path.exists():
            reason = "there is no such file"
        raise InputError(
            f"{path} cannot be read as an image: {reason}. Use a complete GeoTIFF, TIFF, JPEG or "
            "PNG file."
        ) from error


def _check_pixels(path: Path, dataset: rasterio.DatasetReader) -> None:
    """Rejects a header that claims more pixels than the file can hold."""
    pixels = dataset.width * dataset.height
    if dataset.driver in PLAIN_FORMATS and pixels > PIXELS_PER_BYTE * path.stat().st_size:
        raise InputError(
            f"{path} claims {dataset.width}x{dataset.height} pixels in {path.stat().st_size} "
            f"bytes, more than a {dataset.driver} file can hold: it is broken, or made to fill the "
            "memory."
        )


def _chosen_bands(
    path: Path,
    dataset: rasterio.DatasetReader,
    bands: Sequence[int] | None,
    alpha_is_mask: bool,
) -> Sequence[int]:
    """Returns the numbers of the red, green and blue band."""
    alpha = _alpha_bands(dataset)
    colors = [band for band in dataset.indexes if band not in alpha]
    if bands is None and len(colors) == 3:
        if not alpha_is_mask:
            raise InputError(
                f"{path} has {dataset.count} bands, one of which is marked as transparency but has "
                "other values, such as near infrared. Choose the red, green and blue band with "
                "`bands`, such as 1,2,3."
            )
        bands = colors
    if bands is None and ColorInterp.palette in dataset.colorinterp:
        raise InputError(
            f"{path} has palette indices instead of colors. Save it as RGB, for example with "
            f"`gdal_translate -expand rgb {path} rgb.tif`."
        )
    if bands is None:
        kinds = ", ".join(interpretation.name for interpretation in dataset.colorinterp)
        example = "1,1,1 to use gray for all three" if len(colors) == 1 else "3,2,1"
        raise InputError(
            f"{path} has {dataset.count} band(s) ({kinds}), and its red, green and blue band are "
            f"unknown. Choose them with `bands`, such as {example}."
        )
    if max(bands) > dataset.count:
        raise InputError(
            f"`bands` must be at most {dataset.count}, the number of bands of {path}. "
            f"Received: bands={joined(bands)}."
        )
    if any(np.issubdtype(np.dtype(dataset.dtypes[band - 1]), np.complexfloating) for band in bands):
        raise InputError(f"{path} has bands of complex numbers. Use bands of real numbers.")
    return bands


def _alpha_bands(dataset: rasterio.DatasetReader) -> list[int]:
    """Returns the numbers of bands that are marked as transparency."""
    kinds = zip(dataset.indexes, dataset.colorinterp, strict=True)
    return [band for band, kind in kinds if kind == ColorInterp.alpha]


def _alpha_is_mask(dataset: rasterio.DatasetReader) -> bool:
    """Returns True if the band that is marked as transparency is a mask.

    Many programs mark any fourth band as transparency. A mask is 0 or its maximum nearly
    everywhere.
    """
    alpha = _alpha_bands(dataset)
    if not alpha:
        return True
    factor = min(1, OVERVIEW_SIDE / max(dataset.shape))
    size = tuple(max(1, round(side * factor)) for side in dataset.shape)
    values = dataset.read(alpha[0], out_shape=size)
    return np.isin(values, (0, values.max())).mean() > 0.5


def _resampled_size(path: Path, dataset: rasterio.DatasetReader, meters: float) -> tuple[int, int]:
    """Returns height and width of a data set that is resampled to another pixel size."""
    if dataset.crs is None:
        raise InputError(
            f"{path} has no coordinate system, so its pixel size is unknown. Remove `resample_to`."
        )
    sides = pixel_meters(dataset.crs, dataset.transform, dataset.shape)
    factors = [side / meters for side in sides]
    if all(abs(factor - 1) < SAME_SIZE for factor in factors):
        return dataset.shape
    across, down = factors
    return max(1, round(dataset.height * down)), max(1, round(dataset.width * across))


@contextlib.contextmanager
def _resampled(path: Path, bands: Sequence[int], size: tuple[int, int]) -> Iterator[WarpedVRT]:
    """Opens a view of some bands of a file, and of its mask, with another number of pixels.

    The view has no other bands, since GDAL would resample them too, and would use a band that is
    marked as transparency as a mask.
    """
    height, width = size
    with contextlib.ExitStack() as stack:
        with _readable(path):
            # GDAL's syntax for some bands of a file: https://gdal.org/drivers/raster/vrt.html
            source = f"vrt://{path}?bands={joined(bands)}"
            dataset = stack.enter_context(rasterio.open(source))
        shrinks = height < dataset.height or width < dataset.width
        yield stack.enter_context(
            WarpedVRT(
                dataset,
                crs=dataset.crs,
                transform=dataset.transform
                @ dataset.transform.scale(dataset.width / width, dataset.height / height),
                width=width,
                height=height,
                resampling=Resampling.average if shrinks else Resampling.bilinear,
                # Adds a mask that is not a band. A mask that is a band is kept anyway.
                add_alpha=MaskFlags.per_dataset in dataset.mask_flag_enums[0]
                and not _alpha_bands(dataset),
            )
        )
