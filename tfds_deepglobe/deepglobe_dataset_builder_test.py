import shutil
import tempfile
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from tfds_deepglobe.archive import open_archive
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES
from tfds_deepglobe.deepglobe_dataset_builder import Builder, DeepGlobeConfig
from tfds_deepglobe.errors import InputError
from tfds_deepglobe.fake_archive import write_kaggle_folder


class DeepGlobeTest(tfds.testing.DatasetBuilderTestCase):
    """Runs the builder tests of TFDS with an archive in the folder for manual downloads."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 6, "validation": 1, "test": 1}

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.EXAMPLE_DIR)
        write_kaggle_folder(Path(cls.EXAMPLE_DIR, "deepglobe"), count=8)
        super().setUpClass()


class ConfiguredDeepGlobeTest(DeepGlobeTest):
    """Runs the builder tests of TFDS with a config as in `prepare`. One split is empty."""

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


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("class_dict.csv", b"name,r,g,b\na,1,2,3\n", "The classes of .* are not the classes"),
        (
            "train/101_sat.jpg",
            b"x",
            "cannot be used. It has 1 fault:\ntrain/101_sat.jpg: is not a JPEG",
        ),
        (
            "train/200_sat.jpg",
            b"x",
            "cannot be used. It has 1 fault:\ntrain/200_sat.jpg: missing mask",
        ),
    ],
)
def test_invalid_archive_in_the_manual_folder_raises(tmp_path, file, content, message):
    root = write_kaggle_folder(tmp_path / "manual" / "deepglobe", count=4)
    (root / file).write_bytes(content)
    config = tfds.download.DownloadConfig(manual_dir=tmp_path / "manual")
    builder = Builder(data_dir=tmp_path / "cache")
    with pytest.raises(InputError, match=message):
        builder.download_and_prepare(download_dir=tmp_path / "downloads", download_config=config)
    assert not list((tmp_path / "cache").rglob("*.tfrecord*"))
