"""Clear errors for ImageNet weights and weights files that an encoder cannot use."""

import contextlib
import http.client
import zipfile
from collections.abc import Iterator
from pathlib import Path

from lcc_tf.errors import InputError

# Keras and h5py raise these errors for damaged files, for other file formats and for the weights of
# another network.
_FILE_ERRORS = (OSError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile)


def check_weights_file(weights: str | None, contents: str) -> None:
    """Verifies that encoder weights are "imagenet", None or an existing file.

    Args:
        weights: argument `weights` of `build_encoder`.
        contents: description of the network whose weights are expected, for the error message.

    Raises:
        InputError: the file does not exist.
    """
    if weights not in (None, "imagenet") and not Path(weights).is_file():
        raise InputError(
            "The file of encoder weights does not exist. "
            f"Received: encoder_weights={weights!r}. Use `encoder_weights='imagenet'`, "
            f"`encoder_weights=None` or the path of a weights file of {contents}."
        )


@contextlib.contextmanager
def clear_download_errors(encoder: str) -> Iterator[None]:
    """Turns the errors of a failed download into an `InputError`.

    Args:
        encoder: name of the encoder whose ImageNet weights are downloaded.

    Raises:
        InputError: the download failed.
    """
    try:
        yield
    except Exception as error:
        # `keras.utils.get_file` raises a bare Exception for a failed request.
        is_download = type(error) is Exception or isinstance(
            error, (OSError, http.client.HTTPException)
        )
        if not is_download:
            raise
        raise InputError(
            f"The ImageNet weights of {encoder} could not be downloaded: {_one_line(error)}. "
            "Either start from random weights with `encoder_weights=None`, or download the file "
            "on another machine and use its path as `encoder_weights`."
        ) from error


@contextlib.contextmanager
def clear_file_errors(file: str, contents: str, hint: str) -> Iterator[None]:
    """Raises an `InputError` instead of the errors of an invalid weights file.

    Args:
        file: path of the weights file.
        contents: description of the network whose weights are expected, for the error message.
        hint: sentence of the error message that says which file or encoder to use instead.

    Raises:
        InputError: the file is damaged, has another format or contains the weights of another
            network.
    """
    try:
        yield
    except _FILE_ERRORS as error:
        raise InputError(
            f"The file {file!r} does not contain the weights of {contents}: {_one_line(error)}. "
            f"{hint}"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300]
