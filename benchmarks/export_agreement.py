r"""Compares exported ONNX and LiteRT files with their Keras model on chosen images.

Each image is split into tiles. `model.onnx` is also compared on a part of 1000 x 1333 pixels. This
size is not divisible by any stride.

    python export.py --runs runs/unetpp runs/deeplabv3plus --format onnx litert --tile 512
    python -m benchmarks.export_agreement --runs runs/unetpp runs/deeplabv3plus \
        --exported exported --images seen.jpg unseen.jpg

A Markdown table is printed. Per image, it contains the fraction of pixels with the Keras model's
class, and the maximum difference of a probability.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from lcc_tf.exporting.agreement import Agreement
from lcc_tf.exporting.description import Description
from lcc_tf.exporting.litert import litert_predictor
from lcc_tf.exporting.onnx import onnx_predictor
from lcc_tf.exporting.source_model import SourceModel
from lcc_tf.runs import read_run

ODD_SIZE = (1000, 1333)  # height and width, pixels
LITERT_FILES = ("float32.tflite", "float16.tflite", "int8.tflite")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="exported runs")
    parser.add_argument(
        "--exported", type=Path, required=True, help="folder with onnx/ and litert/"
    )
    parser.add_argument(
        "--images", type=Path, nargs="+", required=True, help="images to compare on"
    )
    options = parser.parse_args()
    onnx, litert = options.exported / "onnx", options.exported / "litert"
    tile = Description.read(litert).tile
    source = SourceModel.from_runs([read_run(path) for path in options.runs], tile=tile)
    images = [np.asarray(Image.open(path).convert("RGB")) for path in options.images]
    tiles = [with_keras(source, tiles_of(image, tile)) for image in images]
    odd = [with_keras(source, [image[None, : ODD_SIZE[0], : ODD_SIZE[1]]]) for image in images]

    print(f"| file | MB | {' | '.join(path.name for path in options.images)} |")
    print(f"|---|---|{'---|' * len(images)}")
    any_size, deepness = onnx / "model.onnx", onnx / "deepness.onnx"
    print_row(any_size, onnx_predictor(any_size), tiles)
    print_row(any_size, onnx_predictor(any_size), odd, f" at {ODD_SIZE[0]}x{ODD_SIZE[1]}")
    print_row(deepness, onnx_predictor(deepness), tiles)
    for name in LITERT_FILES:
        print_row(litert / name, litert_predictor(Interpreter(str(litert / name))), tiles)


def tiles_of(image: np.ndarray, side: int) -> list[np.ndarray]:
    """Splits an image `(height, width, 3)` into complete tiles `(1, side, side, 3)`."""
    height, width, _ = image.shape
    return [
        image[None, top : top + side, left : left + side]
        for top in range(0, height - side + 1, side)
        for left in range(0, width - side + 1, side)
    ]


def with_keras(
    source: SourceModel, parts: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns parts of an image and the Keras model's probabilities of these parts."""
    return parts, [source.predict(part) for part in parts]


def print_row(
    file: Path,
    predict: Callable[[np.ndarray], np.ndarray],
    images: list[tuple[list[np.ndarray], list[np.ndarray]]],
    remark: str = "",
) -> None:
    """Prints a file's agreement with the Keras model, one column per image."""
    found = [Agreement.of([predict(part) for part in parts], keras) for parts, keras in images]
    cells = [f"{100 * each.fraction:.3f} %, {each.max_difference:.0e}" for each in found]
    size = file.stat().st_size / 1e6
    print(f"| `{file.name}`{remark} | {size:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
