import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.exporting.comparison import Comparison
from lcc_tf.exporting.dilation import with_single_operations
from lcc_tf.exporting.samples import Samples
from lcc_tf.exporting.source_model import SourceModel
from lcc_tf.models import DeepLabV3Plus, UNetPlusPlus
from lcc_tf.runs import read_run
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES


@pytest.fixture
def crops(runs):
    return read_run(runs / "unetpp")


def test_tile_and_resolution_are_those_of_the_finest_member(crops, whole_image_run):
    alone = SourceModel.from_runs([whole_image_run])
    assert (alone.tile, alone.resolution) == (64, 1.0)
    both = SourceModel.from_runs([crops, whole_image_run], resolution=0.3)
    assert (both.tile, both.resolution) == (128, 0.3)
    assert SourceModel.from_runs([crops, whole_image_run], tile=96).tile == 96


@pytest.mark.parametrize(
    ("option", "match"),
    [({"tile": 31}, "`tile` must be 32.*31"), ({"resolution": 0.0}, "`resolution`.*0.0")],
)
def test_invalid_options_raise(crops, option, match):
    with pytest.raises(InputError, match=match):
        SourceModel.from_runs([crops], **option)


def test_weights_too_large_for_a_file(monkeypatch, source):
    source.check_file_size()
    monkeypatch.setattr("lcc_tf.exporting.source_model.MAX_FILE_SIZE", 1000)
    with pytest.raises(InputError, match="less than 2 GB.*savedmodel"):
        source.check_file_size()


def test_samples_have_the_network_s_resolution(crops, whole_image_run):
    native = SourceModel.from_runs([crops]).samples
    coarse = SourceModel.from_runs([whole_image_run]).samples
    (full,) = native.crops("test", 64, 1)  # all of the image
    (half,) = coarse.crops("test", 32, 1)
    assert half.shape == (32, 32, 3)
    assert half.dtype == np.uint8
    resized = tf.image.resize(full, (32, 32)).numpy()
    assert np.abs(half - resized).max() <= 0.5  # rounded to whole numbers


def test_samples_come_from_the_split_and_are_the_same_again(crops):
    samples = SourceModel.from_runs([crops]).samples
    assert "deepglobe" in str(samples)
    train = samples.crops("train", 48, 20)  # more than there are images
    assert len({image.tobytes() for image in train}) == 20
    again = samples.crops("train", 48, 20)
    assert all((a == b).all() for a, b in zip(train, again, strict=True))
    whole_train = {image.tobytes() for image in samples.crops("train", 64, 14)}
    assert samples.crops("test", 64, 1)[0].tobytes() not in whole_train


def test_procedural_scenes_stand_in_for_a_data_set_that_is_gone(crops, tmp_path):
    data = dataclasses.replace(crops.config.data, cache_dir=str(tmp_path))
    config = dataclasses.replace(crops.config, data=data)
    samples = SourceModel.from_runs([dataclasses.replace(crops, config=config)]).samples
    assert str(samples) == "procedural scenes"
    (small,) = samples.crops("test", 40, 1)
    assert small.shape == (40, 40, 3)
    assert (small != samples.crops("train", 40, 1)[0]).any()


@pytest.mark.parametrize("network", [UNetPlusPlus, DeepLabV3Plus])
def test_dilation_is_one_operation(network, tiny_encoder):
    model = network(7, encoder=tiny_encoder, encoder_weights=None)
    converted = with_single_operations(model)
    if network is UNetPlusPlus:
        assert converted is model
        return
    assert {id(v) for v in converted.variables} == {id(v) for v in model.variables}
    for shape in ((None, None, None, 3), (1, 64, 64, 3)):
        counts = []
        for each in (model, converted):
            graph = tf.function(each).get_concrete_function(tf.TensorSpec(shape)).graph
            counts.append([operation.type for operation in graph.get_operations()])
        before, after = counts
        assert "SpaceToBatchND" in before or shape[1]
        assert "SpaceToBatchND" not in after
        assert len(after) < len(before)
        # ASPP has three branches, the last stage of the tiny encoder has one.
        assert sum("DepthwiseConv2dNative" in kind for kind in after) == 5


def test_checked_tiles_are_fewer_where_they_are_large():
    model = keras.Sequential([keras.Input((None, None, 3))])
    for tile, count in ((512, 4), (1024, 1), (2448, 1)):
        assert (
            len(SourceModel(model, DEEPGLOBE_CLASSES, tile, samples=Zeros()).comparison.tiles)
            == count
        )


def test_compared_with_all_digits_of_float32():
    """GPUs that have TF32 compute with it unless told not to."""
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    seen = []

    def predict(image):
        seen.append(enabled())
        return image.astype(np.float32)

    assert enabled()
    Comparison(predict, Zeros(), tile=64).check("x", 1, predict, any_size=True, max_difference=0)
    assert enabled()
    assert seen == [False] * 10


class Zeros(Samples):
    def crops(self, split, side, count):
        return [np.zeros((side, side, 3), np.uint8)] * count
