import dataclasses
import math

import keras
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from keras.src.applications import convnext, efficientnet_v2

from lcc_tf.errors import InputError
from lcc_tf.models import DeepLabV3Plus, UNetPlusPlus
from lcc_tf.models.blocks import ChannelwiseConv2D
from lcc_tf.models.encoders import ENCODERS, build_encoder
from lcc_tf.models.preprocessing import EncoderPreprocessing
from lcc_tf.models.resnet_v1_5 import RESNETS, resnet_v1_5
from tests.models.smp_networks import seeded_weights


@pytest.fixture
def no_random_weights(monkeypatch):
    """Weights of zeros, which take no time to draw."""
    monkeypatch.setattr(
        keras.initializers.VarianceScaling,
        "__call__",
        lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype),
    )


@pytest.mark.parametrize("name", ["mobilenetv2", "resnet50", "resnet18_v1.5"])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_features_have_their_strides(name, output_stride, no_random_weights):
    encoder = build_encoder(name, weights=None, output_stride=output_stride)
    features = encoder(np.zeros((1, 96, 64, 3), np.float32))
    strides = [min(stride, output_stride) for stride in (2, 4, 8, 16, 32)]
    assert [tuple(feature.shape[1:3]) for feature in features] == [
        (96 // stride, 64 // stride) for stride in strides
    ]


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet34_v1.5", [64, 64, 128, 256, 512]),
        ("resnet50_v1.5", [64, 256, 512, 1024, 2048]),
        ("efficientnetv2b0", [16, 32, 48, 112, 192]),
        ("convnext_tiny", [96, 192, 384, 768]),
    ],
)
def test_features_channels(name, channels, no_random_weights):
    features = build_encoder(name, weights=None, input_shape=(96, 64, 3)).outputs
    strides = (2, 4, 8, 16, 32)[-len(channels) :]
    assert [feature.shape[1:] for feature in features] == [
        (96 // stride, 64 // stride, filters)
        for stride, filters in zip(strides, channels, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "table", "depth"),
    [
        ("efficientnetv2b0", "efficientnetv2-b0", 1.0),
        ("efficientnetv2b1", "efficientnetv2-b1", 1.1),
        ("efficientnetv2b2", "efficientnetv2-b2", 1.2),
        ("efficientnetv2b3", "efficientnetv2-b3", 1.4),
        ("efficientnetv2s", "efficientnetv2-s", 1.0),
    ],
)
def test_efficientnets_taps_are_the_last_blocks_of_their_strides(name, table, depth):
    repeats = [
        math.ceil(depth * row["num_repeat"]) for row in efficientnet_v2.DEFAULT_BLOCKS_ARGS[table]
    ]
    last = [f"block{row}{'abcdefghijklmno'[repeats[row - 1] - 1]}" for row in (1, 2, 3, 5, 6)]
    assert [tap.split("_")[0] for tap in ENCODERS[name].taps] == last


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # As torchvision's documentation gives them, less the classifier of 1000 classes.
        ("resnet18_v1.5", 11_689_512 - 513_000),
        ("resnet34_v1.5", 21_797_672 - 513_000),
        ("resnet50_v1.5", 25_557_032 - 2_049_000),
        ("resnet101_v1.5", 44_549_160 - 2_049_000),
        ("resnet152_v1.5", 60_192_808 - 2_049_000),
    ],
)
def test_resnet_v1_5_parameter_counts(name, parameters, no_random_weights):
    network = resnet_v1_5(RESNETS[name], keras.Input((32, 32, 3)))
    assert sum(math.prod(weight.shape) for weight in network.trainable_weights) == parameters


def test_resnet_v1_5_pads_and_strides_as_torchvision():
    layer = build_encoder("resnet50_v1.5", weights=None).get_layer
    assert layer("conv1_pad").padding == ((3, 3), (3, 3))
    assert layer("conv3_block1_1_conv").strides == (1, 1)
    assert layer("conv3_block1_2_pad").padding == ((1, 1), (1, 1))
    assert layer("conv3_block1_2_conv").strides == (2, 2)
    assert layer("conv3_block1_2_conv").padding == "valid"
    assert layer("conv3_block1_0_conv").strides == (2, 2)
    assert layer("conv3_block1_2_bn").epsilon == 1e-5
    assert layer("conv3_block1_2_bn").momentum == 0.9
    assert not layer("conv3_block1_2_conv").use_bias


@pytest.fixture
def narrow_convnext(monkeypatch):
    """The encoder "narrow_convnext", a ConvNeXt of a few channels and blocks."""

    def application(include_top, weights, input_tensor):
        return convnext.ConvNeXt(
            [1, 1, 2, 2],
            [4, 6, 8, 10],
            name="convnext_tiny",
            include_preprocessing=False,
            include_top=include_top,
            input_tensor=input_tensor,
            weights=weights,
        )

    spec = dataclasses.replace(ENCODERS["convnext_tiny"], application=application)
    monkeypatch.setitem(ENCODERS, "narrow_convnext", spec)


@pytest.mark.parametrize("arch", [UNetPlusPlus, DeepLabV3Plus])
def test_convnext_trains_is_saved_and_loaded(arch, narrow_convnext, tmp_path):
    model = arch(3, encoder="narrow_convnext", encoder_weights=None)
    depthwise = model.get_layer("encoder").get_layer("convnext_tiny_stage_0_block_0_depthwise_conv")
    assert isinstance(depthwise, ChannelwiseConv2D)
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 32, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(image)[..., 0] ** 2)
    gradients = tape.gradient(loss, model.trainable_weights)
    assert all(gradient is not None for gradient in gradients)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(image), model(image), atol=1e-6)


@pytest.mark.usefixtures("narrow_convnext")
@pytest.mark.parametrize(
    ("name", "phase"), [("resnet50", 0), ("efficientnetv2b0", 3), ("narrow_convnext", 1)]
)
def test_dilation_computes_the_same_at_a_finer_grid(name, phase):
    """The defining property of atrous convolution: each fourth pixel is the strided network's.

    Which of four is the phase, by where the strided kernels start.
    """
    keras.utils.set_random_seed(0)
    strided = build_encoder(name, weights=None, output_stride=32)
    for layer in strided.layers:
        if layer.name.endswith("se_expand"):  # these see the whole image, so every phase
            layer.kernel.assign(tf.zeros_like(layer.kernel))
        if layer.name.endswith("layer_scale"):  # 1e-6 at first: without, no block would be tested
            layer.gamma.assign(tf.ones_like(layer.gamma))
    dilated = build_encoder(name, weights=None, output_stride=8)
    dilated.set_weights(strided.get_weights())
    image = np.random.default_rng(0).uniform(0, 255, (1, 96, 64, 3)).astype(np.float32)
    coarse, fine = strided(image)[-1].numpy(), dilated(image)[-1].numpy()
    scale = np.abs(coarse).max()
    np.testing.assert_allclose(fine[:, phase::4, phase::4] / scale, coarse / scale, atol=1e-5)
    assert coarse.std() > 0.05 * scale


@pytest.mark.parametrize(
    ("name", "strided", "behind"),
    [
        ("resnet50_v1.5", "conv5_block1_2_conv", "conv5_block2_2_conv"),
        ("mobilenetv2", "block_13_depthwise", "block_14_depthwise"),
    ],
)
def test_strided_kernels_that_are_dilated_with_their_stage(name, strided, behind):
    encoder = build_encoder(name, weights=None, output_stride=8)
    for layer in (strided, behind):
        assert encoder.get_layer(layer).strides == (1, 1)
        assert encoder.get_layer(layer).dilation_rate == (4, 4)


def test_preprocessing_modes():
    image = np.array([[[[10.0, 100.0, 250.0]]]], np.float32)
    caffe = EncoderPreprocessing("caffe", 1)(image).numpy().ravel()
    np.testing.assert_allclose(caffe, [250 - 103.939, 100 - 116.779, 10 - 123.68], rtol=1e-6)
    scaled = EncoderPreprocessing("tf", 1)(image).numpy().ravel()
    np.testing.assert_allclose(scaled, np.array([10, 100, 250]) / 127.5 - 1, rtol=1e-6)


def test_preprocessing_of_models_trained_elsewhere():
    image = np.array([[[[10.0, 100.0, 250.0]]]], np.float32)
    unit = EncoderPreprocessing("unit", 1)(image).numpy()
    np.testing.assert_allclose(unit, image / 255, rtol=1e-6)
    np.testing.assert_array_equal(EncoderPreprocessing("none", 1)(image), image)
    standardised = EncoderPreprocessing("torch", 1)(image * 255).numpy()
    not_in_0_to_1 = EncoderPreprocessing("torch_255", 1)(image).numpy()
    np.testing.assert_allclose(not_in_0_to_1, standardised, rtol=1e-5)
    encoder = build_encoder("tiny", weights=None, preprocessing="unit")
    assert encoder.get_layer("preprocessing").mode == "unit"
    with pytest.raises(InputError, match="Unknown preprocessing.*'imagenet'.*'caffe'.*'unit'"):
        build_encoder("tiny", weights=None, preprocessing="imagenet")


def small_efficientnetv2(name):
    block = efficientnet_v2.DEFAULT_BLOCKS_ARGS[name][:1]
    options = {"include_top": False, "weights": None, "blocks_args": block, "name": name}
    return efficientnet_v2.EfficientNetV2(1, 1, 224, **options), "stem_conv"


def small_convnext(name):
    options = {"include_top": False, "weights": None, "name": name}
    return convnext.ConvNeXt([1] * 4, [2] * 4, **options), f"{name}_stem"


@pytest.mark.parametrize(
    ("encoder", "application", "name"),
    [
        ("efficientnetv2b0", small_efficientnetv2, "efficientnetv2-b0"),
        ("efficientnetv2b3", small_efficientnetv2, "efficientnetv2-b3"),
        ("efficientnetv2s", small_efficientnetv2, "efficientnetv2-s"),
        ("convnext_base", small_convnext, "convnext_base"),
    ],
)
def test_preprocessing_is_what_keras_includes(encoder, application, name):
    model, first = application(name)
    included = keras.Model(model.input, model.get_layer(first).input)
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    ours = EncoderPreprocessing(ENCODERS[encoder].preprocessing, 32)(image)
    np.testing.assert_allclose(ours, included(image), atol=1e-6)


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
        InputError, match="example.org/resnet.h5.*encoder_weights=None.*encoder_weights"
    ):
        build_encoder("resnet50", weights="imagenet")


@pytest.fixture
def torchvision_weights():
    """A state dict of torchvision's resnet18, classifier included."""
    shapes = {"conv1.weight": (64, 3, 7, 7), "fc.weight": (1000, 512), "fc.bias": (1000,)}
    norms = {"bn1": 64}
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            inputs = filters // 2 if stage > 1 and block == 0 else filters
            shapes[f"{name}.conv1.weight"] = (filters, inputs, 3, 3)
            shapes[f"{name}.conv2.weight"] = (filters, filters, 3, 3)
            norms |= {f"{name}.bn1": filters, f"{name}.bn2": filters}
            if inputs < filters:
                shapes[f"{name}.downsample.0.weight"] = (filters, inputs, 1, 1)
                norms[f"{name}.downsample.1"] = filters
    for name, filters in norms.items():
        for variable in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{variable}"] = (filters,)
    counts = {f"{name}.num_batches_tracked": np.array(5) for name in norms}
    return seeded_weights(shapes) | counts


def assert_is_loaded(encoder, weights):
    kernel = encoder.get_layer("conv3_block1_0_conv").kernel.numpy()
    expected = weights["layer2.0.downsample.0.weight"]
    np.testing.assert_array_equal(kernel[0, 0], expected[:, :, 0, 0].T)
    variance = encoder.get_layer("conv5_block2_2_bn").moving_variance
    np.testing.assert_array_equal(variance, weights["layer4.1.bn2.running_var"])


@pytest.mark.parametrize("output_stride", [16, 32])
def test_torchvision_weights_from_a_file(torchvision_weights, output_stride, tmp_path):
    file = tmp_path / "resnet18.safetensors"
    safetensors.numpy.save_file(torchvision_weights, file)
    encoder = build_encoder("resnet18_v1.5", weights=str(file), output_stride=output_stride)
    assert_is_loaded(encoder, torchvision_weights)


def test_imagenet_weights_of_torchvision(torchvision_weights, tmp_path, monkeypatch):
    file = tmp_path / "cached.safetensors"
    safetensors.numpy.save_file(torchvision_weights, file)
    fetched = []

    def get_file(*arguments, **options):
        fetched.append((arguments, options))
        return str(file)

    monkeypatch.setattr("keras.utils.get_file", get_file)
    assert_is_loaded(build_encoder("resnet18_v1.5", weights="imagenet"), torchvision_weights)
    url = "https://huggingface.co/timm/resnet18.tv_in1k/resolve/main/model.safetensors"
    assert fetched == [(("resnet18.tv_in1k.safetensors", url), {"cache_subdir": "models"})]


def test_failed_download_of_torchvisions_weights(monkeypatch):
    def fail(name, url, **options):
        raise Exception(f"URL fetch failure on {url}: None -- no network")

    monkeypatch.setattr("keras.utils.get_file", fail)
    with pytest.raises(
        InputError,
        match="resnet18_v1.5 could not.*huggingface.co/timm/resnet18.tv_in1k/.*encoder_weights",
    ):
        build_encoder("resnet18_v1.5", weights="imagenet")


def test_weights_of_the_other_world(torchvision_weights, tmp_path):
    file = tmp_path / "resnet18.safetensors"
    safetensors.numpy.save_file(torchvision_weights, file)
    with pytest.raises(InputError, match="keras.applications' mobilenetv2.*are for.*resnet50_v1.5"):
        build_encoder("mobilenetv2", weights=str(file))
    keras_file = tmp_path / "resnet18_notop.h5"
    keras_file.write_bytes(b"")
    with pytest.raises(InputError, match="torchvision's or timm's resnet18: .*h5.*of Keras"):
        build_encoder("resnet18_v1.5", weights=str(keras_file))


def test_torchvision_weights_of_another_depth(torchvision_weights, tmp_path):
    file = tmp_path / "resnet18.safetensors"
    safetensors.numpy.save_file(torchvision_weights, file)
    with pytest.raises(
        InputError,
        match="not those of torchvision's or timm's resnet34: .* missing.*layer1.2.conv1",
    ):
        build_encoder("resnet34_v1.5", weights=str(file))


def test_unknown_encoder_and_stride():
    with pytest.raises(InputError, match="'vgg16'.*resnet101"):
        build_encoder("vgg16", weights=None)
    with pytest.raises(InputError, match="8, 16 or 32. Received: 4"):
        build_encoder("tiny", weights=None, output_stride=4)
