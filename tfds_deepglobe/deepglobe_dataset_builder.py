"""The TFDS builder."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tfds_deepglobe.archive import (
    DOWNLOAD,
    Archive,
    count_pixels,
    open_archive,
    require_faultless,
)
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, RGB
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.pairing import Pair
from tfds_deepglobe.parallel import ordered_map
from tfds_deepglobe.splits import assign

# File beside the TFRecords: int64 `(num_images, num_classes)`, pixels per class of each training
# image, in no particular order.
CLASS_PIXELS = "class_pixels.npy"


@dataclasses.dataclass(eq=False, kw_only=True)
class DeepGlobeConfig(tfds.core.BuilderConfig):
    """A data set to prepare.

    Attributes:
        archive: files and class table, without `faults`.
        splits: ids per split. TFDS cannot write a split without ids, so the builder skips it.
        color_map: class ids of colors that are not in the class table.
        fingerprint: hash of the data set's content, hexadecimal.
    """

    archive: Archive
    splits: Mapping[str, Sequence[str]]
    color_map: Mapping[RGB, int]
    fingerprint: str


class Builder(tfds.core.GeneratorBasedBuilder):
    """DeepGlobe Land Cover: RGB satellite images and their class ids.

    With a `DeepGlobeConfig`, the builder writes the data set that the config describes.
    `tfds_deepglobe.prepare` works so. Without a config, it reads the archive in TFDS's folder for
    manual downloads and splits it with seed 0.
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
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(
                    shape=(None, None, 3),
                    encoding_format=config.archive.image_encoding if config else "jpeg",
                    doc="RGB; JPEG and PNG files of the archive are unchanged.",
                ),
                "segmentation_mask": tfds.features.LabeledImage(
                    labels=list(classes.names),
                    shape=(None, None, 1),
                    encoding_format="png",
                    doc="Class ids.",
                ),
                "id": tfds.features.Text(doc="File name without the parts that all images share."),
            }
        )
        if classes != DEEPGLOBE_CLASSES:  # then DeepGlobe's paper is not the source either
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
        return {
            split: self._generate_examples(config, split)
            for split, ids in config.splits.items()
            if ids
        }

    def _generate_examples(
        self, config: DeepGlobeConfig, split: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields the id and the features of each image, in the split's order.

        Raises:
            InputError: A file of the archive cannot be used. The message lists all faults.
        """
        archive = config.archive

        def encode(pair: Pair) -> tuple[str, dict[str, Any], np.ndarray]:
            example = archive.read(pair, config.color_map)
            features = {
                "image": example.encoded_image(),
                "segmentation_mask": example.encoded_mask(),
                "id": pair.id,
            }
            return pair.id, features, count_pixels(example.class_ids, archive.classes.num_classes)

        pairs = {pair.id: pair for pair in archive.pairs}
        counts = []
        try:
            for image_id, features, pixels in ordered_map(
                encode, [pairs[image_id] for image_id in config.splits[split]], f"writing {split}"
            ):
                counts.append(pixels)
                yield image_id, features
        except InputError:
            require_faultless(archive, config.color_map)
            raise
        if split == "train":  # until all splits are written, `data_dir` is an incomplete folder
            np.save(Path(self.data_dir) / CLASS_PIXELS, np.stack(counts))


def _manual_config(dl_manager: tfds.download.DownloadManager) -> DeepGlobeConfig:
    """Describes the data set of the archive in TFDS's folder for manual downloads."""
    zip_path = dl_manager.manual_dir / "deepglobe.zip"
    archive = open_archive(zip_path if zip_path.exists() else dl_manager.manual_dir / "deepglobe")
    if archive.classes != DEEPGLOBE_CLASSES:
        raise InputError(
            f"The class table of {archive.path} is not DeepGlobe's. Prepare this archive with "
            "`tfds_deepglobe.prepare.prepare`."
        )
    if archive.faults:
        require_faultless(archive, {})
    return DeepGlobeConfig(
        name="manual",
        archive=archive,
        splits=assign(pair.id for pair in archive.pairs),
        color_map={},
        fingerprint="",
    )
