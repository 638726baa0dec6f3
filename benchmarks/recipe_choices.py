"""Measures the gain of each choice in a training recipe, at equal training time.

Most variants are the recipe without one of its choices. The last two variants are the default
recipe, which is a result of this benchmark, and the recipe without any of the choices. The networks
are trained on procedural scenes. The seconds per epoch depend only on the framing, because crops
are validated on four squares per image and whole images on one. The benchmark

1. measures the seconds per epoch for both framings,
2. trains each variant once per random seed, with the number of epochs that fits into the time
   budget and without early stopping,
3. scores each run on the test split with the protocol official6.

No other programs should run during the first step.

    python benchmarks/recipe_choices.py --folder bench/recipe --budget 120

Finished steps are not repeated, so the command also resumes an interrupted benchmark. After the
first step, several processes can train different seeds. The table is printed as Markdown.
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
LEARNING_RATE = 1e-3  # maximum
# Options of train.py for the recipe with all choices. The other options have their defaults.
RECIPE = ("--crop-scale", "0.5", "2", "--encoder-rate", "0.1", "--ema-decay", "0.999")
# Options of train.py that remove a choice, by the name of the choice
VARIANTS = {
    "nothing": (),
    "crops: whole images resized": ("--framing", "whole"),
    "half of the crops on rare classes: anywhere": ("--rare-class-share", "0"),
    "random scale of crops, 0.5 to 2: one scale": ("--crop-scale", "1", "1"),
    "cross entropy + Dice: cross entropy": ("--loss", "cross_entropy"),
    "cross entropy + Dice: Dice": ("--loss", "dice"),
    "`unknown` ignored in the loss: a class": ("--ignore-class", "none"),
    "warm-up and cosine decay: constant, half the learning rate": (
        *("--schedule", "constant", "--learning-rate", LEARNING_RATE / 2),
    ),
    "warm-up and cosine decay: constant, the full learning rate": ("--schedule", "constant"),
    "a tenth of the learning rate for the encoder: the same": ("--encoder-rate", "1"),
    "moving average of the weights, 0.999: none": ("--ema-decay", "0"),
    "the default recipe": (*("--crop-scale", "1", "1", "--encoder-rate", "1", "--ema-decay", "0"),),
    "all of them, as in the original": (
        *("--framing", "whole", "--loss", "dice", "--schedule", "constant"),
        *("--encoder-rate", "1", "--ema-decay", "0", "--ignore-class", "none"),
    ),
}
PACE_EPOCHS = 4  # the first epoch is not measured, since it includes tracing


def main() -> None:
    """Trains, scores and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="folder for runs and scores")
    parser.add_argument("--budget", type=float, default=120, help="training time per run, seconds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arch", default="deeplabv3plus")
    parser.add_argument("--encoder", default="mobilenetv2")
    parser.add_argument("--encoder-weights", default="imagenet", help="imagenet, none, or a file")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--demo-count", type=int, default=240)
    parser.add_argument("--demo-size", type=int, default=512)
    options = parser.parse_args()
    common = (
        *("--arch", options.arch, "--encoder", options.encoder),
        *("--encoder-weights", options.encoder_weights, "--image-size", options.image_size),
        *("--learning-rate", LEARNING_RATE, "--data", "demo"),
        *("--demo-count", options.demo_count, "--demo-size", options.demo_size),
        *("--cache-dir", options.folder / "tfds"),
        *RECIPE,
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
    # The seed is the outer loop. After an interruption, all variants have a similar number of runs.
    for seed in options.seeds:
        for name, changes in VARIANTS.items():
            run = options.folder / f"seed{seed}" / slug(name)
            length = ("--epochs", epochs[name], "--patience", epochs[name])
            scores[name].append(score(run, *common, *changes, "--seed", seed, *length))
            print(f"seed {seed}, {name}: {100 * scores[name][-1]:.1f} %", file=sys.stderr)
    print(table(options.seeds, scores))


def slug(name: str) -> str:
    """Converts a variant's name to the name of a folder."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def script(*arguments: object) -> None:
    """Runs a script. The benchmark ends if the script fails."""
    subprocess.run([sys.executable, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def train(run: Path, *arguments: object) -> None:
    """Trains or resumes a run; a finished run is not changed."""
    script(ROOT / "train.py", "--workdir", run, "--resume", *arguments)


def pace(run: Path, *arguments: object) -> float:
    """Measures the minimum seconds per epoch. The first epoch includes tracing and is ignored."""
    history = run / "history.csv"
    if not history.exists():
        train(run, *arguments, "--epochs", PACE_EPOCHS)
    with history.open() as file:
        return min(float(row["seconds"]) for row in list(csv.DictReader(file))[1:])


def score(run: Path, *arguments: object) -> float:
    """Trains a run and returns its mean IoU on the test split, in [0, 1], protocol official6."""
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
    """Formats the scores of all variants and the gain of each choice as a Markdown table."""
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
