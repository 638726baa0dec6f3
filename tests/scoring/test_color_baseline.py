import numpy as np

from lcc_tf.scoring.color_baseline import ColorBaseline


def batch(seed, wrong_fraction):
    """Returns images and masks of two classes, red and green.

    Args:
        seed: random seed.
        wrong_fraction: fraction of the pixels that have the color of the other class.
    """
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, 2, (2, 32, 32))
    shown = np.where(rng.uniform(size=masks.shape) < wrong_fraction, 1 - masks, masks)
    images = np.where(shown[..., None] == 0, [200.0, 20, 20], [20.0, 200, 20])
    return images + rng.uniform(-10, 10, images.shape), masks


def accuracy(wrong_fraction):
    batches = [batch(seed, wrong_fraction) for seed in (0, 1)]
    baseline = ColorBaseline.fit(batches, 2)
    images, masks = batch(2, wrong_fraction)
    return np.mean(baseline.probabilities(images).argmax(-1) == masks)


def test_baseline_predicts_the_class_of_a_color():
    assert accuracy(0.0) == 1
    assert 0.6 < accuracy(0.3) < 0.8


def test_probabilities_equal_the_class_frequencies_of_a_color():
    images, masks = batch(0, 0.25)
    baseline = ColorBaseline.fit([(images, masks)] * 100, 2)
    probabilities = baseline.probabilities(images)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-6)
    red = images[..., 0] > 100
    assert abs(probabilities[red][:, 0].mean() - (masks[red] == 0).mean()) < 0.01


def test_probabilities_of_an_unseen_color_are_the_frequencies_of_all_pixels():
    masks = np.array([[[0, 0, 0, 1]]])
    baseline = ColorBaseline.fit([(np.zeros((1, 1, 4, 3)), masks)], 2)
    unseen = baseline.probabilities(np.full((1, 1, 1, 3), 255.0))
    np.testing.assert_allclose(unseen[0, 0, 0], [0.75, 0.25], rtol=1e-6)


def test_void_pixels_are_not_used():
    images = np.zeros((1, 2, 2, 3), np.uint8)
    masks = np.array([[[0, 0], [-1, 1]]])
    expected = ColorBaseline.fit([(images[:, :, :1], np.array([[[0], [0]]]))], 2)
    baseline = ColorBaseline.fit([(images, np.where(masks == 1, -1, masks))], 2)
    np.testing.assert_array_equal(
        baseline.probabilities(images[0]), expected.probabilities(images[0])
    )
