from lcc_tf.scoring.protocols import GLNET, OFFICIAL6, ORIGINAL, PROTOCOLS
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES

SEVEN = DEEPGLOBE_CLASSES.names


def test_protocols_are_those_of_the_papers():
    assert {name: (p.side, p.num_images) for name, p in PROTOCOLS.items()} == {
        "original": (512, 81),
        "official6": (None, 172),
        "glnet": (None, 142),
    }
    assert OFFICIAL6.ignore_class(SEVEN) == 6
    assert ORIGINAL.ignore_class(SEVEN) is GLNET.ignore_class(SEVEN) is None
    assert GLNET.predicted(SEVEN) == ORIGINAL.averaged(SEVEN) == list(range(7))
    assert OFFICIAL6.predicted(SEVEN) == GLNET.averaged(SEVEN) == list(range(6))
