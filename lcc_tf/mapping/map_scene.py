"""A scene becomes a land-cover map and what goes with it, block by block."""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rasterio.io import DatasetWriter
from tqdm import tqdm

from lcc_tf.errors import InputError
from lcc_tf.figures import save_overlay
from lcc_tf.files import write_atomically
from lcc_tf.mapping.area_statistics import Areas, check_crs
from lcc_tf.mapping.grid import window_of
from lcc_tf.mapping.map_raster import NODATA, new_raster, read_map
from lcc_tf.mapping.outputs import Outputs
from lcc_tf.mapping.polygons import write_polygons
from lcc_tf.mapping.scene import Scene, open_scene
from lcc_tf.prediction.predictors import EnsemblePredictor
from lcc_tf.prediction.tiling import overlap_in_pixels, predict_blocks
from tfds_deepglobe.classes import ClassTable
from tfds_deepglobe.errors import error_line

SCALE = 254  # what a share of 1 is written as; 255 is a missing pixel
RASTERS = ("classes", "probabilities", "confidence", "disagreement")
OVERLAY_SIDE = 2048  # longest side, pixels


def map_images(
    images: Sequence[Path],
    model: EnsemblePredictor,
    outputs: Outputs,
    *,
    overlap: int | None = None,
    **reading: object,
) -> list[Path]:
    """Maps images one by one; one that cannot be mapped does not keep the others from it.

    Args:
        images: files.
        model: what predicts.
        outputs: what is written of each; the folder is made where it is missing.
        overlap: of tiles, pixels; None for a quarter of a tile.
        **reading: of `open_scene`.

    Returns:
        The images that could not be mapped; the reasons are printed.

    Raises:
        InputError: the only image cannot be mapped, tiles can't overlap so, or one network has
            nobody to disagree with.
        OSError: the folder cannot be written, or the disk is full.
    """
    overlap = overlap_in_pixels(model.tile, overlap)
    if "disagreement" in outputs.extras and len(model.members) < 2:
        raise InputError(
            "Disagreement takes two networks or more. Received: "
            f"{', '.join(member.name for member in model.members)}. Give more `--runs`, or leave "
            "it out of `--extras`."
        )
    outputs.folder.mkdir(parents=True, exist_ok=True)
    left_out = []
    for image in tqdm(images, desc="all images", unit="image", disable=len(images) == 1):
        try:
            with open_scene(image, **reading) as scene:
                if scene.stretch is not None:
                    ends = ", ".join(f"{low:.6g} to {high:.6g}" for low, high in scene.stretch.T)
                    tqdm.write(f"{image}: 0 to 255 are now red, green and blue of {ends}")
                map_scene(scene, model, outputs, overlap=overlap)
        except InputError as error:
            if len(images) == 1:
                raise
            left_out.append(image)
            tqdm.write(error_line(error), file=sys.stderr)
    return left_out


def map_scene(
    scene: Scene, model: EnsemblePredictor, outputs: Outputs, *, overlap: int | None = None
) -> None:
    """Maps one scene; each file gets its name when it is complete.

    Args:
        scene: the image, open.
        model: what predicts.
        outputs: what is written; the folder is there.
        overlap: of tiles, pixels; None for a quarter of a tile.

    Raises:
        InputError: the file breaks off, tiles can't overlap so, or zones can't be laid over it.
        OSError: the disk is full.
    """
    classes = model.classes
    if outputs.zones:
        check_crs(scene.grid.crs, scene.path)
    files = outputs.files(scene.path)
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
                leave=None,  # below the bar of all images it vanishes when it is full
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
        # An earlier map's areas, which say that all of it is there, go before its first file does.
        files["areas"].unlink(missing_ok=True)
    if "overlay" in files:
        image, valid = scene.thumbnail(OVERLAY_SIDE)
        mask, mapped = read_map(files["classes"], valid.shape)
        # Overviews of the scene, which others made, can have other gaps than those of the map.
        save_overlay(image, mask, valid & mapped, classes, files["overlay"])
    if "polygons" in files:
        write_polygons(files["classes"], classes, files["polygons"], min_pixels=outputs.min_region)
    if outputs.zones:
        text = outputs.zones.areas(files["classes"], classes.names)
        write_atomically(files["zones"], text.encode())
    write_atomically(files["areas"], areas.to_csv().encode())


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
    model: EnsemblePredictor,
    predicted: np.ndarray | None,
    valid: np.ndarray,
    writers: Mapping[str, DatasetWriter],
) -> dict[str, np.ndarray]:
    """A block of each raster, uint8 `(rows, columns, bands)`."""
    if predicted is None:
        return {
            kind: np.full((*valid.shape, writer.count), writer.nodata, np.uint8)
            for kind, writer in writers.items()
        }
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
