import numpy as np
import pytest

from lcc_tf.errors import InputError
from lcc_tf.scoring.protocols import GLNET, OFFICIAL6, PROTOCOLS, scoring_rules
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, ClassTable


def named(*names):
    """Returns a class table with the given names."""
    return ClassTable(names, tuple((i, i, i) for i in range(len(names))))


def test_protocols_have_the_sizes_and_classes_of_the_papers():
    assert {name: (p.side, p.num_images) for name, p in PROTOCOLS.items()} == {
        "original": (512, 81),
        "official6": (None, 172),
        "glnet": (None, 142),
    }
    original, official6, glnet = scoring_rules(list(PROTOCOLS), DEEPGLOBE_CLASSES)
    assert official6.ignore_class == 6
    assert original.ignore_class is glnet.ignore_class is None
    assert glnet.predicted == original.averaged == list(range(7))
    assert official6.predicted == glnet.averaged == list(range(6))


def test_protocols_without_a_class_named_unknown_use_all_classes():
    for rules in scoring_rules(list(PROTOCOLS), named("a", "b")):
        assert rules.ignore_class is None
        assert rules.predicted == rules.averaged == [0, 1]


def test_official6_predicts_the_second_most_probable_class_instead_of_unknown():
    probabilities = np.array([[0.1, 0.3, 0.6], [0.5, 0.2, 0.3]])
    classes = named("a", "b", "unknown")
    assert OFFICIAL6.for_classes(classes).predicted_ids(probabilities).tolist() == [1, 0]
    assert GLNET.for_classes(classes).predicted_ids(probabilities).tolist() == [2, 0]


@pytest.mark.parametrize("protocols", ["glnet", [], ["glnet", "seed"]])
def test_unknown_protocols_raise(protocols):
    with pytest.raises(InputError, match="from original, official6, glnet. Received: protocols="):
        scoring_rules(protocols, DEEPGLOBE_CLASSES)
