"""Writes land-cover maps of images of any size, such as GeoTIFFs."""

import argparse
import contextlib
import functools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lcc_tf.cli.options import (
    add_average,
    add_flag,
    add_member_weights,
    add_option,
    add_output,
    add_runs,
    add_tta,
    in_options,
    new_parser,
    numbers_or_text,
    path,
    positive_float,
    positive_int,
    run,
)
from lcc_tf.errors import InputError, require_extra
from tfds_deepglobe.errors import error_line
from tfds_deepglobe.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from lcc_tf.prediction.predictors import EnsemblePredictor

EXAMPLES = """\
  python predict.py --runs runs/unetpp --input scene.tif --output maps
  python predict.py --input scenes/ --output maps --tta d4 --extras confidence --polygons gpkg
  python predict.py --input "tiles/*.tif" --output maps --bands 3,2,1 --scale 0,3000 --resume
"""
# Limits above which `limit_memory` changes how TensorFlow allocates memory
LARGE_NETWORK = 100e6  # size of the weights, bytes
LARGE_TILE = 512  # side of the tiles, pixels
EXIT_CODES = {0: "all images mapped", 1: "some images could not be mapped"}


def main() -> NoReturn:
    """Runs the command and ends the process."""
    run(
        command,
        parser(),
        when_interrupted="the same command with --resume maps the remaining images",
    )


def command(options: argparse.Namespace) -> int:
    """Writes the maps of all images and returns the exit code."""
    require_extra("maps")
    if options.beam_runner:
        # Otherwise, this process would use the whole memory of a GPU, before the workers start.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    from tfds_deepglobe.beam import runner_or_none

    runner = runner_or_none(options.beam_runner, options.beam_options)
    import_tensorflow()
    from lcc_tf.mapping.beam_parts import WORK_FOLDER, beam_blocks
    from lcc_tf.mapping.input_images import find_images, images_to_map
    from lcc_tf.mapping.map_images import check_earlier_maps, is_mapped, map_images
    from lcc_tf.mapping.outputs import Outputs
    from lcc_tf.mapping.scene_reading import SceneReading
    from lcc_tf.mapping.zones import Zones

    outputs = Outputs(
        options.output,
        extras=options.extras,
        polygons=options.polygons,
        min_region=options.min_region,
        zones=Zones(options.zones) if options.zones else None,
    )
    images = find_images(options.input, options.output)
    # Parts of an interrupted call remain in this folder. The same command then continues.
    if runner and (options.output / WORK_FOLDER).exists():
        options.resume = True
    todo = images_to_map(images, outputs, resume=options.resume, overwrite=options.overwrite)
    reading = SceneReading(
        bands=options.bands, scale=options.scale, resample_to=options.resample_to
    )
    if options.model and options.member_weights:
        raise InputError(
            "`--member-weights` needs `--runs`, because a SavedModel already contains the weights. "
            "Received: `--model` and `--member-weights`. Omit one of these options."
        )
    predictor = load_predictor(options)
    settings = (predictor, outputs, reading, options.overlap)
    if options.resume and options.overwrite:
        todo = [image for image in images if not is_mapped(image, *settings)]
    elif options.resume:
        check_earlier_maps(images, *settings)
    if not todo:
        if runner:
            shutil.rmtree(options.output / WORK_FOLDER, ignore_errors=True)
        print(f"all {len(images)} images are already mapped in {options.output}")
        return 0
    load = functools.partial(load_predictor, options)
    shared = {"reading": reading, "overlap": options.overlap}
    with (
        beam_blocks(runner, todo, predictor, load, outputs, **shared)
        if runner
        else contextlib.nullcontext()
    ) as blocks_of:
        failed = map_images(
            todo,
            predictor,
            outputs,
            **shared,
            error_text=lambda error: in_options(error_line(error), parser()),
            blocks_of=blocks_of,
        )
    earlier = len(images) - len(todo)
    skipped = f"; {earlier} were already mapped" if earlier else ""
    print(f"{len(todo) - len(failed)} of {len(todo)} images mapped to {options.output}{skipped}")
    return 1 if failed else 0


def load_predictor(options: argparse.Namespace) -> "EnsemblePredictor":
    """Loads the networks. The workers of a Beam runner also call this function."""
    import_tensorflow()
    from lcc_tf.exporting.description import MODEL_FILE, Description
    from lcc_tf.exporting.savedmodel import load_savedmodel
    from lcc_tf.prediction.predictors import EnsemblePredictor
    from lcc_tf.runs import BEST, read_runs

    if options.model:
        extra = options.model / "assets.extra"
        stored = Description.read(extra).tile if (extra / MODEL_FILE).is_file() else 0
        limit_memory((options.model / "variables").glob("*"), options.tile or stored)
        return load_savedmodel(options.model, tta=options.tta, tile=options.tile)
    runs = read_runs(options.runs, Path("runs"))
    tile = options.tile or max(run.config.image_size for run in runs)
    limit_memory([run.path / BEST for run in runs], tile)
    return EnsemblePredictor.from_runs(
        runs,
        options.member_weights,
        average=options.average,
        tta=options.tta,
        tile=options.tile,
    )


def limit_memory(weights: Iterable[Path], tile: int) -> None:
    """Sets the variable `TF_ONEDNN_USE_SYSTEM_ALLOCATOR` to 1 for large networks and large tiles.

    TensorFlow then returns unused memory to the operating system. Without the variable, UNet++ with
    ResNet101 needs 20 to 30 % more memory for tiles of 1024 pixels. In all other cases, the
    prediction needs little memory, and the variable would only slow down the prediction. If the
    user has set the variable, the function does not change it. GPU memory is not affected.

    TensorFlow reads the variable when it creates the first tensor. Therefore call this function
    before a network is loaded.

    Args:
        weights: files with weights.
        tile: side of the tiles, pixels.
    """
    size = sum(file.stat().st_size for file in weights if file.is_file())
    if size > LARGE_NETWORK and tile > LARGE_TILE:
        os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    options = new_parser(__doc__, EXAMPLES, EXIT_CODES)
    options.add_argument(
        "--input",
        metavar="FILE|DIR|PATTERN",
        nargs="+",
        required=True,
        help="images to map (GeoTIFF, TIFF, JPEG or PNG): files, folders, or patterns in quotes",
    )
    add_output(
        options,
        "folder for the maps <name>_classes.tif or .png and the area tables <name>_areas.csv",
        default="maps",
    )
    add_option(
        options,
        "--extras",
        "additional files per image; probabilities: probability of each class; confidence: largest "
        "probability; disagreement: fraction of the runs that predict a different class than the "
        "map; overlay: image with the map on top",
        choices=("probabilities", "confidence", "disagreement", "overlay"),
        nargs="+",
        default=[],
        default_text="none",
    )
    add_option(
        options,
        "--polygons",
        "also write the regions of the map as polygons; gpkg: GeoPackage in the coordinate system "
        "of the image; geojson: GeoJSON in longitude and latitude",
        choices=("gpkg", "geojson"),
        default_text="no polygons",
    )
    add_option(
        options,
        "--min-region",
        "polygons only: merge a region with fewer pixels into its largest neighbor",
        default=100,
        metavar="PIXELS",
        type=positive_int,
    )
    add_option(
        options,
        "--zones",
        "file with polygons, such as a GeoPackage, GeoJSON or shapefile; the area of each class in "
        "each polygon is written to <name>_zones.csv",
        default_text="no zones",
        metavar="FILE[:LAYER]",
        type=path,
    )
    add_flag(options, "--resume", "skip images whose maps already exist")
    add_flag(
        options,
        "--overwrite",
        "replace existing maps; with --resume, replace only maps of other networks or settings",
    )

    add_option(
        options,
        "--beam-runner",
        "runner of Apache Beam that predicts the images on several processes or machines, such as "
        "DirectRunner; after an interruption, the same command predicts only the missing parts",
        default_text="this process",
        metavar="NAME",
    )
    add_option(
        options,
        "--beam-options",
        "options of Beam and of the runner, such as direct_running_mode=multi_processing "
        "direct_num_workers=2",
        default=[],
        default_text="no options",
        metavar="NAME=VALUE",
        nargs="+",
    )

    network = options.add_argument_group("network")
    source = network.add_mutually_exclusive_group()
    add_runs(source)
    add_option(
        source,
        "--model",
        "folder of a SavedModel that export.py has written, instead of --runs; a SavedModel can "
        "run code on your machine, so use only a SavedModel from a source that you trust",
        default_text="no SavedModel",
        metavar="DIR",
        type=path,
    )
    add_member_weights(network)
    add_average(network)
    add_tta(network)
    add_option(
        network,
        "--tile",
        "side of the tiles into which an image is divided",
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
        "numbers of the red, green and blue bands, or of the bands of the network; the first band "
        "is 1",
        default_text="the bands that are marked as red, green and blue; if no band is marked, all "
        "bands of an image with exactly three bands; for a network with bands, the bands with the "
        "same names or numbers",
        metavar="N,N,N",
        type=functools.partial(numbers_or_text, number=int),
    )
    add_option(
        reading,
        "--scale",
        "band values that are converted to 0 and 255; MIN,MAX: two numbers; minmax: smallest and "
        "largest value of each band; percentile: 2nd and 98th percentile of each band",
        default_text="no conversion for 8-bit images; percentile for all other images",
        metavar="minmax|percentile|MIN,MAX",
        type=numbers_or_text,
    )
    add_option(
        reading,
        "--resample-to",
        "pixel size to which images are resampled before mapping; the pixel size of DeepGlobe is "
        "0.5 m",
        default_text="the pixel size of the image",
        metavar="METERS",
        type=positive_float,
    )
    return options
