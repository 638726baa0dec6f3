"""Bands of a scene that become the bands of its tiles, and the valid pixels of these bands."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from lcc_tf.band_names import COLORS
from lcc_tf.errors import InputError
from lcc_tf.mapping.color_bands import (
    alpha_bands,
    check_bands,
    find_color_bands,
    masked_fraction,
)
from tfds_deepglobe.bands import DTYPES


@dataclass(frozen=True)
class TileBands:
    """Bands of the tiles of a scene.

    Attributes:
        numbers: numbers of the bands in the scene, counted from 1.
        names: descriptions of the bands; if a band has no description, the color or the number.
        dtype: dtype of the pixels.
        is_rgb: True if the first three bands are red, green and blue.
        masks: numbers of the transparency bands of the scene, which are not bands of the tiles.
        marked: numbers of the bands that are marked as transparency, but are not masks.
    """

    numbers: tuple[int, ...]
    names: tuple[str, ...]
    dtype: str
    is_rgb: bool
    masks: tuple[int, ...]
    marked: tuple[int, ...]

    @classmethod
    def of(cls, scene: Path, dataset: rasterio.DatasetReader) -> "TileBands":
        """Finds the bands of an open scene.

        Many programs mark any fourth band as transparency, even near infrared. If the values of
        this band are not a mask, the band is written to the tiles. If `find_color_bands` identifies
        three bands with 8 bits, their order becomes red, green, blue.

        Raises:
            InputError: the scene has an unknown dtype or color space, contains palette indices, or
                stores white as 0.
        """
        alpha = alpha_bands(dataset)
        masks = [band for band in alpha if masked_fraction(dataset, band) is not None]
        numbers = [band for band in dataset.indexes if band not in masks]
        if not numbers:
            raise InputError(f"{scene} must contain bands. Received: no bands. Use another image.")
        dtype = dataset.dtypes[numbers[0] - 1]
        if dtype not in DTYPES:
            raise InputError(
                f"Scenes must have one of the dtypes {', '.join(DTYPES)}. Received: {dtype} in "
                f"{scene}. Convert the scene, for example with `gdal_translate -ot Float32 {scene} "
                "converted.tif`."
            )
        check_bands(scene, dataset, numbers)
        kinds = [dataset.colorinterp[band - 1].name for band in numbers]
        is_rgb = kinds[:3] == list(COLORS)
        if len(numbers) == 3 and dtype == "uint8":
            try:
                numbers, is_rgb = list(find_color_bands(scene, dataset, None).colors), True
            except InputError:  # such as near infrared, red and green
                is_rgb = False
        names = []
        for position, number in enumerate(numbers, start=1):
            kind = dataset.colorinterp[number - 1].name
            name = kind if kind in COLORS else f"band {position}"
            names.append(dataset.descriptions[number - 1] or name)
        marked = [band for band in alpha if band not in masks]
        return cls(*map(tuple, (numbers, names)), dtype, is_rgb, *map(tuple, (masks, marked)))

    def valid(
        self, dataset: rasterio.DatasetReader, window: Window, values: np.ndarray
    ) -> np.ndarray:
        """Returns False for nodata and transparent pixels, bool `(height, width)`.

        Args:
            dataset: the open scene.
            window: part of the scene.
            values: values of the bands in this part, `(bands, height, width)`.
        """
        if not self.marked:
            valid = dataset.dataset_mask(window=window) > 0
            for band in self.masks:  # GDAL uses transparency only in images with 2 or 4 bands
                valid &= dataset.read(band, window=window) > 0
            return valid
        # `dataset_mask` would use the band that is marked as transparency, but is not a mask.
        valid = np.ones(values.shape[1:], bool)
        if dataset.nodata is not None:
            is_nan = np.isnan(dataset.nodata)
            valid = (~np.isnan(values) if is_nan else values != dataset.nodata).any(axis=0)
        for band in self.masks:
            valid &= dataset.read(band, window=window) > 0
        if dataset.mask_flag_enums[self.numbers[0] - 1] == [MaskFlags.per_dataset]:
            valid &= dataset.read_masks(self.numbers[0], window=window) > 0
        return valid
