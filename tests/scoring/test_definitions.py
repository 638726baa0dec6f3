import numpy as np
import pytest

from lcc_tf.scoring.definitions import definitions
from lcc_tf.scoring.protocols import GLNET, OFFICIAL6, ORIGINAL, PROTOCOLS
from lcc_tf.scoring.scores import scores
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES

SEVEN = DEEPGLOBE_CLASSES.names


@pytest.mark.parametrize("protocol", PROTOCOLS.values())
def test_every_number_is_defined(protocol):
    rules = protocol.for_classes(SEVEN)
    matrices = np.ones((2, 7, 7), np.int64)
    result = scores(rules, matrices, matrices.astype(float))
    explained = definitions(rules)
    assert set(explained) == set(result)
    assert set(result["intervals"]) < set(result)
    averaged = "7 classes" if protocol is ORIGINAL else "6 classes"
    assert averaged in explained["mean_iou"]
    assert ("truth is unknown" in explained["pixel_accuracy"]) == (protocol is OFFICIAL6)


def mean_iou_sentence(protocol, names):
    return definitions(protocol.for_classes(names))["mean_iou"]


def test_definitions_of_many_classes_stay_sentences():
    names = (*(f"class {i}" for i in range(29)), "unknown")
    assert "over all 30 classes, without" in mean_iou_sentence(ORIGINAL, names)
    assert "over the 29 classes other than unknown," in mean_iou_sentence(GLNET, names)
    assert "class 3" not in "".join(definitions(GLNET.for_classes(names)).values())
    few = ("a", "b", "unknown")
    assert "over the 2 classes a, b, without" in mean_iou_sentence(GLNET, few)
