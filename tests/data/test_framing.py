import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.data.framing import RandomCrops, decode, quarters_of

HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope="module")
def example():
    """Returns an example with one gray level per class. A rare class has only 9 pixels."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, WIDTH // 2 :] = 1
    mask[8:11, 8:11] = 2
    image = np.stack([mask * 100] * 3, axis=-1)
    return {
        "image": tf.io.encode_jpeg(image, quality=100, chroma_downsampling=False),
        "segmentation_mask": tf.io.encode_png(mask[..., None]),
    }


def crops(example, count=64, image_size=32, scale=(1.0, 1.0), share=0.0, rarity=(1, 1, 1)):
    draw = tf.function(RandomCrops(scale, share, np.float32(rarity)))
    seeds = np.stack([np.zeros(count), np.arange(count)], axis=-1).astype(np.int64)
    return [draw(example, image_size, seed) for seed in seeds]


def test_crop_with_scale_1_has_the_same_pixels_as_the_image(example):
    whole = tf.cast(tf.io.decode_jpeg(example["image"], dct_method="INTEGER_ACCURATE"), tf.float32)
    windows = tf.image.extract_patches(
        whole[None], [1, 32, 32, 1], [1, 1, 1, 1], [1, 1, 1, 1], "VALID"
    )
    windows = tf.reshape(windows, [-1, 32 * 32 * 3])
    for image, _ in crops(example, count=4):
        distance = tf.reduce_max(tf.abs(windows - tf.reshape(image, [1, -1])), axis=1)
        assert float(tf.reduce_min(distance)) == 0


def test_image_and_mask_have_the_same_crop(example):
    for image, mask in crops(example, scale=(0.5, 2.0)):
        assert image.shape == (32, 32, 3)
        assert mask.shape == (32, 32)
        wrong = tf.abs(image[..., 0] - tf.cast(mask, tf.float32) * 100) > 50
        assert float(tf.reduce_mean(tf.cast(wrong, tf.float32))) < 0.05


def test_crops_of_different_seeds_differ_and_some_touch_the_border(example):
    masks = [mask.numpy() for _, mask in crops(example, count=128, image_size=64)]
    assert len({mask.tobytes() for mask in masks}) > 30
    # A crop has 64 of 128 columns. Therefore, a crop with only class 1 is at the right border.
    assert any((mask == 1).all() for mask in masks)
    same = crops(example, count=2)[1][0], crops(example, count=2)[1][0]
    np.testing.assert_array_equal(*same)


def test_larger_scale_shows_less_ground(example):
    # A crop with 32x32 pixels shows 64x64 pixels of the image at scale 0.5, and 16x16 at scale 2.
    def fraction_with_both(scale):
        masks = [mask.numpy() for _, mask in crops(example, scale=(scale, scale))]
        return np.mean([0 in mask and 1 in mask for mask in masks])

    # Of 65 possible windows with 64 columns, 63 contain both classes. Of 113 possible windows with
    # 16 columns, 15 contain both classes.
    assert fraction_with_both(0.5) > 0.85
    assert fraction_with_both(2.0) < 0.35


def test_crop_larger_than_the_image_is_reflect_padded(example):
    (image, mask), *_ = crops(example, count=1, image_size=160)
    whole = tf.io.decode_png(example["segmentation_mask"])[..., 0].numpy()
    expected = np.pad(whole, [(0, 160 - HEIGHT), (0, 160 - WIDTH)], mode="reflect")
    np.testing.assert_array_equal(mask, expected)
    assert np.abs(image[..., 0] - expected * 100.0).mean() < 5


def test_rare_class_share_is_the_fraction_of_crops_with_rare_classes(example):
    def fraction_with_rare(share):
        masks = crops(example, share=share, rarity=(0, 0, 1))
        return np.mean([2 in mask.numpy() for _, mask in masks])

    assert fraction_with_rare(1.0) == 1
    assert fraction_with_rare(0.0) < 0.5
    assert 0.3 < fraction_with_rare(0.5) < 0.9


def test_images_without_rare_classes_have_random_crops(example):
    masks = [mask.numpy() for _, mask in crops(example, share=1.0, rarity=(0, 0, 0))]
    assert len({mask.tobytes() for mask in masks}) > 3


def test_quarters_cover_an_image_with_twice_the_side():
    mask = np.arange(16, dtype=np.uint8).reshape(4, 4).repeat(16, 0).repeat(16, 1)
    example = {
        "image": tf.io.encode_jpeg(np.stack([mask] * 3, axis=-1)),
        "segmentation_mask": tf.io.encode_png(mask[..., None]),
    }
    images, masks = quarters_of(example, 32)
    assert images.shape == (4, 32, 32, 3)
    rows = np.concatenate([masks[:2].numpy(), masks[2:].numpy()], axis=1)
    np.testing.assert_array_equal(np.concatenate(list(rows), axis=1), mask)


def test_quarters_of_a_small_image_are_padded(example):
    _, masks = quarters_of(example, 192)
    assert masks.shape == (4, 192, 192)


def test_decode_resizes_the_whole_image(example):
    image, mask = decode(example, 64)
    assert image.shape == (64, 64, 3)
    assert set(np.unique(mask)) == {0, 1, 2}
