"""Scores trained runs, and the ensemble of these runs, on one split of a data set."""

import argparse
from pathlib import Path
from typing import NoReturn

from lcc_tf.cli.options import (
    add_average,
    add_flag,
    add_option,
    add_output,
    add_runs,
    add_tta,
    new_parser,
    numbers_or_text,
    run,
)
from lcc_tf.files import new_folder
from tfds_deepglobe.tensorflow_import import import_tensorflow

EXAMPLES = """\
  python evaluate.py --ensemble
  python evaluate.py --ensemble --protocol all --member-weights tuned
  python evaluate.py --runs runs/unetpp runs/deeplabv3plus --ensemble --member-weights 2 1
  python evaluate.py --runs runs/unetpp --split validation --output results_validation
  python evaluate.py --runs runs/unetpp --data other.zip --image-glob 'images/*.png' \\
      --mask-pattern 'masks/*.png'
"""
RESULTS = {"metrics.json", "scores.md", "scores.csv", "scores.tex", "panels"}


def main() -> NoReturn:
    """Runs the command and ends the process."""
    run(command, parser(), when_interrupted="nothing was written")


def command(options: argparse.Namespace) -> None:
    """Scores the runs, prints the tables and writes the results."""
    with new_folder(options.output, contents=RESULTS, overwrite=options.overwrite) as output:
        import_tensorflow()
        from lcc_tf.runs import read_runs
        from lcc_tf.scoring.evaluate_runs import check_runs, evaluate_runs, open_dataset
        from lcc_tf.scoring.protocols import PROTOCOLS
        from lcc_tf.scoring.results import write_metrics
        from lcc_tf.scoring.tables import to_markdown, write_tables

        runs = read_runs(options.runs, Path("runs"))
        check_runs(runs)
        protocols = list(PROTOCOLS) if options.protocol == "all" else [options.protocol]
        panels = output / "panels"
        panels.mkdir()
        evaluation = evaluate_runs(
            runs,
            open_dataset(
                runs,
                options.data,
                image_glob=options.image_glob,
                mask_pattern=options.mask_pattern,
            ),
            protocols=protocols,
            split=options.split,
            ensemble=options.ensemble,
            member_weights=numbers_or_text(" ".join(options.member_weights), separator=None),
            average=options.average,
            tta=options.tta,
            color_baseline=options.color_baseline,
            panels=panels,
            allow_training_images=options.allow_training_images,
        )
        write_metrics(evaluation, output / "metrics.json")
        write_tables(evaluation, output)
    print(to_markdown(evaluation))
    print(f"written to {options.output}: {', '.join(sorted(RESULTS))}")


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    options = new_parser(__doc__, EXAMPLES, {0: "scored"})
    add_flag(
        options, "--ensemble", "also score the ensemble, which averages the predictions of all runs"
    )
    add_runs(options, "run folders to score")
    add_option(
        options,
        "--member-weights",
        "weight of each run in the ensemble: equal; tuned (the best weights on the validation "
        "split); or one number per run in the order of --runs",
        default=["equal"],
        metavar="equal|tuned|W",
        nargs="+",
    )
    add_average(options)
    add_tta(options)
    add_option(
        options,
        "--split",
        "images to score",
        choices=("train", "validation", "test"),
        default="test",
    )
    add_option(
        options,
        "--protocol",
        "protocol of the scores; original: images resized to 512x512, as in the original PyTorch "
        "notebooks; official6: images in full size, as in the DeepGlobe challenge; glnet: images "
        "in full size, as in papers that use the 142 test images of GLNet; all: all three "
        "protocols; docs/protocols.md lists published scores for each protocol",
        choices=("original", "official6", "glnet", "all"),
        default="original",
    )
    add_option(
        options,
        "--data",
        "folder or zip file of another data set with the same classes; or demo, for procedural "
        "scenes (synthetic images and masks)",
        default_text="the data set that the runs were trained on",
        metavar="PATH|demo",
    )
    for option, files in (("--image-glob", "images"), ("--mask-pattern", "masks")):
        add_option(
            options,
            option,
            f"name pattern of the {files} in --data, such as '{files}/*.tif'",
            default_text="the name pattern that the runs were trained with",
            metavar="PATTERN",
        )
    add_flag(
        options,
        "--color-baseline",
        "also score a simple classifier that predicts the class of a pixel only from the color of "
        "the pixel; the classifier is fitted on the training split",
    )
    add_flag(
        options,
        "--allow-training-images",
        "also score images of --data that were training images of a run; the scores of these "
        "images are too high",
    )
    add_output(options, "folder for scores and images", default="results")
    add_flag(options, "--overwrite", "replace earlier results in --output")
    return options
