r"""Compares the time of training steps and predictions with segmentation_models_pytorch (smp).

Both libraries build the same networks with random weights and receive the same random images. A
training step computes cross entropy plus Dice, and updates the weights with AdamW. A prediction
computes probabilities as a NumPy array. Each library runs in a process of its own. The processes
work in turns (lcc_tf, smp, lcc_tf, smp, ...), while the other process waits. Therefore, both
libraries have the same conditions, even if the speed of the machine changes.

A map (`--work map`) is the prediction of an image of 2448x2448 pixels in tiles of 512x512 pixels
that overlap by a quarter. Both libraries use the tiling and the blending of lcc_tf. `--work tiles`
predicts the same number of separate tiles, without tiling and blending. For both, the process of
smp also imports TensorFlow. The measured memory of smp then includes TensorFlow.

    pip install -r benchmarks/requirements.txt
    python -m benchmarks.speed --output bench/speed.json

The table shows the median time per step of both libraries, the range of all turns in parentheses,
the ratio of the medians, and the peak memory. A ratio below 1 means that lcc_tf is faster.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
NUM_CLASSES = 7
MAP_SIDE = 2448  # side of an image of DeepGlobe, pixels
TILE = 512  # side of a tile, pixels
LIBRARIES = ("lcc_tf", "smp")
Step = Callable[[np.ndarray, np.ndarray], object]


def main() -> None:
    """Measures all combinations, prints the Markdown table and writes the JSON file."""
    options = parser().parse_args()
    if options.worker:
        work(options)
        return
    libraries = list(LIBRARIES)[:1] if options.without_smp else list(LIBRARIES)
    results = []
    print(
        "| work | network | precision | lcc_tf, s | smp, s | ratio | lcc_tf, GB | smp, GB |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for precision in options.precisions:
        for kind in options.work:
            for network in options.networks:
                case = {"work": kind, "network": network, "precision": precision}
                measured = in_turns(libraries, case, options)
                results.append(case | measured)
                print(row(case, measured), flush=True)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        machine = {"processor": processor(), "python": platform.python_version()}
        settings = {
            name: getattr(options, name)
            for name in ("encoder", "image_size", "batch_size", "turns", "steps")
        }
        content = {"machine": machine, "settings": settings, "results": results}
        options.output.write_text(json.dumps(content, indent=1), encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--output", type=Path, help="JSON file for the results")
    options.add_argument(
        "--work",
        nargs="+",
        choices=("train", "predict", "map", "tiles"),
        default=["train", "predict"],
    )
    options.add_argument(
        "--networks",
        nargs="+",
        choices=("unetpp", "deeplabv3plus"),
        default=["unetpp", "deeplabv3plus"],
    )
    options.add_argument(
        "--precisions", nargs="+", choices=("float32", "bfloat16"), default=["float32"]
    )
    options.add_argument("--encoder", default="resnet101")
    options.add_argument("--image-size", type=int, default=256, help="pixels")
    options.add_argument("--batch-size", type=int, default=2)
    options.add_argument("--turns", type=int, default=7, help="turns per library")
    options.add_argument("--steps", type=int, default=1, help="steps per turn")
    options.add_argument("--without-smp", action="store_true", help="measure only lcc_tf")
    options.add_argument(
        "--smp-python", default=sys.executable, help="Python of an environment with smp"
    )
    options.add_argument("--worker", choices=LIBRARIES, help=argparse.SUPPRESS)
    return options


def in_turns(libraries: list[str], case: dict, options: argparse.Namespace) -> dict:
    """Measures one combination with all libraries in turns.

    Returns:
        Key: library. Value: dictionary with "seconds" (seconds per step, one number per turn) and
        "peak_gb" (peak memory, GB).
    """
    workers = {library: start_worker(library, case, options) for library in libraries}
    for worker in workers.values():
        ask(worker)  # the process is ready after this answer
    seconds: dict[str, list[float]] = {library: [] for library in libraries}
    for _ in range(options.turns):
        for library, worker in workers.items():
            print("go", file=worker.stdin, flush=True)
            seconds[library].append(ask(worker))
    measured = {}
    for library, worker in workers.items():
        worker.stdin.close()
        measured[library] = {"seconds": seconds[library], "peak_gb": ask(worker)}
        worker.wait()
    return measured


def start_worker(library: str, case: dict, options: argparse.Namespace) -> subprocess.Popen:
    """Starts the process that measures one combination with one library."""
    python = options.smp_python if library == "smp" else sys.executable
    command = [python, "-m", "benchmarks.speed", "--worker", library]
    command += ["--work", case["work"], "--networks", case["network"]]
    command += ["--precisions", case["precision"], "--encoder", options.encoder]
    for name in ("image_size", "batch_size", "steps"):
        command += ["--" + name.replace("_", "-"), str(getattr(options, name))]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def ask(worker: subprocess.Popen) -> float:
    """Reads the next number that a process prints."""
    line = worker.stdout.readline()
    if not line:
        sys.exit(f"{' '.join(worker.args)} ended before it was measured.")
    return float(line)


def work(options: argparse.Namespace) -> None:
    """Measures one turn for each line of the standard input, and prints the seconds per step."""
    rng = np.random.default_rng(0)
    kind = options.work[0]
    shape = (options.batch_size, options.image_size, options.image_size)
    if kind in ("map", "tiles"):
        shape = (1, MAP_SIDE, MAP_SIDE)
    images = rng.uniform(0, 255, (*shape, 3)).astype(np.float32)
    masks = rng.integers(0, NUM_CLASSES, shape)
    builders = {"lcc_tf": (lcc_tf_train, lcc_tf_predict), "smp": (smp_train, smp_predict)}
    train, predict = builders[options.worker]
    build = train if kind == "train" else predict
    image_size = TILE if kind in ("map", "tiles") else options.image_size
    step = build(options.networks[0], options.encoder, options.precisions[0], image_size)
    if kind in ("map", "tiles"):
        step = map_function(step, bare=kind == "tiles")
    for _ in range(3 if kind in ("train", "predict") else 1):
        step(images, masks)
    print(0, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(options.steps):
            step(images, masks)
        print((time.perf_counter() - start) / options.steps, flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, flush=True)


def map_function(predict: Step, *, bare: bool) -> Step:
    """Returns a function that predicts an image in tiles.

    Args:
        predict: function that predicts images and ignores its second argument.
        bare: if True, the function predicts random tiles instead of the image. The number of tiles
            is the same.
    """
    from lcc_tf.prediction.batches import in_batches
    from lcc_tf.prediction.tiling import overlap_in_pixels, predict_array, tile_origins

    batches = in_batches(lambda tiles: predict(tiles, None))
    if not bare:
        return lambda images, masks: predict_array(batches, images[0], tile=TILE)
    num_tiles = len(tile_origins(MAP_SIDE, TILE, overlap_in_pixels(TILE))) ** 2
    tiles = np.random.default_rng(0).uniform(0, 255, (1, TILE, TILE, 3)).astype(np.float32)
    return lambda images, masks: [batches(tiles) for _ in range(num_tiles)]


def lcc_tf_train(network: str, encoder: str, precision: str, image_size: int) -> Step:
    """Returns a function for a training step of lcc_tf, with the scores that training computes."""
    from lcc_tf.training.label_rules import LabelRules
    from lcc_tf.training.network import compile_for
    from lcc_tf.training.phases import phases_of

    model, config = lcc_tf_model(network, encoder, precision, image_size)
    compile_for(phases_of(config)[0], model, config, LabelRules(NUM_CLASSES), steps_per_epoch=100)
    return lambda images, masks: model.train_on_batch(images, masks)


def lcc_tf_predict(network: str, encoder: str, precision: str, image_size: int) -> Step:
    """Returns a function that predicts probabilities with lcc_tf."""
    model, _ = lcc_tf_model(network, encoder, precision, image_size)
    from lcc_tf.prediction.predictors import probability_function

    predict = probability_function(model)
    return lambda images, masks: predict(images)


def lcc_tf_model(network: str, encoder: str, precision: str, image_size: int):  # noqa: ANN201
    """Builds a model of lcc_tf in the same way as train.py, and returns it with its settings."""
    from lcc_tf.cli.options import set_environment

    set_environment()
    from lcc_tf.config import TrainConfig
    from lcc_tf.training.network import build_network

    config = TrainConfig(
        arch=network,
        encoder=encoder,
        encoder_weights=None,
        image_size=image_size,
        precision="float32" if precision == "float32" else "mixed_bfloat16",
    )
    return build_network(config, NUM_CLASSES, pretrained=False), config


def smp_train(network: str, encoder: str, precision: str, image_size: int) -> Step:
    """Returns a function for a training step of smp with cross entropy plus Dice, and AdamW."""
    model = smp_model(network, encoder).train()
    import segmentation_models_pytorch as smp
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    dice = smp.losses.DiceLoss("multiclass")
    cross_entropy = torch.nn.CrossEntropyLoss()

    def step(images: np.ndarray, masks: np.ndarray) -> float:
        x, y = smp_tensor(images), torch.from_numpy(masks)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(x)
        logits = logits.float()
        loss = cross_entropy(logits, y) + dice(logits, y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def smp_predict(network: str, encoder: str, precision: str, image_size: int) -> Step:
    """Returns a function that predicts probabilities with smp."""
    import torch

    model = smp_model(network, encoder).eval()

    def step(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"),
        ):
            probabilities = model(smp_tensor(images)).float().softmax(1)
            return probabilities.permute(0, 2, 3, 1).numpy()

    return step


def smp_model(network: str, encoder: str):  # noqa: ANN201
    """Builds a model of smp with random weights."""
    import torch

    # smp imports torchvision, whose package on PyPI needs PyTorch for GPUs. With PyTorch for CPUs,
    # the import fails, because two operations do not exist. smp does not use them.
    global _torchvision  # the operations exist as long as this object
    _torchvision = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        _torchvision.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    import segmentation_models_pytorch as smp

    build = smp.UnetPlusPlus if network == "unetpp" else smp.DeepLabV3Plus
    return build(encoder, encoder_weights=None, classes=NUM_CLASSES)


def smp_tensor(images: np.ndarray):  # noqa: ANN201
    """Converts images to normalized tensors `(batch, 3, height, width)`."""
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5


def row(case: dict, measured: dict) -> str:
    """Formats one combination as a row of the Markdown table."""
    times, memory = [], []
    for library in LIBRARIES:
        if library not in measured:
            times.append("-")
            memory.append("-")
            continue
        seconds = measured[library]["seconds"]
        times.append(f"{statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})")
        memory.append(f"{measured[library]['peak_gb']:.1f}")
    ratio = "-"
    if len(measured) == 2:
        ours, theirs = (statistics.median(measured[name]["seconds"]) for name in LIBRARIES)
        ratio = f"{ours / theirs:.2f}"
    return f"| {' | '.join([*case.values(), *times, ratio, *memory])} |"


def processor() -> str:
    """Returns the name and the vector instructions of the processor, from /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {name.strip(): value.strip() for name, value in values.items()}
    flags = [
        flag
        for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
        if flag in values.get("flags", "").split()
    ]
    return f"{values.get('model name', platform.processor())} ({', '.join(flags)})"


if __name__ == "__main__":
    main()
