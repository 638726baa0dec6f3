"""Choice of the precision for `precision="auto"`."""

from pathlib import Path

import tensorflow as tf

# Smallest compute capability of NVIDIA GPUs that have bfloat16 instructions (Ampere), see
# https://docs.nvidia.com/cuda/cuda-c-programming-guide/, section "Compute Capabilities"
BFLOAT16_CAPABILITY = (8, 0)
# Names of the bfloat16 instructions of x86 processors in /proc/cpuinfo
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
PROCESSORS = Path("/proc/cpuinfo")


def fastest_precision(encoder: str) -> str:
    """Returns the precision that is expected to be the fastest on this machine.

    Args:
        encoder: name of the encoder.

    Returns:
        "mixed_bfloat16" in these cases, otherwise "float32".

        - All GPUs have instructions for bfloat16.
        - There is no GPU, the processor has instructions for bfloat16, and the encoder is a ResNet.
          The other encoders have depthwise convolutions. On processors, these are slower in
          bfloat16 than in float32 (docs/performance.md).
    """
    if gpus := tf.config.get_visible_devices("GPU"):
        capabilities = [
            tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
            for gpu in gpus
        ]
        is_faster = min(capabilities) >= BFLOAT16_CAPABILITY
    else:
        is_faster = encoder.startswith("resnet") and bool(BFLOAT16_FLAGS & _processor_flags())
    return "mixed_bfloat16" if is_faster else "float32"


def _processor_flags() -> set[str]:
    """Returns the instruction sets of the processor; an empty set if Linux does not list them."""
    if not PROCESSORS.exists():
        return set()
    lines = PROCESSORS.read_text(encoding="utf-8").splitlines()
    return {flag for line in lines if line.startswith("flags") for flag in line.split()}
