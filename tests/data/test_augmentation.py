import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.data.augmentation import augment, brightness_contrast, elastic, gaussian_noise

SIZE = 48
GRAY = 128


@tf.function
def augmented(image, mask, seed):
    return augment(image, mask, tf.stack([tf.constant(0, tf.int64), seed]))


@pytest.fixture(scope="module")
def example():
    """Returns a mask with smooth regions of two classes, and an image of the mask.

    In the image, class 0 is black and class 1 is gray.
    """
    rng = np.random.default_rng(0)
    coarse = tf.constant(rng.normal(size=(1, 6, 6, 2)), tf.float32)
    mask = tf.argmax(tf.image.resize(coarse, (SIZE, SIZE), "bicubic")[0], -1, tf.int32)
    return tf.cast(mask[..., None] * 200 * tf.ones(3, tf.int32), tf.float32), mask


@pytest.fixture(scope="module")
def gray_examples(example):
    """Returns the results of a gray image for 400 seeds.

    In a gray image, the effects of the different changes can be distinguished.
    """
    gray = tf.fill((SIZE, SIZE, 3), float(GRAY))
    results = [augmented(gray, example[1], tf.constant(seed, tf.int64)) for seed in range(400)]
    return [(image.numpy(), mask.numpy()) for image, mask in results]


@pytest.fixture(scope="module")
def dihedral(example):
    """Returns the mask with all eight combinations of flips and rotations."""
    mask = example[1].numpy()
    moved = {
        np.ascontiguousarray(np.rot90(flipped, k)).tobytes()
        for flipped in (mask, mask[:, ::-1])
        for k in range(4)
    }
    assert len(moved) == 8
    return moved


def test_equal_seeds_return_equal_results(example):
    first, same, other = (augmented(*example, tf.constant(s, tf.int64)) for s in (7, 7, 8))
    for a, b in zip(first, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


def test_image_and_mask_have_the_same_changes(example):
    moved = 0
    for seed in range(80):
        image, mask = augmented(*example, tf.constant(seed, tf.int64))
        assert image.shape == (SIZE, SIZE, 3)
        assert mask.shape == (SIZE, SIZE)
        assert mask.dtype == tf.int32
        # Without noise, pixels of class 1 are at least 0.8 * 200 - 51, and pixels of class 0 are at
        # most 51. Some pixels at borders differ, because the image is resampled bilinearly and the
        # mask with nearest neighbor.
        shown = image.numpy().mean(axis=-1) > 85
        assert np.mean(shown != mask.numpy()) < 0.02
        moved += not np.array_equal(mask, example[1])
    assert moved > 60


def test_all_flips_and_rotations_occur(gray_examples, dihedral):
    assert dihedral <= {mask.tobytes() for _, mask in gray_examples}


def test_each_change_occurs_with_its_probability(gray_examples, dihedral):
    # In a gray image, only noise changes single pixels, and only brightness changes the mean.
    noisy = np.mean([image.std() > 1 for image, _ in gray_examples])
    bright = np.mean([abs(image.mean() - GRAY) > 0.5 for image, _ in gray_examples])
    warped = np.mean([mask.tobytes() not in dihedral for _, mask in gray_examples])
    # For 400 seeds, three standard deviations of the measured probability are at most 0.07.
    assert noisy == pytest.approx(0.2, abs=0.07)
    assert bright == pytest.approx(0.3, abs=0.07)
    assert warped == pytest.approx(0.2, abs=0.07)


def test_elastic_displacements_are_smooth_and_have_the_documented_strength():
    ramp = tf.tile(tf.range(256, dtype=tf.float32)[None, :, None], [256, 1, 3])
    displacements = []
    for seed in range(20):
        warped, _ = elastic(ramp, tf.zeros((256, 256), tf.int32), tf.constant([0, seed], tf.int64))
        inner = (warped - ramp).numpy()[32:-32, 32:-32, 0]
        displacements.append(inner)
        assert np.abs(np.diff(inner, axis=0)).max() < 1
    # The standard deviation at the nodes of the grid is 2 % of 256 pixels, which is 5.12 pixels.
    # Interpolation between the nodes reduces it.
    assert 0.5 * 5.12 < np.std(displacements) < 1.2 * 5.12


def test_elastic_does_not_change_a_constant_image():
    image = tf.fill((32, 32, 3), 77.0)
    warped, mask = elastic(image, tf.fill((32, 32), 3), tf.constant([0, 0], tf.int64))
    np.testing.assert_allclose(warped, image, rtol=1e-6)
    assert (mask.numpy() == 3).all()


def test_brightness_and_contrast_vary_within_their_limits():
    image = tf.linspace(0.0, 255.0, 300)[None, :, None] * tf.ones(3)
    changed = [brightness_contrast(image, tf.constant([0, s], tf.int64)).numpy() for s in range(30)]
    assert min(map(np.min, changed)) >= 0
    assert max(map(np.max, changed)) <= 255
    middles = [x[0, 150, 0] for x in changed]
    assert np.std(middles) > 10
    assert max(abs(middle - 127) for middle in middles) <= 0.2 * 255 + 0.2 * 128


def test_noise_has_the_documented_variance_and_differs_between_channels():
    image = tf.fill((64, 64, 3), 128.0)
    variances = [
        np.var(gaussian_noise(image, tf.constant([0, seed], tf.int64)).numpy())
        for seed in range(30)
    ]
    assert min(variances) > 9
    assert max(variances) < 53
    assert np.std(variances) > 5
    noisy = gaussian_noise(image, tf.constant([0, 0], tf.int64)).numpy()
    assert not np.allclose(noisy[..., 0], noisy[..., 1])
