"""Networks, weights and images for comparisons with segmentation_models_pytorch (smp)."""

import math
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from lcc_tf.models import build_model

NUM_CLASSES = 7

# Folder with outputs of smp. `python -m benchmarks.compare_with_smp --write-expected` writes them.
EXPECTED = Path(__file__).parent / "data"
EXPECTED_ENCODER = "resnet18"
# Height and width in pixels. At output stride 8, the features are 56 pixels wide. Therefore all
# columns of a kernel with dilation rate 36 apply to features, not only to padding.
EXPECTED_SIZE = (32, 448)
EXPECTED_STEP = 9  # only every ninth row and column of the outputs is stored


def seeded_image(height: int, width: int) -> np.ndarray:
    """Returns an image of noise, float32 `(1, height, width, 3)`, RGB in [0, 255]."""
    return np.random.default_rng(0).integers(0, 256, (1, height, width, 3)).astype(np.float32)


def seeded_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Returns random arrays for a state dict. The name of an array is its random seed.

    Args:
        shapes: key: PyTorch name of an array; value: shape of the array.

    Returns:
        Key: name. Value: float32 array. The values are small enough for finite activations in deep
        networks, and large enough for activations other than zero.
    """
    weights = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(list(name.encode()))
        if len(shape) > 1:  # a kernel: use half of the variance in He et al. 2015
            bound = math.sqrt(3 / math.prod(shape[1:]))
            low, high = -bound, bound
        elif name.endswith((".weight", ".running_var")):
            low, high = 0.5, 1.5
        else:
            low, high = -0.2, 0.2
        weights[name] = rng.uniform(low, high, shape).astype(np.float32)
    return weights


def build_keras(arch: str, encoder: str, output_stride: int | None) -> keras.Model:
    """Builds the Keras network with the same architecture and settings as in smp."""
    options = {}
    if arch == "deeplabv3plus":
        options = {
            "output_stride": output_stride,
            "dilation_rates": (12, 24, 36),
            "align_corners": True,
        }
    return build_model(
        arch, NUM_CLASSES, encoder=f"{encoder}_v1.5", encoder_weights=None, **options
    )
