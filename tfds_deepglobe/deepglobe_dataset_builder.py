"""The builder of the data set for TensorFlow Datasets (TFDS)."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import writer
from tensorflow_datasets.core.utils import shard_utils

from tfds_deepglobe.archive import (
    DOWNLOAD,
    Archive,
    binary_masks,
    copies,
    open_archive,
    require_faultless,
)
from tfds_deepglobe.beam import BeamRunner
from tfds_deepglobe.beam_shards import link_or_copy, write_shards
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, RGB
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.examples import Measures, features_of, ordered_record, read_example
from tfds_deepglobe.parallel import ordered_map
from tfds_deepglobe.shards import write_checksums
from tfds_deepglobe.source_files import RECORD, Record, content_hash, record_of
from tfds_deepglobe.splits import assign

# Name of a file in the folder of the TFRecords. The file contains an int64 array of the shape
# `(num_images, num_classes + 1)`, with one row per training image in no particular order. A row
# contains the number of pixels per class, and then the number of void pixels.
CLASS_PIXELS = "class_pixels.npy"
# Name of a file in the folder of the TFRecords of images with `bands`. The file is a dictionary
# with the keys "percentile" and "minmax". Each value contains one range per band, which was
# computed from the training images.
BAND_RANGES = "band_ranges.json"
PERCENTILES = (0.5, 99.5)  # ends of the range "percentile"


@dataclasses.dataclass(eq=False, kw_only=True)
class DeepGlobeConfig(tfds.core.BuilderConfig):
    """Configuration of a data set to prepare.

    Attributes:
        archive: archive with the files and the class table. It must not have `faults`.
        splits: key: name of a split. Value: ids of its images. The builder skips a split without
            ids, because TFDS cannot write an empty split.
        color_map: key: color that is not in the class table. Value: class id.
        fingerprint: first part of the fingerprint, hexadecimal. The builder adds the hash of the
            content.
        beam_runner: runner of Apache Beam that writes the shards; None for TFDS in this process.
        beam_folder: folder for the shards that the runner has finished.
    """

    archive: Archive
    splits: Mapping[str, Sequence[str]]
    color_map: Mapping[RGB, int]
    fingerprint: str
    beam_runner: BeamRunner | None = None
    beam_folder: Path = Path()


class _ExampleWriter(writer.ExampleWriter):
    """Writer of shards. The same examples always have the same bytes."""

    def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> None:
        super().write(path, ((key, ordered_record(record)) for key, record in examples))


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of DeepGlobe Land Cover: RGB satellite images, and masks of class ids.

    With a `DeepGlobeConfig`, the builder writes the data set that the config describes.
    `tfds_deepglobe.prepare` uses the builder in this way. Without a config, the builder reads the
    archive in TFDS's folder for manual downloads and splits the images with seed 0.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    {DOWNLOAD}
    Place it in `manual_dir` as the folder `deepglobe` or as `deepglobe.zip`.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        classes = config.archive.classes if config else DEEPGLOBE_CLASSES
        metadata = {
            "class_names": list(classes.names),
            "palette": [list(color) for color in classes.palette],
        }
        if config:
            metadata["fingerprint"] = config.fingerprint
            if config.archive.bands:
                metadata["bands"] = dataclasses.asdict(config.archive.bands)
        features = features_of(config.archive if config else None)
        # Do not cite the DeepGlobe paper if the classes are not the classes of DeepGlobe.
        if classes != DEEPGLOBE_CLASSES:
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"Images and land cover: {', '.join(classes.names)}.",
                features=features,
                metadata=tfds.core.MetadataDict(metadata),
            )
        return self.dataset_info_from_configs(
            features=features,
            homepage="http://deepglobe.org/",
            metadata=tfds.core.MetadataDict(metadata),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        config = self.builder_config or _manual_config(dl_manager)
        self._set_num_examples(config)
        record: Record = {}
        return {
            split: self._generate_examples(config, split, record)
            for split, ids in config.splits.items()
            if ids
        }

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> None:
        # TFDS documents this method for subclasses. The method writes `shards.json`. Without this
        # file, exchanged shards would not be noticed.
        if self.builder_config and self.builder_config.beam_runner:
            self._write_with_beam(self.builder_config, download_config.get_shard_config())
        else:
            super()._download_and_prepare(dl_manager, download_config)
        write_checksums(Path(self.data_dir))

    def _example_writer(self) -> writer.ExampleWriter:
        # TFDS documents this method for subclasses. Without it, two calls would write records with
        # another order of the features.
        return _ExampleWriter(self.info.file_format)

    def _write_with_beam(
        self, config: DeepGlobeConfig, shard_config: shard_utils.ShardConfig
    ) -> None:
        """Writes all splits on the workers of a Beam runner.

        The shards in `config.beam_folder` remain, for the case that this process is killed now.
        """
        self._set_num_examples(config)
        written = write_shards(
            config.beam_runner,
            config.archive,
            config.splits,
            config.color_map,
            shard_config,
            config.beam_folder,
        )
        record: Record = {}
        infos = []
        for split, result in written.items():
            self._write_summaries(config, split, result.measures, record)
            template = tfds.core.ShardedFileTemplate(
                data_dir=self.data_path,
                dataset_name=self.name,
                split=split,
                filetype_suffix=self.info.file_format.file_suffix,
            )
            for index, shard in enumerate(result.shards):
                link_or_copy(
                    shard,
                    Path(
                        template.sharded_filepath(shard_index=index, num_shards=len(result.shards))
                    ),
                )
            infos.append(
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=result.lengths,
                    num_bytes=result.num_bytes,
                    filename_template=template,
                )
            )
        self.info.set_splits(tfds.core.SplitDict(infos))

    def _set_num_examples(self, config: DeepGlobeConfig) -> None:
        self.info.metadata["num_examples"] = {
            split: len(ids) for split, ids in config.splits.items()
        }

    def _generate_examples(
        self, config: DeepGlobeConfig, split: str, record: Record
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields the id and the features of each image, in the order of the split.

        Args:
            config: description of the data set.
            split: name of the split.
            record: record of the files of the earlier splits. This method adds the files of the
                split to the record.

        Raises:
            InputError: A file of the archive cannot be used. The message lists all faults of the
                archive.
        """
        archive, ids = config.archive, config.splits[split]
        num_sampled = len(ids) if split == "train" else 0
        pairs = {pair.id: pair for pair in archive.pairs}
        measures = []
        try:
            for values, measured in ordered_map(
                lambda pair: read_example(archive, pair, config.color_map, num_sampled),
                [pairs[image_id] for image_id in ids],
                f"writing {split}",
            ):
                measures.append(measured)
                yield values["id"], values
        except InputError:
            require_faultless(archive, config.color_map)
            raise
        self._write_summaries(config, split, measures, record)

    def _write_summaries(
        self,
        config: DeepGlobeConfig,
        split: str,
        measures: Sequence[Measures],
        record: Record,
    ) -> None:
        """Verifies a split, and writes the files that describe its images.

        `data_dir` is a temporary folder. The files are written to this folder. After all splits
        are written, TFDS renames it to the folder of the data set.

        Args:
            config: description of the data set.
            split: name of the split.
            measures: measures of the images, in the order of the split.
            record: record of the files of the earlier splits. This method adds the files of the
                split to the record.

        Raises:
            InputError: The images cannot be used.
        """
        archive = config.archive
        counts = [measured.pixels for measured in measures]
        if split != "test" and not np.sum(counts):
            raise InputError(f"No pixel of the split {split} has a class: all pixels are void.")
        if split == "train":
            if binary_masks(archive, np.sum(counts, axis=0)):
                require_faultless(archive, config.color_map)
            sizes = np.array([measured.size for measured in measures])
            void = sizes - np.sum(counts, axis=1)
            np.save(Path(self.data_dir) / CLASS_PIXELS, np.column_stack([counts, void]))
            samples = [m.sample for m in measures if m.sample is not None]
            if samples:
                (Path(self.data_dir) / BAND_RANGES).write_text(
                    json.dumps(_ranges(samples)), encoding="utf-8"
                )
        if config.fingerprint:
            record |= record_of(archive, set(config.splits[split]), split)
            if copies(archive, [pair for pair in archive.pairs if pair.id in record]):
                require_faultless(archive, config.color_map)
            (Path(self.data_dir) / RECORD).write_text(json.dumps(record), encoding="utf-8")
            self.info.metadata["fingerprint"] = config.fingerprint + content_hash(record)


def _ranges(samples: Sequence[np.ndarray]) -> dict[str, list[list[float]]]:
    """Returns the content of the file `BAND_RANGES`.

    Args:
        samples: result of `sampled_values` for each training image.

    Raises:
        InputError: All training pixels are nodata.
    """
    samples = [sample for sample in samples if len(sample)]
    extremes = np.concatenate([sample[:2] for sample in samples] or [np.zeros((0, 1))])
    if not len(extremes) or np.isnan(extremes).all(axis=0).any():
        raise InputError("A band has no valid value in the split train: all values are nodata.")
    values = np.concatenate([sample[2:] for sample in samples])
    return {
        "percentile": np.nanpercentile(values, PERCENTILES, axis=0).T.tolist(),
        "minmax": np.stack([np.fmin.reduce(extremes), np.fmax.reduce(extremes)], 1).tolist(),
    }


def _manual_config(dl_manager: tfds.download.DownloadManager) -> DeepGlobeConfig:
    """Returns the configuration for the archive in TFDS's folder for manual downloads."""
    zip_path = dl_manager.manual_dir / "deepglobe.zip"
    archive = open_archive(zip_path if zip_path.exists() else dl_manager.manual_dir / "deepglobe")
    if archive.classes != DEEPGLOBE_CLASSES:
        raise InputError(
            f"The classes of {archive.path} are not the classes of DeepGlobe. Prepare this archive "
            "with `tfds_deepglobe.prepare.prepare`."
        )
    if archive.faults:
        require_faultless(archive, {})
    return DeepGlobeConfig(
        name="manual",
        archive=archive,
        splits=assign([pair.id for pair in archive.pairs]),
        color_map={},
        fingerprint="",
    )
