"""Compares UNet++ and DeepLabV3+ with segmentation_models_pytorch's, number by number.

Both sides get the same weights, drawn by name, batch normalisation's moving statistics included,
and the same image of noise; printed is the largest deviation of a logit, divided by the largest
logit. To repeat it, in an environment of its own:

    pip install -r requirements.txt torch==2.13.0 huggingface_hub==2.4.0
    pip install --no-deps segmentation-models-pytorch==0.5.0 timm==1.0.31 torchvision==0.29.2
    python -m benchmarks.compare_with_smp

On two shared cores of an AMD EPYC (AVX-512, Python 3.11, PyTorch's CPU build), in 6 minutes:

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

`--write-expected` renews the outputs that the tests compare with instead.
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
    """The network of smp in evaluation mode, with seeded weights."""
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
        raise RuntimeError(f"The seeded weights don't fit smp's network: {incompatible}")
    return network.eval()


def shapes_of(network: "torch.nn.Module") -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's weights; the count of batches is none."""
    return {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def smp_logits(network: "torch.nn.Module", image: np.ndarray) -> np.ndarray:
    """The logits of smp, float32 `(1, height, width, num_classes)`, of RGB in [0, 255]."""
    import torch

    standardised = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.inference_mode():
        x = torch.from_numpy(standardised.astype(np.float32).transpose(0, 3, 1, 2))
        return network(x).numpy().transpose(0, 2, 3, 1)


def import_torchvision() -> None:
    """Imports torchvision, which smp takes its ResNets from.

    The package index has torchvision for CUDA alone. Beside PyTorch for the CPU its compiled
    operators are missing, of which none is needed here: stand-ins let it be imported.
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
    """Compares everything and prints a table in Markdown."""
    from lcc_tf.models.torch_weights import load_torch_state_dict

    sizes = [f"{height}x{width}" for height, width in SIZES]
    print(f"| network | encoder | output stride | {' | '.join(sizes)} |")
    print("|---|---|---|" + "---|" * len(sizes))
    for arch, output_stride in NETWORKS:
        for encoder in ENCODERS:
            theirs = build_smp(arch, encoder, output_stride)
            ours = build_keras(arch, encoder, output_stride)
            weights = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
            load_torch_state_dict(ours, weights)
            deviations = []
            for height, width in SIZES:
                image = seeded_image(height, width)
                expected = smp_logits(theirs, image)
                deviation = np.abs(ours(image).numpy() - expected).max() / np.abs(expected).max()
                deviations.append(f"{deviation:.1e}")
            print(
                f"| {arch} | {encoder} | {output_stride or 32} | {' | '.join(deviations)} |",
                flush=True,
            )


def write_expected(folder: Path) -> None:
    """Writes smp's names, shapes and some of its logits to a small file for each network."""
    for arch, output_stride in NETWORKS:
        network = build_smp(arch, EXPECTED_ENCODER, output_stride)
        logits = smp_logits(network, seeded_image(*EXPECTED_SIZE))
        np.savez_compressed(
            folder / f"smp_{arch}_{output_stride or 32}.npz",
            shapes=json.dumps(shapes_of(network)),
            logits=logits[0, ::EXPECTED_STEP, ::EXPECTED_STEP],
        )


def main() -> None:
    """Runs the comparison, or renews what the tests expect."""
    parser = argparse.ArgumentParser(
        description="Compares our networks with those of segmentation_models_pytorch."
    )
    parser.add_argument(
        "--write-expected", action="store_true", help=f"write the tests' files to {EXPECTED}"
    )
    arguments = parser.parse_args()
    import_torchvision()
    if arguments.write_expected:
        write_expected(EXPECTED)
    else:
        print_table()


if __name__ == "__main__":
    main()
