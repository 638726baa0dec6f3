import keras
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.metrics import (
    ImagewiseScore,
    MeanIoU,
    PixelAccuracy,
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
        (Y_TRUE - 2, Y_PRED, r"`y_true`.*minimum=-2"),
        (Y_TRUE, Y_PRED - 1, r"`y_pred`.*minimum=-1"),
    ],
)
def test_confusion_matrix_refuses(y_true, y_pred, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(y_true, y_pred, 4)


def test_pixels_without_truth_and_of_the_ignored_class_are_not_counted():
    y_true = np.array([0, 1, 2, -1, 2, 1])
    y_pred = np.array([0, 2, 2, 1, 0, 1])
    expected = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(confusion_matrix(y_true, y_pred, 3, ignore_class=2), expected)
    expected[2] = [1, 0, 1]
    np.testing.assert_array_equal(confusion_matrix(y_true, y_pred, 3), expected)


def random_maps(seed):
    """Four maps of 9x8 pixels: class 4 is never true, class 2 never predicted, class 5 neither."""
    rng = np.random.default_rng(seed)
    y_true = rng.choice([0, 1, 2, 3, 6], size=(4, 9, 8))
    y_pred = np.where(rng.random(y_true.shape) < 0.6, y_true, rng.integers(0, 7, y_true.shape))
    return y_true, np.where((y_pred == 2) | (y_pred == 5), 4, y_pred)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ignore_class", [None, 6])
def test_scores_equal_those_of_scikit_learn(seed, ignore_class):
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
    present = [0, 1, 2, 3, 4, 6]  # scikit-learn's IoU of an absent class is 0 or 1
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
    # Accuracy 15 / 20; by chance (12 / 20) (11 / 20) + (8 / 20) (9 / 20) = 0.51.
    assert cohen_kappa(np.array([[9, 3], [2, 6]])) == pytest.approx((0.75 - 0.51) / 0.49)
    assert np.isnan(cohen_kappa(np.array([[5, 0], [0, 0]])))


# `get_stats` and the micro-imagewise scores of segmentation_models_pytorch 0.5.0, of all pixels and
# of those whose truth is not class 6 (there as `ignore_index=-1`).
SMP = {
    None: {"accuracy": 0.891865074634552, "f1": 0.6215277910232544, "iou": 0.4509091079235077},
    6: {"accuracy": 0.8954002857208252, "f1": 0.6339009404182434, "iou": 0.46541664004325867},
}


@pytest.mark.parametrize("ignore_class", [None, 6])
def test_micro_scores_equal_those_of_smp(ignore_class):
    rng = np.random.default_rng(7)
    y_true = rng.choice([0, 1, 2, 3, 5, 6], size=(4, 9, 8))
    other = rng.random(y_true.shape) < 0.6, rng.choice([0, 1, 3, 4, 6], size=y_true.shape)
    y_pred = np.where(other[0], y_true, other[1])
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
    # tp / (tp + fp + fn): 2 / 4, 1 / 2, 1 / 2; class 3 occurs nowhere.
    np.testing.assert_allclose(iou_per_class(MATRIX), [0.5, 0.5, 0.5, np.nan])


def test_a_class_that_is_only_predicted_counts_as_zero():
    np.testing.assert_allclose(iou_per_class(np.array([[3, 1], [0, 0]])), [0.75, 0])


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
    expected = weighted_mean(iou_per_class(matrix), np.ones(5))
    assert float(metric.result()) == pytest.approx(float(expected), rel=1e-6)
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


def test_ignored_class_is_left_out_of_training_scores(batches):
    ignored = 3  # true in a quarter of the pixels and predicted in a fifth
    mean, score = MeanIoU(5, ignore_class=ignored), ImagewiseScore("iou", 5, ignore_class=ignored)
    matrices = []
    for y_true, y_pred in batches:
        mean.update_state(y_true, y_pred)
        score.update_state(y_true, y_pred)
        matrices += [
            confusion_matrix(true, predicted, 5, ignore_class=ignored)
            for true, predicted in zip(y_true, y_pred.argmax(-1), strict=True)
        ]
    iou = iou_per_class(np.sum(matrices, axis=0))
    assert iou[ignored] == 0
    assert float(mean.result()) == pytest.approx(np.delete(iou, ignored).mean(), rel=1e-6)
    expected = micro_scores(np.stack(matrices))["iou"].mean()
    assert float(score.result()) == pytest.approx(expected, rel=1e-6)


def test_mean_iou_counts_beyond_what_float32_holds():
    metric = MeanIoU(2)
    metric.matrix.assign([[2**24, 0], [1, 1]])
    metric.update_state(np.zeros((1, 1, 1)), tf.constant([[[[1.0, 0.0]]]]))
    assert int(metric.matrix.numpy()[0, 0]) == 2**24 + 1
    metric.update_state(np.zeros((1, 1, 1)), tf.constant([[[[1.0, 0.0]]]]), np.array([0.5]))
    assert float(metric.matrix.numpy()[0, 0]) == 2**24 + 1.5


# Metrics as Keras' users call them

METRICS = [
    MeanIoU(4),
    MeanIoU(4, ignore_class=255, name="mine", dtype="float64"),
    PixelAccuracy(4, ignore_class=1),
    ImagewiseScore("iou", 4, ignore_class=255),
    ImagewiseScore("f1", 4, name="mine", dtype="float64"),
]


def logits_of_y_pred():
    """`Y_PRED` as the logits of two images of 1x3 pixels."""
    return tf.one_hot(Y_PRED[:, None], 4)


@pytest.mark.parametrize("metric", METRICS)
def test_config_keeps_every_argument(metric):
    metric.reset_state()
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    config = metric.get_config()
    assert again.get_config() == config
    assert {"name", "dtype", "num_classes", "ignore_class"} <= set(config)
    for one in (metric, again, type(metric).from_config(config)):
        one.update_state(Y_TRUE[:, None], logits_of_y_pred())
        assert float(one.result()) == float(metric.result()) > 0
        assert one.result().dtype == config["dtype"]


@pytest.mark.parametrize("metric", METRICS)
def test_masks_with_a_channel_and_void_labels(metric):
    metric.reset_state()
    metric.update_state(Y_TRUE[:, None], logits_of_y_pred())
    expected = float(metric.result())
    metric.reset_state()
    void = metric.ignore_class if metric.ignore_class is not None else -1
    masks = np.concatenate([Y_TRUE, np.full((2, 1), void)], axis=1)[:, None, :, None]
    y_pred = tf.concat([logits_of_y_pred(), tf.one_hot(np.full((2, 1, 1), 3), 4)], axis=2)
    metric.update_state(masks.astype(np.int16), y_pred)
    assert float(metric.result()) == expected


def test_sample_weights_by_hand():
    weights = np.array([[[1, 2, 3]], [[4, 5, 6]]])
    # Weighted counts: 3 of class 0 right, 3 taken for 1; 4 of class 1 right; 5 of class 2 right, 6
    # taken for 0.
    expected = [
        (MeanIoU(4), (3 / (3 + 3 + 6) + 4 / (4 + 3) + 5 / (5 + 6)) / 3),
        (PixelAccuracy(4), 12 / 21),
        # The images' mean weights are 2 and 5.
        (ImagewiseScore("f1", 4), (2 * 3 / 6 + 5 * 9 / 15) / 7),
    ]
    for metric, value in expected:
        for sample_weight in (weights, weights[..., None]):
            metric.reset_state()
            metric.update_state(Y_TRUE[:, None], logits_of_y_pred(), sample_weight)
            assert float(metric.result()) == pytest.approx(value)


def test_weights_of_images_by_hand():
    for metric, value in [
        (MeanIoU(4), (2 / (2 + 1 + 3) + 3 / (3 + 1) + 3 / (3 + 3)) / 3),
        (PixelAccuracy(4), (2 + 3 * 2) / 12),
        (ImagewiseScore("f1", 4), (2 / 3 + 3 * 2 / 3) / 4),
    ]:
        metric.update_state(Y_TRUE[:, None], logits_of_y_pred(), np.array([1, 3]))
        assert float(metric.result()) == pytest.approx(value)


@pytest.mark.parametrize("metric", [METRICS[0], *METRICS[2:4]])
def test_labels_outside_the_classes(metric):
    masks = Y_TRUE[:, None].copy()
    masks[1, 0, 0] = 4
    metric.reset_state()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`y_true` must hold.*\[0, 4\)"):
        metric.update_state(masks, logits_of_y_pred())

    # XLA drops the assertion.
    @tf.function(jit_compile=True)
    def update(masks):
        metric.update_state(masks, logits_of_y_pred())

    update(tf.constant(Y_TRUE[:, None]))
    assert np.isfinite(metric.result())
    update(tf.constant(masks))
    assert np.isnan(metric.result())
    metric.reset_state()
    assert float(metric.result()) == 0


@pytest.mark.parametrize("metric", [METRICS[0], *METRICS[2:4]])
def test_shapes_that_do_not_fit(metric):
    with pytest.raises(InputError, match="num_classes=4.*2, 1, 3, 5"):
        metric.update_state(Y_TRUE[:, None], tf.zeros((2, 1, 3, 5)))
    with pytest.raises(InputError, match="not one-hot"):
        metric.update_state(logits_of_y_pred(), logits_of_y_pred())
    with pytest.raises(InputError, match="`sample_weight`"):
        metric.update_state(Y_TRUE[:, None], logits_of_y_pred(), np.ones((2, 3)))


def test_unknown_score():
    with pytest.raises(InputError, match="'kappa'.*'iou'"):
        ImagewiseScore("kappa", 4)


def test_confusion_matrix_with_a_void_label_outside_the_classes():
    matrix = confusion_matrix(np.append(Y_TRUE, 255), np.append(Y_PRED, 0), 4, ignore_class=255)
    np.testing.assert_array_equal(matrix, MATRIX)
    with pytest.raises(InputError, match="maximum=255"):
        confusion_matrix(np.append(Y_TRUE, 255), np.append(Y_PRED, 0), 4)


def test_two_replicas_count_the_pixels_of_one_device(two_replicas):
    rng = np.random.default_rng(0)
    y_true, y_pred = rng.integers(-1, 4, (4, 6, 5)), rng.normal(size=(4, 6, 5, 4))
    for make in (lambda: MeanIoU(4), lambda: ImagewiseScore("iou", 4)):
        one = make()
        one.update_state(y_true, y_pred)
        with two_replicas.scope():
            metric = make()
        shares = [
            two_replicas.experimental_distribute_values_from_function(
                lambda context, x=x: tf.constant(x[2 * context.replica_id_in_sync_group :][:2])
            )
            for x in (y_true, y_pred)
        ]
        two_replicas.run(tf.function(metric.update_state), args=shares)
        assert float(metric.result()) == pytest.approx(float(one.result()), rel=1e-6)
