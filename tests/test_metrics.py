from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.confusion_matrix import confusion_matrix, iou_per_class, micro_scores, weighted_mean
from lcc_tf.errors import InputError
from lcc_tf.metrics import ImagewiseScore, MeanIoU, PixelAccuracy
from tests.test_confusion_matrix import Y_PRED, Y_TRUE


@pytest.fixture
def batches():
    rng = np.random.default_rng(1)
    return [
        (rng.integers(0, 4, (n, 6, 5)), rng.normal(size=(n, 6, 5, 5)).astype(np.float32))
        for n in (3, 2)
    ]


@pytest.mark.parametrize("score", ["accuracy", "f1", "precision", "recall", "iou"])
def test_imagewise_score_is_the_mean_of_micro_scores(score, batches):
    metric = ImagewiseScore(score, 5)
    expected = []
    for y_true, y_pred in batches:
        metric.update_state(y_true, y_pred)
        expected += [
            micro_scores(confusion_matrix(true, predicted, 5))[score]
            for true, predicted in zip(y_true, y_pred.argmax(-1), strict=True)
        ]
    assert float(metric.result()) == pytest.approx(np.mean(expected), rel=1e-6)


def test_mean_iou_is_the_mean_of_one_confusion_matrix(batches):
    metric = MeanIoU(5)
    matrix = np.zeros((5, 5), np.int64)
    for y_true, y_pred in batches:
        metric.update_state(y_true, y_pred)
        matrix += confusion_matrix(y_true, y_pred.argmax(-1), 5)
    expected = weighted_mean(iou_per_class(matrix), np.ones(5))
    assert float(metric.result()) == pytest.approx(float(expected), rel=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0


def test_void_pixels_do_not_change_metrics(batches):
    y_true, y_pred = batches[0]
    y_true = y_true.copy()
    y_true[:, :, 3:] = -1
    y_true[2] = -1  # an image with only void pixels, as in a batch that is filled up
    for metric in (MeanIoU(5), *(ImagewiseScore(score, 5) for score in ("iou", "accuracy"))):
        metric.update_state(y_true[:2, :, :3], y_pred[:2, :, :3])
        expected = float(metric.result())
        metric.reset_state()
        metric.update_state(y_true, y_pred)
        assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


def test_metrics_exclude_the_ignored_class(batches):
    ignored = 3  # true class of about 1/4 of the pixels, predicted class of about 1/5
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


def test_counts_beyond_float32_are_exact():
    metric = MeanIoU(2)
    metric.matrix.assign([[2**24, 0], [1, 1]])
    metric.update_state(np.zeros((1, 1, 1)), tf.constant([[[[1.0, 0.0]]]]))
    assert int(metric.matrix.numpy()[0, 0]) == 2**24 + 1
    metric.update_state(np.zeros((1, 1, 1)), tf.constant([[[[1.0, 0.0]]]]), np.array([0.5]))
    assert float(metric.matrix.numpy()[0, 0]) == 2**24 + 1.5


METRICS = [
    MeanIoU(4),
    MeanIoU(4, ignore_class=255, name="mine", dtype="float64"),
    PixelAccuracy(4, ignore_class=1),
    ImagewiseScore("iou", 4, ignore_class=255),
    ImagewiseScore("f1", 4, name="mine", dtype="float64"),
]


def logits_of_y_pred():
    """Returns `Y_PRED` as logits of two images of 1x3 pixels."""
    return tf.one_hot(Y_PRED[:, None], 4)


@pytest.mark.parametrize("metric", METRICS)
def test_config_contains_every_argument(metric):
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
    # Sums of the weights of pixels. True class 0: 3 right, 3 predicted as class 1. True class 1: 4
    # right. True class 2: 5 right, 6 predicted as class 0.
    expected = [
        (MeanIoU(4), (3 / (3 + 3 + 6) + 4 / (4 + 3) + 5 / (5 + 6)) / 3),
        (PixelAccuracy(4), 12 / 21),
        # The mean weights of the two images are 2 and 5.
        (ImagewiseScore("f1", 4), (2 * 3 / 6 + 5 * 9 / 15) / 7),
    ]
    for metric, value in expected:
        for sample_weight in (weights, weights[..., None]):
            metric.reset_state()
            metric.update_state(Y_TRUE[:, None], logits_of_y_pred(), sample_weight)
            assert float(metric.result()) == pytest.approx(value)


def test_image_weights_by_hand():
    for metric, value in [
        (MeanIoU(4), (2 / (2 + 1 + 3) + 3 / (3 + 1) + 3 / (3 + 3)) / 3),
        (PixelAccuracy(4), (2 + 3 * 2) / 12),
        (ImagewiseScore("f1", 4), (2 / 3 + 3 * 2 / 3) / 4),
    ]:
        metric.update_state(Y_TRUE[:, None], logits_of_y_pred(), np.array([1, 3]))
        assert float(metric.result()) == pytest.approx(value)


@pytest.mark.parametrize("metric", [METRICS[0], *METRICS[2:4]])
def test_labels_outside_the_classes_raise(metric):
    masks = Y_TRUE[:, None].copy()
    masks[1, 0, 0] = 4
    metric.reset_state()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`y_true` must contain.*\[0, 4\)"):
        metric.update_state(masks, logits_of_y_pred())

    # XLA drops the assertion. The result is then NaN.
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
def test_shapes_that_do_not_fit_raise(metric):
    with pytest.raises(InputError, match="num_classes=4.*2, 1, 3, 5"):
        metric.update_state(Y_TRUE[:, None], tf.zeros((2, 1, 3, 5)))
    with pytest.raises(InputError, match="not one-hot"):
        metric.update_state(logits_of_y_pred(), logits_of_y_pred())
    with pytest.raises(InputError, match="`sample_weight`"):
        metric.update_state(Y_TRUE[:, None], logits_of_y_pred(), np.ones((2, 3)))


@pytest.mark.parametrize(
    "metric", [MeanIoU(3), PixelAccuracy(3), ImagewiseScore("iou", 3)], ids=lambda m: m.name
)
def test_logits_that_are_nan_have_no_score(metric):
    """The argmax of NaN is class 0."""
    logits = np.zeros((2, 4, 4, 3), np.float32)
    metric.update_state(np.zeros((2, 4, 4), np.int32), logits)
    assert float(metric.result()) > 0
    logits[1, 2, 3, 0] = np.nan
    metric.update_state(np.zeros((2, 4, 4), np.int32), logits)
    assert np.isnan(metric.result())


def test_unknown_score_raises():
    with pytest.raises(InputError, match="'kappa'.*'iou'"):
        ImagewiseScore("kappa", 4)


def test_two_replicas_have_the_same_scores_as_one_device(two_replicas):
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


@pytest.mark.parametrize("ignore_class", [True, 1.5, "a"])
@pytest.mark.parametrize("make", [MeanIoU, PixelAccuracy, partial(ImagewiseScore, "f1")])
def test_invalid_ignored_classes_raise(make, ignore_class):
    with pytest.raises(InputError, match=f"Received: ignore_class={ignore_class!r}"):
        make(4, ignore_class=ignore_class)


@pytest.mark.parametrize("num_classes", [0, 1, -1, 4.0, "4"])
@pytest.mark.parametrize("make", [MeanIoU, PixelAccuracy, partial(ImagewiseScore, "f1")])
def test_invalid_numbers_of_classes_raise(make, num_classes):
    with pytest.raises(InputError, match=f"at least 2.*Received: num_classes={num_classes!r}"):
        make(num_classes)
