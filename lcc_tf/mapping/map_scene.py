"""Land-cover maps of scenes, and the files that go with them, block by block."""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rasterio.io import DatasetWriter
from tqdm import tqdm

from lcc_tf.errors import InputError
from lcc_tf.figures import save_overlay
from lcc_tf.files import check_no_file, write_atomically
from lcc_tf.mapping.area_statistics import Areas, Zones, check_crs
from lcc_tf.mapping.grid import window_of
from lcc_tf.mapping.map_raster import NODATA, new_raster, read_map
from lcc_tf.mapping.outputs import MIN_REGION, Outputs
from lcc_tf.mapping.polygons import write_polygons
from lcc_tf.mapping.scene import Scene, check_reading, open_scene
from lcc_tf.prediction.predictors import EnsemblePredictor
from lcc_tf.prediction.tiling import overlap_in_pixels, predict_blocks
from tfds_deepglobe.classes import ClassTable
from tfds_deepglobe.errors import error_line

SCALE = 254  # value of a fraction of 1; 255 is nodata
RASTERS = ("classes", "probabilities", "confidence", "disagreement")
OVERLAY_SIDE = 2048  # longest side, pixels


def map_scene(
    model: keras.Model,
    scene: str | Path,
    output: str | Path,
    *,
    classes: ClassTable,
    tile: int = 512,
    overlap: int | None = None,
    tta: str = "none",
    extras: Sequence[str] = (),
    polygons: str | None = None,
    min_region: int = MIN_REGION,
    zones: str | Path | None = None,
    bands: Sequence[int] | None = None,
    scale: str | tuple[float, float] | None = None,
    resample_to: float | None = None,
    overwrite: bool = False,
) -> dict[str, Path]:
    """Maps the land cover of a scene of any size.

    The class map and a table of areas are always written. Rasters have the scene's grid,
    georeference and nodata pixels. Memory grows with the scene's width and not with its height.

    Args:
        model: from float32 `(batch, height, width, 3)`, RGB in [0, 255], to logits or probabilities
            `(batch, height, width, num_classes)`.
        scene: GeoTIFF, TIFF, JPEG or PNG file.
        output: folder for the files; it is created if it does not exist.
        classes: names and colors of the model's output channels, in their order.
        tile: side of the tiles, pixels; best the size that the model was trained on. It is rounded
            to a multiple of the model's stride.
        overlap: overlap of neighboring tiles, pixels; None for a quarter of a tile.
        tta: test-time augmentation: "none", "flip" (the mean over 4 flips) or "d4" (the mean over
            all 8 symmetries of the square).
        extras: optional files: "probabilities" of each class, "confidence" (the largest
            probability), "overlay" (a picture of the map over the image).
        polygons: format of the map's regions as polygons, "gpkg" or "geojson"; None to write no
            polygons.
        min_region: regions of fewer pixels join their largest neighboring region before they become
            polygons.
        zones: file of polygons (GeoPackage, GeoJSON, shapefile, ...) in which areas are computed
            too.
        bands: numbers of the red, green and blue band, from 1; None for the three bands of an image
            that has three.
        scale: values that become 0 and 255: "minmax", "percentile" (2 and 98 % of each band) or two
            numbers; None for unchanged values of 8-bit images, and "percentile" for all others.
        resample_to: pixel size at which the scene is read and mapped, meters; None for the scene's
            pixel size.
        overwrite: replaces files that exist.

    Returns:
        The written files by kind: "classes", "areas", "polygons", "zones", and the extras.

    Raises:
        InputError: an invalid argument, a scene that cannot be read, or a file that exists.
        OSError: the disk is full, or the folder cannot be written.

    Example:
        >>> model = lcc_tf.models.UNetPlusPlus(7, encoder="mobilenetv2", encoder_weights=None)
        >>> files = lcc_tf.map_scene(
        ...     model, "scene.tif", "maps", classes=lcc_tf.DEEPGLOBE_CLASSES, tile=256
        ... )
        >>> print(files["classes"], files["areas"])
        maps/scene_classes.tif maps/scene_areas.csv
    """
    scene = Path(scene)
    outputs = Outputs(
        Path(output),
        extras=extras,
        polygons=polygons,
        min_region=min_region,
        zones=Zones(Path(zones)) if zones is not None else None,
    )
    check_no_file(outputs.folder)
    existing = [file for file in outputs.files(scene).values() if file.exists()]
    if existing and not overwrite:
        raise InputError(
            f"{existing[0]} already exists. Replace the map with `overwrite=True`, or choose "
            "another `output`."
        )
    predictor = EnsemblePredictor.from_model(model, classes, tile=tile, tta=tta)
    map_images(
        [scene],
        predictor,
        outputs,
        overlap=overlap,
        bands=bands,
        scale=scale,
        resample_to=resample_to,
    )
    return outputs.files(scene)


def map_images(
    images: Sequence[Path],
    predictor: EnsemblePredictor,
    outputs: Outputs,
    *,
    overlap: int | None = None,
    **reading: Any,
) -> list[Path]:
    """Maps images one by one, and continues after an image that cannot be mapped.

    Args:
        images: image files.
        predictor: predicts the classes.
        outputs: files to write for each image; the folder is created if it does not exist.
        overlap: overlap of neighboring tiles, pixels; None for a quarter of a tile.
        **reading: arguments of `open_scene`.

    Returns:
        The images that could not be mapped; the reasons are printed.

    Raises:
        InputError: the only image cannot be mapped, an invalid argument, or "disagreement" is
            requested for a single network.
        OSError: the folder cannot be written, or the disk is full.
    """
    overlap = overlap_in_pixels(predictor.tile, overlap)
    check_reading(**reading)
    if "disagreement" in outputs.extras and len(predictor.members) < 2:
        raise InputError(
            "Disagreement needs two networks or more. Received: "
            f"{', '.join(member.name for member in predictor.members)}. Use more `runs`, or "
            "remove it from `extras`."
        )
    failed = []
    for image in tqdm(images, desc="all images", unit="image", disable=len(images) == 1):
        try:
            with open_scene(image, **reading) as scene:
                outputs.folder.mkdir(parents=True, exist_ok=True)
                if scene.stretch is not None:
                    ends = ", ".join(f"{low:.6g} to {high:.6g}" for low, high in scene.stretch.T)
                    tqdm.write(f"{image}: red, green and blue are scaled from {ends} to 0 to 255")
                write_map(scene, predictor, outputs, overlap=overlap)
        except InputError as error:
            if len(images) == 1:
                raise
            failed.append(image)
            tqdm.write(error_line(error), file=sys.stderr)
    return failed


def write_map(
    scene: Scene, predictor: EnsemblePredictor, outputs: Outputs, *, overlap: int | None = None
) -> None:
    """Maps one scene; each file appears only when it is complete.

    Args:
        scene: the open image.
        predictor: predicts the classes.
        outputs: files to write; the folder must exist.
        overlap: overlap of neighboring tiles, pixels; None for a quarter of a tile.

    Raises:
        InputError: the image file is truncated, an invalid overlap, or zones cannot be overlaid on
            the image.
        OSError: the disk is full.
    """
    classes = predictor.classes
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
                leave=None,  # removed when complete, if it is below the bar of all images
            )
        )
        for block in predict_blocks(
            predictor.predict, scene.read, scene.grid.size, tile=predictor.tile, overlap=overlap
        ):
            valid = scene.valid(block.rows, block.columns)
            values = _values(predictor, block.values, valid, writers)
            window = window_of(block.rows, block.columns)
            for kind, writer in writers.items():
                writer.write(np.moveaxis(values[kind], -1, 0), window=window)
            areas.add(values["classes"][valid][:, 0], block.rows, block.columns)
            progress.update(valid.size)
        # The areas mark a complete map, so an earlier map's areas are deleted before its rasters
        # are replaced.
        files["areas"].unlink(missing_ok=True)
    if "overlay" in files:
        image, valid = scene.thumbnail(OVERLAY_SIDE)
        mask, mapped = read_map(files["classes"], valid.shape)
        # The overviews of a scene can have other nodata pixels than those of the map.
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
    """Returns the writer of one of a scene's rasters."""
    if kind == "classes":
        # The map keeps the scene's nodata value, unless that value is a class.
        nodata = scene.nodata
        if nodata is None or not classes.num_classes <= nodata <= NODATA or nodata % 1:
            nodata = NODATA
        return new_raster(
            file, scene.grid, nodata=nodata if scene.has_nodata else None, classes=classes
        )
    names = classes.names if kind == "probabilities" else (kind,)
    nodata = NODATA if scene.has_nodata else None
    return new_raster(file, scene.grid, nodata=nodata, band_names=names, scale=1 / SCALE)


def _values(
    predictor: EnsemblePredictor,
    predicted: np.ndarray | None,
    valid: np.ndarray,
    writers: Mapping[str, DatasetWriter],
) -> dict[str, np.ndarray]:
    """Computes a block of each raster, uint8 `(rows, columns, bands)`."""
    if predicted is None:
        return {
            kind: np.full((*valid.shape, writer.count), writer.nodata, np.uint8)
            for kind, writer in writers.items()
        }
    members = predictor.split(predicted)
    probabilities = predictor.average(members)
    class_id = probabilities.argmax(axis=-1).astype(np.uint8)[..., None]
    values = {"classes": class_id}
    fractions = {"probabilities": probabilities, "confidence": probabilities.max(-1, keepdims=True)}
    if "disagreement" in writers:
        weights = np.array(predictor.average.weights) / sum(predictor.average.weights)
        fractions["disagreement"] = sum(
            weight * (p.argmax(axis=-1)[..., None] != class_id)
            for weight, p in zip(weights, members, strict=True)
        )
    for kind in writers:
        if kind in fractions:
            values[kind] = np.rint(SCALE * fractions[kind]).astype(np.uint8)
        if writers[kind].nodata is not None:
            values[kind][~valid] = writers[kind].nodata
    return values
