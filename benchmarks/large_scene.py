r"""Maps large synthetic GeoTIFFs, and measures pixels per second and peak memory.

Each GeoTIFF consists of procedural scenes on a UTM grid, with a border of nodata. Each size is
mapped in a new process, whose peak memory the operating system reports.

    python train.py --arch deeplabv3plus --encoder mobilenetv2 --learning-rate 1e-3 --epochs 15 \
        --data demo --demo-count 40 --demo-size 512 --batch-size 4 --workdir bench/run
    python -m benchmarks.large_scene --run bench/run --folder bench/large --sides 5000 10000 20000

The table goes to standard output as Markdown. Existing results are reused.
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
BORDER = 300  # nodata pixels on each side
NODATA = 255  # not a class id, so that the map keeps it
TRANSFORM = from_origin(500000, 5200000, 0.5, 0.5)


def main() -> None:
    """Writes the scenes, maps them and prints the table."""
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
    """Maps a scene in a new process and returns seconds and peak memory."""
    file = folder / f"{scene.stem}.json"
    if not file.exists():
        script = [sys.executable, ROOT / "predict.py", "--runs", run, "--input", scene]
        start = time.monotonic()
        process = subprocess.Popen(
            [*map(str, script), "--output", str(folder)],
            stdout=sys.stderr,  # not into the table
        )
        _, status, usage = os.wait4(process.pid, 0)  # memory of this process only
        if status:
            sys.exit(f"mapping {scene} failed with status {status}")
        result = {"seconds": time.monotonic() - start, "peak_mb": usage.ru_maxrss / 1024}
        file.write_text(json.dumps(result))
    return json.loads(file.read_text())


def check(scene: Path, land_cover: Path) -> None:
    """Stops the benchmark if the grid or nodata of the map differs from the scene."""
    with rasterio.open(scene) as source, rasterio.open(land_cover) as mapped:
        for key in ("shape", "crs", "transform", "nodata"):
            received, expected = getattr(mapped, key), getattr(source, key)
            if received != expected:
                sys.exit(f"{land_cover} has the {key} {received}, {scene} has {expected}")
        step = 1000
        for top in range(0, source.height, step):
            window = Window(0, top, source.width, min(step, source.height - top))
            if not np.array_equal(
                source.dataset_mask(window=window), mapped.read_masks(1, window=window)
            ):
                sys.exit(f"{land_cover} has other nodata pixels than {scene}")


if __name__ == "__main__":
    main()
