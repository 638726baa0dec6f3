import keras

from lcc_tf.models import build_model, ensemble
from lcc_tf.models.preprocessing import size_divisor


def test_size_divisor_is_the_deepest_stride():
    for arch, stride in (("unetpp", 32), ("deeplabv3plus", 16)):
        model = build_model(arch, 3, encoder="tiny", encoder_weights=None)
        assert size_divisor(model) == stride
        assert size_divisor(ensemble([ensemble([model])])) == stride


def test_models_without_preprocessing_accept_any_size():
    assert size_divisor(keras.Sequential([keras.Input((None, None, 3))])) == 1
