"""Prediction of class probabilities with one network or with an ensemble of networks.

The networks of an ensemble are called its members. A network is trained with one of two framings:

- "crops": crops of the training images.
- "whole": whole training images, resized to squares.

Each network receives images of the size and resolution that it was trained on.
"""

import dataclasses
import functools
import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from lcc_tf.arguments import check_arguments
from lcc_tf.bands import Bands, check_equal_bands
from lcc_tf.devices import local_strategy, on_all_replicas
from lcc_tf.errors import InputError
from lcc_tf.models.averaging import AVERAGES, check_member_weights, weighted_average
from lcc_tf.models.model_outputs import (
    check_output_size,
    check_segmentation_model,
    outputs_probabilities,
)
from lcc_tf.models.preprocessing import bands_of, size_divisor
from lcc_tf.models.weight_values import model_hash
from lcc_tf.prediction.batches import in_batches
from lcc_tf.prediction.tiling import Predict, check_tile, images_per_batch, predict_array
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
    """Predicts class probabilities of an image of any size.

    The image is predicted in overlapping tiles, and the predictions of the tiles are blended.

    Args:
        model: model with the input float32 `(batch, height, width, channels)` and the output
            `(batch, height, width, num_classes)`, logits or probabilities. The channels are RGB in
            [0, 255], or the `bands` of the model.
        image: `(height, width, channels)`: uint8 or float RGB in [0, 255], or the original values
            of the `bands` of the model.
        tile: side of the tiles, pixels. The best value is the side of the images that the model was
            trained on. The value is rounded to a multiple of the stride of the model.
        overlap: overlap of neighboring tiles, pixels; None for a quarter of a tile.
        tta: test-time augmentation: "none", "flip" (mean of 4 flipped images) or "d4" (mean of 8
            rotated and flipped images).

    Returns:
        float32 `(height, width, num_classes)`, probabilities that sum to 1 at each pixel.

    Raises:
        InputError: one of these reasons:

            - `image` is not RGB in [0, 255], or does not have the bands of the model.
            - The output of the model has fewer than 2 channels.
            - The output of the model does not have the height and width of the input.
            - Another argument is invalid.

    Example:
        >>> model = lcc_tf.models.UNetPlusPlus(7, encoder="mobilenetv2", encoder_weights=None)
        >>> image = np.zeros((300, 500, 3), np.uint8)
        >>> lcc_tf.predict_tiled(model, image, tile=128).shape
        (300, 500, 7)
    """
    check_arguments(predict_tiled, locals(), unchecked=("model", "image"))
    if np.ma.is_masked(image):
        raise InputError(
            "`image` must not contain masked values. Received: a masked array. Set these values, "
            "for example with `image.filled(0)`."
        )
    image = np.asarray(image)
    bands = bands_of(model)
    channels, kind = (len(bands), ", ".join(bands.names)) if bands else (3, "RGB")
    if image.ndim != 3 or image.shape[2] != channels or 0 in image.shape:
        raise InputError(
            f"`image` must be {kind} with the shape (height, width, {channels}). "
            f"Received: image.shape={image.shape}."
        )
    if image.dtype.kind not in "uif":
        raise InputError(
            f"`image` must be {kind} in [0, 255], integers or floats. Received: {image.dtype}."
            if not bands
            else f"`image` must be integers or floats. Received: {image.dtype}."
        )
    if bands:
        _check_finite(image)
    elif not (image.min() >= 0 and image.max() <= 255):  # also True if the image contains NaN
        raise InputError(
            "`image` must be RGB in [0, 255]. "
            f"Received: values in [{image.min()}, {image.max()}]. Scale the values to [0, 255]."
        )
    if not bands and np.issubdtype(image.dtype, np.floating) and 0 < image.max() <= 1:
        warnings.warn(
            f"`image` should be RGB in [0, 255], but its largest value is {image.max():.3g}. "
            "If the values are in [0, 1], multiply them by 255.",
            stacklevel=2,
        )
    predictor = Predictor.from_model(model, tile=tile, tta=tta)
    return predict_array(predictor.predict_batch, image, tile=predictor.image_size, overlap=overlap)


def _check_finite(image: np.ndarray) -> None:
    """Raises an InputError if an image contains NaN or infinite values."""
    if not np.isfinite(image).all():
        raise InputError(
            "`image` must contain finite numbers. Received: values that are infinite or not a "
            "number. Replace them, for example with `np.nan_to_num(image)`."
        )


def probability_function(model: keras.Model) -> Predict:
    """Converts a model to a function that returns probabilities.

    If the model was created in the scope of a `MirroredStrategy`, the function uses all devices of
    the strategy.

    Args:
        model: model that returns logits or probabilities, see `predict_tiled`.

    Returns:
        Function from images to probabilities. Argument: input of the model, float32
        `(batch, height, width, channels)`. Result: float32 `(batch, height, width, num_classes)`.
        The function predicts many images in several batches, see `in_batches`.
    """
    has_softmax = outputs_probabilities(model)

    def forward(images: tf.Tensor) -> tf.Tensor:
        # A model with deep supervision has several outputs. The first output is the prediction.
        outputs = tf.cast(keras.tree.flatten(model(images, training=False))[0], tf.float32)
        return outputs if has_softmax else tf.nn.softmax(outputs)

    probabilities = tf.function(on_all_replicas(forward, model.distribute_strategy))

    def predict(images: np.ndarray) -> np.ndarray:
        # The model is traced once for each height and width. If both were unknown, some layers
        # would pad their feature maps and need much more memory. The number of images is unknown,
        # because the last batch can be smaller.
        signature = tf.TensorSpec((None, *images.shape[1:]), tf.float32)
        graph = probabilities.get_concrete_function(signature)
        predicted = graph(tf.constant(images, tf.float32)).numpy()
        check_output_size(images.shape, predicted.shape)
        return predicted

    return in_batches(predict)


@dataclass(frozen=True)
class Predictor:
    """Network with the size and resolution of its input images.

    Attributes:
        name: name of the network.
        predict_batch: function that predicts probabilities of square images with the side
            `image_size`.
        framing: "crops" for a network that was trained on crops of images, "whole" for a network
            that was trained on whole images, resized to squares.
        image_size: side of the input images of the network, pixels.
        tile: side of the tiles of a scene, pixels of the scene. Each tile is resized to the side
            `image_size`.
        size_divisor: number that `image_size` must be divisible by.
        fingerprint: function that returns a hash of the network and the name of the test-time
            augmentation. It is a function because only maps need the hash. Computing the hash takes
            0.4 seconds for 49 million weights.
        bands: bands of the images; None for RGB in [0, 255].
    """

    name: str
    predict_batch: Predict
    framing: str
    image_size: int
    tile: int
    size_divisor: int
    fingerprint: Callable[[], str] = lambda: ""
    bands: Bands | None = None

    @classmethod
    def from_model(
        cls, model: keras.Model, *, tile: int, tta: str = "none", name: str | None = None
    ) -> "Predictor":
        """Creates a predictor from a Keras model. Tiles of a scene are predicted without resizing.

        Args:
            model: model that returns logits or probabilities, see `predict_tiled`.
            tile: side of the tiles, pixels. The value is rounded to a multiple of the stride of the
                model.
            tta: test-time augmentation, a key of `lcc_tf.prediction.tta.TTA`.
            name: name of the predictor; None for the name of the model.

        Raises:
            InputError: `tile` or `tta` is invalid, or the model is invalid, see
                `check_segmentation_model`.
        """
        check_tile(tile)
        check_segmentation_model(model)
        divisor = size_divisor(model)
        size = max(round(tile / divisor), 1) * divisor
        predict = with_tta(probability_function(model), tta)
        return cls(
            name=name or model.name,
            predict_batch=predict,
            framing="crops",
            image_size=size,
            tile=size,
            size_divisor=divisor,
            fingerprint=lambda: f"{model_hash(model)} {tta}",
            bands=bands_of(model),
        )

    @classmethod
    def from_run(cls, run: Run, *, tta: str = "none") -> "Predictor":
        """Creates a predictor from the best weights of a run.

        Args:
            run: training run.
            tta: test-time augmentation, a key of `lcc_tf.prediction.tta.TTA`.

        Raises:
            InputError: the run has no weights, the weights cannot be loaded, or `tta` is invalid.
        """
        size = run.config.image_size
        with local_strategy().scope():
            model = load_model(run)
        return cls(
            name=run.name,
            predict_batch=with_tta(probability_function(model), tta),
            framing=run.config.framing,
            image_size=size,
            tile=round(size / run.scale),
            size_divisor=size_divisor(model),
            fingerprint=lambda: f"{model_hash(model)} {tta}",
            bands=run.bands,
        )

    def with_tile(self, tile: int) -> "Predictor":
        """Returns a predictor with the same network for tiles of another size.

        `image_size` changes in proportion to `tile`. It is rounded to a multiple of `size_divisor`.

        Args:
            tile: side of the tiles, pixels of the scene.
        """
        units = round(tile * self.image_size / self.tile / self.size_divisor)
        return dataclasses.replace(self, image_size=max(units, 1) * self.size_divisor, tile=tile)

    def predict_image(self, image: np.ndarray) -> np.ndarray:
        """Predicts an image at the resolution that the network was trained on.

        Args:
            image: uint8 or float32 `(height, width, channels)`, RGB in [0, 255] or `bands`.

        Returns:
            Probabilities, float32. If `framing` is "crops", their shape is
            `(height, width, num_classes)`. If `framing` is "whole", their shape is
            `(image_size, image_size, num_classes)`.
        """
        if self.framing == "whole":
            return self._predict_resized(image[None])[0]
        return predict_array(self.predict_batch, image, tile=self.image_size)

    def predict_tiles(self, tiles: np.ndarray) -> np.ndarray:
        """Predicts tiles of a scene at the resolution of the scene.

        Args:
            tiles: float32 `(batch, side, side, channels)`, RGB in [0, 255] or `bands`. `side` must
                be equal to `tile` if `framing` is "whole". `side` must be `tile` or more if
                `framing` is "crops".

        Returns:
            Probabilities, float32 `(batch, side, side, num_classes)`.
        """
        side = tiles.shape[1]
        if self.framing == "whole":
            # The resized tiles can have more pixels than the tiles. Therefore batches are smaller.
            size = images_per_batch(self.image_size**2)
            batches = [tiles[first : first + size] for first in range(0, len(tiles), size)]
            predicted = [
                tf.image.resize(self._predict_resized(batch), (side, side), method="bilinear")
                for batch in batches
            ]
            return np.concatenate(predicted)
        if side == self.image_size:
            return self.predict_batch(tiles)
        return np.stack([self.predict_image(tile) for tile in tiles])

    def _predict_resized(self, images: np.ndarray) -> np.ndarray:
        """Resizes images `(batch, height, width, channels)` to `image_size` and predicts them."""
        size = (self.image_size, self.image_size)
        return self.predict_batch(tf.image.resize(images, size, method="bilinear").numpy())


@dataclass(frozen=True)
class Average:
    """Weighted average of the probabilities that the members of an ensemble predict.

    Attributes:
        weights: one weight per member. Members with the weight 0 are skipped.
        kind: "probabilities" or "logits", see `lcc_tf.models.averaging.weighted_average`.

    Raises:
        InputError: `kind` is unknown.
    """

    weights: tuple[float, ...]
    kind: str = "probabilities"

    def __post_init__(self) -> None:
        if self.kind not in AVERAGES:
            raise InputError(
                f"`average` must be one of {', '.join(AVERAGES)}. Received: average={self.kind!r}."
            )

    @classmethod
    def of(
        cls, num_members: int, weights: Sequence[float] | None = None, kind: str = "probabilities"
    ) -> "Average":
        """Creates an average and verifies its weights.

        Args:
            num_members: number of members.
            weights: one weight per member; None for equal weights.
            kind: "probabilities" or "logits".

        Raises:
            InputError: `weights` are invalid, or `kind` is unknown.
        """
        return cls(check_member_weights(weights, num_members), kind)

    def __call__(self, probabilities: Sequence[np.ndarray]) -> np.ndarray:
        """Averages the probabilities of the members.

        Args:
            probabilities: float32 `(..., num_classes)`, one array per member.

        Returns:
            float32 `(..., num_classes)`.
        """
        weighted = [
            (p, weight) for p, weight in zip(probabilities, self.weights, strict=True) if weight
        ]
        members, weights = zip(*weighted, strict=True)
        return weighted_average(members, weights, self.kind).numpy()


@dataclass(frozen=True)
class EnsemblePredictor:
    """Predictor that averages the probabilities of one or more networks.

    Attributes:
        classes: names and colors of the classes.
        members: one predictor per network.
        average: function that averages the probabilities of the members.
    """

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
        """Creates a predictor from the best weights of one or more runs.

        Args:
            runs: one or more training runs with the same classes.
            weights: one weight per run for the average; None for equal weights. Runs with the
                weight 0 are not loaded.
            average: "probabilities" or "logits".
            tta: test-time augmentation, a key of `lcc_tf.prediction.tta.TTA`.
            tile: side of the tiles, pixels; None for the size that each run was trained on.

        Raises:
            InputError: the classes of the runs differ, a run cannot be loaded, or another argument
                is invalid.
        """
        check_same_classes(runs)
        check_equal_bands([run.bands for run in runs])
        combined = Average.of(len(runs), weights, average)
        used = [i for i, weight in enumerate(combined.weights) if weight]
        members = [Predictor.from_run(runs[i], tta=tta) for i in used]
        if tile is not None:
            members = [member.with_tile(tile) for member in members]
        combined = Average(tuple(combined.weights[i] for i in used), average)
        return cls(runs[0].classes, members, combined)

    @classmethod
    def from_model(
        cls, model: keras.Model, classes: ClassTable, *, tile: int, tta: str = "none"
    ) -> "EnsemblePredictor":
        """Creates a predictor from one Keras model.

        Args:
            model: model that returns logits or probabilities, see `predict_tiled`.
            classes: names and colors of the classes, in the order of the output channels of the
                model.
            tile: side of the tiles, pixels.
            tta: test-time augmentation, a key of `lcc_tf.prediction.tta.TTA`.

        Raises:
            InputError: `classes` does not have one class per output channel, or another argument is
                invalid.
        """
        check_num_classes(model, classes)
        member = Predictor.from_model(model, tile=tile, tta=tta)
        return cls(classes, [member], Average.of(1))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of everything that changes the predicted classes."""
        members = [(m.fingerprint(), m.framing, m.image_size, m.tile) for m in self.members]
        content = [members, self.average.weights, self.average.kind, self.classes]
        return hashlib.sha256(repr(content).encode()).hexdigest()

    @property
    def bands(self) -> Bands | None:
        """Bands of the images; None for RGB in [0, 255]."""
        return self.members[0].bands

    @property
    def tile(self) -> int:
        """Maximum of the attribute `tile` of the members, pixels."""
        return max(member.tile for member in self.members)

    def predict(self, tiles: np.ndarray) -> np.ndarray:
        """Predicts tiles with all members.

        Args:
            tiles: float32 `(batch, side, side, channels)`, RGB in [0, 255] or `bands`.

        Returns:
            Probabilities of all members, concatenated along the last axis: float32
            `(batch, side, side, num_members * num_classes)`.
        """
        return np.concatenate([member.predict_tiles(tiles) for member in self.members], axis=-1)

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """Splits the result of `predict` into one `(..., num_classes)` array per member."""
        return np.split(values, len(self.members), axis=-1)


def check_num_classes(model: keras.Model, classes: ClassTable) -> None:
    """Verifies that a class table has one class per output channel of a model.

    Raises:
        InputError: `classes` is not a class table, the number of classes differs from the number of
            output channels, or the model is invalid, see `check_segmentation_model`.
    """
    if not isinstance(classes, ClassTable):
        raise InputError(
            f"`classes` must be a class table. Received: classes={classes!r}. "
            "Use `lcc_tf.ClassTable(names, palette)`."
        )
    check_segmentation_model(model)
    channels = model.outputs[0].shape[-1]
    if channels != classes.num_classes:
        raise InputError(
            f"`classes` must have one class per output channel. The model {model.name!r} has "
            f"{channels} output channels. Received: {classes.num_classes} classes, "
            f"{list(classes.names)}."
        )
