import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.ground_truth import NO_TRUTH
from lcc_tf.losses import (
    LOSS_TERMS,
    CrossEntropy,
    CrossEntropyDice,
    Dice,
    Focal,
    Jaccard,
    LossSum,
    Lovasz,
    check_loss,
    class_weights_from_pixels,
    get_loss,
)

WEIGHTS = (0.5, 2.0, 1.0, 3.0)


def logits_of(probabilities):
    return tf.math.log(tf.constant(probabilities, tf.float32))


def value_and_gradient(loss, y_true, y_pred):
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        value = loss(y_true, y_pred)
    return value, tape.gradient(value, y_pred)


def random_maps():
    """Three images; class 3 occurs in none, class 2 not in the last, some pixels without truth."""
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 3, (3, 5, 6))
    y_true[2] %= 2
    y_true[rng.random(y_true.shape) < 0.2] = NO_TRUTH
    return y_true, (2 * rng.normal(size=(3, 5, 6, 4))).astype(np.float32)


LOSS_CLASSES = [CrossEntropy, Focal, Dice, Jaccard, Lovasz, CrossEntropyDice]

# Values by hand

BY_HAND = {
    # Class 0: 1 - 2 * 0.7 / (1.0 + 1) = 0.3; class 1: 1 - 2 * 0.6 / (0.8 + 1) = 1/3; class 2: 0.
    "dice": (0.3 + 1 / 3 + 0) / 3,
    # Class 0: 1 - 0.7 / (1.0 + 1 - 0.7) = 6/13; class 1: 1 - 0.6 / (0.8 + 1 - 0.6) = 1/2.
    "jaccard": (6 / 13 + 1 / 2 + 0) / 3,
    "cross_entropy": -(np.log(0.7) + np.log(0.6)) / 2,
    "focal": -(0.3**2 * np.log(0.7) + 0.4**2 * np.log(0.6)) / 2,
}


@pytest.mark.parametrize("term", BY_HAND)
def test_by_hand(term):
    # One image of two pixels, three classes; the third is absent from the truth.
    y_pred = logits_of([[[[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]]]])
    assert float(get_loss(term)(np.array([[[0, 1]]]), y_pred)) == pytest.approx(
        BY_HAND[term], abs=1e-6
    )


def test_lovasz_by_hand():
    # Class 0: errors 0.3, 0.6, 0.2, largest first 0.6, 0.3, 0.2. The Jaccard loss with the first of
    # them wrong is 1/2, with the first two 2/2, with all 3/3: 0.6 * 1/2 + 0.3 * 1/2 + 0.2 * 0.
    # Class 1: the same errors, Jaccard losses 1/2, 2/3, 3/3: 0.6 * 1/2 + 0.3 * 1/6 + 0.2 * 1/3.
    # The third class is absent and left out of the mean.
    y_pred = logits_of([[[[0.7, 0.3, 0], [0.4, 0.6, 0], [0.2, 0.8, 0]]]])
    value = get_loss("lovasz")(np.array([[[0, 0, 1]]]), y_pred)
    assert float(value) == pytest.approx((0.45 + 5 / 12) / 2, abs=1e-6)


def test_dice_and_jaccard_are_taken_over_the_batch_not_image_by_image():
    y_true = np.array([[[0, 0]], [[1, 1]]])
    y_pred = logits_of([[[[0.9, 0.1], [0.9, 0.1]]], [[[0.6, 0.4], [0.6, 0.4]]]])
    # Class 0: 1 - 2 * 1.8 / (3.0 + 2) = 0.28; class 1: 1 - 2 * 0.8 / (1.0 + 2) = 7/15.
    # Each sample carries the batch's value, so that Keras' mean over samples is it again.
    np.testing.assert_allclose(
        get_loss("dice").call(y_true, y_pred), [(0.28 + 7 / 15) / 2] * 2, atol=1e-6
    )
    # Class 0: 1 - 1.8 / 3.2 = 7/16; class 1: 1 - 0.8 / 2.2 = 7/11.
    assert float(get_loss("jaccard")(y_true, y_pred)) == pytest.approx((7 / 16 + 7 / 11) / 2)


@pytest.mark.parametrize("term", ["dice", "jaccard", "lovasz"])
def test_bounds(term):
    y_true = np.random.default_rng(0).integers(0, 4, (2, 8, 8))
    right = 100.0 * tf.one_hot(y_true, 4)
    wrong = 100.0 * tf.one_hot((y_true + 1) % 4, 4)
    assert float(get_loss(term)(y_true, right)) == pytest.approx(0, abs=1e-6)
    assert float(get_loss(term)(y_true, wrong)) == pytest.approx(1, abs=1e-6)


def test_label_smoothing_by_hand():
    # Labels 0.9 * one-hot + 0.1 / 2, that is 0.95 and 0.05.
    y_true, y_pred = np.array([[[0]]]), logits_of([[[[0.8, 0.2]]]])
    cross_entropy = get_loss("cross_entropy", label_smoothing=0.1)(y_true, y_pred)
    assert float(cross_entropy) == pytest.approx(-0.95 * np.log(0.8) - 0.05 * np.log(0.2))
    focal = get_loss("focal", label_smoothing=0.1)(y_true, y_pred)
    assert float(focal) == pytest.approx(-0.95 * 0.2**2 * np.log(0.8) - 0.05 * 0.8**2 * np.log(0.2))


# Values of other implementations

# segmentation_models_pytorch 0.5.0 (Dice, Jaccard, Lovasz with per_image=True) and
# torch.nn.functional.cross_entropy of torch 2.13.0, on `numbered_maps`.
OF_TORCH = [
    ("dice", {}, False, 0.530805766582489),
    ("dice", {}, True, 0.5537590980529785),
    ("jaccard", {}, False, 0.6189753413200378),
    ("lovasz", {}, False, 0.741662859916687),
    ("lovasz", {}, True, 0.763161838054657),
    ("cross_entropy", {}, False, 1.8285022974014282),
    ("cross_entropy", {}, True, 1.9340616464614868),
    ("cross_entropy", {"class_weights": WEIGHTS}, True, 1.8505444526672363),
    ("cross_entropy", {"label_smoothing": 0.1}, True, 1.9326366186141968),
]


def numbered_maps(with_ignored):
    """Two images of integers that can be written down elsewhere, class 3 absent."""
    y_pred = (np.arange(240) * 37 % 101 / 25 - 2).reshape(2, 5, 6, 4).astype(np.float32)
    y_true = (np.arange(60) * 7 // 3 % 3).reshape(2, 5, 6)
    y_true[1][y_true[1] == 2] = 1
    if with_ignored:
        y_true[:, :, 4:] = NO_TRUTH
    return y_true, y_pred


@pytest.mark.parametrize(("term", "options", "with_ignored", "expected"), OF_TORCH)
def test_values_are_those_of_torch(term, options, with_ignored, expected):
    value = get_loss(term, **options)(*numbered_maps(with_ignored))
    assert float(value) == pytest.approx(expected, rel=1e-6)


def reference(term, y_true, y_pred, weights, smoothing):
    """The definitions again, as loops over numpy arrays of float64."""
    exponentials = np.exp(y_pred.astype(np.float64))
    p = exponentials / exponentials.sum(-1, keepdims=True)
    num_classes = p.shape[-1]
    counts = y_true != NO_TRUTH
    if term in ("cross_entropy", "focal"):
        total = weight = 0.0
        for q, label in zip(p[counts], y_true[counts], strict=True):
            target = np.full(num_classes, smoothing / num_classes)
            target[label] += 1 - smoothing
            factor = (1 - q) ** 2 if term == "focal" else 1
            total += weights[label] * -np.sum(target * factor * np.log(q))
            weight += weights[label]
        return total / weight
    if term in ("dice", "jaccard"):
        total = 0.0
        for c in range(num_classes):
            both, union = np.sum(p[counts][y_true[counts] == c, c]), np.sum(p[counts][:, c])
            union += np.sum(y_true == c)
            score = 2 * both / union if term == "dice" else both / (union - both)
            total += weights[c] * (1 - score) if (y_true == c).any() else 0
        return total / np.sum(weights)
    images = []
    for labels, q, kept in zip(y_true, p, counts, strict=True):
        losses = {}
        for c in np.unique(labels[kept]):
            truth = labels[kept] == c
            errors = np.abs(truth - q[kept][:, c])
            wrong, before, losses[c] = np.zeros_like(truth), 0.0, 0.0
            for pixel in np.argsort(-errors):
                wrong[pixel] = True
                jaccard = wrong.sum() / (truth | wrong).sum()
                losses[c] += errors[pixel] * (jaccard - before)
                before = jaccard
        total = sum(weights[c] for c in losses)
        images.append(sum(weights[c] * loss for c, loss in losses.items()) / total)
    return np.mean(images)


@pytest.mark.parametrize("term", LOSS_TERMS)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_values_are_those_of_the_definitions(term, weights, smoothing):
    if term not in ("cross_entropy", "focal"):
        smoothing = 0.0
    y_true, y_pred = random_maps()
    value = get_loss(term, class_weights=weights, label_smoothing=smoothing)(y_true, y_pred)
    expected = reference(term, y_true, y_pred, weights or np.ones(4), smoothing)
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_sum_of_terms():
    y_true, y_pred = random_maps()
    both = get_loss("cross_entropy+dice", class_weights=WEIGHTS, label_smoothing=0.1)
    assert float(both(y_true, y_pred)) == pytest.approx(
        reference("cross_entropy", y_true, y_pred, WEIGHTS, 0.1)
        + reference("dice", y_true, y_pred, WEIGHTS, 0),
        rel=1e-5,
    )


# What is left out

ALL_TERMS = "+".join(LOSS_TERMS)


@pytest.mark.parametrize("term", LOSS_TERMS)
def test_pixels_without_truth_change_nothing(term):
    y_true, y_pred = random_maps()
    loss = get_loss(term, label_smoothing=0.1 if term in ("cross_entropy", "focal") else 0.0)
    expected = float(loss(y_true, y_pred))
    changed = np.where((y_true == NO_TRUTH)[..., None], np.float32(np.inf), y_pred)
    value, gradient = value_and_gradient(loss, y_true, tf.constant(changed))
    assert float(value) == expected
    assert not gradient.numpy()[y_true == NO_TRUTH].any()
    assert gradient.numpy()[y_true != NO_TRUTH].any()
    # An image without truth, which fills up a batch
    filled = np.concatenate([y_true, np.full((1, 5, 6), NO_TRUTH)])
    logits = np.concatenate([y_pred, 10 * y_pred[:1]])
    assert float(loss(filled, logits)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("term", LOSS_TERMS)
def test_ignored_class_is_left_out_of_pixels_and_of_means_over_classes(term):
    y_true, y_pred = random_maps()
    value = get_loss(term, ignore_class=1)(y_true, y_pred)
    without = np.where(y_true == 1, NO_TRUTH, y_true)
    expected = reference(term, without, y_pred, (1, 0, 1, 1), 0)
    assert float(value) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("term", LOSS_TERMS)
@pytest.mark.parametrize("class_id", [NO_TRUTH, 2])
def test_batch_with_nothing_that_counts_gives_zero(term, class_id):
    y_pred = tf.constant(random_maps()[1])
    loss = get_loss(term, ignore_class=2)
    value, gradient = value_and_gradient(loss, np.full((3, 5, 6), class_id), y_pred)
    assert float(value) == 0
    assert (gradient.numpy() == 0).all()


def test_class_of_weight_zero_gives_zero():
    y_pred = tf.constant(random_maps()[1])
    loss = get_loss(ALL_TERMS, class_weights=(1, 1, 0, 1))
    value, gradient = value_and_gradient(loss, np.full((3, 5, 6), 2), y_pred)
    assert float(value) == 0
    assert (gradient.numpy() == 0).all()


@pytest.mark.parametrize("term", LOSS_TERMS)
def test_no_weights_are_weights_of_one(term):
    y_true, y_pred = random_maps()
    ones = get_loss(term, class_weights=[1] * 4)
    assert float(ones(y_true, y_pred)) == float(get_loss(term)(y_true, y_pred))


# Where and how they run


@pytest.mark.parametrize("term", LOSS_TERMS)
@pytest.mark.parametrize("second_replica", ["some truth", "no truth", "sample weights"])
def test_two_replicas_have_loss_and_gradients_of_the_whole_batch(
    term, second_replica, two_replicas
):
    rng = np.random.default_rng(2)
    y_true = rng.integers(0, 3, (4, 4, 4))
    y_true[0, :2] = y_true[3, 0, 0] = NO_TRUTH
    y_true[2] = 1
    if second_replica == "no truth":
        y_true[2:] = NO_TRUTH
    y_pred = rng.normal(size=(4, 4, 4, 3)).astype(np.float32)
    class_loss = get_loss(term, class_weights=(1, 2, 0.5))
    weights = rng.uniform(0, 2, (4, 4, 4)).astype(np.float32)

    def loss(pair, logits):
        return class_loss(pair[0], logits, pair[1] if second_replica == "sample weights" else None)

    expected, gradient = value_and_gradient(loss, (y_true, weights), tf.constant(y_pred))

    def share(array):
        return two_replicas.experimental_distribute_values_from_function(
            lambda context: tf.constant(array[2 * context.replica_id_in_sync_group :][:2])
        )

    values, gradients = two_replicas.run(
        tf.function(lambda labels, w, logits: value_and_gradient(loss, (labels, w), logits)),
        args=(share(y_true), share(weights), share(y_pred)),
    )
    # Keras divides each replica's loss by their number; the optimizer adds the gradients up.
    total = sum(float(value) for value in two_replicas.experimental_local_results(values))
    assert total == pytest.approx(float(expected), rel=1e-6)
    joined = tf.concat(two_replicas.experimental_local_results(gradients), axis=0)
    np.testing.assert_allclose(joined, gradient, atol=1e-7)


def test_graphs_of_compiler_and_unknown_size_give_the_same():
    y_true, y_pred = random_maps()
    # XLA, which Keras turns on for a single GPU; the sort is what it could stumble over.
    compiled = tf.function(get_loss("lovasz"), jit_compile=True)
    assert float(compiled(tf.constant(y_true), tf.constant(y_pred))) == pytest.approx(
        float(get_loss("lovasz")(y_true, y_pred))
    )
    loss = get_loss(ALL_TERMS)
    graph = tf.function(
        loss,
        input_signature=[
            tf.TensorSpec((None, None, None), tf.int32),
            tf.TensorSpec((None, None, None, 4)),
        ],
    )
    assert float(graph(tf.constant(y_true, tf.int32), y_pred)) == pytest.approx(
        float(loss(y_true, y_pred))
    )


def test_half_precision_logits_are_computed_with_in_float32():
    y_true, y_pred = random_maps()
    y_pred = tf.cast(y_pred, tf.bfloat16)
    value = get_loss(ALL_TERMS).call(y_true, y_pred)
    assert value.dtype == tf.float32
    np.testing.assert_array_equal(
        value, get_loss(ALL_TERMS).call(y_true, tf.cast(y_pred, tf.float32))
    )


def test_serialization_keeps_everything():
    y_true, y_pred = random_maps()
    loss = get_loss("focal+jaccard", class_weights=WEIGHTS, label_smoothing=0.1, ignore_class=0)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    assert float(again(y_true, y_pred)) == float(loss(y_true, y_pred))


# Class weights from counts


def test_inverse_frequency_by_hand():
    # Shares 0.6, 0.2, 0, 0.2 of 100 pixels: 5/3, 5, -, 5, and their mean is 35/9.
    pixels = np.array([[60, 0, 0, 0], [0, 20, 0, 20]])
    weights = class_weights_from_pixels(pixels, "inverse_frequency")
    np.testing.assert_allclose(weights, [3 / 7, 9 / 7, 0, 9 / 7])
    assert weights[weights > 0].mean() == pytest.approx(1)


def test_median_frequency_by_hand():
    # Class 0: 60 + 10 pixels of the 60 + 40 of the images it is in, 0.7; class 1: 10 of 40, 0.25;
    # class 3: 20 of 40, 0.5. The median is 0.5: weights 5/7, 2, -, 1, whose mean is 26/21.
    pixels = np.array([[60, 0, 0, 0], [10, 10, 0, 20]])
    weights = class_weights_from_pixels(pixels, "median_frequency")
    np.testing.assert_allclose(weights, np.array([5 / 7, 2, 0, 1]) * 21 / 26)


@pytest.mark.parametrize("method", ["inverse_frequency", "median_frequency"])
def test_ignored_class_is_not_counted(method):
    pixels = np.array([[60, 0, 0, 5], [10, 10, 0, 20]])
    weights = class_weights_from_pixels(pixels, method, ignore_class=0)
    without = class_weights_from_pixels(pixels * [0, 1, 1, 1], method)
    np.testing.assert_array_equal(weights, without)
    assert weights[0] == 0
    assert pixels[0, 0] == 60  # the caller's counts stay as they are


def test_counts_and_methods_that_cannot_be_used():
    with pytest.raises(InputError, match="'mean'.*'inverse_frequency'"):
        class_weights_from_pixels(np.ones((1, 2)), "mean")
    with pytest.raises(InputError, match="No training pixel.*ignore_class=0"):
        class_weights_from_pixels(np.array([[5, 0]]), "median_frequency", ignore_class=0)


# Errors


@pytest.mark.parametrize("name", ["dise", "dice+", "cross_entropy + dice"])
def test_unknown_term(name):
    with pytest.raises(InputError, match="Unknown loss.*is no term.*'lovasz'.*cross_entropy"):
        check_loss(name)


def test_repeated_term():
    with pytest.raises(InputError, match=r"each term once. Received: 'dice\+dice'"):
        check_loss("dice+dice")


def test_smoothing_that_cannot_be_done():
    with pytest.raises(InputError, match="no labels to smooth.*label_smoothing=0.1.*'focal'"):
        get_loss("dice+lovasz", label_smoothing=0.1)
    with pytest.raises(InputError, match=r"\[0, 1\). Received: 1"):
        get_loss("focal", label_smoothing=1.0)
    get_loss("dice+focal", label_smoothing=0.1)


@pytest.mark.parametrize("weights", [(1, -1, 1, 1), (0, 0, 0, 0), (float("nan"), 1, 1, 1)])
def test_class_weights_that_cannot_be_used(weights):
    with pytest.raises(InputError, match="finite, not negative and not all 0"):
        get_loss("dice", class_weights=weights)


def test_options_that_do_not_fit_the_number_of_classes():
    y_true, y_pred = random_maps()
    with pytest.raises(InputError, match=r"each of the 4 classes. Received: \(1.0, 2.0\)"):
        get_loss("dice", class_weights=(1, 2))(y_true, y_pred)


# Classes, sums and serialization


@pytest.mark.parametrize("cls", LOSS_CLASSES)
def test_config_keeps_every_argument(cls):
    y_true, y_pred = random_maps()
    options = {"label_smoothing": 0.1} if issubclass(cls, CrossEntropy) else {}
    options |= {"gamma": 1.5} if cls is Focal else {}
    loss = cls(
        class_weights=np.array(WEIGHTS),
        ignore_class=1,
        reduction="sum",
        name="mine",
        dtype="float64",
        **options,
    )
    config = loss.get_config()
    expected = {"class_weights": list(WEIGHTS), "ignore_class": 1, "reduction": "sum"}
    assert config == expected | {"name": "mine", "dtype": "float64"} | options
    for again in (
        cls.from_config(config),
        keras.losses.deserialize(keras.losses.serialize(loss)),
    ):
        assert again.get_config() == config
        assert float(again(y_true, y_pred)) == float(loss(y_true, y_pred))


def test_names_are_those_of_the_classes():
    names = [cls().name for cls in LOSS_CLASSES]
    assert names == ["cross_entropy", "focal", "dice", "jaccard", "lovasz", "cross_entropy_dice"]
    assert (Dice() + Focal()).name == "dice_focal"
    assert Dice(name="mine").name == "mine"


def test_sum_of_losses_with_factors():
    y_true, y_pred = random_maps()
    dice, focal, lovasz = Dice(), Focal(gamma=1.0), Lovasz(ignore_class=1)
    both = 0.5 * dice + focal * 2 + lovasz
    assert isinstance(both, LossSum)
    expected = 0.5 * dice(y_true, y_pred) + 2 * focal(y_true, y_pred) + lovasz(y_true, y_pred)
    assert float(both(y_true, y_pred)) == pytest.approx(float(expected), rel=1e-6)
    again = keras.losses.deserialize(keras.losses.serialize(both))
    assert again.get_config() == both.get_config()
    assert float(again(y_true, y_pred)) == float(both(y_true, y_pred))
    nested = LossSum([both, dice], [2, 1])
    assert [factor for factor, _ in nested.terms()] == [1.0, 4.0, 2.0, 1.0]


def test_cross_entropy_dice_is_their_sum():
    y_true, y_pred = random_maps()
    options = {"class_weights": WEIGHTS, "ignore_class": 0}
    loss = CrossEntropyDice(label_smoothing=0.1, **options)
    expected = get_loss("cross_entropy+dice", label_smoothing=0.1, **options)
    assert float(loss(y_true, y_pred)) == float(expected(y_true, y_pred))


def test_sums_that_cannot_be_made():
    with pytest.raises(InputError, match="same `reduction` and `dtype`.*'sum', 'float32'"):
        Dice() + Focal(reduction="sum")
    with pytest.raises(TypeError):
        Dice() + keras.losses.Dice()
    with pytest.raises(TypeError):
        Dice() * Dice()
    with pytest.raises(InputError, match="2 losses and 1 factors"):
        LossSum([Dice(), Focal()], [1])


def test_reductions():
    y_true, y_pred = random_maps()
    values = Lovasz(reduction=None)(y_true, y_pred)
    assert values.shape == (3,)
    np.testing.assert_allclose(Lovasz(reduction="sum")(y_true, y_pred), np.sum(values), rtol=1e-6)
    np.testing.assert_allclose(Lovasz()(y_true, y_pred), np.mean(values), rtol=1e-6)


def test_float64_is_computed_in_float64():
    y_true, y_pred = random_maps()
    for term in LOSS_TERMS:
        value = LOSS_TERMS[term](dtype="float64")(y_true, y_pred)
        assert value.dtype == tf.float64
        assert float(value) == pytest.approx(
            reference(term, y_true, y_pred, np.ones(4), 0), rel=1e-12
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "bfloat16"}, "float32 or float64. Received: dtype='bfloat16'"),
        ({"label_smoothing": 1.0}, r"\[0, 1\). Received: 1"),
        ({"gamma": -1.0}, "0 or larger. Received: -1.0"),
        ({"class_weights": (0, 0)}, "not all 0"),
    ],
)
def test_arguments_that_cannot_be_used(options, message):
    with pytest.raises(InputError, match=message):
        Focal(**options)


# Masks and void labels


@pytest.mark.parametrize("term", LOSS_TERMS)
@pytest.mark.parametrize(
    ("dtype", "void"),
    [("uint8", 255), ("uint8", 4), ("int32", -1), ("int64", -7), ("float32", 255), ("int8", -7)],
)
def test_void_labels_of_any_value(term, dtype, void):
    y_true, y_pred = random_maps()
    expected = float(get_loss(term)(y_true, y_pred))
    masks = np.where(y_true == NO_TRUTH, void, y_true).astype(dtype)
    loss = get_loss(term, ignore_class=void)
    assert float(loss(masks, y_pred)) == expected
    assert float(loss(masks[..., None], y_pred)) == expected


LABELS_OUT_OF_RANGE = [np.uint8(255), -2, 4, 2**32, 0.5, float("nan")]


@pytest.mark.parametrize("label", LABELS_OUT_OF_RANGE)
@pytest.mark.parametrize("loss", [CrossEntropy(), Dice() + Lovasz()])
def test_labels_outside_the_classes_raise(loss, label):
    y_true, y_pred = random_maps()
    masks = np.where(y_true == NO_TRUTH, 0, y_true).astype(np.asarray(label).dtype)
    masks[1, 2, 3] = label
    message = r"`y_true` must hold class ids in \[0, 4\).*use `ignore_class=255`"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        loss(masks, y_pred)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        tf.function(loss)(tf.constant(masks), y_pred)


def test_labels_outside_the_classes_give_nan_where_xla_drops_the_assertion():
    y_true, y_pred = random_maps()
    loss = tf.function(get_loss(ALL_TERMS), jit_compile=True)
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
def test_shapes_that_do_not_fit(mask_shape, logits_shape, message):
    with pytest.raises(InputError, match=message):
        Dice()(np.zeros(mask_shape, np.uint8), tf.zeros(logits_shape))


# Sample weights

# One image of two pixels with the classes 0 and 1 and the weights 1 and 3, of three classes; class
# weights 2, 1, 1 where they are used
TWO_PIXELS = (np.array([[[0, 1]]]), [[[[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]]]], np.array([[[1, 3]]]))
WEIGHTED_BY_HAND = [
    (CrossEntropy(), -(np.log(0.7) + 3 * np.log(0.6)) / 4),
    (CrossEntropy(class_weights=(2, 1, 1)), -(2 * np.log(0.7) + 3 * np.log(0.6)) / 5),
    (Focal(), -(0.3**2 * np.log(0.7) + 3 * 0.4**2 * np.log(0.6)) / 4),
    # Class 0: sum(p y) = 0.7, sum(p) = 0.7 + 3 * 0.3 = 1.6, sum(y) = 1. Class 1: 3 * 0.6 = 1.8,
    # 0.2 + 3 * 0.6 = 2, 3. Class 2 is absent.
    (Dice(), (1 - 1.4 / 2.6 + 1 - 3.6 / 5) / 3),
    (Jaccard(), (1 - 0.7 / 1.9 + 1 - 1.8 / 3.2) / 3),
]


@pytest.mark.parametrize(("loss", "expected"), WEIGHTED_BY_HAND)
def test_pixel_weights_by_hand(loss, expected):
    y_true, probabilities, weights = TWO_PIXELS
    for sample_weight in (weights, weights[..., None], 2.0 * weights):
        value = loss(y_true, logits_of(probabilities), sample_weight)
        assert float(value) == pytest.approx(expected, abs=1e-6)


def test_pixel_weights_of_lovasz_by_hand():
    # Pixels a, b, c with the weights 1, 2, 3; class 0 is true for a and b. Errors of both classes:
    # b 0.6, a 0.3, c 0.2. Class 0: the Jaccard loss with b wrong is 2/3, with b and a 1, with all
    # 1: 0.6 * 2/3 + 0.3 * 1/3 = 0.5. Class 1: with b wrong 1 - 3/5, with b and a 1 - 3/6, with all
    # 1: 0.6 * 0.4 + 0.3 * 0.1 + 0.2 * 0.5 = 0.37.
    y_pred = logits_of([[[[0.7, 0.3, 0], [0.4, 0.6, 0], [0.2, 0.8, 0]]]])
    value = Lovasz()(np.array([[[0, 0, 1]]]), y_pred, np.array([[[1, 2, 3]]]))
    assert float(value) == pytest.approx((0.5 + 0.37) / 2, abs=1e-6)


@pytest.mark.parametrize("term", LOSS_TERMS)
def test_weights_of_images_are_those_of_all_their_pixels(term):
    y_true, y_pred = random_maps()
    loss, weights = get_loss(term, class_weights=WEIGHTS), np.array([1, 0, 3])
    pixels = np.broadcast_to(weights[:, None, None], y_true.shape)
    value = float(loss(y_true, y_pred, weights))
    assert value == float(loss(y_true, y_pred, pixels))
    if term == "lovasz":
        first, _, last = Lovasz(class_weights=WEIGHTS, reduction=None)(y_true, y_pred).numpy()
        assert value == pytest.approx((first + 3 * last) / 4, rel=1e-6)
    # Three times an image is the weight 3 of it.
    repeated = [0, 2, 2, 2]
    assert value == pytest.approx(float(loss(y_true[repeated], y_pred[repeated])), rel=1e-5)


@pytest.mark.parametrize("term", LOSS_TERMS)
def test_weight_zero_leaves_a_pixel_out_as_a_void_label_does(term):
    y_true, y_pred = random_maps()
    expected = float(get_loss(term)(y_true, y_pred))
    weights = (y_true != NO_TRUTH).astype(np.float32)
    changed = np.where(weights[..., None] == 0, np.float32(np.inf), y_pred)
    value, gradient = value_and_gradient(
        lambda masks, logits: get_loss(term)(masks, logits, weights),
        np.maximum(y_true, 0),
        tf.constant(changed),
    )
    assert float(value) == pytest.approx(expected, rel=1e-6)
    assert not gradient.numpy()[weights == 0].any()
    zero = get_loss(term)(np.maximum(y_true, 0), y_pred, np.zeros(3))
    assert float(zero) == 0


@pytest.mark.parametrize("shape", [(), (2,), (3, 5), (3, 6, 5), (3, 5, 6, 4)])
def test_sample_weights_of_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match="`sample_weight` must have the shape"):
        Dice()(*random_maps(), np.ones(shape))


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_sample_weights_out_of_range_raise(weight):
    y_true, y_pred = random_maps()
    with pytest.raises(tf.errors.InvalidArgumentError, match="finite and not negative"):
        Dice()(y_true, y_pred, np.array([1, weight, 1]))
    compiled = tf.function(Dice(), jit_compile=True)
    assert np.isnan(compiled(tf.constant(y_true), y_pred, tf.constant([1, weight, 1])))


def test_losses_can_be_summed_by_sum():
    total = sum([Dice(), 0.5 * Focal(), CrossEntropy()])
    assert [factor for factor, _ in total.terms()] == [1.0, 0.5, 1.0]
