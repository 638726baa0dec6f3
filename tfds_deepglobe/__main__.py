"""The command line: `python -m tfds_deepglobe`, or `lcc-data` of the wheel."""

import argparse
import collections
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from tfds_deepglobe.errors import InputError, error_line
from tfds_deepglobe.file_names import IMAGE_GLOB, MASK_PATTERN, FileNames

if TYPE_CHECKING:
    from tfds_deepglobe.archive import Archive, Report

_DESCRIPTION = """\
Checks and prepares the DeepGlobe Land Cover archive, or your own images and masks, for training.

The archive is a folder or a zip, such as Kaggle's zip of
"balraj98/deepglobe-land-cover-classification-dataset". Your own classes are in its class_dict.csv
(columns name,r,g,b). Describe your own file names with --image-glob and --mask-pattern.
"""
_EXAMPLES = """\
examples:
  {command} check --data archive.zip
  {command} prepare --data archive.zip
  {command} prepare --data data/deepglobe --split-files my_splits
  {command} prepare --data resized --map-color 255,0,0=unknown
  {command} prepare --data mine.zip --image-glob 'images/*.tif' \\
      --mask-pattern 'labels/*_gt.png'

exit codes: 0 success, 1 check found faults, 2 the input cannot be used, 130 interrupted (Ctrl-C),
143 terminated (SIGTERM)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: the command and its options; None for `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (InputError, OSError) as error:
        print(_in_options(error_line(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; no incomplete data set is left", file=sys.stderr)
        return 130


def command_line() -> NoReturn:
    """Runs the command line and ends the process. Entry point of `lcc-data`."""
    terminated = False

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal terminated
        terminated = True
        raise KeyboardInterrupt  # clean up as after Ctrl-C

    signal.signal(signal.SIGTERM, terminate)
    code = main()
    sys.exit(128 + signal.SIGTERM if terminated else code)


def _in_options(message: str) -> str:
    """Replaces Python arguments in backticks by options.

    `` `map_color=1,2,3=CLASS` `` becomes `` `--map-color 1,2,3=CLASS` ``.
    """

    def option(match: re.Match[str]) -> str:
        name, value = match.groups()
        return f"`--{name.replace('_', '-')}{f' {value}' if value else ''}`"

    names = "data|image_glob|mask_pattern|map_color|cache_dir|split_files|num_shards"
    return re.sub(rf"`({names})(?:=([^`]*))?`", option, message)


def _parser() -> argparse.ArgumentParser:
    started = Path(sys.argv[0]).stem
    command_name = started if started == "lcc-data" else "python -m tfds_deepglobe"
    layout: dict[str, Any] = {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "epilog": _EXAMPLES.format(command=command_name),
    }
    parser = argparse.ArgumentParser(prog=command_name, description=_DESCRIPTION, **layout)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check",
        help="read every file and list all faults",
        description="Reads every file and lists all faults, one per line. Writes nothing.",
        **layout,
    )
    check.set_defaults(run=_check)
    prepare = commands.add_parser(
        "prepare",
        help="write the TFRecords for training",
        description="Verifies every file and writes the TFRecords for training. A data set that "
        "is prepared already is not prepared again.",
        **layout,
    )
    prepare.set_defaults(run=_prepare)
    for command in (check, prepare):
        command.add_argument(
            "--data",
            metavar="PATH",
            default="data/deepglobe",
            help="folder or zip of the archive (default: %(default)s)",
        )
        command.add_argument(
            "--image-glob",
            metavar="PATTERN",
            default=IMAGE_GLOB,
            help="names of images (.jpg, .png, .tif or .bmp); the * is the image's id, and folders "
            "may precede it, as in 'images/*.tif' (default: %(default)s)",
        )
        command.add_argument(
            "--mask-pattern",
            metavar="PATTERN",
            default=MASK_PATTERN,
            help="names of masks (.png, .tif or .bmp), with their image's id as the * "
            "(default: %(default)s)",
        )
        command.add_argument(
            "--map-color",
            metavar="R,G,B=CLASS",
            action="append",
            default=[],
            help="class of a mask color that is not in the class table; repeatable "
            "(default: such a color is a fault)",
        )
    prepare.add_argument(
        "--cache-dir",
        metavar="DIR",
        default="data/tfds",
        help="folder of prepared data sets (default: %(default)s)",
    )
    prepare.add_argument(
        "--split-files",
        metavar="DIR",
        help="folder with train.txt, crossvali.txt or val.txt, and test.txt, with one image file "
        "name or id per line (default: a random split, 649 : 73 : 81)",
    )
    prepare.add_argument(
        "--num-shards",
        metavar="N",
        type=int,
        default=16,
        help="files per split, at most one per image (default: %(default)s)",
    )
    return parser


def _check(options: argparse.Namespace) -> int:
    # numpy and Pillow need a quarter of a second, which --help saves.
    from tfds_deepglobe.archive import open_archive, verify
    from tfds_deepglobe.classes import parse_color_map

    names = FileNames.parse(options.image_glob, options.mask_pattern)
    try:
        archive = open_archive(options.data, names)
    except InputError as error:
        if not Path(options.data).exists():
            raise
        print(_in_options(f"{error}\n{options.data}: 1 fault"))
        return 1
    color_map = archive.classes.resolve_color_map(parse_color_map(options.map_color))
    report = verify(archive, color_map)
    if report.faults:
        count = f"{len(report.faults)} fault{'s' * (len(report.faults) != 1)}"
        print(_in_options("\n".join([*report.faults, f"{archive.path}: {count}"])))
        return 1
    print(_summary(archive, report))
    return 0


def _summary(archive: "Archive", report: "Report") -> str:
    from tfds_deepglobe.archive import describe

    sizes = collections.Counter(report.sizes).most_common(5)
    listed = ", ".join(f"{count} of {width}x{height}" for (width, height), count in sizes)
    more = f", {len(report.sizes) - 5} more sizes" if len(report.sizes) > 5 else ""
    lines = [f"{archive.path}: {describe(archive)}; no fault", f"image sizes: {listed}{more}"]
    fractions = report.pixels / report.pixels.sum()
    classes = zip(archive.classes.names, archive.classes.palette, fractions, strict=True)
    for class_id, (name, color, fraction) in enumerate(classes):
        lines.append(f"{class_id:3d}  {name:20s} {str(color):16s} {fraction:7.2%} of pixels")
    return "\n".join(lines)


def _prepare(options: argparse.Namespace) -> int:
    from tfds_deepglobe.prepare import prepare  # TFDS needs a second, which `check` saves

    prepare(
        options.data,
        options.cache_dir,
        image_glob=options.image_glob,
        mask_pattern=options.mask_pattern,
        split_files=options.split_files,
        map_color=options.map_color,
        num_shards=options.num_shards,
    )
    return 0


if __name__ == "__main__":
    command_line()
