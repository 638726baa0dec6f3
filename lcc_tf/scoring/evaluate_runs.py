"""Scores trained runs and their ensemble on a split of a prepared data set."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import tensorflow_datasets as tfds

from lcc_tf.data.dataset import class_table, prepare_dataset
from lcc_tf.data.pipeline import evaluation_batches, split_size
from lcc_tf.errors import InputError
from lcc_tf.models.averaging import check_member_weights
from lcc_tf.prediction.predictors import Predictor
from lcc_tf.runs import Run, check_same_classes
from lcc_tf.scoring.color_baseline import ColorBaseline
from lcc_tf.scoring.ensemble_weights import tune_weights
from lcc_tf.scoring.evaluate import score
from lcc_tf.scoring.examples import split_examples
from lcc_tf.scoring.panels import draw_panels
from lcc_tf.scoring.protocols import ORIGINAL, scoring_rules
from lcc_tf.scoring.results import Evaluation
from lcc_tf.scoring.scored_predictors import ScoredPredictors, check_names, ensembles_of
from tfds_deepglobe.errors import InputError as DatasetError
from tfds_deepglobe.prepare import load

EQUAL, TUNED = "equal", "tuned"  # names of ways to weight an ensemble's members


def evaluate_runs(
    runs: Sequence[Run],
    builder: tfds.core.DatasetBuilder,
    *,
    protocols: Sequence[str] = ("original",),
    split: str = "test",
    ensemble: bool = True,
    member_weights: Sequence[float] | str = EQUAL,
    average: str = "probabilities",
    tta: str = "none",
    color_baseline: bool = False,
    panels: Path | None = None,
) -> Evaluation:
    """Scores runs and their ensemble by published protocols.

    Each run predicts an image as it was trained: the whole image resized, or tiles at the image's
    resolution. Its probabilities are resized to the protocol's resolution, where the ensemble
    averages them.

    Args:
        runs: at least one, all with the data set's classes.
        builder: a prepared data set.
        protocols: keys of `lcc_tf.scoring.protocols.PROTOCOLS`.
        split: "train", "validation" or "test".
        ensemble: also score the average of the runs and, for three runs or more, each average
            without one run.
        member_weights: one weight per run in the ensemble, or "equal", or "tuned" for the result of
            `tune_weights` on the split "validation" by the first protocol.
        average: "probabilities" or "logits", see `lcc_tf.models.averaging.weighted_average`.
        tta: test-time augmentation of each run, a key of `lcc_tf.prediction.tta.TTA`.
        color_baseline: also score a classifier of single pixels' colors, fitted on "train".
        panels: existing folder for pictures of the first images with ground truth and predictions;
            None for no pictures.

    Raises:
        InputError: the split is empty, a run has no weights, or arguments are invalid together.
    """
    check_runs(runs)
    num_images = split_size(builder, split)
    _check_ensemble(len(runs), ensemble, member_weights, average)
    classes = runs[0].classes
    rules = scoring_rules(protocols, classes.names)

    members = [Predictor.from_run(run, tta=tta) for run in runs]
    tuned = None
    if member_weights == EQUAL:
        member_weights = [1.0] * len(members)
    elif member_weights == TUNED:
        tuned = tune_weights(members, builder, rules[0], average)
        member_weights = tuned.weights
    predictors = ScoredPredictors(
        members,
        ensembles_of(members, member_weights, average) if ensemble else {},
        _fit_color_baseline(builder, classes.num_classes) if color_baseline else None,
    )
    images = predictors.predict(split_examples(builder, split, f"scoring {split}"))
    if panels:
        images = draw_panels(images, panels, rules[0], classes, split=split, num_images=num_images)
    return score(images, predictors, rules, classes=classes, split=split, tta=tta, tuned=tuned)


def _fit_color_baseline(builder: tfds.core.DatasetBuilder, num_classes: int) -> ColorBaseline:
    batches = evaluation_batches(builder, "train", image_size=ORIGINAL.side, batch_size=8)
    return ColorBaseline.fit(batches.as_numpy_iterator(), num_classes)


def check_runs(runs: Sequence[Run]) -> None:
    """Checks, before any long work, that runs can be scored side by side.

    Raises:
        InputError: the runs' classes differ, or their names are not unique.
    """
    check_same_classes(runs)
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise InputError(
            "The names of run folders must differ. "
            f"Received two with the same name: {[str(run.path) for run in runs]}. Rename one."
        )
    check_names(names)


def _check_ensemble(
    num_runs: int, ensemble: bool, member_weights: Sequence[float] | str, average: str
) -> None:
    """Checks the options of the ensemble.

    Raises:
        InputError: invalid weights, or options of an ensemble without an ensemble.
    """
    if not ensemble and (member_weights, average) != (EQUAL, "probabilities"):
        raise InputError(
            "`member_weights` and `average` need `ensemble=True`. "
            f"Received: member_weights={member_weights}, average={average!r}."
        )
    if not isinstance(member_weights, str):
        check_member_weights(member_weights, num_runs)
    elif member_weights not in (EQUAL, TUNED):
        raise InputError(
            "`member_weights` must be equal, tuned, or one number per run. "
            f"Received: {member_weights}."
        )


def open_dataset(
    runs: Sequence[Run],
    data: str | None = None,
    *,
    image_glob: str | None = None,
    mask_pattern: str | None = None,
) -> tfds.core.DatasetBuilder:
    """Opens the data set that all runs were trained on, or another one with the same classes.

    An imported run has no data set of its own and can be scored on any.

    Args:
        runs: the runs to score, all with the same classes.
        data: folder or zip of another raw archive, or "demo"; None for the runs' data set.
        image_glob: pattern of the image names in `data`; None for the pattern of the runs' data.
        mask_pattern: pattern of the mask names in `data`; None for the pattern of the runs' data.

    Returns:
        The prepared data set.

    Raises:
        InputError: the runs' data sets differ, the data cannot be prepared, or name patterns are
            given without `data`.
    """
    names = {"image_glob": image_glob, "mask_pattern": mask_pattern}
    names = {field: pattern for field, pattern in names.items() if pattern is not None}
    if names and data is None:
        raise InputError(
            "`image_glob` and `mask_pattern` are name patterns of files in `data`, and without "
            f"`data` the runs' own data set is scored. Received: {names}. Give `data` too, or omit "
            "them."
        )
    trained_here = [run for run in runs if run.fingerprint is not None]
    config = (trained_here or runs)[0].config.data
    if data is not None:
        # Split lists name images of the runs' own data set.
        config = replace(config, data=data, split_files=None, **names)
        builder = prepare_dataset(**asdict(config))
    else:
        builder = _open_training_dataset(trained_here)
    if class_table(builder) != runs[0].classes:
        raise InputError(
            "The data set must have the classes of the runs. "
            f"Received: {class_table(builder).names}, expected: {runs[0].classes.names}."
        )
    return builder


def _open_training_dataset(runs: Sequence[Run]) -> tfds.core.DatasetBuilder:
    """Opens the data set that runs were trained on; prepares it if the cache lacks it."""
    if not runs:
        raise InputError(
            "The runs were imported, so their data set is not known. Name a data set to score them "
            "on as `data`."
        )
    if len({run.fingerprint for run in runs}) > 1:
        raise InputError(
            "The runs were trained on data sets that differ in their fingerprint: "
            + ", ".join(f"{run.path} ({run.config.data.data})" for run in runs)
            + ". Test images of one may be training images of another. Score `runs` of one data "
            "set, or name the data to test on explicitly as `data`."
        )
    config, fingerprint = runs[0].config.data, runs[0].fingerprint
    try:
        return load(config.cache_dir, fingerprint)
    except DatasetError:
        print(f"no prepared data set in {config.cache_dir}; preparing it from {config.data}")
    builder = prepare_dataset(**asdict(config))
    if builder.info.metadata["fingerprint"] != fingerprint:
        raise InputError(
            f"The archive {config.data} has changed since the runs were trained, and its split "
            "with it: test images may have been training images. Restore the archive, or name the "
            "data to test on explicitly as `data`."
        )
    return builder
