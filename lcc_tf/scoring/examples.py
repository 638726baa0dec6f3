"""Images and masks for scoring, from a prepared data set or from the user."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from lcc_tf.bands import Bands
from lcc_tf.data.dataset import reading
from lcc_tf.data.decoding import decode_image, decode_mask, image_encoding, with_no_truth
from lcc_tf.data.pipeline import encoded_examples, split_size
from lcc_tf.errors import InputError
from lcc_tf.ground_truth import NO_TRUTH

Example = tuple[np.ndarray, np.ndarray]  # image and mask


def split_examples(
    builder: tfds.core.DatasetBuilder, split: str, progress: str
) -> Iterator[Example]:
    """Reads the images and masks of a split without resizing, and shows a progress bar.

    Args:
        builder: a prepared data set.
        split: "train", "validation" or "test".
        progress: title of the progress bar.

    Yields:
        Pairs of an image and a mask. The image is uint8 `(height, width, 3)`, RGB, or has the shape
        `(height, width, bands)` and the original values. The mask is int32 `(height, width)`, class
        ids. Void pixels have the label `lcc_tf.ground_truth.NO_TRUTH`.

    Raises:
        InputError: the split is empty.
        tfds_deepglobe.errors.InputError: a file of the data set is damaged.
    """
    encoding = image_encoding(builder)

    def decode(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        image = decode_image(example["image"], encoding)
        return image, with_no_truth(decode_mask(example["segmentation_mask"]))

    total = split_size(builder, split)
    examples = encoded_examples(builder, split).map(decode, num_parallel_calls=2).prefetch(2)
    with reading(builder):
        yield from tqdm(examples.as_numpy_iterator(), total=total, desc=progress, unit="image")


def check_examples(
    examples: Iterable,
    num_classes: int,
    ignore_class: int | None = None,
    bands: Bands | None = None,
) -> Iterator[Example]:
    """Checks and yields the user's images and masks.

    Args:
        examples: see `lcc_tf.scoring.evaluate.evaluate`.
        num_classes: number of classes.
        ignore_class: label of pixels without ground truth, which is not a class id; None if every
            pixel has ground truth.
        bands: bands of the images; None for RGB in [0, 255].

    Yields:
        Pairs of an image, uint8 `(height, width, 3)`, RGB, and its mask, integer
        `(height, width)`, class ids. Pixels without ground truth have the label
        `lcc_tf.ground_truth.NO_TRUTH`.

    Raises:
        InputError: an example is not an image with its mask, or a label is not a class id.
    """
    for index, example in enumerate(examples):
        if isinstance(example, Mapping) and {"image", "segmentation_mask"} <= set(example):
            example = example["image"], example["segmentation_mask"]  # as in the TFDS data set
        if not isinstance(example, (tuple, list)) or len(example) != 2:
            raise InputError(
                "`examples` must yield pairs of an image and its mask, or dictionaries with the "
                f"keys 'image' and 'segmentation_mask'. Received: {_description(example)} as "
                f"example {index}. For a single image, use `[(image, mask)]`."
            )
        image, mask = (np.asarray(array) for array in example)
        if mask.ndim == 3 and mask.shape[2] == 1:
            mask = mask[..., 0]
        channels = len(bands) if bands else 3
        is_image = image.dtype.kind in "uif" if bands else image.dtype == np.uint8
        if (
            not is_image
            or image.shape != (*mask.shape, channels)
            or mask.ndim != 2
            or not np.issubdtype(mask.dtype, np.integer)
            or not mask.size
        ):
            raise InputError(
                f"`examples` must yield pairs of an image, {'numbers' if bands else 'uint8'} "
                f"(height, width, {channels}), and its mask, integer"
                " (height, width), without a batch dimension. Received: image "
                f"{image.dtype} {image.shape} and mask {mask.dtype} {mask.shape} as example "
                f"{index}."
            )
        if mask.dtype == np.uint64:  # no integer dtype contains all values of uint64 and also -1
            mask = np.minimum(mask, np.iinfo(np.int64).max).astype(np.int64)
        if ignore_class is not None:
            mask = np.where(mask == ignore_class, np.int32(NO_TRUTH), mask)
        if not NO_TRUTH <= mask.min() <= mask.max() < num_classes:
            raise InputError(
                f"Masks must contain class ids in [0, {num_classes}), or {NO_TRUTH} for pixels "
                f"without ground truth. Received: {mask.min()} to {mask.max()} in example {index}. "
                "If pixels without ground truth have another label, set `ignore_class` to this "
                "label."
            )
        yield image, mask


def _description(example: object) -> str:
    """Describes an invalid example for an error message."""
    if isinstance(example, Mapping):
        return f"a dictionary with the keys {list(example)}"
    if isinstance(example, (tuple, list)):
        return f"{len(example)} values"
    return f"a single value of the type {type(example).__name__}"
