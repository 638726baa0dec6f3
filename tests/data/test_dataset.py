import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.config import DataConfig, TrainConfig
from lcc_tf.data.dataset import class_table, prepare_dataset, reading
from lcc_tf.data.pipeline import evaluation_batches, training_batches
from lcc_tf.data.statistics import class_pixels, image_pixels, native_size
from lcc_tf.errors import InputError
from lcc_tf.scoring.examples import split_examples
from lcc_tf.training.label_rules import LabelRules, label_rules_of
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


def test_void_and_merged_classes_in_training_and_scoring(tmp_path):
    """Compares a data set with void and merged classes with the same data set without them."""
    options = {"data": "demo", "demo_count": 6, "demo_size": 64}
    plain = prepared(tmp_path, **options)
    merged = prepared(
        tmp_path, **options, void=("unknown", "water"), merge=("green=forest_land+rangeland",)
    )
    names = ("urban_land", "agriculture_land", "green", "barren_land")
    sizes = {"image_size": 64, "batch_size": 4}
    assert class_table(merged).names == names
    new_ids = np.array([0, 1, 2, 2, -1, 3, -1])
    for read in (
        lambda builder: [mask for _, mask in split_examples(builder, "train", "")],
        lambda builder: next(iter(evaluation_batches(builder, "train", **sizes)))[1].numpy(),
        lambda builder: next(iter(training_batches(builder, **sizes, seed=0)))[1].numpy(),
    ):
        before, after = (np.stack(read(builder)) for builder in (plain, merged))
        np.testing.assert_array_equal(after, new_ids[before])
        assert {-1, 2} <= set(after.ravel())
    counts, merged_counts = class_pixels(plain), class_pixels(merged)
    expected = [counts[:, [i for i in range(7) if new_ids[i] == j]].sum(axis=1) for j in range(4)]
    np.testing.assert_array_equal(merged_counts, np.stack(expected, axis=1))
    assert label_rules_of(TrainConfig(), merged) == LabelRules(4)
    # Void pixels are part of the images.
    np.testing.assert_array_equal(image_pixels(merged), [64**2] * len(counts))
    assert native_size(merged) == 64


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
