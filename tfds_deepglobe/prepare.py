"""Writes a raw archive as TFRecords, once."""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core.utils import shard_utils

from tfds_deepglobe.archive import Archive, describe, open_archive, require_faultless
from tfds_deepglobe.classes import RGB, parse_color_map
from tfds_deepglobe.deepglobe_dataset_builder import Builder, DeepGlobeConfig
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.file_names import IMAGE_GLOB, MASK_PATTERN, FileNames
from tfds_deepglobe.splits import Assignment, assign, keep_present, read_split_files
from tfds_deepglobe.tensorflow_import import import_tensorflow


def prepare(
    data: str | Path,
    cache_dir: str | Path,
    *,
    image_glob: str = IMAGE_GLOB,
    mask_pattern: str = MASK_PATTERN,
    split_files: str | Path | None = None,
    map_color: Sequence[str] = (),
    num_shards: int = 16,
    seed: int = 0,
) -> tfds.core.DatasetBuilder:
    """Prepares the data set of a raw archive, unless it is prepared already.

    The data set is in `<cache_dir>/deepglobe/<fingerprint>/<version>/`. The fingerprint depends on
    the sizes of the files, the class table, the split and `map_color`. A failed call leaves no
    folder. Each file is read and decoded once. Progress and results are printed.

    Args:
        data: folder or zip with images and masks.
        cache_dir: folder of all prepared data sets.
        image_glob: names of images, with a `*` for their id, such as "images/*.tif".
        mask_pattern: names of masks, with a `*` for the id of their image.
        split_files: folder with `train.txt`, `crossvali.txt` or `val.txt`, and `test.txt`. None
            splits the images at random, 649 : 73 : 81.
        map_color: "R,G,B=CLASS" for each mask color that is not in the class table.
        num_shards: files per split; a split with fewer images has one file per image.
        seed: of the random split.

    Returns:
        A builder that reads the data set, with the splits `train`, `validation` and `test`. A split
        without images does not exist. `builder.info.metadata` contains `fingerprint`,
        `class_names`, `palette` and `num_examples`.

    Raises:
        InputError: The archive or an argument cannot be used.
        OSError: A file cannot be read or written.
    """
    if num_shards < 1:
        raise InputError(f"`num_shards` must be 1 or more. Received: num_shards={num_shards}.")
    archive = open_archive(data, FileNames.parse(image_glob, mask_pattern))
    color_map = archive.classes.resolve_color_map(parse_color_map(map_color))
    print(f"{archive.path}: {describe(archive)}")
    if archive.faults:  # pairs are missing, so the split would be wrong
        require_faultless(archive, color_map)
    ids = [pair.id for pair in archive.pairs]
    chosen_by: Mapping[str, int] | Assignment = {"seed": seed}
    if split_files is None:
        splits = assign(ids, seed)
    else:
        chosen_by = lists = read_split_files(split_files, archive.names)
        splits, absent, unlisted = keep_present(lists, ids)
        if absent:
            print(f"listed in {split_files}, but not in the archive: {_listed(absent)}")
        if unlisted:
            print(f"in no list of {split_files}, so in no split: {_listed(unlisted)}")
    fingerprint = _fingerprint(archive, color_map, chosen_by)
    directory = _directory(cache_dir, fingerprint)
    if directory.exists():
        print(f"already prepared: {directory}")
        return load(cache_dir, fingerprint)

    _check_destination(directory, sum(p.image.size + p.mask.size for p in archive.pairs))
    start = time.monotonic()
    config = DeepGlobeConfig(
        name=directory.parent.name,
        description=f"Prepared from {len(ids)} labeled images.",
        archive=archive,
        splits=splits,
        color_map=color_map,
        fingerprint=fingerprint,
    )
    with _exclusive(directory):  # TFDS keeps a data set that another process wrote meanwhile
        _write(config, cache_dir, num_shards)
    builder = load(cache_dir, fingerprint)
    for split, split_ids in splits.items():
        files = f"{builder.info.splits[split].num_shards} files" if split_ids else "skipped"
        print(f"{split}: {len(split_ids)} images, {files}")
    print(f"prepared in {time.monotonic() - start:.0f} s: {directory}")
    return builder


def load(cache_dir: str | Path, fingerprint: str) -> tfds.core.DatasetBuilder:
    """Opens a prepared data set, without its raw archive.

    Args:
        cache_dir: as for `prepare`.
        fingerprint: `builder.info.metadata["fingerprint"]`, or its first 16 digits.

    Raises:
        InputError: The data set does not exist.
    """
    directory = _directory(cache_dir, fingerprint)
    if not directory.exists():
        raise InputError(
            f"No prepared data set in {directory}. Prepare it from its archive, or choose another "
            "`cache_dir`."
        )
    return tfds.builder_from_directory(directory)


def _fingerprint(
    archive: Archive,
    color_map: Mapping[RGB, int],
    chosen_by: Mapping[str, int] | Assignment,
) -> str:
    """Hashes the content of a data set. A folder and a zip of the same files have one hash.

    Only the sizes of files are hashed, so that a prepared data set is found without reading files.
    """
    content = {
        "version": str(Builder.VERSION),
        "files": sorted((p.id, p.image.size, p.mask.size) for p in archive.pairs),
        "classes": [archive.classes.names, archive.classes.palette],
        "color_map": sorted(color_map.items()),
        "splits": chosen_by,
    }
    if archive.image_encoding != "jpeg":
        content["image_encoding"] = archive.image_encoding
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _directory(cache_dir: str | Path, fingerprint: str) -> Path:
    """Returns the folder of a data set, named by TFDS. It does not exist until it is complete."""
    return Path(cache_dir) / Builder.name / fingerprint[:16] / str(Builder.VERSION)


def _check_destination(directory: Path, num_bytes: int) -> None:
    """Raises an InputError early if the folder cannot be written or the disk is too small."""
    parent = next(parent for parent in directory.absolute().parents if parent.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise InputError(
            f"Cannot write to {parent}: it is a file, or its permissions forbid it. Choose another "
            "`cache_dir`."
        )
    if (free := shutil.disk_usage(parent).free) < num_bytes:
        raise InputError(
            f"The data set needs {num_bytes / 1e9:.1f} GB, but {parent} has only "
            f"{free / 1e9:.1f} GB left. Make room, or choose another `cache_dir`."
        )


@contextlib.contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """Locks the cache while a data set is written, and deletes what failures leave.

    The system releases the lock when its process ends for any reason. So an incomplete folder
    belongs to a process that has ended.
    """
    config_dir = directory.parent
    cache_dir = config_dir.parent.parent
    cache_dir.mkdir(parents=True, exist_ok=True)
    lock = os.open(cache_dir, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another process that prepares a data set here")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass  # a network file system without locks: only one process is safe
        for leftover in config_dir.glob("incomplete.*"):  # prefix of TFDS
            shutil.rmtree(leftover)
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty: the data set is complete
            config_dir.rmdir()
            config_dir.parent.rmdir()
        os.close(lock)


def _write(config: DeepGlobeConfig, cache_dir: str | Path, num_shards: int) -> None:
    """Writes the data set with TFDS, without TFDS's output and progress bars."""
    tf = import_tensorflow()  # takes seconds; not needed for a data set that is prepared already
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.display_progress_bar(False)
    try:
        # TFDS creates folders for downloads even if nothing is downloaded.
        with tempfile.TemporaryDirectory() as unused, contextlib.redirect_stdout(io.StringIO()):
            Builder(data_dir=cache_dir, config=config).download_and_prepare(
                download_dir=unused,
                download_config=_DownloadConfig(num_shards=num_shards),
            )
    except (RuntimeError, tf.errors.OpError) as error:
        # For a full disk, TensorFlow raises its own error, which TFDS wraps in a RuntimeError.
        cause = error if isinstance(error, tf.errors.OpError) else error.__cause__
        if isinstance(cause, tf.errors.OpError):
            raise OSError(f"writing the data set failed: {cause.message}") from error
        raise
    finally:
        tfds.display_progress_bar(True)
        logging.set_verbosity(verbosity)


class _ShardConfig(shard_utils.ShardConfig):
    """A fixed number of shards, but none empty: TFDS fails with fewer examples than shards."""

    def get_number_shards(self, total_size: int, num_examples: int, *args: bool) -> int:
        return min(super().get_number_shards(total_size, num_examples, *args), num_examples)


class _DownloadConfig(tfds.download.DownloadConfig):
    def get_shard_config(self) -> shard_utils.ShardConfig:
        return _ShardConfig(num_shards=self.num_shards)


def _listed(ids: list[str]) -> str:
    """Formats ids and their number."""
    return f"{len(ids)} images: {', '.join(ids)}"
