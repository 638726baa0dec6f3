r"""Measures the peak memory of predict.py for each tile size, network and encoder.

The networks have random weights. Each network predicts a scene of 768 x 768 pixels, once from a run
folder and once from a SavedModel. Each prediction is a new process, and the operating system
reports the peak memory of the process. Batches have their default size.

    python -m benchmarks.prediction_memory --folder bench/memory

A Markdown table is printed. Results are stored in the folder, and a stored result is not measured
again.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio

ROOT = Path(__file__).parents[1]
NETWORKS = ("unetpp", "deeplabv3plus")
ENCODERS = ("mobilenetv2", "resnet101")
TILES = (64, 128, 256, 512, 1024)
# With a side of 768 pixels and the default overlap, all batches have the maximum number of tiles.
SIDE = 768


def main() -> None:
    """Writes the runs, the SavedModels and the scene, measures, and prints the Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=ENCODERS)
    parser.add_argument("--tiles", nargs="+", type=int, default=TILES, help="sides, pixels")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    write_scene(options.folder / "scene.tif")
    print("Peak memory in GB (seconds):\n")
    print(f"| network | encoder | from | {' | '.join(map(str, options.tiles))} |")
    print("|---" * (3 + len(options.tiles)) + "|")
    for encoder in options.encoders:
        for network in options.networks:
            run = options.folder / f"{network}_{encoder}"
            write_run_and_savedmodel(run, network, encoder)
            for kind, source in {
                "run": ["--runs", str(run)],
                "SavedModel": ["--model", str(run / "exported" / "savedmodel")],
            }.items():
                cells = [measure(run, kind, source, tile) for tile in options.tiles]
                print(f"| {network} | {encoder} | {kind} | {' | '.join(cells)} |", flush=True)


def write_scene(path: Path) -> None:
    """Writes a GeoTIFF with random pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "photometric": "RGB"}
    with rasterio.open(path, "w", height=SIDE, width=SIDE, **profile) as dataset:
        dataset.write(pixels)


def write_run_and_savedmodel(folder: Path, network: str, encoder: str) -> None:
    """Writes a run folder with random weights and exports it as a SavedModel."""
    if not (folder / "config.json").exists():
        from lcc_tf.config import TrainConfig
        from lcc_tf.models import build_model
        from lcc_tf.runs import BEST, Run, write_run
        from tfds_deepglobe.classes import DEEPGLOBE_CLASSES

        config = TrainConfig(arch=network, encoder=encoder, encoder_weights=None)
        run = Run(folder, config, DEEPGLOBE_CLASSES, fingerprint=None, native_size=2448)
        model = build_model(
            network, DEEPGLOBE_CLASSES.num_classes, encoder_weights=None, **config.model_options()
        )
        write_run(run, model.count_params())
        model.save_weights(folder / BEST)
    if not (folder / "exported").exists():
        command = [sys.executable, ROOT / "export.py", "--runs", folder]
        subprocess.run([*command, "--output", folder / "exported"], check=True, stdout=sys.stderr)


def measure(run: Path, kind: str, source: list[str], tile: int) -> str:
    """Maps the scene in a new process, and returns peak memory and time as one cell of the table.

    Args:
        run: run folder of the network. The results are written to this folder.
        kind: "run" or "SavedModel", part of the name of the result.
        source: options of predict.py that choose the network.
        tile: side of the tiles, pixels.
    """
    file = run / f"{kind}_{tile}.json"
    if not file.exists():
        options = [*source, "--tile", str(tile), "--output", str(run / "maps"), "--overwrite"]
        command = [sys.executable, str(ROOT / "predict.py"), *options]
        start = time.monotonic()
        process = subprocess.Popen(
            [*command, "--input", str(run.parent / "scene.tif")], stdout=sys.stderr
        )
        _, status, usage = os.wait4(process.pid, 0)  # resource usage of only this process
        if status:
            sys.exit(f"{' '.join(command)} failed with status {status}.")
        seconds = time.monotonic() - start
        file.write_text(
            json.dumps({"seconds": seconds, "peak_gb": usage.ru_maxrss * 1024 / 1e9}),
            encoding="utf-8",
        )
    result = json.loads(file.read_text(encoding="utf-8"))
    return f"{result['peak_gb']:.1f} ({result['seconds']:.0f})"


if __name__ == "__main__":
    main()
