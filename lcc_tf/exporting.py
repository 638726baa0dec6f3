"""An ensemble as a SavedModel that needs TensorFlow alone."""

import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from lcc_tf.models.sizes import mirrored_indices, size_divisor
from tfds_deepglobe.classes import ClassTable

CLASSES_FILE = "classes.json"
CHECKED_SIZE = (200, 333)  # pixels; neither side fits a stride
TOLERANCE = 1e-4


def export_savedmodel(model: keras.Model, classes: ClassTable, output: Path) -> float:
    """Writes a SavedModel and checks what it computes.

    Its signature `serving_default` takes `image`, uint8 `(batch, height, width, 3)`, RGB of any
    size, and gives `probabilities`, float32 `(batch, height, width, num_classes)`, and `class_id`,
    uint8 `(batch, height, width)`. Sizes that the network's stride does not divide are lengthened
    by mirrored pixels, and the result is cut back. The signature `classes` takes nothing and gives
    `class_names`, string `(num_classes,)`, and `palette`, uint8 `(num_classes, 3)`, RGB.
    `assets.extra/classes.json` says the same to people.

    Args:
        model: from float32 images to float32 probabilities.
        classes: names and colours.
        output: folder to fill.

    Returns:
        The largest deviation of a probability from the Keras model's, on an image of noise of
        `CHECKED_SIZE`.

    Raises:
        RuntimeError: the SavedModel deviates by more than `TOLERANCE`.
    """
    divisor = size_divisor(model)

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        height, width = tf.shape(image)[1], tf.shape(image)[2]
        padded = tf.gather(image, mirrored_indices(height, divisor), axis=1)
        padded = tf.gather(padded, mirrored_indices(width, divisor), axis=2)
        probabilities = model(tf.cast(padded, tf.float32), training=False)
        probabilities = probabilities[:, :height, :width]
        class_id = tf.cast(tf.argmax(probabilities, axis=-1), tf.uint8)
        return {"probabilities": probabilities, "class_id": class_id}

    def class_table() -> dict[str, tf.Tensor]:
        return {
            "class_names": tf.constant(classes.names),
            "palette": tf.constant(classes.palette, tf.uint8),
        }

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default", serve, [tf.TensorSpec((None, None, None, 3), tf.uint8, name="image")]
    )
    archive.add_endpoint("classes", class_table, [])
    archive.write_out(output, verbose=False)
    extra = output / "assets.extra"
    extra.mkdir()
    content = {"class_names": classes.names, "palette": classes.palette}
    (extra / CLASSES_FILE).write_text(json.dumps(content, indent=2))

    deviation = _deviation(model, output, divisor)
    if not deviation <= TOLERANCE:
        raise RuntimeError(
            f"The SavedModel deviates from the Keras model by {deviation:.1e}, more than "
            f"{TOLERANCE}."
        )
    return deviation


def _deviation(model: keras.Model, output: Path, divisor: int) -> float:
    """Largest difference between a SavedModel and the Keras model it was made of."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, *CHECKED_SIZE, 3), dtype=np.uint8)
    loaded = tf.saved_model.load(output)
    served = loaded.signatures["serving_default"](image=tf.constant(image))["probabilities"]
    height, width = CHECKED_SIZE
    margins = [(0, 0), (0, -height % divisor), (0, -width % divisor), (0, 0)]
    padded = np.pad(image, margins, mode="reflect").astype(np.float32)
    expected = model.predict(padded, verbose=0)[:, :height, :width]
    return float(np.abs(served.numpy() - expected).max())
