"""What a run folder holds, written so that an interruption at any moment leaves it usable.

    config.json           the configuration, package versions, classes, the data set's fingerprint
    best.weights.h5       the epoch with the best validation score; evaluation and export load it
    last.weights.h5       the newest epoch; training goes on from it
    history.csv           a row an epoch
    curves.png            the same as a picture
    tensorboard/          the same for TensorBoard

`lcc_tf.training.checkpoints` writes the weights and the history.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import keras

from lcc_tf.config import TrainConfig
from lcc_tf.errors import InputError
from lcc_tf.files import write_atomically
from lcc_tf.models import build_model, ensemble
from tfds_deepglobe.classes import ClassTable

CONFIG = "config.json"
BEST = "best.weights.h5"
PACKAGES = ("lcc_tf", "tensorflow", "keras", "tensorflow-datasets", "numpy")


@dataclass(frozen=True)
class Run:
    """A run folder's `config.json`."""

    path: Path
    config: TrainConfig
    classes: ClassTable
    fingerprint: str | None  # of the data set it was trained on; None: imported, not known
    native_size: float  # side of its training images before any resizing, pixels

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def scale(self) -> float:
        """Pixels of the network's images for a pixel of the data set's, a side."""
        if self.config.framing == "crops":
            return 1.0
        return self.config.image_size / self.native_size


def write_run(run: Run, num_parameters: int) -> None:
    """Makes a run folder and writes its `config.json`.

    Args:
        run: what to write, and where.
        num_parameters: of the model, for the record.
    """
    from lcc_tf import __version__

    run.path.mkdir(parents=True, exist_ok=True)
    content = {
        "config": run.config.to_json(),
        "class_names": run.classes.names,
        "palette": run.classes.palette,
        "dataset_fingerprint": run.fingerprint,
        "native_size": run.native_size,
        "num_parameters": num_parameters,
        "versions": {name: __version__ if name == "lcc_tf" else version(name) for name in PACKAGES},
    }
    write_atomically(run.path / CONFIG, json.dumps(content, indent=2).encode())


def read_run(path: Path) -> Run:
    """Reads a run folder's `config.json`.

    Raises:
        InputError: it is not a run folder, or its configuration cannot be read.
    """
    file = path / CONFIG
    if not file.is_file():
        raise InputError(
            f"{path} is not a run folder: it has no {CONFIG}. Train one with "
            f"`python train.py --arch unetpp --workdir {path}`."
        )
    try:
        content = json.loads(file.read_text())
        return Run(
            path=path,
            config=TrainConfig.from_json(content["config"]),
            classes=ClassTable(
                tuple(content["class_names"]), tuple(tuple(rgb) for rgb in content["palette"])
            ),
            fingerprint=content["dataset_fingerprint"],
            native_size=content["native_size"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error


def find_runs(root: Path) -> list[Run]:
    """All runs below a folder that have weights to be used, by name.

    Raises:
        InputError: there is none.
    """
    runs = [read_run(file.parent) for file in sorted(root.glob(f"*/{CONFIG}"))]
    trained = [run for run in runs if (run.path / BEST).is_file()]
    if not trained:
        raise InputError(
            f"There is no trained run in {root}. Train one with `python train.py --arch unetpp`, "
            "or name run folders with `--runs DIR ...`."
        )
    return trained


def load_model(run: Run) -> keras.Model:
    """Builds a run's network with its best weights.

    Returns:
        A model from float32 images, RGB in [0, 255], to float32 logits.

    Raises:
        InputError: there are no weights, or they cannot be loaded.
    """
    file = run.path / BEST
    if not file.is_file():
        raise InputError(f"{run.path} has no {BEST}: its training has not finished an epoch yet.")
    options = run.config.model_options()
    model = build_model(run.config.arch, run.classes.num_classes, encoder_weights=None, **options)
    load_weights(model, file)
    return keras.Model(model.inputs[0], model.outputs[0])


def load_ensemble(
    runs: Sequence[Run],
    weights: Sequence[float] | None = None,
    *,
    average: str = "probabilities",
) -> keras.Model:
    """Loads the ensemble of several runs; that of a single run gives its own probabilities.

    Args:
        runs: at least one, all with the same classes.
        weights: one a run; None for equal ones.
        average: "probabilities" or "logits".

    Returns:
        A model from float32 images, RGB in [0, 255], to float32 probabilities, as
        `lcc_tf.models.ensemble` makes it. Its images have the resolution of the run that works at
        the finest one; the others see them at the share of it that they were trained at.

    Raises:
        InputError: the runs differ in their classes, one has no weights, or weights of members
            that can't be used.
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
    """Checks that runs can be averaged or compared.

    Raises:
        InputError: they differ in their classes.
    """
    if len({run.classes for run in runs}) > 1:
        raise InputError(
            "The runs differ in their classes: "
            + ", ".join(f"{run.path} {run.classes.names}" for run in runs)
            + ". Name runs of the same classes by `--runs`."
        )


def load_weights(model: keras.Model, file: Path) -> None:
    """Loads a weights file into a model.

    Raises:
        InputError: the file does not fit the model.
    """
    try:
        model.load_weights(file)
    except (OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"The weights in {file} cannot be loaded: {reason}") from error
