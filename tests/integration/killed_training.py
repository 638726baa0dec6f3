"""Kills a training at random moments, resumes it, and compares it with an uninterrupted training.

By hand, for example with 100 kills (takes about 20 minutes on two CPU cores):

    python -m tests.integration.killed_training --kills 100 --folder /tmp/kills
"""

import argparse
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path

from lcc_tf.config import TrainConfig
from tests.integration.processes import PROCESSES

MAX_DELAY = 1.0  # seconds between a random event and a kill
COMPLETE = "complete checkpoint"
Position = tuple[int, int, int]  # finished epochs, training steps and validation steps


@dataclass(frozen=True)
class Kill:
    """A kill, and the work that the next process repeats.

    Attributes:
        event: last event before the kill.
        lost_steps: number of training and validation steps to repeat.
        lost_seconds: time from the end of the last step in the checkpoint to the kill.
        unsaved_steps: number of steps after the newest complete checkpoint.
    """

    event: str
    lost_steps: int
    lost_seconds: float
    unsaved_steps: int


def train_in_child(config: TrainConfig, folder: Path, events: Connection, other_seed: bool) -> None:
    """Trains, and sends the name, the position and the time of each event to the parent process.

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

    def of_recorder(owner: recorder.RunRecorder, *_: object) -> Position:
        return position_of(vars(owner.state))

    def of_checkpoint(_: object, arrays: object, state: str) -> Position:
        return position_of(json.loads(state))

    ARCHITECTURES[config.arch] = small_unet
    for owner, method, name, position in (
        (recorder.RunRecorder, "on_train_batch_begin", "training step", of_recorder),
        (recorder.RunRecorder, "on_test_batch_begin", "validation step", of_recorder),
        (recorder.RunRecorder, "on_epoch_end", "end of an epoch", of_recorder),
        (checkpoints.WeightsFile, "write", "best weights", None),
        (checkpoints.CheckpointWriter, "_write_checkpoint", "checkpoint", of_checkpoint),
        (checkpoints, "write_checksum", "checksum", None),
        (recorder, "write_table", "history", None),
    ):
        setattr(owner, method, _announced(getattr(owner, method), name, events, position))
    if other_seed:
        original = train.training_data_of
        train.training_data_of = lambda config, *rest: original(
            type(config)(**{**vars(config), "seed": config.seed + 1}), *rest
        )
    tf.get_logger().setLevel("ERROR")
    train.train(config, folder, resume=True)


def position_of(state: dict[str, int]) -> Position:
    """Returns the position in the training, from the fields of a `TrainingState`."""
    return state["epoch"], state["step"], state["validation_step"]


def _announced(function: Callable, name: str, events: Connection, position: Callable | None):
    def announce(*arguments, **options):
        now = position(*arguments) if position else None
        events.send((name, now, time.monotonic()))
        result = function(*arguments, **options)
        if name == "checkpoint":
            events.send((COMPLETE, now, time.monotonic()))
        return result

    return announce


def train_with_kills(
    config: TrainConfig, folder: Path, kills: int, seed: int, *, other_seed: bool = False
) -> list[Kill]:
    """Trains a run to its end, and kills the process a number of times.

    Args:
        config: configuration of the training.
        folder: the run folder.
        kills: number of kills with SIGKILL.
        seed: random seed of the moments of the kills.
        other_seed: if True, the resumed training gets batches with another random seed.
    """
    rng = random.Random(seed)
    # For each process: its events, and the time of the kill; infinity if the training ended
    histories: list[tuple[list, float]] = []
    while True:
        events, child_events = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(
            target=train_in_child,
            args=(config, folder, child_events, other_seed and bool(histories)),
        )
        process.start()
        child_events.close()
        received, time_of_kill = [], float("inf")
        try:
            if len(histories) < kills:
                for _ in range(rng.randrange(1, 40)):
                    received.append(events.recv())
                deadline = time.monotonic() + rng.random() ** 3 * MAX_DELAY
                while (remaining := deadline - time.monotonic()) > 0:
                    if events.poll(remaining):
                        received.append(events.recv())
                time_of_kill = time.monotonic()
                process.kill()
            while True:
                received.append(events.recv())
        except EOFError:  # the process has ended
            pass
        process.join()
        histories.append((received, time_of_kill))
        if process.exitcode == 0:
            # The process can have ended shortly before the kill.
            return [
                _kill(received, time_of_kill, following)
                for (received, time_of_kill), (following, _) in pairwise(histories)
            ]
        if process.exitcode > 0:
            raise RuntimeError(f"The training failed with exit code {process.exitcode}.")


def _kill(received: list, time_of_kill: float, following: list) -> Kill:
    """Returns the work that was lost in a kill.

    Args:
        received: events of the killed process.
        time_of_kill: time of the kill, seconds.
        following: events of the next process. The first event shows where the training resumed.
    """
    reached: dict[Position, float] = {}
    complete = (0, 0, 0)
    for name, position, seconds in received:
        if position:
            reached.setdefault(position, seconds)
        if name == COMPLETE:
            complete = position
    resumed = following[0][1] if following else max(reached)
    return Kill(
        event=received[-1][0],
        lost_steps=sum(position > resumed for position in reached),
        lost_seconds=time_of_kill - reached.get(resumed, time_of_kill),
        unsaved_steps=sum(position > complete for position in reached),
    )


def main() -> None:
    """Runs the comparison by hand."""
    from tests.run_comparison import assert_equal_runs

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="number of kills")
    parser.add_argument("--folder", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the kills")
    parser.add_argument("--checkpoint-minutes", type=float, default=1e-6)
    options = parser.parse_args()
    kills: list[Kill] = []
    number = 0
    config = small_config(options.folder / "tfds")
    config = replace(config, checkpoint_minutes=options.checkpoint_minutes)
    train_with_kills(config, options.folder / "uninterrupted", 0, 0)
    while len(kills) < options.kills:
        folder = options.folder / f"killed_{number}"
        shutil.rmtree(folder, ignore_errors=True)
        kills += train_with_kills(config, folder, options.kills - len(kills), options.seed + number)
        assert_equal_runs(folder, options.folder / "uninterrupted")
        number += 1
        events = dict(Counter(kill.event for kill in kills))
        print(f"{number} trainings, {len(kills)} kills: {events}")
        print(
            f"largest lost work: {max(kill.lost_steps for kill in kills)} steps, "
            f"{max(kill.lost_seconds for kill in kills):.2f} s; interval of the checkpoints: "
            f"{60 * config.checkpoint_minutes:g} s",
            flush=True,
        )


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
