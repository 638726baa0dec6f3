"""Sentences about protocols and scores, for the tables and `metrics.json`."""

from collections.abc import Sequence

from lcc_tf.scoring.protocols import Protocol
from lcc_tf.scoring.scores import DICE_BATCH, RESAMPLES
from tfds_deepglobe.classes import UNKNOWN

CLASSES_NAMED = 10  # at most, in a sentence


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
