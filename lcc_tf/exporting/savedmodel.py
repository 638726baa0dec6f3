"""Export to a SavedModel, which needs only TensorFlow to run."""

import hashlib
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.exporting.agreement import ExportedFile
from lcc_tf.exporting.description import MODEL_FILE, Description
from lcc_tf.exporting.source_model import SourceModel
from lcc_tf.prediction.batches import in_batches
from lcc_tf.prediction.predictors import Average, EnsemblePredictor, Predictor
from lcc_tf.prediction.tta import with_tta

TOLERANCE = 1e-4  # maximum difference between probabilities of SavedModel and Keras model


def export_savedmodel(source: SourceModel, output: Path) -> list[ExportedFile]:
    """Writes a SavedModel and compares its predictions with the Keras model.

    The signature `serving_default` has the input `image`, uint8 `(batch, height, width, 3)`, RGB of
    any size. Its outputs are `probabilities`, float32 `(batch, height, width, num_classes)`, and
    `class_id`, uint8 `(batch, height, width)`. The SavedModel reflect-pads images to a multiple of
    the network's stride, and crops its outputs to the size of the images.

    The signature `classes` has no inputs. Its outputs are `class_names`, string `(num_classes,)`,
    and `palette`, uint8 `(num_classes, 3)`, RGB. `assets.extra/model.json` contains the
    `Description` of the model.

    Args:
        source: the model to export.
        output: folder of the SavedModel.

    Returns:
        A list with one `ExportedFile`, which describes the whole folder.

    Raises:
        AgreementError: the difference of two probabilities is larger than `TOLERANCE`, or the
            fraction of pixels with the same class is smaller than `FLOAT_FRACTION`.
    """

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = source.serve(image)
        class_id = tf.cast(tf.argmax(probabilities, axis=-1), tf.uint8)
        return {"probabilities": probabilities, "class_id": class_id}

    def class_table() -> dict[str, tf.Tensor]:
        return {
            "class_names": tf.constant(source.classes.names),
            "palette": tf.constant(source.classes.palette, tf.uint8),
        }

    archive = keras.export.ExportArchive()
    archive.track(source.model)
    archive.add_endpoint("serving_default", serve, [source.input_spec(None, None, None)])
    archive.add_endpoint("classes", class_table, [])
    archive.write_out(output, verbose=False)
    extra = output / "assets.extra"
    extra.mkdir()
    source.description.write(extra)

    loaded = tf.saved_model.load(output)

    def predict(image: np.ndarray) -> np.ndarray:
        served = loaded.signatures["serving_default"](image=tf.constant(image))
        return served["probabilities"].numpy()

    size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    check = source.comparison.check
    return [check("saved_model.pb", size, predict, any_size=True, max_difference=TOLERANCE)]


def load_savedmodel(
    folder: Path, *, tta: str = "none", tile: int | None = None
) -> EnsemblePredictor:
    """Loads a SavedModel that `export_savedmodel` wrote, for prediction.

    A SavedModel is a program. Load only a SavedModel from a source that you trust.

    Args:
        folder: folder of the SavedModel.
        tta: test-time augmentation, a key of `lcc_tf.prediction.tta.TTA`.
        tile: side of the tiles in pixels of the scene; None for the tile size that the export
            stored.

    Raises:
        InputError: the folder is not a SavedModel that `export_savedmodel` wrote, or it is damaged.
    """
    try:
        description = Description.read(folder / "assets.extra")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"{folder} is not a SavedModel that lcc_tf exported, because it does not contain the "
            f"file assets.extra/{MODEL_FILE}. Use the folder <output>/savedmodel of an export."
        ) from error
    files_hash = _files_hash(folder)  # not later, because an export can replace the files
    try:
        loaded = tf.saved_model.load(folder)
    except (OSError, IndexError, tf.errors.OpError) as error:  # errors for damaged files
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"The SavedModel in {folder} cannot be loaded: {reason}. A file is possibly missing or "
            "damaged. Export the model again."
        ) from error

    def predict(images: np.ndarray) -> np.ndarray:
        serve = loaded.signatures["serving_default"]
        image = tf.constant(images if description.bands else np.rint(images).astype(np.uint8))
        return serve(image=image)["probabilities"].numpy()

    image_size, scale = description.tile, description.scale
    predictor = Predictor(
        name=folder.name,
        predict_batch=with_tta(in_batches(predict), tta),
        # The framing "whole" resizes each tile before prediction. This is necessary for a model
        # whose resolution differs from the resolution of the scene.
        framing="crops" if scale == 1 else "whole",
        image_size=image_size,
        tile=round(image_size / scale),
        size_divisor=1,
        fingerprint=lambda: f"{files_hash} {tta}",
        bands=description.bands,
    )
    predictor = predictor if tile is None else predictor.with_tile(tile)
    return EnsemblePredictor(description.classes, [predictor], Average.of(1))


def _files_hash(folder: Path) -> str:
    """Hashes the graph and the weights of a SavedModel."""
    content = hashlib.blake2b(digest_size=16)
    for file in sorted([*folder.glob("saved_model.pb"), *folder.glob("variables/*")]):
        with file.open("rb") as opened:
            content.update(hashlib.file_digest(opened, "blake2b").digest())
    return content.hexdigest()
