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
from lcc_tf.mapping.geodesy import pixel_metres
from lcc_tf.mapping.grid import Grid, window_of

# GDAL would take a twentieth of the machine's memory.
CACHE_MEGABYTES = 256
# Longest side of the overview that a stretch is found on, pixels
OVERVIEW_SIDE = 2048
PERCENTILES = (2, 98)  # QGIS's "cumulative count cut"
SCALES = ("minmax", "percentile")
# Formats that are decoded from the start, whole lines at a time: what they announce is believed
# as far as a file of that size can hold it. Deflate, the stronger of the two, makes 1032 bytes of
# one at most (https://zlib.net/zlib_tech.html).
PLAIN_FORMATS = ("JPEG", "PNG")
PIXELS_PER_BYTE = 1032
# A pixel size that differs by less is the same: files round theirs.
SAME_SIZE = 1e-3


class Scene:
    """An open image of any size, read as RGB in [0, 255]. Made by `open_scene`.

    Attributes:
        path: the file.
        grid: where its pixels lie, after any resampling.
        nodata: the value that the file marks missing pixels with, if it does.
        has_gaps: whether pixels can be missing.
        stretch: lower and upper ends of each band that become 0 and 255, float64 `(2, 3)`; None: as
            they are.
    """

    def __init__(
        self,
        path: Path,
        dataset: rasterio.DatasetReader | WarpedVRT,
        bands: Sequence[int],
        scale: str | tuple[float, float] | None,
        has_mask: bool,
    ) -> None:
        self.path = path
        self.grid = Grid.of(dataset)
        self.nodata = dataset.nodata
        self._dataset = dataset
        self._bands = list(bands)
        self._lock = threading.Lock()  # GDAL's data sets serve one thread at a time
        self._is_float = any(dataset.dtypes[band - 1].startswith("float") for band in bands)
        self._has_mask = has_mask
        self.has_gaps = self._is_float or has_mask
        self.stretch = self._stretch(scale)

    def read(self, rows: slice, columns: slice) -> np.ndarray | None:
        """Reads a part of the image.

        Returns:
            float32 `(rows, columns, 3)`, RGB in [0, 255]; missing pixels are 0. None where all of
            them are missing.

        Raises:
            InputError: the file is truncated or broken.
        """
        valid = self.valid(rows, columns)
        if not valid.any():
            return None
        image = self._stretched(self._read(window=window_of(rows, columns)))
        image[~valid] = 0
        return image

    def thumbnail(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads the whole image, shrunk to the nearest pixels.

        Args:
            side: longest side of the result, pixels.

        Returns:
            float32 `(height, width, 3)`, RGB in [0, 255], and bool `(height, width)`, which pixels
            are there.
        """
        image, valid = self._overview(side)
        return self._stretched(image), valid

    def valid(self, rows: slice, columns: slice) -> np.ndarray:
        """Tells which pixels of a part of the image are there.

        Returns:
            bool `(rows, columns)`.

        Raises:
            InputError: the file is truncated or broken.
        """
        if not self.has_gaps:
            return np.ones((rows.stop - rows.start, columns.stop - columns.start), bool)
        window = window_of(rows, columns)
        valid = self._read_mask(window=window)
        if self._is_float:
            valid &= np.isfinite(self._read(window=window)).all(axis=-1)
        return valid

    def _overview(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """As `thumbnail`, but with the bands as they are in the file."""
        share = min(1, side / max(self.grid.size))
        size = tuple(max(1, round(length * share)) for length in self.grid.size)
        image = self._read(out_shape=(3, *size))
        return image, self._read_mask(out_shape=(3, *size)) & np.isfinite(image).all(axis=-1)

    def _read(self, **options: object) -> np.ndarray:
        """The chosen bands as they are in the file, `(rows, columns, 3)`."""
        with self._lock, _readable(self.path):
            return np.moveaxis(self._dataset.read(self._bands, **options), 0, -1)

    def _read_mask(self, **options: object) -> np.ndarray:
        """Which pixels are not marked as missing, bool `(rows, columns)`."""
        with self._lock, _readable(self.path):
            # A pixel is missing where all chosen bands are, as GDAL has it for nodata values.
            mask = self._dataset.read_masks(self._bands, **options).any(axis=0)
        return mask if self._has_mask else np.ones_like(mask)

    def _stretched(self, image: np.ndarray) -> np.ndarray:
        """Bands as they are in the file -> float32 in [0, 255]."""
        image = image.astype(np.float32)
        if self.stretch is not None:
            low, high = self.stretch.astype(np.float32)
            image = ((image - low) / np.maximum(high - low, 1e-12) * 255).clip(0, 255)
        return np.nan_to_num(image)

    def _stretch(self, scale: str | tuple[float, float] | None) -> np.ndarray | None:
        """Lower and upper ends of each band, float64 `(2, 3)`; None for 8 bit as it is."""
        dtypes = {self._dataset.dtypes[band - 1] for band in self._bands}
        if scale is None:
            if dtypes == {"uint8"}:
                return None
            scale = "percentile"
        if not isinstance(scale, str):
            return np.repeat(np.array(scale, float)[:, None], 3, axis=1)
        image, valid = self._overview(OVERVIEW_SIDE)
        if not valid.any():
            raise InputError(f"{self.path} holds no pixel that is not missing.")
        ends = (0, 100) if scale == "minmax" else PERCENTILES
        return np.percentile(image[valid].astype(np.float64), ends, axis=0)


@contextlib.contextmanager
def open_scene(
    path: Path,
    *,
    bands: Sequence[int] | None = None,
    scale: str | tuple[float, float] | None = None,
    resample_to: float | None = None,
) -> Iterator[Scene]:
    """Opens an image file of any format that GDAL reads.

    Args:
        path: the file.
        bands: numbers from 1 of the red, green and blue band; None for the first three of an image
            that has three, or three and transparency.
        scale: what becomes 0 and 255, the same for the whole scene: "minmax", "percentile" (2 and
            98 % of each band, from an overview), or two numbers; None for 8 bit as they are and
            "percentile" for all others.
        resample_to: side of the pixels that the scene is read with, metres; None for its own.

    Yields:
        The open scene.

    Raises:
        InputError: not an image, broken, bands that it lacks or that must be chosen, more pixels
            than a file of its size can hold, no georeference to resample by.
    """
    with rasterio.Env(
        GDAL_CACHEMAX=CACHE_MEGABYTES,
        # Large progressive JPEGs; how large a file may claim to be is checked below.
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
            chosen = _chosen_bands(path, dataset, bands, alpha_is_mask)
            flags = [dataset.mask_flag_enums[band - 1] for band in chosen]
            has_mask = any(MaskFlags.all_valid not in flag for flag in flags)
            if any(MaskFlags.alpha in flag for flag in flags):
                has_mask = alpha_is_mask
            if resample_to is not None:
                size = _resampled_size(path, dataset, resample_to)
                alpha = _alpha_bands(dataset)
                # GDAL would take it for a mask and hide pixels by it.
                if marked := sorted(set(chosen) & set(alpha)):
                    raise InputError(
                        f"{path}: band {marked[0]} is marked as transparency, so it cannot be "
                        "resampled as a colour. Take the mark off, for example by `gdal_translate "
                        f"-colorinterp_{marked[0]} undefined {path} unmarked.tif`."
                    )
                alpha = alpha if alpha_is_mask else []
                dataset = stack.enter_context(_resampled(path, [*chosen, *alpha], size))
                chosen = range(1, len(chosen) + 1)
            yield Scene(path, dataset, chosen, scale, has_mask)


def parse_bands(text: str) -> tuple[int, int, int]:
    """Parses "3,2,1".

    Raises:
        InputError: not three numbers from 1.
    """
    try:
        bands = tuple(int(part) for part in text.split(","))
    except ValueError:
        bands = ()
    if len(bands) != 3 or min(bands) < 1:
        raise InputError(
            f"`--bands` takes the numbers of the red, green and blue band, such as 3,2,1. "
            f"Received: {text!r}."
        )
    return bands


def parse_scale(text: str) -> str | tuple[float, float]:
    """Parses "minmax", "percentile" or "MIN,MAX".

    Raises:
        InputError: anything else.
    """
    if text in SCALES:
        return text
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not -np.inf < low < high < np.inf:
        raise InputError(
            "`--scale` takes minmax, percentile, or the two values that become 0 and 255, such as "
            f"0,3000. Received: {text!r}."
        )
    return low, high


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what GDAL says of a file that it cannot read into one line for the user."""
    try:
        yield
    except RasterioError as error:
        # The reason is GDAL's own error, which rasterio chains.
        reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
        if not path.exists():
            reason = "there is no such file"
        raise InputError(
            f"{path} cannot be read as an image: {reason}. Give a GeoTIFF, TIFF, JPEG or PNG file "
            "that is complete."
        ) from error


def _check_pixels(path: Path, dataset: rasterio.DatasetReader) -> None:
    """Refuses what announces more pixels than a file of its size can hold."""
    pixels = dataset.width * dataset.height
    if dataset.driver in PLAIN_FORMATS and pixels > PIXELS_PER_BYTE * path.stat().st_size:
        raise InputError(
            f"{path} announces {dataset.width}x{dataset.height} pixels in "
            f"{path.stat().st_size} bytes, which no {dataset.driver} file can hold: it is broken, "
            "or made to fill the memory."
        )


def _chosen_bands(
    path: Path,
    dataset: rasterio.DatasetReader,
    bands: Sequence[int] | None,
    alpha_is_mask: bool,
) -> Sequence[int]:
    """Which bands are red, green and blue."""
    alpha = _alpha_bands(dataset)
    colors = [band for band in dataset.indexes if band not in alpha]
    if bands is None and len(colors) == 3:
        if not alpha_is_mask:
            raise InputError(
                f"{path} has {dataset.count} bands, one of which is marked as transparency but "
                "holds something else, such as near infrared. Say which are red, green and blue, "
                "such as `--bands 1,2,3`."
            )
        bands = colors
    if bands is None and ColorInterp.palette in dataset.colorinterp:
        raise InputError(
            f"{path} holds indices of a palette instead of colours. Save it as RGB, for example by "
            f"`gdal_translate -expand rgb {path} rgb.tif`."
        )
    if bands is None:
        kinds = ", ".join(interpretation.name for interpretation in dataset.colorinterp)
        hint = "1,1,1` takes grey for all three" if len(colors) == 1 else "3,2,1` says so"
        raise InputError(
            f"{path} has {dataset.count} band(s) ({kinds}); which are red, green and blue is not "
            f"known. `--bands {hint}."
        )
    if max(bands) > dataset.count:
        raise InputError(
            f"{path} has {dataset.count} bands. Received: `--bands {','.join(map(str, bands))}`."
        )
    if any(np.issubdtype(np.dtype(dataset.dtypes[band - 1]), np.complexfloating) for band in bands):
        raise InputError(f"{path} has complex numbers in its bands, which are no colours.")
    return bands


def _alpha_bands(dataset: rasterio.DatasetReader) -> list[int]:
    """Bands that are marked as transparency."""
    kinds = zip(dataset.indexes, dataset.colorinterp, strict=True)
    return [band for band, kind in kinds if kind == ColorInterp.alpha]


def _alpha_is_mask(dataset: rasterio.DatasetReader) -> bool:
    """Whether a band that is marked as transparency says which pixels are there.

    Many programs mark any fourth band so. That of a mask is nothing or full nearly everywhere.
    """
    alpha = _alpha_bands(dataset)
    if not alpha:
        return True
    share = min(1, OVERVIEW_SIDE / max(dataset.shape))
    size = tuple(max(1, round(side * share)) for side in dataset.shape)
    values = dataset.read(alpha[0], out_shape=size)
    return np.isin(values, (0, values.max())).mean() > 0.5


def _resampled_size(path: Path, dataset: rasterio.DatasetReader, metres: float) -> tuple[int, int]:
    """Height and width of a data set whose pixels get another size."""
    if not 0 < metres < np.inf:
        raise InputError(f"Pixels need a size larger than 0. Received: `--resample-to {metres}`.")
    if dataset.crs is None:
        raise InputError(
            f"{path} has no coordinate system, so the size of its pixels is not known. Leave "
            "`--resample-to` out."
        )
    factors = [own / metres for own in pixel_metres(dataset.crs, dataset.transform, dataset.shape)]
    if all(abs(factor - 1) < SAME_SIZE for factor in factors):
        return dataset.shape
    across, down = factors
    return max(1, round(dataset.height * down)), max(1, round(dataset.width * across))


@contextlib.contextmanager
def _resampled(path: Path, bands: Sequence[int], size: tuple[int, int]) -> Iterator[WarpedVRT]:
    """A view of some bands of a file with another number of pixels, and with its mask.

    The other bands are left out, since GDAL would resample them too, and would take one that is
    marked as transparency for a mask.
    """
    height, width = size
    with contextlib.ExitStack() as stack:
        with _readable(path):
            # GDAL's way to name bands of a file: https://gdal.org/drivers/raster/vrt.html
            source = f"vrt://{path}?bands={','.join(map(str, bands))}"
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
                # Of a mask that is no band; one that is comes along as it is.
                add_alpha=MaskFlags.per_dataset in dataset.mask_flag_enums[0]
                and not _alpha_bands(dataset),
            )
        )
