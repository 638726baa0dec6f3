"""Errors that a user can fix: an invalid input, or a package that is not installed."""

from importlib.util import find_spec

# Key: name of an extra of the distribution. Value: beginning of the error message, and the modules
# of the extra. pyproject.toml lists the packages of these modules.
_EXTRAS = {
    "maps": ("Maps need", ("rasterio", "pyogrio", "pyproj", "shapely")),
    "export": (
        "ONNX and LiteRT files need",
        ("onnx", "onnxruntime", "tf2onnx", "ai_edge_litert", "flatbuffers"),
    ),
    "baselines": ("`unet`, `fpn`, `linknet` and `pspnet` need", ("segmentation_models",)),
}


class InputError(ValueError):
    """Error for an input that cannot be used.

    The message contains the received value and a way to fix the problem. Python arguments are in
    backticks (`` `batch_size=7` ``). The commands replace an argument by the matching option
    (`` `--batch-size 7` ``), print the message in one line and exit with code 2. Every other
    exception is a bug of this package, and the commands print its traceback.

    The package `tfds_deepglobe` imports nothing from `lcc_tf`, therefore it has its own error class
    `tfds_deepglobe.errors.InputError`. Both classes are subclasses of `ValueError`.

    Example:
        >>> raise InputError("`tile` must be 32 or more. Received: tile=8.")
        Traceback (most recent call last):
        ...
        lcc_tf.errors.InputError: `tile` must be 32 or more. Received: tile=8.
    """

    exit_code = 2


class DivergenceError(InputError):
    """Error for a training whose loss, or the gradient of the loss, is not a finite number.

    The commands exit with code 3, so that a script can start the training again with other options.

    Example:
        >>> DivergenceError.exit_code
        3
    """

    exit_code = 3


class LostWorkerError(Exception):
    """Error of a worker whose training ends because another worker has ended.

    The class is not a subclass of `InputError`, because the input of this worker is correct. The
    command train.py exits with code 4.

    Example:
        >>> LostWorkerError.exit_code
        4
    """

    exit_code = 4


class InstallationError(InputError, ImportError):
    """Error for a missing package, or for Keras with a backend other than TensorFlow.

    The class is also a subclass of `ImportError`. Therefore, code that uses `lcc_tf` only if it is
    available can catch `ImportError`.

    Example:
        >>> issubclass(InstallationError, ImportError)
        True
    """


def require_extra(extra: str) -> None:
    """Verifies that the packages of an extra are installed, without importing them.

    Args:
        extra: "maps", "export" or "baselines".

    Raises:
        InstallationError: a package is missing; the message contains the command that installs it.

    Example:
        >>> require_extra("maps")  # no error: the packages are installed
    """
    purpose, modules = _EXTRAS[extra]
    missing = [module.replace("_", "-") for module in modules if find_spec(module) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise InstallationError(
            f"{purpose} {', '.join(missing)}, which {verb} not installed. "
            f"Run: pip install 'lcc_tf[{extra}]'"
        )
