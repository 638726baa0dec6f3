"""Trained networks, and ensembles of them, for use without this package."""

from lcc_tf.exporting.agreement import Agreement, DeviationError
from lcc_tf.exporting.exported_file import ExportedFile
from lcc_tf.exporting.litert import export_litert
from lcc_tf.exporting.onnx import export_onnx
from lcc_tf.exporting.samples import Samples
from lcc_tf.exporting.savedmodel import export_savedmodel
from lcc_tf.exporting.source_model import RESOLUTION, Original, load_original

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
