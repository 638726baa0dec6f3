"""Converts a UNet++ or DeepLabV3+ of segmentation_models_pytorch to a run folder."""

import argparse
from typing import NoReturn

from lcc_tf.cli.options import add_option, new_parser, path, run
from lcc_tf.config import FRAMINGS, TrainConfig
from tfds_deepglobe.tensorflow_import import import_tensorflow

EXAMPLES = """\
  python import_torch.py --weights best.ckpt --workdir runs/from_torch
  python import_torch.py --weights model.safetensors --workdir runs/mine \\
      --classes class_dict.csv --framing crops --preprocessing unit
  python evaluate.py --runs runs/from_torch --data data/deepglobe
"""


def main() -> NoReturn:
    """Runs the command and ends the process."""
    run(command, parser(), when_interrupted="nothing was imported")


def command(options: argparse.Namespace) -> None:
    """Imports the model."""
    import_tensorflow()
    from lcc_tf.torch_runs import import_torch
    from tfds_deepglobe.class_files import read_class_table
    from tfds_deepglobe.classes import DEEPGLOBE_CLASSES

    table = options.classes
    imported = import_torch(
        options.weights,
        options.workdir,
        read_class_table(table.name, table.read_bytes()) if table else DEEPGLOBE_CLASSES,
        image_size=options.image_size,
        framing=options.framing,
        native_size=options.native_size,
        preprocessing=options.preprocessing,
        output_stride=options.output_stride,
    )
    config = imported.config
    print(
        f"{config.arch} with {config.encoder}, {imported.classes.num_classes} classes; "
        f"run: {imported.path}"
    )


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    options = new_parser(__doc__, EXAMPLES, {0: "imported"})
    options.add_argument(
        "--weights",
        metavar="FILE",
        type=path,
        required=True,
        help="weights of the whole model: a .safetensors file, a .pth file or a .ckpt file of "
        "Lightning; .pth and .ckpt need the package torch; the network, the encoder and the number "
        "of classes are read from this file",
    )
    options.add_argument(
        "--workdir", metavar="DIR", type=path, required=True, help="run folder to create"
    )
    add_option(
        options,
        "--classes",
        "class_dict.csv with the names and colors of the classes, in the order of the output "
        "channels of the model; for a model with one channel: the background, then the class",
        default_text="the classes of DeepGlobe",
        metavar="CSV",
        type=path,
    )
    add_option(
        options,
        "--preprocessing",
        "pixel values that the model was trained on; none: [0, 255]; unit: [0, 1]; torch: [0, 1], "
        "normalized with the mean and standard deviation of ImageNet; torch_255: [0, 255], "
        "normalized with the same mean and standard deviation",
        choices=("torch", "torch_255", "unit", "none"),
        default="torch",
    )
    add_option(
        options,
        "--image-size",
        "side of the images that the model was trained on",
        default=TrainConfig.image_size,
        metavar="PIXELS",
        type=int,
    )
    add_option(
        options,
        "--framing",
        "whole: the training images were resized to --image-size; crops: the training images were "
        "cropped to --image-size",
        choices=FRAMINGS,
        default="whole",
    )
    add_option(
        options,
        "--native-size",
        "side of the training images before they were resized or cropped",
        default=2448,
        default_text="%(default)s, the side of the images of DeepGlobe",
        metavar="PIXELS",
        type=int,
    )
    add_option(
        options,
        "--output-stride",
        "DeepLabV3+ only: stride of the encoder's last features",
        default=TrainConfig.output_stride,
        choices=(16, 8),
        type=int,
    )
    return options
