"""Writing of the shards of a data set on the workers of an Apache Beam runner.

The order of the images in the shards depends only on their ids. Therefore each shard can be written
on its own, and has the same bytes as a shard that TFDS writes. `BeamWriter` of TFDS writes the same
shards, but after an interruption it starts again with the first image.

`hashing` and `shard_utils` are not part of the public API of TFDS. They determine the order of the
records and the number of shards. If TFDS changes them, the shards of both ways differ, and
`test_two_processes_write_the_bytes_of_the_local_data_set` fails.
"""

import dataclasses
import functools
import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tensorflow_datasets.core import hashing
from tensorflow_datasets.core.utils import shard_utils

from tfds_deepglobe.archive import Archive, require_faultless
from tfds_deepglobe.beam import BeamRunner, complete_file
from tfds_deepglobe.classes import RGB
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.examples import Measures, features_of, ordered_record, read_example
from tfds_deepglobe.pairing import Pair
from tfds_deepglobe.tensorflow_import import import_tensorflow


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard to write.

    Attributes:
        pairs: images and masks in the order of their records.
        num_sampled: see `read_example`.
        measures_file: path of the file with the measures of the images.
    """

    pairs: Sequence[Pair]
    num_sampled: int
    measures_file: Path


@dataclasses.dataclass(frozen=True)
class WrittenSplit:
    """Shards of a split that the workers have written.

    Attributes:
        shards: paths of the shards.
        lengths: number of records of each shard.
        num_bytes: size of all records, without the headers of the file format.
        measures: measures of the images, in the order of the split.
    """

    shards: Sequence[Path]
    lengths: Sequence[int]
    num_bytes: int
    measures: Sequence[Measures]


def write_shards(
    runner: BeamRunner,
    archive: Archive,
    splits: Mapping[str, Sequence[str]],
    color_map: Mapping[RGB, int],
    shard_config: shard_utils.ShardConfig,
    folder: Path,
) -> dict[str, WrittenSplit]:
    """Writes the shards of all splits on the workers of a runner, unless they exist.

    The name of a shard contains a hash of the names, sizes and times of its images and masks. If a
    file of the archive changes between two calls, its shard is written again.

    Args:
        runner: runner with its options.
        archive: the archive. The function adds the checksums and the orientations of its files.
        splits: key: name of a split. Value: ids of its images. Empty splits are skipped.
        color_map: key: color that is not in the class table. Value: class id.
        shard_config: number of shards per split.
        folder: folder of the shards. It is created if it does not exist.

    Raises:
        InputError: A file of the archive cannot be used, or the runner failed.
    """
    pairs = {pair.id: pair for pair in archive.pairs}
    plan: dict[str, dict[Path, Shard]] = {}
    for split, ids in splits.items():
        if not ids:
            continue
        hasher = hashing.Hasher(split)
        ordered = [pairs[image_id] for image_id in sorted(ids, key=hasher.hash_key)]
        num_shards = shard_config.get_number_shards(0, len(ids))
        ends = shard_utils.get_shard_boundaries(len(ids), num_shards)
        plan[split] = {}
        for index, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            members = ordered[start:end]
            name = f"{split}-{index:05d}-of-{num_shards:05d}-{_content_hash(members)}"
            file = folder.absolute() / name
            num_sampled = len(ids) if split == "train" else 0
            plan[split][file.with_suffix(".tfrecord")] = Shard(
                members, num_sampled, file.with_suffix(".npz")
            )
    folder.mkdir(parents=True, exist_ok=True)
    for shards in plan.values():
        for path, shard in shards.items():
            if not shard.measures_file.exists():
                path.unlink(missing_ok=True)
    # Workers get only the pairs of their shards.
    small = dataclasses.replace(archive, pairs=(), contents={}, turned=set())
    files = {path: shard for shards in plan.values() for path, shard in shards.items()}
    write = functools.partial(_write_shard, archive=small, color_map=color_map)
    if faults := runner.run(write, files, "writing shards"):
        require_faultless(archive, color_map)
        raise InputError(next(iter(faults.values())))
    return {split: _read_split(archive, shards, splits[split]) for split, shards in plan.items()}


def _content_hash(pairs: Sequence[Pair]) -> str:
    """Returns a hash of the names, sizes and times of images and masks."""
    files = [(file.name, file.size, file.times) for p in pairs for file in (p.image, p.mask)]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


def _write_shard(shard: Shard, path: Path, archive: Archive, color_map: Mapping[RGB, int]) -> None:
    """Writes a shard and, in another file, its measures.

    Args:
        shard: the shard.
        path: temporary path of the shard.
        archive: the archive without its pairs.
        color_map: class ids of colors that are not in the class table.
    """
    tf = import_tensorflow()
    features = features_of(archive)
    measures, num_bytes = [], 0
    with tf.io.TFRecordWriter(str(path)) as writer:
        for pair in shard.pairs:
            try:
                values, measured = read_example(archive, pair, color_map, shard.num_sampled)
                record = ordered_record(features.serialize_example(values))
                writer.write(record)
            except (InputError, OSError):
                raise
            except Exception as error:
                raise RuntimeError(f"{pair.image.name} cannot be written: {error!r}") from error
            num_bytes += len(record)
            measures.append(measured)
    files = [file for pair in shard.pairs for file in (pair.image, pair.mask)]
    names = [name for file in files for name in file.parts or (file.name,)]
    text = {
        "checksums": {name: archive.source.checksum(name) for name in names},
        "turned": sorted(archive.turned & {pair.image.name for pair in shard.pairs}),
        "num_bytes": num_bytes,
    }
    content = io.BytesIO()
    np.savez(
        content,
        allow_pickle=False,
        text=json.dumps(text),
        sizes=[measured.size for measured in measures],
        pixels=[measured.pixels for measured in measures],
        **{str(i): m.sample for i, m in enumerate(measures) if m.sample is not None},
    )
    # The shard is renamed after this file is complete. Therefore, each shard has its measures.
    with complete_file(shard.measures_file) as unfinished:
        unfinished.write_bytes(content.getvalue())


def _read_split(archive: Archive, shards: Mapping[Path, Shard], ids: Sequence[str]) -> WrittenSplit:
    """Reads the measures of all shards of a split."""
    measures: dict[str, Measures] = {}
    num_bytes = 0
    for shard in shards.values():
        with np.load(shard.measures_file) as arrays:
            text = json.loads(arrays["text"].item())
            sizes, pixels = arrays["sizes"].tolist(), arrays["pixels"]
            for i, pair in enumerate(shard.pairs):
                measures[pair.id] = Measures(sizes[i], pixels[i], arrays.get(str(i)))
        num_bytes += text["num_bytes"]
        archive.turned.update(text["turned"])
        archive.source.add_checksums(text["checksums"])
    lengths = [len(shard.pairs) for shard in shards.values()]
    return WrittenSplit(list(shards), lengths, num_bytes, [measures[i] for i in ids])


def link_or_copy(file: Path, link: Path) -> None:
    """Creates a hard link to a file. If the file system has no hard links, copies the file."""
    try:
        os.link(file, link)
    except OSError:
        shutil.copyfile(file, link)
