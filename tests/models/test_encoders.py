import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.models.encoders import EncoderPreprocessing, build_encoder
from tfds_deepglobe.errors import InputError


@pytest.mark.parametrize("name", ["mobilenetv2", "resnet50"])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_features_have_their_strides(name, output_stride):
    encoder = build_encoder(name, weights=None, output_stride=output_stride)
    features = encoder(np.zeros((1, 96, 64, 3), np.float32))
    strides = [min(stride, output_stride) for stride in (2, 4, 8, 16, 32)]
    assert [tuple(feature.shape[1:3]) for feature in features] == [
        (96 // stride, 64 // stride) for stride in strides
    ]


@pytest.mark.parametrize("name", ["mobilenetv2", "resnet50"])
def test_dilation_computes_the_same_at_a_finer_grid(name):
    """The defining property of atrous convolution: each s-th pixel is the strided network's.

    It holds far from the borders, where padding differs; so the image is large and the stages in
    front of the last one are left as they are.
    """
    keras.utils.set_random_seed(0)
    strided = build_encoder(name, weights=None, output_stride=32)
    dilated = build_encoder(name, weights=None, output_stride=16)
    dilated.set_weights(strided.get_weights())
    image = np.random.default_rng(0).uniform(0, 255, (1, 512, 512, 3)).astype(np.float32)
    coarse, fine = strided(image)[-1].numpy(), dilated(image)[-1].numpy()
    # Keras pads strided convolutions of even sizes to the right alone (MobileNetV2) and strides
    # 1x1 convolutions from the first pixel (ResNet): the phase of the common pixels.
    phase = 1 if name == "mobilenetv2" else 0
    np.testing.assert_allclose(
        fine[:, phase::2, phase::2][:, 6:10, 6:10], coarse[:, 6:10, 6:10], rtol=1e-3, atol=1e-4
    )


def test_preprocessing_modes():
    image = np.array([[[[10.0, 100.0, 250.0]]]], np.float32)
    caffe = EncoderPreprocessing("caffe", 1)(image).numpy().ravel()
    np.testing.assert_allclose(caffe, [250 - 103.939, 100 - 116.779, 10 - 123.68], rtol=1e-6)
    scaled = EncoderPreprocessing("tf", 1)(image).numpy().ravel()
    np.testing.assert_allclose(scaled, np.array([10, 100, 250]) / 127.5 - 1, rtol=1e-6)


def test_preprocessing_stays_in_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = EncoderPreprocessing("caffe", 1)
    finally:
        keras.config.set_dtype_policy("float32")
    assert layer(np.full((1, 1, 1, 3), 200.0, np.float32)).dtype == tf.float32


def test_encoder_uses_each_networks_own_preprocessing():
    assert build_encoder("resnet50", weights=None).get_layer("preprocessing").mode == "caffe"
    assert build_encoder("mobilenetv2", weights=None).get_layer("preprocessing").mode == "tf"


def test_size_that_the_stride_does_not_divide():
    with pytest.raises(InputError, match="divisible by 32.*height=100, width=64.*96x64"):
        build_encoder("tiny", weights=None, input_shape=(100, 64, 3))
    with pytest.raises(InputError, match="divisible by 16.*height=64, width=40"):
        build_encoder("tiny", weights=None, output_stride=16)(np.zeros((1, 64, 40, 3)))


@pytest.mark.parametrize("output_stride", [16, 32])
def test_weights_from_a_file(tmp_path, output_stride):
    source = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(64, 64, 3)
    )
    file = tmp_path / "mobilenetv2_notop.h5"
    source.save_weights(tmp_path / "w.weights.h5")
    source.save(file)  # the legacy format, in which Keras publishes its weights
    for weights in (file, tmp_path / "w.weights.h5"):
        encoder = build_encoder("mobilenetv2", weights=str(weights), output_stride=output_stride)
        for ours, theirs in zip(encoder.get_weights(), source.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_missing_and_unfitting_weights_file(tmp_path):
    with pytest.raises(InputError, match="no file of encoder weights.*none.h5"):
        build_encoder("mobilenetv2", weights=str(tmp_path / "none.h5"))
    other = keras.applications.MobileNetV2(
        include_top=False, weights=None, alpha=0.35, input_shape=(64, 64, 3)
    )
    file = tmp_path / "narrow.h5"
    other.save(file)
    with pytest.raises(InputError, match="does not hold the weights of .*mobilenetv2"):
        build_encoder("mobilenetv2", weights=str(file))
    file.write_text("no weights")
    with pytest.raises(InputError, match="does not hold the weights of .*mobilenetv2"):
        build_encoder("mobilenetv2", weights=str(file))


def test_failed_download_names_both_ways_out(monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise Exception("URL fetch failure on https://example.org/resnet.h5: None -- no network")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", fail)
    with pytest.raises(
        InputError, match="example.org/resnet.h5.*--encoder-weights none.*--encoder-weights FILE"
    ):
        build_encoder("resnet50", weights="imagenet")


def test_unknown_encoder_and_stride():
    with pytest.raises(InputError, match="'vgg16'.*resnet101"):
        build_encoder("vgg16", weights=None)
    with pytest.raises(InputError, match="8, 16 or 32. Received: 4"):
        build_encoder("tiny", weights=None, output_stride=4)
