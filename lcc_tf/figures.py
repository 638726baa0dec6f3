"""Figures as PNG files.

There are three kinds of figures:

- curves: losses and scores of a training;
- panels: an image, its ground truth and predictions side by side;
- overlays: a half transparent class map over its image.
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lcc_tf.files import write_atomically
from tfds_deepglobe.classes import ClassTable

# Key: name of a score in `history.csv`. Value: title of the curve. The original PyTorch notebooks
# show the same scores, except the mean IoU.
CURVES = {
    "loss": "Loss",
    "mean_iou": "Mean IoU of the classes",
    "iou": "IoU",
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
}
VOID_GRAY = 128
# If a data set has at most this number of classes, a legend lists all classes. Therefore all
# figures of the data set have the same legend. If the data set has more classes, a legend lists
# only the classes in the figure.
MAX_LEGEND_CLASSES = 20


def save_curves(history: Sequence[dict[str, float]], file: Path, *, title: str) -> None:
    """Draws curves of the losses and scores in training and validation, as a PNG file.

    Args:
        history: one dictionary per epoch. Key: column name of `history.csv`. Value: the value.
        file: PNG file to write.
        title: title of the figure.
    """
    figure = Figure(figsize=(16, 7.5), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(2, 4).ravel()
    epochs = [row["epoch"] for row in history]
    for axis, (name, label) in zip(axes, CURVES.items(), strict=False):
        for key, split in ((name, "training"), (f"val_{name}", "validation")):
            axis.plot(epochs, [row[key] for row in history], marker=".", label=split)
        axis.set(title=label, xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    axes[-1].axis("off")
    axes[-1].legend(*axes[0].get_legend_handles_labels(), loc="center", fontsize="x-large")
    _save(figure, file)


def save_panel(
    image: np.ndarray,
    mask: np.ndarray,
    predictions: dict[str, np.ndarray],
    classes: ClassTable,
    file: Path,
    *,
    title: str,
) -> None:
    """Draws an image, its ground truth and predictions side by side, as a PNG file with a legend.

    Args:
        image: uint8 or float `(height, width, 3)`, RGB in [0, 255].
        mask: integer `(height, width)`, class ids of the ground truth; negative for void pixels,
            which are drawn gray.
        predictions: key: title of a prediction. Value: class ids of the prediction, integer
            `(height, width)`.
        classes: names and colors of the classes.
        file: PNG file to write.
        title: title of the figure.
    """
    classes = classes.displayed
    pictures = {"image": np.clip(np.rint(image), 0, 255).astype(np.uint8)}
    pictures["ground truth"] = classes.colorize(np.maximum(mask, 0))
    pictures["ground truth"][mask < 0] = VOID_GRAY
    pictures |= {name: classes.colorize(ids) for name, ids in predictions.items()}
    height, width = mask.shape
    # The width depends on the aspect ratio such that pictures of all aspect ratios have the same
    # area. The lower limit of the width prevents overlapping titles.
    figure_width = 4 * len(pictures) * float(np.clip(np.sqrt(width / height), 0.6, 1.6))
    picture_height = figure_width / len(pictures) * height / width
    figure = Figure(figsize=(figure_width, picture_height + 0.75), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(1, len(pictures))
    for axis, (name, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(name)
        axis.axis("off")
    present = np.unique(np.stack([mask, *predictions.values()]))
    _add_legend(figure, classes, present[present >= 0])
    _save(figure, file)


def save_overlay(
    image: np.ndarray, mask: np.ndarray, valid: np.ndarray, classes: ClassTable, file: Path
) -> None:
    """Draws a half transparent class map over its image, as a PNG file with a legend.

    Args:
        image: uint8 or float `(height, width, 3)`, RGB in [0, 255].
        mask: uint8 `(height, width)`, class ids.
        valid: bool `(height, width)`; False for nodata pixels, which are drawn white.
        classes: names and colors of the classes.
        file: PNG file to write.
    """
    classes = classes.displayed
    blended = np.full((*mask.shape, 3), 255, np.uint8)
    colors = classes.colorize(np.where(valid, mask, 0))
    blended[valid] = np.rint(image[valid] / 2 + colors[valid] / 2).clip(0, 255)
    height, width = mask.shape
    dpi = max(100, width / 10)  # for wide pictures, the legend is also larger
    inches = max(width / dpi, 9), height / dpi + 0.35
    figure = Figure(figsize=inches, dpi=dpi, layout="constrained")
    axis = figure.subplots()
    axis.imshow(blended, interpolation="nearest")
    axis.axis("off")
    _add_legend(figure, classes, np.unique(mask[valid]))
    _save(figure, file)


def _add_legend(figure: Figure, classes: ClassTable, present: np.ndarray) -> None:
    """Adds a legend of classes below a figure, and increases the height of the figure.

    Args:
        figure: figure, to which the function adds space for the legend.
        classes: names and colors of the classes.
        present: ids of the classes that are in the figure.
    """
    class_ids = range(classes.num_classes)
    if classes.num_classes > MAX_LEGEND_CLASSES:
        class_ids = present.tolist()
    patches = [
        Patch(
            facecolor=np.array(classes.palette[i]) / 255, edgecolor="black", label=classes.names[i]
        )
        for i in class_ids
    ]
    width, height = figure.get_size_inches()
    # Widths in inches: 0.7 for a color patch and its gap, 0.085 for a character of the font
    longest = max((len(classes.names[i]) for i in class_ids), default=0)
    columns = max(1, min(len(patches), int(width / (0.7 + 0.085 * longest))))
    rows = math.ceil(len(patches) / columns)
    figure.set_size_inches(width, height + 0.25 * rows)
    figure.legend(handles=patches, loc="outside lower center", ncols=columns)


def _save(figure: Figure, file: Path) -> None:
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    write_atomically(file, png.getvalue())
