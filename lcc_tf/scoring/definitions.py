"""Definitions of protocols and scores in words, for tables and `metrics.json`."""

from lcc_tf.scoring.protocols import ScoringRules
from lcc_tf.scoring.scores import DICE_BATCH, RESAMPLES
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, UNKNOWN

CLASSES_NAMED = 10  # maximum number of class names in a sentence


def comparison(rules: ScoringRules) -> str:
    """Names the published scores that are computed with the same rules."""
    if set(rules.class_names) == set(DEEPGLOBE_CLASSES.names):
        return rules.protocol.comparable_with
    return "no published score: the classes are not DeepGlobe's"


def describe(rules: ScoringRules) -> str:
    """Describes resolution, treatment of `unknown` and averaged classes in a few words."""
    side, averaged = rules.protocol.side, len(rules.averaged)
    size = f"{side}x{side} pixels" if side else "original size of each image"
    if UNKNOWN not in rules.class_names:
        return f"{size}, all {averaged} classes, since no class is named {UNKNOWN}"
    if rules.protocol.averages_unknown:
        return f"{size}, {UNKNOWN} is a class like any other, means over {averaged} classes"
    if rules.protocol.masks_unknown:
        return f"{size}, without pixels whose ground truth is {UNKNOWN}, {averaged} classes"
    return (
        f"{size}, {UNKNOWN} in ground truth or prediction is an error of the other {averaged} "
        f"classes, means over these {averaged} classes"
    )


def definitions(rules: ScoringRules) -> dict[str, str]:
    """Returns a definition of each score of `lcc_tf.scoring.scores.scores`."""
    names, averaged, num_predicted = rules.class_names, rules.averaged, len(rules.predicted)
    pixels = "all pixels"
    if rules.ignore_class is not None:
        pixels = f"all pixels except those whose ground truth is {UNKNOWN}"
    if len(averaged) <= CLASSES_NAMED:
        mean_over = f"the {len(averaged)} classes " + ", ".join(names[i] for i in averaged)
    elif len(averaged) < len(names):
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
        "pixel_accuracy": f"fraction of {pixels} of the split whose predicted class is correct",
        "cohen_kappa": "(p - e) / (1 - e), where p is the pixel accuracy and e is the expected "
        "accuracy of a random map with the predicted class fractions",
    }
    for key in per_class:
        name = key.removeprefix("class_")
        result[f"mean_{name}"] = f"mean of `{key}` over {mean_over}, without undefined values"
        result[f"frequency_weighted_{name}"] = (
            f"mean of `{key}` over the same classes, weighted by their ground-truth pixels"
        )
    for key, formula in per_class.items():
        result[key] = (
            f"{formula} of each class, from one confusion matrix over all images; null for 0 / 0, "
            "such as for a class that is in neither ground truth nor prediction"
        )
    return result | {
        "accuracy": "(tp + tn) / (tp + tn + fp + fn) of the one-versus-rest problems of "
        f"{num_predicted} classes, {pooled}; equals 1 - 2 (1 - pixel accuracy) / {num_predicted} "
        "in each image",
        "f1": f"2 tp / (2 tp + fp + fn), {pooled}; equals the pixel accuracy of each image, since "
        "each pixel has one label",
        "precision": f"tp / (tp + fp), {pooled}; equals f1",
        "recall": f"tp / (tp + fn), {pooled}; equals f1",
        "image_iou": f"tp / (tp + fp + fn), {pooled}; the original's IoU",
        "loss": f"multi-class Dice loss of the probabilities of {num_predicted} classes over "
        f"batches of {DICE_BATCH} images, averaged over images; the loss of a class that is not in "
        "the ground truth of a batch is 0",
        "intervals": f"95 % percentile interval, low and high, of {RESAMPLES} bootstrap resamples "
        "of the images; it does not include the variation between trainings; null for a single "
        "image",
        "confusion_matrix": "number of pixels per ground-truth class (row) and predicted class "
        f"(column), over all images, {pixels}",
    }
