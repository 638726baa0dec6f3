import numpy as np
import pytest

from lcc_tf.scoring.definitions import definitions
from lcc_tf.scoring.protocols import GLNET, OFFICIAL6, ORIGINAL, PROTOCOLS
from lcc_tf.scoring.scores import scores
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, ClassTable


def named(*names):
    """Returns a class table with the given names."""
    return ClassTable(names, tuple((i, i, i) for i in range(len(names))))


@pytest.mark.parametrize("protocol", PROTOCOLS.values())
def test_every_score_is_defined(protocol):
    rules = protocol.for_classes(DEEPGLOBE_CLASSES)
    matrices = np.ones((2, 7, 7), np.int64)
    result = scores(rules, matrices, matrices.astype(float))
    sentences = definitions(rules)
    assert set(sentences) == set(result)
    assert set(result["intervals"]) < set(result)
    averaged = "7 classes" if protocol is ORIGINAL else "6 classes"
    assert averaged in sentences["mean_iou"]
    assert ("truth is unknown" in sentences["pixel_accuracy"]) == (protocol is OFFICIAL6)


def mean_iou_sentence(protocol, classes):
    return definitions(protocol.for_classes(classes))["mean_iou"]


def test_definitions_do_not_list_the_names_of_many_classes():
    many = named(*(f"class {i}" for i in range(29)), "unknown")
    assert "over all 30 classes; undefined" in mean_iou_sentence(ORIGINAL, many)
    assert "over the 29 classes other than unknown;" in mean_iou_sentence(GLNET, many)
    assert "class 3" not in "".join(definitions(GLNET.for_classes(many)).values())
    few = named("a", "b", "unknown")
    assert "over the 2 classes a, b; undefined" in mean_iou_sentence(GLNET, few)
