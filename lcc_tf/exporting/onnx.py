"""ONNX files: one for images of any size, one for the QGIS plugin Deepness."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx

from lcc_tf.exporting.agreement import FLOAT_SHARE
from lcc_tf.exporting.exported_file import ExportedFile
from lcc_tf.exporting.source_model import Original
from lcc_tf.prediction.tiling import OVERLAP

# Of the operations. onnxruntime 1.12 of 2022 and newer ones know it; tf2onnx 1.17 goes to 18.
OPSET = 17
ANY_SIZE_FILE = "model.onnx"
DEEPNESS_FILE = "deepness.onnx"
TOLERANCE = 1e-3


def export_onnx(original: Original, output: Path) -> list[ExportedFile]:
    """Writes two ONNX files and checks what they compute in onnxruntime.

    `model.onnx` takes `image`, uint8 `(batch, height, width, 3)`, RGB of any size, and gives
    `probabilities`, float32 `(batch, height, width, num_classes)`, and `class_id`, uint8
    `(batch, height, width)`; the axes have these names. Its metadata are `class_names`, `palette`
    and `tile`, see `Original.description`.

    `deepness.onnx` takes `image`, float32 `(batch, 3, tile, tile)`, RGB in [0, 1], and gives
    `probabilities`, float32 `(batch, num_classes, tile, tile)`. Its metadata are those that
    Deepness reads: https://qgis-plugin-deepness.readthedocs.io, "Add metadata to model".

    Args:
        original: what to export.
        output: folder to fill.

    Returns:
        Both files.

    Raises:
        DeviationError: a probability deviates from the Keras model's by more than `TOLERANCE`, or
            the class by more than `FLOAT_SHARE` allows.
        InputError: the weights don't fit into a file.
    """
    original.check_file_size()
    return [_any_size(original, output), _for_deepness(original, output)]


def predict_at_any_size(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    """What predicts by `model.onnx`.

    Args:
        file: the file.

    Returns:
        A function from uint8 `(batch, height, width, 3)`, RGB, to float32
        `(batch, height, width, num_classes)`.
    """
    session = _session(file)
    return lambda image: session.run(["probabilities"], {"image": image})[0]


def predict_as_deepness(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    """What predicts by `deepness.onnx`, preparing a tile by what the file says of itself.

    Args:
        file: the file.

    Returns:
        A function from uint8 `(batch, tile, tile, 3)`, RGB, to float32
        `(batch, tile, tile, num_classes)`.
    """
    session = _session(file)
    metadata = session.get_modelmeta().custom_metadata_map
    mean, std = (
        np.array(json.loads(metadata[f"standardization_{name}"]), np.float32)
        for name in ("mean", "std")
    )

    def predict(image: np.ndarray) -> np.ndarray:
        prepared = (np.float32(image * 1.0 / 255.0) - mean) / std
        served = session.run(None, {"image": prepared.transpose(0, 3, 1, 2)})[0]
        return served.transpose(0, 2, 3, 1)

    return predict


def _session(file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def _any_size(original: Original, output: Path) -> ExportedFile:
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = original.serve_for_conversion(image)
        class_id = tf.cast(tf.argmax(probabilities, axis=-1), tf.uint8)
        return {"probabilities": probabilities, "class_id": class_id}

    file = output / ANY_SIZE_FILE
    _write(
        file,
        serve,
        tf.TensorSpec((None, None, None, 3), tf.uint8, name="image"),
        axes=("batch", "height", "width"),
        metadata=original.description,
    )
    agreement = original.compare(predict_at_any_size(file), any_size=True)
    agreement.require(file.name, share=FLOAT_SHARE, deviation=TOLERANCE)
    return ExportedFile(file.name, file.stat().st_size, agreement)


def _for_deepness(original: Original, output: Path) -> ExportedFile:
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = original.serve_for_conversion(255 * tf.transpose(image, (0, 2, 3, 1)))
        return {"probabilities": tf.transpose(probabilities, (0, 3, 1, 2))}

    file = output / DEEPNESS_FILE
    side = original.tile
    _write(
        file,
        serve,
        tf.TensorSpec((None, 3, side, side), tf.float32, name="image"),
        axes=("batch",),
        metadata=_deepness_metadata(original),
    )
    agreement = original.compare(predict_as_deepness(file), any_size=False)
    agreement.require(file.name, share=FLOAT_SHARE, deviation=TOLERANCE)
    return ExportedFile(file.name, file.stat().st_size, agreement)


def _deepness_metadata(original: Original) -> dict:
    """What Deepness sets its options by."""
    return {
        "model_type": "Segmentor",
        "class_names": {str(i): name for i, name in enumerate(original.classes.names)},
        "resolution": 100 * original.resolution,  # centimetres a pixel
        # Its documentation says `tiles_size`, its code reads `tile_size`.
        "tiles_size": original.tile,
        "tile_size": original.tile,
        "tiles_overlap": round(100 * OVERLAP),  # percent
        # Deepness divides by 255 first.
        "standardization_mean": [0.0, 0.0, 0.0],
        "standardization_std": [1.0, 1.0, 1.0],
        # Off: a pixel whose best class is below the threshold would become class 0.
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
        file: to write.
        serve: from an image to named tensors.
        image: its type and shape.
        axes: names of the first axes of all inputs and outputs, those of unknown size.
        metadata: JSON values by their keys.
    """
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)  # it tells how many nodes it saves
    model, _ = tf2onnx.convert.from_function(tf.function(serve), [image], opset=OPSET)
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in zip(value.type.tensor_type.shape.dim, axes, strict=False):
            axis.dim_param = name
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)
