"""Exports a run, or the ensemble of several runs, to a model that does not need this package."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from lcc_tf.cli.options import (
    add_average,
    add_flag,
    add_member_weights,
    add_option,
    add_output,
    add_runs,
    new_parser,
    positive_float,
    positive_int,
    run,
)
from lcc_tf.exporting.formats import FORMATS, writer
from lcc_tf.files import check_new_folder
from tfds_deepglobe.tensorflow_import import import_tensorflow

EXAMPLES = """\
  python export.py --runs runs/unetpp --format savedmodel --output exported/unetpp
  python export.py --runs runs/unetpp runs/deeplabv3plus --member-weights 2 1
  python export.py --format savedmodel onnx litert --tile 512
"""
EXIT_CODES = {
    0: "exported",
    1: "a format was not written, because its predictions differ too much from the Keras model",
}


def main() -> NoReturn:
    """Runs the command and ends the process."""
    run(command, parser(), when_interrupted="the format in progress was not written")


def command(options: argparse.Namespace) -> int:
    """Exports the runs and returns the exit code."""
    formats = list(dict.fromkeys(options.format))
    for name in formats:
        check_new_folder(options.output / name, contents=FORMATS[name], overwrite=options.overwrite)
    import_tensorflow()
    from lcc_tf.exporting.agreement import AgreementError
    from lcc_tf.exporting.export import export_source
    from lcc_tf.exporting.source_model import SourceModel
    from lcc_tf.runs import read_runs

    for name in formats:
        writer(name)  # raises an error before the first export if a package is missing
    runs = read_runs(options.runs, Path("runs"))
    source = SourceModel.from_runs(
        runs,
        options.member_weights,
        average=options.average,
        tile=options.tile,
        resolution=options.resolution,
    )
    print(f"exporting {', '.join(str(run.path) for run in runs)}, samples: {source.samples}")
    exit_code = 0
    for name in formats:
        try:
            files = export_source(source, options.output, name, overwrite=options.overwrite)
        except AgreementError as error:
            print(f"error: {options.output / name} was not written: {error}", file=sys.stderr)
            exit_code = 1
            continue
        for file in files:
            print(f"written: {options.output / name / file.name}, {file}")
    return exit_code


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    options = new_parser(__doc__, EXAMPLES, EXIT_CODES)
    add_runs(options)
    add_member_weights(options)
    add_average(options)
    add_option(
        options,
        "--format",
        "formats to export; savedmodel: for TensorFlow; onnx: for onnxruntime and the QGIS plugin "
        "Deepness; litert: for phones and small computers, in float32, float16 and int8",
        choices=tuple(FORMATS),
        nargs="+",
        default=["savedmodel"],
    )
    add_option(
        options,
        "--tile",
        "side of the input images for LiteRT and Deepness",
        default_text="the size that the runs were trained on",
        metavar="PIXELS",
        type=positive_int,
    )
    add_option(
        options,
        "--resolution",
        "ground size of a pixel of the training images; Deepness resamples scenes to this size",
        default=0.5,
        default_text="%(default)s, the pixel size of DeepGlobe",
        metavar="METERS",
        type=positive_float,
    )
    add_output(
        options, "folder; each format is written to the subfolder <format>", default="exported"
    )
    add_flag(options, "--overwrite", "replace an earlier export in --output")
    return options
