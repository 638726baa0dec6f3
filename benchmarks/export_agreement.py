r"""Holds exported ONNX and LiteRT files to their Keras model once more, on images of your choice.

Each image is cut into squares of the tile; for `model.onnx` a part of 1000x1333 pixels, which no
stride divides, is taken too.

    python export.py --runs runs/unetpp runs/deeplabv3plus --format onnx litert --tile 512
    python -m benchmarks.export_agreement --runs runs/unetpp runs/deeplabv3plus \
        --exported exported --images seen.jpg unseen.jpg

The table goes to standard output as Markdown: of each image the share of the pixels that get the
Keras model's class, and the largest deviation of a probability.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from lcc_tf.exporting import Agreement, Original, load_original
from lcc_tf.exporting.litert import predict_by
from lcc_tf.exporting.onnx import predict_as_deepness, predict_at_any_size
from lcc_tf.runs import read_run

ODD_SIZE = (1000, 1333)  # height and width, pixels
LITERT_FILES = ("float32.tflite", "float16.tflite", "int8.tflite")


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--runs", type=Path, nargs="+", required=True, help="what was exported")
    options.add_argument("--exported", type=Path, required=True, help="with onnx/ and litert/")
    options.add_argument("--images", type=Path, nargs="+", required=True, help="of the data set")
    given = options.parse_args()
    onnx, litert = given.exported / "onnx", given.exported / "litert"
    tile = json.loads((litert / "model.json").read_text())["tile"]
    original = load_original([read_run(path) for path in given.runs], tile=tile)
    images = [np.asarray(Image.open(path).convert("RGB")) for path in given.images]
    squares = [with_keras(original, squares_of(image, tile)) for image in images]
    odd = [with_keras(original, [image[None, : ODD_SIZE[0], : ODD_SIZE[1]]]) for image in images]

    print(f"| file | MB | {' | '.join(path.name for path in given.images)} |")
    print(f"|---|---|{'---|' * len(images)}")
    any_size, deepness = onnx / "model.onnx", onnx / "deepness.onnx"
    print_row(any_size, predict_at_any_size(any_size), squares)
    print_row(any_size, predict_at_any_size(any_size), odd, f" at {ODD_SIZE[0]}x{ODD_SIZE[1]}")
    print_row(deepness, predict_as_deepness(deepness), squares)
    for name in LITERT_FILES:
        print_row(litert / name, predict_by(Interpreter(str(litert / name))), squares)


def squares_of(image: np.ndarray, side: int) -> list[np.ndarray]:
    """Cuts an image `(height, width, 3)` into as many squares `(1, side, side, 3)` as it holds."""
    height, width, _ = image.shape
    return [
        image[None, top : top + side, left : left + side]
        for top in range(0, height - side + 1, side)
        for left in range(0, width - side + 1, side)
    ]


def with_keras(
    original: Original, parts: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Parts of an image, and what the Keras model makes of them."""
    return parts, [original.predict(part) for part in parts]


def print_row(
    file: Path,
    predict: Callable[[np.ndarray], np.ndarray],
    images: list[tuple[list[np.ndarray], list[np.ndarray]]],
    remark: str = "",
) -> None:
    """Prints what a file makes of each image's parts."""
    found = [Agreement.of([predict(part) for part in parts], keras) for parts, keras in images]
    cells = [f"{100 * each.share:.3f} %, {each.deviation:.0e}" for each in found]
    size = file.stat().st_size / 1e6
    print(f"| `{file.name}`{remark} | {size:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
