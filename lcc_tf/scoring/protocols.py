"""The published ways to score DeepGlobe, and the scores of a confusion matrix by each of them.

A protocol says at which resolution truth and prediction meet, and what becomes of the class
`unknown`, clouds and the like, in truth, prediction and mean. docs/protocols.md says what has been
published by which.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcc_tf.metrics import (
    cohen_kappa,
    confusion_matrix,
    f1_per_class,
    iou_per_class,
    micro_scores,
    pixel_accuracy,
    precision_per_class,
    recall_per_class,
    weighted_mean,
)
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, UNKNOWN

DICE_BATCH = 7  # images; the original's batch, over which it takes the Dice loss
RESAMPLES = 1000  # of the bootstrap
CLASSES_NAMED = 10  # at most, in a sentence
INTERVAL = (2.5, 97.5)  # percentiles

PER_CLASS = {
    "iou": iou_per_class,
    "precision": precision_per_class,
    "recall": recall_per_class,
    "f1": f1_per_class,
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What a score is of.

    Where the class table has no class named `unknown`, nothing is masked or left out.

    Attributes:
        name: of the protocol.
        side: of the square that masks are resized to (nearest) and probabilities brought to
            (bilinear), pixels; None for each image's own size, where masks stay as they are.
        masks_unknown: whether pixels whose truth is `unknown` are left out.
        predicts_unknown: whether `unknown` may be predicted; if not, the most probable of the
            other classes is.
        averages_unknown: whether `unknown` counts in means over classes.
        columns: the scores to show first, in this order; those that have been published before.
        num_images: of the test split that the published scores are of.
        comparable_with: whose published scores, of DeepGlobe's classes, are of this kind.
    """

    name: str
    side: int | None
    masks_unknown: bool
    predicts_unknown: bool
    averages_unknown: bool
    columns: tuple[str, ...]
    num_images: int
    comparable_with: str

    def comparison(self, class_names: Sequence[str]) -> str:
        """Which published scores a score of these classes may be held against."""
        if set(class_names) == set(DEEPGLOBE_CLASSES.names):
            return self.comparable_with
        return "no published score: the classes are not DeepGlobe's"

    def ignore_class(self, class_names: Sequence[str]) -> int | None:
        """The class id whose true pixels are left out, if there is one."""
        if not self.masks_unknown or UNKNOWN not in class_names:
            return None
        return class_names.index(UNKNOWN)

    def predicted(self, class_names: Sequence[str]) -> list[int]:
        """Ids of the classes that may be predicted."""
        return _all_but_unknown(class_names, keep=self.predicts_unknown)

    def averaged(self, class_names: Sequence[str]) -> list[int]:
        """Ids of the classes that means are over."""
        return _all_but_unknown(class_names, keep=self.averages_unknown)


def _all_but_unknown(class_names: Sequence[str], *, keep: bool) -> list[int]:
    return [i for i, name in enumerate(class_names) if keep or name != UNKNOWN]


SEED = Protocol(
    name="seed",
    side=512,
    masks_unknown=False,
    predicts_unknown=True,
    averages_unknown=True,
    columns=("accuracy", "f1", "image_iou", "loss", "pixel_accuracy", "mean_iou"),
    num_images=81,
    comparable_with="the original notebooks' accuracy, F1, IoU and loss (their 81 test images are "
    "another random draw), and other scores of segmentation_models_pytorch with "
    "reduction='micro-imagewise'; not the mIoU of papers",
)
OFFICIAL6 = Protocol(
    name="official6",
    side=None,
    masks_unknown=True,
    predicts_unknown=False,
    averages_unknown=False,
    columns=("mean_iou", "pixel_accuracy"),
    num_images=172,
    comparable_with="mean IoU by the rule of the DeepGlobe 2018 challenge (arXiv 1805.06561); its "
    "leaderboard is of images whose masks are not public, so no other split equals it",
)
GLNET = Protocol(
    name="glnet",
    side=None,
    masks_unknown=False,
    predicts_unknown=True,
    averages_unknown=False,
    columns=("mean_iou", "pixel_accuracy"),
    num_images=142,
    comparable_with="mIoU (%) of papers on the 454/207/142 split: FCN-8s 71.8, DeepLabv3+ 63.5, "
    "GLNet 71.6, MagNet 72.9, ISDNet 73.3, FCtL 73.5, WSDNet 74.1, GPWFormer 75.8, BPT 76.6 "
    "(arXiv 2412.10181, table 1)",
)
PROTOCOLS = {protocol.name: protocol for protocol in (SEED, OFFICIAL6, GLNET)}


def describe(protocol: Protocol, class_names: Sequence[str]) -> str:
    """How a protocol scores a data set, in a few words."""
    size = f"{protocol.side}x{protocol.side} pixels" if protocol.side else "each image's own size"
    averaged = len(protocol.averaged(class_names))
    if UNKNOWN not in class_names:
        return f"{size}, all {averaged} classes, since none is named {UNKNOWN}"
    if protocol.averages_unknown:
        return f"{size}, {UNKNOWN} a class like any other, means over {averaged} classes"
    if protocol.masks_unknown:
        return f"{size}, pixels that are truly {UNKNOWN} left out, {averaged} classes"
    return (
        f"{size}, {UNKNOWN} in truth and prediction counts against the other classes, means over "
        f"those {averaged}"
    )


def predicted_ids(
    probabilities: np.ndarray, protocol: Protocol, class_names: Sequence[str]
) -> np.ndarray:
    """The most probable of the classes that may be predicted.

    Args:
        probabilities: float `(..., num_classes)`.
        protocol: says which they are.
        class_names: of all classes.

    Returns:
        int64 `(...)`, class ids.
    """
    ids = probabilities.argmax(axis=-1)
    if protocol.predicts_unknown:
        return ids
    allowed = np.array(protocol.predicted(class_names))
    # The few pixels whose most probable class may not be predicted are looked at again.
    barred = ~np.isin(np.arange(len(class_names)), allowed)[ids]
    ids[barred] = allowed[probabilities[barred][:, allowed].argmax(axis=-1)]
    return ids


def protocol_matrix(
    mask: np.ndarray, ids: np.ndarray, protocol: Protocol, class_names: Sequence[str]
) -> np.ndarray:
    """The confusion matrix of the pixels that a protocol scores, int64 `(classes, classes)`.

    Args:
        mask: class ids `(height, width)`.
        ids: predicted ones of the same shape, of `predicted_ids`.
        protocol: says which pixels are left out.
        class_names: of all classes.
    """
    return confusion_matrix(
        mask, ids, len(class_names), ignore_class=protocol.ignore_class(class_names)
    )


def probability_matrix(mask: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Sums of probabilities by true class (row) and class (column): a soft confusion matrix.

    Args:
        mask: class ids `(height, width)`.
        probabilities: float `(height, width, num_classes)`.

    Returns:
        float64 `(num_classes, num_classes)`.
    """
    num_classes = probabilities.shape[-1]
    sums = [
        np.bincount(mask.ravel(), probabilities[..., k].ravel(), minlength=num_classes)
        for k in range(num_classes)
    ]
    return np.stack(sums, axis=-1)


def dice_loss(matrices: np.ndarray, probability_sums: np.ndarray, classes: Sequence[int]) -> float:
    """The original's loss: multi-class Dice over batches of `DICE_BATCH` images, in their order.

    For each class 1 - 2 sum(p y) / (sum(p) + sum(y)) over all pixels of a batch, 0 where the
    batch's truth lacks the class; then the mean over classes, and over images.

    Args:
        matrices: int64 `(num_images, num_classes, num_classes)`, as `protocol_matrix` makes them.
        probability_sums: float64 of the same shape, as `probability_matrix` makes them.
        classes: ids of the classes that the mean is over.
    """
    total = 0.0
    for start in range(0, len(matrices), DICE_BATCH):
        batch = slice(start, start + DICE_BATCH)
        actual = matrices[batch].sum(axis=(0, 2))[classes]
        sums = probability_sums[batch].sum(axis=0)
        size = sums.sum(axis=0)[classes] + actual
        overlap = np.diagonal(sums)[classes]
        per_class = np.where(actual > 0, 1 - 2 * overlap / np.maximum(size, 1e-7), 0)
        total += per_class.mean() * len(matrices[batch])
    return total / len(matrices)


def scores(
    protocol: Protocol,
    matrices: np.ndarray,
    probability_sums: np.ndarray,
    class_names: Sequence[str],
) -> dict:
    """All scores of one predictor by a protocol; `definitions` says what each is.

    Args:
        protocol: that the matrices were made by.
        matrices: int64 `(num_images, num_classes, num_classes)`, as `protocol_matrix` makes them.
        probability_sums: float64 of the same shape, as `probability_matrix` makes them.
        class_names: of all classes.

    Returns:
        Floats, NaN where a score is not defined; by the class's name where there is one a class.
    """
    predicted, averaged = protocol.predicted(class_names), protocol.averaged(class_names)
    ignored = protocol.ignore_class(class_names)
    if ignored is not None:
        probability_sums = probability_sums.copy()
        probability_sums[:, ignored] = 0
    matrix = matrices.sum(axis=0)
    by_image = _imagewise(matrices[:, predicted][:, :, predicted])
    # "precision", "recall" and "f1" are the names of the original's scores.
    per_class = {
        name if name == "iou" else f"class_{name}": dict(
            zip(class_names, score(matrix).tolist(), strict=True)
        )
        for name, score in PER_CLASS.items()
    }
    return {
        **{name: float(value) for name, value in pooled_scores(matrix, averaged).items()},
        **per_class,
        **{name: float(_mean(values)) for name, values in by_image.items()},
        "loss": dice_loss(matrices, probability_sums, predicted),
        "intervals": _intervals(matrices, by_image, averaged),
        "confusion_matrix": matrix.tolist(),
    }


def pooled_scores(matrix: np.ndarray, averaged: Sequence[int]) -> dict[str, np.ndarray]:
    """Scores of one confusion matrix over all images.

    Args:
        matrix: int64 `(..., num_classes, num_classes)`.
        averaged: ids of the classes that means are over.

    Returns:
        "pixel_accuracy", "cohen_kappa", and "mean_" and "frequency_weighted_" each of `PER_CLASS`;
        float64 `(...)`.
    """
    result = {"pixel_accuracy": pixel_accuracy(matrix), "cohen_kappa": cohen_kappa(matrix)}
    pixels = matrix.sum(axis=-1)[..., averaged]
    for name, score in PER_CLASS.items():
        values = score(matrix)[..., averaged]
        result[f"mean_{name}"] = weighted_mean(values, np.ones(len(averaged)))
        result[f"frequency_weighted_{name}"] = weighted_mean(values, pixels)
    return result


def _imagewise(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """The original's scores of each image, `(num_images,)`."""
    micro = micro_scores(matrices)
    return {"image_iou" if name == "iou" else name: values for name, values in micro.items()}


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is defined."""
    return weighted_mean(values, np.ones(values.shape[-1]))


def _intervals(
    matrices: np.ndarray, by_image: dict[str, np.ndarray], averaged: Sequence[int]
) -> dict[str, list[float]]:
    """95 % percentile intervals of a bootstrap over images (Efron 1979).

    Images, not pixels, are drawn anew: pixels of one image are no independent samples. The draws
    are the same for every predictor.
    """
    count = len(matrices)
    # How often each image is in each resample.
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    resampled = pooled_scores(np.tensordot(draws, matrices, axes=1), averaged)
    resampled |= {name: weighted_mean(values, draws) for name, values in by_image.items()}
    intervals = {}
    for name, values in resampled.items():
        values = values[~np.isnan(values)]
        # One image says nothing of how images differ.
        defined = count > 1 and len(values) > 0
        intervals[name] = np.percentile(values, INTERVAL).tolist() if defined else [np.nan] * 2
    return intervals


def definitions(protocol: Protocol, class_names: Sequence[str]) -> dict[str, str]:
    """What each entry of `scores` is, in one sentence."""
    predicted, averaged = protocol.predicted(class_names), protocol.averaged(class_names)
    pixels = "all pixels"
    if protocol.ignore_class(class_names) is not None:
        pixels = f"all pixels but those whose truth is {UNKNOWN}"
    if len(averaged) <= CLASSES_NAMED:
        mean_over = f"the {len(averaged)} classes " + ", ".join(class_names[i] for i in averaged)
    elif len(averaged) < len(class_names):
        mean_over = f"the {len(averaged)} classes other than {UNKNOWN}"
    else:
        mean_over = f"all {len(averaged)} classes"
    pooled = "pooled over the classes of an image, averaged over images"
    per_class = {
        "iou": "tp / (tp + fp + fn)",
        "class_precision": "tp / (tp + fp)",
        "class_recall": "tp / (tp + fn)",
        "class_f1": "2 tp / (2 tp + fp + fn)",
    }
    result = {
        "pixel_accuracy": f"share of {pixels} of the split whose class is right",
        "cohen_kappa": "(p - e) / (1 - e), p the pixel accuracy and e the one expected of a random "
        "map with the prediction's class shares",
    }
    for key in per_class:
        name = key.removeprefix("class_")
        result[f"mean_{name}"] = (
            f"mean of `{key}` over those of {mean_over} for which it is defined"
        )
        result[f"frequency_weighted_{name}"] = (
            f"mean of `{key}` over the same classes, weighted by their true pixels"
        )
    for key, formula in per_class.items():
        result[key] = (
            f"{formula} of each class, from one confusion matrix over all images; null where that "
            "is 0 / 0, as for a class that occurs in neither truth nor prediction"
        )
    return result | {
        "accuracy": "(tp + tn) / all of the one-versus-rest problems of "
        f"{len(predicted)} classes, {pooled}; equals 1 - 2 (1 - pixel accuracy) / {len(predicted)} "
        "in each image",
        "f1": f"2 tp / (2 tp + fp + fn), {pooled}; equals the pixel accuracy of each image, since "
        "each pixel has one label",
        "precision": f"tp / (tp + fp), {pooled}; equals f1",
        "recall": f"tp / (tp + fn), {pooled}; equals f1",
        "image_iou": f"tp / (tp + fp + fn), {pooled}; the original's IoU",
        "loss": f"multi-class Dice loss of the probabilities of {len(predicted)} classes over "
        f"batches of {DICE_BATCH} images, averaged over images; a class that a batch's truth lacks "
        "adds 0",
        "intervals": f"95 % percentile interval, low and high, of {RESAMPLES} bootstrap resamples "
        "of the images (not of runs: training anew is not in it); null for a single image",
        "confusion_matrix": f"{pixels}, by true class (row) and predicted class (column), over all "
        "images",
    }
