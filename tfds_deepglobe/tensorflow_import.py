"""Imports TensorFlow without its log messages."""

import os
import sys
import types


def import_tensorflow() -> types.ModuleType:
    """Imports TensorFlow and finds the machine's devices, without log messages.

    Some messages ignore TensorFlow's log level, so the import writes no standard error at all. Set
    `TF_CPP_MIN_LOG_LEVEL=0` in the environment to see all messages, such as why TensorFlow does not
    use a GPU.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        import tensorflow

        return tensorflow
    sys.stderr.flush()
    standard_error = os.dup(2)
    try:
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 2)
        import tensorflow

        tensorflow.config.list_physical_devices()
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)
    return tensorflow
