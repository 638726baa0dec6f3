import shutil
import tempfile
from pathlib import Path

import tensorflow_datasets as tfds

from tfds_deepglobe.archive import open_archive
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES
from tfds_deepglobe.deepglobe_dataset_builder import Builder, DeepGlobeConfig
from tfds_deepglobe.fake_archive import write_kaggle_folder


class DeepGlobeTest(tfds.testing.DatasetBuilderTestCase):
    """TFDS's contract, on an archive in its folder for manual downloads."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 6, "validation": 1, "test": 1}

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.EXAMPLE_DIR)
        write_kaggle_folder(Path(cls.EXAMPLE_DIR, "deepglobe"), count=8)
        super().setUpClass()


class ConfiguredDeepGlobeTest(DeepGlobeTest):
    """The same with a config, as `prepare` makes it, and a split of the caller's."""

    SPLITS = {"train": 3, "test": 2}

    def _make_builder(self, config=None):
        archive = open_archive(Path(self.EXAMPLE_DIR, "deepglobe"))
        config = DeepGlobeConfig(
            name="abc",
            archive=archive,
            splits={"train": ("100", "101", "102"), "validation": (), "test": ("103", "104")},
            color_map={},
            fingerprint="abc",
        )
        return super()._make_builder(config)


def test_features_and_metadata(tmp_path):
    info = Builder(data_dir=tmp_path).info
    assert info.features["segmentation_mask"].names == list(DEEPGLOBE_CLASSES.names)
    assert info.features["image"].encoding_format == "jpeg"
    assert info.features["segmentation_mask"].encoding_format == "png"
    assert "DeepGlobe" in info.citation
    assert info.description.startswith("# DeepGlobe Land Cover")
