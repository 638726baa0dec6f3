"""The command `python -m tfds_deepglobe`. In the installed package, its name is `lcc-data`."""

import argparse
import collections
import functools
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from tfds_deepglobe.errors import InputError, error_line, escape_unknown_characters
from tfds_deepglobe.file_names import FileNames

if TYPE_CHECKING:
    from tfds_deepglobe.archive import Archive, Report

_DESCRIPTION = """\
Checks and prepares the DeepGlobe Land Cover archive, or your own images and masks, for training.

The archive is a folder or a zip, such as the zip of
"balraj98/deepglobe-land-cover-classification-dataset" from Kaggle. To use your own classes, put a
class_dict.csv with the columns name,r,g,b into the archive. Usual names of folders and files are
recognized. For other names, use --image-glob and --mask-pattern.
"""
_EXAMPLES = """\
examples:
  {command} check --data archive.zip
  {command} classes --data mine
  {command} prepare --data archive.zip
  {command} prepare --data data/deepglobe --split-files my_splits
  {command} prepare --data resized --map-color 255,0,0=unknown
  {command} prepare --data mine.zip --image-glob 'images/*.tif' \\
      --mask-pattern 'labels/*_gt.png'

exit codes: 0 success, 1 `check` found faults, 2 the input cannot be used, 130 interrupted (Ctrl-C),
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
        print("interrupted; the incomplete data set was deleted", file=sys.stderr)
        return 130


def command_line() -> NoReturn:
    """Runs the command line and ends the process. This is the entry point of `lcc-data`."""
    terminated = False

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal terminated
        terminated = True
        raise KeyboardInterrupt  # delete incomplete files, as after Ctrl-C

    signal.signal(signal.SIGTERM, terminate)
    escape_unknown_characters()
    code = main()
    sys.exit(128 + signal.SIGTERM if terminated else code)


def _in_options(message: str) -> str:
    """Replaces Python arguments in backticks with options of the command.

    For example, `` `map_color=1,2,3=CLASS` `` becomes `` `--map-color 1,2,3=CLASS` ``.
    """

    def option(match: re.Match[str]) -> str:
        name, value = match.groups()
        return f"`--{name.replace('_', '-')}{f' {value}' if value else ''}`"

    names = (
        *("data", "output", "image_glob", "mask_pattern", "map_color", "cache_dir", "num_shards"),
        *("split", "split_files", "group_by", "merge", "void", "bands"),
    )
    return re.sub(rf"`({'|'.join(names)})(?:=([^`]*))?`", option, message)


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
        description="Reads every file and lists all faults, one per line. A fault is a reason why "
        "a file cannot be used. This command does not write any file.",
        **layout,
    )
    check.set_defaults(run=_check)
    prepare = commands.add_parser(
        "prepare",
        help="write the TFRecords for training",
        description="Verifies every file and writes the TFRecords for training. If the data set "
        "is already prepared, this command does not write it again.",
        **layout,
    )
    prepare.set_defaults(run=_prepare)
    classes = commands.add_parser(
        "classes",
        help="list the colors of all masks, and draft a class table",
        description="Lists each color of the masks, and writes the draft of a class table, "
        "class_dict.csv. Replace the names in this file. For void pixels, see --void of the other "
        "commands.",
        **layout,
    )
    classes.set_defaults(run=_classes)
    classes.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="class table to write (default: class_dict.csv in the folder of the archive, or in "
        "the folder that contains the zip)",
    )
    for command in (check, classes, prepare):
        command.add_argument(
            "--data",
            metavar="PATH",
            default="data/deepglobe",
            help="archive: a folder or a zip (default: %(default)s)",
        )
        command.add_argument(
            "--image-glob",
            metavar="PATTERN",
            help="name pattern of the images (.jpg, .png, .tif or .bmp); the * in the file name "
            "stands for the id of the image; the pattern may begin with folders, such as "
            "'images/*.tif' (default: usual names are recognized)",
        )
        command.add_argument(
            "--mask-pattern",
            metavar="PATTERN",
            help="name pattern of the masks (.png, .tif or .bmp); the * in the file name stands "
            "for the id of the image (default: usual names are recognized)",
        )
    for command in (check, prepare):
        command.add_argument(
            "--bands",
            metavar="N,N,...",
            help="numbers of the bands to use, counted from 1, with optional names, such as "
            "4=red,3=green,2=blue,8=nir (default: all bands)",
        )
        command.add_argument(
            "--map-color",
            metavar="R,G,B=CLASS",
            action="append",
            default=[],
            help="assigns a class to a mask color that is not in the class table; may be repeated "
            "(default: such a color is a fault)",
        )
        command.add_argument(
            "--merge",
            metavar="NEW=A+B",
            action="append",
            default=[],
            help="merges classes of the class table; may be repeated (default: no class)",
        )
        command.add_argument(
            "--void",
            metavar="CLASS|VALUE",
            action="append",
            default=[],
            help="name of a class, or value of the masks such as 255, for pixels without ground "
            "truth; losses and scores ignore these pixels; may be repeated (default: no class)",
        )
        command.add_argument(
            "--split",
            choices=("auto", "folders", "random"),
            default="auto",
            help="folders: folders such as train and test are the splits; random: a random split "
            "in the ratio 649 : 73 : 81; auto: folders if they exist (default: %(default)s)",
        )
        command.add_argument(
            "--group-by",
            metavar="folder|none|METERSm|REGEX",
            default="auto",
            help="groups of images that a random split keeps together; folder: the images of a "
            "folder; METERSm, such as 100m: georeferenced images at most 100 meters apart; REGEX: "
            "images whose ids contain the same text that matches the regular expression; none: no "
            "groups (default: folder, if there are several folders of similar size)",
        )
    prepare.add_argument(
        "--cache-dir",
        metavar="DIR",
        default="data/tfds",
        help="folder for prepared data sets (default: %(default)s)",
    )
    prepare.add_argument(
        "--split-files",
        metavar="DIR",
        help="folder with train.txt, crossvali.txt (or val.txt) and test.txt; each line is the "
        "file name or the id of an image (default: see --split)",
    )
    prepare.add_argument(
        "--num-shards",
        metavar="N",
        type=int,
        default=16,
        help="number of files per split; a split with fewer images has one file per image "
        "(default: %(default)s)",
    )
    return parser


def _check(options: argparse.Namespace) -> int:
    # These modules are imported here, because numpy and Pillow would delay --help by 0.25 seconds.
    from tfds_deepglobe.archive import open_archive, remarks, verify, with_bands, with_labels
    from tfds_deepglobe.footprints import describe_neighbors, distance_groups
    from tfds_deepglobe.splits import plan_split

    names = FileNames.parse_or_none(options.image_glob, options.mask_pattern)
    try:
        archive = open_archive(options.data, names)
    except InputError as error:
        if not Path(options.data).exists():
            raise
        print(_in_options(f"{error}\n{options.data}: 1 fault"))
        return 1
    archive = with_bands(archive, options.bands)
    archive, color_map = with_labels(archive, options.map_color, options.merge, options.void)
    report = verify(archive, color_map)
    if report.faults:
        count = f"{len(report.faults)} fault{'s' * (len(report.faults) != 1)}"
        lines = [*remarks(archive), *report.faults, f"{archive.path}: {count}"]
        print(_in_options("\n".join(lines)))
        return 1
    folders = {pair.id: pair.folder for pair in archive.pairs}
    try:
        near = functools.partial(distance_groups, archive)
        plan = plan_split(folders, split=options.split, group_by=options.group_by, near=near)
        lines = [*plan.lines, *(describe_neighbors(archive) if plan.is_ungrouped else ())]
    except InputError as error:
        if (options.split, options.group_by) != ("auto", "auto"):
            print(_in_options(_summary(archive, report)))
            raise
        lines = [f"warning: {error}"]
    print(_in_options("\n".join([_summary(archive, report), *lines])))
    return 0


def _summary(archive: "Archive", report: "Report") -> str:
    from tfds_deepglobe.archive import describe, remarks, turned_line

    sizes = collections.Counter(report.sizes).most_common(5)
    listed = ", ".join(f"{count} with {width}x{height}" for (width, height), count in sizes)
    more = f", and {len(report.sizes) - 5} other sizes" if len(report.sizes) > 5 else ""
    lines = [
        f"{archive.path}: {describe(archive)}; no faults",
        *remarks(archive),
        f"images per size (pixels): {listed}{more}",
    ]
    fractions = report.pixels / max(1, report.pixels.sum() + report.num_void)
    classes = zip(archive.classes.names, archive.classes.palette, fractions, strict=True)
    for class_id, (name, color, fraction) in enumerate(classes):
        lines.append(f"{class_id:3d}  {name:20s} {str(color):16s} {fraction:7.2%} of pixels")
    if report.num_void:
        fraction = report.num_void / (report.pixels.sum() + report.num_void)
        lines.append(f"  -  {'void':20s} {'':16s} {fraction:7.2%} of pixels")
    if archive.turned:
        lines.append(turned_line(archive))
    return "\n".join(lines)


def _classes(options: argparse.Namespace) -> int:
    from tfds_deepglobe.archive import open_archive, remarks
    from tfds_deepglobe.class_draft import count_colors, describe_colors, draft_names, draft_text

    names = FileNames.parse_or_none(options.image_glob, options.mask_pattern)
    archive = open_archive(options.data, names)
    print("\n".join(remarks(archive)))
    uses = count_colors(archive)
    drafted = draft_names(archive, uses)
    print("\n".join(describe_colors(uses, drafted)))
    folder = archive.path if archive.path.is_dir() else archive.path.parent
    output = options.output or folder / "class_dict.csv"
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(draft_text(drafted))
    except FileExistsError:
        raise InputError(
            f"{output} exists and was not changed. Choose another file with `output`."
        ) from None
    print(f"written: {output}; replace the names of the classes")
    if not archive.path.is_dir() and not options.output:
        paths = shlex.join([str(archive.path), str(output)])
        print(f"then add the file to the zip: zip -j {paths}")
    return 0


def _prepare(options: argparse.Namespace) -> int:
    # This module is imported here, because TFDS would delay `check` by a second.
    from tfds_deepglobe.prepare import prepare

    prepare(
        options.data,
        options.cache_dir,
        image_glob=options.image_glob,
        mask_pattern=options.mask_pattern,
        bands=options.bands,
        split=options.split,
        split_files=options.split_files,
        group_by=options.group_by,
        map_color=options.map_color,
        merge=options.merge,
        void=options.void,
        num_shards=options.num_shards,
    )
    return 0


if __name__ == "__main__":
    command_line()
