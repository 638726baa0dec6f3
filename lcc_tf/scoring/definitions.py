"""Sentences that define protocols and scores, for the tables and for `metrics.json`."""

from lcc_tf.scoring.protocols import ScoringRules
from lcc_tf.scoring.scores import DICE_BATCH, RESAMPLES
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, UNKNOWN

MAX_NAMED_CLASSES = 10  # maximum number of class names in a sentence


def comparison(rules: ScoringRules) -> str:
    """Returns the names of the published scores that are computed with the same rules."""
    if set(rules.class_names) == set(DEEPGLOBE_CLASSES.names):
        return rules.protocol.comparable_with
    return "no published score, because the classes are not the classes of DeepGlobe"


def describe(rules: ScoringRules) -> str:
    """Describes the rules in a few words.

    The description contains the resolution, the treatment of `unknown`, and the number of classes
    that are included in means.
    """
    side, averaged = rules.protocol.side, len(rules.averaged)
    size = f"{side}x{side} pixels" if side else "original size of each image"
    if rules.classes.unknown_id is None:
        return f"{size}, all {averaged} classes, because no class is named {UNKNOWN}"
    if rules.protocol.averages_unknown:
        return f"{size}, {UNKNOWN} is a normal class, means over {averaged} classes"
    if rules.protocol.masks_unknown:
        return (
            f"{size}, pixels whose ground truth is {UNKNOWN} are ignored, means over {averaged} "
            "classes"
        )
    return (
        f"{size}, {UNKNOWN} is a normal class in the confusion matrix, means over the {averaged} "
        f"classes other than {UNKNOWN}"
    )


def definitions(rules: ScoringRules) -> dict[str, str]:
    """Defines each score of `lcc_tf.scoring.scores.scores` in one sentence.

    Returns:
        Dictionary. Key: name of a score. Value: definition. In the definitions, tp, fp, fn and tn
        are the numbers of true positive, false positive, false negative and true negative pixels of
        a class.
    """
    names, averaged, num_predicted = rules.class_names, rules.averaged, len(rules.predicted)
    pixels = "all pixels"
    if rules.ignore_class is not None:
        pixels = f"all pixels except pixels whose ground truth is {UNKNOWN}"
    if len(averaged) <= MAX_NAMED_CLASSES:
        mean_over = f"the {len(averaged)} classes " + ", ".join(names[i] for i in averaged)
    elif len(averaged) < len(names):
        mean_over = f"the {len(averaged)} classes other than {UNKNOWN}"
    else:
        mean_over = f"all {len(averaged)} classes"
    pooled = (
        "computed for each image from the sums of tp, tn, fp and fn over the classes, then "
        "averaged over images"
    )
    per_class = {
        "iou": "tp / (tp + fp + fn)",
        "class_precision": "tp / (tp + fp)",
        "class_recall": "tp / (tp + fn)",
        "class_f1": "2 tp / (2 tp + fp + fn)",
    }
    result = {
        "pixel_accuracy": f"fraction of {pixels} of the split whose predicted class is correct",
        "cohen_kappa": "(p - e) / (1 - e), where p is the pixel accuracy and e is the expected "
        "accuracy of a random map with the class fractions of the prediction",
    }
    for key in per_class:
        name = key.removeprefix("class_")
        result[f"mean_{name}"] = f"mean of `{key}` over {mean_over}; undefined values are ignored"
        result[f"frequency_weighted_{name}"] = (
            f"mean of `{key}` over the same classes; the weight of a class is its number of "
            "ground-truth pixels"
        )
    for key, formula in per_class.items():
        result[key] = (
            f"{formula} of each class, from one confusion matrix over all images; null if the "
            "denominator is 0, for example if neither ground truth nor prediction contains the "
            "class"
        )
    return result | {
        "accuracy": f"(tp + tn) / (tp + tn + fp + fn), {pooled}; each of {num_predicted} classes "
        "is compared with all other classes together; the accuracy of each image equals "
        f"1 - 2 (1 - pixel accuracy) / {num_predicted}",
        "f1": f"2 tp / (2 tp + fp + fn), {pooled}; equals the pixel accuracy of each image, "
        "because each pixel has one label",
        "precision": f"tp / (tp + fp), {pooled}; equals f1",
        "recall": f"tp / (tp + fn), {pooled}; equals f1",
        "image_iou": f"tp / (tp + fp + fn), {pooled}; the IoU of the original PyTorch notebooks",
        "loss": f"multi-class Dice loss of the probabilities of {num_predicted} classes over "
        f"batches of {DICE_BATCH} images, averaged over images; if a class is not in the ground "
        "truth of a batch, its loss is 0",
        "intervals": "95 % interval of a score: the 2.5 % and 97.5 % percentiles over "
        f"{RESAMPLES} bootstrap resamples of the images; the interval does not include the "
        "variation between trainings; null for a single image",
        "confusion_matrix": "number of pixels per ground-truth class (row) and predicted class "
        f"(column), for {pixels} of all images",
    }
