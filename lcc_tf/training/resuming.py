"""Checks that a run folder is free, or that the run in it can resume."""

from pathlib import Path

from lcc_tf.config import TrainConfig
from lcc_tf.errors import InputError
from lcc_tf.runs import Run, read_run


def check_same_data(run: Run, earlier: Run) -> None:
    """Checks that a run goes on with the data set that it was started with.

    Raises:
        InputError: files, classes or split have changed.
    """
    if (run.fingerprint, run.classes) != (earlier.fingerprint, earlier.classes):
        raise InputError(
            f"The data set {run.config.data.data} has changed since the run in {run.path} was "
            f"started (fingerprint {earlier.fingerprint[:16]}, now {run.fingerprint[:16]}), and "
            "with it the split: test images may have become training images. Bring it back, or "
            "start anew in another `--workdir`."
        )


def check_workdir(config: TrainConfig, workdir: Path, *, resume: bool) -> None:
    """Checks that a run folder is free, or that a run can go on there.

    Raises:
        InputError: the folder is taken, or the run in it has another configuration.
    """
    taken = workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir()))
    if not taken:
        return
    if not resume:
        raise InputError(
            f"{workdir} is not empty, and a run is never overwritten. Go on with the run in it by "
            "`--resume`, or choose another folder by `--workdir`."
        )
    run = read_run(workdir)
    if run.fingerprint is None:
        raise InputError(
            f"{workdir} holds an imported model, whose training cannot go on. Choose another "
            "folder by `--workdir`."
        )
    earlier = run.config.to_json()
    now = config.to_json()
    # The data set may have moved; whether it is the same one, its fingerprint tells.
    # Compiling with or without XLA changes no result beyond rounding.
    free = ("epochs", "data", "xla")
    changed = [name for name in now if name not in free and now[name] != earlier[name]]
    if changed:
        raise InputError(
            f"The run in {workdir} was started with other options: "
            + ", ".join(f"{name}={earlier[name]!r}, now {now[name]!r}" for name in changed)
            + ". Go on with the same ones (`--epochs` may differ), or start anew in another "
            "`--workdir`."
        )
