import dataclasses

import numpy as np
import tensorflow as tf

from lcc_tf.exporting.samples import Samples
from lcc_tf.exporting.source_model import SourceModel


def test_samples_have_the_resolution_of_the_network(crops_run, whole_run):
    native = SourceModel.from_runs([crops_run]).samples
    coarse = SourceModel.from_runs([whole_run]).samples
    (full,) = native.crops("test", 64, 1)  # the whole image
    (half,) = coarse.crops("test", 32, 1)
    assert half.shape == (32, 32, 3)
    assert half.dtype == np.uint8
    resized = tf.image.resize(full, (32, 32)).numpy()
    assert np.abs(half - resized).max() <= 0.5  # rounding error of uint8


def test_crops_are_from_the_split_and_reproducible(crops_run):
    samples = SourceModel.from_runs([crops_run]).samples
    assert "deepglobe" in str(samples)
    train = samples.crops("train", 48, 20)  # the split has fewer images
    assert len({image.tobytes() for image in train}) == 20
    again = samples.crops("train", 48, 20)
    assert all((a == b).all() for a, b in zip(train, again, strict=True))
    whole_train = {image.tobytes() for image in samples.crops("train", 64, 14)}
    assert samples.crops("test", 64, 1)[0].tobytes() not in whole_train


def test_samples_are_procedural_scenes_if_the_data_set_does_not_exist(crops_run, tmp_path):
    data = dataclasses.replace(crops_run.config.data, cache_dir=str(tmp_path))
    config = dataclasses.replace(crops_run.config, data=data)
    samples = SourceModel.from_runs([dataclasses.replace(crops_run, config=config)]).samples
    assert str(samples) == "procedural scenes"
    (small,) = samples.crops("test", 40, 1)
    assert small.shape == (40, 40, 3)
    assert (small != samples.crops("train", 40, 1)[0]).any()


def test_crops_are_from_all_arrays():
    images = [np.full((50, 80, 3), value, np.uint8) for value in (10, 20, 30)]
    images[1][:, :40] = 21
    crops = Samples(images=images).crops("train", 64, 7)
    assert all(crop.shape == (64, 64, 3) for crop in crops)
    assert [int(crop.max()) for crop in crops] == [10, 21, 30, 10, 21, 30, 10]
    assert (crops[1] != crops[4]).any()  # two crops of the same image
    # The crop is higher than the image, which is therefore reflect-padded at its bottom.
    np.testing.assert_array_equal(crops[1][50:], crops[1][48:34:-1])
    assert str(Samples(images=images)) == "3 images"
