"""Checks that a run folder is free, or that the run in it can resume."""

from pathlib import Path

from lcc_tf.config import TrainConfig
from lcc_tf.errors import InputError
from lcc_tf.runs import CONFIG, Run, read_run

# A data set may have moved: its fingerprint tells whether it is the same one. XLA changes results
# by rounding only.
FREE_FIELDS = ("epochs", "data", "xla")


def check_workdir(config: TrainConfig, workdir: Path, *, resume: bool) -> None:
    """Checks that a run folder is free, or that the run in it can resume.

    Args:
        config: of the training.
        workdir: the run folder.
        resume: resume the run in `workdir`, if it contains one.

    Raises:
        InputError: the folder is not empty, or its run has another configuration.
    """
    is_free = not workdir.exists() or (workdir.is_dir() and not any(workdir.iterdir()))
    if is_free:
        return
    if not resume:
        raise InputError(
            f"{workdir} is not empty, and a run is never overwritten. Resume the run in it with "
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
            f"The run in {workdir} was started with other options: "
            + ", ".join(f"{name}={old[name]!r}, now {new[name]!r}" for name in changed)
            + ". Resume with the same ones (`epochs` may differ), or train anew in another "
            "`workdir`."
        )


def check_same_data(run: Run) -> None:
    """Checks that a run resumes with the data set that it was started with.

    Args:
        run: to train; a run folder without a configuration is a new run.

    Raises:
        InputError: files, classes or split have changed.
    """
    if not (run.path / CONFIG).exists():
        return
    earlier = read_run(run.path)
    if (run.fingerprint, run.classes) != (earlier.fingerprint, earlier.classes):
        raise InputError(
            f"The data set {run.config.data.data} has changed since the run in {run.path} was "
            f"started (fingerprint {earlier.fingerprint[:16]}, now {run.fingerprint[:16]}). Its "
            "split has changed too: test images may have become training images. Restore the data "
            "set, or train anew in another `workdir`."
        )
