"""Checks of a run folder before training: it is empty, or its run can resume."""

from pathlib import Path

from lcc_tf.config import TrainConfig
from lcc_tf.errors import InputError
from lcc_tf.runs import CONFIG, Run, read_run

# Fields that can differ when a run resumes. The data set can have moved, and `check_same_data`
# compares its content. XLA changes results by rounding errors only.
FREE_FIELDS = ("epochs", "data", "xla")


def check_workdir(config: TrainConfig, workdir: Path, *, resume: bool) -> None:
    """Checks that a run folder is empty, or that its run can resume.

    Args:
        config: configuration of the training.
        workdir: the run folder.
        resume: resume the run in `workdir`, if there is one.

    Raises:
        InputError: the folder is not empty, or its run has another configuration.
    """
    is_free = not workdir.exists() or (workdir.is_dir() and not any(workdir.iterdir()))
    if is_free:
        return
    if not resume:
        raise InputError(
            f"{workdir} is not empty, and training never overwrites files. Resume its run with "
            "`resume=True`, or choose another `workdir`."
        )
    run = read_run(workdir)
    if run.fingerprint is None:
        raise InputError(
            f"{workdir} contains an imported model, whose training cannot resume. Choose another "
            "`workdir`."
        )
    old, new = run.config.to_json(), config.to_json()
    changed = [name for name in new if name not in FREE_FIELDS and new[name] != old[name]]
    if changed:
        raise InputError(
            f"The options differ from those of the run in {workdir}. Received: "
            + ", ".join(f"{name}={new[name]!r} instead of {old[name]!r}" for name in changed)
            + ". Resume with the run's options (only `epochs` can differ), or train in another "
            "`workdir`."
        )


def check_same_data(run: Run) -> None:
    """Checks that the data set of a run to resume has not changed.

    Args:
        run: run to train. If its folder has no `config.json`, the run is new and passes.

    Raises:
        InputError: files, classes or split have changed.
    """
    if not (run.path / CONFIG).exists():
        return
    earlier = read_run(run.path)
    if (run.fingerprint, run.classes) != (earlier.fingerprint, earlier.classes):
        raise InputError(
            f"The data set {run.config.data.data} has changed since the run in {run.path} started. "
            f"Received: fingerprint {run.fingerprint[:16]} instead of {earlier.fingerprint[:16]}. "
            "Its split has changed too, so test images can have become training images. Restore "
            "the data set, or train in another `workdir`."
        )
