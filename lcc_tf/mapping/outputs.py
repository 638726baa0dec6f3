"""Names of the files that are written for each image.

An ensemble consists of several networks, which are called its members.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lcc_tf.errors import InputError

if TYPE_CHECKING:  # the command line imports the constants without rasterio
    from lcc_tf.mapping.zones import Zones

EXTRAS = ("probabilities", "confidence", "disagreement", "overlay")
POLYGON_FORMATS = ("gpkg", "geojson")
VECTOR_SUFFIXES = tuple(f".{name}" for name in POLYGON_FORMATS)
MIN_REGION = 100  # pixels; in DeepGlobe (pixel size 0.5 m), 100 pixels cover 25 square meters
PLAIN_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Outputs:
    """Files that are written for each image: a class map, a table of areas, and optional files.

    Attributes:
        folder: folder of the files.
        extras: names in `EXTRAS`:

            - "probabilities": the probability of each class.
            - "confidence": the largest probability.
            - "disagreement": the weighted fraction of ensemble members that predict another class
              than the map.
            - "overlay": a picture of the map over the image.
        polygons: format of the file that contains the regions of the map as polygons, a name in
            `POLYGON_FORMATS`; None to write no polygons.
        min_region: minimum number of pixels of a polygon. Smaller regions are merged into their
            largest neighboring region before the polygons are written.
        zones: polygons such as parcels, for a table with the area of each class in each polygon;
            None for no table.

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

    @property
    def settings(self) -> list[object]:
        """Settings that change the content of the files."""
        min_region = self.min_region if self.polygons else None
        return [min_region, self.zones.fingerprint if self.zones else None]

    def all_files(self, image: Path) -> list[Path]:
        """Returns the paths of all files that can be written for an image, with any settings."""
        every = [
            dataclasses.replace(self, extras=EXTRAS, polygons=polygons).files(image)
            for polygons in POLYGON_FORMATS
        ]
        zones = self.folder / f"{image.stem}_zones.csv"
        return list(dict.fromkeys([zones, *(file for files in every for file in files.values())]))

    def files(self, image: Path) -> dict[str, Path]:
        """Returns the paths of the output files for an image.

        Args:
            image: path of the image.

        Returns:
            Dictionary. Key: kind of a file. Value: path. The kinds are "classes", "areas",
            "polygons", "zones", and the names in `extras`. The last entry is the table of areas,
            which is written after all other files.
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


def sidecars(files: Sequence[Path]) -> list[Path]:
    """Returns the additional files of output files: styles for QGIS and metadata for GDAL.

    Args:
        files: output files, as `Outputs.files` returns them.
    """
    styled = [f for f in files if f.stem.endswith("_classes") or f.suffix in VECTOR_SUFFIXES]
    styles = [file.with_suffix(".qml") for file in styled]
    rasters = [file for file in files if file.suffix in (".tif", ".png")]
    return [*styles, *(file.with_name(f"{file.name}.aux.xml") for file in rasters)]
