"""Values and gradients of each loss."""

import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.ground_truth import NO_TRUTH
from lcc_tf.losses import LOSS_TERMS, CrossEntropy, Dice, Focal, Jaccard, Lovasz, get_loss

CLASS_WEIGHTS = (0.5, 2.0, 1.0, 3.0)


def logits_of(probabilities):
    return tf.math.log(tf.constant(probabilities, tf.float32))


def value_and_gradient(loss, y_true, y_pred):
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        value = loss(y_true, y_pred)
    return value, tape.gradient(value, y_pred)


def random_maps():
    """Returns masks and logits of three images with some void pixels.

    No mask contains class 3. The last mask does not contain class 2 either.
    """
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 3, (3, 5, 6))
    y_true[2] %= 2
    y_true[rng.random(y_true.shape) < 0.2] = NO_TRUTH
    return y_true, (2 * rng.normal(size=(3, 5, 6, 4))).astype(np.float32)


# Values that are computed by hand

BY_HAND = {
    # Class 0: 1 - 2 * 0.7 / (1.0 + 1) = 0.3; class 1: 1 - 2 * 0.6 / (0.8 + 1) = 1/3; class 2: 0.
    "dice": (0.3 + 1 / 3 + 0) / 3,
    # Class 0: 1 - 0.7 / (1.0 + 1 - 0.7) = 6/13; class 1: 1 - 0.6 / (0.8 + 1 - 0.6) = 1/2.
    "jaccard": (6 / 13 + 1 / 2 + 0) / 3,
    "cross_entropy": -(np.log(0.7) + np.log(0.6)) / 2,
    "focal": -(0.3**2 * np.log(0.7) + 0.4**2 * np.log(0.6)) / 2,
}


@pytest.mark.parametrize("term", BY_HAND)
def test_values_by_hand(term):
    # Two pixels and three classes. The mask does not contain class 2.
    y_pred = logits_of([[[[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]]]])
    assert float(get_loss(term)(np.array([[[0, 1]]]), y_pred)) == pytest.approx(
        BY_HAND[term], abs=1e-6
    )


def test_lovasz_by_hand():
    # An error is |y - p|. For both classes, the errors in descending order are 0.6, 0.3 and 0.2.
    # Class 0: the Jaccard loss is 1/2 if only the pixel with the largest error is wrong, 2/2 if the
    # first two pixels are wrong, and 3/3 if all three pixels are wrong. The loss is
    # 0.6 * 1/2 + 0.3 * (2/2 - 1/2) + 0.2 * (3/3 - 2/2) = 0.45.
    # Class 1: the Jaccard losses are 1/2, 2/3 and 3/3. The loss is
    # 0.6 * 1/2 + 0.3 * (2/3 - 1/2) + 0.2 * (3/3 - 2/3) = 5/12.
    # The mean excludes class 2, because the mask does not contain it.
    y_pred = logits_of([[[[0.7, 0.3, 0], [0.4, 0.6, 0], [0.2, 0.8, 0]]]])
    value = get_loss("lovasz")(np.array([[[0, 0, 1]]]), y_pred)
    assert float(value) == pytest.approx((0.45 + 5 / 12) / 2, abs=1e-6)


def test_dice_and_jaccard_sum_over_the_whole_batch():
    y_true = np.array([[[0, 0]], [[1, 1]]])
    y_pred = logits_of([[[[0.9, 0.1], [0.9, 0.1]]], [[[0.6, 0.4], [0.6, 0.4]]]])
    # Class 0: 1 - 2 * 1.8 / (3.0 + 2) = 0.28; class 1: 1 - 2 * 0.8 / (1.0 + 2) = 7/15.
    # The value of each sample is the loss of the batch.
    np.testing.assert_allclose(
        get_loss("dice").call(y_true, y_pred), [(0.28 + 7 / 15) / 2] * 2, atol=1e-6
    )
    # Class 0: 1 - 1.8 / 3.2 = 7/16; class 1: 1 - 0.8 / 2.2 = 7/11.
    assert float(get_loss("jaccard")(y_true, y_pred)) == pytest.approx((7 / 16 + 7 / 11) / 2)


@pytest.mark.parametrize("term", ["dice", "jaccard", "lovasz"])
def test_right_maps_have_loss_0_and_wrong_maps_have_loss_1(term):
    y_true = np.random.default_rng(0).integers(0, 4, (2, 8, 8))
    right = 100.0 * tf.one_hot(y_true, 4)
    wrong = 100.0 * tf.one_hot((y_true + 1) % 4, 4)
    assert float(get_loss(term)(y_true, right)) == pytest.approx(0, abs=1e-6)
    assert float(get_loss(term)(y_true, wrong)) == pytest.approx(1, abs=1e-6)


def test_label_smoothing_by_hand():
    # The smoothed labels are 0.9 * 1 + 0.1 / 2 = 0.95 and 0.9 * 0 + 0.1 / 2 = 0.05.
    y_true, y_pred = np.array([[[0]]]), logits_of([[[[0.8, 0.2]]]])
    cross_entropy = get_loss("cross_entropy", label_smoothing=0.1)(y_true, y_pred)
    assert float(cross_entropy) == pytest.approx(-0.95 * np.log(0.8) - 0.05 * np.log(0.2))
    focal = get_loss("focal", label_smoothing=0.1)(y_true, y_pred)
    assert float(focal) == pytest.approx(-0.95 * 0.2**2 * np.log(0.8) - 0.05 * 0.8**2 * np.log(0.2))


# Values of other implementations

# Losses of `numbered_maps`. Dice, Jaccard and Lovasz loss (with `per_image=True`) are from
# segmentation_models_pytorch 0.5.0. Cross entropy is from `torch.nn.functional.cross_entropy` of
# torch 2.13.0.
PYTORCH_VALUES = [
    ("dice", {}, False, 0.530805766582489),
    ("dice", {}, True, 0.5537590980529785),
    ("jaccard", {}, False, 0.6189753413200378),
    ("lovasz", {}, False, 0.741662859916687),
    ("lovasz", {}, True, 0.763161838054657),
    ("cross_entropy", {}, False, 1.8285022974014282),
    ("cross_entropy", {}, True, 1.9340616464614868),
    ("cross_entropy", {"class_weights": CLASS_WEIGHTS}, True, 1.8505444526672363),
    ("cross_entropy", {"label_smoothing": 0.1}, True, 1.9326366186141968),
]


def numbered_maps(with_void):
    """Returns masks and logits of two images, from formulas that are easy to repeat in PyTorch.

    No mask contains class 3.
    """
    y_pred = (np.arange(240) * 37 % 101 / 25 - 2).reshape(2, 5, 6, 4).astype(np.float32)
    y_true = (np.arange(60) * 7 // 3 % 3).reshape(2, 5, 6)
    y_true[1][y_true[1] == 2] = 1
    if with_void:
        y_true[:, :, 4:] = NO_TRUTH
    return y_true, y_pred


@pytest.mark.parametrize(("term", "options", "with_void", "expected"), PYTORCH_VALUES)
def test_values_equal_the_values_of_pytorch(term, options, with_void, expected):
    value = get_loss(term, **options)(*numbered_maps(with_void))
    assert float(value) == pytest.approx(expected, rel=1e-6)


def reference(term, y_true, y_pred, weights, smoothing):
    """Computes a loss from its definition, with loops over float64 arrays."""
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


@pytest.mark.parametrize(
    ("term", "smoothing"),
    [*((term, 0.0) for term in LOSS_TERMS), ("cross_entropy", 0.2), ("focal", 0.2)],
)
@pytest.mark.parametrize("weights", [None, CLASS_WEIGHTS])
def test_values_equal_the_definitions(term, weights, smoothing):
    y_true, y_pred = random_maps()
    value = get_loss(term, class_weights=weights, label_smoothing=smoothing)(y_true, y_pred)
    expected = reference(term, y_true, y_pred, weights or np.ones(4), smoothing)
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_sum_of_two_losses():
    y_true, y_pred = random_maps()
    both = get_loss("cross_entropy+dice", class_weights=CLASS_WEIGHTS, label_smoothing=0.1)
    assert float(both(y_true, y_pred)) == pytest.approx(
        reference("cross_entropy", y_true, y_pred, CLASS_WEIGHTS, 0.1)
        + reference("dice", y_true, y_pred, CLASS_WEIGHTS, 0),
        rel=1e-5,
    )


# Void pixels and ignored classes

ALL_TERMS = "+".join(LOSS_TERMS)


@pytest.mark.parametrize("term", LOSS_TERMS)
def test_void_pixels_change_neither_value_nor_gradient(term):
    y_true, y_pred = random_maps()
    loss = get_loss(term, label_smoothing=0.1 if term in ("cross_entropy", "focal") else 0.0)
    expected = float(loss(y_true, y_pred))
    changed = np.where((y_true == NO_TRUTH)[..., None], np.float32(np.inf), y_pred)
    value, gradient = value_and_gradient(loss, y_true, tf.constant(changed))
    assert float(value) == expected
    assert not gradient.numpy()[y_true == NO_TRUTH].any()
    assert gradient.numpy()[y_true != NO_TRUTH].any()
    # Add an image that contains only void pixels, as in a batch that is filled up.
    filled = np.concatenate([y_true, np.full((1, 5, 6), NO_TRUTH)])
    logits = np.concatenate([y_pred, 10 * y_pred[:1]])
    assert float(loss(filled, logits)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("term", LOSS_TERMS)
def test_ignored_class_is_excluded_from_pixels_and_from_means_over_classes(term):
    y_true, y_pred = random_maps()
    value = get_loss(term, ignore_class=1)(y_true, y_pred)
    without = np.where(y_true == 1, NO_TRUTH, y_true)
    expected = reference(term, without, y_pred, (1, 0, 1, 1), 0)
    assert float(value) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("term", LOSS_TERMS)
@pytest.mark.parametrize("class_id", [NO_TRUTH, 2])
def test_batch_with_only_void_pixels_has_loss_0(term, class_id):
    y_pred = tf.constant(random_maps()[1])
    loss = get_loss(term, ignore_class=2)
    value, gradient = value_and_gradient(loss, np.full((3, 5, 6), class_id), y_pred)
    assert float(value) == 0
    assert (gradient.numpy() == 0).all()


def test_batch_of_a_class_with_weight_0_has_loss_0():
    y_pred = tf.constant(random_maps()[1])
    loss = get_loss(ALL_TERMS, class_weights=(1, 1, 0, 1))
    value, gradient = value_and_gradient(loss, np.full((3, 5, 6), 2), y_pred)
    assert float(value) == 0
    assert (gradient.numpy() == 0).all()


@pytest.mark.parametrize("term", LOSS_TERMS)
def test_no_class_weights_equal_weights_of_1(term):
    y_true, y_pred = random_maps()
    ones = get_loss(term, class_weights=[1] * 4)
    assert float(ones(y_true, y_pred)) == float(get_loss(term)(y_true, y_pred))


# Replicas, graphs and dtypes


@pytest.mark.parametrize("term", LOSS_TERMS)
@pytest.mark.parametrize(
    "second_replica", ["some void pixels", "only void pixels", "sample weights"]
)
def test_two_replicas_have_the_loss_and_gradients_of_the_whole_batch(
    term, second_replica, two_replicas
):
    rng = np.random.default_rng(2)
    y_true = rng.integers(0, 3, (4, 4, 4))
    y_true[0, :2] = y_true[3, 0, 0] = NO_TRUTH
    y_true[2] = 1
    if second_replica == "only void pixels":
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
    # Keras divides each replica's loss by the number of replicas. The optimizer adds gradients.
    total = sum(float(value) for value in two_replicas.experimental_local_results(values))
    assert total == pytest.approx(float(expected), rel=1e-6)
    joined = tf.concat(two_replicas.experimental_local_results(gradients), axis=0)
    np.testing.assert_allclose(joined, gradient, atol=1e-7)


def test_xla_and_graphs_of_unknown_size_compute_the_same_value():
    y_true, y_pred = random_maps()
    # Compile Lovasz loss with XLA, because it is the only loss that sorts pixels.
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


def test_bfloat16_logits_are_computed_in_float32():
    y_true, y_pred = random_maps()
    y_pred = tf.cast(y_pred, tf.bfloat16)
    value = get_loss(ALL_TERMS).call(y_true, y_pred)
    assert value.dtype == tf.float32
    np.testing.assert_array_equal(
        value, get_loss(ALL_TERMS).call(y_true, tf.cast(y_pred, tf.float32))
    )


def test_float64_losses_are_computed_in_float64():
    y_true, y_pred = random_maps()
    for term in LOSS_TERMS:
        value = LOSS_TERMS[term](dtype="float64")(y_true, y_pred)
        assert value.dtype == tf.float64
        assert float(value) == pytest.approx(
            reference(term, y_true, y_pred, np.ones(4), 0), rel=1e-12
        )


# Void labels


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


# Sample weights

# One image of two pixels and three classes. The first pixel is of class 0 and has the weight 1. The
# second pixel is of class 1 and has the weight 3.
TWO_PIXELS = (np.array([[[0, 1]]]), [[[[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]]]], np.array([[[1, 3]]]))
WEIGHTED_BY_HAND = [
    (CrossEntropy(), -(np.log(0.7) + 3 * np.log(0.6)) / 4),
    (CrossEntropy(class_weights=(2, 1, 1)), -(2 * np.log(0.7) + 3 * np.log(0.6)) / 5),
    (Focal(), -(0.3**2 * np.log(0.7) + 3 * 0.4**2 * np.log(0.6)) / 4),
    # Class 0: sum(p y) = 0.7, sum(p) = 0.7 + 3 * 0.3 = 1.6, sum(y) = 1.
    # Class 1: sum(p y) = 3 * 0.6, sum(p) = 0.2 + 3 * 0.6 = 2, sum(y) = 3.
    # The mask does not contain class 2.
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
    # The pixels a, b and c have the weights 1, 2 and 3. Pixels a and b are of class 0, pixel c is
    # of class 1. For both classes, the errors in descending order are 0.6 (b), 0.3 (a) and 0.2 (c).
    # Class 0: the Jaccard loss is 2/3 if b is wrong, 1 if b and a are wrong, and 1 if all pixels
    # are wrong. The loss is 0.6 * 2/3 + 0.3 * 1/3 + 0.2 * 0 = 0.5.
    # Class 1: the Jaccard losses are 1 - 3/5, 1 - 3/6 and 1. The loss is
    # 0.6 * 0.4 + 0.3 * 0.1 + 0.2 * 0.5 = 0.37.
    y_pred = logits_of([[[[0.7, 0.3, 0], [0.4, 0.6, 0], [0.2, 0.8, 0]]]])
    value = Lovasz()(np.array([[[0, 0, 1]]]), y_pred, np.array([[[1, 2, 3]]]))
    assert float(value) == pytest.approx((0.5 + 0.37) / 2, abs=1e-6)


@pytest.mark.parametrize("term", LOSS_TERMS)
def test_weight_of_an_image_is_the_weight_of_its_pixels(term):
    y_true, y_pred = random_maps()
    loss, weights = get_loss(term, class_weights=CLASS_WEIGHTS), np.array([1, 0, 3])
    pixels = np.broadcast_to(weights[:, None, None], y_true.shape)
    value = float(loss(y_true, y_pred, weights))
    assert value == float(loss(y_true, y_pred, pixels))
    if term == "lovasz":
        first, _, last = Lovasz(class_weights=CLASS_WEIGHTS, reduction=None)(y_true, y_pred).numpy()
        assert value == pytest.approx((first + 3 * last) / 4, rel=1e-6)
    # An image of weight 3 equals three copies of the image.
    repeated = [0, 2, 2, 2]
    assert value == pytest.approx(float(loss(y_true[repeated], y_pred[repeated])), rel=1e-5)


@pytest.mark.parametrize("term", LOSS_TERMS)
def test_pixels_of_weight_0_are_void(term):
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
