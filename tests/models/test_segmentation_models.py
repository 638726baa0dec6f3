"""UNet, FPN, LinkNet and PSPNet, compared with the package segmentation-models."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from lcc_tf.errors import InputError
from lcc_tf.exporting.savedmodel import export_savedmodel
from lcc_tf.exporting.source_model import SourceModel
from lcc_tf.models import ARCHITECTURES, ensemble
from lcc_tf.models.layers import all_layers
from lcc_tf.models.normalization import BatchNormalization
from lcc_tf.models.preprocessing import EncoderPreprocessing
from lcc_tf.models.segmentation_models import BASELINE_ENCODERS, BASELINES
from tfds_deepglobe.classes import ClassTable

# Image height and width, pixels. The PSPNet of segmentation-models needs a multiple of 48 above 48.
SIZE = 96
CLASSES = ClassTable(("a", "b", "c"), ((0, 0, 0), (9, 9, 9), (255, 0, 255)))


def build(arch, encoder="resnet18", encoder_weights=None, **options):
    return ARCHITECTURES[arch](3, encoder=encoder, encoder_weights=encoder_weights, **options)


def set_random_statistics(model):
    """Assigns random statistics and scales to the batch normalization layers."""
    rng = np.random.default_rng(0)
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight in layer.weights:
                if weight.name in ("gamma", "moving_variance"):
                    weight.assign(rng.uniform(0.5, 1.5, weight.shape))
                else:
                    weight.assign(rng.normal(0, 0.1, weight.shape))


def random_image(*shape):
    return np.random.default_rng(1).uniform(0, 255, (*shape, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def models():
    """Key: architecture. Value: network."""
    keras.utils.set_random_seed(0)
    models = {arch: build(arch) for arch in BASELINES}
    for model in models.values():
        set_random_statistics(model)
    return models


@pytest.fixture(scope="module")
def package(models):
    """The package segmentation-models, which the fixture `models` has imported and configured."""
    import segmentation_models

    return segmentation_models


@pytest.mark.parametrize("arch", BASELINES)
def test_logits_equal_segmentation_models(arch, models, package):
    package_model = getattr(package, BASELINES[arch].function)(
        "resnet18",
        input_shape=(SIZE, SIZE, 3),
        classes=3,
        activation="linear",
        encoder_weights=None,
    )
    package_model.set_weights(models[arch].get_weights())
    image = random_image(2, SIZE, SIZE)
    expected = package_model(package.get_preprocessing("resnet18")(image.copy())).numpy()
    logits = models[arch](image)
    assert logits.dtype == tf.float32
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())
    # The outputs are logits: their sum over the classes is not 1.
    assert np.abs(np.sum(expected, axis=-1) - 1).max() > 0.1


def test_replaced_layers_of_efficientnet_return_the_same_values(package):
    # The replaced layers are dropout, the activations and the squeeze of squeeze-and-excitation.
    model = build("pspnet", "efficientnetb0")
    set_random_statistics(model)
    package_model = package.PSPNet(
        "efficientnetb0", (SIZE, SIZE, 3), classes=3, activation="linear", encoder_weights=None
    )
    package_model.set_weights(model.get_weights())
    image = random_image(1, SIZE, SIZE)
    expected = package_model(package.get_preprocessing("efficientnetb0")(image.copy())).numpy()
    np.testing.assert_allclose(model(image), expected, atol=1e-5 * np.abs(expected).max())
    # Keras can load the config without custom objects.
    text = model.to_json()
    assert not any(name in text for name in ("FixedDropout", "swish", "Lambda", "efficientnet."))


def test_preprocessing_of_every_backbone_equals_segmentation_models(package):
    names = set(package.get_available_backbone_names())
    assert set(BASELINE_ENCODERS) == names - {f"densenet{depth}" for depth in (121, 169, 201)}
    image = random_image(1, 4, 4)
    for name, mode in BASELINE_ENCODERS.items():
        expected = package.get_preprocessing(name)(image.copy())
        preprocessed = EncoderPreprocessing(mode, size_divisor=1)(image)
        np.testing.assert_allclose(preprocessed, expected, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("arch", "strides", "convolutions"),
    # The ResNet18 of the package has 17 convolutions, plus 4 in shortcuts. The encoder of PSPNet
    # contains only the stem and the first two stages.
    [
        ("unet", (32, 16, 8, 4, 2), 21),
        ("fpn", (32, 16, 8, 4, 2), 21),
        ("linknet", (32, 16, 8, 4, 2), 21),
        ("pspnet", (8,), 11),
    ],
)
def test_encoder_contains_preprocessing_and_backbone(arch, strides, convolutions, models):
    encoder = models[arch].get_layer("encoder")
    assert encoder.get_layer("preprocessing").size_divisor == strides[0]
    image = keras.KerasTensor((1, 64, 64, 3))
    features = keras.tree.flatten(encoder.compute_output_spec(image))
    assert [feature.shape[1] for feature in features] == [64 // stride for stride in strides]
    assert sum(isinstance(x, keras.layers.Conv2D) for x in encoder.layers) == convolutions


def test_training_does_not_change_a_frozen_encoder(models):
    model = keras.models.clone_model(models["fpn"])
    encoder = model.get_layer("encoder")
    encoder.trainable = False
    model.compile(
        keras.optimizers.SGD(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    before = [(weight, weight.numpy()) for weight in model.weights]
    labels = np.random.default_rng(0).integers(0, 3, (2, 64, 64))
    model.train_on_batch(random_image(2, 64, 64), labels)
    moved = {id(weight) for weight, old in before if not np.array_equal(weight.numpy(), old)}
    assert len(moved) > 20
    assert moved.isdisjoint(id(weight) for weight in encoder.weights)


def test_batch_normalization_is_fused_and_has_the_momentum_of_pytorch(models):
    for model in models.values():
        norms = [x for x in all_layers(model) if isinstance(x, keras.layers.BatchNormalization)]
        assert {(type(norm), norm.momentum) for norm in norms} == {(BatchNormalization, 0.9)}
        assert len(norms) > 10


def test_weights_file_loads_into_another_build(models, tmp_path):
    # The last convolution of LinkNet and the sums of ResNet have automatic names.
    file = tmp_path / "model.weights.h5"
    models["linknet"].save_weights(file)
    again = build("linknet")
    again.load_weights(file)
    image = random_image(1, 32, 64)
    np.testing.assert_array_equal(again(image), models["linknet"](image))
    names = [[layer.name for layer in all_layers(model)] for model in (again, models["linknet"])]
    assert names[0] == names[1]


def test_loaded_model_returns_the_same_logits(tmp_path):
    # SE-ResNet has slices and new axes, which are not Keras layers.
    model = build("pspnet", "seresnet18")
    set_random_statistics(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    image = random_image(1, 32, 64)
    np.testing.assert_allclose(loaded(image), model(image), atol=1e-6)


def test_exported_model_accepts_any_size(models, tmp_path):
    original = SourceModel(ensemble([models["pspnet"]]), CLASSES, tile=64)
    (exported,) = export_savedmodel(original, tmp_path / "exported")
    assert exported.agreement.max_difference < 1e-4


def test_mixed_precision(models):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build("pspnet")
    finally:
        keras.config.set_dtype_policy("float32")
    model.set_weights(models["pspnet"].get_weights())
    image = random_image(1, 64, 64)
    logits, expected = model(image), models["pspnet"](image).numpy()
    assert logits.dtype == tf.float32
    assert model.get_layer("final_conv").compute_dtype == "float32"
    assert model.get_layer("aggregation_conv").compute_dtype == "bfloat16"
    assert model.get_layer("encoder").get_layer("conv0").compute_dtype == "bfloat16"
    np.testing.assert_allclose(logits, expected, atol=0.05 * np.abs(expected).max())


def test_pspnet_accepts_sizes_that_segmentation_models_rejects(models):
    assert models["pspnet"](random_image(1, 8, 40)).shape == (1, 8, 40, 3)


@pytest.mark.parametrize(("arch", "divisor"), [("unet", 32), ("pspnet", 8)])
def test_size_that_is_not_divisible_by_the_stride_raises(arch, divisor, models):
    with pytest.raises(InputError, match=f"divisible by {divisor}.*height=100, width=64"):
        models[arch](random_image(1, 100, 64))
    with pytest.raises(InputError, match=f"divisible by {divisor}.*height=100, width=64"):
        build(arch, input_shape=(100, 64, 3))


# Weights of the backbone


def test_weights_of_the_backbone_from_a_file(package, tmp_path):
    backbone = package.inject_global_submodules(package.Backbones.get_backbone)(
        "resnet18", input_shape=(64, 64, 3), weights=None, include_top=False
    )
    set_random_statistics(backbone)
    file = tmp_path / "resnet18_no_top.h5"
    backbone.save(file)  # the package publishes its weights in this legacy format
    encoder = build("unet", encoder_weights=str(file)).get_layer("encoder")
    for array, expected in zip(encoder.get_weights(), backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(array, expected)
    with pytest.raises(InputError, match="does not contain the weights of .*resnet34 without its"):
        build("unet", "resnet34", encoder_weights=str(file))


def test_damaged_weights_file_raises(tmp_path):
    file = tmp_path / "resnet18_no_top.h5"
    file.write_text("<html>Please log in.</html>")
    with pytest.raises(InputError, match="does not contain the weights of .*resnet18 without its"):
        build("unet", encoder_weights=str(file))


def test_missing_weights_file_raises():
    with pytest.raises(InputError, match="does not exist. Received: encoder_weights='none.h5'"):
        build("unet", encoder_weights="none.h5")


def test_failed_download_raises(monkeypatch, tmp_path):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # refuses every connection
    monkeypatch.setenv("no_proxy", "")
    get_file = functools.partial(keras.utils.get_file, cache_dir=tmp_path)
    monkeypatch.setattr(tf.keras.utils, "get_file", get_file)
    with pytest.raises(
        InputError, match="could not be downloaded: .*encoder_weights=None.*`encoder_weights`"
    ):
        build("unet", encoder_weights="imagenet")


def test_programming_error_is_not_converted(monkeypatch, package):
    def broken(*args, **kwargs):
        raise TypeError("a bug")

    monkeypatch.setattr(package, "Unet", broken)
    for encoder_weights in (None, "imagenet"):
        with pytest.raises(TypeError, match="^a bug$"):
            build("unet", encoder_weights=encoder_weights)


def test_unknown_encoder_raises():
    with pytest.raises(InputError, match="encoder for unet.*'densenet121'.*'resnet18'"):
        build("unet", "densenet121")
