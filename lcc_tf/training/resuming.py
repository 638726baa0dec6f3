"""Checks before a training: the run folder must be empty, or its run must be able to resume.

The fingerprint of a data set is a hash of its content.
"""

from dataclasses import replace
from pathlib import Path

from lcc_tf.config import TrainConfig
from lcc_tf.errors import InputError
from lcc_tf.files import unfinished_name
from lcc_tf.runs import CONFIG, Run, read_run
from tfds_deepglobe.source_files import equal_fingerprints

# Fields of `TrainConfig` that can differ when a run resumes:
# - `epochs`: a run can train for more epochs.
# - `data`: the data set can be in another folder. `check_same_data` compares its content.
# - `xla`: XLA changes results by rounding errors only.
# - `checkpoint_minutes`: the checkpoints have no influence on the results.
# - `on_nan`: it has no influence before the first value that is not finite.
FREE_FIELDS = ("epochs", "data", "xla", "checkpoint_minutes", "on_nan")
# Key: field of `TrainConfig`. Value: automatic value of this field. When a run starts, it replaces
# an automatic value by a value that it chooses.
AUTOMATIC = {"batch_size": None, "precision": "auto"}


def check_workdir(config: TrainConfig, workdir: Path, *, resume: bool | None) -> None:
    """Checks that a run folder is empty, or that its run can resume.

    Args:
        config: configuration of the training.
        workdir: the run folder.
        resume: if True and `workdir` contains a run, resume this run. If None, resume this run
            only if it has the same configuration and is not finished.

    Raises:
        InputError: one of the following is wrong.

            - `workdir` is not empty, and `resume` does not allow to resume its run.
            - `workdir` is not empty and contains no run that can resume.
            - The run in `workdir` has another configuration.
    """
    # A training that was killed in its first seconds leaves only an unfinished `config.json`. Such
    # a folder counts as empty.
    unfinished = unfinished_name(workdir / CONFIG)
    is_free = not workdir.exists() or (workdir.is_dir() and not {*workdir.iterdir()} - {unfinished})
    if is_free:
        return
    if resume is False:
        raise not_empty(workdir)
    try:
        run = read_run(workdir)
    except InputError as error:
        raise (error if resume else not_empty(workdir)) from error
    if run.fingerprint is None:
        raise InputError(
            f"{workdir} contains an imported model. The training of an imported model cannot "
            "resume. Choose another `workdir`."
        )
    old, new = run.config.to_json(), with_chosen_values(config, run.config).to_json()
    changed = [name for name in new if name not in FREE_FIELDS and new[name] != old[name]]
    if changed:
        raise InputError(
            f"The options differ from the options of the run in {workdir}. Received: "
            + ", ".join(f"{name}={new[name]!r} instead of {old[name]!r}" for name in changed)
            + ". Use the options of the run, or train in another `workdir`. These options can "
            f"differ: {', '.join(FREE_FIELDS)}."
        )
    if resume is None and new["epochs"] != old["epochs"]:
        raise not_empty(workdir)


def with_chosen_values(config: TrainConfig, chosen: TrainConfig) -> TrainConfig:
    """Replaces automatic values by the values that a run chose when it started.

    Args:
        config: configuration, which can have automatic values.
        chosen: configuration of the run.
    """
    names = [name for name, automatic in AUTOMATIC.items() if getattr(config, name) == automatic]
    return replace(config, **{name: getattr(chosen, name) for name in names})


def not_empty(workdir: Path) -> InputError:
    """Returns the error for a run folder that contains other files or another run."""
    return InputError(
        f"{workdir} is not empty, and training never overwrites files. Use `resume=True` to "
        "resume the run in this folder, or choose another `workdir`."
    )


def check_same_data(run: Run) -> None:
    """Checks that the data set of a run has not changed since the run started.

    Args:
        run: run to train. If its folder has no `config.json`, the run is new and needs no check.

    Raises:
        InputError: files, classes or split of the data set have changed.
    """
    if not (run.path / CONFIG).exists():
        return
    earlier = read_run(run.path)
    if run.classes != earlier.classes or not equal_fingerprints(
        run.fingerprint, earlier.fingerprint
    ):
        raise InputError(
            f"The data set {run.config.data.data} has changed since the run in {run.path} started. "
            f"Received: fingerprint {run.fingerprint} instead of {earlier.fingerprint}. The split "
            "can have changed too. Images that were test images can therefore be training images "
            "now. Restore the data set, or train in another `workdir`."
        )
