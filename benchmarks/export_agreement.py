r"""Compares exported ONNX and LiteRT files with the Keras model that they were exported from.

The models predict tiles of the images in `--images`. `model.onnx` also predicts a part of 1000 x
1333 pixels of each image, because this size is not divisible by the stride of any model.

    python export.py --runs runs/unetpp runs/deeplabv3plus --format onnx litert --tile 512
    python -m benchmarks.export_agreement --runs runs/unetpp runs/deeplabv3plus \
        --exported exported --images seen.jpg unseen.jpg

A Markdown table is printed. It contains two values for each file and image:

- fraction of pixels for which the file and the Keras model predict the same class, in %.
- maximum difference between their probabilities.
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
    """Prints the Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=Path, nargs="+", required=True, help="training runs that were exported"
    )
    parser.add_argument(
        "--exported",
        type=Path,
        required=True,
        help="folder of the exported models, with the subfolders onnx and litert",
    )
    parser.add_argument(
        "--images", type=Path, nargs="+", required=True, help="images that the models predict"
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
    """Splits an image `(height, width, 3)` into tiles `(1, side, side, 3)` that do not overlap.

    Incomplete tiles at the borders are skipped.
    """
    height, width, _ = image.shape
    return [
        image[None, top : top + side, left : left + side]
        for top in range(0, height - side + 1, side)
        for left in range(0, width - side + 1, side)
    ]


def with_keras(
    source: SourceModel, parts: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns parts of an image, and the probabilities that the Keras model predicts for them."""
    return parts, [source.predict(part) for part in parts]


def print_row(
    file: Path,
    predict: Callable[[np.ndarray], np.ndarray],
    images: list[tuple[list[np.ndarray], list[np.ndarray]]],
    remark: str = "",
) -> None:
    """Prints one row of the table.

    Args:
        file: exported model.
        predict: function that predicts probabilities with the exported model.
        images: for each image, its parts and the probabilities that the Keras model predicts.
        remark: text after the name of the file.
    """
    found = [Agreement.of([predict(part) for part in parts], keras) for parts, keras in images]
    cells = [f"{100 * each.fraction:.3f} %, {each.max_difference:.0e}" for each in found]
    size = file.stat().st_size / 1e6
    print(f"| `{file.name}`{remark} | {size:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
