"""Input images of a mapping, and output files of each image."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lcc_tf.errors import InputError
from lcc_tf.files import check_no_file
from lcc_tf.mapping.area_statistics import Zones

EXTRAS = ("probabilities", "confidence", "disagreement", "overlay")
POLYGON_FORMATS = ("gpkg", "geojson")
MIN_REGION = 100  # pixels; 25 square meters at DeepGlobe's 0.5 m
PLAIN_SUFFIXES = (".jpg", ".jpeg", ".png")
SUFFIXES = (".tif", ".tiff", *PLAIN_SUFFIXES)


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
    zones: Zones | None = None

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


def find_images(inputs: Sequence[str], output: Path) -> list[Path]:
    """Finds the image files in files, folders and patterns, each once, in order.

    Args:
        inputs: files; folders, for the images directly in them; or patterns such as "a/*.tif".
        output: folder for the maps.

    Raises:
        InputError: an input matches no image; two images would get maps of the same name; or the
            maps would be written into a folder of images.
    """
    images: dict[Path, None] = {}
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            if path.resolve() == output.resolve():
                raise InputError(
                    f"Maps in {output} would become input images of the next call. Choose another "
                    "`output`."
                )
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        elif path.exists():
            found = [path]
        else:
            found = sorted(Path(name) for name in glob.glob(text, recursive=True))
        if not found:
            raise InputError(
                f"There is no image at {text!r}. Use files, folders with "
                f"{', '.join(SUFFIXES)}, or a pattern such as 'scenes/*.tif'."
            )
        images |= dict.fromkeys(found)
    by_stem: dict[str, Path] = {}
    for image in images:
        if (namesake := by_stem.setdefault(image.stem, image)) != image:
            raise InputError(
                f"{namesake} and {image} would get maps of the same name. Map them separately, "
                "with another `output` for each."
            )
    return list(images)


def plan(images: Sequence[Path], outputs: Outputs, *, resume: bool, overwrite: bool) -> list[Path]:
    """Returns the images that must be mapped.

    Args:
        images: all images.
        outputs: files that are written for each image.
        resume: skips images whose files all exist.
        overwrite: replaces files that exist.

    Raises:
        InputError: files exist, and neither `resume` nor `overwrite` is set; or the folder's path
            is a file.
    """
    check_no_file(outputs.folder)
    todo = []
    for image in images:
        files = outputs.files(image).values()
        existing = [file for file in files if file.exists()]
        if len(existing) == len(files) and resume:
            continue
        if existing and not (overwrite or resume):
            raise InputError(
                f"{existing[0]} already exists. Skip mapped images with `resume=True`, replace "
                "them with `overwrite=True`, or choose another `output`."
            )
        todo.append(image)
    return todo
