import dataclasses

import numpy as np
import pytest

from lcc_tf.data.statistics import class_pixels
from lcc_tf.errors import InputError
from lcc_tf.training.label_rules import LabelRules
from lcc_tf.training.training_data import TrainingData, crops_of, training_data_of


def test_only_the_framing_crops_has_random_crops(tiny_config, builder):
    rules = LabelRules(7, 6)
    assert crops_of(dataclasses.replace(tiny_config, framing="whole"), builder, rules) is None
    crops = crops_of(tiny_config, builder, rules)
    assert crops.scale == (1.0, 1.0)
    assert crops.class_rarity[6] == 0
    pixels = class_pixels(builder).sum(axis=0)[:6]
    products = (crops.class_rarity[:6] * pixels)[pixels > 0]
    np.testing.assert_allclose(products, products[0], rtol=1e-5)
    anywhere = dataclasses.replace(tiny_config, rare_class_share=0.0)
    assert not crops_of(anywhere, builder, rules).class_rarity.any()


def test_batches_of_a_configuration(tiny_config, builder):
    data = training_data_of(tiny_config, builder, LabelRules(7, 6))
    num_images = builder.info.splits["train"].num_examples
    assert data.steps_per_epoch == num_images // 4
    images, masks = next(iter(data.training_batches()))
    assert (images.shape, masks.shape) == ((4, 64, 64, 3), (4, 64, 64))
    # Each validation image has four crops, and each batch contains four crops.
    num_validation = builder.info.splits["validation"].num_examples
    assert len(list(data.validation_batches())) == num_validation
    whole = dataclasses.replace(data, crops=None)
    assert len(list(whole.validation_batches())) == -(-num_validation // 4)


@pytest.mark.parametrize(
    ("batch_size", "image_size", "expected"),
    [
        (1, 32, 4),  # 13 images: 4 crops per image are 52 steps, and 3 crops are 39 steps
        (4, 32, 16),  # 52 steps
        (4, 256, 16),  # larger than the images
        (650, 32, 1000),  # the largest allowed number
    ],
)
def test_default_number_of_crops_per_image(tiny_config, builder, batch_size, image_size, expected):
    assert builder.info.splits["train"].num_examples == 13
    changed = {"batch_size": batch_size, "image_size": image_size, "crops_per_image": None}
    config = dataclasses.replace(tiny_config, **changed)
    assert crops_of(config, builder, LabelRules(7, 6)).per_image == expected
    explicit = dataclasses.replace(config, crops_per_image=7)
    assert crops_of(explicit, builder, LabelRules(7, 6)).per_image == 7


def test_batches_of_several_crops_per_image(tiny_config, builder):
    config = dataclasses.replace(tiny_config, image_size=32, crops_per_image=3, batch_size=5)
    data = training_data_of(config, builder, LabelRules(7, 6))
    assert data.steps_per_epoch == 7  # 13 images with 3 crops each are 39 crops
    first, second = ([*data.training_batches(epoch).take(7)] for epoch in (0, 1))
    crops = {image.numpy().tobytes() for images, _ in first + second for image in images}
    assert len(crops) == 2 * 7 * 5
    assert first[0][0].shape == (5, 32, 32, 3)
    uninterrupted = data.training_batches().skip(7).take(7)
    for (images, masks), (expected_images, expected_masks) in zip(
        uninterrupted, second, strict=True
    ):
        np.testing.assert_array_equal(images, expected_images)
        np.testing.assert_array_equal(masks, expected_masks)


@pytest.mark.parametrize(
    ("framing", "decoded"),
    [
        ("crops", 13 * 64 * 64 * 4),
        ("whole", 13 * 32 * 32 * 16),
    ],
)
def test_images_are_cached_if_they_fit_into_a_quarter_of_the_memory(
    tiny_config, builder, monkeypatch, framing, decoded
):
    config = dataclasses.replace(tiny_config, image_size=32, framing=framing)
    data = training_data_of(config, builder, LabelRules(7, 6))
    chosen = []
    module = "lcc_tf.training.training_data"
    monkeypatch.setattr(f"{module}.training_batches", lambda *_, cache, **__: chosen.append(cache))
    for memory in (4 * decoded, 4 * decoded - 1, 0):
        monkeypatch.setattr(f"{module}.available_memory", lambda memory=memory: memory)
        data.training_batches()
    assert chosen == [True, False, False]


def test_resumed_batches_equal_uninterrupted_batches(tiny_config, builder):
    data = training_data_of(tiny_config, builder, LabelRules(7, 6))
    second_epoch = data.training_batches().skip(data.steps_per_epoch)
    resumed = data.training_batches(first_epoch=1)
    for batch, expected in zip(resumed.take(2), second_epoch.take(2), strict=True):
        for tensor, expected_tensor in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(tensor, expected_tensor)


def test_batch_larger_than_the_training_split_raises(builder):
    with pytest.raises(InputError, match="fewer than one batch.*batch_size=99"):
        TrainingData(builder, image_size=64, batch_size=99, crops=None, seed=0)
