"""Runs and a split -> confusion matrices -> scores, by a named protocol."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from lcc_tf.atomic_files import write_atomically
from lcc_tf.checkpoints import Run, load_ensemble
from lcc_tf.color_baseline import ColorBaseline
from lcc_tf.data.dataset import class_table, prepare_dataset
from lcc_tf.data.pipeline import evaluation_batches, split_size
from lcc_tf.losses import Dice
from lcc_tf.metrics import confusion_matrix, iou_per_class, mean_iou, micro_scores, pixel_accuracy
from lcc_tf.visualization import save_panel
from tfds_deepglobe.classes import ClassTable
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.prepare import load

ENSEMBLE = "ensemble"
COLOR_BASELINE = "color_baseline"
BATCH_SIZE = 7  # the original's; the Dice loss of protocol `seed` is taken over such batches
PANELS = 6

# What the numbers of protocol `seed` are, in the order of the printed table.
DEFINITIONS = {
    "accuracy": "(tp + tn) / all, pooled over the one-versus-rest problems of all classes of an "
    "image, averaged over images; equals 1 - 2 (1 - pixel accuracy) / number of classes",
    "f1": "2 tp / (2 tp + fp + fn), pooled over the classes of an image, averaged over images; "
    "equals the pixel accuracy, since each pixel has one label",
    "precision": "tp / (tp + fp), pooled and averaged as f1, and equal to it",
    "recall": "tp / (tp + fn), pooled and averaged as f1, and equal to it",
    "image_iou": "tp / (tp + fp + fn), pooled over the classes of an image, averaged over images; "
    "the original's IoU",
    "loss": f"multi-class Dice loss of the probabilities over batches of {BATCH_SIZE} images, "
    "averaged over images; a class that a batch's truth lacks adds 0",
    "pixel_accuracy": "share of all pixels of the split whose class is right",
    "mean_iou": "mean of `iou` over the classes that occur in truth or prediction",
    "iou": "tp / (tp + fp + fn) of each class, from one confusion matrix over all images; null for "
    "a class that occurs in neither truth nor prediction",
    "confusion_matrix": "pixels by true class (row) and predicted class (column), over all images",
}
TABLE = {
    "accuracy": "accuracy",
    "f1": "F1 = precision = recall",
    "image_iou": "IoU",
    "loss": "loss",
    "pixel_accuracy": "pixel accuracy",
    "mean_iou": "mean IoU",
}


@dataclass(frozen=True)
class Evaluation:
    """Scores of several predictors on one split."""

    protocol: str
    split: str
    image_size: int
    num_images: int
    classes: ClassTable
    scores: dict[str, dict]  # by the predictor's name: members, ensemble, colour baseline
    weights: dict[str, float] | None  # of the ensemble's members; None without an ensemble

    def to_json(self) -> dict:
        """The content of `metrics.json`; a score that is not defined is null."""
        scores = {name: _json_scores(values) for name, values in self.scores.items()}
        content = {
            "protocol": self.protocol,
            "split": self.split,
            "image_size": self.image_size,
            "num_images": self.num_images,
            "class_names": list(self.classes.names),
            "members": {
                name: values
                for name, values in scores.items()
                if name not in (ENSEMBLE, COLOR_BASELINE)
            },
            "definitions": DEFINITIONS,
        }
        if self.weights is not None:
            content |= {"ensemble": scores[ENSEMBLE], "member_weights": self.weights}
        if COLOR_BASELINE in scores:
            content[COLOR_BASELINE] = scores[COLOR_BASELINE]
        return content


def open_dataset(runs: Sequence[Run], data: str | None = None) -> tfds.core.DatasetBuilder:
    """Opens the data set that all runs were trained on, or another one with the same classes.

    Args:
        runs: that shall be scored.
        data: folder or zip of another raw archive, or "demo"; None for the runs' own.

    Returns:
        The prepared data set.

    Raises:
        InputError: the runs differ in their data sets or classes, or the data can't be had.
    """
    for what in ("fingerprint", "classes"):
        if len({getattr(run, what) for run in runs}) > 1 and (data is None or what == "classes"):
            raise InputError(
                f"The runs were trained on data sets that differ in their {what}: "
                + ", ".join(f"{run.path} ({run.config.data.data})" for run in runs)
                + ". What one is tested on, another may have seen in training: name runs of one "
                "data set by `--runs`."
            )
    config = runs[0].config.data
    if data is not None:
        config = replace(config, data=data, split_files=None)  # lists name the runs' own images
    else:
        try:
            return load(config.cache_dir, runs[0].fingerprint)
        except InputError:
            print(f"no prepared data set in {config.cache_dir}; preparing it from {config.data}")
    builder = prepare_dataset(**asdict(config))
    if class_table(builder) != runs[0].classes:
        raise InputError(
            "The data set has other classes than the runs. "
            f"Received: {class_table(builder).names}, expected: {runs[0].classes.names}."
        )
    if data is None and builder.info.metadata["fingerprint"] != runs[0].fingerprint:
        raise InputError(
            f"The archive {config.data} has changed since the runs were trained, and with it the "
            "split: test images of now may be training images of then. Bring it back, or name the "
            "data to test on knowingly by `--data`."
        )
    return builder


def check_runs(runs: Sequence[Run]) -> None:
    """Checks, before any long work, that runs can be scored side by side.

    Raises:
        InputError: they differ in their image size, or their names can't be told apart.
    """
    sizes = {run.name: run.config.image_size for run in runs}
    if len(set(sizes.values())) > 1:
        raise InputError(
            f"The runs were trained at different image sizes: {sizes}. Name runs of one size by "
            "`--runs`."
        )
    if len(sizes) < len(runs):
        raise InputError(
            f"Two run folders have the same name: {[str(run.path) for run in runs]}. Rename one."
        )
    if reserved := {ENSEMBLE, COLOR_BASELINE} & set(sizes):
        raise InputError(f"A run can't be named {reserved.pop()!r}. Rename its folder.")


def evaluate(
    runs: Sequence[Run],
    builder: tfds.core.DatasetBuilder,
    *,
    split: str = "test",
    with_ensemble: bool = True,
    member_weights: Sequence[float] | None = None,
    with_color_baseline: bool = False,
    panels: Path | None = None,
) -> Evaluation:
    """Scores runs, and their ensemble, by protocol `seed`: images resized to the training size.

    Args:
        runs: at least one, all of one image size.
        builder: a prepared data set with the runs' classes.
        split: "train", "validation" or "test".
        with_ensemble: also score the mean of the runs' probabilities.
        member_weights: of the ensemble, one a run; None for equal ones.
        with_color_baseline: also score a classifier of single pixels' colours, fitted on "train".
        panels: folder for pictures of the first images with truth and prediction; None for none.

    Returns:
        The scores.

    Raises:
        InputError: the runs differ in their image size, the split is empty, a run has no weights.
    """
    check_runs(runs)
    num_images = split_size(builder, split)
    classes = runs[0].classes
    image_size = runs[0].config.image_size
    if member_weights and not with_ensemble:
        raise InputError("Weights of members make sense with `--ensemble` alone.")
    model = load_ensemble(runs, member_weights)
    names = [run.name for run in runs]
    outputs = [model.get_layer(f"member_{i}_probabilities").output for i in range(len(runs))]
    if with_ensemble:
        names.append(ENSEMBLE)
        outputs.append(model.output)
    # A list of one output would come back as the output itself.
    model = keras.Model(model.inputs[0], {str(i): x for i, x in enumerate(outputs)})
    baseline = None
    if with_color_baseline:
        training = evaluation_batches(
            builder, "train", image_size=image_size, batch_size=BATCH_SIZE
        )
        baseline = ColorBaseline.fit(training.as_numpy_iterator(), classes.num_classes)

    matrices: dict[str, list[np.ndarray]] = {}
    losses: dict[str, list[float]] = {}
    dice = Dice()
    shown = 0
    for images, masks in _with_progress(builder, split, image_size, num_images):
        predicted = model.predict_on_batch(images)
        probabilities = {name: predicted[str(i)] for i, name in enumerate(names)}
        if baseline:
            probabilities[COLOR_BASELINE] = baseline.probabilities(images)
        for name, p in probabilities.items():
            matrices.setdefault(name, []).extend(
                confusion_matrix(mask, ids, classes.num_classes)
                for mask, ids in zip(masks, p.argmax(axis=-1), strict=True)
            )
            logits = tf.math.log(tf.maximum(p, 1e-30))
            losses.setdefault(name, []).extend(dice.call(masks, logits).numpy().tolist())
        if panels:
            for i in range(min(len(images), PANELS - shown)):
                predictions = {name: p[i].argmax(axis=-1) for name, p in probabilities.items()}
                file = panels / f"{split}_{shown:02d}.png"
                shown += 1
                title = f"{split} image {shown} of {num_images}"
                save_panel(images[i], masks[i], predictions, classes, file, title=title)
    weights = None
    if with_ensemble:
        raw = member_weights or [1.0] * len(runs)
        weights = {run.name: w / sum(raw) for run, w in zip(runs, raw, strict=True)}
    return Evaluation(
        protocol="seed",
        split=split,
        image_size=image_size,
        num_images=num_images,
        classes=classes,
        scores={
            name: _scores(np.stack(matrices[name]), losses[name], classes) for name in matrices
        },
        weights=weights,
    )


def _with_progress(
    builder: tfds.core.DatasetBuilder, split: str, image_size: int, num_images: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of a split under a progress bar that counts images."""
    batches = evaluation_batches(builder, split, image_size=image_size, batch_size=BATCH_SIZE)
    with tqdm(total=num_images, desc=f"scoring {split}", unit="image") as bar:
        for images, masks in batches.as_numpy_iterator():
            yield images, masks
            bar.update(len(images))


def _scores(matrices: np.ndarray, losses: Sequence[float], classes: ClassTable) -> dict:
    """Scores of one predictor.

    Args:
        matrices: int64 `(num_images, num_classes, num_classes)`.
        losses: one an image.
        classes: their names.
    """
    micro = {name: float(values.mean()) for name, values in micro_scores(matrices).items()}
    matrix = matrices.sum(axis=0)
    return {
        "pixel_accuracy": float(pixel_accuracy(matrix)),
        "mean_iou": float(mean_iou(matrix)),
        "iou": dict(zip(classes.names, iou_per_class(matrix).tolist(), strict=True)),
        "f1": micro["f1"],
        "precision": micro["precision"],
        "recall": micro["recall"],
        "accuracy": micro["accuracy"],
        "image_iou": micro["iou"],
        "loss": float(np.mean(losses)),
        "confusion_matrix": matrix.tolist(),
    }


def _json_scores(scores: dict) -> dict:
    """JSON has no NaN: the IoU of a class that does not occur becomes null."""
    iou = {name: None if np.isnan(value) else value for name, value in scores["iou"].items()}
    return scores | {"iou": iou}


def format_table(evaluation: Evaluation) -> str:
    """The scores as text: the original's columns, each class's IoU, and what each number is."""
    rows = [["", *TABLE.values()]]
    for name, scores in evaluation.scores.items():
        cells = [
            f"{scores[key]:.4f}" if key == "loss" else f"{100 * scores[key]:.2f}" for key in TABLE
        ]
        rows.append([name, *cells])
    by_class = [["IoU of class", *evaluation.classes.names]]
    for name, scores in evaluation.scores.items():
        cells = ["n/a" if np.isnan(x) else f"{100 * x:.2f}" for x in scores["iou"].values()]
        by_class.append([name, *cells])
    lines = [
        f"protocol {evaluation.protocol}, split {evaluation.split}: {evaluation.num_images} images "
        f"of {evaluation.image_size}x{evaluation.image_size}; scores in %, loss in [0, 1]",
        "",
        *_align(rows),
        "",
        *_align(by_class),
        "",
        *(f"{label}: {DEFINITIONS[key]}" for key, label in TABLE.items()),
    ]
    return "\n".join(lines)


def _align(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    ]


def write_metrics(evaluation: Evaluation, file: Path) -> None:
    """Writes `metrics.json`."""
    text = json.dumps(evaluation.to_json(), indent=2, allow_nan=False)
    write_atomically(file, text.encode())
