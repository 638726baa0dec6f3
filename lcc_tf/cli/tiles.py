"""Cuts scenes and polygons into tiles and masks for training.

The polygons can have any coordinate system. Ground without a polygon is void: losses and scores
ignore it. A block of ground contains several neighboring tiles, which are in one folder. Therefore,
a random split can keep the tiles of a block together.
"""

import argparse
import shlex
from typing import NoReturn

from lcc_tf.cli.options import (
    add_flag,
    add_option,
    add_output,
    as_invoked,
    in_options,
    new_parser,
    path,
    positive_int,
    run,
)
from lcc_tf.errors import require_extra

EXAMPLES = """\
  python tiles.py --scenes 'scenes/*.tif' --labels labels.gpkg --label-field class --output mine
  python tiles.py --scenes scene.tif --labels labels.gpkg --label-field class --check
  python train.py --data mine --group-by folder --void 255
"""


def main() -> NoReturn:
    """Runs the command and ends the process."""
    run(command, parser(), when_interrupted="nothing was written")


def command(options: argparse.Namespace) -> None:
    """Writes the tiles, and prints a report."""
    require_extra("maps")
    from lcc_tf.mapping.input_images import find_images
    from lcc_tf.mapping.zones import Zones
    from lcc_tf.tiles.cutting import cut_scenes
    from lcc_tf.tiles.labels import Labels
    from lcc_tf.tiles.report import report_lines

    labels = Labels(
        Zones(options.labels, argument="labels"),
        options.label_field,
        Zones(options.areas, argument="areas") if options.areas else None,
        options.background,
    )
    scenes = find_images(options.scenes, options.output, "scenes")
    report = cut_scenes(
        scenes,
        labels,
        None if options.check else options.output,
        tile_size=options.tile_size,
        block_tiles=options.block_tiles,
        overwrite=options.overwrite,
    )
    print(in_options("\n".join(report_lines(report, labels)), parser()))
    if not options.check:
        print(f"written: {options.output}; next command:")
        data = shlex.quote(str(options.output))
        # If a class has the name 255, `--void 255` would select this class.
        void = "255,255,255" if "255" in labels.names else "255"
        print(as_invoked(f"python train.py --data {data} --group-by folder --void {void}"))


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    options = new_parser(__doc__, EXAMPLES, {0: "written"})
    options.add_argument(
        "--scenes",
        metavar="FILE|DIR|PATTERN",
        nargs="+",
        required=True,
        help="georeferenced images: files, folders, or patterns in quotes",
    )
    options.add_argument(
        "--labels",
        metavar="FILE[:LAYER]",
        type=path,
        required=True,
        help="file with polygons, such as a GeoPackage, GeoJSON or shapefile",
    )
    options.add_argument(
        "--label-field",
        metavar="NAME",
        required=True,
        help="attribute of the polygons that contains the class",
    )
    add_option(
        options,
        "--areas",
        "file with polygons of the areas in which the labels are complete; ground outside these "
        "areas is void",
        default_text="ground without labels is void",
        metavar="FILE[:LAYER]",
        type=path,
    )
    add_option(
        options,
        "--background",
        "with --areas: class of the ground that is in an area, but not in a polygon of --labels",
        default_text="this ground is void",
        metavar="CLASS",
    )
    add_option(
        options,
        "--tile-size",
        "approximate side of the tiles",
        default=512,
        metavar="PIXELS",
        type=positive_int,
    )
    add_option(
        options,
        "--block-tiles",
        "side of a block of ground, in tiles; the tiles of a block are in one folder",
        default=4,
        metavar="TILES",
        type=positive_int,
    )
    add_output(options, "folder for images, masks and class_dict.csv", default="tiles")
    add_flag(options, "--check", "print the report, and write nothing")
    add_flag(options, "--overwrite", "replace an earlier folder --output")
    return options
