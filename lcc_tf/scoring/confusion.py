"""Members, their averages and a split -> confusion matrices of each image, by protocol."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from lcc_tf.data.decoding import decode_image, decode_mask, image_encoding
from lcc_tf.data.pipeline import encoded_examples, split_size
from lcc_tf.prediction.predictors import Average, Predictor
from lcc_tf.scoring.color_baseline import ColorBaseline
from lcc_tf.scoring.protocols import Protocol, predicted_ids, probability_matrix, protocol_matrix

COLOR_BASELINE = "color_baseline"
# Scored at a time, so that the full-size probabilities of many predictors are never held at once.
STRIP_PIXELS = 2**17


@dataclass(frozen=True)
class Predictors:
    """All that is scored side by side, each by its name."""

    members: Sequence[Predictor]
    ensembles: dict[str, Average]
    baseline: ColorBaseline | None = None

    def at(
        self, own: Sequence[np.ndarray], image: np.ndarray, rows: slice
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Gives each predictor's probabilities of some rows of an image.

        Args:
            own: of each member's `predict`.
            image: `(height, width, 3)`, RGB in [0, 255], of the size that is scored.
            rows: of that image.

        Yields:
            Name, and float32 `(rows, width, num_classes)`.
        """
        resized = [resized_rows(p, image.shape[:2], rows) for p in own]
        yield from zip((member.name for member in self.members), resized, strict=True)
        for name, average in self.ensembles.items():
            yield name, average(resized)
        if self.baseline:
            yield COLOR_BASELINE, self.baseline.probabilities(image[rows])


class SplitCounts:
    """Collects what scores are computed of, image by image.

    Args:
        protocols: to score by.
        class_names: of the data set.
    """

    def __init__(self, protocols: Sequence[Protocol], class_names: Sequence[str]) -> None:
        self.protocols = protocols
        self.class_names = class_names
        self._matrices: dict[str, dict[str, list]] = {p.name: defaultdict(list) for p in protocols}

    def add(
        self,
        predictors: Predictors,
        own: Sequence[np.ndarray],
        image: np.ndarray,
        mask: np.ndarray,
    ) -> None:
        """Counts one image.

        Args:
            predictors: the same ones for each image.
            own: of each member's `predict`.
            image: uint8 `(height, width, 3)`, RGB, as it is in the data set.
            mask: uint8 `(height, width)`, class ids, as it is in the data set.
        """
        for side in {protocol.side for protocol in self.protocols}:
            protocols = [protocol for protocol in self.protocols if protocol.side == side]
            counts = self._count(predictors, own, *at_side(image, mask, side), protocols)
            for (protocol, name), matrices in counts.items():
                self._matrices[protocol][name].append(matrices)

    def _count(
        self,
        predictors: Predictors,
        own: Sequence[np.ndarray],
        image: np.ndarray,
        truth: np.ndarray,
        protocols: Sequence[Protocol],
    ) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
        """By protocol and predictor: the matrices of an image of the size that is scored."""

        def count_strip(rows: slice) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
            counts = {}
            for name, p in predictors.at(own, image, rows):
                sums = probability_matrix(truth[rows], p)
                for protocol in protocols:
                    ids = predicted_ids(p, protocol, self.class_names)
                    matrix = protocol_matrix(truth[rows], ids, protocol, self.class_names)
                    counts[protocol.name, name] = matrix, sums
            return counts

        height, width = truth.shape
        step = max(STRIP_PIXELS // width, 1)
        strips = [slice(i, min(i + step, height)) for i in range(0, height, step)]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            counted = list(threads.map(count_strip, strips))
        return {
            key: tuple(sum(part) for part in zip(*(counts[key] for counts in counted), strict=True))
            for key in counted[0]
        }

    def matrices(self, protocol: Protocol) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """By the predictor's name: confusion matrices and sums of probabilities of all images.

        Returns:
            int64 and float64, both `(num_images, num_classes, num_classes)`.
        """
        return {
            name: tuple(np.stack(part) for part in zip(*counts, strict=True))
            for name, counts in self._matrices[protocol.name].items()
        }


def native_images(
    builder: tfds.core.DatasetBuilder, split: str, progress: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images and masks of a split as they are in the data set, under a progress bar.

    Args:
        builder: a prepared data set.
        split: "train", "validation" or "test".
        progress: what to call the bar.

    Yields:
        Image, uint8 `(height, width, 3)`, RGB, and mask, uint8 `(height, width)`, class ids.

    Raises:
        InputError: the split is empty.
    """
    encoding = image_encoding(builder)

    def decode(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        image = decode_image(example["image"], encoding)
        return image, decode_mask(example["segmentation_mask"])

    total = split_size(builder, split)
    images = encoded_examples(builder, split).map(decode, num_parallel_calls=2).prefetch(2)
    yield from tqdm(images.as_numpy_iterator(), total=total, desc=progress, unit="image")


def at_side(image: np.ndarray, mask: np.ndarray, side: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Resizes an image bilinearly and its mask to the nearest, as training on whole images does.

    Args:
        image: uint8 `(height, width, 3)`.
        mask: uint8 `(height, width)`.
        side: of the square, pixels; None to leave them as they are.
    """
    return (image, mask) if side is None else at_size(image, mask, (side, side))


def at_size(
    image: np.ndarray, mask: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Resizes an image bilinearly and its mask to the nearest.

    Args:
        image: uint8 `(height, width, 3)`.
        mask: uint8 `(height, width)`.
        size: new height and width, pixels.
    """
    image = tf.image.resize(image, size, method="bilinear")
    mask = tf.image.resize(mask[..., None], size, method="nearest")[..., 0]
    return image.numpy(), mask.numpy()


def resized_rows(x: np.ndarray, size: tuple[int, int], rows: slice) -> np.ndarray:
    """Some rows of what `tf.image.resize` makes of a map bilinearly.

    Args:
        x: float32 `(height, width, channels)`.
        size: new height and width, pixels.
        rows: of the new map, with both ends.

    Returns:
        float32 `(rows, new width, channels)`.
    """
    for axis, places in enumerate((np.arange(rows.start, rows.stop), np.arange(size[1]))):
        length = x.shape[axis]
        if length == size[axis]:
            x = x if axis else x[rows]
            continue
        # Pixel centres are at half-integers; beyond the outer ones the outer value holds.
        at = ((places + 0.5) * (length / size[axis]) - 0.5).clip(0, length - 1)
        low = at.astype(np.int64)
        share = (at - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        below, above = x.take(low, axis), x.take(np.minimum(low + 1, length - 1), axis)
        x = below + (above - below) * share
    return x
