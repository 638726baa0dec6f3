import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.metrics import (
    ImagewiseScore,
    MeanIoU,
    confusion_matrix,
    iou_per_class,
    mean_iou,
    micro_scores,
    pixel_accuracy,
)

# Six pixels, classes 0, 1, 2 (class 3 never occurs): one 0 is taken for a 1, one 2 for a 0.
Y_TRUE = np.array([[0, 0, 0], [1, 2, 2]])
Y_PRED = np.array([[0, 0, 1], [1, 2, 0]])
MATRIX = np.array([[2, 1, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]])


def test_confusion_matrix_rows_are_truth():
    matrix = confusion_matrix(Y_TRUE, Y_PRED, 4)
    np.testing.assert_array_equal(matrix, MATRIX)
    assert matrix.dtype == np.int64


def test_confusion_matrix_of_uint8_ids_does_not_overflow():
    ids = np.full(10, 199, np.uint8)
    assert confusion_matrix(ids, ids, 200)[199, 199] == 10


@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        (Y_TRUE, Y_PRED[:1], "same shape"),
        (Y_TRUE + 2, Y_PRED, r"`y_true`.*maximum=4"),
        (Y_TRUE, Y_PRED - 1, r"`y_pred`.*minimum=-1"),
    ],
)
def test_confusion_matrix_refuses(y_true, y_pred, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(y_true, y_pred, 4)


def test_scores_by_hand():
    assert pixel_accuracy(MATRIX) == pytest.approx(4 / 6)
    # tp / (tp + fp + fn): 2 / 4, 1 / 2, 1 / 2; class 3 occurs nowhere.
    np.testing.assert_allclose(iou_per_class(MATRIX), [0.5, 0.5, 0.5, np.nan])
    assert mean_iou(MATRIX) == pytest.approx(0.5)


def test_a_class_that_is_only_predicted_counts_as_zero():
    matrix = np.array([[3, 1], [0, 0]])
    assert mean_iou(matrix) == pytest.approx((0.75 + 0) / 2)


def test_micro_scores_of_an_image_by_hand():
    # Pooled over 4 classes: tp 4, fp 2, fn 2, tn 4 * 6 - 8 = 16.
    scores = micro_scores(MATRIX)
    assert scores["accuracy"] == pytest.approx((4 + 16) / 24)
    assert scores["precision"] == scores["recall"] == scores["f1"] == pytest.approx(4 / 6)
    assert scores["iou"] == pytest.approx(4 / 8)


def test_original_identities_hold_for_many_images():
    rng = np.random.default_rng(0)
    matrices = rng.integers(0, 1000, (50, 7, 7))
    scores = micro_scores(matrices)
    accuracy = pixel_accuracy(matrices)
    assert accuracy.shape == (50,)
    for name in ("precision", "recall", "f1"):
        np.testing.assert_allclose(scores[name], accuracy)
    np.testing.assert_allclose(scores["accuracy"], 1 - 2 * (1 - accuracy) / 7)
    # The original's table: an accuracy of 94.85 % goes with an F1 of 81.98 %.
    assert pytest.approx(0.9485, abs=5e-5) == 1 - 2 * (1 - 0.8198) / 7


@pytest.fixture
def batches():
    rng = np.random.default_rng(1)
    return [
        (rng.integers(0, 4, (n, 6, 5)), rng.normal(size=(n, 6, 5, 5)).astype(np.float32))
        for n in (3, 2)
    ]


@pytest.mark.parametrize("score", ["accuracy", "f1", "precision", "recall", "iou"])
def test_imagewise_score_of_training_equals_that_of_evaluation(score, batches):
    metric = ImagewiseScore(score, 5)
    expected = []
    for y_true, y_pred in batches:
        metric.update_state(y_true, y_pred)
        expected += [
            micro_scores(confusion_matrix(true, predicted, 5))[score]
            for true, predicted in zip(y_true, y_pred.argmax(-1), strict=True)
        ]
    assert float(metric.result()) == pytest.approx(np.mean(expected), rel=1e-6)


def test_mean_iou_of_training_equals_that_of_evaluation(batches):
    metric = MeanIoU(5)
    matrix = np.zeros((5, 5), np.int64)
    for y_true, y_pred in batches:
        metric.update_state(y_true, y_pred)
        matrix += confusion_matrix(y_true, y_pred.argmax(-1), 5)
    assert float(metric.result()) == pytest.approx(mean_iou(matrix), rel=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0


def test_pixels_without_truth_are_left_out_of_training_scores(batches):
    y_true, y_pred = batches[0]
    y_true = y_true.copy()
    y_true[:, :, 3:] = -1
    y_true[2] = -1  # an image that fills up a batch
    for metric in (MeanIoU(5), *(ImagewiseScore(score, 5) for score in ("iou", "accuracy"))):
        metric.update_state(y_true[:2, :, :3], y_pred[:2, :, :3])
        expected = float(metric.result())
        metric.reset_state()
        metric.update_state(y_true, y_pred)
        assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


def test_mean_iou_counts_beyond_what_float32_holds():
    metric = MeanIoU(2)
    metric.matrix.assign([[2**24, 0], [1, 1]])
    metric.update_state(np.zeros((1, 1, 1)), tf.constant([[[[1.0, 0.0]]]]))
    assert int(metric.matrix.numpy()[0, 0]) == 2**24 + 1
