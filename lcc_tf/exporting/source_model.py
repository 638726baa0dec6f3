"""Keras models for exporting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import keras
import numpy as np
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.exporting.comparison import Comparison
from lcc_tf.exporting.description import Description
from lcc_tf.exporting.dilation import with_single_operations
from lcc_tf.exporting.samples import Samples, samples_of
from lcc_tf.models import ensemble
from lcc_tf.models.preprocessing import size_divisor
from lcc_tf.prediction.predictors import check_num_classes
from lcc_tf.reflect_padding import reflect_padded_indices
from lcc_tf.runs import Run, load_ensemble
from tfds_deepglobe.classes import ClassTable

RESOLUTION = 0.5  # meters per pixel, DeepGlobe's
MIN_TILE = 32  # pixels
MAX_FILE_SIZE = 2**31  # bytes; limit of protocol buffers (ONNX) and flat buffers (LiteRT)


@dataclass(frozen=True, eq=False)
class SourceModel:
    """A Keras model for exporting.

    Attributes:
        model: from float32 `(batch, height, width, 3)`, RGB in [0, 255], to float32 probabilities
            `(batch, height, width, num_classes)`.
        classes: names and colors of the model's output channels.
        tile: side of the images for exports of a fixed size, pixels.
        resolution: pixel size of the model's images on the ground, meters.
        samples: source of images for the comparison of exports with the model.
    """

    model: keras.Model
    classes: ClassTable
    tile: int
    resolution: float = RESOLUTION
    samples: Samples = field(default_factory=Samples)

    def __post_init__(self) -> None:
        if self.tile < MIN_TILE:
            raise InputError(
                f"`tile` must be {MIN_TILE} pixels or more, the networks' largest stride. "
                f"Received: tile={self.tile}."
            )
        if not 0 < self.resolution < float("inf"):
            raise InputError(
                "`resolution` must be larger than 0 meters per pixel. "
                f"Received: resolution={self.resolution}."
            )

    @classmethod
    def from_runs(
        cls,
        runs: Sequence[Run],
        weights: Sequence[float] | None = None,
        *,
        average: str = "probabilities",
        tile: int | None = None,
        resolution: float = RESOLUTION,
    ) -> "SourceModel":
        """Loads the ensemble of runs for exporting.

        Args:
            runs: one run or more, all with the same classes.
            weights: one weight per run; None for equal weights.
            average: "probabilities" or "logits".
            tile: side of the images for exports of a fixed size, pixels of the exported model's
                images. None for the smallest size at which each member's input has at least the
                size of its training images.
            resolution: pixel size of the data set's images on the ground, meters. The exported
                model's pixels are larger if every run downsamples the data set's images.

        Raises:
            InputError: the runs cannot be loaded (see `lcc_tf.runs.load_ensemble`), or the tile or
                the resolution is invalid.
        """
        finest = max(run.scale for run in runs)
        if tile is None:
            tile = max(round(run.config.image_size / run.scale * finest) for run in runs)
        return cls(
            model=load_ensemble(runs, weights, average=average),
            classes=runs[0].classes,
            tile=tile,
            resolution=resolution / finest,
            samples=samples_of(runs, finest),
        )

    @classmethod
    def from_model(
        cls,
        model: keras.Model,
        classes: ClassTable,
        *,
        tile: int,
        resolution: float = RESOLUTION,
        images: Sequence[np.ndarray] | None = None,
    ) -> "SourceModel":
        """Prepares a Keras model for exporting.

        Args:
            model: see `lcc_tf.exporting.export.export`.
            classes: names and colors of the model's output channels.
            tile: side of the images for exports of a fixed size, pixels.
            resolution: pixel size of the images on the ground, meters.
            images: sample images, uint8 `(height, width, 3)` each, RGB; None for procedural scenes.

        Raises:
            InputError: an argument is invalid.
        """
        check_num_classes(model, classes)
        if images is not None:
            images = [np.asarray(image) for image in images]
        return cls(ensemble([model]), classes, tile, resolution, Samples(images=images))

    @property
    def description(self) -> Description:
        """The description for the files of an export."""
        return Description(self.classes, self.tile, self.samples.scale)

    @cached_property
    def comparison(self) -> Comparison:
        """The comparison of exports with the model."""
        return Comparison(self.predict, self.samples, self.tile)

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Predicts probabilities with the Keras model, for an image of any size.

        Args:
            image: uint8 `(1, height, width, 3)`, RGB.

        Returns:
            float32 `(1, height, width, num_classes)`.
        """
        divisor = size_divisor(self.model)
        height, width = image.shape[1:3]
        margins = [(0, 0), (0, -height % divisor), (0, -width % divisor), (0, 0)]
        padded = np.pad(image, margins, mode="reflect").astype(np.float32)
        return self._graph(tf.constant(padded))[:, :height, :width].numpy()

    @cached_property
    def _graph(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """The model, traced once for all sizes; `keras.Model.predict` traces it once per size."""
        return tf.function(
            lambda image: self.model(image, training=False),
            input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)],
        )

    def serve(self, image: tf.Tensor) -> tf.Tensor:
        """Builds the model's graph for images of any size, for TensorFlow.

        Images are reflect-padded to a multiple of the network's stride, and the result is cropped.

        Args:
            image: uint8 or float32 `(batch, height, width, 3)`, RGB in [0, 255].

        Returns:
            float32 `(batch, height, width, num_classes)`, probabilities.
        """
        return _at_any_size(self.model, image)

    def serve_for_conversion(self, image: tf.Tensor) -> tf.Tensor:
        """Builds the graph of `serve` for converters, with operations that TensorFlow cannot run.

        Args:
            image: uint8 or float32 `(batch, height, width, 3)`, RGB in [0, 255].

        Returns:
            float32 `(batch, height, width, num_classes)`, probabilities.
        """
        return _at_any_size(self._convertible, image)

    @cached_property
    def _convertible(self) -> keras.Model:
        return with_single_operations(self.model)

    def check_file_size(self) -> None:
        """Checks that the weights fit into a file of 2 GB.

        Raises:
            InputError: the weights do not fit.
        """
        size = 4 * self.model.count_params()
        if size > 0.99 * MAX_FILE_SIZE:
            raise InputError(
                "The weights must have less than 2 GB for ONNX and LiteRT files. Received: "
                f"{size / 1e9:.1f} GB. Export fewer networks together, or use "
                "`format='savedmodel'`."
            )


def _at_any_size(model: keras.Model, image: tf.Tensor) -> tf.Tensor:
    divisor = size_divisor(model)
    height, width = (
        tf.shape(image)[axis] if side is None else side
        for axis, side in enumerate(image.shape[1:3], start=1)
    )
    padded = image
    for axis, side in enumerate((height, width), start=1):
        if not isinstance(side, int) or side % divisor:
            padded = tf.gather(padded, reflect_padded_indices(side, divisor), axis=axis)
    return model(tf.cast(padded, tf.float32), training=False)[:, :height, :width]
