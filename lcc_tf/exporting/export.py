"""Export of a Keras model to a folder.

The folder is always complete. If the export fails, the folder is not written.
"""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from lcc_tf.arguments import check_arguments
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
    """Exports a Keras model to files that run without lcc_tf, and compares them with the model.

    Preprocessing, softmax, padding and cropping are part of every exported model. There are three
    formats:

    - "savedmodel": the folder `<output>/savedmodel`, for TensorFlow. It accepts images of any size.
    - "onnx": the files `model.onnx` and `deepness.onnx` in `<output>/onnx`. `model.onnx` is for
      onnxruntime and accepts images of any size. `deepness.onnx` is for the QGIS plugin Deepness
      and accepts images of `tile` x `tile` pixels.
    - "litert": the files `float32.tflite`, `float16.tflite` and `int8.tflite` in `<output>/litert`,
      for phones and small computers. They accept images of `tile` x `tile` pixels.

    Args:
        model: Keras model. Its input is float32 `(batch, height, width, 3)`, RGB in [0, 255], or
            images with the `bands` of the model. Its output is `(batch, height, width,
            num_classes)`, logits or probabilities. The model may require that height and width are
            multiples of its stride.
        output: folder; the files are written to its subfolder `<output>/<format>`.
        format: "savedmodel", "onnx" or "litert".
        classes: names and colors of the classes, in the order of the model's output channels.
        tile: side of the images that LiteRT and Deepness files accept, pixels. The best value is
            the size of the training images.
        resolution: pixel size of the images on the ground, meters. Deepness resamples scenes to
            this pixel size.
        images: 32 or more sample images, uint8 `(height, width, 3)` each, RGB, or `(height, width,
            bands)` with the original values. They should be similar to the training images. The
            export and the model are compared on crops of these images. The value ranges of the
            8-bit integers in the int8 file are also measured on crops. None for procedural scenes,
            which are synthetic satellite images that the program draws. If the training images
            differ much from these scenes, some values can be outside the measured ranges. Then the
            int8 file is less accurate.
        overwrite: True to replace an earlier export after the new export is complete.

    Returns:
        The exported files, each with its size and its agreement with the model.

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
    check_arguments(export, locals(), unchecked=("model", "classes", "images"))
    output = Path(output)
    writer(format)
    check_new_folder(output / format, contents=FORMATS[format], overwrite=overwrite)
    source = SourceModel.from_model(model, classes, tile=tile, resolution=resolution, images=images)
    return export_source(source, output, format, overwrite=overwrite)


def export_source(
    source: SourceModel, output: Path, format: str, *, overwrite: bool = False
) -> list[ExportedFile]:
    """Exports a model to `<output>/<format>`, and compares the files with the model.

    Args:
        source: the model to export.
        output: folder; the files are written to its subfolder `<output>/<format>`.
        format: a key of `FORMATS`.
        overwrite: True to replace an earlier export after the new export is complete.

    Returns:
        The exported files, each with its size and its agreement with the model.

    Raises:
        InputError: see `export`.
        AgreementError: the export differs too much from the model. Nothing is written.
    """
    write = writer(format)
    with new_folder(output / format, contents=FORMATS[format], overwrite=overwrite) as folder:
        return write(source, folder)
