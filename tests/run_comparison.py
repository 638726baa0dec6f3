"""Comparison of two runs, bit for bit."""

from pathlib import Path

import h5py
import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lcc_tf.runs import BEST
from lcc_tf.training.checkpoints import read_state
from lcc_tf.training.history import HISTORY


def assert_equal_runs(folder: Path, other: Path) -> None:
    """Verifies that two finished runs have the same weights, history and event files.

    Only the durations of the epochs can differ.
    """
    for file, same in (
        (read_state(folder)[1], read_state(other)[1]),
        (folder / BEST, other / BEST),
    ):
        ours, theirs = arrays_of(file), arrays_of(same)
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    ours, theirs = (
        [{**row, "seconds": None} for row in read_state(path)[0].history]
        for path in (folder, other)
    )
    assert ours == theirs
    assert len((folder / HISTORY).read_text().splitlines()) == 1 + len(ours)
    assert scalars_of(folder) == scalars_of(other)
    assert {len(events) for events in scalars_of(folder).values()} == {len(ours)}


def arrays_of(file: Path) -> dict[str, np.ndarray]:
    """Returns all numeric arrays of an HDF5 file."""
    arrays = {}

    def add(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind != "O":
            arrays[name] = item[()]

    with h5py.File(file) as content:
        content.visititems(add)
    return arrays


def scalars_of(folder: Path) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """Returns all scores in the event files of a run, with their steps."""
    return {
        (split, tag): sorted(
            (event.step, tf.make_ndarray(event.tensor_proto).item())
            for event in events.Tensors(tag)
        )
        for split in ("train", "validation")
        for events in [EventAccumulator(str(folder / "tensorboard" / split)).Reload()]
        for tag in events.Tags()["tensors"]
    }
