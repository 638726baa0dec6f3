"""Encoders with ImageNet weights: models that preprocess images and return features."""

import contextlib
import warnings
from pathlib import Path

import keras
import numpy as np

from lcc_tf.bands import Bands
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
    channels_of,
    check_image_size,
    input_shape_of,
)
from lcc_tf.models.resnet_v1_5 import RESNETS
from lcc_tf.models.torch_files import TORCH_SUFFIXES, read_torch_weights
from lcc_tf.models.torch_weights import load_torch_encoder
from lcc_tf.models.weight_values import check_finite

STRIDES = (2, 4, 8, 16, 32)
NEW_BANDS = ("mean", "zero")
TIMM_URL = "https://huggingface.co/timm/{}/resolve/main/model.safetensors"


def build_encoder(
    name: str,
    *,
    weights: str | None = "imagenet",
    output_stride: int = 32,
    input_shape: tuple[int | None, int | None, int] | None = None,
    preprocessing: str | None = None,
    bands: Bands | None = None,
    new_bands: str = "mean",
) -> keras.Model:
    """Builds an encoder, a model named "encoder" whose outputs are features at several strides.

    If `output_stride` is below 32, the last stages are dilated (see `lcc_tf.models.dilation`). The
    squeeze-and-excitation blocks of EfficientNetV2 then average over denser features than during
    the training on ImageNet.

    Args:
        name: a key of `ENCODERS`.
        weights: "imagenet" (downloaded on first use), None for random weights, or the path of a
            weights file. For an encoder of `keras.applications`, the file must contain the weights
            of the same model without its classifier. For an encoder with the layers of torchvision
            (names that end in `_v1.5`), the file must contain the weights of the same ResNet from
            torchvision or timm (see `read_torch_weights`).
        output_stride: stride of the deepest features: 32, 16 or 8.
        input_shape: `(height, width, channels)`, in pixels. There is one channel per band, or 3
            channels without `bands`. A height or width that can vary is None. If the whole argument
            is None, the model accepts images of any size.
        preprocessing: None for the preprocessing of the ImageNet weights, or one of
            `PREPROCESSING_MODES` for weights that were trained with another preprocessing.
        bands: bands of the images; None for RGB in [0, 255].
        new_bands: initial weights of the first convolution for bands that are not red, green or
            blue. Without `weights`, the argument has no effect. "mean": the mean of the three
            colors; all weights are then multiplied by 3 / number of bands, so that the values of
            the features have about the same size as before. "zero": 0, so that the features are the
            same as without these bands.

    Returns:
        A model that converts images to a list of features. The images are float32
        `(batch, height, width, channels)`. The channels are RGB in [0, 255], or the original values
        of `bands`. The features are float `(batch, height / s, width / s, channels)`. The strides s
        are 2, 4, 8, 16 and 32. Strides above `output_stride` are reduced to `output_stride`.
        ConvNeXt has no features of stride 2.

    Raises:
        InputError: the name, the output stride or the preprocessing is unknown; the weights cannot
            be downloaded or loaded; `input_shape` or `new_bands` is invalid; or a height or width
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
    if new_bands not in NEW_BANDS:
        raise InputError(
            f"`new_bands` must be one of {NEW_BANDS}. Received: new_bands={new_bands!r}."
        )
    input_shape = input_shape_of(input_shape, bands)
    check_image_size(input_shape[0], input_shape[1], output_stride)
    spec = ENCODERS[name]
    inputs = keras.Input(input_shape, name="image")
    mode = preprocessing or spec.preprocessing
    preprocessed = EncoderPreprocessing(
        mode, size_divisor=output_stride, bands=bands, name="preprocessing"
    )(inputs)
    build = _keras_network if spec.timm_weights is None else _torchvision_network
    if bands and weights is not None:
        colors = build(name, spec, weights, keras.Input((None, None, 3)))
        network = build(name, spec, None, preprocessed)
        _copy_weights(colors, network, bands, mode, new_bands)
    else:
        network = build(name, spec, weights, preprocessed)
    network = with_output_stride(network, spec, output_stride)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # The original PyTorch notebooks used PyTorch's default momentum of 0.1. In Keras, the
            # same momentum is 0.9. With the default momentum of Keras (0.99; MobileNetV2: 0.999),
            # the moving statistics would lag behind the weights for thousands of steps.
            layer.momentum = 0.9
            # Change the class of the layer, because `BatchNormalization` of lcc_tf only replaces a
            # method. A copy of the network with new layers would take three seconds for ResNet101.
            layer.__class__ = BatchNormalization
    if spec.taps_are_inputs:
        features = [*(network.get_layer(tap).input for tap in spec.taps), network.output]
    else:
        features = [network.get_layer(tap).output for tap in spec.taps]
    return keras.Model(network.inputs[0], features, name="encoder")


def _copy_weights(
    colors: keras.Model, network: keras.Model, bands: Bands, mode: str, new_bands: str
) -> None:
    """Copies the weights of a network for RGB to a network for other bands.

    Args:
        colors: network for RGB.
        network: network with the same layers, for images with `bands`. Its weights are replaced.
        bands: bands of the images.
        mode: preprocessing mode, which defines the order of the colors.
        new_bands: see `build_encoder`.

    Raises:
        InputError: `new_bands` is "zero", but no band is red, green or blue.
    """
    if new_bands == "zero" and not any(bands.colors):
        raise InputError(
            "`new_bands='zero'` needs a band that is red, green or blue. Received: the bands "
            f"{', '.join(bands.names)}. Use `new_bands='mean'`, or name the bands, for example "
            "with `bands='1=red,2=green,3=blue,4=nir'`."
        )
    channels = [channels_of(color, mode) for color in bands.colors]
    values = colors.get_weights()
    first = next(index for index, value in enumerate(values) if value.ndim == 4)
    kernels = [values[first][:, :, channel].mean(axis=2) for channel in channels]
    kernel = np.stack(kernels, axis=2)
    if new_bands == "mean":
        kernel *= 3 / len(bands)
    else:
        kernel[:, :, [color is None for color in bands.colors]] = 0
    values[first] = kernel
    network.set_weights(values)


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
        # For an unknown image size, MobileNetV2 warns that the weights for 224x224 images are used.
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
