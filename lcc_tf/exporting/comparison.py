"""Comparison of exported models with the Keras model on sample images."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tensorflow as tf

from lcc_tf.exporting.agreement import FLOAT_FRACTION, Agreement, ExportedFile
from lcc_tf.exporting.samples import Samples

MAX_TILES = 4
MAX_PIXELS = 4 * 512**2  # maximum of all tiles together, except for a single larger tile

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Sample images and their probabilities, as the Keras model predicts them.

    Attributes:
        predict_expected: the Keras model, from uint8 `(1, height, width, 3)`, RGB, to float32
            probabilities `(1, height, width, num_classes)`.
        samples: source of the images.
        tile: side of the tiles, pixels.
    """

    predict_expected: Predict
    samples: Samples
    tile: int

    @cached_property
    def tiles(self) -> list[np.ndarray]:
        """Sample tiles, uint8 `(1, tile, tile, 3)`."""
        count = min(max(MAX_PIXELS // self.tile**2, 1), MAX_TILES)
        return [image[None] for image in self.samples.crops("test", self.tile, count)]

    @cached_property
    def odd_image(self) -> np.ndarray:
        """Sample image with odd sides, which no stride divides, uint8 `(1, height, width, 3)`."""
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
            predict: the export, a function like `predict_expected`.
            any_size: True for an export that accepts images of any size; its images include
                `odd_image`. False for an export that accepts only `tile` x `tile` pixels.
            max_difference: maximum difference of two probabilities.
            min_fraction: minimum fraction of pixels with the same class.

        Returns:
            The export and its agreement.

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
    """Disables TF32, with which GPUs use only 10 of the 23 mantissa bits of float32."""
    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(enabled)
