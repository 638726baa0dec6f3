import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.data import augmentation
from lcc_tf.data.augmentation import augment, brightness_contrast, elastic, gaussian_noise

SIZE = 48


@pytest.fixture(scope="module")
def example():
    """A mask of two classes in smooth regions, and an image that shows nothing but the mask."""
    rng = np.random.default_rng(0)
    coarse = tf.constant(rng.normal(size=(1, 6, 6, 2)), tf.float32)
    mask = tf.argmax(tf.image.resize(coarse, (SIZE, SIZE), "bicubic")[0], -1, tf.int32)
    return tf.cast(mask[..., None] * 200 * tf.ones(3, tf.int32), tf.float32), mask


@tf.function
def augmented(image, mask, seed):
    return augment(image, mask, tf.stack([tf.constant(0, tf.int64), seed]))


def test_same_seed_same_result_other_seed_another(example):
    one, again, other = (augmented(*example, tf.constant(s, tf.int64)) for s in (7, 7, 8))
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one[0], other[0])


def test_mask_moves_with_the_image(example, monkeypatch):
    # Without noise and brightness the image still shows nothing but the mask.
    monkeypatch.setattr(augmentation, "NOISE_PROBABILITY", 0.0)
    monkeypatch.setattr(augmentation, "BRIGHTNESS_CONTRAST_PROBABILITY", 0.0)
    monkeypatch.setattr(augmentation, "ELASTIC_PROBABILITY", 0.5)
    moved = 0
    for seed in range(40):
        image, mask = augment(*example, tf.constant([3, seed], tf.int64))
        assert image.shape == (SIZE, SIZE, 3)
        assert mask.shape == (SIZE, SIZE)
        assert mask.dtype == tf.int32
        shown = image.numpy()[..., 0] > 100
        # Bilinear and nearest may differ where an edge has its corners, a few pixels.
        assert np.mean(shown != mask.numpy()) < 0.02
        moved += not np.array_equal(mask, example[1])
    assert moved > 30


def test_dihedral_moves_are_exact_and_all_occur(example, monkeypatch):
    for name in ("NOISE", "BRIGHTNESS_CONTRAST", "ELASTIC"):
        monkeypatch.setattr(augmentation, f"{name}_PROBABILITY", 0.0)
    seen = {
        augment(*example, tf.constant([0, seed], tf.int64))[1].numpy().tobytes()
        for seed in range(150)
    }
    mask = example[1].numpy()
    dihedral = {
        np.ascontiguousarray(np.rot90(flipped, k)).tobytes()
        for flipped in (mask, mask[:, ::-1])
        for k in range(4)
    }
    assert len(dihedral) == 8
    assert seen == dihedral


def test_each_change_occurs_with_its_probability(example, monkeypatch):
    counts = dict.fromkeys(("elastic", "brightness_contrast", "gaussian_noise"), 0)

    def count(name, unchanged):
        def change(*arguments):
            counts[name] += 1
            return unchanged(*arguments)

        monkeypatch.setattr(augmentation, name, change)

    count("elastic", lambda image, mask, seed: (image, mask))
    count("brightness_contrast", lambda image, seed: image)
    count("gaussian_noise", lambda image, seed: image)
    for seed in range(400):
        augment(*example, tf.constant([1, seed], tf.int64))
    # Three standard deviations of a binomial of 400 draws are at most 0.07.
    assert counts["elastic"] / 400 == pytest.approx(0.2, abs=0.07)
    assert counts["brightness_contrast"] / 400 == pytest.approx(0.3, abs=0.07)
    assert counts["gaussian_noise"] / 400 == pytest.approx(0.2, abs=0.07)


def test_elastic_field_is_smooth_and_of_the_stated_size():
    ramp = tf.tile(tf.range(256, dtype=tf.float32)[None, :, None], [256, 1, 3])
    displacements = []
    for seed in range(20):
        warped, _ = elastic(ramp, tf.zeros((256, 256), tf.int32), tf.constant([0, seed], tf.int64))
        inner = (warped - ramp).numpy()[32:-32, 32:-32, 0]
        displacements.append(inner)
        assert np.abs(np.diff(inner, axis=0)).max() < 1
    # 2 % of 256 pixels, less what the interpolation between the grid's nodes takes away.
    assert 0.5 * 5.12 < np.std(displacements) < 1.2 * 5.12


def test_elastic_of_a_constant_image_is_constant():
    image = tf.fill((32, 32, 3), 77.0)
    warped, mask = elastic(image, tf.fill((32, 32), 3), tf.constant([0, 0], tf.int64))
    np.testing.assert_allclose(warped, image, rtol=1e-6)
    assert (mask.numpy() == 3).all()


def test_brightness_and_contrast_stay_in_range_and_vary():
    image = tf.linspace(0.0, 255.0, 300)[None, :, None] * tf.ones(3)
    changed = [brightness_contrast(image, tf.constant([0, s], tf.int64)).numpy() for s in range(30)]
    assert min(map(np.min, changed)) >= 0
    assert max(map(np.max, changed)) <= 255
    middles = [x[0, 150, 0] for x in changed]
    assert np.std(middles) > 10
    assert max(abs(middle - 127) for middle in middles) <= 0.2 * 255 + 0.2 * 128


def test_noise_has_the_stated_variance_and_differs_by_pixel_and_channel():
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
