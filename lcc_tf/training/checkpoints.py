"""Checkpoints of a training, which stay usable after an interruption at any moment.

A checkpoint is one HDF5 file in the folder `checkpoints` of a run. It contains the state of the
training and these arrays:

    weights     all weights of the network
    averages    moving averages of the weights, see `lcc_tf.training.optimizer`
    optimizer   step counter and moments of the optimizer
    metrics     sums from which the losses and scores of the current epoch are computed
    random      random states of the dropout layers

A training therefore resumes from a single file, and continues at the step at which the file was
written. HDF5 is used, because TensorFlow's own checkpoints consist of several files. Several files
cannot be replaced at the same moment.

A phase is a group of consecutive epochs with the same trainable layers, see
`lcc_tf.training.phases`.
"""

import json
import math
import os
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import h5py
import keras
import numpy as np
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.files import check_free_space, complete_file, flush, unfinished_name
from lcc_tf.models.layers import all_layers
from lcc_tf.runs import BEST, check_checksum, write_checksum
from lcc_tf.training.history import HISTORY
from lcc_tf.training.optimizer import averaging_optimizer

CHECKPOINTS = "checkpoints"
KEPT = 2  # number of checkpoints in a run folder; if the newest is damaged, the older is used
_STATE = "training_state"


@dataclass
class TrainingState:
    """State of a training between two steps."""

    epoch: int = 0  # number of finished epochs
    step: int = 0  # number of finished training steps of the current epoch
    validation_step: int = 0  # number of finished validation batches of the current epoch
    seconds: float = 0.0  # time that the current epoch has needed
    training_scores: dict[str, float] = field(default_factory=dict)  # empty before the validation
    phase: int = 0  # index of the phase to which the optimizer's variables belong
    best_score: float = float("-inf")  # highest average score of three consecutive epochs
    best_epoch: int = 0  # last epoch of this average, counted from 1
    finished: bool = False  # True if early stopping has ended the training
    skipped_steps: int = 0  # steps without an update, because a value was not finite
    history: list[dict[str, float]] = field(default_factory=list)  # one dictionary per epoch

    def __post_init__(self) -> None:
        counts = (self.epoch, self.step, self.validation_step, self.phase, self.best_epoch)
        if (
            not all(type(count) is int and count >= 0 for count in counts)
            or self.best_epoch > self.epoch
            or type(self.finished) is not bool
            or (self.validation_step and not self.training_scores)
            or [row["epoch"] for row in self.history] != [*range(1, self.epoch + 1)]
        ):
            raise ValueError(f"the state of the training is impossible: {vars(self)}")

    @property
    def position(self) -> str:
        """Position in the training in words, such as "after 3 epochs and 20 steps"."""
        epochs = f"{self.epoch} epoch{'s' if self.epoch != 1 else ''}"
        steps = f" and {self.step} step{'s' if self.step != 1 else ''}" if self.step else ""
        return f"after {epochs}{steps}"


def training_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns all variables that a training changes.

    Args:
        model: model that is compiled with `AveragingAdamW`.

    Returns:
        Dictionary. Key: name, such as "weights/00012.kernel" or "optimizer/00003". Value: variable.
        The keys contain numbers instead of layer names, because Keras can give a layer another name
        in another process.
    """
    weights = {id(weight): f"{i:05d}.{weight.name}" for i, weight in enumerate(model.weights)}
    pairs = averaging_optimizer(model).averages
    averages = {id(average) for _, average in pairs}
    groups = {
        "optimizer": [each for each in model.optimizer.variables if id(each) not in averages],
        "metrics": model.metrics_variables,
        "random": [
            layer.seed_generator.state
            for layer in all_layers(model)
            if isinstance(layer, keras.layers.Dropout)
        ],
    }
    return {
        **{f"weights/{weights[id(weight)]}": weight for weight in model.weights},
        **{f"averages/{weights[id(weight)]}": average for weight, average in pairs},
        **{
            f"{group}/{index:05d}": variable
            for group, variables in groups.items()
            for index, variable in enumerate(variables)
        },
    }


class WeightsFile:
    """The current weights of a model, which can be written to a Keras weights file later.

    Args:
        model: the model.
        file: path of the weights file.
    """

    def __init__(self, model: keras.Model, file: Path) -> None:
        # A compiled model would also save its optimizer.
        self._model = keras.Model(model.inputs, model.outputs)
        # These tensors keep their values when the variables change. They are in the memory of the
        # CPU, so that they need no memory of a GPU.
        with tf.device("CPU:0"):
            self._values = [
                (weight, tf.identity(tf.convert_to_tensor(weight)))
                for weight in self._model.weights
            ]
        self.file = file

    def write(self) -> None:
        """Writes the file, with a checksum.

        Raises:
            OSError: the disk is full.
        """
        sizes = (math.prod(value.shape) * value.dtype.size for _, value in self._values)
        check_free_space(self.file, sum(sizes))
        # In this scope, and only in this thread, the variables have the values of the tensors.
        with complete_file(self.file) as unfinished, keras.StatelessScope(self._values):
            self._model.save_weights(unfinished)
            write_checksum(unfinished)


def save_weights(model: keras.Model, file: Path) -> None:
    """Writes the weights of a model to a Keras weights file, with a checksum.

    Raises:
        OSError: the disk is full.
    """
    WeightsFile(model, file).write()


class CheckpointWriter:
    """Writes the checkpoints and the best weights of a run, and keeps the newest two checkpoints.

    Args:
        folder: the run folder.
        resumed: checkpoint from which the training resumes; None for a new training.
        is_chief: True if this worker writes the files. On several machines, only one worker is the
            chief.
    """

    def __init__(self, folder: Path, resumed: Path | None = None, *, is_chief: bool = True) -> None:
        self._is_chief = is_chief
        self._run_folder = folder
        self._inode = _inode(folder)
        self._folder = folder / CHECKPOINTS
        self._complete = [resumed] if resumed else []
        self._thread = futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: futures.Future | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Waits until the last checkpoint is written.

        If another error ends the block and the checkpoint cannot be written, a warning is printed.

        Raises:
            OSError: the files cannot be written, and no other error ends the block.
        """
        self._thread.shutdown()
        try:
            self.finish()
        except OSError as fault:
            if error is None:
                raise
            print(
                f"warning: The last checkpoint, or the best weights, could not be written: {fault}"
            )

    def has_its_folder(self) -> bool:
        """Returns False if the run folder was deleted, moved or replaced by another folder."""
        return self._inode is not None and _inode(self._run_folder) == self._inode

    def has_checkpoint(self) -> bool:
        """Returns True if the run folder contains a complete checkpoint."""
        return bool(self._complete) and self.has_its_folder()

    @property
    def is_writing(self) -> bool:
        """True if files are being written in the background."""
        return self._writing is not None and not self._writing.done()

    def write(
        self,
        model: keras.Model,
        state: TrainingState,
        *,
        wait: bool,
        best: WeightsFile | None = None,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Writes a checkpoint.

        The file is first written under a temporary name. When it is complete on the disk, it gets
        its final name, and older checkpoints are deleted.

        Args:
            model: model that is compiled with `AveragingAdamW`.
            state: state of the training.
            wait: if False, the files are written in the background, with the current values.
            best: new best weights, with the path `best_of_epoch`. When the checkpoint is complete,
                the weights file is renamed to `best.weights.h5`. If the training is killed before
                the checkpoint is complete, the earlier best weights are kept.
            then: function that the writing thread calls when the checkpoint is complete.

        Raises:
            OSError: the disk is too full to write these files, the previous checkpoint, or a file
                that `then` writes.
        """
        self.finish()
        # To read a metric, TensorFlow adds the values of all machines, and each worker must take
        # part. Therefore all workers read the arrays, not only the chief.
        # On a CPU, the arrays share the memory of the variables. TensorFlow copies values that are
        # still in use before it changes a variable: the copies are part of the next step.
        arrays = {
            name: np.asarray(tf.convert_to_tensor(variable))
            for name, variable in training_variables(model).items()
        }
        if self._is_chief:
            self._writing = self._thread.submit(
                self._write, arrays, json.dumps(vars(state)), best, then
            )
        if wait:
            self.finish()

    def raise_errors(self) -> None:
        """Raises an error if the last checkpoint or the best weights could not be written.

        While the files are still being written, this method does nothing.

        Raises:
            OSError: the disk is full, or the run folder was deleted, moved or replaced.
        """
        if not self.is_writing:
            self.finish()

    def finish(self) -> None:
        """Waits until the best weights and the last checkpoint are written.

        Raises:
            OSError: the disk is full, or the run folder was deleted, moved or replaced.
        """
        if writing := self._writing:
            # Reset `_writing` only after the wait. If Ctrl-C interrupts the wait, `__exit__` can
            # then still report errors.
            futures.wait([writing])
            self._writing = None
            writing.result()

    def _write(
        self,
        arrays: dict[str, np.ndarray],
        state: str,
        best: WeightsFile | None,
        then: Callable[[], None] | None,
    ) -> None:
        # Another training can use the same path after the folder was deleted.
        if not self.has_its_folder():
            raise OSError(
                f"The run folder {self._run_folder} was deleted, moved or replaced during the "
                "training. The newest checkpoint was not written. Train in another `workdir`."
            )
        if best:
            best.write()
            flush(self._run_folder)
        try:
            self._write_checkpoint(arrays, state)
        except BaseException:
            if best:
                best.file.unlink(missing_ok=True)
            raise
        flush(self._folder)
        if best:
            os.replace(best.file, self._run_folder / BEST)
        self._delete_old_files()
        if then:
            then()

    def _write_checkpoint(self, arrays: dict[str, np.ndarray], state: str) -> None:
        self._folder.mkdir(exist_ok=True)
        numbers = [int(path.stem) for path in self._folder.iterdir() if path.stem.isdecimal()]
        file = self._folder / f"{max(numbers, default=0) + 1:06d}.h5"
        check_free_space(file, sum(array.nbytes for array in arrays.values()))
        with complete_file(file) as unfinished:
            with h5py.File(unfinished, "w") as content:
                content[_STATE] = state
                _write_arrays(content, arrays)
            write_checksum(unfinished)
        self._complete = [*self._complete, file][-KEPT:]

    def _delete_old_files(self) -> None:
        """Deletes old and damaged checkpoints, and unfinished files of a killed process."""
        unfinished = [
            *self._folder.glob(".unfinished.*"),
            unfinished_name(self._run_folder / BEST),  # written by an earlier version
            *self._run_folder.glob(f".epoch_*.{BEST}"),
            *self._run_folder.glob(f".unfinished..epoch_*.{BEST}"),
        ]
        for file in (*_checkpoints_in(self._folder), *unfinished):
            if file not in self._complete:
                file.unlink(missing_ok=True)


def best_of_epoch(folder: Path, epoch: int) -> Path:
    """Returns the temporary path of the best weights of an epoch."""
    return folder / f".epoch_{epoch}.{BEST}"


def _inode(folder: Path) -> tuple[int, int] | None:
    """Returns the numbers of the device and of the inode of a folder; None if it does not exist.

    A deleted folder and a new folder can have the same inode. A training keeps its run folder open
    (`locked_folder`). While the folder is open, no other folder gets its inode.
    """
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _write_arrays(content: h5py.File, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays as `content[name] = array` would write them.

    A large network has about 2,000 arrays. For these, the functions in `h5py.h5d` need a third of
    the time. During this time, the training cannot run Python code.
    """
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    for name, array in arrays.items():
        shape = h5py.h5s.create_simple(array.shape)
        dtype = h5py.h5t.py_create(array.dtype, logical=True)
        dataset = h5py.h5d.create(content.id, name.encode(), dtype, shape, lcpl=links)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, array)


def _checkpoints_in(folder: Path) -> list[Path]:
    """Returns the checkpoints in a folder, from the newest to the oldest."""
    files = [file for file in folder.glob("*.h5") if file.stem.isdecimal() and file.is_file()]
    return sorted(files, key=lambda file: int(file.stem), reverse=True)


def read_state(folder: Path, *, is_chief: bool = True) -> tuple[TrainingState, Path | None]:
    """Reads the state of a training from its newest checkpoint.

    If a killed training has not renamed the best weights of this checkpoint, they are renamed.

    Args:
        folder: the run folder.
        is_chief: True if this worker writes the files.

    Returns:
        The state, and the checkpoint from which the state was read. If the newest checkpoint is
        damaged, the older checkpoint is used, and a line is printed. If `best.weights.h5` is
        missing, the state has no best score, and a line is printed. If the folder has no
        checkpoint, the state is new and the checkpoint is None.

    Raises:
        InputError: all checkpoints are damaged, or the run is from an earlier version.
        OSError: the best weights cannot be renamed.
    """
    faults = []
    for file in _checkpoints_in(folder / CHECKPOINTS):
        try:
            check_checksum(file)
            with h5py.File(file, "r") as content:
                state = TrainingState(**json.loads(content[_STATE][()]))
        except (OSError, KeyError, ValueError, TypeError) as error:
            faults.append(f"{file.name} is damaged ({' '.join(str(error).split())[:200]})")
            continue
        # If the training was killed after the checkpoint was complete, and before the best weights
        # were renamed, the chief renames them now.
        new_best = best_of_epoch(folder, state.best_epoch)
        if is_chief and new_best.exists():
            os.replace(new_best, folder / BEST)
        if state.best_epoch and not (new_best.exists() or (folder / BEST).exists()):
            state.best_score, state.best_epoch = float("-inf"), 0
            print(
                f"warning: {folder}: {BEST} is missing. Copy it from the original folder. "
                "Otherwise, the best of the following epochs replaces it."
            )
        if faults:
            print(
                f"warning: {folder}: {faults[0]}. The training resumes from {file.name}, "
                f"{state.position}."
            )
        return state, file
    if faults:
        raise InputError(
            "The training cannot resume, because no checkpoint can be read. Received: "
            f"{folder / CHECKPOINTS}, in which {'; '.join(faults)}. Train in another `workdir`."
        )
    if found := [name for name in (BEST, HISTORY) if (folder / name).exists()]:
        raise InputError(
            f"The training cannot resume, because {folder} contains {found[0]}, but no checkpoint. "
            f"Received: no file in {folder / CHECKPOINTS}. Copy the folder {CHECKPOINTS} "
            "from the original run, or train in another `workdir`. If an earlier version of lcc_tf "
            "wrote the run, resume with this version, which is in config.json."
        )
    return TrainingState(), None


def restore(model: keras.Model, file: Path, *, same_phase: bool) -> dict[str, np.ndarray]:
    """Loads a checkpoint into a model, to resume the training.

    Args:
        model: model that is compiled with `AveragingAdamW`.
        file: the checkpoint.
        same_phase: if True, also load the variables of the optimizer. If False, the file is from
            the end of an earlier phase, whose optimizer had other variables. The new phase then
            starts with the averages of the weights.

    Returns:
        The metrics of the checkpoint. They are not loaded, because the start of an epoch
        resets them.

    Raises:
        InputError: the checkpoint does not fit the model.
    """
    with h5py.File(file, "r") as content:
        arrays = {
            f"{group}/{name}": np.asarray(array[()])
            for group, members in content.items()
            if group != _STATE
            for name, array in members.items()
        }
    if not same_phase:
        arrays |= {
            name.replace("averages/", "weights/"): array
            for name, array in arrays.items()
            if name.startswith("averages/")
        }
    groups = ("weights/", "averages/", "optimizer/", "random/") if same_phase else ("weights/",)
    expected = {
        name: variable
        for name, variable in training_variables(model).items()
        if name.startswith(groups)
    }
    received = {name: array.shape for name, array in arrays.items() if name.startswith(groups)}
    if received != {name: tuple(variable.shape) for name, variable in expected.items()}:
        raise InputError(
            f"{file} does not fit the network of the run. Received: {len(received)} arrays; "
            f"expected: {len(expected)} arrays with the shapes of the network and its optimizer. "
            "The training cannot resume. Train in another `workdir`."
        )
    for name, variable in expected.items():
        variable.assign(arrays[name])
    if not same_phase:
        averaging_optimizer(model).start_averages()
    return {name: array for name, array in arrays.items() if name.startswith("metrics/")}
