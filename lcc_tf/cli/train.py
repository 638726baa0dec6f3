"""Trains one segmentation network on DeepGlobe, on your own images, or on synthetic images."""

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from lcc_tf.cli.options import (
    OptionGroup,
    add_flag,
    add_option,
    in_options,
    in_words,
    new_parser,
    numbers_or_text,
    path,
    run,
)
from lcc_tf.config import (
    FRAMINGS,
    ON_NAN,
    PRECISIONS,
    RECIPES,
    REGIMES,
    XLA,
    DataConfig,
    TrainConfig,
)
from lcc_tf.errors import DivergenceError, LostWorkerError
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
"""
FIELDS = {
    field.name: field
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
    run(
        command,
        parser(),
        when_interrupted="--resume continues at the last checkpoint, if there is one",
    )


def command(options: argparse.Namespace) -> None:
    """Trains the network."""
    options = vars(options)
    if "class_weights" in options:
        options["class_weights"] = numbers_or_text(
            " ".join(options["class_weights"]), separator=None
        )
    resume = options.pop("resume") or None
    workers = options.pop("workers", "")
    worker_index = options.pop("worker_index", None)
    workdir = Path(options.pop("workdir", f"runs/{options.get('arch', TrainConfig.arch)}"))

    import_tensorflow()
    from lcc_tf.runs import CONFIG, read_run
    from lcc_tf.training.train import train

    resumes = resume and (workdir / CONFIG).exists()
    config = from_options(options, earlier=read_run(workdir).config if resumes else None)
    try:
        state = train(
            config,
            workdir,
            resume=resume,
            workers=workers.split(",") if workers else (),
            worker_index=worker_index,
        )
    except LostWorkerError as error:
        print(in_options(str(error), parser()), file=sys.stderr, flush=True)
        sys.stdout.flush()
        # Do not run the exit handlers of TensorFlow, because they wait for the lost worker.
        os._exit(error.exit_code)
    print(
        f"best {config.monitor} {state.best_score:.4f} (average of up to three epochs) in epoch "
        f"{state.best_epoch}; run: {workdir}"
    )


def _none_or_text(value: str) -> str | None:
    return None if value == "none" else value


def _none_or_int(value: str) -> int | None:
    return None if value == "auto" else int(value)


_none_or_int.__name__ = "whole number or auto"  # argparse shows this name in its error message


def add_field(
    group: OptionGroup, name: str, metavar: str | tuple[str, str], text: str, **settings: Any
) -> None:
    """Adds the option for a field of the configuration, with the type and default of the field.

    If the user does not set the option, the parsed options do not contain it. Then the recipe or
    the resumed run defines the value.

    Args:
        group: group of options.
        name: name of the field.
        metavar: name of the option's value in the help text.
        text: help text without the default value.
        **settings: other arguments of argparse's `add_argument`.
    """
    field = FIELDS[name]
    default = in_words(field.default)
    originals = list(dict.fromkeys(in_words(values[name]) for values in ORIGINAL if name in values))
    if originals and originals != [default]:
        *first, last = originals
        default += f"; with --recipe original: {', '.join(first)}{' or ' if first else ''}{last}"
    if field.type in (int, float):
        settings["type"] = field.type
    elif field.type == str | None:
        settings["type"] = _none_or_text
    add_option(
        group,
        "--" + name.replace("_", "-"),
        text,
        default=argparse.SUPPRESS,
        default_text=default,
        metavar=metavar,
        **settings,
    )


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    options = new_parser(
        __doc__,
        EXAMPLES,
        {
            0: "trained",
            DivergenceError.exit_code: "the loss or its gradient is not a finite number",
            LostWorkerError.exit_code: "another machine was lost; use --resume on all machines",
        },
    )
    add_network(options.add_argument_group("network"))
    add_data(options.add_argument_group("data"))
    add_training(options.add_argument_group("training"))
    add_machines(options.add_argument_group("several machines"))
    add_run_folder(options.add_argument_group("run folder"))
    return options


def add_network(group: OptionGroup) -> None:
    """Adds the options of the network."""
    add_field(
        group,
        "arch",
        "NAME",
        "architecture: unetpp, deeplabv3plus, unet, fpn, linknet or pspnet; the last four need the "
        "package segmentation-models",
    )
    add_field(
        group,
        "encoder",
        "NAME",
        "encoder of the network, such as resnet50, resnet101, resnet101_v1.5, efficientnetv2s or "
        "convnext_tiny; for an unknown name, the error message lists all encoders of --arch",
    )
    add_field(
        group,
        "encoder_weights",
        "imagenet|none|FILE",
        "initial weights of the encoder; imagenet: weights that are downloaded on first use; none: "
        "random weights; FILE: a weights file of the same encoder. If the name of the encoder ends "
        "in _v1.5, the file must be from torchvision or timm, otherwise from keras.applications",
    )
    add_field(
        group,
        "new_bands",
        "mean|zero",
        "initial weights for bands that are not red, green or blue; mean: the mean of the three "
        "colors; zero: 0",
    )
    add_field(
        group, "output_stride", "16|8", "DeepLabV3+ only: stride of the encoder's last features"
    )
    add_flag(
        group,
        "--deep-supervision",
        "UNet++ only: train one output for each decoder node at full resolution; the prediction is "
        "the mean of these outputs",
        default=argparse.SUPPRESS,
    )


def add_data(group: OptionGroup) -> None:
    """Adds the options of the data set."""
    add_field(
        group,
        "data",
        "PATH|demo",
        "folder or zip file with images and masks, prepared on first use; demo: synthetic images "
        "and masks, without a download",
    )
    add_field(group, "cache_dir", "DIR", "folder for prepared data sets")
    add_option(
        group,
        "--image-glob",
        "name pattern of the images; the * in the file name stands for the id of the image; the "
        "pattern may begin with folders, such as 'images/*.tif'",
        default=argparse.SUPPRESS,
        default_text="usual names are recognized",
        metavar="PATTERN",
    )
    add_option(
        group,
        "--mask-pattern",
        "name pattern of the masks; the * in the file name stands for the id of the image",
        default=argparse.SUPPRESS,
        default_text="usual names are recognized",
        metavar="PATTERN",
    )
    add_option(
        group,
        "--bands",
        "numbers of the bands to use, counted from 1, with optional names, such as "
        "4=red,3=green,2=blue,8=nir",
        default=argparse.SUPPRESS,
        default_text="all bands",
        metavar="N,N,...",
    )
    add_field(
        group,
        "scale",
        "percentile|minmax|dtype|MIN,MAX",
        "range of values that is scaled to [0, 255], for images that are not RGB with 8 bits; "
        "percentile and minmax: range of each band, measured in all training images",
    )
    add_field(
        group,
        "split",
        "auto|folders|random",
        "folders: folders such as train and test are the splits; random: a random split in the "
        "ratio 649 : 73 : 81, the same for every --seed; auto: folders if they exist",
    )
    add_option(
        group,
        "--split-files",
        "folder with train.txt, crossvali.txt (or val.txt) and test.txt, which list the images",
        default=argparse.SUPPRESS,
        default_text="see --split",
        metavar="DIR",
    )
    add_option(
        group,
        "--group-by",
        "images that a random split keeps together; folder: images of the same folder; METERSm, "
        "such as 100m: georeferenced images at most 100 meters apart; REGEX, a regular expression: "
        "images whose ids contain the same matching text; none: no groups",
        default=argparse.SUPPRESS,
        default_text="folder, if there are several folders of similar size",
        metavar="folder|none|METERSm|REGEX",
    )
    add_option(
        group,
        "--map-color",
        "assigns a class to a mask color that is not in the class table; may be repeated",
        default=argparse.SUPPRESS,
        default_text="such a color is an error",
        metavar="R,G,B=CLASS",
        action="append",
    )
    add_option(
        group,
        "--merge",
        "merges classes of the class table; may be repeated",
        default=argparse.SUPPRESS,
        default_text="no class",
        metavar="NEW=A+B",
        action="append",
    )
    add_option(
        group,
        "--void",
        "class, or value of the masks such as 255, whose pixels have no ground truth; losses and "
        "scores ignore these pixels, and the network does not predict this class; may be repeated",
        default=argparse.SUPPRESS,
        default_text="no class",
        metavar="CLASS|VALUE",
        action="append",
    )
    add_field(group, "demo_count", "N", "number of scenes of --data demo")
    add_field(group, "demo_size", "PIXELS", "side of the scenes of --data demo")


def add_training(group: OptionGroup) -> None:
    """Adds the options of the training."""
    add_field(
        group,
        "recipe",
        "|".join(RECIPES),
        "recipe, which sets the defaults of the other options; original: the settings of the "
        "original PyTorch notebooks, which this project reimplements",
    )
    add_field(
        group,
        "regime",
        "|".join(REGIMES),
        "layers to train; finetune: all layers; frozen: all layers except the encoder; gradual: "
        "first like frozen, then like finetune with a tenth of the learning rate",
    )
    add_field(group, "frozen_epochs", "N", "regime gradual only: epochs with a frozen encoder")
    add_field(group, "image_size", "PIXELS", "side of the network's training images")
    add_field(
        group,
        "framing",
        "|".join(FRAMINGS),
        "input of the network; crops: random crops in the resolution of the images; whole: whole "
        "images, resized to --image-size",
    )
    add_field(
        group,
        "crop_scale",
        ("MIN", "MAX"),
        "range of the random scale factor of crops, such as 0.5 2",
        nargs=2,
        type=float,
    )
    add_option(
        group,
        "--crops-per-image",
        "number of crops of each image in one epoch",
        default=argparse.SUPPRESS,
        default_text="1, or more for a small data set, so that an epoch has about 50 steps",
        metavar="N",
        type=int,
    )
    add_field(
        group,
        "rare_class_share",
        "FRACTION",
        "fraction of crops that must contain a randomly selected class; rare classes are selected "
        "more often",
    )
    add_field(
        group,
        "batch_size",
        "N|auto",
        "number of images per step, summed over all devices; auto: the largest of 1, 2, 4, 8, 16 "
        "and 32 images that fits into the memory, which is measured first",
        type=_none_or_int,
    )
    add_field(
        group,
        "accumulate",
        "N",
        "number of steps per update of the weights; an update uses the mean gradient of these "
        "steps; several small steps need less memory than one larger batch; only for a single "
        "device",
    )
    add_field(group, "epochs", "N", "maximum number of epochs")
    add_field(
        group, "patience", "N", "training stops after N epochs without a better validation score"
    )
    add_field(
        group,
        "loss",
        "NAME[+NAME]",
        "loss: dice, cross_entropy, focal, jaccard or lovasz, or a sum such as cross_entropy+dice",
    )
    add_field(
        group,
        "class_weights",
        "W",
        "weights of the classes in the loss: none, inverse_frequency, median_frequency, or one "
        "number per class",
        nargs="+",
    )
    add_field(group, "label_smoothing", "FRACTION", "label smoothing of cross_entropy and focal")
    add_field(
        group,
        "ignore_class",
        "CLASS|none",
        "class that the loss and the scores ignore; the data set must contain this class, unless "
        "it is the default class",
    )
    add_field(group, "learning_rate", "RATE", "largest learning rate of the schedule")
    add_field(
        group,
        "encoder_rate",
        "FRACTION",
        "learning rate of the encoder as a fraction of --learning-rate",
    )
    add_field(
        group,
        "schedule",
        "cosine|constant",
        "learning rate over time; cosine: increases at first, then decreases to 0; constant: does "
        "not change",
    )
    add_field(
        group,
        "ema_decay",
        "DECAY",
        "decay per step, such as 0.999, of a moving average of the weights; the average is scored "
        "and saved; 0: no moving average",
    )
    add_field(
        group,
        "precision",
        "|".join((*PRECISIONS, "auto")),
        "number format of the network; auto is mixed_bfloat16 if all GPUs support it, or if there "
        "is no GPU, the processor supports it and the encoder is a ResNet; otherwise auto is "
        "float32",
    )
    add_field(
        group,
        "xla",
        "|".join(XLA),
        "compile the training step with XLA; auto: only if there is exactly one GPU; off: never; "
        "use off if XLA fails on your GPU or driver",
        choices=tuple(XLA),
    )
    add_field(group, "seed", "N", "random seed of weights, image order and augmentation")
    add_flag(
        group,
        "--deterministic",
        "slower operations that return the same bits each time on the same machine",
        default=argparse.SUPPRESS,
    )
    add_field(
        group,
        "on_nan",
        "|".join(ON_NAN),
        "if the loss or its gradient is not a finite number; stop: end with exit code 3; skip: "
        "undo the step and continue, at most 10 times per epoch",
    )


def add_machines(group: OptionGroup) -> None:
    """Adds the options of a training on several machines."""
    add_option(
        group,
        "--workers",
        "addresses of all workers, in the same order on all machines; a worker is one process of "
        "the training, and the first worker writes the run folder",
        default=argparse.SUPPRESS,
        default_text="the environment variable TF_CONFIG, the tasks of a SLURM job step, or one "
        "machine",
        metavar="HOST:PORT,...",
    )
    add_option(
        group,
        "--worker-index",
        "position of this process in --workers, counted from 0",
        default=argparse.SUPPRESS,
        default_text="see --workers",
        metavar="N",
        type=int,
    )


def add_run_folder(group: OptionGroup) -> None:
    """Adds the options of the run folder."""
    add_option(
        group,
        "--workdir",
        "run folder, for weights, history and logs",
        default=argparse.SUPPRESS,
        default_text="runs/<arch>",
        metavar="DIR",
        type=path,
    )
    add_field(
        group,
        "checkpoint_minutes",
        "MINUTES",
        "time between two checkpoints; a killed training loses at most about this time",
    )
    add_flag(
        group,
        "--resume",
        "resume the run in --workdir with its saved options; if --workdir contains no run, start a "
        "new run. Without this option, a run is resumed only if it is unfinished and has the same "
        "options",
    )
