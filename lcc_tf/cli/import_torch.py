"""Imports a UNet++ or DeepLabV3+ of segmentation_models_pytorch as a run folder."""

import argparse
from pathlib import Path
from typing import NoReturn

from lcc_tf.cli.options import new_parser, run
from lcc_tf.config import TrainConfig
from tfds_deepglobe.tensorflow_import import import_tensorflow

EXAMPLES = """\
  python import_torch.py --weights best.ckpt --workdir runs/from_torch
  python import_torch.py --weights model.safetensors --workdir runs/mine \\
      --classes class_dict.csv --framing crops --preprocessing unit
  python evaluate.py --runs runs/from_torch --data data/deepglobe

exit codes: 0 imported, 2 the input cannot be used, 130 interrupted (Ctrl-C),
143 terminated (SIGTERM)
"""


def main() -> NoReturn:
    """Runs the command and ends the process."""
    run(command, parser(), when_interrupted="nothing was imported")


def command(options: argparse.Namespace) -> None:
    """Imports the model."""
    # TensorFlow takes seconds to import, which --help and wrong options can do without.
    import_tensorflow()
    from lcc_tf.torch_runs import import_torch
    from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, ClassTable

    table = options.classes
    imported = import_torch(
        options.weights,
        options.workdir,
        ClassTable.from_csv(table.read_bytes()) if table else DEEPGLOBE_CLASSES,
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
    """Returns the command's parser."""
    options = new_parser(__doc__, EXAMPLES)
    options.add_argument(
        "--weights",
        metavar="FILE",
        type=Path,
        required=True,
        help="weights of the whole model, which tell its network, encoder and number of classes: "
        ".safetensors, or .pth or a Lightning .ckpt (these two need torch)",
    )
    options.add_argument("--workdir", metavar="DIR", type=Path, required=True, help="run folder")
    options.add_argument(
        "--classes",
        metavar="CSV",
        type=Path,
        default=None,
        help="class_dict.csv in the order of the model's channels (default: DeepGlobe's)",
    )
    options.add_argument(
        "--preprocessing",
        choices=("torch", "torch_255", "unit", "none"),
        default="torch",
        help="range of its images: torch: [0, 1], normalized with ImageNet's mean and standard "
        "deviation; torch_255: [0, 255], normalized; unit: [0, 1]; none: [0, 255] "
        "(default: %(default)s)",
    )
    options.add_argument(
        "--image-size",
        metavar="PIXELS",
        type=int,
        default=TrainConfig.image_size,
        help="side of its training images (default: %(default)s)",
    )
    options.add_argument(
        "--framing",
        choices=("whole", "crops"),
        default="whole",
        help="whole: images were resized to --image-size; crops: images were cropped "
        "(default: %(default)s)",
    )
    options.add_argument(
        "--native-size",
        metavar="PIXELS",
        type=int,
        default=2448,
        help="side of the images before they were resized (default: %(default)s, DeepGlobe's)",
    )
    options.add_argument(
        "--output-stride",
        type=int,
        choices=(16, 8),
        default=TrainConfig.output_stride,
        help="of DeepLabV3+'s encoder (default: %(default)s)",
    )
    return options
