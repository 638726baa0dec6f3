"""Measures the gain of each choice of a recipe on procedural scenes, at equal training time.

Each variant is the recipe without one of its choices. The last two are the default recipe, which
this benchmark led to, and the recipe without any of the choices. The time of an epoch depends only
on the framing: crops are validated on four squares of each image, whole images on one. The
benchmark therefore

1. measures the seconds per epoch for both framings, on a machine without other work,
2. trains each variant once per random seed, for as many epochs as fit into the same time and
   without early stopping,
3. scores each run by protocol official6 on the test split.

    python benchmarks/recipe_choices.py --folder bench/recipe --budget 120

Finished steps are not repeated, so an interrupted benchmark resumes. Several processes can train
different seeds once the seconds per epoch are known. The table is printed as Markdown.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
RATE = 1e-3  # largest learning rate
# Options of train.py that differ from its defaults when all choices are made
ALL = ("--crop-scale", "0.5", "2", "--encoder-rate", "0.1", "--ema-decay", "0.999")
# Name of the removed choice -> options of train.py that remove it
VARIANTS = {
    "nothing": (),
    "crops: whole images resized": ("--framing", "whole"),
    "half of the crops on rare classes: anywhere": ("--rare-class-share", "0"),
    "random scale of crops, 0.5 to 2: one scale": ("--crop-scale", "1", "1"),
    "cross entropy + Dice: cross entropy": ("--loss", "cross_entropy"),
    "cross entropy + Dice: Dice": ("--loss", "dice"),
    "`unknown` left out of the loss: a class": ("--ignore-class", "none"),
    "warm-up and cosine decay: constant, half the rate": (
        *("--schedule", "constant", "--learning-rate", RATE / 2),
    ),
    "warm-up and cosine decay: constant, the full rate": ("--schedule", "constant"),
    "a tenth of the rate for the encoder: the same": ("--encoder-rate", "1"),
    "moving average of the weights, 0.999: none": ("--ema-decay", "0"),
    "what became the default recipe": (
        *("--crop-scale", "1", "1", "--encoder-rate", "1", "--ema-decay", "0"),
    ),
    "all of them, as in the original": (
        *("--framing", "whole", "--loss", "dice", "--schedule", "constant"),
        *("--encoder-rate", "1", "--ema-decay", "0", "--ignore-class", "none"),
    ),
}
PACE_EPOCHS = 4  # the first one builds the graph and is not counted


def main() -> None:
    """Trains, scores and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="runs and scores")
    parser.add_argument("--budget", type=float, default=120, help="seconds of epochs per run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arch", default="deeplabv3plus")
    parser.add_argument("--encoder", default="mobilenetv2")
    parser.add_argument("--encoder-weights", default="imagenet", help="imagenet, none or a file")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--demo-count", type=int, default=240)
    parser.add_argument("--demo-size", type=int, default=512)
    options = parser.parse_args()
    common = (
        *("--arch", options.arch, "--encoder", options.encoder),
        *("--encoder-weights", options.encoder_weights, "--image-size", options.image_size),
        *("--learning-rate", RATE, "--data", "demo"),
        *("--demo-count", options.demo_count, "--demo-size", options.demo_size),
        *("--cache-dir", options.folder / "tfds"),
        *ALL,
    )
    paces = {
        framing: pace(options.folder / "pace" / framing, *common, "--framing", framing)
        for framing in ("crops", "whole")
    }
    print(f"seconds per epoch: {paces}", file=sys.stderr)
    epochs = {
        name: max(1, int(options.budget / paces["whole" if "whole" in changes else "crops"]))
        for name, changes in VARIANTS.items()
    }
    print(f"epochs: {epochs}", file=sys.stderr)
    scores: dict[str, list[float]] = {name: [] for name in VARIANTS}
    # Seed by seed, so that an interruption leaves the same number of runs per variant.
    for seed in options.seeds:
        for name, changes in VARIANTS.items():
            run = options.folder / f"seed{seed}" / slug(name)
            length = ("--epochs", epochs[name], "--patience", epochs[name])
            scores[name].append(score(run, *common, *changes, "--seed", seed, *length))
            print(f"seed {seed}, {name}: {100 * scores[name][-1]:.1f} %", file=sys.stderr)
    print(table(options.seeds, scores))


def slug(name: str) -> str:
    """Turns a variant's name into a folder's name."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def script(*arguments: object) -> None:
    """Runs one of the scripts; its failure ends the benchmark."""
    subprocess.run([sys.executable, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def train(run: Path, *arguments: object) -> None:
    """Trains or resumes a run, or does nothing if it is finished."""
    script(ROOT / "train.py", "--workdir", run, "--resume", *arguments)


def pace(run: Path, *arguments: object) -> float:
    """Measures the shortest seconds per epoch, without the first one, which builds the graph."""
    history = run / "history.csv"
    if not history.exists():
        train(run, *arguments, "--epochs", PACE_EPOCHS)
    with history.open() as file:
        return min(float(row["seconds"]) for row in list(csv.DictReader(file))[1:])


def score(run: Path, *arguments: object) -> float:
    """Trains a run and returns its mean IoU by protocol official6 on the test split, in [0, 1]."""
    results = run.parent / f"{run.name}_scores"
    if not results.exists():
        train(run, *arguments)
        script(
            *(ROOT / "evaluate.py", "--runs", run),
            *("--protocol", "official6", "--output", results),
        )
    metrics = json.loads((results / "metrics.json").read_text())
    (scores,) = metrics["members"].values()
    return scores["mean_iou"]


def table(seeds: Sequence[int], scores: dict[str, list[float]]) -> str:
    """Returns the scores of all variants and the gain of each choice as Markdown."""
    everything = scores["nothing"]
    lines = [
        f"| removed choice | seeds {', '.join(map(str, seeds))} | mean | gain of the choice |",
        "|---|---|---|---|",
    ]
    for name, values in scores.items():
        gains = [100 * (full - reduced) for full, reduced in zip(everything, values, strict=True)]
        lines.append(
            f"| {name} | {', '.join(f'{100 * value:.1f}' for value in values)} "
            f"| {100 * statistics.mean(values):.1f} | {statistics.mean(gains):+.1f} "
            f"({min(gains):+.1f} to {max(gains):+.1f}) |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
