"""Names of the files that are written for each image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lcc_tf.errors import InputError

if TYPE_CHECKING:  # the command line imports the constants without rasterio
    from lcc_tf.mapping.area_statistics import Zones

EXTRAS = ("probabilities", "confidence", "disagreement", "overlay")
POLYGON_FORMATS = ("gpkg", "geojson")
MIN_REGION = 100  # pixels; 25 square meters at DeepGlobe's 0.5 m
PLAIN_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Outputs:
    """Files that are written for each image: a class map, a table of areas, and optional files.

    Attributes:
        folder: folder of the files.
        extras: names in `EXTRAS`:

            - "probabilities": the probability of each class.
            - "confidence": the largest probability.
            - "disagreement": the weighted fraction of ensemble members that predict a class other
              than the ensemble's.
            - "overlay": a picture of the map over the image.
        polygons: file format for the map's regions as polygons, a name in `POLYGON_FORMATS`; None
            for no polygons.
        min_region: a region of fewer pixels is merged into its largest neighboring region in the
            polygons.
        zones: polygons in which areas are computed; None for no zones.

    Raises:
        InputError: an extra or the polygon format is unknown, or `min_region` is less than 1.

    Example:
        >>> list(Outputs(Path("maps"), ["confidence"]).files(Path("a.tif")))
        ['classes', 'confidence', 'areas']
    """

    folder: Path
    extras: Sequence[str] = ()
    polygons: str | None = None
    min_region: int = MIN_REGION
    zones: "Zones | None" = None

    def __post_init__(self) -> None:
        if isinstance(self.extras, str) or not set(self.extras) <= set(EXTRAS):
            raise InputError(
                f"`extras` must be a list of names in {EXTRAS}. Received: {self.extras!r}."
            )
        if self.polygons not in (None, *POLYGON_FORMATS):
            raise InputError(
                f"`polygons` must be one of {POLYGON_FORMATS}, or None. "
                f"Received: {self.polygons!r}."
            )
        if self.min_region < 1:
            raise InputError(
                f"`min_region` must be 1 pixel or more. Received: min_region={self.min_region}."
            )

    def files(self, image: Path) -> dict[str, Path]:
        """Returns the paths of an image's output files.

        Args:
            image: path of the image.

        Returns:
            Paths by kind: "classes", "areas", "polygons", "zones", and the extras. The last entry
            is the file that is written last.
        """
        raster = "png" if image.suffix.lower() in PLAIN_SUFFIXES else "tif"
        endings = {"classes": raster} | dict.fromkeys(self.extras, raster)
        if "probabilities" in endings:
            endings["probabilities"] = "tif"  # a PNG has at most four bands
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
