"""Export of a Keras model to a folder that is complete or does not exist."""

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
    """Exports a Keras model for use without lcc_tf, and checks the export against the model.

    Preprocessing, softmax, padding and cropping are part of every exported model. Each format has a
    folder of its own:

    - "savedmodel": `<output>/savedmodel`, for TensorFlow; takes images of any size.
    - "onnx": `<output>/onnx` with `model.onnx`, for onnxruntime, takes images of any size, and
      `deepness.onnx`, for the QGIS plugin Deepness.
    - "litert": `<output>/litert` with `float32.tflite`, `float16.tflite` and `int8.tflite`, for
      phones and small computers; they take images of `tile` x `tile` pixels.

    Args:
        model: from float32 `(batch, height, width, 3)`, RGB in [0, 255], to logits or probabilities
            `(batch, height, width, num_classes)`, for any height and width that its stride divides.
        output: folder; the files are written to `<output>/<format>`, as the command does.
        format: "savedmodel", "onnx" or "litert".
        classes: names and colors of the model's output channels, in their order.
        tile: side of the images that LiteRT and Deepness files take, pixels; best the size that the
            model was trained on.
        resolution: size of the images' pixels on the ground, meters. Deepness resamples scenes to
            it.
        images: uint8 `(height, width, 3)`, RGB: images of the kind that the model was trained on.
            The export is compared with the model on crops of them, and the ranges of int8 values
            are measured on crops of them; 32 images or more are best. None for procedural scenes:
            they show whether an export computes what the model computes, but a model that was
            trained on other images can lose accuracy in `int8.tflite`, since its values can leave
            the measured ranges.
        overwrite: replaces an earlier export, once the new one is complete.

    Returns:
        The files, each with its size and its agreement with the model.

    Raises:
        InputError: an unknown format, a folder that exists, `classes` or `images` that do not fit,
            or packages that are not installed (`pip install 'lcc_tf[export]'`).
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
        output: folder of all formats.
        format: a key of `FORMATS`.
        overwrite: replaces an earlier export, once the new one is complete.

    Returns:
        The files that were written and checked.

    Raises:
        InputError: see `export`.
        AgreementError: the export differs too much from the model. Nothing is written.
    """
    write = writer(format)
    with new_folder(output / format, contents=FORMATS[format], overwrite=overwrite) as folder:
        return write(source, folder)
