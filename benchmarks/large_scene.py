r"""Maps large synthetic GeoTIFFs, and measures pixels per second and peak memory.

Each GeoTIFF consists of procedural scenes, which are synthetic satellite images that lcc_tf draws.
It has UTM coordinates and a border of nodata pixels. Each GeoTIFF is mapped in a new process. The
operating system reports the peak memory of the process.

    python train.py --arch deeplabv3plus --encoder mobilenetv2 --learning-rate 1e-3 --epochs 15 \
        --data demo --demo-count 40 --demo-size 512 --batch-size 4 --workdir bench/run
    python -m benchmarks.large_scene --run bench/run --folder bench/large --sides 5000 10000 20000

A Markdown table is printed. Results are stored in the folder, and a scene with a stored result is
not mapped again.
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
from rasterio.transform import from_origin
from rasterio.windows import Window

from lcc_tf.data.demo_scenes import render_scene

ROOT = Path(__file__).parents[1]
PATCHES, PATCH = 6, 512  # number of different procedural scenes, and their side in pixels
BORDER = 300  # width of the nodata border, pixels
NODATA = 255  # nodata value of the scene and of the map, because it is not a class id
TRANSFORM = from_origin(500000, 5200000, 0.5, 0.5)


def main() -> None:
    """Writes and maps the scenes, and prints the Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="run folder of a small network")
    parser.add_argument("--folder", type=Path, required=True, help="folder for scenes and maps")
    parser.add_argument(
        "--sides",
        type=int,
        nargs="+",
        default=[5000, 10000, 20000],
        help="sides of the scenes, pixels",
    )
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| scene | seconds | megapixels per second | peak memory, MB |\n|---|---|---|---|")
    for side in options.sides:
        scene = options.folder / f"scene_{side}.tif"
        if not scene.exists():
            write_scene(scene, side)
        result = measure(options.run, scene, options.folder)
        check(scene, options.folder / f"scene_{side}_classes.tif")
        print(
            f"| {side} x {side} | {result['seconds']:.0f} "
            f"| {side**2 / 1e6 / result['seconds']:.2f} | {result['peak_mb']:.0f} |"
        )


def write_scene(path: Path, side: int) -> None:
    """Writes a GeoTIFF of `side` x `side` pixels, block by block."""
    patches = [render_scene(0, index, PATCH)[0] for index in range(PATCHES)]
    rng = np.random.default_rng(0)
    unfinished = path.with_name(f".unfinished.{path.name}")
    with rasterio.open(
        unfinished,
        "w",
        driver="GTiff",
        height=side,
        width=side,
        count=3,
        dtype="uint8",
        crs="EPSG:32633",
        transform=TRANSFORM,
        nodata=NODATA,
        tiled=True,
        blockxsize=PATCH,
        blockysize=PATCH,
        compress="deflate",
        photometric="RGB",
        interleave="pixel",
    ) as dataset:
        for top in range(0, side, PATCH):
            for left in range(0, side, PATCH):
                patch = np.rot90(patches[rng.integers(PATCHES)], rng.integers(4))
                patch = np.minimum(patch, NODATA - 1)[: side - top, : side - left].copy()
                rows = np.arange(top, top + patch.shape[0])[:, None]
                columns = np.arange(left, left + patch.shape[1])[None]
                inside = np.minimum(rows, columns) >= BORDER
                inside &= np.maximum(rows, columns) < side - BORDER
                patch[~inside] = NODATA
                window = Window(left, top, patch.shape[1], patch.shape[0])
                dataset.write(np.moveaxis(patch, -1, 0), window=window)
    unfinished.replace(path)


def measure(run: Path, scene: Path, folder: Path) -> dict[str, float]:
    """Maps a scene in a new process and measures the time and the peak memory.

    If the folder contains an earlier result for this scene, the earlier result is returned.

    Args:
        run: run folder of the network.
        scene: GeoTIFF of the scene.
        folder: folder for the map and the result.

    Returns:
        Dictionary with the keys "seconds" and "peak_mb" (peak memory, MB).
    """
    file = folder / f"{scene.stem}.json"
    if not file.exists():
        script = [sys.executable, ROOT / "predict.py", "--runs", run, "--input", scene]
        start = time.monotonic()
        process = subprocess.Popen(
            [*map(str, script), "--output", str(folder)],
            stdout=sys.stderr,  # standard output is only for the table
        )
        _, status, usage = os.wait4(process.pid, 0)  # resource usage of only this process
        if status:
            sys.exit(f"Mapping {scene} failed with status {status}.")
        result = {"seconds": time.monotonic() - start, "peak_mb": usage.ru_maxrss / 1024}
        file.write_text(json.dumps(result), encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))


def check(scene: Path, land_cover: Path) -> None:
    """Verifies that a map has the same size, georeference and nodata pixels as the scene.

    If they differ, the benchmark ends with an error message.
    """
    with rasterio.open(scene) as source, rasterio.open(land_cover) as mapped:
        for key in ("shape", "crs", "transform", "nodata"):
            received, expected = getattr(mapped, key), getattr(source, key)
            if received != expected:
                sys.exit(
                    f"The map must have the same {key} as the scene. "
                    f"Received: {received} in {land_cover}, {expected} in {scene}."
                )
        step = 1000
        for top in range(0, source.height, step):
            window = Window(0, top, source.width, min(step, source.height - top))
            if not np.array_equal(
                source.dataset_mask(window=window), mapped.read_masks(1, window=window)
            ):
                sys.exit(
                    "The map must have the same nodata pixels as the scene. "
                    f"Received: {land_cover} and {scene}, whose nodata pixels differ."
                )


if __name__ == "__main__":
    main()
