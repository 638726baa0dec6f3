"""Data sets for training: prepared on first use, then opened."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from lcc_tf.data.demo import MIN_COUNT, write_demo_archive
from lcc_tf.data.demo_scenes import MIN_SIZE
from lcc_tf.errors import InputError
from tfds_deepglobe.classes import ClassTable
from tfds_deepglobe.errors import InputError as DatasetError
from tfds_deepglobe.file_names import IMAGE_GLOB, MASK_PATTERN
from tfds_deepglobe.prepare import prepare

DEMO = "demo"


def prepare_dataset(
    data: str,
    *,
    cache_dir: str,
    image_glob: str,
    mask_pattern: str,
    split_files: str | None,
    map_color: Sequence[str],
    demo_count: int,
    demo_size: int,
) -> tfds.core.DatasetBuilder:
    """Prepares a data set, or opens it if it is prepared already.

    Args:
        data: folder or zip of the raw archive, or "demo" for procedural scenes.
        cache_dir: folder of prepared data sets and of the scenes of "demo".
        image_glob: names of images, with a `*` for their id, such as "images/*.tif". "demo" ignores
            it.
        mask_pattern: names of masks, with a `*` for the id of their image. "demo" ignores it.
        split_files: folder of split lists; None for a seeded random split.
        map_color: "R,G,B=CLASS" for each mask color that is not in the class table.
        demo_count: number of scenes for "demo".
        demo_size: side of these scenes, pixels.

    Returns:
        A builder with the splits "train", "validation" and "test".

    Raises:
        InputError: The archive does not exist, or an argument is out of range.
        tfds_deepglobe.errors.InputError: The archive is faulty, or a name pattern is not valid.
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
        image_glob, mask_pattern = IMAGE_GLOB, MASK_PATTERN
    try:
        return prepare(
            data,
            cache_dir,
            image_glob=image_glob,
            mask_pattern=mask_pattern,
            split_files=split_files,
            map_color=map_color,
        )
    except DatasetError as error:
        if Path(data).exists():
            raise
        raise InputError(f"{error} Procedural scenes need no download: `data={DEMO}`.") from error


def class_table(builder: tfds.core.DatasetBuilder) -> ClassTable:
    """Returns the names and colors of the classes of a prepared data set."""
    metadata = builder.info.metadata
    return ClassTable(
        tuple(metadata["class_names"]), tuple(tuple(color) for color in metadata["palette"])
    )
