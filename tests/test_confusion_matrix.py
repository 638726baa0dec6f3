import numpy as np
import pytest
import sklearn.metrics

from lcc_tf.confusion_matrix import (
    cohen_kappa,
    confusion_matrix,
    f1_per_class,
    iou_per_class,
    micro_scores,
    pixel_accuracy,
    precision_per_class,
    recall_per_class,
    weighted_mean,
)
from lcc_tf.errors import InputError

# Six pixels of the classes 0, 1 and 2. Class 3 does not occur. One pixel of class 0 is predicted as
# class 1, and one pixel of class 2 is predicted as class 0.
Y_TRUE = np.array([[0, 0, 0], [1, 2, 2]])
Y_PRED = np.array([[0, 0, 1], [1, 2, 0]])
MATRIX = np.array([[2, 1, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]])


def test_rows_are_true_classes():
    matrix = confusion_matrix(Y_TRUE, Y_PRED, 4)
    np.testing.assert_array_equal(matrix, MATRIX)
    assert matrix.dtype == np.int64


def test_uint8_ids_do_not_overflow():
    ids = np.full(10, 199, np.uint8)
    assert confusion_matrix(ids, ids, 200)[199, 199] == 10


@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        (Y_TRUE, Y_PRED[:1], "same shape"),
        (Y_TRUE + 2, Y_PRED, r"`y_true`.*maximum=4"),
        (Y_TRUE - 2, Y_PRED, r"`y_true`.*minimum=-2"),
        (Y_TRUE, Y_PRED - 1, r"`y_pred`.*minimum=-1"),
    ],
)
def test_invalid_ids_raise(y_true, y_pred, message):
    with pytest.raises(InputError, match=message):
        confusion_matrix(y_true, y_pred, 4)


def test_ids_of_any_dtype_are_counted():
    for dtype in (np.uint64, np.float32, bool):
        ids = np.array([0, 1, 1], dtype)
        np.testing.assert_array_equal(confusion_matrix(ids, ids, 2), [[1, 0], [0, 2]])


@pytest.mark.parametrize("ids", [[0.5, 1, 1], [np.nan, 1, 1], ["0", "1", "1"]])
def test_ids_that_are_not_whole_numbers_raise(ids):
    with pytest.raises(InputError, match="`y_true` must contain class ids"):
        confusion_matrix(np.array(ids), [0, 1, 1], 2)


def test_void_pixels_are_not_counted():
    y_true = np.array([0, 1, 2, -1, 2, 1])
    y_pred = np.array([0, 2, 2, 1, 0, 1])
    expected = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(confusion_matrix(y_true, y_pred, 3, ignore_class=2), expected)
    expected[2] = [1, 0, 1]
    np.testing.assert_array_equal(confusion_matrix(y_true, y_pred, 3), expected)


def test_void_label_outside_the_classes():
    matrix = confusion_matrix(np.append(Y_TRUE, 255), np.append(Y_PRED, 0), 4, ignore_class=255)
    np.testing.assert_array_equal(matrix, MATRIX)
    with pytest.raises(InputError, match="maximum=255"):
        confusion_matrix(np.append(Y_TRUE, 255), np.append(Y_PRED, 0), 4)


def random_maps(seed):
    """Returns four masks and predictions.

    The masks do not contain class 4, the predictions do not contain class 2, and neither masks nor
    predictions contain class 5.
    """
    rng = np.random.default_rng(seed)
    y_true = rng.choice([0, 1, 2, 3, 6], size=(4, 9, 8))
    y_pred = np.where(rng.random(y_true.shape) < 0.6, y_true, rng.integers(0, 7, y_true.shape))
    return y_true, np.where((y_pred == 2) | (y_pred == 5), 4, y_pred)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ignore_class", [None, 6])
def test_scores_equal_the_scores_of_scikit_learn(seed, ignore_class):
    y_true, y_pred = random_maps(seed)
    y_true[0, :2] = -1
    matrix = confusion_matrix(y_true, y_pred, 7, ignore_class=ignore_class)
    kept = (y_true != -1) & (y_true != (-1 if ignore_class is None else ignore_class))
    pair, labels = (y_true[kept], y_pred[kept]), np.arange(7)
    np.testing.assert_array_equal(matrix, sklearn.metrics.confusion_matrix(*pair, labels=labels))
    assert pixel_accuracy(matrix) == pytest.approx(sklearn.metrics.accuracy_score(*pair))
    assert cohen_kappa(matrix) == pytest.approx(sklearn.metrics.cohen_kappa_score(*pair))

    expected = dict(
        zip(
            (precision_per_class, recall_per_class, f1_per_class),
            sklearn.metrics.precision_recall_fscore_support(
                *pair, labels=labels, zero_division=np.nan
            ),
            strict=False,
        )
    )
    for score, values in expected.items():
        np.testing.assert_allclose(score(matrix), values)
    assert np.isnan(f1_per_class(matrix)).tolist() == [False] * 5 + [True, False]
    present = [0, 1, 2, 3, 4, 6]  # in scikit-learn, the IoU of an absent class is 0 or 1
    iou = sklearn.metrics.jaccard_score(*pair, labels=present, average=None)
    np.testing.assert_allclose(iou_per_class(matrix)[present], iou)
    assert np.isnan(iou_per_class(matrix)[5])

    averages = {"macro": np.ones(7), "weighted": matrix.sum(axis=-1)}
    for name, weights in averages.items():
        macro = sklearn.metrics.precision_recall_fscore_support(
            *pair, labels=labels, average=name, zero_division=np.nan
        )
        for score, value in zip(expected, macro, strict=False):
            assert weighted_mean(score(matrix), weights) == pytest.approx(value)


def test_kappa_by_hand():
    # The accuracy is 15 / 20. The accuracy by chance is
    # (12 / 20) (11 / 20) + (8 / 20) (9 / 20) = 0.51.
    assert cohen_kappa(np.array([[9, 3], [2, 6]])) == pytest.approx((0.75 - 0.51) / 0.49)
    assert np.isnan(cohen_kappa(np.array([[5, 0], [0, 0]])))


# Results of `get_stats` of segmentation_models_pytorch (smp) 0.5.0, with the reduction
# "micro-imagewise". The keys are values of `ignore_class`. In smp, pixels of an ignored class had
# the label -1, and `ignore_index` was -1.
SMP = {
    None: {"accuracy": 0.891865074634552, "f1": 0.6215277910232544, "iou": 0.4509091079235077},
    6: {"accuracy": 0.8954002857208252, "f1": 0.6339009404182434, "iou": 0.46541664004325867},
}


@pytest.mark.parametrize("ignore_class", [None, 6])
def test_micro_scores_equal_the_scores_of_smp(ignore_class):
    rng = np.random.default_rng(7)
    y_true = rng.choice([0, 1, 2, 3, 5, 6], size=(4, 9, 8))
    is_right, other = rng.random(y_true.shape) < 0.6, rng.choice([0, 1, 3, 4, 6], size=y_true.shape)
    y_pred = np.where(is_right, y_true, other)
    matrices = np.stack(
        [
            confusion_matrix(true, predicted, 7, ignore_class=ignore_class)
            for true, predicted in zip(y_true, y_pred, strict=True)
        ]
    )
    scores = {name: values.mean() for name, values in micro_scores(matrices).items()}
    expected = SMP[ignore_class]
    assert scores == pytest.approx(
        expected | {"precision": expected["f1"], "recall": expected["f1"]}, abs=1e-6
    )


def test_scores_by_hand():
    assert pixel_accuracy(MATRIX) == pytest.approx(4 / 6)
    # tp / (tp + fp + fn) is 2 / 4, 1 / 2 and 1 / 2 for the classes 0 to 2. Class 3 does not occur.
    np.testing.assert_allclose(iou_per_class(MATRIX), [0.5, 0.5, 0.5, np.nan])


def test_class_that_is_only_predicted_has_iou_0():
    np.testing.assert_allclose(iou_per_class(np.array([[3, 1], [0, 0]])), [0.75, 0])


def test_micro_scores_of_an_image_by_hand():
    # The sums over 4 classes are tp = 4, fp = 2, fn = 2 and tn = 4 * 6 - 8 = 16.
    scores = micro_scores(MATRIX)
    assert scores["accuracy"] == pytest.approx((4 + 16) / 24)
    assert scores["precision"] == scores["recall"] == scores["f1"] == pytest.approx(4 / 6)
    assert scores["iou"] == pytest.approx(4 / 8)


def test_micro_scores_follow_from_the_pixel_accuracy():
    rng = np.random.default_rng(0)
    matrices = rng.integers(0, 1000, (50, 7, 7))
    scores = micro_scores(matrices)
    accuracy = pixel_accuracy(matrices)
    assert accuracy.shape == (50,)
    for name in ("precision", "recall", "f1"):
        np.testing.assert_allclose(scores[name], accuracy)
    np.testing.assert_allclose(scores["accuracy"], 1 - 2 * (1 - accuracy) / 7)
    np.testing.assert_allclose(scores["iou"], accuracy / (2 - accuracy))
    # The original PyTorch notebooks report an accuracy of 94.85 % and an F1 of 81.98 %.
    assert pytest.approx(0.9485, abs=5e-5) == 1 - 2 * (1 - 0.8198) / 7
