import dataclasses

import keras
import pytest

from lcc_tf.exporting.source_model import SourceModel
from lcc_tf.models import build_model, ensemble
from tests.untrained_runs import small_unet, with_several_classes, write_untrained_run
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES


@pytest.fixture(scope="module")
def source(tiny_encoder):
    """An ensemble of two networks: DeepLabV3+ at scale 0.5 and `small_unet`.

    The tile is not divisible by a stride.
    """
    keras.utils.set_random_seed(0)
    deeplab = build_model("deeplabv3plus", 7, encoder=tiny_encoder, encoder_weights=None)
    members = [with_several_classes(model) for model in (deeplab, small_unet(7))]
    model = ensemble(members, [3, 1], scales=[0.5, 1])
    return SourceModel(model, DEEPGLOBE_CLASSES, tile=72)


@pytest.fixture(scope="module")
def crops_run(tiny_config, builder, tmp_path_factory):
    """A run with random weights on crops of 64 pixels."""
    return write_untrained_run(tmp_path_factory.mktemp("runs") / "crops", tiny_config, builder)


@pytest.fixture(scope="module")
def whole_run(crops_run):
    """The run `crops_run`, with a configuration for whole images resized from 128 to 64 pixels."""
    config = dataclasses.replace(crops_run.config, framing="whole")
    return dataclasses.replace(crops_run, config=config, native_size=128.0)
