from lcc_tf.models import build_model
from lcc_tf.models.preprocessing import size_divisor


def test_size_divisor_is_the_deepest_stride():
    for arch, stride in (("unetpp", 32), ("deeplabv3plus", 16)):
        model = build_model(arch, 3, encoder="tiny", encoder_weights=None)
        assert size_divisor(model) == stride
