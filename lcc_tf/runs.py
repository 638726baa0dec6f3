"""Runs: folders with the configuration, the weights and the history of a training.

A run folder contains these files:

    config.json           configuration, package versions, classes, fingerprint of the data set
    best.weights.h5       weights of the epoch with the best validation score
    checkpoints/          newest two checkpoints; an interrupted training resumes from them
    training_images.json  checksums of the images for training and validation
    history.csv           one row of losses and scores per epoch
    curves.png            curves of the losses and scores in `history.csv`
    tensorboard/          losses and scores for TensorBoard

The fingerprint of a data set is a hash of its content. Evaluation and export load
`best.weights.h5`. A training can be interrupted at any time. The weights and the history in the
folder can always be used afterwards.
"""

import dataclasses
import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import keras

from lcc_tf.arguments import check_types
from lcc_tf.bands import Bands
from lcc_tf.config import TrainConfig
from lcc_tf.errors import InputError
from lcc_tf.files import write_atomically
from lcc_tf.models import build_model, ensemble
from lcc_tf.models.weight_values import check_finite
from tfds_deepglobe.classes import ClassTable

CONFIG = "config.json"
BEST = "best.weights.h5"
MAX_NATIVE_SIZE = 10**6  # pixels
_KEYS = (  # of the file `CONFIG`
    *("config", "absolute_paths", "class_names", "palette", "dataset_fingerprint", "native_size"),
    *("bands", "num_parameters", "versions"),
)
_CHECKSUM = b"lcc_tf crc32 "  # bytes before the checksum at the end of a weights file
_PACKAGES = ("lcc_tf", "tensorflow", "keras", "tensorflow-datasets", "numpy")


@dataclass(frozen=True)
class Run:
    """A run folder and the content of its `config.json`.

    Attributes:
        path: path of the run folder.
        config: configuration of the training.
        classes: names and colors of the classes.
        fingerprint: fingerprint of the training data set; None for an imported model, whose
            training data set is unknown.
        native_size: side of the training images before they were resized, pixels.
        bands: bands of the images; None for RGB in [0, 255].

    Raises:
        InputError: a value has another type, or `native_size` is invalid.
    """

    path: Path
    config: TrainConfig
    classes: ClassTable
    fingerprint: str | None
    native_size: float
    bands: Bands | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 < self.native_size <= MAX_NATIVE_SIZE:
            raise InputError(
                f"`native_size` must be a number of pixels in (0, {MAX_NATIVE_SIZE}]. "
                f"Received: {self.native_size}."
            )

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self.path.resolve().name

    @property
    def scale(self) -> float:
        """Side of the network's input, divided by the side of the same area in the image.

        The scale is 1 for a run on crops. If whole images are downsampled, the scale is below 1.
        """
        if self.config.framing == "crops":
            return 1.0
        return self.config.image_size / self.native_size


def write_run(run: Run, num_parameters: int) -> None:
    """Creates a run folder and writes its `config.json`.

    Args:
        run: the run, whose `path` is the folder.
        num_parameters: number of parameters of the network. It is written for information only.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    content = {
        "config": run.config.to_json(),
        "absolute_paths": run.config.data.absolute_paths(),
        "class_names": run.classes.names,
        "palette": run.classes.palette,
        "dataset_fingerprint": run.fingerprint,
        "native_size": run.native_size,
        "bands": run.bands and run.bands.to_json(),
        "num_parameters": num_parameters,
        "versions": package_versions(),
    }
    write_atomically(run.path / CONFIG, json.dumps(content, indent=2).encode())


def package_versions() -> dict[str, str]:
    """Returns the versions of the packages that can change the results of a training."""
    from lcc_tf import __version__

    # A checkout of lcc_tf that is not installed has no version in the metadata.
    return {name: __version__ if name == "lcc_tf" else version(name) for name in _PACKAGES}


def read_run(path: Path) -> Run:
    """Reads the `config.json` of a run folder.

    Raises:
        InputError: the folder is not a run folder, or `config.json` is invalid.
    """
    file = path / CONFIG
    if not file.is_file():
        raise InputError(
            f"{path} is not a run folder, because it does not contain {CONFIG}. Choose a folder "
            "that train.py wrote, such as runs/unetpp."
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if unknown := sorted({*content} - {*_KEYS}):
            raise ValueError(f"this version of lcc_tf does not know the keys {unknown}")
        run = Run(
            path=path,
            config=TrainConfig.from_json(content["config"]),
            classes=ClassTable(
                tuple(content["class_names"]), tuple(tuple(rgb) for rgb in content["palette"])
            ),
            fingerprint=content["dataset_fingerprint"],
            native_size=content["native_size"],
            bands=Bands.from_json(content.get("bands")),
        )
        absolute = dict(content.get("absolute_paths", {}))
        data = run.config.data.with_existing_paths(absolute, run.fingerprint)
        return dataclasses.replace(run, config=dataclasses.replace(run.config, data=data))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        raise InputError(
            f"{file} cannot be read: {reason[:300].rstrip('.')}. Choose another run, or train this "
            "run again."
        ) from error


def read_runs(paths: Sequence[Path], root: Path) -> list[Run]:
    """Reads run folders. If `paths` is empty, reads all trained runs in `root`.

    Args:
        paths: run folders.
        root: folder that contains run folders. It is only used if `paths` is empty.

    Raises:
        InputError: a path is not a run folder or is repeated, or `root` contains no trained run.
    """
    resolved = [path.resolve() for path in paths]
    if repeated := [str(path) for path in paths if resolved.count(path.resolve()) > 1]:
        raise InputError(f"`runs` must contain each run only once. Received: {repeated}.")
    return [read_run(path) for path in paths] or find_runs(root)


def find_runs(root: Path) -> list[Run]:
    """Reads all run folders in a folder, and returns the trained runs sorted by name.

    Raises:
        InputError: the folder contains no trained run.
    """
    runs = [read_run(file.parent) for file in sorted(root.glob(f"*/{CONFIG}"))]
    trained = [run for run in runs if (run.path / BEST).is_file()]
    if not trained:
        raise InputError(
            f"{root} contains no trained run. Train a network with train.py, or choose run "
            "folders as `runs`."
        )
    return trained


def load_model(run: Run) -> keras.Model:
    """Builds the network of a run and loads its best weights.

    Returns:
        A Keras model. Its input is images, float32 `(batch, height, width, channels)`. The channels
        are RGB in [0, 255], or the original values of the run's bands. The output is logits,
        float32 `(batch, height, width, num_classes)`.

    Raises:
        InputError: the run has no weights, or the weights cannot be loaded.
    """
    file = run.path / BEST
    if not file.is_file():
        raise InputError(
            f"{run.path} does not contain {BEST}. The training has not finished an epoch, or the "
            "file was not copied with the folder. Continue the training, copy the file, or choose "
            "another run."
        )
    options = run.config.model_options() | ({"bands": run.bands} if run.bands else {})
    model = build_model(run.config.arch, run.classes.num_classes, encoder_weights=None, **options)
    load_weights(model, file)
    return keras.Model(model.inputs[0], model.outputs[0])


def load_ensemble(
    runs: Sequence[Run],
    weights: Sequence[float] | None = None,
    *,
    average: str = "probabilities",
) -> keras.Model:
    """Loads the networks of runs as one model, which averages their probabilities or logits.

    Args:
        runs: one run or more, all with the same classes.
        weights: one weight per run; None for equal weights.
        average: "probabilities" or "logits", the values that the model averages.

    Returns:
        A Keras model, see `lcc_tf.models.ensemble`. Its input is images, float32
        `(batch, height, width, 3)`, RGB in [0, 255]. Its output is probabilities, float32
        `(batch, height, width, num_classes)`. The images must have the finest resolution of all
        runs. The model downsamples the images for runs with a coarser resolution.

    Raises:
        InputError: the runs have different classes, a run has no weights, or `weights` is invalid.
    """
    check_same_classes(runs)
    finest = max(run.scale for run in runs)
    return ensemble(
        [load_model(run) for run in runs],
        weights,
        average=average,
        scales=[run.scale / finest for run in runs],
    )


def check_same_classes(runs: Sequence[Run]) -> None:
    """Checks that runs have the same classes.

    Only runs with the same classes can be averaged and compared.

    Raises:
        InputError: the runs have different classes.
    """
    if len({run.classes for run in runs}) > 1:
        raise InputError(
            "`runs` must have the same classes. Received: "
            + ", ".join(f"{run.path} with {list(run.classes.names)}" for run in runs)
            + ". Remove the runs with other classes."
        )


def write_checksum(file: Path) -> None:
    """Appends the CRC-32 of all bytes to an HDF5 file. HDF5 ignores bytes after its content."""
    with file.open("r+b", buffering=0) as content:
        checksum = _checksum(content, file.stat().st_size)
        content.write(_CHECKSUM + checksum.to_bytes(4))


def check_checksum(file: Path) -> None:
    """Verifies the checksum of an HDF5 file. Files of earlier versions have no checksum.

    The checksum is verified before HDF5 opens the file, because HDF5 can crash the process if bytes
    of its structures have changed.

    Raises:
        ValueError: the content has changed after it was written.
        OSError: the file cannot be read.
    """
    size = file.stat().st_size - len(_CHECKSUM) - 4
    with file.open("rb", buffering=0) as content:
        content.seek(max(size, 0))
        ending = content.read()
        content.seek(0)
        if not ending.startswith(_CHECKSUM):
            if _hdf5_size(content.read(48)) != file.stat().st_size:
                raise ValueError("the end of the file has changed")
            return  # a file of an earlier version
        if int.from_bytes(ending[len(_CHECKSUM) :]) != _checksum(content, size):
            raise ValueError("the checksum is wrong, because bytes of the file have changed")


def _hdf5_size(superblock: bytes) -> int:
    """Returns the size of an HDF5 file, without the bytes that were appended to the file.

    The size is the "end of file address" of the superblock, see section II.A of the HDF5 file
    format specification, version 3.0.
    """
    start = 40 if superblock[8:9] < b"\2" else 28
    return int.from_bytes(superblock[start : start + 8], "little")


def _checksum(content: io.FileIO, size: int) -> int:
    """Returns the CRC-32 of the next `size` bytes of an open file."""
    checksum, buffer = 0, memoryview(bytearray(1 << 20))
    while count := content.readinto(buffer[: min(size, len(buffer))]):
        checksum = zlib.crc32(buffer[:count], checksum)
        size -= count
    return checksum


def load_weights(model: keras.Model, file: Path) -> None:
    """Loads a weights file into a model.

    Raises:
        InputError: the weights in the file do not fit the model or are not finite, or the file
            cannot be read.
    """
    try:
        check_checksum(file)
        model.load_weights(file)
    except (OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"The weights in {file} cannot be loaded into the network that {CONFIG} describes: "
            f"{reason}. Choose another run, or train this run again."
        ) from error
    check_finite(((weight.path, weight.numpy()) for weight in model.weights), str(file))
