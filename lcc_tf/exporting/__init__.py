"""Trained networks, and ensembles of them, for use without this package."""

from pathlib import Path

from lcc_tf.errors import require_extra
from lcc_tf.exporting.agreement import Agreement, DeviationError
from lcc_tf.exporting.exported_file import ExportedFile
from lcc_tf.exporting.samples import Samples
from lcc_tf.exporting.savedmodel import export_savedmodel
from lcc_tf.exporting.source_model import RESOLUTION, Original, load_original


def export_onnx(original: Original, output: Path) -> list[ExportedFile]:
    """Writes ONNX files: `lcc_tf.exporting.onnx.export_onnx`, which needs the extra "export"."""
    require_extra("export")
    from lcc_tf.exporting import onnx

    return onnx.export_onnx(original, output)


def export_litert(original: Original, output: Path) -> list[ExportedFile]:
    """Writes LiteRT files: `lcc_tf.exporting.litert.export_litert`, which needs "export" too."""
    require_extra("export")
    from lcc_tf.exporting import litert

    return litert.export_litert(original, output)


EXPORTS = {"savedmodel": export_savedmodel, "onnx": export_onnx, "litert": export_litert}

__all__ = [
    "EXPORTS",
    "RESOLUTION",
    "Agreement",
    "DeviationError",
    "ExportedFile",
    "Original",
    "Samples",
    "export_litert",
    "export_onnx",
    "export_savedmodel",
    "load_original",
]
