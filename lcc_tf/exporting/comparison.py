"""Comparison of an exported model (an export) with the Keras model, on sample images."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tensorflow as tf

from lcc_tf.exporting.agreement import FLOAT_FRACTION, Agreement, ExportedFile
from lcc_tf.exporting.samples import Samples

MAX_TILES = 4  # maximum number of sample tiles
# Maximum number of pixels of all sample tiles together. If a single tile has more pixels, only one
# tile is used.
MAX_PIXELS = 4 * 512**2

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Sample images, and the probabilities that the Keras model predicts for them.

    Attributes:
        predict_expected: function that predicts with the Keras model. Its argument is an image,
            uint8 `(1, height, width, 3)`, RGB. It returns probabilities, float32
            `(1, height, width, num_classes)`.
        samples: source of the sample images.
        tile: side of the sample tiles, pixels.
    """

    predict_expected: Predict
    samples: Samples
    tile: int

    @cached_property
    def tiles(self) -> list[np.ndarray]:
        """Square sample images, uint8 `(1, tile, tile, 3)` each, RGB."""
        count = min(max(MAX_PIXELS // self.tile**2, 1), MAX_TILES)
        return [image[None] for image in self.samples.crops("test", self.tile, count)]

    @cached_property
    def odd_image(self) -> np.ndarray:
        """Sample image, uint8 `(1, height, width, 3)`, RGB, with an odd height and an odd width.

        Odd sides are not divisible by the stride of a network. Therefore the export must pad this
        image.
        """
        height, width = self.tile * 4 // 5 | 1, self.tile * 4 // 3 | 1
        return self.samples.crops("test", width, 1)[0][None, :height]

    @cached_property
    def _expected_of_tiles(self) -> list[np.ndarray]:
        return [self.predict_expected(image) for image in self.tiles]

    @cached_property
    def _expected_of_odd_image(self) -> np.ndarray:
        return self.predict_expected(self.odd_image)

    def check(
        self,
        name: str,
        size: int,
        predict: Predict,
        *,
        any_size: bool,
        max_difference: float,
        min_fraction: float = FLOAT_FRACTION,
    ) -> ExportedFile:
        """Compares an export with the Keras model.

        Args:
            name: name of the export.
            size: size of the export, bytes.
            predict: function that predicts with the export. It has the same argument and result as
                `predict_expected`.
            any_size: True if the export accepts images of any size. Then `odd_image` is also
                compared. False if the export accepts only images of `tile` x `tile` pixels.
            max_difference: maximum absolute difference of two probabilities.
            min_fraction: minimum fraction of pixels with the same class.

        Returns:
            Name, size and agreement of the export.

        Raises:
            AgreementError: the export differs too much from the Keras model.
        """
        with _full_float32():
            images, expected = list(self.tiles), list(self._expected_of_tiles)
            if any_size:
                images.append(self.odd_image)
                expected.append(self._expected_of_odd_image)
            agreement = Agreement.of([predict(image) for image in images], expected)
        agreement.require(name, min_fraction=min_fraction, max_difference=max_difference)
        return ExportedFile(name, size, agreement)


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    """Disables TF32 inside a `with` block.

    With TF32, GPUs use only 10 of the 23 mantissa bits of float32.
    """
    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(enabled)
