"""Scores of Keras models and their ensemble."""

from collections.abc import Iterable, Mapping, Sequence

import keras
import tensorflow as tf
from tqdm import tqdm

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

    Each model predicts an image in tiles at the image's resolution. The probabilities are resized
    to the protocol's resolution. There the ensemble averages the probabilities of its members.

    Args:
        models: one model, or a dictionary of models by name. A model maps float32
            `(batch, height, width, 3)`, RGB in [0, 255], to logits or probabilities
            `(batch, height, width, num_classes)`. For two models or more, their ensemble is scored
            too. For three models or more, each ensemble without one model is scored too.
        examples: pairs of an image, uint8 `(height, width, 3)`, RGB, and its mask, integer
            `(height, width)` or `(height, width, 1)`, class ids. Sizes may differ. A
            `tf.data.Dataset` of such pairs without batches, and a split of the TFDS data set, are
            also accepted.
        classes: names and colors of the models' output channels, in their order.
        protocols: one or more of "original" (the original's scores at 512x512), "official6" (the
            DeepGlobe challenge) and "glnet" (papers on GLNet's 142 test images); see
            docs/protocols.md.
        tile: side of the tiles, pixels. The best value is the size of the training images.
        tta: test-time augmentation: "none", "flip" (mean over 4 flips) or "d4" (mean over all 8
            symmetries of the square).
        member_weights: one weight per model in the ensemble; None for equal weights.
        average: "probabilities" or "logits", which the ensemble averages.
        ignore_class: label of pixels without ground truth, outside the class ids, such as 255.
            Pixels of this label and of the label -1 are not scored. The protocol defines how pixels
            of a class named `unknown` are scored.
        split: name of the split, for the tables. Published scores are for "test".
        verbose: 1 for a progress bar, 0 for no output.

    Returns:
        The scores, such as `evaluation.scores["original"]["ensemble"]["mean_iou"]`.
        `lcc_tf.scoring.tables.to_markdown` formats the most important scores as tables.

    Raises:
        InputError: there is no example, an example is not an image with its mask, labels are
            outside the class ids, or an argument is invalid.

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
    if isinstance(models, keras.Model):
        # In the tables, "ensemble" is the name of an average of several models.
        models = {"model" if models.name == ENSEMBLE else models.name: models}
    if not models:
        raise InputError("`models` must contain at least one model. Received none.")
    check_names(list(models))
    for model in models.values():
        check_num_classes(model, classes)
    if ignore_class is not None and 0 <= ignore_class < classes.num_classes:
        raise InputError(
            "`ignore_class` must be a label outside the class ids, such as 255. Received: "
            f"ignore_class={ignore_class}, the id of the class {classes.names[ignore_class]!r}. "
            "Choose `protocols` that do not score this class, or another label."
        )
    weights = [1.0] * len(models) if member_weights is None else list(member_weights)
    check_member_weights(weights, len(models))
    rules = scoring_rules(protocols, classes)

    members = [
        Predictor.from_model(model, tile=tile, tta=tta, name=name) for name, model in models.items()
    ]
    Average(tuple(weights), average)  # raises for an invalid average, also for a single model
    ensembles = ensembles_of(members, weights, average) if len(members) > 1 else {}
    predictors = ScoredPredictors(members, ensembles)
    examples = tqdm(examples, desc=f"scoring {split}", unit="image", disable=not verbose)
    checked = check_examples(examples, classes.num_classes, ignore_class)
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
    """Computes the confusion matrices of predicted images, and all scores from the matrices.

    Args:
        predicted_images: images of the split. Only one image at a time is in memory.
        predictors: the predictors of these images.
        rules: the rules of each protocol, at least one.
        split: name of the split.
        tta: test-time augmentation of each member.
        tuned: result of tuning the ensemble's weights; None for weights that were not tuned.

    Raises:
        InputError: there is no image.
    """
    confusion = ConfusionMatrices(rules)
    num_images = 0
    for predicted in predicted_images:
        confusion.add(predicted)
        num_images += 1
    if not num_images:
        raise InputError("`examples` must contain at least one image. Received none.")
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
