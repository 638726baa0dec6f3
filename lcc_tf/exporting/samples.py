"""Sample images for the comparison of exports with the Keras model.

The value ranges of int8 files are also measured on sample images.

Procedural scenes are synthetic satellite images that the program draws. They replace the data set
of a run if this data set is not available.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from lcc_tf.band_names import COLORS
from lcc_tf.bands import Bands
from lcc_tf.data.dataset import reading
from lcc_tf.data.decoding import decode_mask, image_encoding
from lcc_tf.data.demo_scenes import MIN_SIZE, render_scene
from lcc_tf.data.framing import crop
from lcc_tf.data.pipeline import encoded_examples
from lcc_tf.errors import InputError
from lcc_tf.reflect_padding import reflect_indices
from lcc_tf.runs import Run
from tfds_deepglobe.errors import InputError as DatasetError
from tfds_deepglobe.prepare import load

SEED = 0  # random seed for the positions of crops and for procedural scenes


@dataclass(frozen=True)
class Samples:
    """Source of sample images.

    There are three kinds of sources: arrays (`images`), a data set (`builder`), or procedural
    scenes if `images` and `builder` are None.

    Sample images should be similar to the training images. For other images, such as noise, a
    network predicts arbitrary classes. The agreement on such images is therefore meaningless.

    Attributes:
        builder: a prepared data set, or None.
        scale: number of pixels of a sample image per pixel of the data set's images, along one
            side.
        images: arrays, uint8 `(height, width, 3)` each, RGB, or None. If there are `bands`, arrays
            of numbers with one channel per band.
        bands: bands of the model's images; None for RGB in [0, 255].
    """

    builder: tfds.core.DatasetBuilder | None = None
    scale: float = 1.0
    images: Sequence[np.ndarray] | None = None
    bands: Bands | None = None

    def __post_init__(self) -> None:
        if self.images is None:
            return
        if not len(self.images):
            raise InputError("`images` must contain at least one image. Received: no image.")
        channels, kinds = (len(self.bands), "uif") if self.bands else (3, "u")
        for image in self.images:
            is_image = image.dtype.kind in kinds and (self.bands or image.dtype == np.uint8)
            if not is_image or image.ndim != 3 or image.shape[2] != channels or not image.size:
                raise InputError(
                    f"`images` must be {'arrays of numbers' if self.bands else 'uint8 arrays'} of "
                    f"the shape (height, width, {channels}). "
                    f"Received: {image.dtype} {image.shape}."
                )

    def __str__(self) -> str:
        if self.builder is not None:
            return f"images of {self.builder.data_dir}"
        return "procedural scenes" if self.images is None else f"{len(self.images)} images"

    def crops(self, split: str, side: int, count: int) -> list[np.ndarray]:
        """Returns random crops of the sample images.

        Each image is used for one crop. If `count` is larger than the number of images, the images
        are used again from the first image.

        Args:
            split: "train" or "test". If the data set has no test split, "train" is used. For
                arrays, the split has no effect.
            side: side of the crops, pixels of the sample images.
            count: number of crops.

        Returns:
            uint8 `(side, side, 3)` each, RGB; with `bands`, float32 `(side, side, bands)`. The same
            arguments return the same crops.
        """
        rng = np.random.default_rng(SEED)
        if self.images is not None:
            crops = [_crop(self.images[i % len(self.images)], side, rng) for i in range(count)]
            return [crop.astype(np.float32) for crop in crops] if self.bands else crops
        if self.builder is None:
            # The data set "demo" contains scenes with smaller numbers. Therefore these scenes are
            # not training scenes.
            first = 10**6 if split == "test" else 2 * 10**6
            scenes = [render_scene(SEED, first + i, max(side, MIN_SIZE))[0] for i in range(count)]
            return [_as_bands(scene[:side, :side], self.bands) for scene in scenes]
        if split not in self.builder.info.splits:
            split = "train"
        examples = encoded_examples(self.builder, split).repeat().take(count)
        with reading(self.builder):
            return [self._example_crop(example, side, rng) for example in examples]

    def _example_crop(
        self, example: dict[str, tf.Tensor], side: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Returns a random crop of an image of the data set, at the resolution of the samples."""
        mask = decode_mask(example["segmentation_mask"])
        side_in_example = round(side / self.scale)
        room = np.maximum(np.array(mask.shape) - side_in_example, 0)
        corner = tf.constant(rng.integers(0, room + 1), tf.int32)
        encoding = image_encoding(self.builder)
        image, _ = crop(example, mask, corner, tf.constant(side_in_example), side, encoding)
        return image.numpy() if self.bands else np.round(image.numpy()).astype(np.uint8)


def _crop(image: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a random crop of an image; reflect-pads an image that is smaller than the crop."""
    first = [rng.integers(0, max(length - side, 0) + 1) for length in image.shape[:2]]
    rows, columns = (
        reflect_indices(np.arange(start, start + side), length)
        for start, length in zip(first, image.shape[:2], strict=True)
    )
    return image[rows][:, columns]


def _as_bands(scene: np.ndarray, bands: Bands | None) -> np.ndarray:
    """Converts an RGB scene to bands: the colors, and their mean for all other bands."""
    if bands is None:
        return scene
    values = np.stack(
        [
            scene.mean(axis=-1) if color is None else scene[..., COLORS.index(color)]
            for color in bands.colors
        ],
        axis=-1,
    )
    factor, offset = bands.affine
    return ((values - offset) / factor).astype(np.float32)


def samples_of(runs: Sequence[Run], scale: float) -> Samples:
    """Selects the source of the sample images for an export of runs.

    The source is the training data set of the first run whose data set still exists. If no data set
    exists, procedural scenes are used.

    Args:
        runs: the exported runs.
        scale: number of pixels of a sample image per pixel of the data set's images, along one
            side.
    """
    for run in runs:
        if run.fingerprint is None:  # the data set of an imported run is unknown
            continue
        try:
            builder = load(run.config.data.cache_dir, run.fingerprint)
            return Samples(builder, scale, bands=run.bands)
        except DatasetError:  # the data set is on another computer or was deleted
            continue
    return Samples(scale=scale, bands=runs[0].bands)
