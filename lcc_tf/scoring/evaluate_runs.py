"""Scoring of trained runs and of their ensemble on a split of a prepared data set.

The members of an ensemble are the networks of the runs. The framing of a run is the kind of its
training images: crops, or whole, resized images. The fingerprint of a data set is a hash of its
content.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import tensorflow_datasets as tfds

from lcc_tf.band_names import key_of
from lcc_tf.bands import check_equal_bands
from lcc_tf.data.dataset import class_table, prepare_dataset, reading
from lcc_tf.data.pipeline import evaluation_batches, split_size
from lcc_tf.data.training_images import read_training_images
from lcc_tf.errors import InputError
from lcc_tf.ground_truth import NO_TRUTH
from lcc_tf.models.averaging import check_member_weights
from lcc_tf.prediction.predictors import Predictor
from lcc_tf.range_check import RangeCheck
from lcc_tf.runs import Run, check_same_classes
from lcc_tf.scoring.color_baseline import ColorBaseline
from lcc_tf.scoring.ensemble_weights import tune_weights
from lcc_tf.scoring.evaluate import score
from lcc_tf.scoring.examples import Example, split_examples
from lcc_tf.scoring.panels import draw_panels
from lcc_tf.scoring.protocols import ORIGINAL, scoring_rules
from lcc_tf.scoring.results import Evaluation
from lcc_tf.scoring.scored_predictors import ScoredPredictors, check_names, ensembles_of
from tfds_deepglobe.errors import NotPreparedError, listed
from tfds_deepglobe.prepare import load
from tfds_deepglobe.source_files import equal_fingerprints, image_checksums

EQUAL, TUNED = "equal", "tuned"  # names that are accepted as `member_weights`


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
    allow_training_images: bool = False,
) -> Evaluation:
    """Scores runs and their ensemble with published protocols.

    1. Each run predicts an image. A run that was trained on whole images predicts the whole,
       resized image. A run that was trained on crops predicts tiles of the image without resizing.
    2. The probabilities are resized to the resolution of the protocol.
    3. The ensemble averages the resized probabilities of the runs.

    Args:
        runs: one run or more, all with the classes of the data set.
        builder: a prepared data set.
        protocols: one or more keys of `lcc_tf.scoring.protocols.PROTOCOLS`.
        split: "train", "validation" or "test".
        ensemble: True to also score the ensemble of the runs. For three runs or more, each ensemble
            without one of the runs is also scored.
        member_weights: "equal", "tuned", or a sequence with one weight per run. For "tuned",
            `tune_weights` searches the weights with the highest mean IoU of the first protocol on
            the split "validation".
        average: "probabilities" or "logits", see `lcc_tf.models.averaging.weighted_average`.
        tta: test-time augmentation of each run, a key of `lcc_tf.prediction.tta.TTA`.
        color_baseline: True to also score a `ColorBaseline`. It is fitted on the split "train".
        panels: existing folder for pictures. Each picture shows one of the first images, its ground
            truth and the predictions. None for no pictures.
        allow_training_images: True to also score images on which a run was trained.

    Raises:
        InputError: one of these reasons:

            - The split is empty.
            - A run has no weights.
            - A run was trained on an image of the split "validation" or "test".
            - An argument is invalid.
    """
    check_runs(runs)
    if split != "train" and not allow_training_images:
        _check_not_trained_on(runs, builder, split)
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
        _fit_color_baseline(builder, runs[0]) if color_baseline else None,
    )
    examples = split_examples(builder, split, f"scoring {split}")
    images = predictors.predict(_with_range_check(examples, runs, split))
    if panels:
        images = draw_panels(images, panels, rules[0], split=split, num_images=num_images)
    return score(images, predictors, rules, split=split, tta=tta, tuned=tuned)


def _with_range_check(
    examples: Iterable[Example], runs: Sequence[Run], split: str
) -> Iterator[Example]:
    """Yields examples, and then prints a warning if they differ from the training images of runs.

    Args:
        examples: images and masks of a split, at least one.
        runs: runs to score.
        split: name of the split.
    """
    checks = {run.bands.ranges: RangeCheck(run.bands) for run in runs if run.bands}
    for image, mask in examples:
        for check in checks.values():
            check.add(image[mask != NO_TRUTH])
        yield image, mask
    for text in dict.fromkeys(check.warning(image.dtype.name) for check in checks.values()):
        if text:
            print(f"{split} images: {text}")


def _check_not_trained_on(
    runs: Sequence[Run], builder: tfds.core.DatasetBuilder, split: str
) -> None:
    """Checks that the runs were not trained on the images of a split, by checksums of the files.

    The validation images of a run decide which weights are the best. Therefore images of the split
    "test" must not be validation images of a run.

    Raises:
        InputError: A run was trained on an image of the split.
    """
    scored = image_checksums(Path(builder.data_dir), split)
    for run in runs:
        if run.fingerprint is None or equal_fingerprints(
            run.fingerprint, builder.info.metadata["fingerprint"]
        ):
            continue  # imported from another program, or trained on the same data set
        images = read_training_images(run.path)
        if not scored or images is None:
            print(
                f"warning: {run.path} or the data set has no checksums of images, because it is "
                f"from an earlier version. Therefore some {split} images may be training images "
                "of the run."
            )
            continue
        trained = images["train"] | (images["validation"] if split == "test" else set())
        if found := sorted(i for i, checksum in scored.items() if checksum in trained):
            raise InputError(
                f"{len(found)} of {len(scored)} {split} images are images on which {run.path} was "
                f"trained, or with which its best weights were chosen: {listed(found)}. Their "
                "scores would be too high. Choose other images, or set `allow_training_images`."
            )


def _fit_color_baseline(builder: tfds.core.DatasetBuilder, run: Run) -> ColorBaseline:
    batches = evaluation_batches(builder, "train", image_size=ORIGINAL.side, batch_size=8)
    with reading(builder):
        return ColorBaseline.fit(batches.as_numpy_iterator(), run.classes.num_classes, run.bands)


def check_runs(runs: Sequence[Run]) -> None:
    """Checks that runs can be scored together, before long computations start.

    Raises:
        InputError: the runs differ in their classes or bands, or their names are not unique.
    """
    check_same_classes(runs)
    check_equal_bands([run.bands for run in runs])
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise InputError(
            "`runs` must be folders with different names. Received folders with the same name: "
            f"{[str(run.path) for run in runs]}. Rename one of the folders."
        )
    check_names(names)


def _check_ensemble(
    num_runs: int, ensemble: bool, member_weights: Sequence[float] | str, average: str
) -> None:
    """Checks the arguments for the ensemble.

    Raises:
        InputError: the weights are invalid, or arguments need an ensemble but `ensemble` is False.
    """
    if not ensemble and (member_weights, average) != (EQUAL, "probabilities"):
        raise InputError(
            "`member_weights` and `average` need `ensemble=True`. "
            f"Received: member_weights={member_weights}, average={average!r}. Add `ensemble=True`, "
            "or remove both arguments."
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
    """Opens the data set on which the runs were trained, or another data set with the same classes.

    For a run that was imported from another program, the training data set is unknown. Such a run
    can be scored on any data set with its classes.

    Args:
        runs: the runs to score, all with the same classes.
        data: folder or zip file of another raw archive, or "demo". None for the data set on which
            the runs were trained.
        image_glob: name pattern of the images in `data`. None for the pattern in the configuration
            of the runs.
        mask_pattern: name pattern of the masks in `data`. None for the pattern in the configuration
            of the runs.

    Returns:
        The prepared data set.

    Raises:
        InputError: one of these reasons:

            - The runs were trained on different data sets.
            - The data cannot be prepared.
            - The data set and the runs have different classes or bands.
            - There are name patterns but no `data`.
    """
    names = {"image_glob": image_glob, "mask_pattern": mask_pattern}
    names = {field: pattern for field, pattern in names.items() if pattern is not None}
    if names and data is None:
        raise InputError(
            "`image_glob` and `mask_pattern` are name patterns of files in `data`, and cannot be "
            f"used without `data`. Received: {names}. Add `data`, or remove the patterns."
        )
    not_imported = [run for run in runs if run.fingerprint is not None]
    config = (not_imported or runs)[0].config.data
    if data is not None:
        # The split lists contain names of training images of the runs. `data` has other images.
        config = replace(
            config, data=data, split="auto", split_files=None, group_by="auto", **names
        )
        builder = prepare_dataset(**asdict(config))
    else:
        builder = _open_training_dataset(not_imported)
    if class_table(builder) != runs[0].classes:
        raise InputError(
            "The data set must have the classes of the runs. "
            f"Received: {class_table(builder).names}. Expected: {runs[0].classes.names}. Choose "
            "another data set as `data`, or other `runs`."
        )
    bands = runs[0].bands
    expected = bands.names if bands else ()
    received = tuple(builder.info.metadata.get("bands", {}).get("names", ()))
    if [*map(key_of, received)] != [*map(key_of, expected)]:
        raise InputError(
            "The images must have the bands of the runs. Received: "
            f"{', '.join(received) or 'RGB'}. Expected: {', '.join(expected) or 'RGB'}. Choose "
            "another data set as `data`, or other `runs`."
        )
    return builder


def _open_training_dataset(runs: Sequence[Run]) -> tfds.core.DatasetBuilder:
    """Opens the data set on which the runs were trained; prepares it if it is not in the cache."""
    if not runs:
        raise InputError(
            "The training data set is unknown, because the runs were imported. Choose a data set "
            "for scoring as `data`."
        )
    # Fingerprints of earlier versions are shorter. A short fingerprint can match several longer
    # fingerprints. Therefore compare all fingerprints with the longest fingerprint.
    newest = max(runs, key=lambda run: len(run.fingerprint))
    if not all(equal_fingerprints(newest.fingerprint, run.fingerprint) for run in runs):
        raise InputError(
            "`runs` must be trained on the same data set, because a test image of one data set can "
            "be a training image of another data set. Received data sets that differ in their "
            "fingerprint: "
            + ", ".join(f"{run.path} ({run.config.data.data})" for run in runs)
            + ". Remove a run, or choose a data set for scoring as `data`."
        )
    config, fingerprint = newest.config.data, newest.fingerprint
    try:
        return load(config.cache_dir, fingerprint)
    except NotPreparedError:
        print(
            f"{config.cache_dir} does not contain the prepared data set. It is prepared again from "
            f"{config.data}."
        )
    builder = prepare_dataset(**asdict(config))
    if not equal_fingerprints(builder.info.metadata["fingerprint"], fingerprint):
        raise InputError(
            f"The archive {config.data} has changed since the training of the runs. Its splits can "
            "also have changed. Therefore some test images can be images on which the runs were "
            "trained. Restore the archive, or choose a data set for scoring as `data`."
        )
    return builder
