"""Measures how fast a data set is prepared, and how fast training receives its images.

    python -m benchmarks.data_rates --data data/deepglobe --folder bench/rates

- Preparation of the TFRecords, compared with one processor core that only decodes the same files
  with Pillow.
- Training: augmented images of 512x512 pixels per second, in batches, without a network. The images
  are decoded from files, or they are in memory, see `training_batches`.

A Markdown table is printed. Without `--data`, the images are synthetic scenes of 2448x2448 pixels.
During the benchmark, no other programs should run.
"""

import argparse
import contextlib
import dataclasses
import io
import shutil
import time
from pathlib import Path

import tensorflow_datasets as tfds
from PIL import Image

from lcc_tf.config import DataConfig, TrainConfig
from lcc_tf.data.dataset import prepare_dataset
from lcc_tf.data.demo import write_demo_archive
from lcc_tf.data.pipeline import training_batches
from lcc_tf.training.label_rules import label_rules_of
from lcc_tf.training.training_data import TrainingData, training_data_of

SECONDS = 15  # duration of a measurement
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
    preparing, builder = prepare_data(data, cache)
    print("| work | result |\n|---|---|")
    print(f"| decode {number} files with Pillow, one core | {decoding:.1f} s |")
    print(f"| prepare them | {preparing:.1f} s |", flush=True)
    for name, changes in FRAMINGS.items():
        config = TrainConfig(image_size=512, batch_size=options.batch_size, **changes)
        data = training_data_of(config, builder, label_rules_of(config, builder))
        for source, cache in (("files", False), ("memory", True)):
            rate = images_per_second(data, cache=cache)
            print(f"| {name}, from {source} | {rate:.0f} images/s |", flush=True)


def decode_with_pillow(folder: Path) -> tuple[float, int]:
    """Decodes all images and masks, and returns the seconds and the number of files."""
    files = [*folder.rglob("*_sat.jpg"), *folder.rglob("*_mask.png")]
    start = time.monotonic()
    for file in files:
        with Image.open(file) as image:
            image.load()
    return time.monotonic() - start, len(files)


def prepare_data(data: str, cache: Path) -> tuple[float, tfds.core.DatasetBuilder]:
    """Prepares a data set, and returns the seconds and the data set."""
    start = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()):
        builder = prepare_dataset(**dataclasses.asdict(DataConfig(data=data, cache_dir=str(cache))))
    return time.monotonic() - start, builder


def images_per_second(data: TrainingData, *, cache: bool) -> float:
    """Returns the number of images per second, after one complete epoch."""
    batches = iter(
        training_batches(
            data.builder,
            image_size=data.image_size,
            batch_size=data.batch_size,
            seed=data.seed,
            crops=data.crops,
            cache=cache,
        )
    )
    for _ in range(data.steps_per_epoch):
        next(batches)
    start, count = time.monotonic(), 0
    while (seconds := time.monotonic() - start) < SECONDS:
        next(batches)
        count += data.batch_size
    return count / seconds


if __name__ == "__main__":
    main()
