"""Examples of the data set: features for TFDS, and values that the whole data set needs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tfds_deepglobe.archive import Archive, count_pixels
from tfds_deepglobe.bands import Raster, sampled_values
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, RGB
from tfds_deepglobe.pairing import Pair
from tfds_deepglobe.tensorflow_import import import_tensorflow


@dataclasses.dataclass(frozen=True)
class Measures:
    """Values of an image and its mask that the whole data set needs.

    Attributes:
        size: number of pixels.
        pixels: number of pixels per class, int64 `(num_classes,)`.
        sample: result of `sampled_values`, float32 `(n, bands)`. None for an image without `bands`
            and for an image that is not a training image.
    """

    size: int
    pixels: np.ndarray
    sample: np.ndarray | None


def features_of(archive: Archive | None) -> tfds.features.FeaturesDict:
    """Returns the TFDS features of an archive; None for the archive of DeepGlobe."""
    classes = archive.classes if archive else DEEPGLOBE_CLASSES
    return tfds.features.FeaturesDict(
        {
            "image": _image_feature(archive),
            "segmentation_mask": tfds.features.LabeledImage(
                labels=list(classes.names),
                shape=(None, None, 1),
                encoding_format="png",
                doc="Class ids.",
            ),
            "id": tfds.features.Text(doc="Part of the file name that is unique to the image."),
        }
    )


def read_example(
    archive: Archive, pair: Pair, color_map: Mapping[RGB, int], num_sampled: int
) -> tuple[dict[str, Any], Measures]:
    """Reads an image and its mask.

    Args:
        archive: the archive.
        pair: an element of `archive.pairs`.
        color_map: class ids of colors that are not in the class table.
        num_sampled: number of training images, from which values are sampled; 0 for an image that
            is not a training image.

    Returns:
        The values of the features, and the measures.

    Raises:
        FileFaultsError: The image or the mask cannot be used.
    """
    example = archive.read(pair, color_map)
    values = {
        "image": example.encoded_image(),
        "segmentation_mask": example.encoded_mask(),
        "id": pair.id,
    }
    pixels = count_pixels(example.class_ids, archive.classes.num_classes)
    sample = None
    if isinstance(example.image, Raster) and num_sampled:
        sample = sampled_values(example.image, num_sampled)
    return values, Measures(example.class_ids.size, pixels, sample)


def ordered_record(record: bytes) -> bytes:
    """Sorts the features of a serialized `tf.train.Example` by name.

    TFDS serializes them in an order that differs from process to process.
    """
    tf = import_tensorflow()
    return tf.train.Example.FromString(record).SerializeToString(deterministic=True)


def _image_feature(archive: Archive | None) -> tfds.features.FeatureConnector:
    """Returns the TFDS feature that stores the images."""
    if archive and archive.bands:
        bands = archive.bands
        return tfds.features.Tensor(
            shape=(None, None, len(bands.numbers)),
            dtype=np.dtype(bands.dtype).type,
            encoding=tfds.features.Encoding.ZLIB,
            doc=f"Values of {bands}, as in the archive. Nodata pixels are NaN in float32.",
        )
    return tfds.features.Image(
        shape=(None, None, 3),
        encoding_format=archive.image_encoding if archive else "jpeg",
        doc="RGB. JPEG and PNG images have the same bytes as in the archive.",
    )
