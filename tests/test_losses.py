"""Loss classes, sums of losses, losses that are built from a name, and errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.losses import (
    CrossEntropy,
    CrossEntropyDice,
    Dice,
    Focal,
    Jaccard,
    LossSum,
    Lovasz,
    check_loss,
    get_loss,
)
from tests.test_loss_functions import CLASS_WEIGHTS, random_maps

LOSS_CLASSES = [CrossEntropy, Focal, Dice, Jaccard, Lovasz, CrossEntropyDice]


# Classes


@pytest.mark.parametrize("cls", LOSS_CLASSES)
def test_config_contains_every_argument(cls):
    y_true, y_pred = random_maps()
    options = {"label_smoothing": 0.1} if issubclass(cls, CrossEntropy) else {}
    options |= {"gamma": 1.5} if cls is Focal else {}
    loss = cls(
        class_weights=np.array(CLASS_WEIGHTS),
        ignore_class=1,
        reduction="sum",
        name="mine",
        dtype="float64",
        **options,
    )
    config = loss.get_config()
    expected = {"class_weights": list(CLASS_WEIGHTS), "ignore_class": 1, "reduction": "sum"}
    assert config == expected | {"name": "mine", "dtype": "float64"} | options
    for again in (
        cls.from_config(config),
        keras.losses.deserialize(keras.losses.serialize(loss)),
    ):
        assert again.get_config() == config
        assert float(again(y_true, y_pred)) == float(loss(y_true, y_pred))


def test_default_names_are_the_class_names_in_snake_case():
    names = [cls().name for cls in LOSS_CLASSES]
    assert names == ["cross_entropy", "focal", "dice", "jaccard", "lovasz", "cross_entropy_dice"]
    assert (Dice() + Focal()).name == "dice_focal"
    assert Dice(name="mine").name == "mine"


def test_reductions():
    y_true, y_pred = random_maps()
    values = Lovasz(reduction=None)(y_true, y_pred)
    assert values.shape == (3,)
    np.testing.assert_allclose(Lovasz(reduction="sum")(y_true, y_pred), np.sum(values), rtol=1e-6)
    np.testing.assert_allclose(Lovasz()(y_true, y_pred), np.mean(values), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "bfloat16"}, "float32 or float64. Received: dtype='bfloat16'"),
        ({"label_smoothing": 1.0}, r"\[0, 1\). Received: 1"),
        ({"gamma": -1.0}, "0 or larger. Received: -1.0"),
        ({"class_weights": (0, 0)}, "finite, not negative and not all 0"),
        ({"class_weights": (1, -1)}, "finite, not negative and not all 0"),
        ({"class_weights": {0: 5.0, 1: 1.0}}, "sequence with one number per class.*{0: 5.0, 1: 1"),
        ({"class_weights": "12"}, "sequence with one number per class.*'12'"),
        ({"ignore_class": True}, "`ignore_class` must be.*Received: ignore_class=True"),
        ({"ignore_class": 1.5}, "`ignore_class` must be.*Received: ignore_class=1.5"),
        ({"ignore_class": "a"}, "`ignore_class` must be.*Received: ignore_class='a'"),
        ({"class_weights": (float("nan"), 1)}, "finite, not negative and not all 0"),
    ],
)
def test_invalid_arguments_raise(options, message):
    with pytest.raises(InputError, match=message):
        Focal(**options)


def test_wrong_number_of_class_weights_raises():
    with pytest.raises(InputError, match=r"each of the 4 classes. Received: \(1.0, 2.0\)"):
        Dice(class_weights=(1, 2))(*random_maps())


# Sums


def test_sum_of_losses_with_factors():
    y_true, y_pred = random_maps()
    dice, focal, lovasz = Dice(), Focal(gamma=1.0), Lovasz(ignore_class=1)
    total = 0.5 * dice + focal * 2 + lovasz
    assert isinstance(total, LossSum)
    expected = 0.5 * dice(y_true, y_pred) + 2 * focal(y_true, y_pred) + lovasz(y_true, y_pred)
    assert float(total(y_true, y_pred)) == pytest.approx(float(expected), rel=1e-6)
    again = keras.losses.deserialize(keras.losses.serialize(total))
    assert again.get_config() == total.get_config()
    assert float(again(y_true, y_pred)) == float(total(y_true, y_pred))
    nested = LossSum([total, dice], [2, 1])
    assert [factor for factor, _ in nested.terms()] == [1.0, 4.0, 2.0, 1.0]


def test_builtin_sum_adds_losses():
    total = sum([Dice(), 0.5 * Focal(), CrossEntropy()])
    assert [factor for factor, _ in total.terms()] == [1.0, 0.5, 1.0]


def test_cross_entropy_dice_equals_the_sum_of_two_losses():
    y_true, y_pred = random_maps()
    options = {"class_weights": CLASS_WEIGHTS, "ignore_class": 0}
    loss = CrossEntropyDice(label_smoothing=0.1, **options)
    expected = get_loss("cross_entropy+dice", label_smoothing=0.1, **options)
    assert float(loss(y_true, y_pred)) == float(expected(y_true, y_pred))


def test_invalid_sums_raise():
    with pytest.raises(InputError, match="same `reduction` and `dtype`.*'sum', 'float32'"):
        Dice() + Focal(reduction="sum")
    with pytest.raises(TypeError):
        Dice() + keras.losses.Dice()
    with pytest.raises(TypeError):
        Dice() * Dice()
    with pytest.raises(InputError, match="2 losses and 1 factors"):
        LossSum([Dice(), Focal()], [1])


# Losses that are built from a name


def test_serialized_loss_has_the_options_of_get_loss():
    y_true, y_pred = random_maps()
    options = {"class_weights": CLASS_WEIGHTS, "label_smoothing": 0.1, "ignore_class": 0}
    loss = get_loss("focal+jaccard", **options)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    assert float(again(y_true, y_pred)) == float(loss(y_true, y_pred))


@pytest.mark.parametrize(
    ("name", "unknown"),
    [("dise", "dise"), ("dice+", ""), ("cross_entropy + dice", "cross_entropy ")],
)
def test_unknown_names_raise(name, unknown):
    with pytest.raises(InputError, match=f"Unknown loss {unknown!r}.*'lovasz'.*cross_entropy"):
        check_loss(name)


def test_same_loss_twice_in_a_sum_raises():
    with pytest.raises(InputError, match=r"same loss twice. Received: 'dice\+dice'"):
        check_loss("dice+dice")


def test_invalid_label_smoothing_raises():
    with pytest.raises(InputError, match="not support.*label_smoothing=0.1.*'focal'"):
        get_loss("dice+lovasz", label_smoothing=0.1)
    with pytest.raises(InputError, match=r"\[0, 1\). Received: 1"):
        get_loss("focal", label_smoothing=1.0)
    get_loss("dice+focal", label_smoothing=0.1)


# Errors in labels and weights


LABELS_OUT_OF_RANGE = [np.uint8(255), -2, 4, 2**32, 0.5, float("nan")]


@pytest.mark.parametrize("label", LABELS_OUT_OF_RANGE)
@pytest.mark.parametrize("loss", [CrossEntropy(), Dice() + Lovasz()])
def test_labels_outside_the_classes_raise(loss, label):
    y_true, y_pred = random_maps()
    masks = np.maximum(y_true, 0).astype(np.asarray(label).dtype)
    masks[1, 2, 3] = label
    message = r"`y_true` must contain class ids in \[0, 4\).*use `ignore_class=255`"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        loss(masks, y_pred)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        tf.function(loss)(tf.constant(masks), y_pred)


def test_labels_outside_the_classes_are_nan_under_xla():
    # XLA drops the assertion that the test above expects.
    y_true, y_pred = random_maps()
    loss = tf.function(CrossEntropy() + Dice() + Lovasz(), jit_compile=True)
    assert np.isfinite(loss(tf.constant(y_true), y_pred))
    y_true[1, 2, 3] = 4
    assert np.isnan(loss(tf.constant(y_true), y_pred))


@pytest.mark.parametrize(
    ("mask_shape", "logits_shape", "message"),
    [
        ((2, 4, 6, 3), (2, 4, 6, 3), r"`y_true`.*not one-hot. Received: shape \(2, 4, 6, 3\)"),
        ((2, 6, 4), (2, 4, 6, 3), r"`y_true` must have the shape.*\(2, 6, 4\)"),
        ((2, 24), (2, 4, 6, 3), r"`y_true` must have the shape"),
        ((2, 4, 6), (2, 4, 6, 1), "2 or more classes.*Use `num_classes=2` for a binary task"),
    ],
)
def test_shapes_that_do_not_fit_raise(mask_shape, logits_shape, message):
    with pytest.raises(InputError, match=message):
        Dice()(np.zeros(mask_shape, np.uint8), tf.zeros(logits_shape))


@pytest.mark.parametrize("shape", [(), (2,), (3, 5), (3, 6, 5), (3, 5, 6, 4)])
def test_sample_weights_of_other_shapes_raise(shape):
    with pytest.raises(InputError, match="`sample_weight` must have the shape"):
        Dice()(*random_maps(), np.ones(shape))


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_sample_weights_out_of_range_raise(weight):
    y_true, y_pred = random_maps()
    with pytest.raises(tf.errors.InvalidArgumentError, match="finite and not negative"):
        Dice()(y_true, y_pred, np.array([1, weight, 1]))
    compiled = tf.function(Dice(), jit_compile=True)
    assert np.isnan(compiled(tf.constant(y_true), y_pred, tf.constant([1, weight, 1])))
