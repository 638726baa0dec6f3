"""Checkpoints of a training, which stay usable after an interruption at any moment.

A checkpoint is a weights file that also contains the variables of the optimizer and the state of
the training. A training resumes from a single file. Weights and state therefore always match.

A phase is a group of consecutive epochs with the same trainable layers, see
`lcc_tf.training.phases`. In this module, "averages" are moving averages of the
weights, see `lcc_tf.training.optimizer`.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import keras

from lcc_tf.errors import InputError
from lcc_tf.files import check_free_space, complete_file, flush, link_or_copy
from lcc_tf.runs import BEST, check_checksum, load_weights, write_checksum
from lcc_tf.training.optimizer import averaging_optimizer

LAST = "last.weights.h5"
_STATE = "training_state"


@dataclass
class TrainingState:
    """State of a training between two epochs."""

    epoch: int = 0  # number of finished epochs
    phase: int = 0  # index of the newest phase, to which the optimizer's variables belong
    best_score: float = float("-inf")  # highest average of the scores of three epochs
    best_epoch: int = 0  # last of these epochs, counted from 1
    finished: bool = False  # True if early stopping has ended the training
    history: list[dict[str, float]] = field(default_factory=list)  # one dictionary per epoch

    def __post_init__(self) -> None:
        counts = (self.epoch, self.phase, self.best_epoch)
        if (
            not all(type(count) is int and count >= 0 for count in counts)
            or self.best_epoch > self.epoch
            or type(self.finished) is not bool
            or [row["epoch"] for row in self.history] != [*range(1, self.epoch + 1)]
        ):
            raise ValueError(f"the state of the training is impossible: {vars(self)}")


def save_checkpoint(folder: Path, model: keras.Model, state: TrainingState) -> None:
    """Writes `last.weights.h5`. If the newest epoch is the best, also writes `best.weights.h5`.

    Each file is first written under a temporary name. When the new file is complete on the disk, it
    replaces the old file in a single step.

    Args:
        folder: the run folder.
        model: model to save. If it is compiled, the file also contains the optimizer's variables.
        state: state of the training after the newest epoch.

    Raises:
        OSError: the disk is full.
    """
    optimizer = getattr(model, "optimizer", None)  # None if the model is not compiled
    variables = [*model.variables, *(optimizer.variables if optimizer else [])]
    check_free_space(folder / LAST, sum(variable.numpy().nbytes for variable in variables))
    with complete_file(folder / LAST) as unfinished:
        model.save_weights(unfinished)
        with h5py.File(unfinished, "a") as file:
            file[_STATE] = json.dumps(vars(state))
        write_checksum(unfinished)
        flush(unfinished)
        if state.best_epoch == state.epoch:
            link_or_copy(unfinished, folder / BEST)


def read_state(folder: Path) -> tuple[TrainingState, Path | None]:
    """Reads the state of a training from its run folder.

    Args:
        folder: the run folder.

    Returns:
        The state and the file that contains the state. The file is `last.weights.h5`. If
        `last.weights.h5` is missing or damaged, the file is `best.weights.h5`. If
        `best.weights.h5` is missing, the state has no best score. In both cases, a line is printed.
        If the folder has no weights file, the state is new and the file is None.

    Raises:
        InputError: all weights files in the folder are damaged.
    """
    faults = []
    for file in (folder / LAST, folder / BEST):
        try:
            if not file.exists():
                faults.append(f"{file.name} is missing")
                continue
            check_checksum(file)
            with h5py.File(file, "r") as content:
                state = TrainingState(**json.loads(content[_STATE][()]))
        except (OSError, KeyError, ValueError, TypeError) as error:
            faults.append(f"{file.name} is damaged ({' '.join(str(error).split())[:200]})")
        else:
            if file.name == LAST and state.best_epoch and not (folder / BEST).exists():
                state.best_score, state.best_epoch = float("-inf"), 0
                print(
                    f"warning: {folder}: {BEST} is missing. Copy it from the original folder. "
                    "Otherwise, the best of the following epochs replaces it."
                )
            if faults:
                print(
                    f"warning: {folder}: {faults[0]}. The training resumes from {file.name}, "
                    f"after epoch {state.epoch}."
                )
            return state, file
    if any("damaged" in fault for fault in faults):
        raise InputError(
            "The training cannot resume, because no weights file can be read. Received: "
            f"{folder}, in which {'; '.join(faults)}. Train in another `workdir`."
        )
    return TrainingState(), None


def restore(model: keras.Model, file: Path, *, with_optimizer: bool) -> None:
    """Loads a checkpoint into a model, to resume the training.

    Args:
        model: model that is compiled with `AveragingAdamW`.
        file: file that `save_checkpoint` wrote.
        with_optimizer: if True, also load the optimizer's variables. Use False if the file is from
            an earlier phase, because the optimizer of that phase had other variables.

    Raises:
        InputError: the file does not fit the model.
    """
    optimizer = averaging_optimizer(model)
    if with_optimizer:
        # In float16, `model.optimizer` is a `LossScaleOptimizer`, which has more variables.
        model.optimizer.build(model.trainable_variables)
        _check_optimizer(model, file)
        load_weights(model, file)
        # In the file, the averages are in the place of the weights, and the weights are in the
        # place of the averages. Swap them back.
        optimizer.swap_averages()
    else:
        load_weights(keras.Model(model.inputs, model.outputs), file)
        optimizer.start_averages()


def _check_optimizer(model: keras.Model, file: Path) -> None:
    """Verifies that a checkpoint contains all variables of the optimizer.

    Keras would load a checkpoint without these variables silently.

    Raises:
        InputError: variables are missing.
    """
    names: list[str] = []

    def add(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            names.append(name)

    with h5py.File(file, "r") as content:
        if "optimizer" in content:
            content["optimizer"].visititems(add)
    expected = len(model.optimizer.variables)
    if len(names) != expected:
        raise InputError(
            f"{file} must contain {expected} variables of the optimizer. Received: {len(names)}. "
            "The training cannot resume. Train in another `workdir`."
        )
