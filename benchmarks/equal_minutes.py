"""Compares the scores of networks that are trained for the same number of minutes.

Three networks are trained with the same data, crops, batch size, encoder and ImageNet weights:

- UNet++ and DeepLabV3+ with the default recipe of lcc_tf;
- the Unet of the package segmentation-models with its usual recipe: Dice plus focal loss, Adam with
  the learning rate 3e-4, crops at random positions. One setting is different: the momentum of batch
  normalization is 0.9 instead of up to 0.999. This training uses the losses and scores of
  segmentation-models, and the training loop of Keras.

The benchmark has three steps:

1. It measures the time of a short training of each network, from the start of the command. The
   result is the number of epochs that fit into the minutes. During this step, no other programs
   should run.
2. It trains each network once per fold. A fold is a folder with split lists, see
   `train.py --split-files`. The number of the fold is also the random seed.
3. It scores the networks, and the ensemble of UNet++ and DeepLabV3+, on the test split of the fold
   with the protocol official6.

    python -m benchmarks.equal_minutes --folder bench/minutes --data dubai \
        --split-files folds/4 folds/5 folds/6

Finished trainings are not repeated. Therefore the same command resumes an interrupted benchmark.
After the first step, several processes can train different networks (`--networks`). A Markdown
table is printed at the end.
"""

import argparse
import csv
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import lcc_tf
from lcc_tf.config import DataConfig, TrainConfig
from lcc_tf.data.dataset import class_table, prepare_dataset
from lcc_tf.files import write_atomically
from lcc_tf.runs import load_model, read_run
from lcc_tf.scoring.examples import split_examples
from lcc_tf.scoring.scored_predictors import ENSEMBLE
from lcc_tf.training.label_rules import label_rules_of
from lcc_tf.training.training_data import training_data_of

ROOT = Path(__file__).parents[1]
OURS = ("unetpp", "deeplabv3plus")
THEIRS = "segmentation_models"


def main() -> None:
    """Trains and scores all networks, and prints the Markdown table."""
    options = parser().parse_args()
    if options.unet:
        train_unet(options)
        return
    paces = read_or_make(options.folder / "paces.json", lambda: measure_paces(options))
    epochs = {
        name: max(1, 1 + int((60 * options.minutes - pace["first_epoch"]) / pace["epoch"]))
        for name, pace in paces.items()
    }
    print(f"seconds: {paces}, epochs: {epochs}", file=sys.stderr)
    folds = {options.folder / f"fold{i}": split for i, split in enumerate(options.split_files)}
    for seed, (folder, split) in enumerate(folds.items()):
        for name in options.networks:
            if not (folder / name / "finished").exists():
                train(name, folder / name, epochs[name], seed, split, options)
                (folder / name / "finished").touch()
    if all((folder / name / "finished").exists() for folder in folds for name in (*OURS, THEIRS)):
        scores = [
            read_or_make(folder / "scores.json", lambda: score(folder, split, options))  # noqa: B023
            for folder, split in folds.items()
        ]
        print(table(scores))


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--folder", type=Path, required=True, help="folder for runs and scores")
    options.add_argument("--minutes", type=float, default=6, help="time of a training")
    options.add_argument("--data", required=True, help="folder or zip file of images and masks")
    options.add_argument("--map-color", action="append", default=[], help="as in train.py")
    options.add_argument("--split-files", nargs="+", required=True, help="one folder per fold")
    options.add_argument("--encoder", default="mobilenetv2")
    options.add_argument("--image-size", type=int, default=256, help="side of the crops, pixels")
    options.add_argument("--batch-size", type=int, default=8)
    options.add_argument(
        "--networks",
        nargs="+",
        choices=(*OURS, THEIRS),
        default=[*OURS, THEIRS],
        help="networks to train now (default: all)",
    )
    options.add_argument("--unet", type=Path, help=argparse.SUPPRESS)  # folder of a training
    options.add_argument("--epochs", type=int, help=argparse.SUPPRESS)
    options.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    return options


def read_or_make(file: Path, make: Callable[[], Any]) -> Any:
    """Reads a JSON file. If the file does not exist, calls `make` and writes its result."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(make(), indent=1).encode())
    return json.loads(file.read_text(encoding="utf-8"))


def measure_paces(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measures the seconds of the first epoch and of each later epoch, per network.

    The time of the first epoch includes the start of the command and the tracing.
    """
    prepare_dataset(**data_options(options.split_files[0], options))
    paces = {}
    for name in (*OURS, THEIRS):
        workdir = options.folder / "paces" / name
        start = time.monotonic()
        train(name, workdir, 2, 0, options.split_files[0], options)
        seconds = time.monotonic() - start
        with (workdir / "history.csv").open() as file:
            second_epoch = float(list(csv.DictReader(file))[1]["seconds"])
        paces[name] = {"first_epoch": seconds - second_epoch, "epoch": second_epoch}
    return paces


def train(
    name: str, workdir: Path, epochs: int, seed: int, split: str, options: argparse.Namespace
) -> None:
    """Trains one network in a new process."""
    command = [sys.executable]
    if name == THEIRS:
        command += ["-m", "benchmarks.equal_minutes", "--folder", options.folder, "--unet", workdir]
    else:
        command += ["train.py", "--resume", "--workdir", workdir, "--arch", name]
        command += ["--patience", epochs, "--cache-dir", options.folder / "tfds"]
    for option in ("data", "encoder", "image_size", "batch_size"):
        command += ["--" + option.replace("_", "-"), getattr(options, option)]
    for color in options.map_color:
        command += ["--map-color", color]
    command += ["--split-files", split, "--epochs", epochs, "--seed", seed]
    subprocess.run(list(map(str, command)), check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def data_options(split: str, options: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments for `prepare_dataset`."""
    data = DataConfig(
        data=options.data,
        cache_dir=str(options.folder / "tfds"),
        split_files=split,
        map_color=tuple(options.map_color),
    )
    return dataclasses.asdict(data)


def train_unet(options: argparse.Namespace) -> None:
    """Trains the Unet of segmentation-models with the losses and scores of segmentation-models."""
    os.environ["SM_FRAMEWORK"] = "tf.keras"
    import segmentation_models as sm

    config = TrainConfig(
        encoder=options.encoder,
        image_size=options.image_size,
        batch_size=options.batch_size,
        rare_class_share=0.0,
        seed=options.seed,
    )
    builder = prepare_dataset(**data_options(options.split_files[0], options))
    data = training_data_of(config, builder, label_rules_of(config, builder))
    keras.utils.set_random_seed(options.seed)
    model = unet(options.encoder, class_table(builder).num_classes)
    model.compile(
        keras.optimizers.Adam(3e-4),
        sm.losses.DiceLoss() + sm.losses.CategoricalFocalLoss(),
        metrics=[sm.metrics.IOUScore(name="iou")],
    )

    def one_hot(images: tf.Tensor, masks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return images, tf.one_hot(masks, model.output_shape[-1])

    options.unet.mkdir(parents=True, exist_ok=True)
    model.fit(
        data.training_batches().map(one_hot),
        validation_data=data.validation_batches().map(one_hot),
        steps_per_epoch=data.steps_per_epoch,
        epochs=options.epochs,
        verbose=2,
        callbacks=[
            keras.callbacks.ModelCheckpoint(
                options.unet / "best.weights.h5",
                monitor="val_iou",
                mode="max",
                save_best_only=True,
                save_weights_only=True,
            ),
            Seconds(),
            keras.callbacks.CSVLogger(options.unet / "history.csv"),
        ],
    )


class Seconds(keras.callbacks.Callback):
    """Adds the seconds of each epoch, including the validation, to the logs."""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Records the start time."""
        self.start = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the seconds to the logs."""
        logs["seconds"] = time.monotonic() - self.start


def unet(encoder: str, num_classes: int, weights: str | None = "imagenet") -> keras.Model:
    """Builds the Unet of segmentation-models for images in [0, 255], with ImageNet weights."""
    os.environ["SM_FRAMEWORK"] = "tf.keras"
    import segmentation_models as sm

    network = sm.Unet(encoder, classes=num_classes, activation="softmax", encoder_weights=weights)
    # The momentum of segmentation-models is up to 0.999. With this momentum, a short training
    # hardly changes the statistics of ImageNet, and the scores are much lower.
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
    images = keras.Input((None, None, 3))
    return keras.Model(images, network(sm.get_preprocessing(encoder)(images)))


def score(folder: Path, split: str, options: argparse.Namespace) -> dict[str, float]:
    """Scores the networks of a fold and the ensemble of lcc_tf's networks.

    Returns:
        Mean IoU in [0, 1], for each network and the ensemble.
    """
    builder = prepare_dataset(**data_options(split, options))
    classes = class_table(builder)
    models = {name: load_model(read_run(folder / name)) for name in OURS}
    theirs = unet(options.encoder, classes.num_classes, weights=None)
    theirs.load_weights(folder / THEIRS / "best.weights.h5")
    results = {}
    for scored in (models, {THEIRS: theirs}):
        evaluation = lcc_tf.evaluate(
            scored,
            list(split_examples(builder, "test", "reading")),
            classes=classes,
            protocols=["official6"],
            tile=options.image_size,
        )
        for name, values in evaluation.scores["official6"].items():
            results[name] = values["mean_iou"]
    return results


def table(scores: Sequence[dict[str, float]]) -> str:
    """Formats the scores of all folds as a Markdown table, in %."""
    folds = " | ".join(f"fold {i}" for i in range(len(scores)))
    lines = [
        f"| network | {folds} | mean | minus Unet |",
        "|---" * (len(scores) + 3) + "|",
    ]
    theirs = statistics.mean(fold[THEIRS] for fold in scores)
    for name in (*OURS, ENSEMBLE, THEIRS):
        values = [fold[name] for fold in scores]
        mean = statistics.mean(values)
        cells = " | ".join(f"{100 * value:.1f}" for value in values)
        lines.append(f"| {name} | {cells} | {100 * mean:.1f} | {100 * (mean - theirs):+.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
