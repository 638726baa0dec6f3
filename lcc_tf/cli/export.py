"""Exports a run, or the ensemble of several runs, for use without this package."""

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
from lcc_tf.files import check_new_folder
from tfds_deepglobe.tensorflow_import import import_tensorflow

EXAMPLES = """\
  python export.py --runs runs/unetpp --format savedmodel --output exported/unetpp
  python export.py --runs runs/unetpp runs/deeplabv3plus --member-weights 2 1
  python export.py --format savedmodel onnx litert --tile 512

exit codes: 0 exported, 1 a format differs too much from the Keras model and was not written,
2 invalid input, 130 interrupted
(Ctrl-C), 143 terminated (SIGTERM)
"""


def main() -> NoReturn:
    """Runs the command and ends the process."""
    run(command, parser(), when_interrupted="nothing was written")


def command(options: argparse.Namespace) -> int:
    """Exports the runs and returns the exit code."""
    from lcc_tf.exporting.formats import FORMATS, writer

    formats = list(dict.fromkeys(options.format))
    for name in formats:
        check_new_folder(options.output / name, contents=FORMATS[name], overwrite=options.overwrite)
    # TensorFlow takes seconds to import, so --help and invalid options are answered before.
    import_tensorflow()
    from lcc_tf.exporting.agreement import AgreementError
    from lcc_tf.exporting.export import export_source
    from lcc_tf.exporting.source_model import SourceModel
    from lcc_tf.runs import read_runs

    for name in formats:
        writer(name)  # a missing package is an error before anything is exported
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
    """Returns the command's parser."""
    from lcc_tf.exporting.formats import FORMATS

    options = new_parser(__doc__, EXAMPLES)
    add_runs(options)
    add_member_weights(options)
    add_average(options)
    options.add_argument(
        "--format",
        choices=tuple(FORMATS),
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
        help="side of the tiles that LiteRT and Deepness take (default: the size that the runs "
        "were trained on)",
    )
    options.add_argument(
        "--resolution",
        metavar="METERS",
        type=positive_float,
        default=0.5,
        help="size of the pixels of the data set's images on the ground, to which Deepness "
        "resamples scenes (default: %(default)s, DeepGlobe's)",
    )
    options.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        default=Path("exported"),
        help="folder; each format is written to <output>/<format> (default: exported)",
    )
    options.add_argument(
        "--overwrite", action="store_true", default=False, help="replace an earlier export"
    )
    return options
