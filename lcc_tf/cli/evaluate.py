"""Scores trained runs and their ensemble on a split of the data set."""

import argparse
from pathlib import Path
from typing import NoReturn

from lcc_tf.cli.options import add_average, add_runs, add_tta, new_parser, run, words_or_numbers
from lcc_tf.files import new_folder
from tfds_deepglobe.tensorflow_import import import_tensorflow

EXAMPLES = """\
  python evaluate.py --ensemble
  python evaluate.py --ensemble --protocol all --member-weights tuned
  python evaluate.py --runs runs/unetpp runs/deeplabv3plus --ensemble --member-weights 2 1
  python evaluate.py --runs runs/unetpp --split validation --output results_validation
  python evaluate.py --runs runs/unetpp --data other.zip --image-glob 'images/*.png' \\
      --mask-pattern 'masks/*.png'

exit codes: 0 scored, 2 the input cannot be used, 130 interrupted
(Ctrl-C), 143 terminated (SIGTERM)
"""
RESULTS = {"metrics.json", "scores.md", "scores.csv", "scores.tex", "panels"}


def main() -> NoReturn:
    """Runs the command and ends the process."""
    run(command, parser(), when_interrupted="nothing was written")


def command(options: argparse.Namespace) -> None:
    """Scores the runs, prints the tables and writes the results."""
    with new_folder(options.output, contents=RESULTS, overwrite=options.overwrite) as output:
        # TensorFlow takes seconds to import, which --help and invalid options don't need.
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
            member_weights=words_or_numbers(options.member_weights),
            average=options.average,
            tta=options.tta,
            color_baseline=options.color_baseline,
            panels=panels,
        )
        write_metrics(evaluation, output / "metrics.json")
        write_tables(evaluation, output)
    print(to_markdown(evaluation))
    print(f"written to {options.output}: {', '.join(sorted(RESULTS))}")


def parser() -> argparse.ArgumentParser:
    """Returns the command's parser."""
    options = new_parser(__doc__, EXAMPLES)
    options.add_argument(
        "--ensemble",
        action="store_true",
        default=False,
        help="also score the average of the runs' probabilities",
    )
    add_runs(options)
    options.add_argument(
        "--member-weights",
        metavar="equal|tuned|W",
        nargs="+",
        default=["equal"],
        help="weights of the ensemble: equal; tuned on the validation split; or numbers, one per "
        "run in the order of --runs (default: equal)",
    )
    add_average(options)
    add_tta(options)
    options.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        default="test",
        help="(default: %(default)s)",
    )
    options.add_argument(
        "--protocol",
        choices=("original", "official6", "glnet", "all"),
        default="original",
        help="original: the original's scores, at 512x512; official6: the DeepGlobe challenge's, "
        "and glnet: that of papers on its 142 test images, both at full size; all: side by side; "
        "docs/protocols.md says which numbers compare with which (default: original)",
    )
    options.add_argument(
        "--data",
        metavar="PATH|demo",
        default=None,
        help="another data set with the same classes (default: the one the runs were trained on)",
    )
    options.add_argument(
        "--image-glob",
        metavar="PATTERN",
        default=None,
        help="pattern of the image names in --data, such as 'images/*.tif' (default: the "
        "pattern of the runs' data)",
    )
    options.add_argument(
        "--mask-pattern",
        metavar="PATTERN",
        default=None,
        help="pattern of the mask names in --data (default: the pattern of the runs' data)",
    )
    options.add_argument(
        "--color-baseline",
        action="store_true",
        default=False,
        help="also score a classifier of single pixels' colors, fitted on the training split",
    )
    options.add_argument(
        "--output", metavar="DIR", type=Path, default=Path("results"), help="(default: results)"
    )
    options.add_argument(
        "--overwrite",
        action="store_true",
        default=False,
        help="replace the contents of --output",
    )
    return options
