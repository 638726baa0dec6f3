"""Measures how much the checkpoints of a training slow down its steps.

    python -m benchmarks.checkpoint_cost

A network trains for a minute without a checkpoint, then for a minute with a checkpoint, and so on.
The checkpoint is written in the background. A Markdown table is printed. During the benchmark, no
other programs should run.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from lcc_tf.config import TrainConfig
from lcc_tf.training.checkpoints import CheckpointWriter, TrainingState
from lcc_tf.training.label_rules import LabelRules
from lcc_tf.training.network import build_network, compile_for
from lcc_tf.training.phases import phases_of


def main() -> None:
    """Measures all periods, and prints the Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="resnet101", help="encoder of UNet++")
    parser.add_argument("--image-size", type=int, default=256, help="pixels")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60, help="duration of a period")
    parser.add_argument("--pairs", type=int, default=5, help="number of pairs of periods")
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
    for _ in range(3):
        model.train_on_batch(*batch)

    pairs, waits = [], []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        writer = CheckpointWriter(Path(folder))
        for _ in range(options.pairs):
            without, _ = period(model, batch, options.seconds, None)
            with_checkpoint, wait = period(model, batch, options.seconds, writer)
            writer.finish()
            pairs.append(with_checkpoint / without)
            waits.append(wait)
    print("| measurement | median | smallest | largest |\n|---|---|---|---|")
    for name, values, unit in (
        ("time per step with checkpoints / without", pairs, ""),
        ("pause of the training per checkpoint", waits, " s"),
    ):
        low, high = min(values), max(values)
        print(f"| {name} | {statistics.median(values):.3f}{unit} | {low:.3f} | {high:.3f} |")


def period(
    model: keras.Model,
    batch: tuple[np.ndarray, np.ndarray],
    seconds: float,
    writer: CheckpointWriter | None,
) -> tuple[float, float]:
    """Trains for some seconds. Writes a checkpoint after the first step, if `writer` is not None.

    Returns:
        Mean time per step, and the time that the training waited for the checkpoint; seconds.
    """
    start, steps, wait = time.perf_counter(), 0, 0.0
    while time.perf_counter() - start < seconds:
        model.train_on_batch(*batch)
        steps += 1
        if writer and steps == 1:
            before = time.perf_counter()
            writer.write(model, TrainingState(), wait=False)
            wait = time.perf_counter() - before
    return (time.perf_counter() - start) / steps, wait


if __name__ == "__main__":
    main()
