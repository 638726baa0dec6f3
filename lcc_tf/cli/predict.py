"""Makes land-cover maps of images of any size, GeoTIFFs included."""

import argparse
import functools
from pathlib import Path
from typing import NoReturn

from lcc_tf.cli.options import (
    add_average,
    add_flag,
    add_member_weights,
    add_option,
    add_output,
    add_runs,
    add_tta,
    new_parser,
    numbers_or_text,
    positive_float,
    positive_int,
    run,
)
from lcc_tf.errors import InputError, require_extra
from tfds_deepglobe.tensorflow_import import import_tensorflow

EXAMPLES = """\
  python predict.py --runs runs/unetpp --input scene.tif --output maps
  python predict.py --input scenes/ --output maps --tta d4 --extras confidence --polygons gpkg
  python predict.py --input "tiles/*.tif" --output maps --bands 3,2,1 --scale 0,3000 --resume
"""
EXIT_CODES = {0: "all images mapped", 1: "some images could not be mapped"}


def main() -> NoReturn:
    """Runs the command and ends the process."""
    run(command, parser(), when_interrupted="--resume maps the remaining images")


def command(options: argparse.Namespace) -> int:
    """Maps the images and returns the exit code."""
    require_extra("maps")
    import_tensorflow()
    from lcc_tf.exporting.savedmodel import load_savedmodel
    from lcc_tf.mapping.area_statistics import Zones
    from lcc_tf.mapping.input_images import find_images, images_to_map
    from lcc_tf.mapping.map_images import map_images
    from lcc_tf.mapping.outputs import Outputs
    from lcc_tf.mapping.scene_reading import SceneReading
    from lcc_tf.prediction.predictors import EnsemblePredictor
    from lcc_tf.runs import read_runs

    outputs = Outputs(
        options.output,
        extras=options.extras,
        polygons=options.polygons,
        min_region=options.min_region,
        zones=Zones(options.zones) if options.zones else None,
    )
    images = find_images(options.input, options.output)
    todo = images_to_map(images, outputs, resume=options.resume, overwrite=options.overwrite)
    if not todo:
        print(f"all {len(images)} images are already mapped in {options.output}")
        return 0
    reading = SceneReading(
        bands=options.bands, scale=options.scale, resample_to=options.resample_to
    )
    if options.model and options.member_weights:
        raise InputError(
            "`--member-weights` needs `--runs`, since a SavedModel contains its weights. "
            "Received: `--model` and `--member-weights`. Omit one of them."
        )
    if options.model:
        predictor = load_savedmodel(options.model, tta=options.tta, tile=options.tile)
    else:
        predictor = EnsemblePredictor.from_runs(
            read_runs(options.runs, Path("runs")),
            options.member_weights,
            average=options.average,
            tta=options.tta,
            tile=options.tile,
        )
    failed = map_images(todo, predictor, outputs, reading=reading, overlap=options.overlap)
    skipped = f"; {len(images) - len(todo)} were already mapped" if len(todo) < len(images) else ""
    print(f"{len(todo) - len(failed)} of {len(todo)} images mapped to {options.output}{skipped}")
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    """Returns the command's parser."""
    options = new_parser(__doc__, EXAMPLES, EXIT_CODES)
    options.add_argument(
        "--input",
        metavar="FILE|DIR|PATTERN",
        nargs="+",
        required=True,
        help="GeoTIFF, TIFF, JPEG or PNG images: files, folders, or patterns in quotes",
    )
    add_output(
        options,
        "folder for the maps <name>_classes.tif or .png and the area tables <name>_areas.csv",
        default="maps",
    )
    add_option(
        options,
        "--extras",
        "further files per image: probabilities (of each class); confidence (the largest "
        "probability); disagreement (fraction of the ensemble's members that predict another class "
        "than the map); overlay (a picture of the map over the image)",
        choices=("probabilities", "confidence", "disagreement", "overlay"),
        nargs="+",
        default=[],
        default_text="none",
    )
    add_option(
        options,
        "--polygons",
        "also write the map's regions as polygons: gpkg (GeoPackage in the image's coordinates) or "
        "geojson (longitude and latitude)",
        choices=("gpkg", "geojson"),
        default_text="no polygons",
    )
    add_option(
        options,
        "--min-region",
        "polygons only: a region of fewer pixels joins its largest neighbor",
        default=100,
        metavar="PIXELS",
        type=positive_int,
    )
    add_option(
        options,
        "--zones",
        "file of polygons, such as a GeoPackage, GeoJSON or shapefile; the area of each class in "
        "each polygon is written to <name>_zones.csv",
        default_text="no zones",
        metavar="FILE",
        type=Path,
    )
    add_flag(options, "--resume", "skip images that are already mapped")
    add_flag(options, "--overwrite", "replace existing maps")

    network = options.add_argument_group("network")
    source = network.add_mutually_exclusive_group()
    add_runs(source)
    add_option(
        source,
        "--model",
        "folder of a SavedModel that export.py has written, instead of --runs",
        default_text="no SavedModel",
        metavar="DIR",
        type=Path,
    )
    add_member_weights(network)
    add_average(network)
    add_tta(network)
    add_option(
        network,
        "--tile",
        "side of the tiles",
        default_text="the size that the network was trained on",
        metavar="PIXELS",
        type=positive_int,
    )
    add_option(
        network,
        "--overlap",
        "overlap of neighboring tiles, at most half a tile",
        default_text="a quarter of a tile",
        metavar="PIXELS",
        type=int,
    )

    reading = options.add_argument_group("image reading")
    add_option(
        reading,
        "--bands",
        "numbers of the red, green and blue bands; the first band is 1",
        default_text="the three bands of an image that has three",
        metavar="R,G,B",
        type=functools.partial(numbers_or_text, number=int),
    )
    add_option(
        reading,
        "--scale",
        "values that become 0 and 255: two numbers; minmax, each band's extremes; or percentile, "
        "each band's 2nd and 98th percentile",
        default_text="8-bit images unchanged, other images percentile",
        metavar="minmax|percentile|MIN,MAX",
        type=numbers_or_text,
    )
    add_option(
        reading,
        "--resample-to",
        "pixel size at which images are read and mapped; DeepGlobe's is 0.5 m",
        default_text="the image's pixel size",
        metavar="METERS",
        type=positive_float,
    )
    return options
