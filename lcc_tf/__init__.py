"""Land-cover maps from satellite images with TensorFlow and Keras 3."""

import os

# Both must be set before TensorFlow or Keras is imported for the first time.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

__version__ = "0.1.0"
