"""History of a training: its columns, its table and its curves."""

import csv
import io
from pathlib import Path

from lcc_tf.figures import save_curves
from lcc_tf.files import write_atomically

HISTORY = "history.csv"
CURVES = "curves.png"


def with_original_scores(scores: dict[str, float], num_classes: int) -> dict[str, float]:
    """Adds the original's accuracy, precision and recall, which follow from its F1.

    `lcc_tf.confusion_matrix.micro_scores` explains why, for one label per pixel.

    Args:
        scores: scores of an epoch by name, with "f1" and "val_f1", in [0, 1].
        num_classes: number of classes.

    Returns:
        All scores, sorted by name.

    Example:
        >>> with_original_scores({"f1": 0.65, "val_f1": 0.3}, num_classes=7)["accuracy"]
        0.9
    """
    derived = {}
    for split in ("", "val_"):
        f1 = scores[f"{split}f1"]
        derived[f"{split}accuracy"] = 1 - 2 * (1 - f1) / num_classes
        derived[f"{split}precision"] = derived[f"{split}recall"] = f1
    return dict(sorted((scores | derived).items()))


def write_table(folder: Path, history: list[dict[str, float]]) -> None:
    """Writes a run's `history.csv`, one row per epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[-1]))
    writer.writeheader()
    writer.writerows(history)
    write_atomically(folder / HISTORY, text.getvalue().encode())


def write_history(folder: Path, history: list[dict[str, float]]) -> None:
    """Writes a run's `history.csv` and `curves.png`, if the run has an epoch."""
    if history:
        write_table(folder, history)
        save_curves(history, folder / CURVES, title=folder.name)
