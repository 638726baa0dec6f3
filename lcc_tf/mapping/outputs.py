"""Output files of a mapping."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lcc_tf.errors import InputError

if TYPE_CHECKING:  # for commands that show the choices below without importing rasterio
    from lcc_tf.mapping.area_statistics import Zones

EXTRAS = ("probabilities", "confidence", "disagreement", "overlay")
POLYGON_FORMATS = ("gpkg", "geojson")
MIN_REGION = 100  # pixels; 25 square meters at DeepGlobe's 0.5 m
PLAIN_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Outputs:
    """Files that are written for each image: the class map, the areas, and optional files.

    Attributes:
        folder: folder of the files.
        extras: optional files, of `EXTRAS`: the probability of each class; the largest probability;
            the weighted fraction of ensemble members that predict another class than the map; a
            picture of the map over the image.
        polygons: format of the map's regions as polygons, of `POLYGON_FORMATS`; None to write no
            polygons.
        min_region: regions of fewer pixels join their largest neighboring region before they become
            polygons.
        zones: polygons in which areas are computed too; None to compute none.

    Raises:
        InputError: an unknown extra or polygon format, or `min_region` is below 1.
    """

    folder: Path
    extras: Sequence[str] = ()
    polygons: str | None = None
    min_region: int = MIN_REGION
    zones: "Zones | None" = None

    def __post_init__(self) -> None:
        if isinstance(self.extras, str) or not set(self.extras) <= set(EXTRAS):
            raise InputError(
                f"`extras` must be a list of {', '.join(EXTRAS)}. Received: {self.extras!r}."
            )
        if self.polygons not in (None, *POLYGON_FORMATS):
            raise InputError(
                f"Unknown `polygons`. Received: {self.polygons!r}. "
                f"Choose one of {POLYGON_FORMATS}, or None."
            )
        if self.min_region < 1:
            raise InputError(
                f"`min_region` must be 1 pixel or more. Received: min_region={self.min_region}."
            )

    def files(self, image: Path) -> dict[str, Path]:
        """Returns the output files of an image by kind; the last one is written last.

        Args:
            image: the image's path.
        """
        raster = "png" if image.suffix.lower() in PLAIN_SUFFIXES else "tif"
        endings = {"classes": raster} | dict.fromkeys(self.extras, raster)
        if "probabilities" in endings:
            endings["probabilities"] = "tif"  # PNG has no more than four bands
        if "overlay" in endings:
            endings["overlay"] = "png"
        if self.polygons:
            endings["polygons"] = self.polygons
        if self.zones:
            endings["zones"] = "csv"
        endings["areas"] = "csv"
        return {
            kind: self.folder / f"{image.stem}_{kind}.{ending}" for kind, ending in endings.items()
        }
