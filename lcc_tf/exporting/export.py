"""Export of a Keras model to a folder, which is written completely or not at all."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from lcc_tf.exporting.agreement import ExportedFile
from lcc_tf.exporting.formats import FORMATS, writer
from lcc_tf.exporting.source_model import RESOLUTION, SourceModel
from lcc_tf.files import check_new_folder, new_folder
from tfds_deepglobe.classes import ClassTable


def export(
    model: keras.Model,
    output: str | Path,
    *,
    format: str,
    classes: ClassTable,
    tile: int = 512,
    resolution: float = RESOLUTION,
    images: Sequence[np.ndarray] | None = None,
    overwrite: bool = False,
) -> list[ExportedFile]:
    """Exports a Keras model for use without lcc_tf, and compares the export with the model.

    Preprocessing, softmax, padding and cropping are part of every exported model. The formats:

    - "savedmodel": `<output>/savedmodel`, for TensorFlow and images of any size.
    - "onnx": `<output>/onnx/model.onnx`, for onnxruntime and images of any size, and
      `deepness.onnx`, for the QGIS plugin Deepness and images of `tile` x `tile` pixels.
    - "litert": `<output>/litert/float32.tflite`, `float16.tflite` and `int8.tflite`, for phones and
      small computers and images of `tile` x `tile` pixels.

    Args:
        model: from float32 `(batch, height, width, 3)`, RGB in [0, 255], to logits or probabilities
            `(batch, height, width, num_classes)`. Height and width are multiples of its stride.
        output: folder; the files are written to `<output>/<format>`.
        format: "savedmodel", "onnx" or "litert".
        classes: names and colors of the model's output channels, in their order.
        tile: side of the images for LiteRT and Deepness files, pixels. The best value is the size
            of the training images.
        resolution: pixel size of the images on the ground, meters. Deepness resamples scenes to
            this pixel size.
        images: uint8 `(height, width, 3)` each, RGB, 32 images or more, similar to the training
            images. The export is compared with the model on crops of these images. The value ranges
            of int8 are measured on crops too. None for procedural scenes. With these, the int8 file
            of a model for other images can lose accuracy, since values can be out of range.
        overwrite: True to replace an earlier export, once the new export is complete.

    Returns:
        The files, each with its size and its agreement with the model.

    Raises:
        InputError: the format is unknown, the folder already exists, `classes` or `images` do not
            fit the model, or packages are not installed (`pip install 'lcc_tf[export]'`).
        AgreementError: the export differs too much from the model. Nothing is written.

    Example:
        >>> model = lcc_tf.models.DeepLabV3Plus(7, encoder="mobilenetv2", encoder_weights=None)
        >>> (file,) = lcc_tf.export(
        ...     model, "exported", format="savedmodel", classes=lcc_tf.DEEPGLOBE_CLASSES, tile=64
        ... )
        >>> file.name
        'saved_model.pb'
    """
    output = Path(output)
    writer(format)
    check_new_folder(output / format, contents=FORMATS[format], overwrite=overwrite)
    source = SourceModel.from_model(model, classes, tile=tile, resolution=resolution, images=images)
    return export_source(source, output, format, overwrite=overwrite)


def export_source(
    source: SourceModel, output: Path, format: str, *, overwrite: bool = False
) -> list[ExportedFile]:
    """Exports a model to `<output>/<format>`.

    Args:
        source: the model.
        output: folder for all formats.
        format: a key of `FORMATS`.
        overwrite: True to replace an earlier export, once the new export is complete.

    Returns:
        The exported and checked files.

    Raises:
        InputError: see `export`.
        AgreementError: the export differs too much from the model. Nothing is written.
    """
    write = writer(format)
    with new_folder(output / format, contents=FORMATS[format], overwrite=overwrite) as folder:
        return write(source, folder)
