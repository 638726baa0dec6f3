"""Event files for TensorBoard, which contain each epoch exactly once."""

import contextlib
from pathlib import Path

import tensorflow as tf

from lcc_tf.files import check_no_file

# Key: name of a folder. Value: prefix of the scores in this folder, in the history of the training.
SPLITS = {"train": "", "validation": "val_"}


class EventFiles:
    """Event files of a run, in the folder `tensorboard`.

    `keras.callbacks.TensorBoard` is not used. It writes with a delay of up to two minutes, so that
    a killed training loses epochs. A resumed training can write an epoch twice.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        for split in SPLITS:
            check_no_file(folder / "tensorboard" / split, "workdir")
        self._folders = {split: folder / "tensorboard" / split for split in SPLITS}
        self._written = {split: _events_in(folder) for split, folder in self._folders.items()}
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def write(self, history: list[dict[str, float]]) -> None:
        """Writes the scores that the event files do not contain yet.

        Args:
            history: one dictionary per epoch. Keys: "epoch" and the names of the scores. Values:
                numbers; "epoch" is counted from 1. In the event files, the score "val_loss" of
                epoch 1 is "epoch_loss" of step 0 in the folder `validation`.
        """
        for row in history:
            for name, value in row.items():
                split = "validation" if name.startswith("val_") else "train"
                event = (f"epoch_{name.removeprefix(SPLITS[split])}", row["epoch"] - 1)
                if name not in ("epoch", "seconds") and event not in self._written[split]:
                    if split not in self._writers:  # the writer creates a file
                        folder = str(self._folders[split])
                        self._writers[split] = tf.summary.create_file_writer(folder)
                    with self._writers[split].as_default():
                        tf.summary.scalar(event[0], value, step=event[1])
                    self._written[split].add(event)
        for writer in self._writers.values():
            writer.flush()


def _events_in(folder: Path) -> set[tuple[str, int]]:
    """Returns the names and steps of all scores in the event files of a folder."""
    events = set()
    for file in filter(Path.is_file, folder.glob("events.out.tfevents.*")):
        # A killed process can leave a truncated record at the end of a file.
        with contextlib.suppress(tf.errors.DataLossError):
            for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
                event = tf.compat.v1.Event.FromString(record)
                events |= {(value.tag, event.step) for value in event.summary.value}
    return events
