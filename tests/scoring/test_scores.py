import numpy as np
import pytest

from lcc_tf.confusion_matrix import confusion_matrix
from lcc_tf.scoring.confusion import probability_matrix
from lcc_tf.scoring.definitions import describe
from lcc_tf.scoring.protocols import (
    GLNET,
    OFFICIAL6,
    ORIGINAL,
    PROTOCOLS,
)
from lcc_tf.scoring.scores import dice_loss, scores
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, ClassTable

NAMES = ("a", "b", "unknown")
# Eight pixels of the classes a, b and u (unknown). The ground truth is a a a b b u u u. The most
# probable class is a a b b u a u u. At the fifth pixel, the second most probable class is b.
MASK = np.array([[0, 0, 0, 1], [1, 2, 2, 2]], np.uint8)
FIRST = np.array([[0, 0, 1, 1], [2, 0, 2, 2]])
SECOND = np.array([[1, 2, 0, 0], [1, 2, 0, 1]])
PROBABILITIES = 0.1 + 0.5 * np.eye(3)[FIRST] + 0.2 * np.eye(3)[SECOND]
RULES = ORIGINAL.for_classes(DEEPGLOBE_CLASSES)


def named(*names):
    """Returns a class table with the given names."""
    return ClassTable(names, tuple((i, i, i) for i in range(len(names))))


def score(protocol, masks, probabilities, classes=None):
    rules = protocol.for_classes(classes or named(*NAMES))
    matrices = [
        rules.confusion_matrix(mask, rules.predicted_ids(p))
        for mask, p in zip(masks, probabilities, strict=True)
    ]
    sums = [probability_matrix(m, p) for m, p in zip(masks, probabilities, strict=True)]
    return scores(rules, np.stack(matrices), np.stack(sums))


def random_images(count, seed=0, num_classes=7):
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, num_classes, (count, 6, 5))
    logits = rng.normal(size=(*masks.shape, num_classes)) + 1.5 * np.eye(num_classes)[masks]
    probabilities = np.exp(logits)
    return masks, probabilities / probabilities.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("protocol", "matrix", "iou", "mean_iou", "pixel_accuracy"),
    [
        # tp / (tp + fn + fp): a 2 / (2 + 1 + 1), b 1 / (1 + 1 + 1), unknown 2 / (2 + 1 + 1)
        (ORIGINAL, [[2, 1, 0], [0, 1, 1], [1, 0, 2]], [1 / 2, 1 / 3, 1 / 2], 4 / 9, 5 / 8),
        (GLNET, [[2, 1, 0], [0, 1, 1], [1, 0, 2]], [1 / 2, 1 / 3, 1 / 2], 5 / 12, 5 / 8),
        # The three pixels with the ground truth u are ignored. At the fifth pixel, the prediction
        # is b instead of u.
        (OFFICIAL6, [[2, 1, 0], [0, 2, 0], [0, 0, 0]], [2 / 3, 2 / 3, np.nan], 2 / 3, 4 / 5),
    ],
)
def test_scores_of_each_protocol_equal_scores_computed_by_hand(
    protocol, matrix, iou, mean_iou, pixel_accuracy
):
    result = score(protocol, [MASK], [PROBABILITIES])
    assert result["confusion_matrix"] == matrix
    np.testing.assert_allclose(list(result["iou"].values()), iou)
    assert result["mean_iou"] == pytest.approx(mean_iou)
    assert result["pixel_accuracy"] == pytest.approx(pixel_accuracy)


def test_unknown_is_found_by_its_name():
    order = [2, 0, 1]  # unknown first
    classes = named(*(NAMES[i] for i in order))
    mask, probabilities = np.argsort(order)[MASK], PROBABILITIES[..., order]
    for protocol in PROTOCOLS.values():
        reordered, expected = (
            score(protocol, [mask], [probabilities], classes),
            score(protocol, [MASK], [PROBABILITIES]),
        )
        for key in ("mean_iou", "mean_f1", "frequency_weighted_iou", "loss", "accuracy"):
            assert reordered[key] == pytest.approx(expected[key]), (protocol.name, key)


def test_protocol_original_has_equal_f1_precision_recall_and_pixel_accuracy():
    result = score(ORIGINAL, *random_images(5), DEEPGLOBE_CLASSES)
    assert 0.3 < result["pixel_accuracy"] < 0.9
    for key in ("precision", "recall", "f1"):  # equal only because all images have the same size
        assert result[key] == pytest.approx(result["pixel_accuracy"])
    assert result["accuracy"] == pytest.approx(1 - 2 * (1 - result["pixel_accuracy"]) / 7)


def test_accuracy_of_official6_is_computed_over_six_classes():
    result = score(OFFICIAL6, *random_images(1), DEEPGLOBE_CLASSES)
    assert result["accuracy"] == pytest.approx(1 - 2 * (1 - result["pixel_accuracy"]) / 6)


def test_official6_and_glnet_are_equal_without_a_class_named_unknown():
    images, classes = random_images(3, num_classes=4), named("a", "b", "c", "d")
    assert score(OFFICIAL6, *images, classes) == score(GLNET, *images, classes)
    for protocol in (OFFICIAL6, GLNET):
        assert "all 4 classes, because no class is named unknown" in describe(
            protocol.for_classes(classes)
        )
    assert (
        len({describe(protocol.for_classes(DEEPGLOBE_CLASSES)) for protocol in PROTOCOLS.values()})
        == 3
    )


def test_score_of_an_absent_class_is_nan_and_not_in_means():
    mask = np.array([[0, 0, 1, 1]])
    probabilities = np.eye(4)[[[0, 1, 1, 1]]]
    result = score(ORIGINAL, [mask], [probabilities], named("a", "b", "c", "d"))
    np.testing.assert_allclose(list(result["iou"].values()), [1 / 2, 2 / 3, np.nan, np.nan])
    assert result["mean_iou"] == pytest.approx(7 / 12)
    assert result["mean_recall"] == pytest.approx(3 / 4)
    assert result["mean_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert result["mean_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert np.isnan(result["class_f1"]["c"])


def test_frequency_weighted_means_equal_means_computed_by_hand():
    mask = np.array([[0, 0, 0, 1]])
    probabilities = np.eye(2)[[[0, 0, 1, 1]]]
    result = score(ORIGINAL, [mask], [probabilities], named("a", "b"))
    assert result["frequency_weighted_iou"] == pytest.approx(3 / 4 * 2 / 3 + 1 / 4 * 1 / 2)
    assert result["frequency_weighted_recall"] == pytest.approx(3 / 4)
    assert result["frequency_weighted_precision"] == pytest.approx(3 / 4 * 1 + 1 / 4 * 1 / 2)


def slow_dice(masks, probabilities, classes):
    """Computes the Dice loss from its definition, without confusion matrices."""
    losses = []
    for start in range(0, len(masks), 7):
        y, p = np.eye(7)[masks[start : start + 7]], probabilities[start : start + 7]
        per_class = [
            1 - 2 * (p * y)[..., k].sum() / (p + y)[..., k].sum() if y[..., k].any() else 0
            for k in classes
        ]
        losses += [np.mean(per_class)] * len(y)
    return np.mean(losses)


def test_dice_loss_is_computed_over_batches_of_seven_images():
    masks, probabilities = random_images(9)
    masks[7:][masks[7:] == 2] = 1  # class 2 is not in the second batch
    result = score(ORIGINAL, masks, probabilities, DEEPGLOBE_CLASSES)
    assert result["loss"] == pytest.approx(slow_dice(masks, probabilities, range(7)))
    y = masks != 6
    known = np.where(y[..., None], probabilities, 0)
    expected = slow_dice(np.where(y, masks, 6), known, range(6))
    assert score(OFFICIAL6, masks, probabilities, DEEPGLOBE_CLASSES)["loss"] == pytest.approx(
        expected
    )
    matrices = np.stack([confusion_matrix(m, m, 7) for m in masks])
    perfect = np.stack([probability_matrix(m, np.eye(7)[m]) for m in masks])
    assert dice_loss(matrices, perfect, range(7)) == 0


def test_intervals_agree_with_the_normal_approximation():
    rng = np.random.default_rng(0)
    right = rng.integers(20, 80, 400)
    matrices = np.zeros((400, 7, 7), np.int64)
    matrices[:, 0, 0], matrices[:, 1, 2] = right, 100 - right
    intervals = scores(RULES, matrices, matrices.astype(float))["intervals"]
    low, high = intervals["pixel_accuracy"]
    accuracy = right / 100
    error = accuracy.std() / np.sqrt(400)
    assert low == pytest.approx(accuracy.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(accuracy.mean() + 1.96 * error, abs=0.2 * error)


def test_intervals_of_two_images_equal_intervals_computed_by_hand():
    matrices = np.zeros((2, 7, 7), np.int64)
    matrices[0, 0, 0] = matrices[1, 1, 2] = 10
    # A resample contains both images with probability 1/2, only the first image with probability
    # 1/4, and only the second image with probability 1/4. The scores are 1/2, 1 and 0.
    both = scores(RULES, matrices, matrices.astype(float))["intervals"]
    assert both["pixel_accuracy"] == both["f1"] == [0, 1]
    alike = scores(RULES, matrices[[0, 0]], matrices[[0, 0]].astype(float))["intervals"]
    assert alike["mean_iou"] == [1, 1]
    single = scores(RULES, matrices[:1], matrices[:1].astype(float))["intervals"]
    assert np.isnan(single["mean_iou"]).all()


def test_image_without_scored_pixels_is_not_in_means_over_images():
    masks, probabilities = random_images(2)
    expected = score(OFFICIAL6, masks[:1], probabilities[:1], DEEPGLOBE_CLASSES)
    masks[1] = 6
    result = score(OFFICIAL6, masks, probabilities, DEEPGLOBE_CLASSES)
    for key in ("f1", "accuracy", "image_iou", "mean_iou"):
        assert result[key] == pytest.approx(expected[key])
