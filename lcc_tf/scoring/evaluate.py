"""Scoring of Keras models and of their ensemble.

An ensemble averages the predictions of several networks, its members. A predictor is a network, an
ensemble or the color baseline.
"""

from collections.abc import Iterable, Mapping, Sequence

import keras
import tensorflow as tf
from tqdm import tqdm

from lcc_tf.arguments import check_arguments, check_ignore_class
from lcc_tf.bands import check_equal_bands
from lcc_tf.errors import InputError
from lcc_tf.models.averaging import check_member_weights
from lcc_tf.prediction.predictors import Average, Predictor, check_num_classes
from lcc_tf.scoring.confusion import ConfusionMatrices
from lcc_tf.scoring.ensemble_weights import TunedWeights
from lcc_tf.scoring.examples import Example, check_examples
from lcc_tf.scoring.protocols import ScoringRules, scoring_rules
from lcc_tf.scoring.results import Evaluation
from lcc_tf.scoring.scored_predictors import (
    ENSEMBLE,
    PredictedImage,
    ScoredPredictors,
    check_names,
    ensembles_of,
)
from lcc_tf.scoring.scores import scores
from tfds_deepglobe.classes import ClassTable


def evaluate(
    models: keras.Model | Mapping[str, keras.Model],
    examples: Iterable[Example] | tf.data.Dataset,
    *,
    classes: ClassTable,
    protocols: Sequence[str] = ("original",),
    tile: int = 512,
    tta: str = "none",
    member_weights: Sequence[float] | None = None,
    average: str = "probabilities",
    ignore_class: int | None = None,
    split: str = "test",
    verbose: int = 1,
) -> Evaluation:
    """Scores Keras models and their ensemble with published protocols.

    1. Each model predicts an image in tiles, without resizing the image.
    2. The probabilities are resized to the resolution of the protocol.
    3. The ensemble averages the resized probabilities of the models.

    Args:
        models: one model, or a dictionary of models (key: name, value: model). The input of a
            model is float32 `(batch, height, width, 3)`, RGB in [0, 255], or images with the
            `bands` of the model. The output of a model is `(batch, height, width, num_classes)`,
            logits or probabilities. For two models or more, the ensemble of all models is also
            scored. For three models or more, each ensemble without one of the models is also
            scored.
        examples: pairs of an image and a mask, as a list, as a `tf.data.Dataset` without batches,
            or as a split of the TFDS data set. The image is uint8 `(height, width, 3)`, RGB, or
            numbers `(height, width, bands)`. The mask is integer `(height, width)` or
            `(height, width, 1)`, class ids. Images may have different sizes.
        classes: names and colors of the classes, in the order of the models' output channels.
        protocols: one or more names of protocols (see docs/protocols.md):

            - "original": the scores of the original PyTorch notebooks at 512x512 pixels.
            - "official6": the score of the DeepGlobe challenge.
            - "glnet": the scores of papers with the 142 test images of GLNet.
        tile: side of the tiles, pixels. The best value is the size of the training images.
        tta: test-time augmentation: "none", "flip" (mean over 4 flipped images) or "d4" (mean over
            8 rotated and flipped images).
        member_weights: one weight per model in the ensemble; None for equal weights.
        average: "probabilities" or "logits", the values that the ensemble averages.
        ignore_class: label of pixels without ground truth, such as 255. The label must not be a
            class id. Pixels with this label are not scored, and pixels with the label -1 are never
            scored. A class named `unknown` is different: the protocol defines how it is scored.
        split: name of the split that the tables show. Published scores are for "test".
        verbose: 1 for a progress bar, 0 for no output.

    Returns:
        The scores, such as `evaluation.scores["original"]["ensemble"]["mean_iou"]`.
        `lcc_tf.scoring.tables.to_markdown` formats the most important scores as tables.

    Raises:
        InputError: `examples` is empty, an example is not an image with its mask, a label is not a
            class id, or an argument is invalid.

    Example:
        >>> model = lcc_tf.models.DeepLabV3Plus(7, encoder="mobilenetv2", encoder_weights=None)
        >>> image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
        >>> evaluation = lcc_tf.evaluate(
        ...     {"a": model, "b": model},
        ...     [(image, mask)],
        ...     classes=lcc_tf.DEEPGLOBE_CLASSES,
        ...     protocols=["glnet", "official6"],
        ...     tile=64,
        ... )
        >>> list(evaluation.scores["glnet"])
        ['a', 'b', 'ensemble']
        >>> 0 <= evaluation.scores["official6"]["ensemble"]["iou"]["urban_land"] <= 1
        True
        >>> from lcc_tf.scoring.tables import to_markdown
        >>> print(to_markdown(evaluation))
        Split test, 1 images. ...
    """
    checked_below = ("models", "examples", "classes", "member_weights", "ignore_class", "verbose")
    check_arguments(evaluate, locals(), unchecked=checked_below)
    if isinstance(models, keras.Model):
        # A model must not have the name "ensemble", which the tables use for the average of models.
        models = {"model" if models.name == ENSEMBLE else models.name: models}
    if not isinstance(models, Mapping):
        raise InputError(
            "`models` must be a model, or a dictionary that maps names to models. "
            f"Received: {type(models).__name__}. Use a dictionary such as "
            "{'first': model, 'second': other_model}."
        )
    if not isinstance(examples, Iterable):
        raise InputError(
            "`examples` must be a list of pairs of an image and its mask, or a `tf.data.Dataset`. "
            f"Received: {type(examples).__name__}."
        )
    if not models:
        raise InputError("`models` must contain at least one model. Received: no model.")
    if others := [name for name in models if not isinstance(name, str)]:
        raise InputError(f"The names of `models` must be texts. Received: {others}.")
    check_names(list(models))
    for model in models.values():
        check_num_classes(model, classes)
    ignore_class = check_ignore_class(ignore_class)
    if ignore_class is not None and 0 <= ignore_class < classes.num_classes:
        raise InputError(
            "`ignore_class` must be a label outside the class ids, such as 255. Received: "
            f"ignore_class={ignore_class}, the id of the class {classes.names[ignore_class]!r}. "
            "Choose another label, or choose `protocols` that do not score this class."
        )
    weights = check_member_weights(member_weights, len(models))
    rules = scoring_rules(protocols, classes)

    members = [
        Predictor.from_model(model, tile=tile, tta=tta, name=name) for name, model in models.items()
    ]
    check_equal_bands([member.bands for member in members])
    Average(weights, average)  # raises an error for an invalid `average`
    ensembles = ensembles_of(members, weights, average) if len(members) > 1 else {}
    predictors = ScoredPredictors(members, ensembles)
    examples = tqdm(examples, desc=f"scoring {split}", unit="image", disable=not verbose)
    checked = check_examples(examples, classes.num_classes, ignore_class, predictors.bands)
    predicted_images = predictors.predict(checked)
    return score(predicted_images, predictors, rules, split=split, tta=tta)


def score(
    predicted_images: Iterable[PredictedImage],
    predictors: ScoredPredictors,
    rules: Sequence[ScoringRules],
    *,
    split: str,
    tta: str,
    tuned: TunedWeights | None = None,
) -> Evaluation:
    """Computes the confusion matrices of predicted images, and computes all scores from them.

    Args:
        predicted_images: predicted images of the split. Only one image at a time is in memory.
        predictors: predictors whose members predicted the images.
        rules: scoring rules of one protocol or more.
        split: name of the split.
        tta: test-time augmentation of each member, a key of `lcc_tf.prediction.tta.TTA`.
        tuned: result of tuning the weights of the ensemble; None if the weights were not tuned.

    Raises:
        InputError: `predicted_images` is empty.
    """
    confusion = ConfusionMatrices(rules)
    num_images = 0
    for predicted in predicted_images:
        confusion.add(predicted)
        num_images += 1
    if not num_images:
        raise InputError("`examples` must contain at least one image. Received: no image.")
    return Evaluation(
        split=split,
        num_images=num_images,
        classes=rules[0].classes,
        members=tuple(member.name for member in predictors.members),
        scores={
            protocol_rules.protocol.name: {
                name: scores(protocol_rules, *matrices)
                for name, matrices in confusion.matrices(protocol_rules).items()
            }
            for protocol_rules in rules
        },
        average=predictors.ensembles.get(ENSEMBLE),
        tuned=tuned,
        tta=tta,
    )
