"""Weights of encoders: weights files, downloads and errors of both."""

import dataclasses
import functools

import h5py
import keras
import numpy as np
import pytest
import safetensors.numpy

from lcc_tf.bands import Bands
from lcc_tf.errors import InputError
from lcc_tf.models.encoder_weights import clear_download_errors, clear_file_errors
from lcc_tf.models.encoders import ENCODERS, build_encoder
from tests.models.smp_networks import seeded_weights


@pytest.fixture
def no_network(monkeypatch):
    """Sets a proxy that refuses every connection."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")


@pytest.fixture(scope="module")
def tiny_network():
    """The network of the encoder "tiny", with random weights."""
    return ENCODERS["tiny"].application(False, None, keras.Input((64, 64, 3)))


# Keras files


def test_keras_files_load(tiny_network, tmp_path):
    tiny_network.save(tmp_path / "legacy.h5")  # the format of the published weights
    tiny_network.save_weights(tmp_path / "new.weights.h5")
    for file in ("legacy.h5", "new.weights.h5"):
        for output_stride in (16, 32):
            encoder = build_encoder(
                "tiny", weights=str(tmp_path / file), output_stride=output_stride
            )
            for array, expected in zip(
                encoder.get_weights(), tiny_network.get_weights(), strict=True
            ):
                np.testing.assert_array_equal(array, expected)


def test_weights_of_a_keras_application_load(tmp_path):
    source = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(64, 64, 3)
    )
    file = tmp_path / "mobilenetv2_notop.h5"
    source.save(file)
    encoder = build_encoder("mobilenetv2", weights=str(file), output_stride=16)
    for array, expected in zip(encoder.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_file_with_nan_raises(tmp_path):
    network = ENCODERS["tiny"].application(False, None, keras.Input((64, 64, 3)))
    bias = network.get_layer("stage2_conv").bias
    bias.assign(np.full(bias.shape, np.nan))
    file = str(tmp_path / "nan.weights.h5")
    network.save_weights(file)
    with pytest.raises(
        InputError, match="nan.weights.h5 must contain finite.* in stage2_conv/bias"
    ):
        build_encoder("tiny", weights=file)


def test_missing_file_raises(tmp_path):
    with pytest.raises(InputError, match="does not exist. Received: encoder_weights='.*none.h5'"):
        build_encoder("tiny", weights=str(tmp_path / "none.h5"))


def damage(file, kind):
    """Damages a weights file in one way."""
    if kind == "truncated":
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    elif kind == "random bytes":
        content = file.read_bytes()
        noise = np.random.default_rng(0).bytes(5000)
        file.write_bytes(content[:1000] + noise + content[6000:])
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "web page":
        file.write_text("<html>Please log in.</html>")
    elif kind == "no weights":
        with h5py.File(file, "w") as h5:
            h5["x"] = np.ones(3)
    elif kind == "another network":
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(file)


@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        *((".h5", kind) for kind in ("empty", "web page", "no weights", "another network")),
        *((".weights.h5", kind) for kind in ("truncated", "random bytes", "no weights")),
        *((".keras", kind) for kind in ("truncated", "another network")),
        (".txt", "web page"),
    ],
)
def test_damaged_keras_file_raises(suffix, kind, tiny_network, tmp_path):
    file = tmp_path / f"weights{suffix}"
    if suffix == ".weights.h5":
        tiny_network.save_weights(file)
    elif suffix != ".txt":
        tiny_network.save(file)
    damage(file, kind)
    with pytest.raises(InputError, match="does not contain the weights of keras.applications' tin"):
        build_encoder("tiny", weights=str(file))


def test_programming_errors_are_not_converted():
    for clear_errors in (
        clear_download_errors("tiny"),
        clear_file_errors("weights.h5", "the encoder", "Use another file."),
    ):
        with pytest.raises(TypeError, match="^a bug$"), clear_errors:
            raise TypeError("a bug")


def test_programming_error_of_an_application_is_not_converted(tiny_network, tmp_path, monkeypatch):
    def broken(include_top, weights, input_tensor):
        raise ValueError("a bug")

    spec = dataclasses.replace(ENCODERS["tiny"], application=broken)
    monkeypatch.setitem(ENCODERS, "broken", spec)
    file = tmp_path / "weights.h5"
    tiny_network.save(file)
    for weights in (None, "imagenet", str(file)):
        with pytest.raises(ValueError, match="^a bug$") as error:
            build_encoder("broken", weights=weights)
        assert not isinstance(error.value, InputError)


# Downloads


def test_failed_download_of_keras_weights_raises(no_network, tmp_path, monkeypatch):
    def application(include_top, weights, input_tensor):
        file = keras.utils.get_file("a.h5", "https://example.org/a.h5", cache_dir=tmp_path)
        return ENCODERS["tiny"].application(include_top, file, input_tensor)

    spec = dataclasses.replace(ENCODERS["tiny"], application=application)
    monkeypatch.setitem(ENCODERS, "downloaded", spec)
    with pytest.raises(
        InputError,
        match="of downloaded could not be downloaded: .*example.org/a.h5.*encoder_weights=None.*"
        "`encoder_weights`",
    ):
        build_encoder("downloaded", weights="imagenet")


def test_failed_download_of_torchvision_weights_raises(no_network, tmp_path, monkeypatch):
    get_file = functools.partial(keras.utils.get_file, cache_dir=tmp_path)
    monkeypatch.setattr("keras.utils.get_file", get_file)
    with pytest.raises(
        InputError,
        match="resnet18_v1.5 could not.*huggingface.co/timm/resnet18.tv_in1k/.*encoder_weights",
    ):
        build_encoder("resnet18_v1.5", weights="imagenet")


# Weights files of torchvision


@pytest.fixture(scope="module")
def torchvision_weights():
    """A state dict of torchvision's resnet18, including its classifier."""
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


@pytest.fixture(scope="module")
def torchvision_file(torchvision_weights, tmp_path_factory):
    file = tmp_path_factory.mktemp("torchvision") / "resnet18.safetensors"
    safetensors.numpy.save_file(torchvision_weights, file)
    return file


def assert_is_loaded(encoder, weights):
    kernel = encoder.get_layer("conv3_block1_0_conv").kernel.numpy()
    expected = weights["layer2.0.downsample.0.weight"]
    np.testing.assert_array_equal(kernel[0, 0], expected[:, :, 0, 0].T)
    variance = encoder.get_layer("conv5_block2_2_bn").moving_variance
    np.testing.assert_array_equal(variance, weights["layer4.1.bn2.running_var"])


def test_torchvision_file_loads(torchvision_weights, torchvision_file):
    encoder = build_encoder("resnet18_v1.5", weights=str(torchvision_file), output_stride=16)
    assert_is_loaded(encoder, torchvision_weights)


def test_imagenet_weights_of_torchvision_load(torchvision_weights, torchvision_file, monkeypatch):
    downloads = []

    def get_file(*arguments, **options):
        downloads.append((arguments, options))
        return str(torchvision_file)

    monkeypatch.setattr("keras.utils.get_file", get_file)
    assert_is_loaded(build_encoder("resnet18_v1.5", weights="imagenet"), torchvision_weights)
    url = "https://huggingface.co/timm/resnet18.tv_in1k/resolve/main/model.safetensors"
    assert downloads == [(("resnet18.tv_in1k.safetensors", url), {"cache_subdir": "models"})]


def test_torchvision_file_for_a_keras_encoder_raises(torchvision_file):
    with pytest.raises(InputError, match="keras.applications' tiny .*load into .*resnet50_v1.5"):
        build_encoder("tiny", weights=str(torchvision_file))


def test_keras_file_for_a_torchvision_encoder_raises(tmp_path):
    file = tmp_path / "resnet18_notop.h5"
    file.write_bytes(b"")
    with pytest.raises(InputError, match="torchvision's or timm's resnet18: .*Use a Keras file"):
        build_encoder("resnet18_v1.5", weights=str(file))


def test_torchvision_file_of_another_depth_raises(torchvision_file):
    with pytest.raises(
        InputError,
        match="does not contain .* torchvision's or timm's resnet34: .* missing.*layer1.2.conv1",
    ):
        build_encoder("resnet34_v1.5", weights=str(torchvision_file))


@pytest.mark.parametrize("new_bands", ["zero", "mean"])
def test_torchvision_file_loads_into_an_encoder_with_bands(torchvision_file, new_bands):
    bands = Bands(("nir", "blue", "green", "red"), ((0, 255),) * 4)
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    if new_bands == "mean":  # equal values in all bands give the features of a gray image
        image = image[..., :1].repeat(3, axis=-1)
    options = {"weights": str(torchvision_file), "preprocessing": "unit"}
    expected = build_encoder("resnet18_v1.5", **options)(image)
    encoder = build_encoder("resnet18_v1.5", bands=bands, new_bands=new_bands, **options)
    with_infrared = np.concatenate([image[..., :1], image[..., ::-1]], axis=-1)
    for feature, other in zip(encoder(with_infrared), expected, strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(feature / scale, other / scale, atol=1e-4)
