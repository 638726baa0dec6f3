"""Command that trains with and without the patches of `adapt_to_workers`."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import argparse
import json

import keras
import tensorflow as tf

from lcc_tf.training.cluster import Cluster
from lcc_tf.training.distribution import adapt_to_workers, choose_strategy


def fit(strategy, batches, adapt):
    """Trains a model of one layer, and returns "trained" or the error message."""
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    adapt(model)
    try:
        model.fit(batches, steps_per_epoch=1, verbose=0)
    except Exception as error:
        return str(error)
    return "trained"


def adapt_batch_only(model):
    """Applies only the patch for the first batch. The model keeps its original steps."""
    train_step, test_step = model.train_step, model.test_step
    adapt_to_workers(model, model.distribute_strategy)
    model.train_step, model.test_step = train_step, test_step


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers")
    parser.add_argument("--worker-index", type=int)
    arguments = parser.parse_args()
    cluster = Cluster(tuple(arguments.workers.split(",")), arguments.worker_index)
    strategy = choose_strategy(cluster)
    data = tf.data.Dataset.from_tensors((tf.ones((2, 2)), tf.ones((2, 1)))).repeat()
    batches = strategy.distribute_datasets_from_function(lambda context: data)
    results = {
        "without patches": fit(strategy, batches, lambda model: None),
        "without the patch of the logs": fit(strategy, batches, adapt_batch_only),
        "with both patches": fit(
            strategy, batches, lambda model: adapt_to_workers(model, strategy)
        ),
    }
    print(json.dumps(results))
