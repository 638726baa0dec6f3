import dataclasses

import pytest
import tensorflow as tf

from lcc_tf.config import DataConfig
from lcc_tf.data.dataset import class_table, prepare_dataset, reading
from lcc_tf.errors import InputError
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES
from tfds_deepglobe.errors import InputError as DatasetError
from tfds_deepglobe.fake_archive import write_pair


def prepared(tmp_path, **options):
    config = DataConfig(cache_dir=str(tmp_path / "cache"), **options)
    return prepare_dataset(**dataclasses.asdict(config))


def test_demo_ignores_name_patterns(tmp_path):
    patterns = {"image_glob": "images/*.tif", "mask_pattern": "labels/*.png"}
    builder = prepared(tmp_path, data="demo", demo_count=3, demo_size=64, **patterns)
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert sizes == {"train": 1, "validation": 1, "test": 1}
    assert class_table(builder) == DEEPGLOBE_CLASSES


def test_error_for_a_missing_archive_recommends_demo(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist. Download .* `data=demo`"):
        prepared(tmp_path, data=str(tmp_path / "nowhere"))


def test_error_for_an_archive_with_faults_does_not_recommend_demo(tmp_path):
    write_pair(tmp_path / "raw", "1")
    (tmp_path / "raw" / "1_mask.png").unlink()
    with pytest.raises(DatasetError, match="1_sat.jpg: missing mask 1_mask.png") as error:
        prepared(tmp_path, data=str(tmp_path / "raw"))
    assert "demo" not in str(error.value)


@pytest.mark.parametrize(("argument", "value"), [("demo_count", 2), ("demo_size", 63)])
def test_demo_arguments_out_of_range_raise(tmp_path, argument, value):
    with pytest.raises(InputError, match=f"`{argument}` must be .* Received: {argument}={value}"):
        prepared(tmp_path, data="demo", **{argument: value})


def test_error_for_a_damaged_record_names_the_file(damaged_data):
    builder = prepare_dataset(**dataclasses.asdict(damaged_data))
    examples = builder.as_dataset(split="train")
    with pytest.raises(tf.errors.DataLossError):
        list(examples)
    message = "tfrecord-00002-of-00013 contains a damaged record"
    with pytest.raises(DatasetError, match=message), reading(builder):
        list(examples)


def test_other_errors_are_not_changed(builder):
    with pytest.raises(tf.errors.InvalidArgumentError, match="scalar"), reading(builder):
        tf.io.decode_jpeg(tf.zeros(2, tf.string))
