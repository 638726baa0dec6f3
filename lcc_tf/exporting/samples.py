"""Sample images for the comparison of exports and for the calibration of int8."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from lcc_tf.data.decoding import decode_mask, image_encoding
from lcc_tf.data.demo_scenes import MIN_SIZE, render_scene
from lcc_tf.data.framing import crop
from lcc_tf.data.pipeline import encoded_examples
from lcc_tf.errors import InputError
from lcc_tf.reflect_padding import reflect_indices
from lcc_tf.runs import Run
from tfds_deepglobe.errors import InputError as DatasetError
from tfds_deepglobe.prepare import load

SEED = 0  # random seed of the crops' positions and of procedural scenes


@dataclass(frozen=True)
class Samples:
    """Source of sample images: arrays, a data set, or procedural scenes if both are None.

    Samples should be similar to the training images. A network predicts arbitrary classes for other
    images, such as noise. The agreement on such images has no meaning.

    Attributes:
        builder: a data set; None for none.
        scale: pixels of a sample per pixel of the data set's images, along one side.
        images: uint8 `(height, width, 3)` each, RGB; None for none.
    """

    builder: tfds.core.DatasetBuilder | None = None
    scale: float = 1.0
    images: Sequence[np.ndarray] | None = None

    def __post_init__(self) -> None:
        if self.images is None:
            return
        if not len(self.images):
            raise InputError("`images` must contain at least one image. Received: no image.")
        for image in self.images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise InputError(
                    "`images` must be uint8 arrays of the shape (height, width, 3). "
                    f"Received: {image.dtype} {image.shape}."
                )

    def __str__(self) -> str:
        if self.builder is not None:
            return f"images of {self.builder.data_dir}"
        return "procedural scenes" if self.images is None else f"{len(self.images)} images"

    def crops(self, split: str, side: int, count: int) -> list[np.ndarray]:
        """Returns random crops, one per image. After the last image, the first image is next.

        Args:
            split: "train" or "test"; "train" is used if the data set has no test split. Arrays have
                no splits.
            side: side of the crops, pixels of the samples.
            count: number of crops.

        Returns:
            uint8 `(side, side, 3)` each, RGB. The same arguments return the same crops.
        """
        rng = np.random.default_rng(SEED)
        if self.images is not None:
            return [_crop(self.images[i % len(self.images)], side, rng) for i in range(count)]
        if self.builder is None:
            # Numbers of scenes that are not in the data set "demo"
            first = 10**6 if split == "test" else 2 * 10**6
            scenes = [render_scene(SEED, first + i, max(side, MIN_SIZE))[0] for i in range(count)]
            return [scene[:side, :side] for scene in scenes]
        if split not in self.builder.info.splits:
            split = "train"
        examples = encoded_examples(self.builder, split).repeat().take(count)
        return [self._example_crop(example, side, rng) for example in examples]

    def _example_crop(
        self, example: dict[str, tf.Tensor], side: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Returns a random crop of an example of the data set."""
        mask = decode_mask(example["segmentation_mask"])
        side_in_example = round(side / self.scale)
        room = np.maximum(np.array(mask.shape) - side_in_example, 0)
        corner = tf.constant(rng.integers(0, room + 1), tf.int32)
        encoding = image_encoding(self.builder)
        image, _ = crop(example, mask, corner, tf.constant(side_in_example), side, encoding)
        return np.round(image.numpy()).astype(np.uint8)


def _crop(image: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a random crop of an image, which is reflect-padded if it is smaller than the crop."""
    first = [rng.integers(0, max(length - side, 0) + 1) for length in image.shape[:2]]
    rows, columns = (
        reflect_indices(np.arange(start, start + side), length)
        for start, length in zip(first, image.shape[:2], strict=True)
    )
    return image[rows][:, columns]


def samples_of(runs: Sequence[Run], scale: float) -> Samples:
    """Returns the first data set of the runs that exists, or procedural scenes.

    Args:
        runs: the exported runs.
        scale: pixels of a sample per pixel of the data set's images, along one side.
    """
    for run in runs:
        if run.fingerprint is None:  # an imported run, whose data set is unknown
            continue
        try:
            return Samples(load(run.config.data.cache_dir, run.fingerprint), scale)
        except DatasetError:  # the run was trained elsewhere, or the cache was deleted
            continue
    return Samples(scale=scale)
