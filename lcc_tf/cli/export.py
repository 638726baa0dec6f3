"""Exports a run, or the ensemble of several, for use without this package."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from lcc_tf.cli.options import (
    add_average,
    add_member_weights,
    add_runs,
    new_parser,
    positive_float,
    positive_int,
    run,
)
from lcc_tf.errors import require_extra
from lcc_tf.files import check_new_folder, new_folder
from tfds_deepglobe.tensorflow_import import import_tensorflow

EXAMPLES = """\
  python export.py --runs runs/unetpp --format savedmodel --output exported/unetpp
  python export.py --runs runs/unetpp runs/deeplabv3plus --member-weights 2 1
  python export.py --format savedmodel onnx litert --tile 512

exit codes: 0 exported, 1 a format deviates from the Keras model and was not written, 2 the input
cannot be used, 130 interrupted
"""

# What each format's folder holds.
HOLDS = {
    # What TensorFlow writes, and beside it the classes.
    "savedmodel": {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"},
    "onnx": {"model.onnx", "deepness.onnx"},
    "litert": {"float32.tflite", "float16.tflite", "int8.tflite", "model.json"},
}


def main() -> NoReturn:
    """Runs the command and ends the process."""
    run(command, parser(), when_interrupted="nothing was written")


def command(options: argparse.Namespace) -> int:
    """Exports the runs; returns the exit code."""
    if set(options.format) != {"savedmodel"}:
        require_extra("export")
    targets = {name: options.output / name for name in dict.fromkeys(options.format)}
    for name, target in targets.items():
        check_new_folder(target, holds=HOLDS[name], overwrite=options.overwrite)
    # TensorFlow takes seconds to import, which --help and wrong options can do without.
    import_tensorflow()
    from lcc_tf.exporting import EXPORTS, DeviationError, load_original
    from lcc_tf.runs import find_runs, read_run

    runs = [read_run(path) for path in options.runs] or find_runs(Path("runs"))
    original = load_original(
        runs,
        options.member_weights,
        average=options.average,
        tile=options.tile,
        resolution=options.resolution,
    )
    print(f"exporting {', '.join(str(run.path) for run in runs)}, samples: {original.samples}")
    exit_code = 0
    for name, target in targets.items():
        try:
            with new_folder(target, holds=HOLDS[name], overwrite=options.overwrite) as output:
                files = EXPORTS[name](original, output)
        except DeviationError as error:
            print(f"error: {target} was not written: {error}", file=sys.stderr)
            exit_code = 1
            continue
        for file in files:
            print(f"written: {target / file.name}, {file}")
    return exit_code


def parser() -> argparse.ArgumentParser:
    """Returns the command's parser."""
    options = new_parser(__doc__, EXAMPLES)
    add_runs(options)
    add_member_weights(options)
    add_average(options)
    options.add_argument(
        "--format",
        choices=tuple(HOLDS),
        nargs="+",
        default=["savedmodel"],
        help="savedmodel: for TensorFlow; onnx: for onnxruntime, and for the QGIS plugin Deepness; "
        "litert: for phones and small computers, as float32, float16 and int8 (default: "
        "savedmodel)",
    )
    options.add_argument(
        "--tile",
        metavar="PIXELS",
        type=positive_int,
        default=None,
        help="side of the squares that LiteRT and Deepness take (default: of those that the runs "
        "were trained on)",
    )
    options.add_argument(
        "--resolution",
        metavar="METRES",
        type=positive_float,
        default=0.5,
        help="of a pixel of the data set's images on the ground, which Deepness resamples a scene "
        "to (default: %(default)s, DeepGlobe's)",
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
