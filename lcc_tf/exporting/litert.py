"""LiteRT (TensorFlow Lite) files in three number formats."""

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tqdm import tqdm

from lcc_tf.exporting.agreement import FLOAT_SHARE
from lcc_tf.exporting.exported_file import ExportedFile
from lcc_tf.exporting.float16_weights import with_half_weights
from lcc_tf.exporting.source_model import MODEL_FILE, Original

# The least share of pixels with the same class, and the largest difference of two probabilities.
# What rounding costs depends on how sure a network is of its classes, so it is told for each file.
# Trained networks keep 99.9 % in float16 (README), barely trained ones not always; in 8 bits, only
# what is no map any more is refused.
BOUNDS = {"float32": (FLOAT_SHARE, 1e-3), "float16": (0.99, 0.1), "int8": (0.5, 1.0)}
NUM_REPRESENTATIVE = 32  # squares of the training split that int8's ranges are found with


def export_litert(original: Original, output: Path) -> list[ExportedFile]:
    """Writes three LiteRT files and checks what they compute in ai-edge-litert.

    Each takes `image` `(1, tile, tile, 3)`, RGB, and gives `probabilities`
    `(1, tile, tile, num_classes)` by its signature `serving_default`.

    `float32.tflite`: float32 in [0, 255] to float32. `float16.tflite`: the same, with most weights
    at half the size. `int8.tflite`: uint8 to uint8, all in between in 8-bit whole numbers, whose
    ranges are those of `NUM_REPRESENTATIVE` squares of the training split; a probability is
    `(value - zero_point) * scale`. `model.json` says what `Original.description` says, and of each
    file its types.

    Args:
        original: what to export.
        output: folder to fill.

    Returns:
        The three files.

    Raises:
        DeviationError: one deviates from the Keras model by more than `BOUNDS`.
        InputError: the weights don't fit into a file.
    """
    original.check_file_size()
    files, types = [], {}
    for name, content in _convert(original):
        file = output / f"{name}.tflite"
        file.write_bytes(content)
        interpreter = Interpreter(str(file))
        agreement = original.compare(predict_by(interpreter), any_size=False)
        share, deviation = BOUNDS[name]
        agreement.require(file.name, share=share, deviation=deviation)
        files.append(ExportedFile(file.name, file.stat().st_size, agreement))
        types[file.name] = _types(interpreter)
    description = original.description | {"files": types}
    (output / MODEL_FILE).write_text(json.dumps(description, indent=2))
    return files


def predict_by(interpreter: Interpreter) -> Callable[[np.ndarray], np.ndarray]:
    """What predicts by a LiteRT file, with whole numbers turned into probabilities.

    Args:
        interpreter: of one of `export_litert`'s files.

    Returns:
        A function from uint8 `(1, tile, tile, 3)`, RGB, to float32 `(1, tile, tile, num_classes)`.
    """
    runner = interpreter.get_signature_runner("serving_default")
    dtype = runner.get_input_details()["image"]["dtype"]
    scale, zero_point = runner.get_output_details()["probabilities"]["quantization"]

    def predict(image: np.ndarray) -> np.ndarray:
        values = runner(image=image.astype(dtype))["probabilities"]
        return (values.astype(np.float32) - zero_point) * scale if scale else values

    return predict


def _save_with_one_size(original: Original, folder: Path) -> None:
    """Writes a SavedModel for squares of `tile`.

    The converter gives networks full of NaN where it gets the function itself.
    """

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": original.serve_for_conversion(image)}

    archive = keras.export.ExportArchive()
    archive.track(original.model)
    shape = (1, original.tile, original.tile, 3)
    archive.add_endpoint("serving_default", serve, [tf.TensorSpec(shape, tf.float32, name="image")])
    archive.write_out(folder, verbose=False)


def _convert(original: Original) -> Iterator[tuple[str, bytes]]:
    """Makes the files one by one, by their number formats."""
    with tempfile.TemporaryDirectory() as folder:
        _save_with_one_size(original, Path(folder))
        full = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
        yield "float32", full
        yield "float16", with_half_weights(full)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: _representative_images(original)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
        with warnings.catch_warnings():
            # Calibration runs in TensorFlow's own interpreter, which warns of its end.
            warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated")
            small = converter.convert()
        yield "int8", small


def _representative_images(original: Original) -> Iterator[dict[str, np.ndarray]]:
    images = original.samples.squares("train", original.tile, NUM_REPRESENTATIVE)
    for image in tqdm(images, desc="calibrating int8", unit="image"):
        image = image[None].astype(np.float32)
        # The range of what comes in is that of 8-bit images, even if the samples are all dull.
        image[0, 0, 0], image[0, 0, 1] = 0, 255
        yield {"image": image}


def _types(interpreter: Interpreter) -> dict:
    """Type and shape of what goes in and out, and what whole numbers there mean."""
    runner = interpreter.get_signature_runner("serving_default")
    tensors = runner.get_input_details() | runner.get_output_details()
    types = {}
    for name, tensor in tensors.items():
        types[name] = {
            "dtype": np.dtype(tensor["dtype"]).name,
            "shape": [int(side) for side in tensor["shape"]],
        }
        scale, zero_point = tensor["quantization"]
        if scale:
            types[name] |= {"scale": float(scale), "zero_point": int(zero_point)}
    return types
