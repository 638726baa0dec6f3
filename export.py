"""Exports a run, or the ensemble of several, for use without this package."""

import argparse
from pathlib import Path

from lcc_tf.atomic_files import new_folder
from lcc_tf.command_line import add_average, add_member_weights, add_runs, parser, run
from tfds_deepglobe.tensorflow_import import import_tensorflow

EXAMPLES = """\
  python export.py --runs runs/unetpp --format savedmodel --output exported/unetpp
  python export.py --runs runs/unetpp runs/deeplabv3plus --member-weights 2 1

exit codes: 0 exported, 2 the input cannot be used, 130 interrupted
"""

# What TensorFlow writes, and beside it the classes.
SAVED_MODEL = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"}


def main() -> None:
    """Parses the command line and exports."""
    options = _parser().parse_args()
    target = options.output / options.format
    with new_folder(target, holds=SAVED_MODEL, overwrite=options.overwrite) as output:
        # TensorFlow takes seconds to import, which --help and wrong options can do without.
        import_tensorflow()
        from lcc_tf.checkpoints import find_runs, load_ensemble, read_run
        from lcc_tf.exporting import export_savedmodel

        runs = [read_run(path) for path in options.runs] or find_runs(Path("runs"))
        print(f"exporting {', '.join(str(run.path) for run in runs)}")
        model = load_ensemble(runs, options.member_weights, average=options.average)
        deviation = export_savedmodel(model, runs[0].classes, output)
    print(f"written: {target} (largest deviation from the Keras model {deviation:.1e})")


def _parser() -> argparse.ArgumentParser:
    options = parser(__doc__, EXAMPLES)
    add_runs(options)
    add_member_weights(options)
    add_average(options)
    options.add_argument(
        "--format", choices=("savedmodel",), default="savedmodel", help="(default: %(default)s)"
    )
    options.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        default=Path("exported"),
        help="the export goes to <output>/<format> (default: exported)",
    )
    options.add_argument(
        "--overwrite", action="store_true", default=False, help="replace an earlier export there"
    )
    return options


if __name__ == "__main__":
    run(main, when_interrupted="nothing was written")
