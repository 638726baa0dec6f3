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

exit codes: 0 all images mapped, 1 some images could not be mapped, 2 invalid input, 130 interrupted
(Ctrl-C), 143 terminated (SIGTERM)
"""


def main() -> NoReturn:
    """Runs the command and ends the process."""
    run(command, parser(), when_interrupted="map the other images with --resume")


def command(options: argparse.Namespace) -> int:
    """Maps the images and returns the exit code."""
    require_extra("maps")
    # TensorFlow takes seconds to import, so --help and invalid options are answered before.
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
        bands=None if options.bands is None else numbers_or_text(options.bands, int),
        scale=None if options.scale is None else numbers_or_text(options.scale, float),
        resample_to=options.resample_to,
    )
    if options.model and options.member_weights:
        raise InputError(
            "`--member-weights` needs `--runs`; a SavedModel keeps the weights with which it was "
            "exported. Remove `--member-weights`, or use `--runs` instead of `--model`."
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


def numbers_or_text(text: str, number: type[int] | type[float]) -> str | tuple[float, ...]:
    """Parses numbers such as "3,2,1"; the library checks them, and any other text.

    Args:
        text: the option's value.
        number: type of the numbers.

    Returns:
        The numbers, or the text itself if it is anything else.
    """
    try:
        return tuple(number(part) for part in text.split(","))
    except ValueError:
        return text


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
        help="folder for the maps, <name>_classes.tif or .png, and <name>_areas.csv (default: "
        "%(default)s)",
    )
    options.add_argument(
        "--extras",
        nargs="+",
        choices=("probabilities", "confidence", "disagreement", "overlay"),
        default=[],
        help="also write the probability of each class; the largest probability; the fraction of "
        "members that predict another class than the map; a picture of the map over the image",
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
        help="smaller regions join their largest neighboring region before they become polygons "
        "(default: %(default)s)",
    )
    options.add_argument(
        "--zones",
        metavar="FILE",
        type=Path,
        default=None,
        help="polygons (GeoPackage, GeoJSON, shapefile, ...) in which each class's area is "
        "computed: <name>_zones.csv",
    )
    options.add_argument(
        "--resume",
        action="store_true",
        default=False,
        help="skip images whose maps are complete",
    )
    options.add_argument(
        "--overwrite", action="store_true", default=False, help="replace maps that exist"
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
        help="side of the tiles (default: as in training)",
    )
    model.add_argument(
        "--overlap",
        metavar="PIXELS",
        type=int,
        default=None,
        help="overlap of neighboring tiles, at most half a tile (default: a quarter)",
    )

    reading = options.add_argument_group("reading of images")
    reading.add_argument(
        "--bands",
        metavar="R,G,B",
        default=None,
        help="numbers of the red, green and blue band, from 1 (default: the bands of an image that "
        "has three)",
    )
    reading.add_argument(
        "--scale",
        metavar="minmax|percentile|MIN,MAX",
        default=None,
        help="values that become 0 and 255, the same for the whole image (default: 8-bit images "
        "unchanged, others percentile, 2 and 98 %% of each band)",
    )
    reading.add_argument(
        "--resample-to",
        metavar="METERS",
        type=positive_float,
        default=None,
        help="pixel size at which images are read and mapped; DeepGlobe's is 0.5 m (default: the "
        "image's pixel size)",
    )
    return options
