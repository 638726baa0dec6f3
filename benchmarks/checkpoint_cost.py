"""Measures how much time each checkpoint of a training costs.

    python -m benchmarks.checkpoint_cost

A network trains with random images. In turns, a few steps run without a checkpoint, and a few
steps run while a checkpoint is written in the background. The cost of a checkpoint is the time from
its start to the end of the step in which it is finished, minus the median time of as many steps
without a checkpoint. The table contains the same difference for the steps without a checkpoint. It
shows the noise of the machine. During the benchmark, no other programs should run.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import trange

from lcc_tf.config import TrainConfig
from lcc_tf.training.checkpoints import CheckpointWriter, TrainingState
from lcc_tf.training.label_rules import LabelRules
from lcc_tf.training.network import build_network, compile_for
from lcc_tf.training.phases import phases_of


def main() -> None:
    """Measures all checkpoints, and prints the Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="resnet101", help="encoder of UNet++")
    parser.add_argument("--image-size", type=int, default=256, help="pixels")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--checkpoints", type=int, default=12, help="number of checkpoints")
    parser.add_argument("--steps", type=int, default=4, help="undisturbed steps per checkpoint")
    options = parser.parse_args()
    config = TrainConfig(
        encoder=options.encoder,
        encoder_weights=None,
        image_size=options.image_size,
        batch_size=options.batch_size,
    )
    model = build_network(config, 7, pretrained=False)
    compile_for(phases_of(config)[0], model, config, LabelRules(7, ignore_class=6), 1000)
    rng = np.random.default_rng(0)
    size = (options.batch_size, options.image_size, options.image_size)
    batch = rng.uniform(0, 255, (*size, 3)).astype(np.float32), rng.integers(0, 7, size)

    def seconds(work: Callable[[], object]) -> np.ndarray:
        """Returns the time and the processor time of some work."""
        before = time.perf_counter(), time.process_time()
        work()
        return np.subtract((time.perf_counter(), time.process_time()), before)

    def step() -> np.ndarray:
        return seconds(lambda: model.train_on_batch(*batch))

    for _ in range(3):
        step()
    without, costs, pauses = [[step() for _ in range(options.steps)]], [], []
    with tempfile.TemporaryDirectory(dir=".") as folder, CheckpointWriter(Path(folder)) as writer:
        for _ in trange(options.checkpoints, unit="checkpoint"):
            pauses.append(seconds(lambda: writer.write(model, TrainingState(), wait=False)))
            steps = [step()]
            while writer.is_writing:
                steps.append(step())
            without.append([step() for _ in range(options.steps)])
            # The speed of the machine can change. Therefore, the steps are compared with the steps
            # directly before and after them.
            usual = np.median(without[-2] + without[-1], axis=0)
            costs.append(pauses[-1] + np.sum(steps - usual, axis=0))
    noise = [np.sum(steps - np.median(steps, axis=0), axis=0) for steps in without]
    print(f"time per step: {np.median(without, axis=(0, 1))[0]:.2f} s")
    print("| measurement | time, s | processor time, s | time, % of a minute |\n|---|---|---|---|")
    for name, values in (
        ("pause of the training", pauses),
        ("cost of a checkpoint", costs),
        (f"{options.steps} steps without a checkpoint", noise),
    ):
        time_, processor = np.transpose(values)
        print(f"| {name} | {spread(time_)} | {spread(processor)} | {spread(time_ / 0.6, 1)} |")


def spread(values: np.ndarray, digits: int = 2) -> str:
    """Returns the median of some values, and their range in parentheses."""
    low, middle, high = np.quantile(values, [0, 0.5, 1])
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main()
