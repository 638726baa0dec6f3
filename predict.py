"""Makes land-cover maps of images of any size, GeoTIFFs included."""

import argparse
from pathlib import Path

from lcc_tf.command_line import parser, run
from tfds_deepglobe.tensorflow_import import import_tensorflow

EXAMPLES = """\
  python predict.py --runs runs/unetpp --input scene.tif --output maps
  python predict.py --input scenes/ --output maps --tta d4 --extras confidence overlay
  python predict.py --input "tiles/*.tif" --output maps --bands 3,2,1 --scale 0,3000 --resume

exit codes: 0 all images mapped, 1 some could not be, 2 the input cannot be used, 130 interrupted
"""


def main() -> int:
    """Parses the command line and maps; gives the exit code."""
    options = _parser().parse_args()
    # TensorFlow takes seconds to import, which --help and wrong options can do without.
    import_tensorflow()
    from lcc_tf.areas import Zones
    from lcc_tf.checkpoints import find_runs, read_run
    from lcc_tf.mapping import find_images, map_images, plan
    from lcc_tf.members import load_scene_model
    from lcc_tf.raster import parse_bands, parse_scale

    zones = Zones(options.zones) if options.zones else None
    images = find_images(options.input, options.output)
    todo = plan(
        images,
        options.output,
        [*options.extras, "zones"] if zones else options.extras,
        resume=options.resume,
        overwrite=options.overwrite,
    )
    if not todo:
        print(f"all {len(images)} images are mapped in {options.output}; nothing is left to map")
        return 0
    reading = {
        "bands": parse_bands(options.bands) if options.bands else None,
        "scale": parse_scale(options.scale) if options.scale else None,
        "resample_to": options.resample_to,
    }
    runs = [read_run(path) for path in options.runs] or find_runs(Path("runs"))
    model = load_scene_model(
        runs,
        options.member_weights,
        average=options.average,
        tta=options.tta,
        tile=options.tile,
    )
    left_out = map_images(
        todo,
        model,
        options.output,
        extras=options.extras,
        zones=zones,
        overlap=options.overlap,
        **reading,
    )
    print(f"{len(todo) - len(left_out)} of {len(images)} images mapped to {options.output}")
    return 1 if left_out else 0


def _parser() -> argparse.ArgumentParser:
    options = parser(__doc__, EXAMPLES)
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
        choices=("probabilities", "confidence", "disagreement", "overlay", "polygons"),
        default=[],
        help="also write the probability of each class; the largest one; the share of the members "
        "that see another class than the map; a picture of the map over the image; the map's "
        "regions as a GeoPackage",
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
    model.add_argument(
        "--runs",
        metavar="DIR",
        nargs="+",
        type=Path,
        default=[],
        help="one run folder, or several for their ensemble (default: every run under runs/)",
    )
    model.add_argument(
        "--member-weights",
        metavar="W",
        nargs="+",
        type=float,
        default=None,
        help="of the ensemble, one a run in the order of --runs (default: equal ones)",
    )
    model.add_argument(
        "--average",
        choices=("probabilities", "logits"),
        default="probabilities",
        help="what the ensemble averages (default: %(default)s)",
    )
    model.add_argument(
        "--tta",
        choices=("none", "flip", "d4"),
        default="none",
        help="test-time augmentation: average over mirrored (flip), or turned and mirrored images "
        "(d4), at 4 and 8 times the work (default: %(default)s)",
    )
    model.add_argument(
        "--tile",
        metavar="PIXELS",
        type=int,
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
        type=float,
        default=None,
        help="read, and map, with pixels of this size; DeepGlobe's have 0.5 m (default: the "
        "image's own)",
    )
    return options


if __name__ == "__main__":
    run(main, when_interrupted="go on with the images that are left by --resume")
