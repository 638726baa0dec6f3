"""Checkpoints of a training, which stay usable after an interruption at any moment.

A weights file also contains the optimizer's variables and the training's state. A training resumes
from one file, so weights and state always match.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import keras

from lcc_tf.errors import InputError
from lcc_tf.files import flush, link_or_copy, unfinished_name
from lcc_tf.runs import BEST, load_weights
from lcc_tf.training.optimizer import averaging_optimizer

LAST = "last.weights.h5"
_STATE = "training_state"


@dataclass
class TrainingState:
    """State of a training between two epochs."""

    epoch: int = 0  # number of epochs done
    phase: int = 0  # index of the regime's newest phase; the optimizer's variables are from it
    best_score: float = float("-inf")
    best_epoch: int = 0  # counted from 1
    finished: bool = False  # early stopping has ended the training
    history: list[dict[str, float]] = field(default_factory=list)  # one row per epoch


def save_checkpoint(folder: Path, model: keras.Model, state: TrainingState) -> None:
    """Writes `last.weights.h5`, and `best.weights.h5` if the newest epoch is the best epoch.

    A new file replaces the old file in a single step, after it is complete on the disk.

    Args:
        folder: the run folder.
        model: model to save; if it is compiled, its optimizer's variables are saved too.
        state: state of the training after the newest epoch.
    """
    unfinished = unfinished_name(folder / LAST)
    try:
        model.save_weights(unfinished)
        with h5py.File(unfinished, "a") as file:
            file[_STATE] = json.dumps(vars(state))
        flush(unfinished)
        if state.best_epoch == state.epoch:
            link_or_copy(unfinished, folder / BEST)
        os.replace(unfinished, folder / LAST)
    finally:
        unfinished.unlink(missing_ok=True)


def read_state(folder: Path) -> tuple[TrainingState, Path | None]:
    """Reads the state of a run's training.

    Returns:
        The state and the file that contains it: `last.weights.h5`, or `best.weights.h5` if
        `last.weights.h5` is damaged. A new state and None if the folder has no weights file.

    Raises:
        InputError: all weights files are damaged.
    """
    damaged = []
    for file in (folder / LAST, folder / BEST):
        if not file.exists():
            continue
        try:
            with h5py.File(file, "r") as content:
                return TrainingState(**json.loads(content[_STATE][()])), file
        except (OSError, KeyError, ValueError, TypeError) as error:
            damaged.append(f"{file}: {error}")
    if damaged:
        raise InputError(
            "The training cannot resume, because no weights file can be read: "
            f"{'; '.join(damaged)}. Train in another `workdir`."
        )
    return TrainingState(), None


def restore(model: keras.Model, file: Path, *, with_optimizer: bool) -> None:
    """Loads a weights file into a model to train.

    Args:
        model: compiled with `AveragingAdamW`.
        file: a result of `save_checkpoint`.
        with_optimizer: load the optimizer's variables too. False if the file is from an earlier
            phase, whose optimizer had other variables.

    Raises:
        InputError: the file does not fit the model.
    """
    optimizer = averaging_optimizer(model)
    if with_optimizer:
        model.optimizer.build(model.trainable_variables)  # float16's wrapper has variables too
        load_weights(model, file)
        # In the file, the averages are the model's weights, and the weights are the averages.
        optimizer.swap_averages()
    else:
        load_weights(keras.Model(model.inputs, model.outputs), file)
        optimizer.start_averages()
