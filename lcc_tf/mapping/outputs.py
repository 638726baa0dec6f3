"""Which files are mapped, and which files a map consists of."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lcc_tf.errors import InputError
from lcc_tf.files import check_no_file
from lcc_tf.mapping.area_statistics import Zones

EXTRAS = ("probabilities", "confidence", "disagreement", "overlay")
POLYGON_FORMATS = ("gpkg", "geojson")
MIN_REGION = 100  # pixels of a polygon: 25 square metres at DeepGlobe's 0.5 m
PLAIN_SUFFIXES = (".jpg", ".jpeg", ".png")
SUFFIXES = (".tif", ".tiff", *PLAIN_SUFFIXES)


@dataclass(frozen=True)
class Outputs:
    """What is written of each image, and where: the class map and the areas, and what is asked for.

    Attributes:
        folder: of the maps.
        extras: of `EXTRAS`: the probability of each class; the largest one; the share of the
            members, by their weights, that see another class; a picture of the map over the image.
        polygons: of `POLYGON_FORMATS`: the map's regions as polygons; None for none.
        min_region: regions of fewer pixels join their largest neighbour before they are polygons.
        zones: polygons to measure areas in, too.
    """

    folder: Path
    extras: Sequence[str] = ()
    polygons: str | None = None
    min_region: int = MIN_REGION
    zones: Zones | None = None

    def files(self, image: Path) -> dict[str, Path]:
        """The files of an image's map by what they are; the last one is written last."""
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


def find_images(inputs: Sequence[str], folder: Path) -> list[Path]:
    """The image files that files, folders and patterns mean, each once, in order.

    Args:
        inputs: a file; a folder, for the images directly in it; or a pattern such as "a/*.tif".
        folder: where the maps go.

    Raises:
        InputError: one of them means no image; two images have the same name but for folder and
            suffix, so that their maps would, too; maps would lie among the images of a folder.
    """
    images: dict[Path, None] = {}
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            if path.resolve() == folder.resolve():
                raise InputError(
                    f"Maps in {folder} would be images to map the next time. Choose another "
                    "`--output`."
                )
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        elif path.exists():
            found = [path]
        else:
            found = sorted(Path(name) for name in glob.glob(given, recursive=True))
        if not found:
            raise InputError(
                f"There is no image at {given!r}. Give files, folders that hold "
                f"{', '.join(SUFFIXES)}, or a pattern such as 'scenes/*.tif'."
            )
        images |= dict.fromkeys(found)
    by_stem: dict[str, Path] = {}
    for image in images:
        if (other := by_stem.setdefault(image.stem, image)) != image:
            raise InputError(
                f"{other} and {image} would give maps of the same name. Map them into folders of "
                "their own, one `--output` each."
            )
    return list(images)


def plan(images: Sequence[Path], outputs: Outputs, *, resume: bool, overwrite: bool) -> list[Path]:
    """The images that are still to be mapped.

    Args:
        images: all of them.
        outputs: what is written of each.
        resume: leaves out those whose files are all there.
        overwrite: maps again what is there.

    Raises:
        InputError: maps are there already, and it is not said what to do with them; or a file has
            the folder's name.
    """
    check_no_file(outputs.folder)
    todo = []
    for image in images:
        files = outputs.files(image).values()
        there = [file for file in files if file.exists()]
        if len(there) == len(files) and resume:
            continue
        if there and not (overwrite or resume):
            raise InputError(
                f"{there[0]} exists already, and nothing is overwritten unasked. `--resume` leaves "
                "out images that are mapped, `--overwrite` maps them again; or choose another "
                "`--output`."
            )
        todo.append(image)
    return todo
