import io
import threading

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from lcc_tf.data.decoding import decode_image
from lcc_tf.data.framing import RandomCrops
from lcc_tf.data.pipeline import (
    Part,
    decode,
    evaluation_batches,
    split_size,
    steps_per_epoch,
    training_batches,
)
from lcc_tf.errors import InputError


def take(dataset, count):
    return [(image.numpy(), mask.numpy()) for image, mask in dataset.take(count)]


def assert_same(a, b):
    for (image_a, mask_a), (image_b, mask_b) in zip(a, b, strict=True):
        np.testing.assert_array_equal(image_a, image_b)
        np.testing.assert_array_equal(mask_a, mask_b)


def test_shapes_dtypes_and_ranges_of_batches(builder):
    dataset = training_batches(builder, image_size=32, batch_size=4, seed=0)
    image_spec, mask_spec = dataset.element_spec
    assert image_spec.shape == (4, 32, 32, 3)
    assert mask_spec.shape == (4, 32, 32)
    for images, masks in take(dataset, 3):
        assert images.dtype == np.float32
        assert 0 <= images.min() < 100
        assert 150 < images.max() <= 255  # RGB in [0, 255], not preprocessed
        assert masks.dtype == np.int32
        assert 0 <= masks.min() <= masks.max() <= 6


def test_batches_do_not_depend_on_the_global_seed(builder):
    def batches(seed):
        return take(training_batches(builder, image_size=32, batch_size=4, seed=seed), 7)

    tf.random.set_seed(0)
    first = batches(5)
    tf.random.set_seed(99)
    assert_same(first, batches(5))
    other = batches(6)
    assert not np.array_equal(first[0][0], other[0][0])


def test_resumed_training_has_the_same_batches(builder):
    steps = split_size(builder, "train") // 4
    uninterrupted = take(training_batches(builder, image_size=32, batch_size=4, seed=1), 3 * steps)
    resumed = training_batches(builder, image_size=32, batch_size=4, seed=1, first_epoch=2)
    assert_same(uninterrupted[2 * steps :], take(resumed, steps))


CROPS = RandomCrops((0.5, 2.0), 0.5, np.ones(7, np.float32), 2)


def test_parts_of_several_machines_are_the_batches_of_one_machine(builder):
    # 13 images are three batches of 4 images. No machine may use the last image.
    options = {"image_size": 32, "batch_size": 4, "seed": 1, "cache": True}
    parts = [take(training_batches(builder, **options, part=Part(i, 4)), 5) for i in range(4)]
    assert_same(take(training_batches(builder, **options), 5), joined(parts))


@pytest.mark.parametrize("quarters", [True, False])
def test_parts_of_validation_batches(builder, quarters):
    options = {"image_size": 32, "batch_size": 6, "quarters": quarters, "fill_up": True}
    parts = [
        take(evaluation_batches(builder, "test", **options, part=Part(i, 2)), -1) for i in range(2)
    ]
    whole = take(evaluation_batches(builder, "test", **options), -1)
    assert len(whole) == (2 if quarters else 1)
    assert_same(whole, joined(parts))


def joined(parts):
    """Joins the parts of all machines to complete batches."""
    return [
        tuple(np.concatenate(arrays) for arrays in zip(*batch, strict=True))
        for batch in zip(*parts, strict=True)
    ]


@pytest.mark.parametrize("crops", [CROPS, None])
def test_cached_batches_are_the_same(builder, crops):
    options = {"image_size": 32, "batch_size": 4, "seed": 1, "crops": crops}
    steps = 3 * steps_per_epoch(builder, 4, crops)
    expected = take(training_batches(builder, **options), steps)
    assert_same(take(training_batches(builder, cache=True, **options), steps), expected)


def test_cached_images_are_decoded_once(builder, monkeypatch):
    numbers = []

    def counted(data, encoding):
        with tf.control_dependencies([tf.py_function(lambda: numbers.append(1), [], [])]):
            return decode_image(data, encoding)

    monkeypatch.setattr("lcc_tf.data.pipeline.decode_image", counted)
    options = {"image_size": 32, "batch_size": 4, "seed": 1, "crops": CROPS}
    take(training_batches(builder, cache=True, **options), 3 * steps_per_epoch(builder, 4, CROPS))
    assert len(numbers) == split_size(builder, "train")


def test_epochs_differ_in_order_and_augmentation(builder, monkeypatch):
    num_images = split_size(builder, "train")
    with monkeypatch.context() as patch:
        patch.setattr("lcc_tf.data.pipeline.augment", lambda image, mask, seed: (image, mask))
        bare = training_batches(builder, image_size=32, batch_size=num_images, seed=1)
        (first, _), (second, _) = take(bare, 2)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first.sum((1, 2, 3))), np.sort(second.sum((1, 2, 3))))
    rich = training_batches(builder, image_size=32, batch_size=num_images, seed=1)
    (first, _), (second, _) = take(rich, 2)
    unchanged = {image.tobytes() for image in first} & {image.tobytes() for image in second}
    assert len(unchanged) <= 1


def test_each_example_and_epoch_has_its_own_seed(builder, monkeypatch):
    def show_seed(image, mask, seed):
        return image, tf.zeros_like(mask) + tf.cast(seed[1], tf.int32)

    monkeypatch.setattr("lcc_tf.data.pipeline.augment", show_seed)
    batches = take(training_batches(builder, image_size=32, batch_size=13, seed=1), 3)
    assert len({mask[0, 0] for _, masks in batches for mask in masks}) == 3 * 13


def test_evaluation_batches_contain_all_images_of_the_split(builder):
    batches = take(evaluation_batches(builder, "train", image_size=64, batch_size=5), -1)
    assert_same(
        batches, take(evaluation_batches(builder, "train", image_size=64, batch_size=5), -1)
    )
    images = np.concatenate([image for image, _ in batches])
    masks = np.concatenate([mask for _, mask in batches])
    assert len(images) == split_size(builder, "train")
    stored = list(builder.as_dataset(split="train"))
    np.testing.assert_array_equal(
        masks, np.stack([example["segmentation_mask"].numpy()[..., 0] for example in stored])
    )
    encoded = builder.as_dataset(split="train", decoders={"image": tfds.decode.SkipDecoding()})
    pillow = [np.asarray(Image.open(io.BytesIO(e["image"].numpy()))) for e in encoded]
    np.testing.assert_array_equal(images, np.stack(pillow))


def test_last_batch_is_filled_with_ignored_images(builder):
    bare = take(evaluation_batches(builder, "train", image_size=32, batch_size=5), -1)
    filled = take(
        evaluation_batches(builder, "train", image_size=32, batch_size=5, fill_up=True), -1
    )
    assert [len(image) for image, _ in bare] == [5, 5, 3]
    assert [len(image) for image, _ in filled] == [5, 5, 5]
    assert_same(bare[:2], filled[:2])
    assert_same(bare[2:], [(image[:3], mask[:3]) for image, mask in filled[2:]])
    assert (filled[2][1][3:] == -1).all()
    whole = evaluation_batches(builder, "train", image_size=32, batch_size=13, fill_up=True)
    assert len(take(whole, -1)) == 1


def test_images_are_resized_bilinearly_and_masks_with_nearest_neighbor():
    image = np.zeros((4, 4, 3), np.uint8)
    image[:, 2:] = 200
    mask = np.array([[0, 0, 5, 5]] * 4, np.uint8)
    encoded = {}
    for name, array, kind in (("image", image, "PNG"), ("segmentation_mask", mask, "PNG")):
        data = io.BytesIO()
        Image.fromarray(array).save(data, kind)
        encoded[name] = tf.constant(data.getvalue())
    small, ids = decode(encoded, 8, "png")
    np.testing.assert_allclose(small[0, :, 0], [0, 0, 0, 50, 150, 200, 200, 200])
    np.testing.assert_array_equal(ids[0], [0, 0, 0, 0, 5, 5, 5, 5])


def test_empty_split_and_too_large_batch_raise(builder):
    with pytest.raises(InputError, match="The split 'holdout' .* has no images.*'train'"):
        split_size(builder, "holdout")
    with pytest.raises(InputError, match="fewer than one batch.*batch_size=1000"):
        training_batches(builder, image_size=32, batch_size=1000, seed=0)


@pytest.mark.parametrize("batches", [training_batches, evaluation_batches])
def test_no_thread_autotunes_the_batches(builder, batches):
    arguments = {"seed": 0} if batches is training_batches else {"split": "test"}
    dataset = batches(builder, image_size=32, batch_size=2, **arguments)
    assert dataset.options().autotune.enabled is False


def test_the_first_batches_are_produced_before_they_are_requested(builder):
    produced = threading.Event()

    def record():
        produced.set()
        return np.int64(0)

    batches = training_batches(builder, image_size=32, batch_size=2, seed=0)
    iterator = iter(
        batches.map(
            lambda images, masks: tf.numpy_function(record, [], tf.int64), num_parallel_calls=2
        )
    )
    assert produced.wait(timeout=60)
    del iterator
