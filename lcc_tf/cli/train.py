"""Trains one segmentation network on the DeepGlobe archive, your own or procedural scenes."""

import argparse
from pathlib import Path
from typing import NoReturn

from lcc_tf.cli.options import new_parser, run, words_or_numbers
from tfds_deepglobe.tensorflow_import import import_tensorflow

EXAMPLES = """\
  python train.py --arch unetpp
  python train.py --arch deeplabv3plus --data archive.zip --recipe seed --regime frozen
  python train.py --arch unetpp --data demo --encoder mobilenetv2 --encoder-weights none \\
      --image-size 128 --epochs 20
  python train.py --arch unetpp --data mine.zip --image-glob 'images/*.tif' \\
      --mask-pattern 'labels/*_gt.png'
  python train.py --arch unetpp --resume

exit codes: 0 trained, 2 the input cannot be used, 130 interrupted
"""


def main() -> NoReturn:
    """Runs the command and ends the process."""
    run(command, parser(), when_interrupted="go on from the last whole epoch with --resume")


def command(options: argparse.Namespace) -> None:
    """Trains the network."""
    options = vars(options)
    if "class_weights" in options:
        options["class_weights"] = words_or_numbers(options["class_weights"])
    resume = options.pop("resume", False)
    workdir = Path(options.pop("workdir", f"runs/{options.get('arch', 'unetpp')}"))

    # TensorFlow takes seconds to import, which --help and wrong options can do without.
    import_tensorflow()
    from lcc_tf.config import from_options
    from lcc_tf.runs import CONFIG, read_run
    from lcc_tf.training.train import train

    goes_on = resume and (workdir / CONFIG).exists()
    config = from_options(options, earlier=read_run(workdir).config if goes_on else None)
    state = train(config, workdir, resume=resume)
    print(
        f"best {config.monitor} {state.best_score:.4f} in epoch {state.best_epoch}; run: {workdir}"
    )


def _none_or(value: str) -> str | None:
    return None if value == "none" else value


def parser() -> argparse.ArgumentParser:
    """Returns the command's parser."""
    options = new_parser(__doc__, EXAMPLES)
    network = options.add_argument_group("network")
    network.add_argument(
        "--arch",
        help="unetpp or deeplabv3plus; or unet, fpn, linknet or pspnet of segmentation-models "
        "(default: unetpp)",
    )
    network.add_argument(
        "--encoder",
        metavar="NAME",
        help="resnet50, resnet101, resnet101_v1.5, efficientnetv2s, convnext_tiny, ...; a wrong "
        "name lists those that the network takes (default: resnet101)",
    )
    network.add_argument(
        "--encoder-weights",
        metavar="imagenet|none|FILE",
        type=_none_or,
        help="what the encoder starts from: ImageNet weights, downloaded on first use; random "
        "ones; or a weights file of the same network, for *_v1.5 one of torchvision or timm "
        "(default: imagenet)",
    )
    network.add_argument(
        "--output-stride", type=int, help="of DeepLabV3+'s encoder: 16 or 8 (default: 16)"
    )
    network.add_argument(
        "--deep-supervision", action="store_true", help="train a head at each column of UNet++"
    )

    data = options.add_argument_group("data")
    data.add_argument(
        "--data",
        metavar="PATH|demo",
        help="folder or zip of the raw archive, prepared on first use, or `demo` for procedural "
        "scenes (default: data/deepglobe)",
    )
    data.add_argument(
        "--cache-dir", metavar="DIR", help="of prepared data sets (default: data/tfds)"
    )
    data.add_argument(
        "--image-glob",
        metavar="PATTERN",
        help="what images are called; the * is the image's id, and folders may come before, as in "
        "'images/*.tif' (default: *_sat.jpg)",
    )
    data.add_argument(
        "--mask-pattern",
        metavar="PATTERN",
        help="what masks are called, with the id of their image for the * (default: *_mask.png)",
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
        help="count a mask colour that is not in the class table as CLASS; repeatable",
    )
    data.add_argument(
        "--demo-count", metavar="N", type=int, help="scenes of `--data demo` (default: 160)"
    )
    data.add_argument(
        "--demo-size", metavar="PIXELS", type=int, help="side of a scene (default: 256)"
    )

    training = options.add_argument_group("training")
    training.add_argument(
        "--recipe",
        help="default, or seed: the settings of the original to the letter (default: default)",
    )
    training.add_argument(
        "--regime",
        help="finetune: all layers train; frozen: the encoder does not; gradual: first frozen, "
        "then all at a tenth of the rate (default: finetune)",
    )
    training.add_argument(
        "--frozen-epochs", metavar="N", type=int, help="of `gradual` (default: 10)"
    )
    training.add_argument(
        "--image-size",
        metavar="PIXELS",
        type=int,
        help="side of the square that the network trains on (default: 512)",
    )
    training.add_argument(
        "--framing",
        metavar="crops|whole",
        help="crops: squares cut out of the images at their own resolution; whole: images resized "
        "to the square (default: crops; seed: whole)",
    )
    training.add_argument(
        "--crop-scale",
        metavar=("MIN", "MAX"),
        nargs=2,
        type=float,
        help="random enlargement of crops, such as 0.5 2 (default: 1 1)",
    )
    training.add_argument(
        "--rare-class-share",
        metavar="SHARE",
        type=float,
        help="of crops put on a class drawn by rarity (default: 0.5)",
    )
    training.add_argument(
        "--batch-size",
        metavar="N",
        type=int,
        help="images a step, over all devices together (default: 8; seed: 7)",
    )
    training.add_argument(
        "--epochs", metavar="N", type=int, help="at most (default: 100; seed: 100 or 500)"
    )
    training.add_argument(
        "--patience",
        metavar="N",
        type=int,
        help="epochs without a better validation score before training ends (default: 20; seed: "
        "20, 30 or 50)",
    )
    training.add_argument(
        "--loss",
        metavar="NAME[+NAME]",
        help="dice, cross_entropy, focal, jaccard, lovasz, or a sum of them (default: "
        "cross_entropy+dice; seed: dice)",
    )
    training.add_argument(
        "--class-weights",
        metavar="W",
        nargs="+",
        help="none, inverse_frequency, median_frequency, or a number for each class "
        "(default: none)",
    )
    training.add_argument(
        "--label-smoothing",
        metavar="SHARE",
        type=float,
        help="of cross_entropy and focal (default: 0)",
    )
    training.add_argument(
        "--ignore-class",
        metavar="CLASS|none",
        type=_none_or,
        help="its pixels weigh nothing in the loss (default: unknown, where the data set has a "
        "class of that name; seed: none)",
    )
    training.add_argument(
        "--learning-rate", metavar="RATE", type=float, help="(default: 1e-4; seed: 1e-5)"
    )
    training.add_argument(
        "--encoder-rate",
        metavar="SHARE",
        type=float,
        help="the encoder's learning rate as a share of the others' (default: 1)",
    )
    training.add_argument(
        "--schedule",
        metavar="cosine|constant",
        help="of the learning rate: a warm-up and cosine decay, or none (default: cosine; seed: "
        "constant)",
    )
    training.add_argument(
        "--ema-decay",
        metavar="DECAY",
        type=float,
        help="of the moving average of the weights that is scored and saved, such as 0.999 "
        "(default: 0, none)",
    )
    training.add_argument(
        "--precision", help="float32, mixed_bfloat16 or mixed_float16 (default: float32)"
    )
    training.add_argument(
        "--xla",
        choices=("auto", "on", "off"),
        help="compile the training step with XLA; auto: on a single GPU only; off: for a GPU or "
        "driver on which XLA fails (default: auto)",
    )
    training.add_argument("--seed", metavar="N", type=int, help="(default: 0)")

    folder = options.add_argument_group("run folder")
    folder.add_argument(
        "--workdir", metavar="DIR", help="weights, history and logs (default: runs/<arch>)"
    )
    folder.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --workdir, if there is one; its options need not be repeated",
    )
    return options
