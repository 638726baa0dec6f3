"""Measures how much each choice of a training recipe improves the score.

The recipe consists of several choices, such as the loss function. The benchmark trains these
variants of the recipe for the same time:

- the recipe with all choices.
- one variant per choice, in which only this choice is replaced.
- the default recipe of lcc_tf, which was selected with the results of this benchmark.
- the recipe with all choices of the original PyTorch notebooks.

The networks are trained on procedural scenes, which are synthetic satellite images that lcc_tf
draws. A network is trained either on crops of the images or on whole, resized images. The time per
epoch depends only on this setting (`--framing`). The reason is the validation: a network for crops
predicts four crops per image, and a network for whole images predicts one image.

The benchmark has three steps:

1. It measures the seconds per epoch for crops and for whole images. During this step, no other
   programs should run.
2. It trains each variant once per random seed, without early stopping. The number of epochs is the
   largest number that fits into the time budget.
3. It scores each run on the test split with the protocol official6.

    python benchmarks/recipe_choices.py --folder bench/recipe --budget 120

Finished steps are not repeated. Therefore the same command resumes an interrupted benchmark. After
the first step, several processes can train different seeds. A Markdown table is printed at the end.
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
LEARNING_RATE = 1e-3  # maximum of the schedule
# Options of train.py for the recipe with all choices. All other options have their default values.
RECIPE = ("--crop-scale", "0.5", "2", "--encoder-rate", "0.1", "--ema-decay", "0.999")
ALL_CHOICES = "none (the recipe with all choices)"
# Key: change in a variant. Value: options of train.py for this change.
VARIANTS = {
    ALL_CHOICES: (),
    "whole, resized images instead of crops": ("--framing", "whole"),
    "all crops at random positions instead of half of the crops on rare classes": (
        *("--rare-class-share", "0"),
    ),
    "one scale of crops instead of random scales from 0.5 to 2": ("--crop-scale", "1", "1"),
    "cross entropy instead of cross entropy + Dice": ("--loss", "cross_entropy"),
    "Dice instead of cross entropy + Dice": ("--loss", "dice"),
    "`unknown` as a class instead of ignored in the loss": ("--ignore-class", "none"),
    "half of the learning rate, constant, instead of warm-up and cosine decay": (
        *("--schedule", "constant", "--learning-rate", LEARNING_RATE / 2),
    ),
    "full learning rate, constant, instead of warm-up and cosine decay": (
        *("--schedule", "constant"),
    ),
    "full learning rate for the encoder instead of a tenth": ("--encoder-rate", "1"),
    "no moving average of the weights instead of the decay 0.999": ("--ema-decay", "0"),
    "the default recipe": (*("--crop-scale", "1", "1", "--encoder-rate", "1", "--ema-decay", "0"),),
    "all choices of the original notebooks": (
        *("--framing", "whole", "--loss", "dice", "--schedule", "constant"),
        *("--encoder-rate", "1", "--ema-decay", "0", "--ignore-class", "none"),
    ),
}
# Number of epochs for the measurement of the time per epoch. The first epoch is not measured,
# because its time includes the tracing of the network.
PACE_EPOCHS = 4


def main() -> None:
    """Trains and scores all variants, and prints the Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="folder for runs and scores")
    parser.add_argument("--budget", type=float, default=120, help="training time per run, seconds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="random seeds")
    parser.add_argument("--arch", default="deeplabv3plus")
    parser.add_argument("--encoder", default="mobilenetv2")
    parser.add_argument(
        "--encoder-weights", default="imagenet", help="imagenet, none, or the path of a file"
    )
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
    # The seeds are the outer loop. Therefore all variants have nearly the same number of runs after
    # an interruption.
    for seed in options.seeds:
        for name, changes in VARIANTS.items():
            run = options.folder / f"seed{seed}" / slug(name)
            length = ("--epochs", epochs[name], "--patience", epochs[name])
            scores[name].append(score(run, *common, *changes, "--seed", seed, *length))
            print(f"seed {seed}, {name}: {100 * scores[name][-1]:.1f} %", file=sys.stderr)
    print(table(options.seeds, scores))


def slug(name: str) -> str:
    """Converts the name of a variant to the name of a folder."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def script(*arguments: object) -> None:
    """Runs a Python script. If the script fails, the benchmark ends."""
    subprocess.run([sys.executable, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def train(run: Path, *arguments: object) -> None:
    """Trains a run, or resumes an interrupted run. A finished run is not changed."""
    script(ROOT / "train.py", "--workdir", run, "--resume", *arguments)


def pace(run: Path, *arguments: object) -> float:
    """Measures the minimum time per epoch, seconds. The first epoch, with tracing, is ignored."""
    history = run / "history.csv"
    if not history.exists():
        train(run, *arguments, "--epochs", PACE_EPOCHS)
    with history.open() as file:
        return min(float(row["seconds"]) for row in list(csv.DictReader(file))[1:])


def score(run: Path, *arguments: object) -> float:
    """Trains and scores a run.

    Args:
        run: folder of the run.
        *arguments: options of train.py.

    Returns:
        Mean IoU on the test split with the protocol official6, in [0, 1].
    """
    results = run.parent / f"{run.name}_scores"
    if not results.exists():
        train(run, *arguments)
        script(
            *(ROOT / "evaluate.py", "--runs", run),
            *("--protocol", "official6", "--output", results),
        )
    metrics = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    (scores,) = metrics["members"].values()
    return scores["mean_iou"]


def table(seeds: Sequence[int], scores: dict[str, list[float]]) -> str:
    """Formats the scores of all variants as a Markdown table.

    The last column is the score of the recipe with all choices minus the score of the variant. It
    shows the mean over the seeds and, in parentheses, the minimum and the maximum.
    """
    everything = scores[ALL_CHOICES]
    lines = [
        f"| change to the recipe | seeds {', '.join(map(str, seeds))} | mean "
        "| unchanged minus changed |",
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
