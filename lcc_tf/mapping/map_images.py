"""Class maps of images, tables of areas, and optional files such as polygons.

The rasters are written block by block, and therefore images can have any size. An ensemble consists
of several networks, which are called its members.
"""

import contextlib
import dataclasses
import hashlib
import math
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from lcc_tf.bands import as_rgb
from lcc_tf.errors import InputError
from lcc_tf.figures import save_overlay
from lcc_tf.files import sampled_hash, write_atomically
from lcc_tf.mapping.area_statistics import Areas
from lcc_tf.mapping.geodesy import has_areas
from lcc_tf.mapping.grid import window_of
from lcc_tf.mapping.input_images import orientation_line
from lcc_tf.mapping.map_raster import (
    NODATA,
    files_of,
    is_raster,
    new_raster,
    read_map,
    read_tags,
)
from lcc_tf.mapping.outputs import Outputs, sidecars
from lcc_tf.mapping.polygons import write_polygons
from lcc_tf.mapping.scene import Scene, open_scene
from lcc_tf.mapping.scene_reading import SceneReading
from lcc_tf.mapping.zones import check_crs
from lcc_tf.prediction.predictors import EnsemblePredictor
from lcc_tf.prediction.tiling import Block, overlap_in_pixels, predict_blocks
from tfds_deepglobe.classes import ClassTable
from tfds_deepglobe.errors import error_line

SCALE = 254  # value that is stored for the fraction 1; the nodata value is 255
RASTERS = ("classes", "probabilities", "confidence", "disagreement")
OVERLAY_SIDE = 2048  # maximum height and width of the overlay, pixels
# Metadata of class maps: hash of the network and the settings, and names of the files of the map
MAP_TAG = "LCC_TF_MAP"
FILES_TAG = "LCC_TF_FILES"
SEPARATOR = "/"  # between names of files, which cannot contain this character


class MappedBlock(NamedTuple):
    """Rectangular part of a map.

    Attributes:
        rows: rows of the part in the image.
        columns: columns of the part in the image.
        valid: bool `(rows, columns)`, False for nodata pixels.
        values: key: kind of a raster. Value: its values, uint8 `(rows, columns, bands)`.
    """

    rows: slice
    columns: slice
    valid: np.ndarray
    values: Mapping[str, np.ndarray]


def map_images(
    images: Sequence[Path],
    predictor: EnsemblePredictor,
    outputs: Outputs,
    *,
    reading: SceneReading | None = None,
    overlap: int | None = None,
    verbose: int = 1,
    error_text: Callable[[Exception], str] = error_line,
    blocks_of: Mapping[Path, Iterable[MappedBlock]] | None = None,
) -> list[Path]:
    """Maps images. If one of several images cannot be mapped, the other images are still mapped.

    Args:
        images: image files.
        predictor: one or more networks that predict the classes.
        outputs: files to write for each image; the folder is created if it does not exist.
        reading: bands, value range and pixel size of the images; None for the defaults of
            `SceneReading`.
        overlap: overlap of neighboring tiles, pixels; None for a quarter of a tile.
        verbose: 1 to show progress bars with the remaining time, 0 to show only errors.
        error_text: function that formats the errors of single images as one line.
        blocks_of: key: image. Value: result of `map_blocks` from other processes. None to predict
            the images here.

    Returns:
        The images that could not be mapped. An error message is printed for each of these images.
        An unexpected error is printed with its traceback.

    Raises:
        InputError: one of these reasons:

            - `images` contains only one image, and this image cannot be mapped.
            - `overlap` is invalid.
            - `outputs.extras` contains "disagreement", but `predictor` has only one network.
        OSError: the folder is not writable, or the disk is full.
    """
    overlap = overlap_in_pixels(predictor.tile, overlap)
    check_extras(predictor, outputs)
    if verbose and (line := orientation_line(images)):
        tqdm.write(line)
    failed = []
    hidden = not verbose or len(images) == 1
    for image in tqdm(images, desc="all images", unit="image", disable=hidden):
        try:
            with open_scene(image, reading, predictor.bands) as scene:
                outputs.folder.mkdir(parents=True, exist_ok=True)
                for note in scene.notes if verbose else ():
                    tqdm.write(f"{image}: {note}")
                if verbose and scene.stretch is not None:
                    ends = "], [".join(f"{low:.6g}, {high:.6g}" for low, high in scene.stretch.T)
                    tqdm.write(f"{image}: red, green and blue are scaled from [{ends}] to [0, 255]")
                fingerprint = map_fingerprint(image, predictor, outputs, reading, overlap)
                write_map(
                    scene,
                    predictor,
                    outputs,
                    overlap=overlap,
                    fingerprint=fingerprint,
                    verbose=verbose,
                    blocks=None if blocks_of is None else blocks_of[image],
                )
        except InputError as error:
            if len(images) == 1:
                raise
            failed.append(image)
            tqdm.write(error_text(error), file=sys.stderr)
        except OSError:  # such as a full disk, which affects all images
            raise
        except Exception:
            # A defect of this package must not prevent the maps of all other images.
            if len(images) == 1:
                raise
            failed.append(image)
            tqdm.write(
                f"{traceback.format_exc()}error: {image} could not be mapped, because of "
                "the defect above. Please report it.",
                file=sys.stderr,
            )
    return failed


def check_extras(predictor: EnsemblePredictor, outputs: Outputs) -> None:
    """Verifies that the networks can write the extra files.

    Raises:
        InputError: `outputs.extras` contains "disagreement", but `predictor` has only one network.
    """
    if "disagreement" in outputs.extras and len(predictor.members) < 2:
        raise InputError(
            "`extras` can contain 'disagreement' only for two networks or more. Received: "
            f"{', '.join(member.name for member in predictor.members)}. Use more networks, "
            "or remove 'disagreement'."
        )


def scene_files(image: Path) -> list[Path]:
    """Returns the files that define a scene. A file inside a zip is missing.

    A `.vrt` file refers to other images. The `.aux.xml` file can contain the meaning of the bands.
    Overviews (`.ovr`) are copies of the scene in lower resolutions, and maps do not use them.
    """
    first = image, image.with_name(f"{image.name}.aux.xml")
    files = dict.fromkeys([*first, *files_of(image)])
    return [file for file in files if file.is_file() and file.suffix != ".ovr"]


def map_fingerprint(
    image: Path,
    predictor: EnsemblePredictor,
    outputs: Outputs,
    reading: SceneReading | None,
    overlap: int | None,
) -> str:
    """Hashes the network, the settings and the image file from which a map is made.

    The fingerprint consists of two hashes with a "-" between them. The first hash contains
    everything that changes the classes. The second hash contains the settings of `outputs`.

    Args:
        image: image file.
        predictor: one or more networks that predict the classes.
        outputs: files that are written for the image.
        reading: bands, value range and pixel size; None for the defaults of `SceneReading`.
        overlap: overlap of neighboring tiles, pixels; None for a quarter of a tile.
    """
    settings = [
        predictor.fingerprint,
        overlap_in_pixels(predictor.tile, overlap),
        [str(value) for value in dataclasses.astuple(reading or SceneReading())],
        [sampled_hash(file) for file in scene_files(image)],
    ]
    hashes = (hashlib.sha256(repr(part).encode()) for part in (settings, outputs.settings))
    return "-".join(part.hexdigest()[:16] for part in hashes)


def is_mapped(
    image: Path,
    predictor: EnsemblePredictor,
    outputs: Outputs,
    reading: SceneReading | None = None,
    overlap: int | None = None,
) -> bool:
    """Returns True if the map of an image is complete and has the expected fingerprint.

    The arguments are the arguments of `map_fingerprint`.
    """
    files = outputs.files(image)
    if not all(file.exists() for file in files.values()):
        return False
    expected = map_fingerprint(image, predictor, outputs, reading, overlap)
    return read_tags(files["classes"]).get(MAP_TAG) == expected


def check_earlier_maps(
    images: Sequence[Path],
    predictor: EnsemblePredictor,
    outputs: Outputs,
    reading: SceneReading | None = None,
    overlap: int | None = None,
) -> None:
    """Verifies that earlier maps were made with the same network and settings as new maps.

    The arguments are the arguments of `map_fingerprint`. Complete maps of earlier versions of this
    package have no fingerprint. A remark is printed for these maps.

    Raises:
        InputError: one of these reasons:

            - A map was made with another network, with other settings or from another image.
            - A map is not complete, and a file that would be replaced is possibly not from this
              package.
    """
    unknown = []
    for image in images:
        files = outputs.files(image)
        existing = {kind: file for kind, file in files.items() if file.exists()}
        is_complete = len(existing) == len(files)
        tags = {kind: read_tags(file) for kind, file in existing.items() if kind in RASTERS}
        class_map = tags.get("classes", {})
        if is_complete and MAP_TAG not in class_map:
            if not is_raster(files["classes"]):
                raise InputError(
                    f"`resume` would keep {files['classes']}, which cannot be read. The file is "
                    "possibly damaged. Delete the file, or use `overwrite=True`."
                )
            unknown.append(files["classes"])
            continue
        for kind, file in existing.items():
            is_listed = file.name in class_map.get(FILES_TAG, "").split(SEPARATOR)
            if not is_listed and MAP_TAG not in tags.get(kind, {}):
                raise InputError(
                    f"`resume` would replace {file}, which is possibly not part of an earlier map "
                    f"of {image}. Delete the file, use `overwrite=True`, or choose another "
                    "`output`."
                )
        if "classes" not in tags:
            continue
        expected = map_fingerprint(image, predictor, outputs, reading, overlap)
        # A file is missing if the earlier call was interrupted, or if it had other outputs.
        end = None if is_complete else expected.index("-")
        if class_map[MAP_TAG][:end] != expected[:end]:
            raise InputError(
                f"`resume` needs earlier maps of the same network. Received: {files['classes']}, "
                "which was made with another network, with other settings or from another version "
                f"of {image}. Replace all maps with `overwrite=True`, or choose another `output`."
            )
    if unknown:
        tqdm.write(
            f"{len(unknown)} maps are kept, such as {unknown[0]}, although their network is unknown"
        )


def write_map(
    scene: Scene,
    predictor: EnsemblePredictor,
    outputs: Outputs,
    *,
    overlap: int | None = None,
    fingerprint: str = "",
    verbose: int = 1,
    blocks: Iterable[MappedBlock] | None = None,
) -> None:
    """Maps a scene. Each output file is created under its final name when it is complete.

    Args:
        scene: open image.
        predictor: one or more networks that predict the classes.
        outputs: files to write; the folder must exist.
        overlap: overlap of neighboring tiles, pixels; None for a quarter of a tile.
        fingerprint: result of `map_fingerprint`, which is stored in the class map.
        verbose: 1 to show a progress bar with the remaining time, 0 to show nothing.
        blocks: result of `map_blocks` from other processes; None to predict the scene here.

    Raises:
        InputError: one of these reasons:

            - The image file is truncated.
            - `overlap` is invalid.
            - `outputs` contains zones, but the image has no coordinate system.
            - `outputs` contains GeoJSON polygons, but the position of the image is unknown.
            - The folder contains a file with the name of a file of the map, but the earlier map
              does not list this file.
        OSError: the disk is full.
    """
    classes = predictor.classes
    files = outputs.files(scene.path)
    stale = check_scene(scene, outputs)
    names = SEPARATOR.join(file.name for file in files.values())
    tags = {MAP_TAG: fingerprint, FILES_TAG: names} if fingerprint else {}
    areas = Areas(scene.grid, classes.names)
    layers = layers_of(scene, classes, files)
    with contextlib.ExitStack() as stack:
        writers = {
            kind: stack.enter_context(
                new_raster(
                    files[kind],
                    scene.grid,
                    nodata=layer.nodata,
                    classes=layer.classes,
                    band_names=layer.band_names,
                    scale=layer.scale,
                    tags=tags,
                )
            )
            for kind, layer in layers.items()
        }
        progress = stack.enter_context(
            tqdm(
                total=scene.grid.height * scene.grid.width,
                desc=scene.path.name,
                unit="px",
                unit_scale=True,
                # None: the completed bar remains visible, unless the bar "all images" is above it.
                leave=None,
                disable=not verbose,
            )
        )
        if blocks is None:
            blocks = map_blocks(scene, predictor, layers, overlap)
        num_pixels = 0
        for block in blocks:
            window = window_of(block.rows, block.columns)
            for kind, writer in writers.items():
                writer.write(np.moveaxis(block.values[kind], -1, 0), window=window)
            areas.add(block.values["classes"][..., 0], block.valid, block.rows, block.columns)
            progress.update(block.valid.size)
            num_pixels += block.valid.size
        if num_pixels != math.prod(scene.grid.size):
            raise InputError(
                f"{scene.path} has changed during the prediction. Received: predictions for "
                f"{num_pixels} of {math.prod(scene.grid.size)} pixels. Repeat the command."
            )
        # The table of areas is written last. If it exists, all files of the map are complete.
        # Therefore the old table is deleted before old rasters are replaced.
        files["areas"].unlink(missing_ok=True)
        for file in stale:
            file.unlink(missing_ok=True)
    if "overlay" in files:
        image, valid = scene.thumbnail(OVERLAY_SIDE)
        mask, mapped = read_map(files["classes"], valid.shape)
        # Overviews of the scene and overviews of the map can have different nodata pixels.
        save_overlay(
            as_rgb(image, predictor.bands), mask, valid & mapped, classes, files["overlay"]
        )
    if "polygons" in files:
        write_polygons(files["classes"], classes, files["polygons"], min_pixels=outputs.min_region)
    if outputs.zones:
        text, warning = outputs.zones.areas(files["classes"], classes.names)
        write_atomically(files["zones"], text.encode())
        if verbose and warning:
            tqdm.write(warning)
    write_atomically(files["areas"], areas.to_csv().encode())
    if verbose and stale:
        tqdm.write(
            f"{scene.path}: deleted from the earlier map: {', '.join(f.name for f in stale)}"
        )
    if verbose and not areas.pixels.any():
        tqdm.write(f"warning: {scene.path}: all pixels are nodata, and the map is empty")


def check_scene(scene: Scene, outputs: Outputs) -> list[Path]:
    """Verifies that the files of a map can be written, before the scene is predicted.

    Returns:
        The files of the earlier map that the new map does not replace.

    Raises:
        InputError: see `write_map`.
    """
    if outputs.zones:
        check_crs(scene.grid.crs, scene.path)
    if outputs.polygons == "geojson" and not has_areas(scene.grid.crs):
        raise InputError(
            "`polygons='geojson'` needs an image with a known position, because GeoJSON contains "
            f"longitudes and latitudes. Received: {scene.path}, which has no coordinate system or "
            "a local coordinate system. Use 'gpkg', or georeference the image with `gdalwarp`."
        )
    return _stale_files(scene.path, outputs)


def _stale_files(image: Path, outputs: Outputs) -> list[Path]:
    """Returns the files of an image's earlier map, without the files that the new map replaces.

    Raises:
        InputError: a file has the name of such a file, but the earlier map does not list it.
    """
    files = outputs.files(image)
    stale = [file for file in outputs.all_files(image) if file.exists()]
    stale = [file for file in stale if file not in files.values()]
    own = read_tags(files["classes"]).get(FILES_TAG, "").split(SEPARATOR) if stale else []
    if foreign := [file for file in stale if file.name not in own]:
        raise InputError(
            f"{foreign[0]} would remain beside the new map of {image}. It is not known whether the "
            "file belongs to an earlier map. Delete the file, use options that write it again, or "
            "choose another `output`."
        )
    return stale + [file for file in sidecars(stale) if file.exists()]


@dataclasses.dataclass(frozen=True)
class Layer:
    """Raster of a map.

    Attributes:
        band_names: one description per band.
        nodata: nodata value; None for a raster without nodata pixels.
        scale: factor that converts stored values to real values.
        classes: class names and colors of a class map; None for other rasters.
    """

    band_names: Sequence[str]
    nodata: int | None
    scale: float = 1
    classes: ClassTable | None = None


def layers_of(scene: Scene, classes: ClassTable, kinds: Collection[str]) -> dict[str, Layer]:
    """Returns the rasters of a map, in the order of `kinds`. Other files are skipped."""
    return {kind: _layer(kind, scene, classes) for kind in kinds if kind in RASTERS}


def _layer(kind: str, scene: Scene, classes: ClassTable) -> Layer:
    if kind == "classes":
        # The map has the nodata value of the scene, if this value is a uint8 and not a class id.
        nodata = scene.nodata
        if nodata is None or not classes.num_classes <= nodata <= NODATA or nodata % 1:
            nodata = NODATA
        nodata = int(nodata) if scene.has_nodata else None
        return Layer(("class",), nodata, classes=classes)
    names = classes.names if kind == "probabilities" else (kind,)
    return Layer(names, NODATA if scene.has_nodata else None, 1 / SCALE)


def map_blocks(
    scene: Scene,
    predictor: EnsemblePredictor,
    layers: Mapping[str, Layer],
    overlap: int | None,
    tile_rows: range | None = None,
) -> Iterator[MappedBlock]:
    """Predicts a scene and yields the values of its rasters, part by part.

    Args:
        scene: open image.
        predictor: one or more networks that predict the classes.
        layers: key: kind of a raster. Value: the raster.
        overlap: overlap of neighboring tiles, pixels; None for a quarter of a tile.
        tile_rows: consecutive rows of tiles; None for all rows.
    """
    # In the network, nodata pixels have the smallest value of each band, as in the training.
    fill = np.array(predictor.bands.ranges)[:, 0] if predictor.bands else 0
    for block in predict_blocks(
        predictor.predict,
        scene.read,
        scene.grid.size,
        tile=predictor.tile,
        overlap=overlap,
        fill=fill,
        tile_rows=tile_rows,
    ):
        values = _values(predictor, block, layers)
        yield MappedBlock(block.rows, block.columns, block.valid, values)


def _values(
    predictor: EnsemblePredictor, block: Block, layers: Mapping[str, Layer]
) -> dict[str, np.ndarray]:
    """Computes the values that each raster stores for a block.

    Args:
        predictor: one or more networks that predicted the block.
        block: predicted part of the scene.
        layers: key: kind of a raster. Value: the raster.

    Returns:
        Dictionary. Key: kind of a raster. Value: values, uint8 `(rows, columns, bands)`.
    """
    if block.values is None:
        return {
            kind: np.full((*block.valid.shape, len(layer.band_names)), layer.nodata, np.uint8)
            for kind, layer in layers.items()
        }
    members = predictor.split(block.values)
    probabilities = predictor.average(members)
    class_id = probabilities.argmax(axis=-1).astype(np.uint8)[..., None]
    values = {"classes": class_id}
    fractions = {"probabilities": probabilities, "confidence": probabilities.max(-1, keepdims=True)}
    if "disagreement" in layers:
        weights = np.array(predictor.average.weights) / sum(predictor.average.weights)
        fractions["disagreement"] = sum(
            weight * (p.argmax(axis=-1)[..., None] != class_id)
            for weight, p in zip(weights, members, strict=True)
        )
    for kind, layer in layers.items():
        if kind in fractions:
            values[kind] = np.rint(SCALE * fractions[kind]).astype(np.uint8)
        if layer.nodata is not None:
            values[kind][~block.valid] = layer.nodata
    return values
