"""Command that trains a small network; its options are the options of train.py.

Tests start this command several times, once per worker of a training on several machines.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras

from lcc_tf.cli.train import main
from lcc_tf.models import ARCHITECTURES
from tests.untrained_runs import small_unet

if __name__ == "__main__":
    ARCHITECTURES["unetpp"] = small_unet
    # Switch dropout off, because its random numbers differ between replicas.
    keras.layers.Dropout.call = lambda self, x, training=False: x
    main()
