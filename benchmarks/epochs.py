"""Measures the start of a training, and the time that an epoch needs in addition to its steps.

    python -m benchmarks.epochs --folder bench/epochs

Each network trains on synthetic scenes: crops of 256x256 pixels, 2 crops per batch. Each epoch has
10 steps, 4 validation steps and a checkpoint. The start is the time from the start of the command
to the end of the first step. The overhead of an epoch is the time of the epoch minus the time of
all training and validation steps. The time of these steps is the median time of a step, multiplied
by the number of steps. The overhead consists of the start of the validation, the weights file, the
checkpoint and the history. The first epoch is not included, because it traces the validation step.
During the benchmark, no other programs should run.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.checkpoint_cost import spread

ROOT = Path(__file__).parents[1]
STEPS = 10  # training steps per epoch


def main() -> None:
    """Measures the networks one after the other, and prints the Markdown table."""
    options = parser().parse_args()
    if options.worker:
        train(options)
        return
    if options.epochs < 2:
        sys.exit("The first epoch is not measured. Use --epochs 2 or more.")
    print(
        "| network | first step, s after the start | step, s | overhead of an epoch, s "
        "| overhead, % of the training steps |\n|---|---|---|---|---|"
    )
    measure("deeplabv3plus", options, epochs=1)  # prepares the data set, and fills the file cache
    for network in ("unetpp", "deeplabv3plus"):
        first, step, overheads = measure(network, options, options.epochs)
        shares = [100 * overhead / (STEPS * step) for overhead in overheads]
        print(
            f"| {network} | {first:.1f} | {step:.2f} | {spread(overheads)} | {spread(shares, 1)} |",
            flush=True,
        )


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--folder", type=Path, required=True, help="folder for data and runs")
    options.add_argument("--encoder", default="resnet101")
    options.add_argument("--epochs", type=int, default=6, help="at least 2")
    options.add_argument("--worker", help=argparse.SUPPRESS)  # network to train
    return options


def measure(
    network: str, options: argparse.Namespace, epochs: int
) -> tuple[float, float, list[float]]:
    """Trains a network in a new process.

    Returns:
        A tuple of three items:

        - seconds from the start of the process to the end of the first step,
        - median seconds per training step,
        - seconds of overhead per epoch, without the first epoch.
    """
    run = options.folder / f"epochs_{network}"
    shutil.rmtree(run, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.epochs", "--worker", network]
    command += ["--folder", options.folder, "--encoder", options.encoder, "--epochs", epochs]
    start = time.time()
    subprocess.run([*map(str, command)], check=True, cwd=ROOT, stdout=sys.stderr)
    times = json.loads((run / "times.json").read_text(encoding="utf-8"))
    durations: dict[str, list[float]] = {"step": [], "validation step": []}
    ends = [0]
    for index, ((_, before), (event, now)) in enumerate(zip(times, times[1:], strict=False), 1):
        if event in durations and times[index - 1][0] == event:
            durations[event].append(now - before)
        elif event == "epoch":
            ends.append(index)
    step, validation_step = (statistics.median(values) for values in durations.values())
    overheads = []
    for first, last in zip(ends[1:], ends[2:], strict=False):
        events = [event for event, _ in times[first + 1 : last + 1]]
        seconds = times[last][1] - times[first][1]
        seconds -= events.count("step") * step
        overheads.append(seconds - events.count("validation step") * validation_step)
    return times[0][1] - start, step, overheads


def train(options: argparse.Namespace) -> None:
    """Trains as train.py does, and writes the time of each step and of each epoch."""
    from lcc_tf.cli.options import set_environment

    set_environment()
    import lcc_tf.training.train as training
    from lcc_tf.config import DataConfig, TrainConfig

    times = []

    class TimedRecorder(training.RunRecorder):
        """Recorder that also stores the time of each step and of each epoch."""

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            super().on_train_batch_end(batch, logs)
            times.append(("step", time.time()))

        def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
            super().on_test_batch_end(batch, logs)
            times.append(("validation step", time.time()))

        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            super().on_epoch_end(epoch, logs)
            times.append(("epoch", time.time()))

    training.RunRecorder = TimedRecorder
    # The 24 scenes are divided into 20 training, 2 validation and 2 test images. Each validation
    # image has 4 crops.
    data = DataConfig(
        data="demo", cache_dir=str(options.folder / "tfds"), demo_count=24, demo_size=512
    )
    config = TrainConfig(
        data=data,
        arch=options.worker,
        encoder=options.encoder,
        encoder_weights=None,
        image_size=256,
        batch_size=20 // STEPS,
        crops_per_image=1,
        epochs=options.epochs,
    )
    workdir = options.folder / f"epochs_{options.worker}"
    training.train(config, workdir)
    (workdir / "times.json").write_text(json.dumps(times), encoding="utf-8")


if __name__ == "__main__":
    main()
