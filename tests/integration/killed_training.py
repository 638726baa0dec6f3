"""Kills a training at random moments, resumes it, and compares it with an uninterrupted training.

By hand, for example with 100 kills (takes about 20 minutes on two CPU cores):

    python -m tests.integration.killed_training --kills 100 --folder /tmp/kills
"""

import argparse
import random
import shutil
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

from lcc_tf.config import TrainConfig
from tests.integration.processes import PROCESSES

MAX_DELAY = 1.0  # seconds between a random event and a kill


def train_in_child(config: TrainConfig, folder: Path, events: Connection, other_seed: bool) -> None:
    """Trains, and sends the name of each event to the parent process.

    Args:
        config: configuration of the training.
        folder: the run folder.
        events: connection to the parent process.
        other_seed: if True, the batches have another random seed than the run.
    """
    import tensorflow as tf

    from lcc_tf.models import ARCHITECTURES
    from lcc_tf.training import checkpoints, recorder, train
    from tests.untrained_runs import small_unet

    ARCHITECTURES[config.arch] = small_unet
    for owner, method, name in (
        (recorder.RunRecorder, "on_train_batch_begin", "training step"),
        (recorder.RunRecorder, "on_test_batch_begin", "validation step"),
        (recorder.RunRecorder, "on_epoch_end", "end of an epoch"),
        (checkpoints.CheckpointWriter, "_write", "checkpoint"),
        (checkpoints, "write_checksum", "checksum"),
        (recorder, "write_table", "history"),
    ):
        setattr(owner, method, _announced(getattr(owner, method), name, events))
    if other_seed:
        original = train.training_data_of
        train.training_data_of = lambda config, *rest: original(
            type(config)(**{**vars(config), "seed": config.seed + 1}), *rest
        )
    tf.get_logger().setLevel("ERROR")
    train.train(config, folder, resume=True)


def _announced(function, name, events):
    def announce(*arguments, **options):
        events.send(name)
        return function(*arguments, **options)

    return announce


def train_with_kills(
    config: TrainConfig, folder: Path, kills: int, seed: int, *, other_seed: bool = False
) -> Counter[str]:
    """Trains a run to its end, and kills the process a number of times.

    Args:
        config: configuration of the training.
        folder: the run folder.
        kills: number of kills with SIGKILL.
        seed: random seed of the moments of the kills.
        other_seed: if True, the resumed training gets batches with another random seed.

    Returns:
        Number of kills per event. The event is the last event before the kill.
    """
    rng = random.Random(seed)
    killed: Counter[str] = Counter()
    while True:
        events, child_events = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(
            target=train_in_child,
            args=(config, folder, child_events, other_seed and bool(killed)),
        )
        process.start()
        child_events.close()
        last = ""
        try:
            if killed.total() < kills:
                deadline = None
                for _ in range(rng.randrange(1, 40)):
                    last = events.recv()
                deadline = time.monotonic() + rng.random() ** 3 * MAX_DELAY
                while (remaining := deadline - time.monotonic()) > 0:
                    if events.poll(remaining):
                        last = events.recv()
                process.kill()
                killed[last] += 1
            else:
                while True:
                    events.recv()
        except EOFError:  # the training has ended
            pass
        process.join()
        if process.exitcode == 0:
            return killed
        if process.exitcode > 0:
            raise RuntimeError(f"The training failed with exit code {process.exitcode}.")


def main() -> None:
    """Runs the comparison by hand."""
    from tests.run_comparison import assert_equal_runs

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="number of kills")
    parser.add_argument("--folder", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the kills")
    options = parser.parse_args()
    killed: Counter[str] = Counter()
    number = 0
    config = small_config(options.folder / "tfds")
    train_with_kills(config, options.folder / "uninterrupted", 0, 0)
    while killed.total() < options.kills:
        folder = options.folder / f"killed_{number}"
        shutil.rmtree(folder, ignore_errors=True)
        killed += train_with_kills(config, folder, options.kills, options.seed + number)
        assert_equal_runs(folder, options.folder / "uninterrupted")
        number += 1
        print(f"{number} trainings, {killed.total()} kills: {dict(killed)}", flush=True)


def small_config(cache_dir: Path) -> TrainConfig:
    """Returns the configuration of a training that takes seconds and writes many checkpoints."""
    from lcc_tf.config import DataConfig

    return TrainConfig(
        data=DataConfig(data="demo", cache_dir=str(cache_dir), demo_count=24, demo_size=64),
        arch="deeplabv3plus",
        encoder_weights=None,
        image_size=32,
        crops_per_image=4,
        batch_size=4,
        epochs=3,
        ema_decay=0.9,
        deterministic=True,
        checkpoint_minutes=1e-6,
    )


if __name__ == "__main__":
    main()
