"""Prediction of scenes on the workers of an Apache Beam runner.

A scene is divided into parts of several rows of tiles. The workers write one file per part, and
this process then assembles the maps from these files.
"""

import contextlib
import functools
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lcc_tf.errors import InputError
from lcc_tf.files import locked_folder
from lcc_tf.mapping.map_images import (
    RASTERS,
    MappedBlock,
    check_extras,
    check_scene,
    layers_of,
    map_blocks,
    map_fingerprint,
    scene_files,
)
from lcc_tf.mapping.outputs import Outputs
from lcc_tf.mapping.scene import open_scene
from lcc_tf.mapping.scene_reading import SceneReading
from lcc_tf.prediction.predictors import EnsemblePredictor
from lcc_tf.prediction.tiling import overlap_in_pixels, tile_origins
from tfds_deepglobe.beam import BeamRunner

# Rows of tiles per part. Each part, except the first part, also predicts the row above it. Larger
# parts repeat less work, smaller parts use more workers.
ROWS_PER_PART = 8
WORK_FOLDER = ".unfinished.beam_parts"  # folder in the output folder


@dataclass(frozen=True)
class Part:
    """Part of a scene.

    Attributes:
        image: image file.
        tile_rows: rows of tiles.
        fingerprint: result of `map_fingerprint` for the image.
    """

    image: Path
    tile_rows: range
    fingerprint: str


@contextlib.contextmanager
def beam_blocks(
    runner: BeamRunner,
    images: Sequence[Path],
    predictor: EnsemblePredictor,
    load: Callable[[], EnsemblePredictor],
    outputs: Outputs,
    *,
    reading: SceneReading | None = None,
    overlap: int | None = None,
) -> Iterator[dict[Path, Iterator[MappedBlock]]]:
    """Predicts images on the workers of a runner.

    The finished parts are in a folder inside the output folder. If the process is killed, the next
    call predicts only the missing parts. The folder is deleted after the maps are complete.

    Args:
        runner: runner with its options.
        images: image files. All workers must be able to read them.
        predictor: one or more networks, as `load` returns them.
        load: picklable function that loads the networks in a worker process.
        outputs: files to write for each image.
        reading: bands, value range and pixel size of the images.
        overlap: overlap of neighboring tiles, pixels; None for a quarter of a tile.

    Yields:
        Argument `blocks_of` of `map_images`.

    Raises:
        InputError: `overlap` or an extra is invalid, or another process maps to the same folder.
        BeamError: the runner failed.
    """
    check_extras(predictor, outputs)
    overlap = overlap_in_pixels(predictor.tile, overlap)
    folder = outputs.folder.absolute() / WORK_FOLDER
    with locked_folder(folder, "output"):
        parts: dict[Path, dict[Path, Part]] = {}
        faults: dict[Path, InputError] = {}
        for image in images:
            try:
                with open_scene(image, reading, predictor.bands) as scene:
                    check_scene(scene, outputs)
                    height = scene.grid.height
            except InputError as error:
                faults[image] = error
                continue
            num_rows = len(tile_origins(height, predictor.tile, overlap))
            fingerprint = map_fingerprint(image, predictor, outputs, reading, overlap)
            name = _name_of_parts(image, fingerprint, outputs)
            parts[image] = {
                folder / f"{name}-{start:05d}.npz": Part(
                    image, range(start, min(start + ROWS_PER_PART, num_rows)), fingerprint
                )
                for start in range(0, num_rows, ROWS_PER_PART)
            }
        files = {path: part for image in parts for path, part in parts[image].items()}
        write = _PartWriter(load, outputs, reading, overlap)
        faults_of_parts = runner.run(write, files, "predicting")
        current = functools.partial(
            map_fingerprint,
            predictor=predictor,
            outputs=outputs,
            reading=reading,
            overlap=overlap,
        )
        blocks_of = {image: _raise(fault) for image, fault in faults.items()}
        for image, of_image in parts.items():
            blocks_of[image] = _read_blocks(of_image, faults_of_parts, current)
        try:
            yield blocks_of
        except InputError:
            shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


class _PartWriter:
    """Function that a worker calls for each part. The networks are loaded once per process."""

    def __init__(
        self,
        load: Callable[[], EnsemblePredictor],
        outputs: Outputs,
        reading: SceneReading | None,
        overlap: int,
    ) -> None:
        from apache_beam.utils.shared import Shared

        self._load = load
        self._outputs = outputs
        self._reading = reading
        self._overlap = overlap
        self._shared = Shared()

    def __call__(self, part: Part, path: Path) -> None:
        """Predicts a part and writes its blocks to a file."""
        try:
            predictor = self._shared.acquire(self._load)
            arrays: dict[str, np.ndarray] = {}
            settings = self._outputs, self._reading, self._overlap
            _check_unchanged(part, map_fingerprint(part.image, predictor, *settings))
            with open_scene(part.image, self._reading, predictor.bands) as scene:
                layers = layers_of(scene, predictor.classes, self._outputs.files(part.image))
                blocks = map_blocks(scene, predictor, layers, self._overlap, part.tile_rows)
                for index, block in enumerate(blocks):
                    place = [block.rows.start, block.rows.stop]
                    place += [block.columns.start, block.columns.stop]
                    arrays[f"{index}/place"] = np.array(place)
                    arrays[f"{index}/valid"] = block.valid
                    arrays |= {f"{index}/{kind}": v for kind, v in block.values.items()}
        except (InputError, OSError):
            raise
        except Exception as error:
            # Only an InputError is a fault of the image.
            kind = MemoryError if isinstance(error, MemoryError) else InputError
            raise kind(f"{part.image} could not be mapped: {error!r}") from error
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)


def _name_of_parts(image: Path, fingerprint: str, outputs: Outputs) -> str:
    """Returns a name that changes if the blocks of an image can change."""
    kinds = [kind for kind in outputs.files(image) if kind in RASTERS]
    # The fingerprint contains the hash of only a sample of a large file.
    states = [file.stat() for file in scene_files(image)]
    times = [(state.st_size, state.st_mtime_ns) for state in states]
    text = f"{image.absolute()} {fingerprint} {times} {kinds} {ROWS_PER_PART}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _check_unchanged(part: Part, fingerprint: str) -> None:
    """Verifies that a part is predicted and used with the networks and the image of the command."""
    if fingerprint != part.fingerprint:
        raise InputError(
            f"{part.image} or the networks have changed after the command was started. Repeat the "
            "command."
        )


def _raise(error: InputError) -> Iterator[MappedBlock]:
    """Raises an error when the first block is read."""
    raise error
    yield


def _read_blocks(
    parts: Mapping[Path, Part], faults: Mapping[Path, str], fingerprint_of: Callable[[Path], str]
) -> Iterator[MappedBlock]:
    """Reads the blocks of an image from the files of its parts.

    Raises:
        InputError: a worker could not predict a part, or the image has changed.
    """
    for path in parts:
        if path in faults:
            raise InputError(faults[path])
    first = next(iter(parts.values()))
    _check_unchanged(first, fingerprint_of(first.image))
    for path in parts:
        with np.load(path) as arrays:
            names: dict[str, list[str]] = {}  # in the order in which the blocks were written
            for name in arrays.files:
                names.setdefault(name.split("/")[0], []).append(name)
            for block in names.values():
                values = {name.split("/")[1]: arrays[name] for name in block}
                top, bottom, left, right = values.pop("place").tolist()
                yield MappedBlock(
                    slice(top, bottom), slice(left, right), values.pop("valid"), values
                )
