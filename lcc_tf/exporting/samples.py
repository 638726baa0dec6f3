"""Images that exports are checked on, and that int8 is calibrated with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from lcc_tf.data.decoding import decode_mask, image_encoding
from lcc_tf.data.demo import MIN_SIZE, render_scene
from lcc_tf.data.framing import cut
from lcc_tf.data.pipeline import encoded_examples
from lcc_tf.runs import Run
from tfds_deepglobe.errors import InputError as DatasetError
from tfds_deepglobe.prepare import load

SEED = 0  # of the corners of crops, and of procedural scenes


@dataclass(frozen=True)
class Samples:
    """Where sample images come from.

    A network that was trained answers noise by chance, so that an export's agreement on noise says
    nothing: samples are images of the kind that it was trained on.
    """

    builder: tfds.core.DatasetBuilder | None = None  # None: procedural scenes
    scale: float = 1.0  # pixels of a sample for a pixel of the data set's images, a side

    def __str__(self) -> str:
        if self.builder is None:
            return "procedural scenes"
        return f"images of {self.builder.data_dir}"

    def squares(self, split: str, side: int, count: int) -> list[np.ndarray]:
        """Cuts squares out of images, one of each image until all have had their turn.

        Args:
            split: "train" or "test"; the training split stands in for one without images.
            side: of the squares, pixels of the samples.
            count: how many.

        Returns:
            uint8 `(side, side, 3)` each, RGB; the same ones for the same arguments.
        """
        if self.builder is None:
            # Other scenes than those of "demo", which a network may have been trained on
            first = 10**6 if split == "test" else 2 * 10**6
            scenes = [render_scene(SEED, first + i, max(side, MIN_SIZE))[0] for i in range(count)]
            return [scene[:side, :side] for scene in scenes]
        if split not in self.builder.info.splits:
            split = "train"
        rng = np.random.default_rng(SEED)
        examples = encoded_examples(self.builder, split).repeat().take(count)
        return [self._square(example, side, rng) for example in examples]

    def _square(
        self, example: dict[str, tf.Tensor], side: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Cuts a square out of an example at random."""
        mask = decode_mask(example["segmentation_mask"])
        side_there = round(side / self.scale)
        room = np.maximum(np.array(mask.shape) - side_there, 0)
        corner = tf.constant(rng.integers(0, room + 1), tf.int32)
        encoding = image_encoding(self.builder)
        image, _ = cut(example, mask, corner, tf.constant(side_there), side, encoding)
        return np.round(image.numpy()).astype(np.uint8)


def samples_of(runs: Sequence[Run], scale: float) -> Samples:
    """The data set of the first run whose data set is there, or procedural scenes.

    Args:
        runs: what is exported.
        scale: see `Samples`.
    """
    for run in runs:
        if run.fingerprint is None:  # imported: nobody knows what it was trained on
            continue
        try:
            return Samples(load(run.config.data.cache_dir, run.fingerprint), scale)
        except DatasetError:  # the run has come from another machine, or the cache was emptied
            continue
    return Samples(scale=scale)
