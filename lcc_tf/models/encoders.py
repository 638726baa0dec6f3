"""Encoders with ImageNet weights: models that preprocess images and return features."""

import contextlib
import warnings
from pathlib import Path

import keras

from lcc_tf.errors import InputError
from lcc_tf.models.dilation import with_output_stride
from lcc_tf.models.encoder_specs import ENCODERS, EncoderSpec
from lcc_tf.models.encoder_weights import (
    check_weights_file,
    clear_download_errors,
    clear_file_errors,
)
from lcc_tf.models.normalization import BatchNormalization
from lcc_tf.models.preprocessing import (
    EncoderPreprocessing,
    check_image_size,
    check_input_shape,
)
from lcc_tf.models.resnet_v1_5 import RESNETS
from lcc_tf.models.torch_files import TORCH_SUFFIXES, read_torch_weights
from lcc_tf.models.torch_weights import load_torch_encoder
from lcc_tf.models.weight_values import check_finite

STRIDES = (2, 4, 8, 16, 32)
TIMM_URL = "https://huggingface.co/timm/{}/resolve/main/model.safetensors"


def build_encoder(
    name: str,
    *,
    weights: str | None = "imagenet",
    output_stride: int = 32,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    preprocessing: str | None = None,
) -> keras.Model:
    """Builds an encoder, a model named "encoder" whose outputs are features at several strides.

    If `output_stride` is below 32, the last stages are dilated (see `lcc_tf.models.dilation`). The
    squeeze-and-excitation blocks of EfficientNetV2 then average over denser features than in the
    training on ImageNet.

    Args:
        name: a key of `ENCODERS`.
        weights: "imagenet" (downloaded on first use), None for random weights, or the path of a
            weights file. For an encoder of `keras.applications`, the file must contain the weights
            of the same model without its classifier. For an encoder with the layers of torchvision
            (names that end in `_v1.5`), the file must contain the weights of the same ResNet from
            torchvision or timm (see `read_torch_weights`).
        output_stride: stride of the deepest features: 32, 16 or 8.
        input_shape: `(height, width, 3)`, in pixels; None for a height or width that can vary.
        preprocessing: None for the preprocessing of the ImageNet weights, or one of
            `PREPROCESSING_MODES` for weights that were trained with another preprocessing.

    Returns:
        A model that maps images, float32 `(batch, height, width, 3)`, RGB in [0, 255], to a list of
        features, float `(batch, height / s, width / s, channels)`. The strides s are 2, 4, 8, 16
        and 32. Strides above `output_stride` are reduced to `output_stride`. ConvNeXt has no
        features of stride 2.

    Raises:
        InputError: the name, the output stride or the preprocessing is unknown; the weights cannot
            be downloaded or loaded; `input_shape` is not `(height, width, 3)`; or a height or width
            is not divisible by `output_stride`.

    Example:
        >>> encoder = build_encoder("resnet18_v1.5", weights=None, input_shape=(64, 32, 3))
        >>> [feature.shape[1:] for feature in encoder.outputs]
        [(32, 16, 64), (16, 8, 64), (8, 4, 128), (4, 2, 256), (2, 1, 512)]
    """
    if name not in ENCODERS:
        raise InputError(f"Unknown encoder. Received: {name!r}. Choose one of {list(ENCODERS)}.")
    if output_stride not in (8, 16, 32):
        raise InputError(
            f"`output_stride` must be 8, 16 or 32. Received: output_stride={output_stride}."
        )
    check_input_shape(input_shape)
    check_image_size(input_shape[0], input_shape[1], output_stride)
    spec = ENCODERS[name]
    inputs = keras.Input(input_shape, name="image")
    preprocessed = EncoderPreprocessing(
        preprocessing or spec.preprocessing, size_divisor=output_stride, name="preprocessing"
    )(inputs)
    build = _keras_network if spec.timm_weights is None else _torchvision_network
    network = with_output_stride(build(name, spec, weights, preprocessed), spec, output_stride)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # The original PyTorch notebooks used PyTorch's default, which PyTorch writes as 0.1.
            # With the momentum of Keras (0.99; MobileNetV2: 0.999), the moving statistics would
            # lag behind the weights for thousands of steps.
            layer.momentum = 0.9
            # `BatchNormalization` of lcc_tf only replaces a method of this layer. To copy the
            # network with new layers would take three seconds for ResNet101.
            layer.__class__ = BatchNormalization
    if spec.taps_are_inputs:
        features = [*(network.get_layer(tap).input for tap in spec.taps), network.output]
    else:
        features = [network.get_layer(tap).output for tap in spec.taps]
    return keras.Model(network.inputs[0], features, name="encoder")


def _keras_network(
    name: str, spec: EncoderSpec, weights: str | None, preprocessed: keras.KerasTensor
) -> keras.Model:
    """Builds a network of `keras.applications` and loads its weights."""
    contents = f"keras.applications' {name} without its classifier"
    check_weights_file(weights, contents)
    downloads = weights == "imagenet"
    with (
        warnings.catch_warnings(),
        clear_download_errors(name) if downloads else contextlib.nullcontext(),
    ):
        # If the image size is unknown, MobileNetV2 warns that it loads the weights for 224x224
        # images.
        warnings.filterwarnings("ignore", message=".*`input_shape` is undefined.*")
        network = spec.application(
            include_top=False,
            weights="imagenet" if downloads else None,
            input_tensor=preprocessed,
        )
    if weights not in (None, "imagenet"):
        hint = "Use the matching `*_notop.h5` file, or another `encoder`."
        if Path(weights).suffix in TORCH_SUFFIXES:
            hint = f"PyTorch files load into the encoders {list(RESNETS)} only."
        with clear_file_errors(weights, contents, hint):
            network.load_weights(weights)
        check_finite(((weight.path, weight.numpy()) for weight in network.weights), weights)
    return network


def _torchvision_network(
    name: str, spec: EncoderSpec, weights: str | None, preprocessed: keras.KerasTensor
) -> keras.Model:
    """Builds a ResNet with the layers of torchvision and loads its weights."""
    contents = f"torchvision's or timm's {name.removesuffix('_v1.5')}"
    check_weights_file(weights, contents)
    network = spec.application(preprocessed)
    if weights == "imagenet":
        with clear_download_errors(name):
            weights = keras.utils.get_file(
                f"{spec.timm_weights}.safetensors",
                TIMM_URL.format(spec.timm_weights),
                cache_subdir="models",
            )
    if weights is not None:
        try:
            load_torch_encoder(network, read_torch_weights(weights))
        except InputError as error:
            raise InputError(
                f"The file {weights!r} does not contain the weights of {contents}: {error}"
            ) from error
    return network
