"""A scene becomes a land-cover map and what goes with it, block by block."""

import contextlib
import glob
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rasterio.io import DatasetWriter
from tqdm import tqdm

from lcc_tf.areas import Areas, Zones, check_crs
from lcc_tf.atomic_files import write_atomically
from lcc_tf.inference import predict_blocks
from lcc_tf.members import SceneModel
from lcc_tf.polygons import write_polygons
from lcc_tf.raster import NODATA, Scene, new_raster, open_scene, read_map, window_of
from lcc_tf.visualization import save_overlay
from tfds_deepglobe.classes import ClassTable
from tfds_deepglobe.errors import InputError

# What a map can come with, and how its file ends where the image is a plain picture or not
EXTRAS = {
    "probabilities": (".tif", ".tif"),  # PNG has no more than four bands
    "confidence": (".png", ".tif"),
    "disagreement": (".png", ".tif"),
    "overlay": (".png", ".png"),
    "polygons": (".gpkg", ".gpkg"),
    "zones": (".csv", ".csv"),
}
MIN_PIXELS = 100  # of a polygon: 25 square metres at DeepGlobe's 0.5 m
SCALE = 254  # what a share of 1 is written as; 255 is a missing pixel
PLAIN_SUFFIXES = (".jpg", ".jpeg", ".png")
SUFFIXES = (".tif", ".tiff", *PLAIN_SUFFIXES)
RASTERS = ("classes", "probabilities", "confidence", "disagreement")
OVERLAY_SIDE = 2048  # longest side, pixels


def output_files(image: Path, folder: Path, extras: Sequence[str]) -> dict[str, Path]:
    """The files that a map consists of, by what they are; the last one is written last.

    Args:
        image: what is mapped.
        folder: of the maps.
        extras: keys of `EXTRAS`.
    """
    is_georeferenced = image.suffix.lower() not in PLAIN_SUFFIXES
    kinds = {"classes": (".png", ".tif")} | {extra: EXTRAS[extra] for extra in extras}
    kinds["areas"] = (".csv", ".csv")
    return {
        kind: folder / f"{image.stem}_{kind}{endings[is_georeferenced]}"
        for kind, endings in kinds.items()
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


def plan(
    images: Sequence[Path], folder: Path, extras: Sequence[str], *, resume: bool, overwrite: bool
) -> list[Path]:
    """The images that are still to be mapped.

    Args:
        images: all of them.
        folder: of the maps.
        extras: of `EXTRAS`.
        resume: leaves out those whose files are all there.
        overwrite: maps again what is there.

    Raises:
        InputError: maps are there already, and it is not said what to do with them.
    """
    todo = []
    for image in images:
        files = output_files(image, folder, extras).values()
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


def map_images(
    images: Sequence[Path],
    model: SceneModel,
    folder: Path,
    *,
    extras: Sequence[str] = (),
    zones: Zones | None = None,
    overlap: int | None = None,
    **reading: object,
) -> list[Path]:
    """Maps images one by one; one that cannot be mapped does not keep the others from it.

    Args:
        images: files.
        model: what predicts.
        folder: of the maps, made where it is missing.
        extras: see `map_scene`.
        zones: see `map_scene`.
        overlap: see `map_scene`.
        **reading: of `open_scene`.

    Returns:
        The images that could not be mapped; the reasons are printed.

    Raises:
        InputError: the only image cannot be mapped.
        OSError: the folder cannot be written, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left_out = []
    for image in images:
        try:
            with open_scene(image, **reading) as scene:
                if scene.stretch is not None:
                    ends = ", ".join(f"{low:.6g} to {high:.6g}" for low, high in scene.stretch.T)
                    tqdm.write(f"{image}: 0 to 255 are now red, green and blue of {ends}")
                map_scene(scene, model, folder, extras=extras, zones=zones, overlap=overlap)
        except InputError as error:
            if len(images) == 1:
                raise
            left_out.append(image)
            tqdm.write(f"error: {error}", file=sys.stderr)
    return left_out


def map_scene(
    scene: Scene,
    model: SceneModel,
    folder: Path,
    *,
    extras: Sequence[str] = (),
    zones: Zones | None = None,
    overlap: int | None = None,
) -> Areas:
    """Maps one scene; each file gets its name when it is complete.

    Args:
        scene: the image, open.
        model: what predicts.
        folder: of the maps; see `output_files`.
        extras: of `EXTRAS`: the probability of each class; the largest one; the share of the
            members, by their weights, that see another class; a picture of the map over the scene;
            its regions as polygons.
        zones: polygons to measure areas in, too.
        overlap: of tiles, pixels; None for a quarter of a tile.

    Returns:
        The areas of the classes.

    Raises:
        InputError: the file breaks off, tiles can't overlap so, or zones can't be laid over it.
        OSError: the disk is full.
    """
    classes = model.classes
    if zones:
        check_crs(scene.grid.crs, scene.path)
    files = output_files(scene.path, folder, [*extras, "zones"] if zones else extras)
    areas = Areas(scene.grid, classes.names)
    with contextlib.ExitStack() as stack:
        writers = {
            kind: stack.enter_context(_writer(kind, file, scene, classes))
            for kind, file in files.items()
            if kind in RASTERS
        }
        progress = stack.enter_context(
            tqdm(
                total=scene.grid.height * scene.grid.width,
                desc=scene.path.name,
                unit="px",
                unit_scale=True,
            )
        )
        for block in predict_blocks(
            model.predict, scene.read, scene.grid.size, tile=model.tile, overlap=overlap
        ):
            valid = scene.valid(block.rows, block.columns)
            values = _values(model, block.values, valid, writers)
            window = window_of(block.rows, block.columns)
            for kind, writer in writers.items():
                writer.write(np.moveaxis(values[kind], -1, 0), window=window)
            areas.add(values["classes"][valid][:, 0], block.rows, block.columns)
            progress.update(valid.size)
    if "overlay" in files:
        image, valid = scene.thumbnail(OVERLAY_SIDE)
        mask = read_map(files["classes"], valid.shape)
        save_overlay(image, mask, valid, classes, files["overlay"])
    if "polygons" in files:
        write_polygons(files["classes"], classes, files["polygons"], min_pixels=MIN_PIXELS)
    if zones:
        text = zones.areas(files["classes"], classes.names)
        write_atomically(files["zones"], text.encode())
    write_atomically(files["areas"], areas.to_csv().encode())
    return areas


def _writer(
    kind: str, file: Path, scene: Scene, classes: ClassTable
) -> contextlib.AbstractContextManager:
    """What writes one of a scene's rasters."""
    if kind == "classes":
        # The scene's own value goes on marking what is missing, unless it is a class.
        nodata = scene.nodata
        if nodata is None or not classes.num_classes <= nodata <= NODATA or nodata % 1:
            nodata = NODATA
        return new_raster(
            file, scene.grid, nodata=nodata if scene.has_gaps else None, classes=classes
        )
    names = classes.names if kind == "probabilities" else (kind,)
    nodata = NODATA if scene.has_gaps else None
    return new_raster(file, scene.grid, nodata=nodata, band_names=names, scale=1 / SCALE)


def _values(
    model: SceneModel,
    predicted: np.ndarray,
    valid: np.ndarray,
    writers: Mapping[str, DatasetWriter],
) -> dict[str, np.ndarray]:
    """A block of each raster, uint8 `(rows, columns, bands)`."""
    own = model.split(predicted)
    probabilities = model.average(own)
    class_id = probabilities.argmax(axis=-1).astype(np.uint8)[..., None]
    values = {"classes": class_id}
    shares = {"probabilities": probabilities, "confidence": probabilities.max(-1, keepdims=True)}
    if "disagreement" in writers:
        weights = np.array(model.average.weights) / sum(model.average.weights)
        shares["disagreement"] = sum(
            weight * (p.argmax(axis=-1)[..., None] != class_id)
            for weight, p in zip(weights, own, strict=True)
        )
    for kind in writers:
        if kind in shares:
            values[kind] = np.rint(SCALE * shares[kind]).astype(np.uint8)
        if writers[kind].nodata is not None:
            values[kind][~valid] = writers[kind].nodata
    return values
