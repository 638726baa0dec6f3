"""Names and files of the export formats.

This module does not import the packages of the formats, which are optional.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lcc_tf.errors import InputError, require_extra

if TYPE_CHECKING:
    from lcc_tf.exporting.agreement import ExportedFile
    from lcc_tf.exporting.source_model import SourceModel

# Key: name of a format. Value: names of its files and folders.
FORMATS = {
    # TensorFlow writes these files, except `assets.extra`, which contains `model.json`.
    "savedmodel": {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"},
    "onnx": {"model.onnx", "deepness.onnx"},
    "litert": {"float32.tflite", "float16.tflite", "int8.tflite", "model.json"},
}


def writer(format: str) -> Callable[["SourceModel", Path], list["ExportedFile"]]:
    """Imports and returns the function that writes a format.

    Args:
        format: a key of `FORMATS`.

    Returns:
        A function that exports a model to an empty folder, compares the files with the model, and
        returns the files.

    Raises:
        InputError: the format is unknown, or the packages for the format are not installed.
    """
    if format not in FORMATS:
        raise InputError(f"Unknown `format`. Received: {format!r}. Choose from {list(FORMATS)}.")
    if format != "savedmodel":
        require_extra("export")
    return getattr(importlib.import_module(f"lcc_tf.exporting.{format}"), f"export_{format}")
