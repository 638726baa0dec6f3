"""Command line: `python -m tfds_deepglobe check|prepare`."""

import argparse
import collections
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
Prepares the DeepGlobe Land Cover archive, or another one of images and masks, for training.

The archive is the folder or the zip that Kaggle gives ("balraj98/deepglobe-land-cover-
classification-dataset"), or any folder or zip with images and masks. Classes of your own are listed
in its class_dict.csv (columns name,r,g,b); --image-glob and --mask-pattern say what files are
called.
"""
_EXAMPLES = """\
examples:
  python -m tfds_deepglobe check --data archive.zip
  python -m tfds_deepglobe prepare --data archive.zip
  python -m tfds_deepglobe prepare --data data/deepglobe --split-files my_splits
  python -m tfds_deepglobe prepare --data resized --map-color 255,0,0=unknown
  python -m tfds_deepglobe prepare --data mine.zip --image-glob 'images/*.tif' \\
      --mask-pattern 'labels/*_gt.png'

exit codes: 0 fine, 1 faults found by check, 2 the input cannot be used, 130 interrupted, 143
terminated
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: those after the program's name; default `sys.argv[1:]`.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (InputError, OSError) as error:
        print(error_line(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was left half-written", file=sys.stderr)
        return 130


def command_line() -> NoReturn:
    """Runs the command line and ends the process: the command `lcc-data`."""
    terminated = False

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal terminated
        terminated = True
        raise KeyboardInterrupt  # clean up as after Ctrl-C

    signal.signal(signal.SIGTERM, terminate)
    code = main()
    sys.exit(128 + signal.SIGTERM if terminated else code)


def _parser() -> argparse.ArgumentParser:
    layout: dict[str, Any] = {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "epilog": _EXAMPLES,
    }
    parser = argparse.ArgumentParser(
        prog="python -m tfds_deepglobe", description=_DESCRIPTION, **layout
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check",
        help="read every file and list every fault",
        description="Reads every file and lists every fault, a line each; writes nothing.",
        **layout,
    )
    check.set_defaults(run=_check)
    prepare = commands.add_parser(
        "prepare",
        help="write the TFRecords that training reads",
        description="Verifies every file, then writes the TFRecords that training reads. What is "
        "already prepared is not prepared again.",
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
            help="what images are called; the * is the image's id, and folders may come before, as "
            "in 'images/*.tif': .jpg, .png, .tif or .bmp (default: %(default)s)",
        )
        command.add_argument(
            "--mask-pattern",
            metavar="PATTERN",
            default=MASK_PATTERN,
            help="what masks are called, with the id of their image for the *: .png, .tif or .bmp "
            "(default: %(default)s)",
        )
        command.add_argument(
            "--map-color",
            metavar="R,G,B=CLASS",
            action="append",
            default=[],
            help="count a mask colour that is not in the class table as CLASS; repeatable "
            "(default: such a colour is a fault)",
        )
    prepare.add_argument(
        "--cache-dir",
        metavar="DIR",
        default="data/tfds",
        help="where prepared data sets are kept (default: %(default)s)",
    )
    prepare.add_argument(
        "--split-files",
        metavar="DIR",
        help="folder with train.txt, crossvali.txt or val.txt, and test.txt, one image's file "
        "name or <id> a line (default: a random split, 649 : 73 : 81)",
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
    # numpy and Pillow take a quarter of a second that --help can do without.
    from tfds_deepglobe.archive import open_archive, verify
    from tfds_deepglobe.classes import parse_color_map

    names = FileNames.parse(options.image_glob, options.mask_pattern)
    try:
        archive = open_archive(options.data, names)
    except InputError as error:
        if not Path(options.data).exists():
            raise
        print(f"{error}\n{options.data}: 1 fault")
        return 1
    color_map = archive.classes.resolve_color_map(parse_color_map(options.map_color))
    report = verify(archive, color_map)
    print(*report.faults, sep="\n", end="\n" * bool(report.faults))
    if report.faults:
        print(f"{archive.path}: {len(report.faults)} fault{'s' * (len(report.faults) != 1)}")
        return 1
    print(_summary(archive, report))
    return 0


def _summary(archive: "Archive", report: "Report") -> str:
    from tfds_deepglobe.archive import describe

    sizes = collections.Counter(report.sizes).most_common(5)
    listed = ", ".join(f"{count} of {width}x{height}" for (width, height), count in sizes)
    more = f", {len(report.sizes) - 5} more sizes" if len(report.sizes) > 5 else ""
    lines = [f"{archive.path}: {describe(archive)}; no fault", f"image sizes: {listed}{more}"]
    shares = report.pixels / report.pixels.sum()
    classes = zip(archive.classes.names, archive.classes.palette, shares, strict=True)
    for class_id, (name, color, share) in enumerate(classes):
        lines.append(f"{class_id:3d}  {name:20s} {str(color):16s} {share:7.2%} of pixels")
    return "\n".join(lines)


def _prepare(options: argparse.Namespace) -> int:
    from tfds_deepglobe.classes import parse_color_map
    from tfds_deepglobe.prepare import prepare  # TFDS takes a second that `check` can do without

    prepare(
        options.data,
        options.cache_dir,
        names=FileNames.parse(options.image_glob, options.mask_pattern),
        split_files=options.split_files,
        color_map=parse_color_map(options.map_color),
        num_shards=options.num_shards,
    )
    return 0


if __name__ == "__main__":
    command_line()
