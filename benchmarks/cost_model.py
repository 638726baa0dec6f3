"""Estimates the time and the price of trainings and maps on GPUs.

    python -m benchmarks.cost_model

The script counts the arithmetic operations of both networks with ResNet101, and measures the
operations per second of this processor. All values for GPUs are estimates. They assume that an
NVIDIA A100 reaches 30 % (`--utilization`) of its peak rate. lcc_tf was never run on a GPU.
Markdown tables are printed.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

import lcc_tf

SIDE = 512  # pixels
NUM_CLASSES = 7
ENCODER = "resnet101"
NETWORKS = {"UNet++": lcc_tf.models.UNetPlusPlus, "DeepLabV3+": lcc_tf.models.DeepLabV3Plus}
# The backward pass needs twice as many operations as the forward pass: it computes the gradients of
# the inputs and of the weights.
TRAINING = 3
# Dense bfloat16 operations per second, from the data sheet of the NVIDIA A100
PEAK = 312e12
IMAGE_COUNTS = (10**3, 10**4, 10**5, 10**6, 10**7)
GPU_COUNTS = (1, 8, 64)
TILE_STEP = 384  # pixels between the starts of two tiles of 512 pixels, with the default overlap
AREA = 1000e6  # m2
PIXEL = 0.5  # m


def main() -> None:
    """Prints all tables."""
    options = parser().parse_args()
    operations = {name: operations_of(build) for name, build in NETWORKS.items()}
    rate = options.utilization * PEAK
    print(f"This processor: {processor_rate() / 1e9:.0f} billion float32 operations per second\n")
    print("| network | operations per crop, billions | training step per crop, ms | crops/s |")
    print("|---|---|---|---|")
    for name, forward in operations.items():
        seconds = TRAINING * forward / rate
        print(f"| {name} | {forward / 1e9:.0f} | {1e3 * seconds:.1f} | {1 / seconds:.0f} |")
    print(f"\nTime of an epoch on {', '.join(map(str, GPU_COUNTS))} GPUs, and its price:\n")
    print("| images | storage | UNet++ | DeepLabV3+ |\n|---|---|---|---|")
    for count in IMAGE_COUNTS:
        cells = [epochs_of(count, forward, rate, options.price) for forward in operations.values()]
        print(f"| {count:,} | {size_text(count * options.image_bytes)} | {' | '.join(cells)} |")
    print(
        "\n| network | processor cores that feed one GPU | reading, MB/s per GPU |\n|---|---|---|"
    )
    for name, forward in operations.items():
        crops = rate / (TRAINING * forward)
        cores = crops * options.crop_seconds
        print(f"| {name} | {cores:.1f} | {crops * options.image_bytes / 1e6:.0f} |")
    print("\n| network | map, megapixels/s | euros per 1000 km2 |\n|---|---|---|")
    for name, forward in operations.items():
        pixels = rate / forward * TILE_STEP**2
        price = AREA / PIXEL**2 / pixels / 3600 * options.price
        print(f"| {name} | {pixels / 1e6:.0f} | {price:.2f} |")


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    options = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument(
        "--utilization", type=float, default=0.3, help="fraction of the peak rate (default: 0.3)"
    )
    options.add_argument(
        "--price", type=float, default=2.0, help="euros per GPU and hour (default: 2)"
    )
    options.add_argument(
        "--image-bytes",
        type=float,
        default=2.4e6,
        help="bytes of an image and its mask (default: 2.4e6, as in DeepGlobe)",
    )
    options.add_argument(
        "--crop-seconds",
        type=float,
        default=0.045,
        help="seconds that one processor core needs for a crop (default: 0.045, see "
        "benchmarks.data_rates)",
    )
    return options


def operations_of(build: Callable[..., keras.Model]) -> float:
    """Returns the floating-point operations of one prediction of SIDE x SIDE pixels."""
    model = build(NUM_CLASSES, encoder=ENCODER, encoder_weights=None)
    predict = tf.function(lambda images: model(images, training=False))
    graph = predict.get_concrete_function(tf.TensorSpec((1, SIDE, SIDE, 3))).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation() | {"output": "none"}
    return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops


def processor_rate(size: int = 2048, turns: int = 7) -> float:
    """Measures the float32 operations per second of a matrix multiplication, median."""
    matrix = tf.constant(np.random.default_rng(0).normal(size=(size, size)), tf.float32)
    seconds = []
    for _ in range(turns):
        start = time.monotonic()
        tf.linalg.matmul(matrix, matrix).numpy()
        seconds.append(time.monotonic() - start)
    return 2 * size**3 / statistics.median(seconds)


def epochs_of(count: int, forward: float, rate: float, price: float) -> str:
    """Formats the time of an epoch for each number of GPUs, and its price."""
    seconds = TRAINING * forward * count / rate
    cells = ", ".join(time_text(seconds / gpus) for gpus in GPU_COUNTS)
    return f"{cells}; {seconds / 3600 * price:.2g} euros"


def time_text(seconds: float) -> str:
    """Formats a time."""
    for unit, factor in (("h", 3600), ("min", 60)):
        if seconds >= factor:
            return f"{seconds / factor:.2g} {unit}"
    return f"{seconds:.2g} s"


def size_text(size: float) -> str:
    """Formats a number of bytes."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1e6:.3g} MB"


if __name__ == "__main__":
    main()
