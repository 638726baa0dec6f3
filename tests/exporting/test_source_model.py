import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.exporting import Original, Samples, load_original
from lcc_tf.exporting.dilation import with_single_operations
from lcc_tf.models import DeepLabV3Plus, UNetPlusPlus
from lcc_tf.runs import read_run
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES


@pytest.fixture
def crops(runs):
    return read_run(runs / "unetpp")


def test_tile_and_resolution_are_those_of_the_finest_member(crops, whole_image_run):
    alone = load_original([whole_image_run])
    assert (alone.tile, alone.resolution) == (64, 1.0)
    both = load_original([crops, whole_image_run], resolution=0.3)
    assert (both.tile, both.resolution) == (128, 0.3)
    assert load_original([crops, whole_image_run], tile=96).tile == 96


@pytest.mark.parametrize(
    ("option", "match"),
    [({"tile": 31}, "`tile` must be 32.*31"), ({"resolution": 0.0}, "`resolution`.*0.0")],
)
def test_what_cannot_be_used(crops, option, match):
    with pytest.raises(InputError, match=match):
        load_original([crops], **option)


def test_weights_too_large_for_a_file(monkeypatch, original):
    original.check_file_size()
    monkeypatch.setattr("lcc_tf.exporting.source_model.MAX_FILE_SIZE", 1000)
    with pytest.raises(InputError, match="less than 2 GB.*savedmodel"):
        original.check_file_size()


def test_samples_are_cut_as_the_network_sees_them(crops, whole_image_run):
    native = load_original([crops]).samples
    coarse = load_original([whole_image_run]).samples
    (there,) = native.squares("test", 64, 1)  # all of the image
    (here,) = coarse.squares("test", 32, 1)
    assert here.shape == (32, 32, 3)
    assert here.dtype == np.uint8
    resized = tf.image.resize(there, (32, 32)).numpy()
    assert np.abs(here - resized).max() <= 0.5  # rounded to whole numbers


def test_samples_come_from_the_split_and_are_the_same_again(crops):
    samples = load_original([crops]).samples
    assert "deepglobe" in str(samples)
    train = samples.squares("train", 48, 20)  # more than there are images
    assert len({image.tobytes() for image in train}) == 20
    again = samples.squares("train", 48, 20)
    assert all((a == b).all() for a, b in zip(train, again, strict=True))
    whole_train = {image.tobytes() for image in samples.squares("train", 64, 14)}
    assert samples.squares("test", 64, 1)[0].tobytes() not in whole_train


def test_procedural_scenes_stand_in_for_a_data_set_that_is_gone(crops, tmp_path):
    data = dataclasses.replace(crops.config.data, cache_dir=str(tmp_path))
    config = dataclasses.replace(crops.config, data=data)
    samples = load_original([dataclasses.replace(crops, config=config)]).samples
    assert str(samples) == "procedural scenes"
    (small,) = samples.squares("test", 40, 1)
    assert small.shape == (40, 40, 3)
    assert (small != samples.squares("train", 40, 1)[0]).any()


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
        assert len(Original(model, DEEPGLOBE_CLASSES, tile, samples=Zeros()).tiles) == count


def test_compared_with_all_digits_of_float32():
    """GPUs that have TF32 compute with it unless told not to."""
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    original = Original(
        keras.Sequential([keras.Input((None, None, 3))]),
        DEEPGLOBE_CLASSES,
        tile=64,
        samples=Zeros(),
    )
    seen = []

    def predict(image):
        seen.append(enabled())
        return image.astype(np.float32)

    object.__setattr__(original, "predict", predict)
    assert enabled()
    original.compare(predict, any_size=True)
    assert enabled()
    assert seen == [False] * 10


class Zeros(Samples):
    def squares(self, split, side, count):
        return [np.zeros((side, side, 3), np.uint8)] * count
