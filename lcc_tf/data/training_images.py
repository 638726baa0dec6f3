"""Record of the images on which a run was trained, stored in the run folder."""

import collections
import json
from pathlib import Path

import tensorflow_datasets as tfds

from lcc_tf.errors import InputError
from lcc_tf.files import write_atomically
from tfds_deepglobe.source_files import image_checksums

RECORD = "training_images.json"  # file in the run folder
SPLITS = ("train", "validation")


def write_training_images(folder: Path, builder: tfds.core.DatasetBuilder) -> None:
    """Writes the checksums of the training and validation images into a run folder.

    The prepared data set can be deleted later. `evaluate.py` then still finds these images in
    another data set. A data set of an earlier version has no checksums, and nothing is written.

    Args:
        folder: the run folder.
        builder: the prepared data set of the run.
    """
    checksums = {}
    for split in SPLITS:
        counts = collections.Counter(image_checksums(Path(builder.data_dir), split).values())
        # Skip repeated checksums, because images of a single color can be equal by chance.
        checksums[split] = sorted(value for value, count in counts.items() if count == 1)
    if checksums["train"]:
        write_atomically(folder / RECORD, json.dumps(checksums).encode())


def read_training_images(folder: Path) -> dict[str, set[int]] | None:
    """Reads the checksums of the images in the splits "train" and "validation" of a run.

    Returns:
        CRC-32 checksums per split; None for a run of an earlier version.

    Raises:
        InputError: the file is damaged.
    """
    file = folder / RECORD
    if not file.exists():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {split: set(map(int, content[split])) for split in SPLITS}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{file} cannot be read: {error!r}. Restore the file, or delete this file to score "
            "the run without a search for training images."
        ) from error
