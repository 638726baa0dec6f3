"""Turns a raw archive into TFRecords, once."""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core.utils import shard_utils

from tfds_deepglobe.archive import Archive, describe, open_archive, verify
from tfds_deepglobe.classes import RGB
from tfds_deepglobe.deepglobe_dataset_builder import Builder, DeepGlobeConfig
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.file_names import FileNames
from tfds_deepglobe.splits import Assignment, assign, keep_present, read_split_files
from tfds_deepglobe.tensorflow_import import import_tensorflow


def prepare(
    data: str | Path,
    cache_dir: str | Path,
    *,
    names: FileNames | None = None,
    split_files: str | Path | None = None,
    color_map: Mapping[RGB, str] | None = None,
    num_shards: int = 16,
    seed: int = 0,
) -> tfds.core.DatasetBuilder:
    """Makes the data set of a raw archive, unless it is there already, and reports what it does.

    All files are verified before the first byte is written, and the data set appears under its
    name when it is complete. It lies in `<cache_dir>/deepglobe/<fingerprint>/<version>/`, and is
    made anew when a file's size, the class table or an argument below but
    `num_shards` changes.

    Args:
        data: folder or zip with images and masks.
        cache_dir: where prepared data sets are kept.
        names: what the files are called; None for `<id>_sat.jpg` and `<id>_mask.png`. Other names
            of the same files make no other data set.
        split_files: folder with `train.txt`, `crossvali.txt` or `val.txt`, and `test.txt`; without
            it the images are split 649 : 73 : 81 at random.
        color_map: colours that are not in the class table, each with the class it counts as.
        num_shards: files per split; a split with fewer images has one file per image.
        seed: of the random split.

    Returns:
        A builder that reads the data set, with the splits `train`, `validation` and `test`. A split
        without images is left out. `builder.info.metadata` holds `fingerprint`, `class_names`,
        `palette` and `num_examples`.

    Raises:
        InputError: the archive or an argument cannot be used; the message says why.
        OSError: a file cannot be read or written.
    """
    if num_shards < 1:
        raise InputError(f"the number of shards must be at least 1. Received: {num_shards}.")
    archive = open_archive(data, names)
    class_of_color = archive.classes.resolve_color_map(color_map or {})
    print(f"{archive.path}: {describe(archive)}")
    if archive.faults:  # with wrong names there is nothing to split or to look for in the cache
        _require_faultless(archive, class_of_color)
    ids = [pair.id for pair in archive.pairs]
    if split_files is None:
        chosen_by = {"seed": seed}
        splits = assign(ids, seed)
    else:
        chosen_by = lists = read_split_files(split_files, archive.names)
        splits, absent, unlisted = keep_present(lists, ids)
        if absent:
            print(f"listed in {split_files}, but not in the archive: {_listed(absent)}")
        if unlisted:
            print(f"in no list of {split_files}, so in no split: {_listed(unlisted)}")
    fingerprint = _fingerprint(archive, class_of_color, chosen_by)
    directory = _directory(cache_dir, fingerprint)
    if directory.exists():
        print(f"already prepared: {directory}")
        return load(cache_dir, fingerprint)

    _check_destination(directory, sum(p.image.size + p.mask.size for p in archive.pairs))
    start = time.monotonic()
    _require_faultless(archive, class_of_color)
    config = DeepGlobeConfig(
        name=directory.parent.name,
        description=f"Made of {len(ids)} labelled images.",
        archive=archive,
        splits=splits,
        color_map=class_of_color,
        fingerprint=fingerprint,
    )
    with _alone(directory):  # where another process was faster, TFDS leaves its data set as it is
        _write(config, cache_dir, num_shards)
    builder = load(cache_dir, fingerprint)
    for split, split_ids in splits.items():
        files = f"{builder.info.splits[split].num_shards} files" if split_ids else "left out"
        print(f"{split}: {len(split_ids)} images, {files}")
    print(f"prepared in {time.monotonic() - start:.0f} s: {directory}")
    return builder


def load(cache_dir: str | Path, fingerprint: str) -> tfds.core.DatasetBuilder:
    """Opens a data set that `prepare` made, without its raw archive.

    Args:
        cache_dir: the one that `prepare` got.
        fingerprint: `builder.info.metadata["fingerprint"]`, or its first 16 digits.

    Raises:
        InputError: there is no such data set.
    """
    directory = _directory(cache_dir, fingerprint)
    if not directory.exists():
        raise InputError(
            f"no prepared data set in {directory}; make it with python -m tfds_deepglobe prepare "
            f"--data PATH --cache-dir {cache_dir}"
        )
    return tfds.builder_from_directory(directory)


def _fingerprint(
    archive: Archive,
    color_map: Mapping[RGB, int],
    chosen_by: Mapping[str, int] | Assignment,
) -> str:
    """Hashes what a data set is made of; a folder and a zip of the same files hash alike.

    Of the files it takes the sizes alone, so that nothing need be read to find that all is there.
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
    """Where TFDS puts the data set; it exists only when it is complete."""
    return Path(cache_dir) / Builder.name / fingerprint[:16] / str(Builder.VERSION)


def _check_destination(directory: Path, num_bytes: int) -> None:
    """Refuses at once what would fail after the files are verified."""
    parent = next(parent for parent in directory.absolute().parents if parent.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise InputError(f"cannot write to {parent}: no permission, or no folder; try --cache-dir")
    if (free := shutil.disk_usage(parent).free) < num_bytes:
        raise InputError(
            f"the data set needs {num_bytes / 1e9:.1f} GB, but {parent} has only "
            f"{free / 1e9:.1f} GB left; try --cache-dir"
        )


def _require_faultless(archive: Archive, color_map: Mapping[RGB, int]) -> None:
    """Verifies all files; raises an InputError that lists the faults, a line each."""
    faults = verify(archive, color_map).faults
    if not faults:
        return
    raise InputError(
        "\n".join([f"{archive.path} cannot be used, {len(faults)} fault(s):", *faults])
    )


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keeps other processes from the cache while a data set is made, and clears failures' traces.

    The system drops the lock when its process ends, however that ends; so whatever is incomplete
    under the lock is a dead process's.
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
            pass  # some network file systems lock no folders; then it is one process at a time
        for leftover in config_dir.glob("incomplete.*"):  # TFDS's prefix
            shutil.rmtree(leftover)
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty: the data set is there
            config_dir.rmdir()
            config_dir.parent.rmdir()
        os.close(lock)


def _write(config: DeepGlobeConfig, cache_dir: str | Path, num_shards: int) -> None:
    """Lets TFDS write the data set, quietly, since `prepare` reports and shows progress itself."""
    tf = import_tensorflow()  # takes seconds; a data set that is there is opened without
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.display_progress_bar(False)
    try:
        # TFDS makes folders for downloads even where nothing is downloaded.
        with tempfile.TemporaryDirectory() as unused, contextlib.redirect_stdout(io.StringIO()):
            Builder(data_dir=cache_dir, config=config).download_and_prepare(
                download_dir=unused,
                download_config=_DownloadConfig(num_shards=num_shards),
            )
    except (RuntimeError, tf.errors.OpError) as error:
        # On a full disk TensorFlow raises an error of its own, which TFDS wraps in a RuntimeError.
        cause = error if isinstance(error, tf.errors.OpError) else error.__cause__
        if isinstance(cause, tf.errors.OpError):
            raise OSError(f"writing the data set failed: {cause.message}") from error
        raise
    finally:
        tfds.display_progress_bar(True)
        logging.set_verbosity(verbosity)


class _ShardConfig(shard_utils.ShardConfig):
    """As many shards as asked for, but none empty: TFDS fails with fewer examples than shards."""

    def get_number_shards(self, total_size: int, num_examples: int, *args: bool) -> int:
        return min(super().get_number_shards(total_size, num_examples, *args), num_examples)


class _DownloadConfig(tfds.download.DownloadConfig):
    def get_shard_config(self) -> shard_utils.ShardConfig:
        return _ShardConfig(num_shards=self.num_shards)


def _listed(ids: list[str]) -> str:
    """Counts and names ids."""
    return f"{len(ids)} images: {', '.join(ids)}"
