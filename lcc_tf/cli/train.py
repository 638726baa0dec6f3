"""Trains one segmentation network on the DeepGlobe archive, your own or procedural scenes."""

import argparse
import dataclasses
from pathlib import Path
from typing import NoReturn

from lcc_tf.cli.options import OptionGroup, new_parser, run, words_or_numbers
from lcc_tf.config import DataConfig, TrainConfig
from lcc_tf.recipes import from_options, recipe_settings
from tfds_deepglobe.tensorflow_import import import_tensorflow

EXAMPLES = """\
  python train.py --arch unetpp
  python train.py --arch deeplabv3plus --data archive.zip --recipe original --regime frozen
  python train.py --arch unetpp --data demo --encoder mobilenetv2 --encoder-weights none \\
      --image-size 128 --epochs 20
  python train.py --arch unetpp --data mine.zip --image-glob 'images/*.tif' \\
      --mask-pattern 'labels/*_gt.png'
  python train.py --arch unetpp --resume

exit codes: 0 trained, 2 the input cannot be used, 130 interrupted (Ctrl-C),
143 terminated (SIGTERM)
"""
DEFAULTS = {
    field.name: field.default
    for config in (TrainConfig, DataConfig)
    for field in dataclasses.fields(config)
}
ORIGINAL = [
    recipe_settings("original", arch=arch, regime=regime)
    for arch in ("deeplabv3plus", "unetpp")
    for regime in ("finetune", "frozen")
]


def main() -> NoReturn:
    """Runs the command and ends the process."""
    run(command, parser(), when_interrupted="resume after the last whole epoch with --resume")


def command(options: argparse.Namespace) -> None:
    """Trains the network."""
    options = vars(options)
    if "class_weights" in options:
        options["class_weights"] = words_or_numbers(options["class_weights"])
    resume = options.pop("resume", False)
    workdir = Path(options.pop("workdir", f"runs/{options.get('arch', TrainConfig.arch)}"))

    # TensorFlow takes seconds to import, which --help and wrong options can do without.
    import_tensorflow()
    from lcc_tf.runs import CONFIG, read_run
    from lcc_tf.training.train import train

    resumes = resume and (workdir / CONFIG).exists()
    config = from_options(options, earlier=read_run(workdir).config if resumes else None)
    state = train(config, workdir, resume=resume)
    print(
        f"best {config.monitor} {state.best_score:.4f} in epoch {state.best_epoch}; run: {workdir}"
    )


def _none_or(value: str) -> str | None:
    return None if value == "none" else value


def _in_words(value: object) -> str:
    """Formats a configuration's value as the user would type it."""
    if isinstance(value, tuple):
        return " ".join(map(_in_words, value))
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def add_field(group: OptionGroup, name: str, text: str = "", **settings: object) -> None:
    """Adds the option for a field of the configuration, with its default values in the help.

    Args:
        group: of options.
        name: of the field.
        text: help without the default values.
        **settings: of `add_argument`.
    """
    defaults = f"default: {_in_words(DEFAULTS[name])}"
    originals = list(
        dict.fromkeys(_in_words(fields[name]) for fields in ORIGINAL if name in fields)
    )
    if originals and originals != [_in_words(DEFAULTS[name])]:
        *first, last = originals
        defaults += f"; original: {', '.join(first)}{' or ' if first else ''}{last}"
    option = "--" + name.replace("_", "-")
    group.add_argument(option, help=f"{text} ({defaults})".lstrip(), **settings)


def parser() -> argparse.ArgumentParser:
    """Returns the command's parser."""
    options = new_parser(__doc__, EXAMPLES)
    network = options.add_argument_group("network")
    add_field(
        network,
        "arch",
        "unetpp or deeplabv3plus; or unet, fpn, linknet or pspnet of segmentation-models",
    )
    add_field(
        network,
        "encoder",
        "resnet50, resnet101, resnet101_v1.5, efficientnetv2s, convnext_tiny, ...; a wrong name "
        "lists the network's encoders",
        metavar="NAME",
    )
    add_field(
        network,
        "encoder_weights",
        "initial weights of the encoder: ImageNet weights, downloaded on first use; none for "
        "random weights; or a weights file of the same network, for *_v1.5 from torchvision or "
        "timm",
        metavar="imagenet|none|FILE",
        type=_none_or,
    )
    add_field(network, "output_stride", "of DeepLabV3+'s encoder: 16 or 8", type=int)
    network.add_argument(
        "--deep-supervision", action="store_true", help="train a head at each column of UNet++"
    )

    data = options.add_argument_group("data")
    add_field(
        data,
        "data",
        "folder or zip of the raw archive, prepared on first use, or `demo` for procedural scenes",
        metavar="PATH|demo",
    )
    add_field(data, "cache_dir", "folder of prepared data sets", metavar="DIR")
    add_field(
        data,
        "image_glob",
        "names of images; the * is the image's id, and folders may precede it, as in "
        "'images/*.tif'",
        metavar="PATTERN",
    )
    add_field(
        data, "mask_pattern", "names of masks, with their image's id as the *", metavar="PATTERN"
    )
    data.add_argument(
        "--split-files",
        metavar="DIR",
        help="folder with train.txt, crossvali.txt or val.txt, and test.txt (default: a random "
        "split, 649 : 73 : 81, the same for every --seed)",
    )
    data.add_argument(
        "--map-color",
        metavar="R,G,B=CLASS",
        action="append",
        help="class of a mask color that is not in the class table; repeatable",
    )
    add_field(data, "demo_count", "number of scenes of `--data demo`", metavar="N", type=int)
    add_field(data, "demo_size", "side of a scene", metavar="PIXELS", type=int)

    training = options.add_argument_group("training")
    add_field(training, "recipe", "default, or original for all settings of the original")
    add_field(
        training,
        "regime",
        "finetune: all layers train; frozen: the encoder does not train; gradual: first frozen, "
        "then all layers train at a tenth of the learning rate",
    )
    add_field(
        training,
        "frozen_epochs",
        "epochs of `gradual` with a frozen encoder",
        metavar="N",
        type=int,
    )
    add_field(
        training,
        "image_size",
        "side of the network's training images",
        metavar="PIXELS",
        type=int,
    )
    add_field(
        training,
        "framing",
        "crops: random crops at the images' resolution; whole: whole images, resized",
        metavar="crops|whole",
    )
    add_field(
        training,
        "crop_scale",
        "random scale of crops, such as 0.5 2",
        metavar=("MIN", "MAX"),
        nargs=2,
        type=float,
    )
    add_field(
        training,
        "rare_class_share",
        "fraction of crops that contain a pixel of a class drawn by rarity",
        metavar="FRACTION",
        type=float,
    )
    add_field(training, "batch_size", "images per step, over all devices", metavar="N", type=int)
    add_field(training, "epochs", "maximum number of epochs", metavar="N", type=int)
    add_field(
        training,
        "patience",
        "epochs without a better validation score before training stops",
        metavar="N",
        type=int,
    )
    add_field(
        training,
        "loss",
        "dice, cross_entropy, focal, jaccard, lovasz, or a sum of them",
        metavar="NAME[+NAME]",
    )
    add_field(
        training,
        "class_weights",
        "none, inverse_frequency, median_frequency, or one number per class",
        metavar="W",
        nargs="+",
    )
    add_field(
        training,
        "label_smoothing",
        "of cross_entropy and focal",
        metavar="FRACTION",
        type=float,
    )
    add_field(
        training,
        "ignore_class",
        "class that loss and scores ignore, if the data set has it",
        metavar="CLASS|none",
        type=_none_or,
    )
    add_field(training, "learning_rate", "the largest of the schedule", metavar="RATE", type=float)
    add_field(
        training,
        "encoder_rate",
        "learning rate of the encoder as a fraction of --learning-rate",
        metavar="FRACTION",
        type=float,
    )
    add_field(
        training,
        "schedule",
        "of the learning rate: cosine decay after a warm-up, or constant",
        metavar="cosine|constant",
    )
    add_field(
        training,
        "ema_decay",
        "decay of the moving average of the weights, such as 0.999; the average is scored and "
        "saved; 0: no average",
        metavar="DECAY",
        type=float,
    )
    add_field(training, "precision", "float32, mixed_bfloat16 or mixed_float16")
    add_field(
        training,
        "xla",
        "compile the training step with XLA; auto: on a single GPU only; off: for a GPU or "
        "driver on which XLA fails",
        choices=("auto", "on", "off"),
    )
    add_field(
        training, "seed", "random seed of weights, order and augmentation", metavar="N", type=int
    )

    folder = options.add_argument_group("run folder")
    folder.add_argument(
        "--workdir", metavar="DIR", help="weights, history and logs (default: runs/<arch>)"
    )
    folder.add_argument(
        "--resume",
        action="store_true",
        help="resume the run in --workdir, if there is one; its options need not be repeated",
    )
    return options
