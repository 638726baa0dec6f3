"""Data sets for training. A data set is prepared on first use; later it is only opened.

The data set "demo" consists of procedural scenes, which are synthetic images with exact masks. This
program draws the scenes. Therefore, "demo" needs no download.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds

from lcc_tf.data.demo import MIN_COUNT, write_demo_archive
from lcc_tf.data.demo_scenes import MIN_SIZE
from lcc_tf.errors import InputError
from tfds_deepglobe.classes import ClassTable
from tfds_deepglobe.errors import InputError as DatasetError
from tfds_deepglobe.prepare import prepare
from tfds_deepglobe.shards import check_records

DEMO = "demo"


def prepare_dataset(
    data: str,
    *,
    cache_dir: str,
    image_glob: str | None,
    mask_pattern: str | None,
    bands: str | None,
    split: str,
    split_files: str | None,
    group_by: str,
    map_color: Sequence[str],
    merge: Sequence[str],
    void: Sequence[str],
    demo_count: int,
    demo_size: int,
) -> tfds.core.DatasetBuilder:
    """Prepares a data set, or opens the data set if it is already prepared.

    Args:
        data: path of the raw archive, which is a folder or a zip, or "demo" for procedural scenes.
        cache_dir: folder of prepared data sets and of the scenes of "demo".
        image_glob: name pattern of the images, such as "images/*.tif". The `*` in the file name
            stands for the id of the image. None to recognize the patterns. "demo" ignores this
            argument.
        mask_pattern: name pattern of the masks. None to recognize the patterns. "demo" ignores this
            argument.
        bands: bands to use, see `tfds_deepglobe.prepare.prepare`. "demo" ignores this argument.
        split: "folders", "random" or "auto", see `tfds_deepglobe.prepare.prepare`.
        split_files: folder with split lists, instead of `split`.
        group_by: images that a random split keeps together, see `tfds_deepglobe.prepare.prepare`.
        map_color: texts "R,G,B=CLASS" that assign classes to mask colors that are not in the class
            table.
        merge: texts "NEW=A+B" that merge classes.
        void: names of classes, or values of masks, whose pixels have no ground truth.
        demo_count: number of scenes of "demo".
        demo_size: side of the scenes of "demo", pixels.

    Returns:
        A builder with the splits "train", "validation" and "test".

    Raises:
        InputError: The archive does not exist, or an argument is out of range.
        tfds_deepglobe.errors.InputError: A file of the archive cannot be used, a name pattern is
            not valid, the prepared data set is damaged, or a file has changed since the
            preparation.
    """
    if data == DEMO:
        for argument, value, minimum in (
            ("demo_count", demo_count, MIN_COUNT),
            ("demo_size", demo_size, MIN_SIZE),
        ):
            if value < minimum:
                raise InputError(
                    f"`{argument}` must be {minimum} or more. Received: {argument}={value}."
                )
        name = f"demo_{demo_count}x{demo_size}px"
        data = str(write_demo_archive(Path(cache_dir) / name, count=demo_count, size=demo_size))
        image_glob, mask_pattern, bands = None, None, None
    try:
        return prepare(
            data,
            cache_dir,
            image_glob=image_glob,
            mask_pattern=mask_pattern,
            bands=bands,
            split=split,
            split_files=split_files,
            group_by=group_by,
            map_color=map_color,
            merge=merge,
            void=void,
        )
    except DatasetError as error:
        if Path(data).exists():
            raise
        raise InputError(
            f"{error} Or use procedural scenes, which need no download: `data={DEMO}`."
        ) from error


def class_table(builder: tfds.core.DatasetBuilder) -> ClassTable:
    """Returns the names and colors of the classes of a prepared data set."""
    metadata = builder.info.metadata
    return ClassTable(
        tuple(metadata["class_names"]), tuple(tuple(color) for color in metadata["palette"])
    )


@contextlib.contextmanager
def reading(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
    """Context manager that names the damaged file if TensorFlow cannot read a data set.

    The messages of TensorFlow do not contain the name of the file. Therefore, all files are read
    again to find the damaged file.

    Args:
        builder: builder of a prepared data set.

    Raises:
        tfds_deepglobe.errors.InputError: A file of the data set is missing or damaged.
    """
    try:
        yield
    except (
        tf.errors.DataLossError,
        tf.errors.InvalidArgumentError,
        tf.errors.NotFoundError,
    ):
        check_records(builder)
        raise
