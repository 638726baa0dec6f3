"""Preparation of a data set: writes a raw archive as TFRecords, unless they already exist."""

import contextlib
import dataclasses
import fcntl
import functools
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

from tfds_deepglobe.archive import (
    Archive,
    describe,
    open_archive,
    remarks,
    require_faultless,
    turned_line,
    with_bands,
    with_labels,
)
from tfds_deepglobe.beam import BeamError, runner_or_none
from tfds_deepglobe.classes import RGB
from tfds_deepglobe.deepglobe_dataset_builder import Builder, DeepGlobeConfig
from tfds_deepglobe.errors import InputError, NotPreparedError, listed
from tfds_deepglobe.file_names import FileNames
from tfds_deepglobe.footprints import describe_neighbors, distance_groups
from tfds_deepglobe.shards import open_data_set
from tfds_deepglobe.source_files import check_unchanged, equal_fingerprints
from tfds_deepglobe.split_lists import keep_present, read_split_files
from tfds_deepglobe.splits import ChosenBy, plan_split
from tfds_deepglobe.tensorflow_import import import_tensorflow

# Folder of the shards that the workers of a Beam runner have finished. It is beside the folder of
# the data set, and is deleted when the data set is complete.
_BEAM_FOLDER = "unfinished_shards"


def prepare(
    data: str | Path,
    cache_dir: str | Path,
    *,
    image_glob: str | None = None,
    mask_pattern: str | None = None,
    bands: str | None = None,
    split: str = "auto",
    split_files: str | Path | None = None,
    group_by: str = "auto",
    map_color: Sequence[str] = (),
    merge: Sequence[str] = (),
    void: Sequence[str] = (),
    num_shards: int = 16,
    seed: int = 0,
    beam_runner: str | None = None,
    beam_options: Sequence[str] = (),
) -> tfds.core.DatasetBuilder:
    """Writes the data set of a raw archive as TFRecords, or opens an already prepared data set.

    The data set is in `<cache_dir>/deepglobe/<fingerprint>/<version>/`. The name of the folder is
    a hash of the image ids, the file sizes, the split, the class table and its options. If these
    are equal, but the content of a file has changed, an error is raised. If the call fails, the
    incomplete folder is deleted. Each image and mask is read and decoded only once. The function
    prints its progress and its results.

    Args:
        data: folder or zip with images and masks.
        cache_dir: folder of all prepared data sets.
        image_glob: name pattern of the images, such as "images/*.tif". The `*` in the file name
            stands for the id of the image. None to recognize the patterns.
        mask_pattern: name pattern of the masks. None to recognize the patterns.
        bands: bands to use, such as "4,3,2,8" or "4=red,3=green,2=blue,8=nir". None for all bands,
            or for RGB if the images have RGB colors with 8 bits per channel.
        split: method of splitting:

            - "folders": folders such as `train` and `test` are the splits.
            - "random": a random split in the ratio 649 : 73 : 81.
            - "auto": "folders" if such folders exist, otherwise "random".
        split_files: folder with `train.txt`, `crossvali.txt` (or `val.txt`) and `test.txt`, which
            are used instead of `split`.
        group_by: groups of images that a random split keeps together:

            - "folder": the images of a folder.
            - "100m": georeferenced images that are at most 100 meters apart.
            - a regular expression: images whose ids contain the same matching text.
            - "none": no groups.
            - "auto": "folder" if there are several folders of similar size, otherwise "none".
        map_color: texts "R,G,B=CLASS" that assign classes to mask colors that are not in the class
            table.
        merge: texts "NEW=A+B" that merge classes of the class table.
        void: names of classes, or values such as "255", for pixels without ground truth. Losses
            and scores ignore these pixels. Void is not a class for training.
        num_shards: number of files per split. A split with fewer images has one file per image.
        seed: seed of the random split.
        beam_runner: name of an Apache Beam runner that writes the files, such as "DirectRunner".
            None to write them in this process. The written bytes are equal. If the call is
            interrupted, the finished files of the splits are kept, and the next call continues.
        beam_options: options of Beam, such as "direct_num_workers=2".

    Returns:
        A builder that reads the data set, with the splits `train`, `validation` and `test`. A split
        without images does not exist. `builder.info.metadata` contains `fingerprint`,
        `class_names`, `palette` and `num_examples`.

    Raises:
        InputError: The archive or an argument cannot be used, the prepared data set is damaged, or
            the content of a file has changed.
        OSError: A file cannot be read or written.
    """
    if num_shards < 1:
        raise InputError(f"`num_shards` must be 1 or more. Received: num_shards={num_shards}.")
    if split_files is not None and (split, group_by) != ("auto", "auto"):
        raise InputError(
            "`split_files` defines the splits, and cannot be used with `split` or `group_by`. "
            f"Received: split={split}, group_by={group_by}. Remove both, or remove `split_files`."
        )
    runner = runner_or_none(beam_runner, beam_options)
    archive = open_archive(data, FileNames.parse_or_none(image_glob, mask_pattern))
    archive, color_map = with_labels(with_bands(archive, bands), map_color, merge, void)
    print("\n".join([f"{archive.path}: {describe(archive)}", *remarks(archive)]))
    # Raise an error before the split, because a split without the faulty files would be different.
    if archive.faults:
        require_faultless(archive, color_map)
    paths = {pair.id: f"{archive.path.name}/{pair.image.name}" for pair in archive.pairs}
    if split_files is None:
        folders = {pair.id: pair.folder for pair in archive.pairs}
        near = functools.partial(distance_groups, archive)
        plan = plan_split(folders, split=split, group_by=group_by, seed=seed, near=near)
        splits, chosen_by, is_ungrouped = plan.splits, plan.chosen_by, plan.is_ungrouped
        print("\n".join(plan.lines))
    else:
        chosen_by = lists = read_split_files(split_files, archive.names)
        is_ungrouped = False
        splits, absent, unlisted = keep_present(lists, paths)
        if absent:
            print(f"listed in {split_files}, but not in the archive: {_listed(absent)}")
        if unlisted:
            print(f"in no list of {split_files} and therefore not used: {_listed(unlisted)}")
        if not splits["train"]:
            raise InputError(
                f"The training list in `split_files` contains no image of {archive.path}. First id "
                f"in the list: {next(iter(lists['train']), 'none')}. Use lists of this archive."
            )
    fingerprint = _fingerprint(archive, color_map, chosen_by)
    directory = directory_of(cache_dir, fingerprint)
    beam_folder = directory.parent / _BEAM_FOLDER
    if directory.exists():
        builder = load(cache_dir, fingerprint)
        check_unchanged(archive, directory)
        shutil.rmtree(beam_folder, ignore_errors=True)
        print(f"already prepared: {directory}")
        return builder

    for warning in describe_neighbors(archive) if is_ungrouped else ():
        print(warning)
    finished = sum(file.stat().st_size for file in beam_folder.glob("*.tfrecord"))
    size = sum(p.image.size + p.mask.size for p in archive.pairs)
    _check_destination(directory, max(0, size - finished))
    start = time.monotonic()
    config = DeepGlobeConfig(
        name=directory.parent.name,
        description=f"Prepared from {len(paths)} images with masks.",
        archive=archive,
        splits=splits,
        color_map=color_map,
        fingerprint=fingerprint,
        beam_runner=runner,
        beam_folder=beam_folder,
    )
    with _exclusive(directory):
        # If another process has written the data set in the meantime, TFDS does not write it again.
        try:
            _write(config, cache_dir, num_shards)
        except BeamError:  # the next call continues with the finished shards
            raise
        except InputError:  # after the files are fixed, they have another fingerprint
            shutil.rmtree(beam_folder, ignore_errors=True)
            raise
        shutil.rmtree(beam_folder, ignore_errors=True)
    builder = load(cache_dir, fingerprint)
    for split, split_ids in splits.items():
        files = f"{builder.info.splits[split].num_shards} files" if split_ids else "skipped"
        print(f"{split}: {len(split_ids)} images, {files}")
    if archive.turned:
        print(turned_line(archive))
    print(f"prepared in {time.monotonic() - start:.0f} s: {directory}")
    return builder


def load(cache_dir: str | Path, fingerprint: str) -> tfds.core.DatasetBuilder:
    """Opens a prepared data set. The raw archive is not needed.

    Args:
        cache_dir: folder of all prepared data sets.
        fingerprint: value of `builder.info.metadata["fingerprint"]`, or its first 16 digits.

    Raises:
        NotPreparedError: The data set does not exist, or its folder contains a data set with
            another fingerprint.
        InputError: A file of the data set is missing or damaged.
    """
    directory = directory_of(cache_dir, fingerprint)
    if not directory.exists():
        raise NotPreparedError(
            f"The prepared data set {directory} does not exist. Prepare the data set from its "
            "archive, or choose another `cache_dir`."
        )
    builder = open_data_set(directory)
    stored = builder.info.metadata["fingerprint"]
    if len(fingerprint) > len(directory.parent.name) and not equal_fingerprints(
        stored, fingerprint
    ):
        raise NotPreparedError(
            f"The prepared data set {directory} has another fingerprint. "
            f"Received: {stored}. Expected: {fingerprint}. Choose another `cache_dir`."
        )
    return builder


def _fingerprint(
    archive: Archive,
    color_map: Mapping[RGB, int],
    chosen_by: ChosenBy,
) -> str:
    """Returns the first part of the fingerprint. It is the same for a folder and for a zip.

    This part contains the sizes of the files, but not their content. Therefore, `prepare` can find
    a prepared data set without reading the files. The second part is a hash of the content, which
    the builder adds after it has read the files.
    """
    content = {
        "version": str(Builder.VERSION),
        "files": sorted((p.id, p.image.size, p.mask.size) for p in archive.pairs),
        "classes": [archive.mask_classes.names, archive.mask_classes.palette],
        "color_map": sorted(color_map.items()),
        "splits": chosen_by,
    }
    if archive.relabeling:
        content["relabeling"] = [archive.classes.names, archive.relabeling.ids]
    if archive.image_encoding != "jpeg":
        content["image_encoding"] = archive.image_encoding
    if archive.bands:
        content["bands"] = dataclasses.asdict(archive.bands)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def directory_of(cache_dir: str | Path, fingerprint: str) -> Path:
    """Returns the folder of a prepared data set. It exists only if the data set is complete."""
    return Path(cache_dir) / Builder.name / fingerprint[:16] / str(Builder.VERSION)


def _check_destination(directory: Path, num_bytes: int) -> None:
    """Raises an InputError if the folder cannot be written or the disk has too little free space.

    `num_bytes` is the size of the archive's files, which is about the size of the data set.
    """
    parent = next(parent for parent in directory.absolute().parents if parent.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise InputError(
            f"Cannot write to {parent}, because it is a file or you do not have the permission. "
            "Choose another `cache_dir`."
        )
    if (free := shutil.disk_usage(parent).free) < num_bytes:
        raise InputError(
            f"The data set needs {num_bytes / 1e9:.1f} GB, but {parent} has only "
            f"{free / 1e9:.1f} GB left. Free some disk space, or choose another `cache_dir`."
        )


@contextlib.contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """Locks the cache folder while a data set is written, and deletes incomplete folders.

    The operating system releases the lock when the process ends, for example because it was killed.
    While this process has the lock, no other process writes. Therefore each incomplete folder was
    left by a process that has ended.
    """
    config_dir = directory.parent
    cache_dir = config_dir.parent.parent
    cache_dir.mkdir(parents=True, exist_ok=True)
    lock = os.open(cache_dir, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that prepares a data set in {cache_dir}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            # The folder is on a network file system without locks. In this case, two processes
            # must not prepare the same data set at the same time.
            pass
        for leftover in config_dir.glob("incomplete.*"):  # TFDS uses this prefix
            shutil.rmtree(leftover)
        yield
    finally:
        # Delete the folders if they are empty. If not, `rmdir` raises an OSError, which is ignored.
        with contextlib.suppress(OSError):
            config_dir.rmdir()
            config_dir.parent.rmdir()
        os.close(lock)


def _write(config: DeepGlobeConfig, cache_dir: str | Path, num_shards: int) -> None:
    """Writes the data set with TFDS, without the output and the progress bars of TFDS."""
    # Import TensorFlow only here. The import takes seconds, and `prepare` does not need it if the
    # data set is already prepared.
    tf = import_tensorflow()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.display_progress_bar(False)
    try:
        # TFDS always creates a folder for downloads. Use a temporary folder, which is then deleted.
        with tempfile.TemporaryDirectory() as unused, contextlib.redirect_stdout(io.StringIO()):
            Builder(data_dir=cache_dir, config=config).download_and_prepare(
                download_dir=unused,
                download_config=_DownloadConfig(num_shards=num_shards),
            )
    except (RuntimeError, tf.errors.OpError) as error:
        # If the disk is full, TensorFlow raises an OpError, which TFDS wraps in a RuntimeError.
        cause = error if isinstance(error, tf.errors.OpError) else error.__cause__
        if isinstance(cause, tf.errors.OpError):
            raise OSError(f"writing the data set failed: {cause.message}") from error
        raise
    finally:
        tfds.display_progress_bar(True)
        logging.set_verbosity(verbosity)


class _ShardConfig(shard_utils.ShardConfig):
    """A fixed number of shards, reduced to the number of examples if there are fewer examples.

    TFDS would fail with fewer examples than shards.
    """

    def get_number_shards(self, total_size: int, num_examples: int, *args: bool) -> int:
        return min(super().get_number_shards(total_size, num_examples, *args), num_examples)


class _DownloadConfig(tfds.download.DownloadConfig):
    def get_shard_config(self) -> shard_utils.ShardConfig:
        return _ShardConfig(num_shards=self.num_shards)


def _listed(ids: list[str]) -> str:
    """Formats the number of ids and the first ids."""
    return f"{len(ids)} images: {listed(ids, 10)}"
