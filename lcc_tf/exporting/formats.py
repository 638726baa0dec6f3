"""Names of the export formats, and the function that writes each; imports no format by itself."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lcc_tf.errors import InputError, require_extra

if TYPE_CHECKING:
    from lcc_tf.exporting.agreement import ExportedFile
    from lcc_tf.exporting.source_model import SourceModel

# Names of the files and folders that each format's folder contains
FORMATS = {
    # The files that TensorFlow writes, and `assets.extra` with the classes
    "savedmodel": {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"},
    "onnx": {"model.onnx", "deepness.onnx"},
    "litert": {"float32.tflite", "float16.tflite", "int8.tflite", "model.json"},
}


def writer(format: str) -> Callable[["SourceModel", Path], list["ExportedFile"]]:
    """Imports the function that writes a format.

    Args:
        format: a key of `FORMATS`.

    Returns:
        A function from a model and an empty folder to the files that it wrote and checked.

    Raises:
        InputError: an unknown format, or the packages that it needs are not installed.
    """
    if format not in FORMATS:
        raise InputError(f"Unknown `format`. Received: {format!r}. Choose one of {list(FORMATS)}.")
    if format != "savedmodel":
        require_extra("export")
    return getattr(importlib.import_module(f"lcc_tf.exporting.{format}"), f"export_{format}")
