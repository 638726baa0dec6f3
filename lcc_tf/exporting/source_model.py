"""The Keras model that is exported, and what its exports are held to."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import keras
import numpy as np
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.exporting.agreement import Agreement
from lcc_tf.exporting.dilation import with_single_operations
from lcc_tf.exporting.samples import Samples, samples_of
from lcc_tf.models.preprocessing import size_divisor
from lcc_tf.reflect_padding import reflect_padded_indices
from lcc_tf.runs import Run, load_ensemble
from tfds_deepglobe.classes import ClassTable

MODEL_FILE = "model.json"  # describes an exported model, see `Original.description`
RESOLUTION = 0.5  # metres a pixel, DeepGlobe's
MIN_TILE = 32  # pixels
CHECKED_TILES = 4  # at most
CHECKED_PIXELS = 4 * 512**2  # of those tiles together, unless a single one has more
MAX_FILE_SIZE = 2**31  # bytes: what fits into a protocol buffer or a flat buffer


@dataclass(frozen=True, eq=False)
class Original:
    """A Keras model on its way to another format."""

    model: keras.Model  # float32 images, RGB in [0, 255], to float32 probabilities
    classes: ClassTable
    tile: int  # side of the squares that exports of one size take, pixels
    resolution: float = RESOLUTION  # of the model's images on the ground, metres a pixel
    samples: Samples = field(default_factory=Samples)

    def __post_init__(self) -> None:
        if self.tile < MIN_TILE:
            raise InputError(
                f"`tile` must be {MIN_TILE} pixels or more, the networks' largest stride. "
                f"Received: {self.tile}."
            )
        if not 0 < self.resolution < float("inf"):
            raise InputError(
                f"`resolution` must be larger than 0 metres a pixel. Received: {self.resolution}."
            )

    @property
    def description(self) -> dict:
        """What a user of any export has to know of it, as JSON values."""
        return {
            "class_names": self.classes.names,
            "palette": self.classes.palette,
            "tile": self.tile,
            # Pixels of the model's images for a pixel of the data set's, a side
            "scale": self.samples.scale,
        }

    @cached_property
    def tiles(self) -> list[np.ndarray]:
        """Squares of `tile` that exports are checked on, uint8 `(1, tile, tile, 3)`."""
        count = min(max(CHECKED_PIXELS // self.tile**2, 1), CHECKED_TILES)
        return [image[None] for image in self.samples.squares("test", self.tile, count)]

    @cached_property
    def odd_image(self) -> np.ndarray:
        """An image of another size, uint8 `(1, height, width, 3)`, which no stride divides."""
        height, width = self.tile * 4 // 5 | 1, self.tile * 4 // 3 | 1
        return self.samples.squares("test", width, 1)[0][None, :height]

    @cached_property
    def _expected(self) -> dict[str, list[np.ndarray]]:
        """The Keras model's probabilities of what exports are checked on, computed once."""
        return {
            "tiles": [self.predict(image) for image in self.tiles],
            "odd_image": [self.predict(self.odd_image)],
        }

    def predict(self, image: np.ndarray) -> np.ndarray:
        """The Keras model's probabilities of an image `(1, height, width, 3)` of any size."""
        divisor = size_divisor(self.model)
        height, width = image.shape[1:3]
        margins = [(0, 0), (0, -height % divisor), (0, -width % divisor), (0, 0)]
        padded = np.pad(image, margins, mode="reflect").astype(np.float32)
        return self._graph(tf.constant(padded))[:, :height, :width].numpy()

    @cached_property
    def _graph(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """The model, traced once for all sizes, where `predict` would trace it for each."""
        return tf.function(
            lambda image: self.model(image, training=False),
            input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)],
        )

    def compare(self, predict: Callable[[np.ndarray], np.ndarray], *, any_size: bool) -> Agreement:
        """Holds an export to the Keras model.

        Args:
            predict: the export, from uint8 `(1, height, width, 3)`, RGB, to probabilities
                `(1, height, width, num_classes)`.
            any_size: whether it takes images of any size, not of `tile` alone.
        """
        with _all_digits():
            images, expected = list(self.tiles), list(self._expected["tiles"])
            if any_size:
                images.append(self.odd_image)
                expected += self._expected["odd_image"]
            return Agreement.of([predict(image) for image in images], expected)

    def serve(self, image: tf.Tensor) -> tf.Tensor:
        """The model as a graph for images of any size, for TensorFlow.

        Sizes that the network's stride does not divide are lengthened by mirrored pixels, and the
        result is cut back.

        Args:
            image: uint8 or float32 `(batch, height, width, 3)`, RGB in [0, 255].

        Returns:
            float32 `(batch, height, width, num_classes)`, probabilities.
        """
        return _at_any_size(self.model, image)

    def serve_for_conversion(self, image: tf.Tensor) -> tf.Tensor:
        """The same, in operations that converters know; TensorFlow itself can't run all of them."""
        return _at_any_size(self._convertible, image)

    @cached_property
    def _convertible(self) -> keras.Model:
        return with_single_operations(self.model)

    def check_file_size(self) -> None:
        """Refuses a model whose weights don't fit into one file of 2 GB.

        Raises:
            InputError: they don't.
        """
        size = 4 * self.model.count_params()
        if size > 0.99 * MAX_FILE_SIZE:
            raise InputError(
                f"ONNX and LiteRT files hold less than 2 GB, and the weights have {size / 1e9:.1f} "
                "GB. Export fewer `--runs` together, or to `--format savedmodel`."
            )


@contextlib.contextmanager
def _all_digits() -> Iterator[None]:
    """Float32 as such on GPUs, whose convolutions otherwise drop 13 of its 23 binary digits."""
    usual = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(usual)


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


def load_original(
    runs: Sequence[Run],
    weights: Sequence[float] | None = None,
    *,
    average: str = "probabilities",
    tile: int | None = None,
    resolution: float = RESOLUTION,
) -> Original:
    """Loads the ensemble of runs for exporting.

    Args:
        runs: at least one, all with the same classes.
        weights: one a run; None for equal ones.
        average: "probabilities" or "logits".
        tile: side of the squares that exports of one size take, pixels of the exported model's
            images; None for squares in which each member sees what it was trained to see.
        resolution: of the data set's images on the ground, metres a pixel. The exported model's
            images are coarser where no run works at the data set's own resolution.

    Raises:
        InputError: what `lcc_tf.runs.load_ensemble` raises; a tile or a resolution that
            can't be used.
    """
    finest = max(run.scale for run in runs)
    if tile is None:
        tile = max(round(run.config.image_size / run.scale * finest) for run in runs)
    return Original(
        model=load_ensemble(runs, weights, average=average),
        classes=runs[0].classes,
        tile=tile,
        resolution=resolution / finest,
        samples=samples_of(runs, finest),
    )
