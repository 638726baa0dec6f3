"""DeepLabV3+: atrous spatial pyramid pooling and a light decoder.

Reference: Chen et al. 2018, Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation, https://arxiv.org/abs/1802.02611
"""

import keras

from lcc_tf.arguments import check_num_classes
from lcc_tf.bands import Bands
from lcc_tf.errors import InputError
from lcc_tf.models.blocks import (
    conv_bn_relu,
    segmentation_logits,
    separable_conv_bn_relu,
)
from lcc_tf.models.encoders import build_encoder
from lcc_tf.models.preprocessing import input_shape_of
from lcc_tf.models.resampling import BilinearUpsampling, BroadcastLike

FILTERS = 256
# Number of channels of the stride-4 features: the best number in table 1 of the paper
LOW_LEVEL_FILTERS = 48
# Key: output stride. Value: dilation rates.
# - Output stride 16: the rates of segmentation_models_pytorch 0.5 and 0.6. The original PyTorch
#   notebooks used these rates. The rates of DeepLabV3 (Chen et al. 2017,
#   https://arxiv.org/abs/1706.05587, section 3.3) are half as large: (6, 12, 18).
# - Output stride 8: twice the rates at output stride 16, because DeepLabV3 also doubles its rates.
#   In segmentation_models_pytorch 0.5 and 0.6, the rates are (12, 24, 36) at both strides.
DILATION_RATES = {16: (12, 24, 36), 8: (24, 48, 72)}


def DeepLabV3Plus(
    num_classes: int,
    *,
    encoder: str = "resnet101",
    encoder_weights: str | None = "imagenet",
    input_shape: tuple[int | None, int | None, int] | None = None,
    preprocessing: str | None = None,
    output_stride: int = 16,
    dilation_rates: tuple[int, ...] | None = None,
    align_corners: bool = False,
    bands: Bands | None = None,
    new_bands: str = "mean",
) -> keras.Model:
    """Builds DeepLabV3+ as a functional Keras model (figure 2 of the paper).

    Args:
        num_classes: number of output channels, 2 or more; 2 for a binary task.
        encoder: a key of `lcc_tf.models.encoders.ENCODERS`.
        encoder_weights: "imagenet", None for random weights, or the path of a weights file; see
            `build_encoder`.
        input_shape: `(height, width, channels)`, in pixels, with one channel per band, or 3
            channels without `bands`. Height and width must be divisible by `output_stride`. A
            height or width that can vary is None. If the whole argument is None, the model accepts
            images of any size.
        preprocessing: None for the preprocessing of the encoder's ImageNet weights, or another mode
            of `PREPROCESSING_MODES`; see `build_encoder`.
        output_stride: stride of the encoder's deepest features, 16 or 8.
        dilation_rates: one rate per atrous branch, in pixels of the deepest features; None for the
            rates in `DILATION_RATES`. The rates of segmentation_models_pytorch 0.5 and 0.6 are
            (12, 24, 36) at both output strides.
        align_corners: True to upsample features and logits like segmentation_models_pytorch; see
            `BilinearUpsampling`.
        bands: bands of the images; None for RGB in [0, 255].
        new_bands: initial weights for bands that are not red, green or blue, "mean" or "zero"; see
            `build_encoder`.

    Returns:
        A model that maps images to logits. The images are float32
        `(batch, height, width, channels)`. The channels are RGB in [0, 255], or the original values
        of `bands`. The logits are float32 `(batch, height, width, num_classes)`.

    Raises:
        InputError: the encoder or the preprocessing is unknown; `num_classes`, `input_shape`,
            `output_stride` or `dilation_rates` is invalid; the weights cannot be downloaded or
            loaded; or a height or width is not divisible by `output_stride`.

    Example:
        >>> model = DeepLabV3Plus(7, encoder="resnet18_v1.5", encoder_weights=None)
        >>> model(np.zeros((1, 64, 32, 3))).shape
        TensorShape([1, 64, 32, 7])
    """
    num_classes = check_num_classes(num_classes)
    if output_stride not in DILATION_RATES:
        raise InputError(
            f"`output_stride` must be 16 or 8. Received: output_stride={output_stride}."
        )
    rates = DILATION_RATES[output_stride] if dilation_rates is None else tuple(dilation_rates)
    if not rates or len(set(rates)) < len(rates) or min(rates) < 1:
        raise InputError(
            f"`dilation_rates` must be different whole numbers of at least 1, such as "
            f"{DILATION_RATES[output_stride]}. Received: dilation_rates={rates}."
        )
    input_shape = input_shape_of(input_shape, bands)
    backbone = build_encoder(
        encoder,
        weights=encoder_weights,
        output_stride=output_stride,
        input_shape=input_shape,
        preprocessing=preprocessing,
        bands=bands,
        new_bands=new_bands,
    )
    inputs = keras.Input(input_shape, name="image")
    features = backbone(inputs)

    x = _aspp(features[-1], rates)
    x = separable_conv_bn_relu(x, FILTERS, 3, name="decoder_aspp_conv")
    x = BilinearUpsampling(output_stride // 4, align_corners, name="decoder_upsampling")(x)
    # The features of stride 4 are the fourth from the end. Their index from the start varies,
    # because some encoders have no features of stride 2.
    low_level = conv_bn_relu(features[-4], LOW_LEVEL_FILTERS, 1, name="decoder_low_level_conv")
    x = keras.layers.Concatenate(name="decoder_concat")([x, low_level])
    x = separable_conv_bn_relu(x, FILTERS, 3, name="decoder_conv")
    logits = segmentation_logits(x, num_classes, kernel_size=1)
    logits = BilinearUpsampling(4, align_corners, dtype="float32", name="head_upsampling")(logits)
    return keras.Model(inputs, logits, name="deeplabv3plus")


def _aspp(x: keras.KerasTensor, rates: tuple[int, ...]) -> keras.KerasTensor:
    """Applies atrous spatial pyramid pooling with an image-level branch.

    Reference: section 3.3 of DeepLabV3, Chen et al. 2017, https://arxiv.org/abs/1706.05587
    """
    branches = [conv_bn_relu(x, FILTERS, 1, name="aspp_1x1_conv")]
    branches += [
        separable_conv_bn_relu(x, FILTERS, 3, dilation_rate=rate, name=f"aspp_rate{rate}_conv")
        for rate in rates
    ]
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name="aspp_pool")(x)
    pooled = conv_bn_relu(pooled, FILTERS, 1, name="aspp_pool_conv")
    branches.append(BroadcastLike(name="aspp_pool_broadcast")(pooled, branches[0]))
    x = keras.layers.Concatenate(name="aspp_concat")(branches)
    x = conv_bn_relu(x, FILTERS, 1, name="aspp_project_conv")
    return keras.layers.Dropout(0.5, name="aspp_dropout")(x)
