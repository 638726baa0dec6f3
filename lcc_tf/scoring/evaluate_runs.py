"""Scores of trained runs and their ensemble on a split of a prepared data set."""

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

EQUAL, TUNED = "equal", "tuned"  # values of `member_weights` that are not numbers


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
    """Scores runs and their ensemble with published protocols.

    Each run predicts an image in the framing of its training: the whole resized image, or tiles at
    the image's resolution. The probabilities are resized to the protocol's resolution. There the
    ensemble averages the probabilities of its members.

    Args:
        runs: one run or more, all with the data set's classes.
        builder: a prepared data set.
        protocols: keys of `lcc_tf.scoring.protocols.PROTOCOLS`.
        split: "train", "validation" or "test".
        ensemble: True to score the ensemble of the runs too. For three runs or more, each ensemble
            without one run is also scored.
        member_weights: "equal", "tuned", or one weight per run in the ensemble. For "tuned",
            `tune_weights` maximizes the mean IoU of the first protocol on the split "validation".
        average: "probabilities" or "logits", see `lcc_tf.models.averaging.weighted_average`.
        tta: test-time augmentation of each run, a key of `lcc_tf.prediction.tta.TTA`.
        color_baseline: True to score a color classifier of single pixels too, fitted on "train".
        panels: existing folder for pictures of the first images with ground truth and predictions;
            None for no pictures.

    Raises:
        InputError: the split is empty, a run has no weights, or an argument is invalid.
    """
    check_runs(runs)
    num_images = split_size(builder, split)
    _check_ensemble(len(runs), ensemble, member_weights, average)
    classes = runs[0].classes
    rules = scoring_rules(protocols, classes)

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
        images = draw_panels(images, panels, rules[0], split=split, num_images=num_images)
    return score(images, predictors, rules, split=split, tta=tta, tuned=tuned)


def _fit_color_baseline(builder: tfds.core.DatasetBuilder, num_classes: int) -> ColorBaseline:
    batches = evaluation_batches(builder, "train", image_size=ORIGINAL.side, batch_size=8)
    return ColorBaseline.fit(batches.as_numpy_iterator(), num_classes)


def check_runs(runs: Sequence[Run]) -> None:
    """Checks that runs can be scored side by side, before any long work.

    Raises:
        InputError: the runs differ in their classes, or their names are not unique.
    """
    check_same_classes(runs)
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise InputError(
            "`runs` must be folders with different names. Received two folders with the same name: "
            f"{[str(run.path) for run in runs]}. Rename a folder."
        )
    check_names(names)


def _check_ensemble(
    num_runs: int, ensemble: bool, member_weights: Sequence[float] | str, average: str
) -> None:
    """Checks the arguments for the ensemble.

    Raises:
        InputError: the weights are invalid, or arguments for an ensemble have no ensemble.
    """
    if not ensemble and (member_weights, average) != (EQUAL, "probabilities"):
        raise InputError(
            "`member_weights` and `average` need `ensemble=True`. "
            f"Received: member_weights={member_weights}, average={average!r}. Add `ensemble=True`, "
            "or remove them."
        )
    if not isinstance(member_weights, str):
        check_member_weights(member_weights, num_runs)
    elif member_weights not in (EQUAL, TUNED):
        raise InputError(
            f"`member_weights` must be {EQUAL}, {TUNED}, or one number per run. "
            f"Received: {member_weights}."
        )


def open_dataset(
    runs: Sequence[Run],
    data: str | None = None,
    *,
    image_glob: str | None = None,
    mask_pattern: str | None = None,
) -> tfds.core.DatasetBuilder:
    """Opens the data set on which the runs were trained, or another data set with their classes.

    The data set of an imported run is unknown. It can be scored on any data set.

    Args:
        runs: the runs to score, all with the same classes.
        data: folder or zip of another raw archive, or "demo"; None for the runs' data set.
        image_glob: pattern of the image names in `data`; None for the pattern of the runs' data.
        mask_pattern: pattern of the mask names in `data`; None for the pattern of the runs' data.

    Returns:
        The prepared data set.

    Raises:
        InputError: the runs differ in their data sets, the data cannot be prepared, the classes
            differ, or name patterns have no `data`.
    """
    names = {"image_glob": image_glob, "mask_pattern": mask_pattern}
    names = {field: pattern for field, pattern in names.items() if pattern is not None}
    if names and data is None:
        raise InputError(
            "`image_glob` and `mask_pattern` are name patterns of files in `data`, and need it. "
            f"Received: {names} without `data`. Add `data`, or remove the patterns."
        )
    trained_here = [run for run in runs if run.fingerprint is not None]
    config = (trained_here or runs)[0].config.data
    if data is not None:
        # The names in split lists are names of images in the runs' data set.
        config = replace(config, data=data, split_files=None, **names)
        builder = prepare_dataset(**asdict(config))
    else:
        builder = _open_training_dataset(trained_here)
    if class_table(builder) != runs[0].classes:
        raise InputError(
            "The data set must have the classes of the runs. "
            f"Received: {class_table(builder).names}. Expected: {runs[0].classes.names}. Choose "
            "another data set as `data`, or other `runs`."
        )
    return builder


def _open_training_dataset(runs: Sequence[Run]) -> tfds.core.DatasetBuilder:
    """Opens the data set on which runs were trained, or prepares it if it is not in the cache."""
    if not runs:
        raise InputError(
            "The runs were imported, so their data set is unknown. Choose a data set to score on "
            "as `data`."
        )
    if len({run.fingerprint for run in runs}) > 1:
        raise InputError(
            "`runs` must be trained on the same data set, since test images of a data set can be "
            "training images of another. Received data sets that differ in their fingerprint: "
            + ", ".join(f"{run.path} ({run.config.data.data})" for run in runs)
            + ". Remove a run, or choose the data set to score on as `data`."
        )
    config, fingerprint = runs[0].config.data, runs[0].fingerprint
    try:
        return load(config.cache_dir, fingerprint)
    except DatasetError:
        print(f"no prepared data set in {config.cache_dir}; preparing it from {config.data}")
    builder = prepare_dataset(**asdict(config))
    if builder.info.metadata["fingerprint"] != fingerprint:
        raise InputError(
            f"The archive {config.data} has changed since the training of the runs. Its splits "
            "have changed too, so test images can be former training images. Restore the archive, "
            "or choose the data set to score on as `data`."
        )
    return builder
