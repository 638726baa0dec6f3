"""The TFDS builder."""

import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
from PIL import Image

from tfds_deepglobe.archive import DOWNLOAD, Archive, Pair, open_archive, ordered_map, verify
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, RGB
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.splits import assign


@dataclasses.dataclass(eq=False, kw_only=True)
class DeepGlobeConfig(tfds.core.BuilderConfig):
    """One data set to be made, from an archive that is verified.

    Attributes:
        archive: the raw files and the class table.
        splits: ids of each split; an empty one is left out, since TFDS cannot write it.
        color_map: class ids of colours that are not in the class table.
        fingerprint: what the data set is made of, in hexadecimal digits.
    """

    archive: Archive
    splits: Mapping[str, Sequence[str]]
    color_map: Mapping[RGB, int]
    fingerprint: str


class Builder(tfds.core.GeneratorBasedBuilder):
    """DeepGlobe Land Cover: RGB satellite images and their class ids.

    With a `DeepGlobeConfig` it makes the data set that the config describes; that is the way of
    `tfds_deepglobe.prepare`. Without one it takes the archive from TFDS's folder for manual
    downloads, verifies it, and splits it with seed 0.
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
                    doc="RGB; of JPEG and PNG the archive's own bytes.",
                ),
                "segmentation_mask": tfds.features.LabeledImage(
                    labels=list(classes.names),
                    shape=(None, None, 1),
                    encoding_format="png",
                    doc="Class ids.",
                ),
                "id": tfds.features.Text(doc="File name without what all images' names share."),
            }
        )
        if classes != DEEPGLOBE_CLASSES:  # nor is DeepGlobe's paper the one to cite
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
        """Yields each image's id and features, in the split's order."""
        archive = config.archive

        def encode(pair: Pair) -> tuple[str, dict[str, Any]]:
            mask_png = io.BytesIO()
            Image.fromarray(archive.encode_mask(pair, config.color_map)).save(mask_png, "PNG")
            return pair.id, {
                "image": archive.encode_image(pair),
                "segmentation_mask": mask_png.getvalue(),
                "id": pair.id,
            }

        pairs = {pair.id: pair for pair in archive.pairs}
        yield from ordered_map(encode, [pairs[i] for i in config.splits[split]], f"writing {split}")


def _manual_config(dl_manager: tfds.download.DownloadManager) -> DeepGlobeConfig:
    """Describes the data set made of the archive in TFDS's folder for manual downloads."""
    zip_path = dl_manager.manual_dir / "deepglobe.zip"
    archive = open_archive(zip_path if zip_path.exists() else dl_manager.manual_dir / "deepglobe")
    if archive.classes != DEEPGLOBE_CLASSES:
        raise InputError(
            f"{archive.path} has a class table of its own; prepare it with "
            "python -m tfds_deepglobe prepare"
        )
    if faults := verify(archive, {}).faults:
        raise InputError("\n".join((f"{archive.path} cannot be used:", *faults)))
    return DeepGlobeConfig(
        name="manual",
        archive=archive,
        splits=assign(pair.id for pair in archive.pairs),
        color_map={},
        fingerprint="",
    )
