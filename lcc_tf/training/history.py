"""History of a training: the scores of each epoch, as a table and as curves."""

import csv
import io
from pathlib import Path

from lcc_tf.figures import save_curves
from lcc_tf.files import write_atomically

HISTORY = "history.csv"
CURVES = "curves.png"


def with_original_scores(scores: dict[str, float], num_classes: int) -> dict[str, float]:
    """Adds accuracy, precision and recall, as the original PyTorch notebooks compute them.

    These scores follow from F1, because each pixel has a single label.
    `lcc_tf.confusion_matrix.micro_scores` explains the formulas.

    Args:
        scores: scores of an epoch. Key: name of a score. Value: the score. The keys "f1" and
            "val_f1" are required, with values in [0, 1].
        num_classes: number of classes.

    Returns:
        Dictionary of all scores, sorted by name.

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
    """Writes `history.csv` to a run folder, with one row per epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[-1]))
    writer.writeheader()
    writer.writerows(history)
    write_atomically(folder / HISTORY, text.getvalue().encode())


def write_history(folder: Path, history: list[dict[str, float]]) -> None:
    """Writes `history.csv` and `curves.png` to a run folder, if an epoch is finished."""
    if history:
        write_table(folder, history)
        save_curves(history, folder / CURVES, title=folder.name)
