"""Makes land-cover maps of images of any size, GeoTIFFs included."""

import argparse
from pathlib import Path
from typing import NoReturn

from lcc_tf.cli.options import (
    add_average,
    add_member_weights,
    add_runs,
    add_tta,
    new_parser,
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

exit codes: 0 all images mapped, 1 some could not be, 2 the input cannot be used, 130 interrupted
"""


def main() -> NoReturn:
    """Runs the command and ends the process."""
    run(command, parser(), when_interrupted="go on with the images that are left by --resume")


def command(options: argparse.Namespace) -> int:
    """Maps the images; returns the exit code."""
    require_extra("maps")
    # TensorFlow takes seconds to import, which --help and wrong options can do without.
    import_tensorflow()
    from lcc_tf.mapping.area_statistics import Zones
    from lcc_tf.mapping.map_scene import map_images
    from lcc_tf.mapping.outputs import Outputs, find_images, plan
    from lcc_tf.mapping.scene import parse_bands, parse_scale
    from lcc_tf.prediction.predictors import load_exported_model, load_scene_model
    from lcc_tf.runs import find_runs, read_run

    outputs = Outputs(
        options.output,
        extras=options.extras,
        polygons=options.polygons,
        min_region=options.min_region,
        zones=Zones(options.zones) if options.zones else None,
    )
    images = find_images(options.input, options.output)
    todo = plan(images, outputs, resume=options.resume, overwrite=options.overwrite)
    if not todo:
        print(f"all {len(images)} images are mapped in {options.output}; nothing is left to map")
        return 0
    reading = {
        "bands": parse_bands(options.bands) if options.bands else None,
        "scale": parse_scale(options.scale) if options.scale else None,
        "resample_to": options.resample_to,
    }
    if options.model and options.member_weights:
        raise InputError(
            "`--member-weights` go with `--runs`; a SavedModel keeps those that it was exported "
            "with. Leave them out."
        )
    if options.model:
        model = load_exported_model(options.model, tta=options.tta, tile=options.tile)
    else:
        model = load_scene_model(
            [read_run(path) for path in options.runs] or find_runs(Path("runs")),
            options.member_weights,
            average=options.average,
            tta=options.tta,
            tile=options.tile,
        )
    left_out = map_images(todo, model, outputs, overlap=options.overlap, **reading)
    before = f"; {len(images) - len(todo)} were there before" if len(todo) < len(images) else ""
    print(f"{len(todo) - len(left_out)} of {len(todo)} images mapped to {options.output}{before}")
    return 1 if left_out else 0


def parser() -> argparse.ArgumentParser:
    """Returns the command's parser."""
    options = new_parser(__doc__, EXAMPLES)
    options.add_argument(
        "--input",
        metavar="FILE|DIR|PATTERN",
        nargs="+",
        required=True,
        help="images: GeoTIFF, TIFF, JPEG or PNG",
    )
    options.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        default=Path("maps"),
        help="of the maps, <name>_classes.tif or .png, and <name>_areas.csv (default: %(default)s)",
    )
    options.add_argument(
        "--extras",
        nargs="+",
        choices=("probabilities", "confidence", "disagreement", "overlay"),
        default=[],
        help="also write the probability of each class; the largest one; the share of the members "
        "that see another class than the map; a picture of the map over the image",
    )
    options.add_argument(
        "--polygons",
        choices=("gpkg", "geojson"),
        default=None,
        help="also write the map's regions as polygons: a GeoPackage in the image's coordinates, "
        "or GeoJSON in longitudes and latitudes",
    )
    options.add_argument(
        "--min-region",
        metavar="PIXELS",
        type=positive_int,
        default=100,
        help="smaller regions join their largest neighbour before they are polygons (default: "
        "%(default)s)",
    )
    options.add_argument(
        "--zones",
        metavar="FILE",
        type=Path,
        default=None,
        help="polygons (GeoPackage, GeoJSON, shapefile, ...) to measure each class's area in: "
        "<name>_zones.csv",
    )
    options.add_argument(
        "--resume",
        action="store_true",
        default=False,
        help="leave out images whose maps are complete",
    )
    options.add_argument(
        "--overwrite", action="store_true", default=False, help="replace maps that are there"
    )

    model = options.add_argument_group("network")
    either = model.add_mutually_exclusive_group()
    add_runs(either)
    either.add_argument(
        "--model",
        metavar="DIR",
        type=Path,
        default=None,
        help="a SavedModel that export.py wrote, instead of runs",
    )
    add_member_weights(model)
    add_average(model)
    add_tta(model)
    model.add_argument(
        "--tile",
        metavar="PIXELS",
        type=positive_int,
        default=None,
        help="side of the squares that are predicted at once (default: as in training)",
    )
    model.add_argument(
        "--overlap",
        metavar="PIXELS",
        type=int,
        default=None,
        help="of neighbouring tiles, at most half of one (default: a quarter)",
    )

    reading = options.add_argument_group("reading of images")
    reading.add_argument(
        "--bands",
        metavar="R,G,B",
        default=None,
        help="numbers of the red, green and blue band, from 1 (default: those of an image that has "
        "three)",
    )
    reading.add_argument(
        "--scale",
        metavar="minmax|percentile|MIN,MAX",
        default=None,
        help="what becomes 0 and 255, the same for the whole image (default: 8 bit as they are, "
        "others percentile, 2 and 98 %% of each band)",
    )
    reading.add_argument(
        "--resample-to",
        metavar="METRES",
        type=positive_float,
        default=None,
        help="read, and map, with pixels of this size; DeepGlobe's have 0.5 m (default: the "
        "image's own)",
    )
    return options
