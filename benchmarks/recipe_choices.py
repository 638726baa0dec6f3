"""What each choice of a recipe brings on procedural scenes, at equal training time.

Every variant is the recipe with all choices but one; at the end come the default recipe, which is
what they led to, and the recipe without any. How long an epoch takes depends on
the framing alone: the network and the batch are the same, but crops are validated on four squares
of each image and whole images on one. So the seconds of an epoch are measured for both framings
first, on a machine that does nothing else. Each variant then trains for as many epochs as fit into
the same time, once for each seed, and is never stopped early. Scores are by protocol official6 on
the test split.

    python benchmarks/recipe_choices.py --folder bench/recipe --budget 120

Nothing that is there is repeated, so an interrupted benchmark goes on, and seeds can be trained by
several processes once the epochs are known. The table goes to standard output as Markdown.
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
RATE = 1e-3  # the largest learning rate
# All choices, as options of train.py; those that are not here have been its defaults all along.
ALL = ("--crop-scale", "0.5", "2", "--encoder-rate", "0.1", "--ema-decay", "0.999")
# What is taken back -> options that come after those
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
PACE_EPOCHS = 4  # the first of them builds the graph and is not counted


def main() -> None:
    """Trains, scores and prints the table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--folder", type=Path, required=True, help="runs and scores")
    options.add_argument("--budget", type=float, default=120, help="seconds of epochs a run")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--arch", default="deeplabv3plus")
    options.add_argument("--encoder", default="mobilenetv2")
    options.add_argument("--encoder-weights", default="imagenet", help="imagenet, none or a file")
    options.add_argument("--image-size", type=int, default=96)
    options.add_argument("--demo-count", type=int, default=240)
    options.add_argument("--demo-size", type=int, default=512)
    given = options.parse_args()
    common = (
        *("--arch", given.arch, "--encoder", given.encoder),
        *("--encoder-weights", given.encoder_weights, "--image-size", given.image_size),
        *("--learning-rate", RATE, "--data", "demo"),
        *("--demo-count", given.demo_count, "--demo-size", given.demo_size),
        *("--cache-dir", given.folder / "tfds"),
        *ALL,
    )
    paces = {
        framing: pace(given.folder / "pace" / framing, *common, "--framing", framing)
        for framing in ("crops", "whole")
    }
    print(f"seconds an epoch: {paces}", file=sys.stderr)
    epochs = {
        name: max(1, int(given.budget / paces["whole" if "whole" in changes else "crops"]))
        for name, changes in VARIANTS.items()
    }
    print(f"epochs: {epochs}", file=sys.stderr)
    scores: dict[str, list[float]] = {name: [] for name in VARIANTS}
    # Seed by seed, so that an early end leaves each variant with equally many runs.
    for seed in given.seeds:
        for name, changes in VARIANTS.items():
            run = given.folder / f"seed{seed}" / slug(name)
            length = ("--epochs", epochs[name], "--patience", epochs[name])
            scores[name].append(score(run, *common, *changes, "--seed", seed, *length))
            print(f"seed {seed}, {name}: {100 * scores[name][-1]:.1f} %", file=sys.stderr)
    print(table(given.seeds, scores))


def slug(name: str) -> str:
    """A variant's name as a folder's name."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def script(*arguments: object) -> None:
    """Runs one of the scripts; its failure ends the benchmark."""
    subprocess.run([sys.executable, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def train(run: Path, *arguments: object) -> None:
    """Trains, goes on with, or leaves alone a run."""
    script(ROOT / "train.py", "--workdir", run, "--resume", *arguments)


def pace(run: Path, *arguments: object) -> float:
    """Seconds an epoch takes at best, without the building of its graph."""
    history = run / "history.csv"
    if not history.exists():
        train(run, *arguments, "--epochs", PACE_EPOCHS)
    with history.open() as file:
        return min(float(row["seconds"]) for row in list(csv.DictReader(file))[1:])


def score(run: Path, *arguments: object) -> float:
    """Mean IoU of a run by protocol official6 on the test split, in [0, 1]; trains it first."""
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
    """Scores of all variants and what each choice brings, as Markdown."""
    everything = scores["nothing"]
    lines = [
        f"| taken back | seeds {', '.join(map(str, seeds))} | mean | the choice brings |",
        "|---|---|---|---|",
    ]
    for name, values in scores.items():
        gains = [100 * (ours - theirs) for ours, theirs in zip(everything, values, strict=True)]
        lines.append(
            f"| {name} | {', '.join(f'{100 * value:.1f}' for value in values)} "
            f"| {100 * statistics.mean(values):.1f} | {statistics.mean(gains):+.1f} "
            f"({min(gains):+.1f} to {max(gains):+.1f}) |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
