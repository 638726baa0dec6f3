"""Measures how fast a data set is prepared, and how fast training receives its images.

    python -m benchmarks.data_rates --data data/deepglobe --folder bench/rates

- Preparation: `python -m tfds_deepglobe prepare`, compared with one processor core that only
  decodes the same files with Pillow.
- Training: batches of augmented images of 512x512 pixels per second, without a network. The first
  epoch reads and decodes files. Later epochs use the decoded images in memory, if they fit.

A Markdown table is printed. Without `--data`, the images are synthetic scenes of 2448x2448 pixels.
During the benchmark, no other programs should run.
"""

import argparse
import dataclasses
import shutil
import subprocess
import sys
import time
from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from lcc_tf.config import DataConfig, TrainConfig
from lcc_tf.data.dataset import prepare_dataset
from lcc_tf.data.demo import write_demo_archive
from lcc_tf.training.label_rules import label_rules_of
from lcc_tf.training.training_data import TrainingData, training_data_of

SECONDS = 20  # duration of the measurement of later epochs
FRAMINGS = {
    "crops at the resolution of the images": {"framing": "crops"},
    "crops, all at random positions": {"framing": "crops", "rare_class_share": 0.0},
    "whole images, resized": {"framing": "whole"},
}


def main() -> None:
    """Measures all rates, and prints the Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="folder for prepared data")
    parser.add_argument("--data", help="folder of images and masks, named as in DeepGlobe")
    parser.add_argument("--count", type=int, default=12, help="number of synthetic scenes")
    parser.add_argument("--batch-size", type=int, default=4)
    options = parser.parse_args()
    data = options.data
    if data is None:
        data = str(write_demo_archive(options.folder / "scenes", count=options.count, size=2448))
    cache = options.folder / "tfds"
    shutil.rmtree(cache, ignore_errors=True)
    decoding, number = decode_with_pillow(Path(data))
    preparing = prepare(data, cache)
    print("| work | result |\n|---|---|")
    print(f"| decode {number} files with Pillow, one core | {decoding:.1f} s |")
    print(f"| prepare them | {preparing:.1f} s |", flush=True)
    builder = prepare_dataset(**dataclasses.asdict(DataConfig(data=data, cache_dir=str(cache))))
    for name, changes in FRAMINGS.items():
        config = TrainConfig(image_size=512, batch_size=options.batch_size, **changes)
        first, later = rates(batches_of(config, builder))
        print(f"| {name}, first epoch | {first:.0f} images/s |")
        print(f"| {name}, later epochs | {later:.0f} images/s |", flush=True)


def decode_with_pillow(folder: Path) -> tuple[float, int]:
    """Decodes all images and masks, and returns the seconds and the number of files."""
    files = [*folder.rglob("*_sat.jpg"), *folder.rglob("*_mask.png")]
    start = time.monotonic()
    for file in files:
        with Image.open(file) as image:
            image.load()
    return time.monotonic() - start, len(files)


def prepare(data: str, cache: Path) -> float:
    """Prepares a data set in a new process, and returns the seconds without the start of Python."""

    def run(*arguments: str) -> float:
        start = time.monotonic()
        command = [sys.executable, "-m", "tfds_deepglobe", "prepare", "--data", data]
        subprocess.run(
            [*command, "--cache-dir", str(cache), *arguments], check=True, capture_output=True
        )
        return time.monotonic() - start

    first = run()
    return first - run()  # the second time, only the start of the program takes time


def batches_of(config: TrainConfig, builder: tfds.core.DatasetBuilder) -> TrainingData:
    """Returns the training data of a configuration."""
    return training_data_of(config, builder, label_rules_of(config, builder))


def rates(data: TrainingData) -> tuple[float, float]:
    """Returns the images per second of the first pass over the images, and of later epochs."""
    batches = iter(data.training_batches())
    per_image = data.crops.per_image if data.crops else 1
    num_images = data.steps_per_epoch * data.batch_size
    first = seconds_of(batches, max(1, num_images // per_image // data.batch_size))
    seconds_of(batches, 2 * data.steps_per_epoch)
    steps = max(1, int(SECONDS / seconds_of(batches, data.steps_per_epoch) * data.steps_per_epoch))
    later = seconds_of(batches, steps)
    return num_images / per_image / first, steps * data.batch_size / later


def seconds_of(batches: "tf.data.Iterator", steps: int) -> float:
    """Takes a number of batches and returns the seconds."""
    start = time.monotonic()
    for _ in range(steps):
        next(batches)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
