"""Export to LiteRT (TensorFlow Lite) files in three number formats: float32, float16, int8."""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tqdm import tqdm

from lcc_tf.bands import Bands
from lcc_tf.exporting.agreement import FLOAT_FRACTION, ExportedFile
from lcc_tf.exporting.float16_weights import with_float16_weights
from lcc_tf.exporting.source_model import SourceModel

# Limits for the agreement with the Keras model: minimum fraction of pixels with the same class, and
# maximum difference of two probabilities. Rounding changes more classes if the predictions of a
# network are less confident, for example after a short training. Therefore the limits of float16
# and int8 are wide, and the agreement of each file is printed. The limits of int8 reject only
# useless files. docs/verification.md lists the agreement of a trained ensemble on two real images.
# The class is the same on 99.95 to 99.97 % of the pixels for float16, and on 92 to 96 % for int8.
BOUNDS = {"float32": (FLOAT_FRACTION, 1e-3), "float16": (0.99, 0.1), "int8": (0.5, 1.0)}
# Number of crops of the training split. On these crops, the smallest and the largest value of each
# tensor are measured for the conversion to 8-bit integers.
NUM_CALIBRATION_IMAGES = 32


def export_litert(source: SourceModel, output: Path) -> list[ExportedFile]:
    """Writes three LiteRT files and compares them with the Keras model on sample images.

    The signature `serving_default` of each file has the input `image`, `(1, tile, tile, channels)`,
    RGB in [0, 255] or bands with their original values. It has the output `probabilities`,
    `(1, tile, tile, num_classes)`. The files differ in their number formats:

    - `float32.tflite`: input, output and weights are float32.
    - `float16.tflite`: input and output are float32. Most weights are stored as float16.
    - `int8.tflite`: input and output are uint8. A probability is `(value - zero_point) * scale`,
      where `value` is a value of the output. The value range of each tensor is measured on
      `NUM_CALIBRATION_IMAGES` crops of the training split. If the model has `bands`, the input
      must be scaled: the range of each band in `model.json` becomes [0, 255].

    `model.json` contains the `Description` of the model. It also contains the dtype, shape and
    quantization of the inputs and outputs of each file.

    Args:
        source: the model to export.
        output: existing folder for the files.

    Returns:
        The three files, each with its size and its agreement with the Keras model.

    Raises:
        AgreementError: the agreement of a file is below the limits in `BOUNDS`.
        InputError: the weights are too large for a file.
    """
    source.check_file_size()
    files, types = [], {}
    for name, content in _convert(source):
        file = output / f"{name}.tflite"
        file.write_bytes(content)
        interpreter = Interpreter(str(file))
        min_fraction, max_difference = BOUNDS[name]
        checked = source.comparison.check(
            file.name,
            len(content),
            litert_predictor(interpreter, source.bands),
            any_size=False,
            max_difference=max_difference,
            min_fraction=min_fraction,
        )
        files.append(checked)
        types[file.name] = _types(interpreter)
    source.description.write(output, files=types)
    return files


def litert_predictor(
    interpreter: Interpreter, bands: Bands | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Wraps a LiteRT file as a function that returns float32 probabilities.

    Args:
        interpreter: interpreter of a file that `export_litert` wrote.
        bands: bands of the model's images; None for RGB in [0, 255].

    Returns:
        Function. Argument: image, uint8 `(1, tile, tile, 3)`, RGB, or float32
        `(1, tile, tile, bands)`. Result: probabilities, float32 `(1, tile, tile, num_classes)`.
    """
    runner = interpreter.get_signature_runner("serving_default")
    dtype = runner.get_input_details()["image"]["dtype"]
    scale, zero_point = runner.get_output_details()["probabilities"]["quantization"]

    def predict(image: np.ndarray) -> np.ndarray:
        if bands and dtype == np.uint8:
            image = np.rint(_scaled(image, bands))
        values = runner(image=image.astype(dtype))["probabilities"]
        return (values.astype(np.float32) - zero_point) * scale if scale else values

    return predict


def _scaled(image: np.ndarray, bands: Bands) -> np.ndarray:
    """Scales bands to [0, 255], float32."""
    factor, offset = bands.affine
    return (image * factor + offset).clip(0, 255).astype(np.float32)


def _save_with_one_size(source: SourceModel, folder: Path, *, scaled: bool = False) -> None:
    """Writes a SavedModel for images of `tile` x `tile` pixels.

    The LiteRT converter can convert a SavedModel or a function. Only the SavedModel is useful here:
    if a function is converted, the resulting file predicts NaN.
    """

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": source.serve_for_conversion(image, scaled=scaled)}

    archive = keras.export.ExportArchive()
    archive.track(source.model)
    spec = source.input_spec(1, source.tile, source.tile, dtype=tf.float32)
    archive.add_endpoint("serving_default", serve, [spec])
    archive.write_out(folder, verbose=False)


def _convert(source: SourceModel) -> Iterator[tuple[str, bytes]]:
    """Converts the model; yields pairs of a number format and the content of its LiteRT file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _save_with_one_size(source, folder / "full")
        full = tf.lite.TFLiteConverter.from_saved_model(str(folder / "full")).convert()
        yield "float32", full
        yield "float16", with_float16_weights(full)
        for_int8 = folder / "full"
        if source.bands:
            for_int8 = folder / "scaled"
            _save_with_one_size(source, for_int8, scaled=True)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(for_int8))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: _representative_images(source)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
        with warnings.catch_warnings():
            # The converter itself uses `tf.lite.Interpreter`, which prints a deprecation warning.
            warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated")
            small = converter.convert()
        yield "int8", small


def _representative_images(source: SourceModel) -> Iterator[dict[str, np.ndarray]]:
    images = source.samples.crops("train", source.tile, NUM_CALIBRATION_IMAGES)
    for image in tqdm(images, desc="calibrating int8", unit="image"):
        image = image[None].astype(np.float32)
        if source.bands:
            image = _scaled(image, source.bands)
        # Set one value to 0 and one value to 255. Then the value range of the input is [0, 255]
        # for all samples.
        image[0, 0, 0], image[0, 0, 1] = 0, 255
        yield {"image": image}


def _types(interpreter: Interpreter) -> dict:
    """Describes the inputs and outputs of a file.

    Returns:
        Dictionary. Key: name of an input or output. Value: dtype, shape and quantization, as JSON
        values.
    """
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
