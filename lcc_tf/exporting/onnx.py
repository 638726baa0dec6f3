"""Export to two ONNX files: one for onnxruntime and one for the QGIS plugin Deepness."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx

from lcc_tf.exporting.agreement import ExportedFile
from lcc_tf.exporting.source_model import SourceModel
from lcc_tf.prediction.tiling import OVERLAP

# Version of the ONNX operations. onnxruntime 1.12 (2022) and later versions support version 17, and
# tf2onnx 1.17 supports versions up to 18.
OPSET = 17
ANY_SIZE_FILE = "model.onnx"
DEEPNESS_FILE = "deepness.onnx"
TOLERANCE = 1e-3  # maximum difference between probabilities of a file and of the Keras model


def export_onnx(source: SourceModel, output: Path) -> list[ExportedFile]:
    """Writes two ONNX files and compares their predictions in onnxruntime with the Keras model.

    `model.onnx` has the input `image`, uint8 `(batch, height, width, 3)`, RGB of any size. Its
    outputs are `probabilities`, float32 `(batch, height, width, num_classes)`, and `class_id`,
    uint8 `(batch, height, width)`. Its metadata are the `Description` of the model.

    `deepness.onnx` has the input `image`, float32 `(batch, 3, tile, tile)`, RGB in [0, 1], and the
    output `probabilities`, float32 `(batch, num_classes, tile, tile)`. Its metadata are the options
    that the QGIS plugin reads from a model. They are documented in the section "Add metadata to
    model" of https://qgis-plugin-deepness.readthedocs.io.

    Args:
        source: the model to export.
        output: existing folder for the files.

    Returns:
        The two files, each with its size and its agreement with the Keras model.

    Raises:
        AgreementError: the difference of two probabilities is larger than `TOLERANCE`, or the
            fraction of pixels with the same class is smaller than `FLOAT_FRACTION`.
        InputError: the weights are too large for a file.
    """
    source.check_file_size()
    return [
        _any_size(source, output / ANY_SIZE_FILE),
        _for_deepness(source, output / DEEPNESS_FILE),
    ]


def onnx_predictor(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that predicts probabilities with an ONNX file of `export_onnx`.

    Args:
        file: `model.onnx` or `deepness.onnx`.

    Returns:
        Function. Argument: images, uint8 `(batch, height, width, 3)`, RGB. Result: probabilities,
        float32 `(batch, height, width, num_classes)`. For `deepness.onnx`, height and width must be
        `tile`.
    """
    network = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def predict(image: np.ndarray) -> np.ndarray:
        return network.run(["probabilities"], {"image": image})[0]

    metadata = network.get_modelmeta().custom_metadata_map
    if "standardization_mean" not in metadata:
        return predict
    mean, std = (
        np.array(json.loads(metadata[f"standardization_{name}"]), np.float32)
        for name in ("mean", "std")
    )

    def predict_for_deepness(image: np.ndarray) -> np.ndarray:
        prepared = (np.float32(image * 1.0 / 255.0) - mean) / std
        return predict(prepared.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)

    return predict_for_deepness


def _any_size(source: SourceModel, file: Path) -> ExportedFile:
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = source.serve_for_conversion(image)
        class_id = tf.cast(tf.argmax(probabilities, axis=-1), tf.uint8)
        return {"probabilities": probabilities, "class_id": class_id}

    _write(
        file,
        serve,
        source.input_spec(None, None, None),
        axes=("batch", "height", "width"),
        metadata=source.description.to_json(),
    )
    return _checked(source, file, any_size=True)


def _for_deepness(source: SourceModel, file: Path) -> ExportedFile:
    channels = len(source.bands) if source.bands else 3

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = source.serve_for_conversion(255 * tf.transpose(image, (0, 2, 3, 1)))
        return {"probabilities": tf.transpose(probabilities, (0, 3, 1, 2))}

    _write(
        file,
        serve,
        tf.TensorSpec((None, channels, source.tile, source.tile), tf.float32, name="image"),
        axes=("batch",),
        metadata=_deepness_metadata(source, channels),
    )
    return _checked(source, file, any_size=False)


def _checked(source: SourceModel, file: Path, *, any_size: bool) -> ExportedFile:
    return source.comparison.check(
        file.name,
        file.stat().st_size,
        onnx_predictor(file),
        any_size=any_size,
        max_difference=TOLERANCE,
    )


def _deepness_metadata(source: SourceModel, channels: int) -> dict:
    """Returns the metadata from which Deepness reads its options."""
    return {
        "model_type": "Segmentor",
        "class_names": {str(i): name for i, name in enumerate(source.classes.names)},
        "resolution": 100 * source.resolution,  # centimeters per pixel
        # The documentation of Deepness names this key `tiles_size`, but its code reads `tile_size`.
        "tiles_size": source.tile,
        "tile_size": source.tile,
        "tiles_overlap": round(100 * OVERLAP),  # percent
        # Deepness divides pixels by 255 before it applies these values.
        "standardization_mean": [0.0] * channels,
        "standardization_std": [1.0] * channels,
        # The threshold is 0, because Deepness would assign class 0 to pixels below a threshold.
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }


def _write(
    file: Path,
    serve: Callable[[tf.Tensor], dict[str, tf.Tensor]],
    image: tf.TensorSpec,
    *,
    axes: Sequence[str],
    metadata: dict,
) -> None:
    """Converts a function to ONNX.

    Args:
        file: file to write.
        serve: function from an image to a dictionary of named output tensors.
        image: dtype, shape and name of the input.
        axes: names of the leading axes of all inputs and outputs. The sizes of these axes are not
            fixed.
        metadata: keys and JSON values of the metadata.
    """
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)  # hide messages about optimizations
    model, _ = tf2onnx.convert.from_function(tf.function(serve), [image], opset=OPSET)
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in zip(value.type.tensor_type.shape.dim, axes, strict=False):
            axis.dim_param = name
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)
