"""A SavedModel that needs TensorFlow alone."""

import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.exporting.agreement import FLOAT_SHARE
from lcc_tf.exporting.exported_file import ExportedFile
from lcc_tf.exporting.source_model import MODEL_FILE, Original
from lcc_tf.prediction.predictors import Average, EnsemblePredictor, Predictor
from lcc_tf.prediction.tta import with_tta
from tfds_deepglobe.classes import ClassTable

TOLERANCE = 1e-4


def export_savedmodel(original: Original, output: Path) -> list[ExportedFile]:
    """Writes a SavedModel and checks what it computes.

    Its signature `serving_default` takes `image`, uint8 `(batch, height, width, 3)`, RGB of any
    size, and gives `probabilities`, float32 `(batch, height, width, num_classes)`, and `class_id`,
    uint8 `(batch, height, width)`. Sizes that the network's stride does not divide are lengthened
    by mirrored pixels, and the result is cut back. The signature `classes` takes nothing and gives
    `class_names`, string `(num_classes,)`, and `palette`, uint8 `(num_classes, 3)`, RGB.
    `assets.extra/model.json` holds both, `tile`: the side of the squares that the networks were
    trained to see, pixels, and `scale`: how many pixels the model's images have for one of the data
    set's, a side.

    Args:
        original: what to export.
        output: folder to fill.

    Returns:
        One entry, of the whole folder.

    Raises:
        DeviationError: a probability deviates from the Keras model's by more than `TOLERANCE`, or
            the class by more than `FLOAT_SHARE` allows.
    """

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = original.serve(image)
        class_id = tf.cast(tf.argmax(probabilities, axis=-1), tf.uint8)
        return {"probabilities": probabilities, "class_id": class_id}

    def class_table() -> dict[str, tf.Tensor]:
        return {
            "class_names": tf.constant(original.classes.names),
            "palette": tf.constant(original.classes.palette, tf.uint8),
        }

    archive = keras.export.ExportArchive()
    archive.track(original.model)
    archive.add_endpoint(
        "serving_default", serve, [tf.TensorSpec((None, None, None, 3), tf.uint8, name="image")]
    )
    archive.add_endpoint("classes", class_table, [])
    archive.write_out(output, verbose=False)
    extra = output / "assets.extra"
    extra.mkdir()
    (extra / MODEL_FILE).write_text(json.dumps(original.description, indent=2))

    loaded = tf.saved_model.load(output)

    def predict(image: np.ndarray) -> np.ndarray:
        served = loaded.signatures["serving_default"](image=tf.constant(image))
        return served["probabilities"].numpy()

    agreement = original.compare(predict, any_size=True)
    agreement.require("saved_model.pb", share=FLOAT_SHARE, deviation=TOLERANCE)
    size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    return [ExportedFile("saved_model.pb", size, agreement)]


def load_savedmodel(
    folder: Path, *, tta: str = "none", tile: int | None = None
) -> EnsemblePredictor:
    """Loads a SavedModel of `export_savedmodel` for prediction.

    Args:
        folder: the SavedModel.
        tta: test-time augmentation, a key of `lcc_tf.prediction.tta.TTA`.
        tile: side of the tiles, pixels; None for the largest size that its networks were trained
            on.

    Raises:
        InputError: the folder is not a SavedModel of `export_savedmodel`.
    """
    description = folder / "assets.extra" / MODEL_FILE
    if not description.exists():
        raise InputError(
            f"{folder} is not a SavedModel that export.py wrote: {description} does not exist. Use "
            "the folder that `export.py` names for the format savedmodel."
        )
    content = json.loads(description.read_text())
    classes = ClassTable(
        tuple(content["class_names"]), tuple(tuple(color) for color in content["palette"])
    )
    loaded = tf.saved_model.load(folder)

    def predict(images: np.ndarray) -> np.ndarray:
        serve = loaded.signatures["serving_default"]
        image = tf.constant(np.rint(images).astype(np.uint8))
        return serve(image=image)["probabilities"].numpy()

    image_size, scale = content["tile"], content["scale"]
    predictor = Predictor(
        name=folder.name,
        predict_batch=with_tta(predict, tta),
        # A model that works at another resolution than the scene's gets resized tiles.
        framing="crops" if scale == 1 else "whole",
        image_size=image_size,
        tile=round(image_size / scale),
        size_divisor=1,
    )
    predictor = predictor if tile is None else predictor.with_tile(tile)
    return EnsemblePredictor(classes, [predictor], Average((1.0,), "probabilities"))
