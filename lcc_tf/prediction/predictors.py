"""Predictors: one network, or the average of several, applied as the networks were trained."""

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.models.averaging import AVERAGES, check_member_weights, weighted_average
from lcc_tf.models.model_outputs import check_functional, outputs_probabilities
from lcc_tf.models.preprocessing import size_divisor
from lcc_tf.prediction.tiling import Predict, predict_array
from lcc_tf.prediction.tta import with_tta
from lcc_tf.runs import Run, check_same_classes, load_model
from tfds_deepglobe.classes import ClassTable


def predict_tiled(
    model: keras.Model,
    image: np.ndarray,
    *,
    tile: int = 512,
    overlap: int | None = None,
    tta: str = "none",
) -> np.ndarray:
    """Predicts class probabilities of an image of any size in overlapping, blended tiles.

    Args:
        model: from float32 `(batch, height, width, 3)`, RGB in [0, 255], to logits or probabilities
            `(batch, height, width, num_classes)`.
        image: uint8 or float `(height, width, 3)`, RGB in [0, 255].
        tile: side of the tiles, pixels; best the size that the model was trained on. It is rounded
            to a multiple of the model's stride.
        overlap: overlap of neighboring tiles, pixels; None for a quarter of a tile.
        tta: test-time augmentation: "none", "flip" (the mean over 4 flips) or "d4" (the mean over
            all 8 symmetries of the square).

    Returns:
        float32 `(height, width, num_classes)`, probabilities that sum to 1 at each pixel.

    Raises:
        InputError: not an RGB image in [0, 255], or an invalid `tile`, `overlap` or `tta`.

    Example:
        >>> model = lcc_tf.models.UNetPlusPlus(7, encoder="mobilenetv2", encoder_weights=None)
        >>> image = np.zeros((300, 500, 3), np.uint8)
        >>> lcc_tf.predict_tiled(model, image, tile=128).shape
        (300, 500, 7)
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(
            "`image` must be RGB of the shape (height, width, 3). "
            f"Received: image.shape={image.shape}."
        )
    if not (image.min() >= 0 and image.max() <= 255):  # also where a value is NaN
        raise InputError(
            "`image` must be RGB in [0, 255]. "
            f"Received: values from {image.min()} to {image.max()}. Scale the image first."
        )
    if np.issubdtype(image.dtype, np.floating) and 0 < image.max() <= 1:
        warnings.warn(
            f"The largest value of `image` is {image.max():.3g}, where RGB in [0, 255] is expected."
            " Multiply an image in [0, 1] by 255.",
            stacklevel=2,
        )
    predictor = Predictor.from_model(model, tile=tile, tta=tta)
    return predict_array(predictor.predict_batch, image, tile=predictor.image_size, overlap=overlap)


def probability_function(model: keras.Model) -> Predict:
    """Wraps a model of logits or probabilities as a function that returns probabilities."""
    has_softmax = outputs_probabilities(model)

    @tf.function
    def probabilities(images: tf.Tensor) -> tf.Tensor:
        # Of several outputs, such as those of deep supervision, the first is the prediction.
        outputs = tf.cast(keras.tree.flatten(model(images, training=False))[0], tf.float32)
        return outputs if has_softmax else tf.nn.softmax(outputs)

    # Traced once for all sizes, since batches of differently sized images differ in shape.
    traced = probabilities.get_concrete_function(tf.TensorSpec((None, None, None, 3), tf.float32))

    def predict(images: np.ndarray) -> np.ndarray:
        return traced(tf.constant(images, tf.float32)).numpy()

    return predict


@dataclass(frozen=True)
class Predictor:
    """One network and the way in which it was trained to see images.

    Attributes:
        name: name of the network.
        predict_batch: predicts probabilities of square images at the network's resolution.
        framing: "crops" for a network that takes tiles of the image at the image's resolution,
            "whole" for one that takes the image resized to a square.
        image_size: side of the square that the network takes, pixels.
        tile: side of the part of a scene that this square shows, pixels of the scene.
        size_divisor: number that `image_size` must be divisible by.
    """

    name: str
    predict_batch: Predict
    framing: str
    image_size: int
    tile: int
    size_divisor: int

    @classmethod
    def from_model(
        cls, model: keras.Model, *, tile: int, tta: str = "none", name: str | None = None
    ) -> "Predictor":
        """Makes a predictor from a Keras model that takes tiles at the image's resolution.

        Args:
            model: see `predict_tiled`.
            tile: side of the tiles, pixels; it is rounded to a multiple of the model's stride.
            tta: test-time augmentation, a key of `lcc_tf.prediction.tta.TTA`.
            name: None for the model's name.

        Raises:
            InputError: an invalid `tile` or `tta`.
        """
        if tile < 1:
            raise InputError(f"`tile` must be 1 pixel or more. Received: tile={tile}.")
        check_functional(model)
        divisor = size_divisor(model)
        size = max(round(tile / divisor), 1) * divisor
        predict = with_tta(probability_function(model), tta)
        return cls(name or model.name, predict, "crops", size, size, divisor)

    @classmethod
    def from_run(cls, run: Run, *, tta: str = "none") -> "Predictor":
        """Loads a run's best weights.

        Args:
            run: the run.
            tta: test-time augmentation, a key of `lcc_tf.prediction.tta.TTA`.

        Raises:
            InputError: the run has no weights, or they cannot be loaded.
        """
        size = run.config.image_size
        model = load_model(run)
        return cls(
            name=run.name,
            predict_batch=with_tta(probability_function(model), tta),
            framing=run.config.framing,
            image_size=size,
            tile=round(size / run.scale),
            size_divisor=size_divisor(model),
        )

    def with_tile(self, tile: int) -> "Predictor":
        """Returns the same predictor for tiles of another size.

        Args:
            tile: side of the tiles, pixels of the scene. The network takes squares of the nearest
                size that its stride divides.
        """
        units = round(tile * self.image_size / self.tile / self.size_divisor)
        return dataclasses.replace(self, image_size=max(units, 1) * self.size_divisor, tile=tile)

    def predict_image(self, image: np.ndarray) -> np.ndarray:
        """Predicts an image at the network's own resolution.

        Args:
            image: uint8 or float32 `(height, width, 3)`, RGB in [0, 255].

        Returns:
            float32 `(height, width, num_classes)` for "crops", `(image_size, image_size,
            num_classes)` for "whole".
        """
        if self.framing == "whole":
            size = (self.image_size, self.image_size)
            resized = tf.image.resize(image, size, method="bilinear")
            return self.predict_batch(resized.numpy()[None])[0]
        return predict_array(self.predict_batch, image, tile=self.image_size)

    def predict_tiles(self, tiles: np.ndarray) -> np.ndarray:
        """Predicts tiles of a scene at the scene's resolution.

        Args:
            tiles: float32 `(batch, side, side, 3)`; the side is `tile`, or more for "crops".

        Returns:
            float32 `(batch, side, side, num_classes)`.
        """
        side = tiles.shape[1]
        if self.framing == "crops" and side == self.image_size:
            return self.predict_batch(tiles)
        predicted = np.stack([self.predict_image(tile) for tile in tiles])
        return tf.image.resize(predicted, (side, side), method="bilinear").numpy()


@dataclass(frozen=True)
class Average:
    """The way in which an ensemble averages the probabilities of its members."""

    weights: tuple[float, ...]  # one weight per member; a member of weight 0 is left out
    kind: str  # "probabilities" or "logits"

    def __post_init__(self) -> None:
        if self.kind not in AVERAGES:
            raise InputError(
                f"`average` must be one of {', '.join(AVERAGES)}. Received: average={self.kind!r}."
            )

    def __call__(self, probabilities: Sequence[np.ndarray]) -> np.ndarray:
        """Averages float32 `(..., num_classes)` arrays of the same pixels, one per member."""
        weighted = [
            (p, weight) for p, weight in zip(probabilities, self.weights, strict=True) if weight
        ]
        members, weights = zip(*weighted, strict=True)
        return weighted_average(members, weights, self.kind).numpy()


@dataclass(frozen=True)
class EnsemblePredictor:
    """One predictor or several, and the average of their probabilities."""

    classes: ClassTable
    members: Sequence[Predictor]
    average: Average

    @classmethod
    def from_runs(
        cls,
        runs: Sequence[Run],
        weights: Sequence[float] | None = None,
        *,
        average: str = "probabilities",
        tta: str = "none",
        tile: int | None = None,
    ) -> "EnsemblePredictor":
        """Loads runs as an ensemble.

        Args:
            runs: at least one, all with the same classes.
            weights: one weight per run; None for equal weights.
            average: "probabilities" or "logits".
            tta: test-time augmentation, a key of `lcc_tf.prediction.tta.TTA`.
            tile: side of the tiles, pixels; None for the size that each run was trained on.

        Raises:
            InputError: the runs' classes differ, a run cannot be loaded, or the weights are
                invalid.
        """
        check_same_classes(runs)
        weights = [1.0] * len(runs) if weights is None else list(weights)
        check_member_weights(weights, len(runs))
        weighted = [(run, weight) for run, weight in zip(runs, weights, strict=True) if weight]
        members = [Predictor.from_run(run, tta=tta) for run, _ in weighted]
        if tile is not None:
            members = [member.with_tile(tile) for member in members]
        combined = Average(tuple(weight for _, weight in weighted), average)
        return cls(runs[0].classes, members, combined)

    @classmethod
    def from_model(
        cls, model: keras.Model, classes: ClassTable, *, tile: int, tta: str = "none"
    ) -> "EnsemblePredictor":
        """Makes a predictor from one Keras model.

        Args:
            model: see `predict_tiled`.
            classes: names and colors of the model's output channels, in their order.
            tile: side of the tiles, pixels.
            tta: test-time augmentation, a key of `lcc_tf.prediction.tta.TTA`.

        Raises:
            InputError: `classes` does not have one class per output channel.
        """
        check_num_classes(model, classes)
        member = Predictor.from_model(model, tile=tile, tta=tta)
        return cls(classes, [member], Average((1.0,), "probabilities"))

    @property
    def tile(self) -> int:
        """Side of the tiles in which each member sees at least what it was trained on, pixels."""
        return max(member.tile for member in self.members)

    def predict(self, tiles: np.ndarray) -> np.ndarray:
        """Predicts probabilities of all members, `(batch, side, side, members * classes)`."""
        return np.concatenate([member.predict_tiles(tiles) for member in self.members], axis=-1)

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """Splits the result of `predict` into one `(..., classes)` array per member."""
        return np.split(values, len(self.members), axis=-1)


def check_num_classes(model: keras.Model, classes: ClassTable) -> None:
    """Checks that a class table names the output channels of a model.

    Raises:
        InputError: the numbers differ.
    """
    check_functional(model)
    channels = model.outputs[0].shape[-1]
    if channels != classes.num_classes:
        raise InputError(
            f"`classes` must have one class per output channel of the model {model.name!r}, "
            f"{channels}. Received: {classes.num_classes} classes, {list(classes.names)}."
        )
