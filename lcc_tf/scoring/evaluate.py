"""Scores Keras models and their ensemble."""

from collections.abc import Iterable, Mapping, Sequence

import keras
import tensorflow as tf

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
) -> Evaluation:
    """Scores a Keras model, or several models and their ensemble, by published protocols.

    Each model predicts an image in tiles at the image's resolution. Its probabilities are resized
    to the protocol's resolution, where the ensemble averages them.

    Args:
        models: one model, or models by name, from float32 `(batch, height, width, 3)`, RGB in
            [0, 255], to logits or probabilities `(batch, height, width, num_classes)`. Several
            models are also scored as an ensemble, and three models or more as ensembles without
            each model.
        examples: pairs of an image, uint8 `(height, width, 3)`, RGB, and its mask, integer
            `(height, width)` or `(height, width, 1)`, class ids. Sizes may differ. Also a
            `tf.data.Dataset` of such pairs, not batched, or a split of the TFDS data set.
        classes: names and colors of the models' output channels, in their order.
        protocols: any of "original" (the original's scores at 512x512), "official6" (the DeepGlobe
            challenge) and "glnet" (papers on its 142 test images); see docs/protocols.md.
        tile: side of the tiles, pixels; best the size that the models were trained on.
        tta: test-time augmentation: "none", "flip" (the mean over 4 flips) or "d4" (the mean over
            all 8 symmetries of the square).
        member_weights: one weight per model in the ensemble; None for equal weights.
        average: what the ensemble averages, "probabilities" or "logits".
        ignore_class: label of pixels without ground truth, outside the classes, such as 255. The
            label -1 always means that. These pixels are not scored. A class named `unknown` is
            scored as the protocol says.
        split: name of the examples' split for the tables; "test" makes them say which published
            scores the results compare with.

    Returns:
        The scores; `evaluation.scores["original"]["ensemble"]["mean_iou"]` is one, and
        `lcc_tf.scoring.tables.to_markdown` shows the most important ones.

    Raises:
        InputError: no example, an example that is not an image with its mask, labels outside the
            classes, or invalid arguments.

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
        # `ensemble`, the name of a model of several, is the name of an average in the tables.
        models = {"model" if models.name == ENSEMBLE else models.name: models}
    if not models:
        raise InputError("`models` must contain at least one model. Received none.")
    check_names(list(models))
    for model in models.values():
        check_num_classes(model, classes)
    if ignore_class is not None and 0 <= ignore_class < classes.num_classes:
        raise InputError(
            "`ignore_class` must be a label outside the classes, such as 255. Received: "
            f"ignore_class={ignore_class}, the class {classes.names[ignore_class]!r}, which "
            "`protocols` decide how to score."
        )
    weights = [1.0] * len(models) if member_weights is None else list(member_weights)
    check_member_weights(weights, len(models))
    rules = scoring_rules(protocols, classes.names)

    members = [
        Predictor.from_model(model, tile=tile, tta=tta, name=name) for name, model in models.items()
    ]
    Average(tuple(weights), average)  # an invalid average raises also for a single model
    ensembles = ensembles_of(members, weights, average) if len(members) > 1 else {}
    predictors = ScoredPredictors(members, ensembles)
    checked = check_examples(examples, classes.num_classes, ignore_class)
    predicted_images = predictors.predict(checked)
    return score(predicted_images, predictors, rules, classes=classes, split=split, tta=tta)


def score(
    predicted_images: Iterable[PredictedImage],
    predictors: ScoredPredictors,
    rules: Sequence[ScoringRules],
    *,
    classes: ClassTable,
    split: str,
    tta: str,
    tuned: TunedWeights | None = None,
) -> Evaluation:
    """Counts predicted images and computes all scores from the counts.

    Args:
        predicted_images: images of the split; each is released before the next is predicted.
        predictors: the predictors of these images.
        rules: the rules of each protocol to score by.
        classes: names and colors.
        split: name of the split.
        tta: test-time augmentation that the members were applied with.
        tuned: result of tuning the ensemble's weights; None if they were not tuned.

    Raises:
        InputError: no image.
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
        classes=classes,
        members=tuple(member.name for member in predictors.members),
        scores={
            one.protocol.name: {
                name: scores(one, *matrices) for name, matrices in confusion.matrices(one).items()
            }
            for one in rules
        },
        average=predictors.ensembles.get(ENSEMBLE),
        tuned=tuned,
        tta=tta,
    )
