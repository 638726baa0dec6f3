"""Import of a PyTorch model: the created run can be evaluated, used in an ensemble and exported."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from lcc_tf.errors import InputError
from lcc_tf.exporting.savedmodel import export_savedmodel
from lcc_tf.exporting.source_model import SourceModel
from lcc_tf.models import build_model
from lcc_tf.runs import BEST, Run, load_model, read_run, write_run
from lcc_tf.scoring.evaluate_runs import evaluate_runs, open_dataset
from lcc_tf.torch_runs import import_torch
from lcc_tf.training.checkpoints import save_weights
from lcc_tf.training.resuming import check_workdir
from tests.models.smp_networks import (
    EXPECTED_SIZE,
    EXPECTED_STEP,
    seeded_image,
    seeded_weights,
)
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, ClassTable

DATA = Path(__file__).parent / "models" / "data"
OPTIONS = {"image_size": 64, "framing": "whole", "native_size": 64, "preprocessing": "torch"}


@pytest.fixture(scope="module")
def torch_file(tmp_path_factory):
    """Weights file of DeepLabV3Plus with resnet18, and the logits of smp for `seeded_image`.

    smp is segmentation_models_pytorch.
    """
    with np.load(DATA / "smp_deeplabv3plus_16.npz") as stored:
        weights, logits = seeded_weights(json.loads(str(stored["shapes"]))), stored["logits"]
    file = tmp_path_factory.mktemp("torch") / "model.safetensors"
    safetensors.numpy.save_file({f"model.{name}": array for name, array in weights.items()}, file)
    return file, logits


@pytest.fixture(scope="module")
def imported(torch_file, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("imported") / "from_torch"
    return import_torch(torch_file[0], workdir, DEEPGLOBE_CLASSES, **OPTIONS)


def test_run_returns_the_logits_of_smp(imported, torch_file):
    run = read_run(imported.path)
    assert run == imported
    assert (run.config.arch, run.config.encoder) == ("deeplabv3plus", "resnet18_v1.5")
    assert run.config.align_corners
    logits = load_model(run)(seeded_image(*EXPECTED_SIZE)).numpy()
    expected = torch_file[1]
    logits = logits[0, ::EXPECTED_STEP, ::EXPECTED_STEP]
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.fixture(scope="module")
def trained(builder, tiny_config, tmp_path_factory):
    """A run on the tiny data set, with random weights."""
    config = dataclasses.replace(tiny_config, arch="unetpp")
    folder = tmp_path_factory.mktemp("runs") / "unetpp"
    fingerprint = builder.info.metadata["fingerprint"]
    run = Run(folder, config, DEEPGLOBE_CLASSES, fingerprint, native_size=64)
    model = build_model("unetpp", 7, encoder_weights=None, **config.model_options())
    write_run(run, model.count_params())
    save_weights(model, folder / BEST)
    return run


def test_imported_run_is_evaluated_in_an_ensemble(imported, trained, eagerly):
    members = [imported, trained]
    evaluation = evaluate_runs(members, open_dataset(members), split="validation")
    assert list(evaluation.scores["original"]) == ["from_torch", "unetpp", "ensemble"]
    with pytest.raises(InputError, match="imported.*`data`"):
        open_dataset([imported])


# A faster test in tests/models/test_resampling.py exports only the layer with aligned corners.
@pytest.mark.slow
def test_aligned_corners_are_exported(imported, tmp_path):
    (exported,) = export_savedmodel(SourceModel.from_runs([imported]), tmp_path / "out")
    assert exported.agreement.max_difference < 1e-5


def test_failed_imports_leave_no_folder(torch_file, imported, tmp_path):
    two = ClassTable(("land", "water"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(InputError, match="`classes` must be the 7 classes of .*Received 2 classes"):
        import_torch(torch_file[0], tmp_path / "run", two, **OPTIONS)
    with pytest.raises(InputError, match="divisible by 16"):
        import_torch(
            torch_file[0], tmp_path / "run", DEEPGLOBE_CLASSES, **OPTIONS | {"image_size": 100}
        )
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="contains other files.*Choose another folder"):
        import_torch(torch_file[0], imported.path, DEEPGLOBE_CLASSES, **OPTIONS)


def test_network_with_one_output_channel_becomes_two_classes(torch_file, tmp_path, capsys):
    """The probability of the class is the sigmoid of the logit."""
    weights = safetensors.numpy.load_file(torch_file[0])
    one = {
        name: array[3:4] if "segmentation_head" in name else array
        for name, array in weights.items()
    }
    file = tmp_path / "one.safetensors"
    safetensors.numpy.save_file(one | {"criterion.pos_weight": np.ones(1)}, file)
    for names in (("building",), ("land", "water", "ice")):
        table = ClassTable(names, tuple((i, i, i) for i in range(len(names))))
        with pytest.raises(InputError, match="two classes, the background.*one output channel"):
            import_torch(file, tmp_path / "run", table, **OPTIONS)
    table = ClassTable(("background", "building"), ((0, 0, 0), (255, 0, 0)))
    run = import_torch(file, tmp_path / "run", table, **OPTIONS)
    assert "not part of the network: criterion.pos_weight" in capsys.readouterr().out
    logits = load_model(run)(seeded_image(*EXPECTED_SIZE)).numpy()
    assert logits.shape[-1] == 2
    logits = logits[0, ::EXPECTED_STEP, ::EXPECTED_STEP]
    logit = torch_file[1][..., 3]
    np.testing.assert_array_equal(logits[..., 0], 0)
    assert np.abs(logits[..., 1] - logit).max() < 1e-4 * np.abs(torch_file[1]).max()


def test_options_of_another_network_raise(tmp_path):
    with np.load(DATA / "smp_unetpp_32.npz") as stored:
        weights = seeded_weights(json.loads(str(stored["shapes"])))
    file = tmp_path / "unetpp.safetensors"
    safetensors.numpy.save_file(weights, file)
    with pytest.raises(InputError, match="`output_stride` is an option of deeplabv3plus only"):
        import_torch(file, tmp_path / "run", DEEPGLOBE_CLASSES, **OPTIONS, output_stride=8)
    assert not (tmp_path / "run").exists()


def test_interrupted_import_leaves_no_folder(torch_file, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lcc_tf.torch_runs.save_weights", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_torch(torch_file[0], tmp_path / "runs" / "run", DEEPGLOBE_CLASSES, **OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_resuming_the_training_of_an_imported_run_raises(imported):
    config = dataclasses.replace(imported.config, epochs=200)
    with pytest.raises(InputError, match="training of an imported model cannot resume"):
        check_workdir(config, imported.path, resume=True)
