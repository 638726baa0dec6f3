import numpy as np
import pytest
from scipy.ndimage import gaussian_gradient_magnitude

from lcc_tf.data.demo_scenes import render_scene
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES

NUM_CLASSES = DEEPGLOBE_CLASSES.num_classes


@pytest.fixture(scope="module")
def scenes():
    """Returns the images and masks of the first 80 scenes with the default seed."""
    images, masks = zip(*(render_scene(0, index, 128) for index in range(80)), strict=True)
    return np.stack(images), np.stack(masks)


@pytest.mark.parametrize("size", [64, 101])
def test_shapes_and_dtypes_of_a_scene(size):
    image, mask = render_scene(0, 0, size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert mask.shape == (size, size)
    assert mask.dtype == np.uint8
    assert mask.max() < NUM_CLASSES


def test_scene_depends_only_on_its_arguments():
    first = render_scene(3, 5, 96)
    np.random.seed(1)
    others = render_scene(3, 6, 96), render_scene(4, 5, 96)
    again = render_scene(3, 5, 96)
    np.testing.assert_array_equal(again[0], first[0])
    np.testing.assert_array_equal(again[1], first[1])
    for image, _ in others:
        assert (image != first[0]).any()


def test_every_class_is_frequent(scenes):
    _, masks = scenes
    fractions = np.bincount(masks.ravel(), minlength=NUM_CLASSES) / masks.size
    assert fractions.min() > 0.04
    assert fractions.max() < 0.30
    # If a quarter of the scenes contain a class, the probability that a split of 12 scenes does not
    # contain the class is 0.75^12 = 3 %.
    in_scene = np.stack([(masks == class_id).any(axis=(1, 2)) for class_id in range(NUM_CLASSES)])
    assert in_scene.mean(axis=1).min() > 0.25


def test_scenes_contain_several_classes_but_usually_not_all(scenes):
    _, masks = scenes
    counts = np.array([len(np.unique(mask)) for mask in masks])
    assert counts.min() >= 2
    assert counts.mean() < 6


def test_color_alone_does_not_predict_the_class(scenes):
    images, masks = scenes
    bins = (images >> 4).astype(int) @ np.array([256, 16, 1])
    fit, held_out = slice(0, 60), slice(60, None)
    votes = np.bincount((bins[fit] * NUM_CLASSES + masks[fit]).ravel(), minlength=7 * 16**3)
    predicted = votes.reshape(-1, NUM_CLASSES).argmax(axis=1)[bins[held_out]]
    ious = []
    for class_id in range(NUM_CLASSES):
        is_class, is_predicted = masks[held_out] == class_id, predicted == class_id
        ious.append((is_class & is_predicted).sum() / (is_class | is_predicted).sum())
    assert np.mean(ious) < 0.42


def test_mask_borders_are_image_edges(scenes):
    images, masks = scenes
    strength = {}
    for shift in (0, 4, -4):
        strengths = []
        for image, mask in zip(images[:30], masks[:30], strict=True):
            edges = gaussian_gradient_magnitude(image.mean(axis=-1), 1)
            borders = np.roll((mask[1:-1, 1:-1] != mask[:-2, 1:-1]), shift, axis=0)
            strengths.append(edges[1:-1, 1:-1][8:-8][borders[8:-8]].mean())
        strength[shift] = np.mean(strengths)
    assert strength[0] > 1.25 * max(strength[4], strength[-4])
