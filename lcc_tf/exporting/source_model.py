"""Keras model with all the information that its export needs.

The exported model can be an ensemble, which averages the predictions of several networks (its
members). The members are the networks of training runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import keras
import numpy as np
import tensorflow as tf

from lcc_tf.bands import Bands
from lcc_tf.errors import InputError
from lcc_tf.exporting.comparison import Comparison
from lcc_tf.exporting.description import Description
from lcc_tf.exporting.dilation import with_single_operations
from lcc_tf.exporting.samples import Samples, samples_of
from lcc_tf.exporting.scaled_input import with_scaled_input
from lcc_tf.models import ensemble
from lcc_tf.models.model_outputs import check_output_size
from lcc_tf.models.preprocessing import bands_of, size_divisor
from lcc_tf.prediction.predictors import check_num_classes
from lcc_tf.prediction.tiling import check_tile
from lcc_tf.reflect_padding import reflect_padded_indices
from lcc_tf.runs import Run, load_ensemble
from tfds_deepglobe.classes import ClassTable

RESOLUTION = 0.5  # pixel size of DeepGlobe images, meters
MIN_TILE = 32  # largest stride of the networks, pixels
MAX_FILE_SIZE = 2**31  # bytes; limit of the file formats of ONNX and LiteRT


@dataclass(frozen=True, eq=False)
class SourceModel:
    """Keras model with all the information that its export needs.

    Attributes:
        model: Keras model. Its input is float32 `(batch, height, width, 3)`, RGB in [0, 255], or
            images with `bands`. Its output is probabilities, float32 `(batch, height, width,
            num_classes)`.
        classes: names and colors of the classes, in the order of the model's output channels.
        tile: side of the images, pixels, for exported files that accept only one image size.
        resolution: pixel size of the model's images on the ground, meters.
        samples: source of images on which exports are compared with the model.
    """

    model: keras.Model
    classes: ClassTable
    tile: int
    resolution: float = RESOLUTION
    samples: Samples = field(default_factory=Samples)

    def __post_init__(self) -> None:
        if self.tile < MIN_TILE:
            raise InputError(
                f"`tile` must be {MIN_TILE} pixels or more, because the largest stride of the "
                f"networks is {MIN_TILE}. Received: tile={self.tile}."
            )
        check_tile(self.tile)
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
        """Loads runs as one ensemble and prepares it for exporting.

        Args:
            runs: one run or more, all with the same classes.
            weights: one weight per run; None for equal weights.
            average: "probabilities" or "logits", the values that the ensemble averages.
            tile: side of the input images, pixels, for exported files that accept only one image
                size. None for the smallest size with which the input of each member is at least
                as large as its training images.
            resolution: pixel size of the data set's images on the ground, meters. If all runs
                downsample the data set's images, the exported model expects images with larger
                pixels.

        Raises:
            InputError: the runs cannot be loaded (see `lcc_tf.runs.load_ensemble`), or `tile` or
                `resolution` is invalid.
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
            model: Keras model, see `lcc_tf.exporting.export.export`.
            classes: names and colors of the classes, in the order of the model's output channels.
            tile: side of the images, pixels, for exported files that accept only one image size.
            resolution: pixel size of the images on the ground, meters.
            images: sample images, uint8 `(height, width, 3)` each, RGB. None for procedural scenes
                (synthetic images that the program draws).

        Raises:
            InputError: an argument is invalid.
        """
        check_num_classes(model, classes)
        if images is not None:
            images = [np.asarray(image) for image in images]
        samples = Samples(images=images, bands=bands_of(model))
        return cls(ensemble([model]), classes, tile, resolution, samples)

    @property
    def bands(self) -> Bands | None:
        """Bands of the model's images; None for RGB in [0, 255]."""
        return bands_of(self.model)

    def input_spec(self, *size: int | None, dtype: tf.DType | None = None) -> tf.TensorSpec:
        """Returns the dtype and the shape of the input of an exported model.

        Args:
            size: number, height and width of the images; None for any.
            dtype: dtype of the images; None for uint8 without `bands`, and float32 with `bands`.
        """
        channels = len(self.bands) if self.bands else 3
        dtype = dtype or (tf.float32 if self.bands else tf.uint8)
        return tf.TensorSpec((*size, channels), dtype, name="image")

    @property
    def description(self) -> Description:
        """Description of the model for `model.json`."""
        return Description(self.classes, self.tile, self.samples.scale, self.bands)

    @cached_property
    def comparison(self) -> Comparison:
        """Comparison of exports with the model on sample images."""
        return Comparison(self.predict, self.samples, self.tile)

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Predicts probabilities of an image of any size with the Keras model.

        Args:
            image: uint8 `(1, height, width, 3)`, RGB.

        Returns:
            Probabilities, float32 `(1, height, width, num_classes)`.
        """
        divisor = size_divisor(self.model)
        height, width = image.shape[1:3]
        margins = [(0, 0), (0, -height % divisor), (0, -width % divisor), (0, 0)]
        padded = np.pad(image, margins, mode="reflect").astype(np.float32)
        predicted = self._graph(tf.constant(padded))
        check_output_size(padded.shape, predicted.shape)
        return predicted[:, :height, :width].numpy()

    @cached_property
    def _graph(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Model as a TensorFlow function that is traced only once.

        `keras.Model.predict` would trace the model again for each image size.
        """
        return tf.function(
            lambda image: self.model(image, training=False),
            input_signature=[self.input_spec(None, None, None, dtype=tf.float32)],
        )

    def serve(self, image: tf.Tensor) -> tf.Tensor:
        """Builds the graph of the model for images of any size, for use in TensorFlow.

        The graph reflect-pads images to a multiple of the network's stride. It crops the
        probabilities to the size of the images.

        Args:
            image: uint8 or float32 `(batch, height, width, 3)`, RGB in [0, 255].

        Returns:
            float32 `(batch, height, width, num_classes)`, probabilities.
        """
        return _at_any_size(self.model, image)

    def serve_for_conversion(self, image: tf.Tensor, *, scaled: bool = False) -> tf.Tensor:
        """Builds the graph of `serve` for converters.

        TensorFlow cannot run some operations of this graph (see `lcc_tf.exporting.dilation`).

        Args:
            image: uint8 or float32 `(batch, height, width, channels)`.
            scaled: True if the values of bands are already scaled to [0, 255].

        Returns:
            float32 `(batch, height, width, num_classes)`, probabilities.
        """
        model = with_scaled_input(self._convertible) if scaled else self._convertible
        return _at_any_size(model, image)

    @cached_property
    def _convertible(self) -> keras.Model:
        return with_single_operations(self.model)

    def check_file_size(self) -> None:
        """Checks that the weights fit into a file of less than 2 GB.

        Raises:
            InputError: the weights are too large.
        """
        size = 4 * self.model.count_params()
        if size > 0.99 * MAX_FILE_SIZE:
            raise InputError(
                "The weights in ONNX and LiteRT files must have less than 2 GB. Received: "
                f"{size / 1e9:.1f} GB. Export an ensemble of fewer networks, or use "
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
