import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.models import ensemble
from lcc_tf.runs import load_model
from lcc_tf.scoring.evaluate import evaluate
from lcc_tf.scoring.evaluate_runs import evaluate_runs
from lcc_tf.scoring.examples import split_examples
from lcc_tf.scoring.protocols import PROTOCOLS
from lcc_tf.scoring.tables import to_markdown
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, ClassTable

CLASSES = ClassTable(("a", "b", "unknown"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
PIXEL_COLORS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250]], np.uint8)


def color_model(gain=1.0, name="by_color"):
    """Returns a model that predicts class k for pixels whose largest channel is channel k."""
    inputs = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(3, 1, use_bias=False)
    model = keras.Model(inputs, layer(inputs), name=name)
    layer.set_weights([gain * np.eye(3)[None, None]])
    return model


def example(ids, labels=None):
    """Returns an image for which `color_model` predicts `ids`, and a mask with `labels`."""
    ids = np.asarray(ids)
    return PIXEL_COLORS[ids], (ids if labels is None else np.asarray(labels)).astype(np.uint8)


def matrix(evaluation, protocol="glnet", predictor="by_color"):
    return evaluation.scores[protocol][predictor]["confusion_matrix"]


def score(examples, models=None, **options):
    models = color_model() if models is None else models
    return evaluate(models, examples, **{"classes": CLASSES, "protocols": ["glnet"], **options})


def test_scores_of_models_equal_the_scores_of_their_runs(pair, builder):
    as_crops = [
        dataclasses.replace(run, config=dataclasses.replace(run.config, framing="crops"))
        for run in pair
    ]
    options = {"protocols": list(PROTOCOLS), "member_weights": [2, 1], "average": "logits"}
    expected = evaluate_runs(as_crops, builder, **options)
    received = evaluate(
        {run.name: load_model(run) for run in pair},
        split_examples(builder, "test", "reading"),
        classes=DEEPGLOBE_CLASSES,
        tile=64,
        **options,
    )
    np.testing.assert_equal(received.to_json(), expected.to_json())
    assert to_markdown(received) == to_markdown(expected)


def test_scores_equal_scores_computed_by_hand():
    pairs = [example([[0, 0, 1]], [[0, 1, 1]]), example([[2], [0]], [[1], [2]])]
    evaluation = score(pairs, protocols=["glnet", "official6"])
    assert matrix(evaluation) == [[1, 0, 0], [1, 1, 1], [1, 0, 0]]
    # This protocol does not score pixels whose ground truth is `unknown`, and never predicts it.
    assert np.sum(matrix(evaluation, "official6")) == 4
    scores = evaluation.scores["glnet"]["by_color"]
    assert scores["iou"] == {"a": 1 / 3, "b": 1 / 3, "unknown": 0}
    assert scores["mean_iou"] == pytest.approx(1 / 3)
    assert (evaluation.num_images, evaluation.split, evaluation.average) == (2, "test", None)
    assert "33.33" in to_markdown(evaluation)


def test_ensembles_of_several_models_are_also_scored():
    models = {f"m{gain}": color_model(gain) for gain in (1, 2, -3)}
    evaluation = score([example([[0, 1]])], models, member_weights=[1, 1, 2])
    assert list(evaluation.scores["glnet"]) == [
        *("m1", "m2", "m-3", "ensemble"),
        *("ensemble without m1", "ensemble without m2", "ensemble without m-3"),
    ]
    assert evaluation.member_weights() == {"m1": 0.25, "m2": 0.25, "m-3": 0.5}


def test_examples_can_be_a_tensorflow_data_set():
    pairs = [example([[0, 1, 2]]), example([[1], [1]], [[0], [1]])]
    spec = (tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((None, None), tf.uint8))
    dataset = tf.data.Dataset.from_generator(lambda: iter(pairs), output_signature=spec)
    with_channel = dataset.map(lambda image, mask: (image, mask[..., None]))
    for examples in (dataset, with_channel):
        assert matrix(score(examples)) == matrix(score(pairs))


def test_examples_can_be_a_split_of_the_tfds_data_set(builder):
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(7, 1)])
    options = {"classes": DEEPGLOBE_CLASSES, "protocols": ["glnet"]}
    received = evaluate(model, builder.as_dataset(split="test"), **options)
    expected = evaluate(model, split_examples(builder, "test", "reading"), **options)
    assert received.num_images == expected.num_images
    pixels = [np.sum(matrix(x, predictor=model.name), axis=1) for x in (received, expected)]
    np.testing.assert_array_equal(*pixels)


@pytest.mark.parametrize(("label", "options"), [(-1, {}), (255, {"ignore_class": 255})])
def test_pixels_without_ground_truth_are_not_scored(label, options):
    ids = np.random.default_rng(0).integers(0, 3, (64, 64))
    image, mask = example(ids, np.roll(ids, 1, axis=0))
    upper_half = score([(image[:32], mask[:32])])
    mask = mask.astype(np.int16)
    mask[32:] = label
    evaluation = score([(image, mask)], protocols=["glnet", "original"], **options)
    assert matrix(evaluation) == matrix(upper_half)
    loss, expected = (x.scores["glnet"]["by_color"]["loss"] for x in (evaluation, upper_half))
    assert loss == pytest.approx(expected)
    assert np.sum(matrix(evaluation, "original")) == 512 * 256


def test_invalid_examples_raise():
    image, mask = example([[0, 1]])
    for bad in (
        (image.astype(np.float32), mask),
        (image[None], mask[None]),
        (image, mask[:, :1]),
        (image, mask.astype(np.float32)),
        (image[..., :2], mask),
    ):
        with pytest.raises(InputError, match=r"`examples` must yield.*as example 1\."):
            score([(image, mask), bad])
    with pytest.raises(InputError, match=r"ids in \[0, 3\).*Received: 0 to 255.*`ignore_class`"):
        score([(image, np.array([[0, 255]], np.uint8))])
    with pytest.raises(InputError, match="at least one image"):
        score([])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda image, mask: (image, mask), "a single value of the type ndarray.*example 0"),
        (lambda image, mask: [(image, mask, mask)], "Received: 3 values"),
        (lambda image, mask: [(image,)], "Received: 1 values"),
        (lambda image, mask: [{"image": image, "mask": mask}], r"the keys \['image', 'mask'\]"),
    ],
)
def test_examples_that_are_not_pairs_raise(make, match):
    with pytest.raises(InputError, match=match) as error:
        score(make(*example([[0, 1, 2]] * 3)))
    assert "'segmentation_mask'" in str(error.value)
    assert "For a single image, use `[(image, mask)]`." in str(error.value)


def test_masks_with_unsigned_64_bit_integers_are_scored():
    image, mask = example([[0, 1, 2]], [[0, 2, 1]])
    wide = mask.astype(np.uint64)
    expected = matrix(score([(image, mask)]))
    assert matrix(score([(image, wide)])) == expected
    assert matrix(score([(image, wide)], ignore_class=255)) == expected
    wide[0, 0] = 2**64 - 1
    with pytest.raises(InputError, match=r"ids in \[0, 3\)"):
        score([(image, wide)])


def test_list_of_models_raises():
    with pytest.raises(InputError, match="dictionary that maps names to models.*Received: list"):
        score([example([[0, 1]])], [color_model(), color_model()])


def test_invalid_arguments_raise():
    pairs = [example([[0, 1]])]
    with pytest.raises(
        InputError, match="outside the class ids.*ignore_class=2, the id of the class 'unkn"
    ):
        score(pairs, ignore_class=2)
    with pytest.raises(InputError, match="one class per output channel.*Received: 7"):
        score(pairs, classes=DEEPGLOBE_CLASSES)
    for classes in (["a", "b", "unknown"], None):
        with pytest.raises(InputError, match=r"classes=.*`lcc_tf.ClassTable\(names, palette\)`"):
            score(pairs, classes=classes)
    with pytest.raises(InputError, match="`examples` must be a list of pairs.*Received: int"):
        score(5)
    with pytest.raises(InputError, match=r"names of `models` must be texts. Received: \[1\]"):
        score(pairs, {1: color_model()})
    with pytest.raises(InputError, match="at least one model"):
        score(pairs, {})
    with pytest.raises(InputError, match="named 'ensemble'"):
        score(pairs, {"ensemble": color_model()})
    with pytest.raises(InputError, match="Received: protocols=.*'best'"):
        score(pairs, protocols=["best"])
    two = {"one": color_model(), "two": color_model()}
    with pytest.raises(InputError, match="one of probabilities, logits. Received: average='mean'"):
        score(pairs, two, average="mean")
    with pytest.raises(InputError, match="needs 1 weights"):
        score(pairs, member_weights=[1, 1])


def test_keras_ensemble_is_scored_as_one_model():
    both = ensemble([color_model(), color_model()])
    evaluation = evaluate(both, [example([[0, 1], [2, 0]])], classes=CLASSES, tile=32)
    assert list(evaluation.scores["original"]) == ["model"]


def test_unknown_average_raises_for_a_single_model():
    with pytest.raises(InputError, match="`average` must be one of"):
        evaluate(color_model(), [example([[0]])], classes=CLASSES, average="mean")


@pytest.mark.parametrize(("verbose", "progress"), [(1, "scoring validation: 100%"), (0, "")])
def test_progress_is_shown_unless_verbose_is_0(verbose, progress, capsys):
    score([example([[0]])] * 3, split="validation", verbose=verbose)
    error = capsys.readouterr().err
    assert progress in error
    assert ("3/3" in error) == bool(verbose)
    assert bool(error) == bool(verbose)
