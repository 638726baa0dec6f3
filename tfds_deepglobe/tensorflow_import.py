"""Import of TensorFlow without its log messages."""

import os
import sys
import types


def import_tensorflow() -> types.ModuleType:
    """Imports TensorFlow and initializes the devices of the machine, without log messages.

    TensorFlow writes some messages at every log level. Therefore, all output to standard error is
    discarded during the import. To see all messages, such as the reason why TensorFlow does not use
    a GPU, set the environment variable `TF_CPP_MIN_LOG_LEVEL=0`.
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
