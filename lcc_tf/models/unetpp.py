"""UNet++: nested, dense skip connections between an encoder and its decoder.

Reference: Zhou et al. 2018, UNet++: A Nested U-Net Architecture for Medical Image Segmentation,
https://arxiv.org/abs/1807.10165
"""

import keras

from lcc_tf.arguments import check_num_classes
from lcc_tf.bands import Bands
from lcc_tf.models.blocks import (
    conv_bn_relu,
    node_conv_bn_relu,
    segmentation_logits,
)
from lcc_tf.models.encoders import STRIDES, build_encoder
from lcc_tf.models.preprocessing import input_shape_of
from lcc_tf.models.resampling import BilinearUpsampling

# Number of filters per level, from the deepest level to full resolution. The numbers are from
# segmentation_models_pytorch, which the original PyTorch notebooks used.
DECODER_FILTERS = (256, 128, 64, 32, 16)


def UNetPlusPlus(
    num_classes: int,
    *,
    encoder: str = "resnet101",
    encoder_weights: str | None = "imagenet",
    input_shape: tuple[int | None, int | None, int] | None = None,
    preprocessing: str | None = None,
    deep_supervision: bool = False,
    bands: Bands | None = None,
    new_bands: str = "mean",
) -> keras.Model:
    """Builds UNet++ as a functional Keras model.

    In the paper (figure 1a), X^{i,j} is the node at level i and column j. In this function, level 0
    has stride 2, and column 0 contains the features of the encoder. A node concatenates the
    upsampled node below and all nodes to the left. Then it applies convolutions H:
    X^{i,j} = H([up(X^{i+1,j-1}), X^{i,j-1}, ..., X^{i,0}]) (equation 1). After X^{0,4}, one more
    block upsamples from stride 2 to full resolution.

    The last node of a level has the number of filters in `DECODER_FILTERS`. The other decoder nodes
    of the level have as many filters as the encoder's feature at this level. If an encoder has no
    features of stride 2, X^{0,0} does not exist. Then all nodes of level 0 have as many filters as
    the last node of level 0.

    Args:
        num_classes: number of output channels, 2 or more; 2 for a binary task.
        encoder: a key of `lcc_tf.models.encoders.ENCODERS`.
        encoder_weights: "imagenet", None for random weights, or the path of a weights file; see
            `build_encoder`.
        input_shape: `(height, width, channels)`, in pixels, with one channel per band, or 3
            channels without `bands`. Height and width must be divisible by 32. A height or width
            that can vary is None. If the whole argument is None, the model accepts images of any
            size.
        preprocessing: None for the preprocessing of the encoder's ImageNet weights, or another mode
            of `PREPROCESSING_MODES`; see `build_encoder`.
        deep_supervision: True to add a head to each of the nodes X^{0,1}, X^{0,2} and X^{0,3}. The
            prediction is then the mean of these three heads and the head of X^{0,4}. The paper
            calls this the accurate mode (section 3.2).
        bands: bands of the images; None for RGB in [0, 255].
        new_bands: initial weights for bands that are not red, green or blue, "mean" or "zero"; see
            `build_encoder`.

    Returns:
        A model that maps images to logits. The images are float32
        `(batch, height, width, channels)`. The channels are RGB in [0, 255], or the original values
        of `bands`. The logits are float32 `(batch, height, width, num_classes)`. With
        deep supervision, the model returns five such outputs: first the prediction, then the four
        heads. In training, apply the loss only to the four heads.

    Raises:
        InputError: the encoder or the preprocessing is unknown; `num_classes` or `input_shape` is
            invalid; the weights cannot be downloaded or loaded; or a height or width is not
            divisible by 32.

    Example:
        >>> model = UNetPlusPlus(7, encoder="resnet18_v1.5", encoder_weights=None)
        >>> model(np.zeros((1, 64, 32, 3))).shape
        TensorShape([1, 64, 32, 7])
    """
    num_classes = check_num_classes(num_classes)
    input_shape = input_shape_of(input_shape, bands)
    backbone = build_encoder(
        encoder,
        weights=encoder_weights,
        input_shape=input_shape,
        preprocessing=preprocessing,
        bands=bands,
        new_bands=new_bands,
    )
    inputs = keras.Input(input_shape, name="image")
    features = backbone(inputs)
    depth = len(STRIDES) - 1

    nodes = {(depth - index, 0): feature for index, feature in enumerate(reversed(features))}
    for column in range(1, depth + 1):
        for level in range(depth - column + 1):
            skips = [
                nodes[level, left] for left in reversed(range(column)) if (level, left) in nodes
            ]
            filters = DECODER_FILTERS[depth - 1 - level]
            if level + column < depth and (level, 0) in nodes:
                filters = nodes[level, 0].shape[-1]
            nodes[level, column] = _node(
                nodes[level + 1, column - 1], skips, filters, name=f"x_{level}_{column}"
            )
    full = _node(nodes[0, depth], [], DECODER_FILTERS[-1], name="full_resolution")
    logits = segmentation_logits(full, num_classes, kernel_size=3)
    if not deep_supervision:
        return keras.Model(inputs, logits, name="unetpp")

    heads = []
    for column in range(1, depth):
        name = f"head_0_{column}_logits"
        head = segmentation_logits(nodes[0, column], num_classes, kernel_size=1, name=name)
        heads.append(
            BilinearUpsampling(2, dtype="float32", name=f"head_0_{column}_upsampling")(head)
        )
    heads.append(logits)
    mean = keras.layers.Average(dtype="float32", name="mean_logits")(heads)
    return keras.Model(inputs, [mean, *heads], name="unetpp")


def _node(
    below: keras.KerasTensor, skips: list[keras.KerasTensor], filters: int, *, name: str
) -> keras.KerasTensor:
    """Upsamples the node below, concatenates the nodes to the left and convolves twice."""
    # Weights files contain the layers in the order of the graph. In earlier versions, upsampling
    # and concatenation were separate layers. The two identity layers replace these layers, so that
    # earlier weights files can be loaded.
    below = keras.layers.Identity(name=f"{name}_upsampling")(below)
    maps = [below]
    if skips:
        maps = keras.layers.Identity(name=f"{name}_concat")([below, *skips])
    x = node_conv_bn_relu(maps, filters, name=f"{name}_conv1")
    return conv_bn_relu(x, filters, 3, name=f"{name}_conv2")
