"""The checkpoints of a training, written so that an interruption at any moment leaves them usable.

Each weights file also holds the optimizer's variables and the training's state, so that a file is
all that is needed to go on, and weights and state cannot disagree.
"""

import csv
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import keras

from lcc_tf.errors import InputError
from lcc_tf.files import flush, link_or_copy, unfinished_name, write_atomically
from lcc_tf.runs import BEST, load_weights

LAST = "last.weights.h5"
HISTORY = "history.csv"
_STATE = "training_state"


@dataclass
class TrainingState:
    """Where a training is, after a whole number of epochs."""

    epoch: int = 0  # epochs done
    phase: int = 0  # of the regime, from 0; the optimizer's variables belong to it
    best_score: float = float("-inf")
    best_epoch: int = 0  # counted from 1
    finished: bool = False  # stopped early
    history: list[dict[str, float]] = field(default_factory=list)  # a row an epoch


def save_checkpoint(folder: Path, model: keras.Model, state: TrainingState) -> None:
    """Writes `last.weights.h5`; where the newest epoch is the best, `best.weights.h5` too.

    Each file replaces its predecessor in one step, when it is complete on the disk.

    Args:
        folder: of the run.
        model: compiled; its optimizer's variables are saved with it.
        state: of the training after the newest epoch.
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
    if state.history:
        write_history_table(folder / HISTORY, state.history)


def read_state(folder: Path) -> tuple[TrainingState, Path | None]:
    """Reads where a run's training is.

    Returns:
        The state and the weights file that it belongs to: `last.weights.h5`, or where that one is
        damaged `best.weights.h5`; a fresh state and None where there is neither.

    Raises:
        InputError: files are there, but none can be read.
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
            "The training cannot go on, since no weights file can be read: "
            f"{'; '.join(damaged)}. Train anew in another `--workdir`."
        )
    return TrainingState(), None


def restore(model: keras.Model, file: Path, *, with_optimizer: bool) -> None:
    """Loads weights, and if wanted the optimizer's variables, into a compiled model.

    Raises:
        InputError: the file does not fit the model.
    """
    if with_optimizer:
        model.optimizer.build(model.trainable_variables)
        load_weights(model, file)
    else:
        load_weights(keras.Model(model.inputs, model.outputs), file)


def write_history_table(file: Path, history: list[dict[str, float]]) -> None:
    """Writes a table with a row an epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[-1]))
    writer.writeheader()
    writer.writerows(history)
    write_atomically(file, text.getvalue().encode())
