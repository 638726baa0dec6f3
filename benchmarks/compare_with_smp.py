"""Compares the logits of UNet++ and DeepLabV3+ with segmentation_models_pytorch (smp).

Both libraries compute the logits of the same random image with the same random weights. The weights
include the moving statistics of batch normalization. The table shows the maximum difference between
two logits, divided by the maximum absolute logit of smp. Run the comparison in a new environment:

    pip install -r requirements.txt torch==2.13.0 huggingface_hub==2.4.0
    pip install --no-deps segmentation-models-pytorch==0.5.0 timm==1.0.31 torchvision==0.29.2
    python -m benchmarks.compare_with_smp

These results were computed in 6 minutes on two shared cores of an AMD EPYC (AVX-512, Python 3.11,
PyTorch for CPUs). The last four columns are image sizes, height x width:

| network | encoder | output stride | 64x64 | 96x160 | 256x256 | 512x512 |
|---|---|---|---|---|---|---|
| unetpp | resnet18 | 32 | 2.8e-06 | 2.7e-06 | 2.9e-06 | 3.3e-06 |
| unetpp | resnet50 | 32 | 2.7e-06 | 4.0e-06 | 3.6e-06 | 3.9e-06 |
| unetpp | resnet101 | 32 | 7.3e-06 | 9.5e-06 | 1.2e-05 | 1.5e-05 |
| deeplabv3plus | resnet18 | 16 | 1.1e-06 | 1.2e-06 | 1.3e-06 | 1.9e-06 |
| deeplabv3plus | resnet50 | 16 | 1.1e-06 | 1.2e-06 | 1.5e-06 | 2.2e-06 |
| deeplabv3plus | resnet101 | 16 | 1.1e-06 | 2.0e-06 | 2.0e-06 | 2.1e-06 |
| deeplabv3plus | resnet18 | 8 | 9.2e-07 | 1.3e-06 | 1.6e-06 | 1.7e-06 |
| deeplabv3plus | resnet50 | 8 | 1.4e-06 | 1.4e-06 | 2.0e-06 | 2.2e-06 |
| deeplabv3plus | resnet101 | 8 | 1.5e-06 | 1.7e-06 | 1.7e-06 | 2.3e-06 |

With `--write-expected`, the program does not compare the libraries. It writes logits of smp to
files for the tests.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.models.smp_networks import (
    EXPECTED,
    EXPECTED_ENCODER,
    EXPECTED_SIZE,
    EXPECTED_STEP,
    NUM_CLASSES,
    build_keras,
    seeded_image,
    seeded_weights,
)

if TYPE_CHECKING:
    import torch

ENCODERS = ("resnet18", "resnet50", "resnet101")
SIZES = ((64, 64), (96, 160), (256, 256), (512, 512))  # height, width
NETWORKS = (("unetpp", None), ("deeplabv3plus", 16), ("deeplabv3plus", 8))  # output stride


def build_smp(arch: str, encoder: str, output_stride: int | None) -> "torch.nn.Module":
    """Builds the network of smp in evaluation mode, with weights from a fixed random seed."""
    import segmentation_models_pytorch as smp
    import torch

    options = {"encoder_name": encoder, "encoder_weights": None, "classes": NUM_CLASSES}
    if arch == "unetpp":
        network = smp.UnetPlusPlus(**options)
    else:
        network = smp.DeepLabV3Plus(**options, encoder_output_stride=output_stride)
    weights = seeded_weights(shapes_of(network))
    incompatible = network.load_state_dict(
        {name: torch.from_numpy(array) for name, array in weights.items()}, strict=False
    )
    if incompatible.unexpected_keys or not all(
        name.endswith("num_batches_tracked") for name in incompatible.missing_keys
    ):
        raise RuntimeError(f"The seeded weights do not fit the network of smp: {incompatible}.")
    return network.eval()


def shapes_of(network: "torch.nn.Module") -> dict[str, tuple[int, ...]]:
    """Returns a dictionary. Key: name of a weight. Value: shape of the weight.

    The weights `num_batches_tracked` are not included.
    """
    return {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def smp_logits(network: "torch.nn.Module", image: np.ndarray) -> np.ndarray:
    """Computes logits with a network of smp.

    Args:
        network: network of smp in evaluation mode.
        image: float32 `(1, height, width, 3)`, RGB in [0, 255].

    Returns:
        float32 `(1, height, width, num_classes)`.
    """
    import torch

    normalized = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.inference_mode():
        x = torch.from_numpy(normalized.astype(np.float32).transpose(0, 3, 1, 2))
        return network(x).numpy().transpose(0, 2, 3, 1)


def import_torchvision() -> None:
    """Imports torchvision, which smp needs for its ResNets.

    The package index contains torchvision only for CUDA. If PyTorch is installed for CPUs, the
    import of torchvision fails because compiled operators are missing. The comparison uses none of
    these operators. Therefore empty operators are defined.
    """
    import torch

    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float threshold) -> Tensor")
        import torchvision  # noqa: F401


def print_table() -> None:
    """Compares all networks and prints a Markdown table."""
    from lcc_tf.models.torch_weights import load_torch_state_dict

    sizes = [f"{height}x{width}" for height, width in SIZES]
    print(f"| network | encoder | output stride | {' | '.join(sizes)} |")
    print("|---|---|---|" + "---|" * len(sizes))
    for arch, output_stride in NETWORKS:
        for encoder in ENCODERS:
            network = build_smp(arch, encoder, output_stride)
            model = build_keras(arch, encoder, output_stride)
            weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
            load_torch_state_dict(model, weights)
            differences = []
            for height, width in SIZES:
                image = seeded_image(height, width)
                expected = smp_logits(network, image)
                difference = np.abs(model(image).numpy() - expected).max() / np.abs(expected).max()
                differences.append(f"{difference:.1e}")
            print(
                f"| {arch} | {encoder} | {output_stride or 32} | {' | '.join(differences)} |",
                flush=True,
            )


def write_expected(folder: Path) -> None:
    """Writes one file per network with the names and shapes of the weights, and some logits."""
    for arch, output_stride in NETWORKS:
        network = build_smp(arch, EXPECTED_ENCODER, output_stride)
        logits = smp_logits(network, seeded_image(*EXPECTED_SIZE))
        np.savez_compressed(
            folder / f"smp_{arch}_{output_stride or 32}.npz",
            shapes=json.dumps(shapes_of(network)),
            logits=logits[0, ::EXPECTED_STEP, ::EXPECTED_STEP],
        )


def main() -> None:
    """Prints the comparison, or writes the files for the tests."""
    parser = argparse.ArgumentParser(
        description="Compares UNet++ and DeepLabV3+ with segmentation_models_pytorch."
    )
    parser.add_argument(
        "--write-expected", action="store_true", help=f"write the files for the tests to {EXPECTED}"
    )
    arguments = parser.parse_args()
    import_torchvision()
    if arguments.write_expected:
        write_expected(EXPECTED)
    else:
        print_table()


if __name__ == "__main__":
    main()
