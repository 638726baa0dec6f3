"""Compares networks for five bands, networks for three bands, and initial weights.

The data set consists of procedural scenes, which are synthetic satellite images that lcc_tf draws.
Each image has five bands of 16 bits: red, green, blue, near infrared and thermal infrared. Near
infrared is computed from red and green. Only thermal infrared shows the additional class `warm`.
DeepLabV3+ with MobileNetV2 is trained on crops of 96x96 pixels.

    python -m benchmarks.band_choices --folder bench/bands

The ImageNet weights are downloaded. Finished trainings are not repeated. The output is a Markdown
table.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from lcc_tf.data.demo_scenes import render_scene
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES

ROOT = Path(__file__).parents[1]
SIDE, PIXEL = 192, 10  # pixels per image side, meters per pixel
NAMES = ("red", "green", "blue", "near infrared", "thermal")
VARIANTS = {
    "five bands, `--new-bands mean`": ("--new-bands", "mean"),
    "five bands, `--new-bands zero`": ("--new-bands", "zero"),
    "five bands, random weights": ("--encoder-weights", "none"),
    "red, green and blue": ("--bands", "1,2,3"),
}
TRAINING = (
    *("--arch", "deeplabv3plus", "--encoder", "mobilenetv2", "--image-size", "96"),
    *("--epochs", "6", "--batch-size", "8"),
)


def main() -> None:
    """Trains and scores all variants, and prints the Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("bench/bands"))
    parser.add_argument("--images", type=int, default=100, help="number of images")
    parser.add_argument("--seeds", type=int, default=3, help="number of random seeds")
    options = parser.parse_args()
    data = options.folder / f"data_{options.images}"
    if not (data / "class_dict.csv").exists():
        write_data_set(data, options.images)
    print("| bands and weights | mean IoU | of the class `warm` |\n|---|---|---|")
    for index, (name, arguments) in enumerate(VARIANTS.items()):
        scores = [
            score(options.folder, data, f"{index}_{seed}", ("--seed", str(seed), *arguments))
            for seed in range(options.seeds)
        ]
        means, warm = (
            [f"{100 * value:.1f}" for value in values] for values in zip(*scores, strict=True)
        )
        average = statistics.mean(mean for mean, _ in scores)
        print(f"| {name} | {100 * average:.1f} ({', '.join(means)}) | {', '.join(warm)} |")


def write_data_set(folder: Path, count: int) -> None:
    """Writes images as GeoTIFFs, masks as class ids, and the class table."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image, mask = render_scene(3, 5 * 10**6 + index, SIDE)
        rng = np.random.default_rng(index)
        rows, columns = np.mgrid[:SIDE, :SIDE]
        warm = np.zeros((SIDE, SIDE), bool)
        for _ in range(3):
            row, column = rng.integers(0, SIDE, 2)
            radius = rng.integers(SIDE // 10, SIDE // 5)
            warm |= (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        colors = image.astype(float)
        infrared = 20 * colors[..., 1] + 10 * colors[..., 0] + 300 + rng.normal(0, 50, mask.shape)
        thermal = np.where(warm, 9000, 5000) + rng.normal(0, 400, mask.shape)
        values = np.stack([*np.moveaxis(40 * colors + 100, -1, 0), infrared, thermal])
        with rasterio.open(
            folder / "images" / f"{index:03d}.tif",
            "w",
            driver="GTiff",
            height=SIDE,
            width=SIDE,
            count=len(NAMES),
            dtype="uint16",
            compress="deflate",
            crs="EPSG:32640",
            # The images are far apart, so that they are not neighbors.
            transform=from_origin(300000 + 10 * PIXEL * SIDE * index, 2700000, PIXEL, PIXEL),
        ) as file:
            file.write(values.clip(0, 65535).astype(np.uint16))
            file.descriptions = NAMES
        ids = np.where(warm, DEEPGLOBE_CLASSES.num_classes, mask).astype(np.uint8)
        Image.fromarray(ids).save(folder / "masks" / f"{index:03d}.png")
    rows = [f"{name},{i}" for i, name in enumerate((*DEEPGLOBE_CLASSES.names, "warm"))]
    (folder / "class_dict.csv").write_text("\n".join(["name,id", *rows, ""]), encoding="utf-8")


def score(folder: Path, data: Path, name: str, arguments: tuple[str, ...]) -> tuple[float, float]:
    """Trains a network, and returns its mean IoU and the IoU of `warm` on the test split."""
    results = folder / "results" / name
    if not (results / "metrics.json").exists():
        run = folder / "runs" / name
        common = ("--data", str(data), "--cache-dir", str(folder / "tfds"))
        command("train", *common, *TRAINING, *arguments, "--workdir", str(run), "--resume")
        evaluation = ("--protocol", "official6", "--output", str(results))
        command("evaluate", "--runs", str(run), *evaluation)
    scores = json.loads((results / "metrics.json").read_text(encoding="utf-8"))["members"][name]
    return scores["mean_iou"], scores["iou"]["warm"]


def command(script: str, *arguments: str) -> None:
    """Runs a script of lcc_tf, and raises an error if it fails."""
    subprocess.run(
        [sys.executable, str(ROOT / f"{script}.py"), *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main()
