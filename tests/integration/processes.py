"""New processes in which the slow imports are already done."""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["lcc_tf.training.train", "tests.fixtures"])


def run_script(script: str, arguments: list[str], folder: Path, log: Path) -> None:
    """Runs a script in the current process, and trains a small network instead of DeepLabV3+.

    Args:
        script: name of the script, such as "train.py".
        arguments: arguments of the script.
        folder: working directory of the script.
        log: file for the output and the errors of the script.
    """
    from lcc_tf.models import ARCHITECTURES
    from tests.untrained_runs import small_unet

    ARCHITECTURES["deeplabv3plus"] = small_unet
    with log.open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.chdir(folder)
    sys.argv = [script, *arguments]
    runpy.run_path(str(ROOT / script), run_name="__main__")
