"""Runs and a split -> scores, by one protocol or several."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from lcc_tf.data.dataset import class_table, prepare_dataset
from lcc_tf.data.pipeline import evaluation_batches, split_size
from lcc_tf.errors import InputError
from lcc_tf.figures import save_panel
from lcc_tf.models.ensemble import check_member_weights
from lcc_tf.prediction.predictors import Average, Predictor
from lcc_tf.runs import Run, check_same_classes
from lcc_tf.scoring.color_baseline import ColorBaseline
from lcc_tf.scoring.confusion import SplitCounts
from lcc_tf.scoring.ensemble_weights import tune_weights
from lcc_tf.scoring.examples import native_images
from lcc_tf.scoring.protocols import ORIGINAL, Protocol, predicted_ids
from lcc_tf.scoring.resizing import at_size
from lcc_tf.scoring.results import ENSEMBLE, WITHOUT, Evaluation
from lcc_tf.scoring.scored_predictors import COLOR_BASELINE, Predictors
from lcc_tf.scoring.scores import scores
from tfds_deepglobe.classes import ClassTable
from tfds_deepglobe.errors import InputError as DatasetError
from tfds_deepglobe.prepare import load

EQUAL, TUNED = "equal", "tuned"  # ways to weight an ensemble's members
PANELS = 6
PANEL_SIDE = 512  # the longer one of a picture, pixels


def evaluate(
    runs: Sequence[Run],
    builder: tfds.core.DatasetBuilder,
    *,
    protocols: Sequence[Protocol] = (ORIGINAL,),
    split: str = "test",
    with_ensemble: bool = True,
    member_weights: Sequence[float] | str = EQUAL,
    average: str = "probabilities",
    tta: str = "none",
    with_color_baseline: bool = False,
    panels: Path | None = None,
) -> Evaluation:
    """Scores runs, and their ensemble, by one protocol or several.

    Each member predicts an image in its own framing; its probabilities are brought to the
    protocol's resolution bilinearly, and the ensemble's are their mean there.

    Args:
        runs: at least one, all with the data set's classes.
        builder: a prepared data set.
        protocols: to score by.
        split: "train", "validation" or "test".
        with_ensemble: also score the mean of the runs' probabilities; of three runs and more, also
            the mean without each of them.
        member_weights: of the ensemble, one a run; or "equal"; or "tuned" for those that
            `tune_weights` finds on the split "validation" by the first protocol.
        average: "probabilities" or "logits", see `lcc_tf.models.ensemble.weighted_average`.
        tta: test-time augmentation of each member, a key of `lcc_tf.prediction.tta.TTA`.
        with_color_baseline: also score a classifier of single pixels' colours, fitted on "train".
        panels: folder for pictures of the first images with truth and prediction; None for none.

    Returns:
        The scores.

    Raises:
        InputError: the split is empty, a run has no weights, options that don't go together.
    """
    check_runs(runs)
    num_images = split_size(builder, split)
    if not with_ensemble and (member_weights, average) != (EQUAL, "probabilities"):
        raise InputError(
            "Weights of members and `--average` make sense with `--ensemble` alone. "
            f"Received: member_weights={member_weights}, average={average!r}."
        )
    if isinstance(member_weights, str):
        if member_weights not in (EQUAL, TUNED):
            raise InputError(
                "`member_weights` must be equal, tuned, or a number for each run. "
                f"Received: {member_weights}."
            )
    else:
        check_member_weights(member_weights, len(runs))
    classes = runs[0].classes
    members = [Predictor.from_run(run, tta=tta) for run in runs]
    tuned = None
    if member_weights == EQUAL:
        member_weights = [1.0] * len(members)
    elif member_weights == TUNED:
        tuned = tune_weights(members, builder, protocols[0], average, classes.names)
        member_weights = tuned.weights
    predictors = Predictors(
        members,
        _ensembles(members, member_weights, average) if with_ensemble else {},
        _fit_color_baseline(builder, classes) if with_color_baseline else None,
    )
    counts = SplitCounts(protocols, classes.names)
    for index, (image, mask) in enumerate(native_images(builder, split, f"scoring {split}")):
        own = [member.predict_image(image) for member in members]
        counts.add(predictors, own, image, mask)
        if panels and index < PANELS:
            file = panels / f"{split}_{index:02d}.png"
            title = f"{split} image {index + 1} of {num_images}"
            _save_panel(predictors, own, image, mask, protocols[0], classes, file, title)
    return Evaluation(
        split=split,
        num_images=num_images,
        classes=classes,
        members=tuple(member.name for member in members),
        scores={
            protocol.name: {
                name: scores(protocol, *matrices, classes.names)
                for name, matrices in counts.matrices(protocol).items()
            }
            for protocol in protocols
        },
        average=predictors.ensembles.get(ENSEMBLE),
        tuned=tuned,
        tta=tta,
    )


def _ensembles(
    members: Sequence[Predictor], weights: Sequence[float], average: str
) -> dict[str, Average]:
    """The ensemble, and of three members and more each ensemble that lacks one."""
    ensembles = {ENSEMBLE: Average(tuple(weights), average)}
    if len(members) > 2:
        for i, member in enumerate(members):
            rest = (*weights[:i], 0.0, *weights[i + 1 :])
            if sum(rest):  # one member may have all the weight
                ensembles[WITHOUT + member.name] = Average(rest, average)
    return ensembles


def _fit_color_baseline(builder: tfds.core.DatasetBuilder, classes: ClassTable) -> ColorBaseline:
    batches = evaluation_batches(builder, "train", image_size=ORIGINAL.side, batch_size=8)
    return ColorBaseline.fit(batches.as_numpy_iterator(), classes.num_classes)


def _save_panel(
    predictors: Predictors,
    own: Sequence[np.ndarray],
    image: np.ndarray,
    mask: np.ndarray,
    protocol: Protocol,
    classes: ClassTable,
    file: Path,
    title: str,
) -> None:
    """Draws what the predictors make of an image; ensembles that lack a member are left out."""
    enlargement = PANEL_SIDE / max(mask.shape)
    height, width = (max(round(side * enlargement), 1) for side in mask.shape)
    image, mask = at_size(image, mask, (height, width))
    predictions = {
        name: predicted_ids(p, protocol, classes.names)
        for name, p in predictors.at(own, image, slice(0, height))
        if not name.startswith(WITHOUT)
    }
    save_panel(image, mask, predictions, classes, file, title=title)


def check_runs(runs: Sequence[Run]) -> None:
    """Checks, before any long work, that runs can be scored side by side.

    Raises:
        InputError: they differ in their classes, or their names can't be told apart.
    """
    check_same_classes(runs)
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise InputError(
            f"Two run folders have the same name: {[str(run.path) for run in runs]}. Rename one."
        )
    reserved = {ENSEMBLE, COLOR_BASELINE, *(WITHOUT + name for name in names)}
    if taken := sorted(reserved & set(names)):
        raise InputError(f"A run can't be named {taken[0]!r}. Rename its folder.")


def open_dataset(
    runs: Sequence[Run],
    data: str | None = None,
    *,
    image_glob: str | None = None,
    mask_pattern: str | None = None,
) -> tfds.core.DatasetBuilder:
    """Opens the data set that all runs were trained on, or another one with the same classes.

    A run that was imported from elsewhere has no data set of its own and fits any.

    Args:
        runs: that shall be scored, all with the same classes.
        data: folder or zip of another raw archive, or "demo"; None for the runs' own.
        image_glob: what images of `data` are called; None for what the runs' own are.
        mask_pattern: what masks of `data` are called; None for what the runs' own are.

    Returns:
        The prepared data set.

    Raises:
        InputError: the runs differ in their data sets, the data can't be had, or names are given
            without `data`.
    """
    names = {"image_glob": image_glob, "mask_pattern": mask_pattern}
    names = {field: pattern for field, pattern in names.items() if pattern is not None}
    if names and data is None:
        raise InputError(
            "`--image-glob` and `--mask-pattern` are names of files in `--data`, without which the "
            f"runs' own data set is scored. Received: {names}. Give `--data` too, or leave them "
            "out."
        )
    trained_here = [run for run in runs if run.fingerprint is not None]
    config = (trained_here or runs)[0].config.data
    if data is not None:
        # Lists name the runs' own images.
        config = replace(config, data=data, split_files=None, **names)
        builder = prepare_dataset(**asdict(config))
    else:
        builder = _open_own_dataset(trained_here)
    if class_table(builder) != runs[0].classes:
        raise InputError(
            "The data set has other classes than the runs. "
            f"Received: {class_table(builder).names}, expected: {runs[0].classes.names}."
        )
    return builder


def _open_own_dataset(runs: Sequence[Run]) -> tfds.core.DatasetBuilder:
    """The data set that runs were trained on, prepared anew where the cache lacks it."""
    if not runs:
        raise InputError(
            "The runs were imported, so it is not known on what to score them. Name a data set by "
            "`--data`."
        )
    if len({run.fingerprint for run in runs}) > 1:
        raise InputError(
            "The runs were trained on data sets that differ in their fingerprint: "
            + ", ".join(f"{run.path} ({run.config.data.data})" for run in runs)
            + ". What one is tested on, another may have seen in training: name runs of one data "
            "set by `--runs`, or the data to test on knowingly by `--data`."
        )
    config, fingerprint = runs[0].config.data, runs[0].fingerprint
    try:
        return load(config.cache_dir, fingerprint)
    except DatasetError:
        print(f"no prepared data set in {config.cache_dir}; preparing it from {config.data}")
    builder = prepare_dataset(**asdict(config))
    if builder.info.metadata["fingerprint"] != fingerprint:
        raise InputError(
            f"The archive {config.data} has changed since the runs were trained, and with it the "
            "split: test images of now may be training images of then. Bring it back, or name the "
            "data to test on knowingly by `--data`."
        )
    return builder
