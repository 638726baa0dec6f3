"""The builder of the data set for TensorFlow Datasets (TFDS)."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tfds_deepglobe.archive import (
    DOWNLOAD,
    Archive,
    binary_masks,
    copies,
    count_pixels,
    open_archive,
    require_faultless,
)
from tfds_deepglobe.bands import Raster, sampled_values
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, RGB
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.pairing import Pair
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
    """

    archive: Archive
    splits: Mapping[str, Sequence[str]]
    color_map: Mapping[RGB, int]
    fingerprint: str


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
        features = tfds.features.FeaturesDict(
            {
                "image": _image_feature(config),
                "segmentation_mask": tfds.features.LabeledImage(
                    labels=list(classes.names),
                    shape=(None, None, 1),
                    encoding_format="png",
                    doc="Class ids.",
                ),
                "id": tfds.features.Text(doc="Part of the file name that is unique to the image."),
            }
        )
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
        self.info.metadata["num_examples"] = {
            split: len(ids) for split, ids in config.splits.items()
        }
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
        super()._download_and_prepare(dl_manager, download_config)
        write_checksums(Path(self.data_dir))

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
        archive = config.archive

        def encode(
            pair: Pair,
        ) -> tuple[str, dict[str, Any], tuple[int, np.ndarray, np.ndarray | None]]:
            example = archive.read(pair, config.color_map)
            features = {
                "image": example.encoded_image(),
                "segmentation_mask": example.encoded_mask(),
                "id": pair.id,
            }
            pixels = count_pixels(example.class_ids, archive.classes.num_classes)
            sample = None
            if isinstance(example.image, Raster) and split == "train":
                sample = sampled_values(example.image, len(config.splits[split]))
            return pair.id, features, (example.class_ids.size, pixels, sample)

        pairs = {pair.id: pair for pair in archive.pairs}
        counts, sizes, samples = [], [], []
        try:
            for image_id, features, (size, pixels, sample) in ordered_map(
                encode, [pairs[image_id] for image_id in config.splits[split]], f"writing {split}"
            ):
                counts.append(pixels)
                sizes.append(size)
                samples += [] if sample is None else [sample]
                yield image_id, features
        except InputError:
            require_faultless(archive, config.color_map)
            raise
        # `data_dir` is a temporary folder. The files below are written to this folder. After all
        # splits are written, TFDS renames it to the folder of the data set.
        if split != "test" and not np.sum(counts):
            raise InputError(f"No pixel of the split {split} has a class: all pixels are void.")
        if split == "train":
            if binary_masks(archive, np.sum(counts, axis=0)):
                require_faultless(archive, config.color_map)
            void = np.array(sizes) - np.sum(counts, axis=1)
            np.save(Path(self.data_dir) / CLASS_PIXELS, np.column_stack([counts, void]))
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


def _image_feature(config: DeepGlobeConfig | None) -> tfds.features.FeatureConnector:
    """Returns the TFDS feature that stores the images."""
    if config and config.archive.bands:
        bands = config.archive.bands
        return tfds.features.Tensor(
            shape=(None, None, len(bands.numbers)),
            dtype=np.dtype(bands.dtype).type,
            encoding=tfds.features.Encoding.ZLIB,
            doc=f"Values of {bands}, as in the archive. Nodata pixels are NaN in float32.",
        )
    return tfds.features.Image(
        shape=(None, None, 3),
        encoding_format=config.archive.image_encoding if config else "jpeg",
        doc="RGB. JPEG and PNG images have the same bytes as in the archive.",
    )


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
