"""Compares choices, defaults and help texts of the commands with the library."""

import dataclasses
import importlib
import inspect
import re
import shlex

import pytest

from lcc_tf.cli import evaluate, export, import_torch, predict, train
from lcc_tf.cli.options import in_words
from lcc_tf.config import DataConfig, TrainConfig
from lcc_tf.exporting.export import export_source
from lcc_tf.exporting.source_model import SourceModel
from lcc_tf.mapping.map_images import map_images
from lcc_tf.mapping.map_scene import map_scene
from lcc_tf.mapping.outputs import EXTRAS, POLYGON_FORMATS
from lcc_tf.mapping.scene_reading import SceneReading
from lcc_tf.models.averaging import AVERAGES
from lcc_tf.models.preprocessing import PREPROCESSING_MODES
from lcc_tf.prediction.predictors import EnsemblePredictor
from lcc_tf.prediction.tta import TTA
from lcc_tf.scoring.evaluate_runs import evaluate_runs, open_dataset
from lcc_tf.scoring.protocols import PROTOCOLS
from lcc_tf.torch_runs import import_torch as import_function

COMMANDS = (train, evaluate, predict, export, import_torch)
REQUIRED = {
    predict: ["--input", "scene.tif"],
    import_torch: ["--weights", "best.ckpt", "--workdir", "run"],
}
FIELDS = {
    field.name: field
    for config in (TrainConfig, DataConfig)
    for field in dataclasses.fields(config)
    if field.name != "data" or config is DataConfig
}
# Fields of the configuration that only recipes and imported models set
WITHOUT_OPTION = {"preprocessing", "dilation_rates", "align_corners", "monitor", "weight_decay"}
# A flag, and options whose default is shown as a sentence
SHOWN_OTHERWISE = {
    *(
        "deep_supervision",
        "deterministic",
        "split_files",
        "map_color",
        "crops_per_image",
        "group_by",
    ),
    *("image_glob", "mask_pattern", "bands", "merge", "void"),
}


def options_of(command):
    return vars(command.parser().parse_args(REQUIRED.get(command, [])))


def help_of(command, name):
    """Returns the help text of one option, without line breaks."""
    options = command.parser().format_help().split("examples:")[0]
    option = "--" + name.replace("_", "-")
    (text,) = re.findall(
        rf"^  {option}(?![\w-])(.*?)(?=^  -|^\S|\Z)", options, re.DOTALL | re.MULTILINE
    )
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("command", "function"),
    [
        (evaluate, evaluate_runs),
        (evaluate, open_dataset),
        (export, SourceModel.from_runs),
        (export, export_source),
        (import_torch, import_function),
        (predict, EnsemblePredictor.from_runs),
        (predict, map_images),
        (predict, map_scene),
        (predict, SceneReading),
    ],
)
def test_defaults_equal_the_library(command, function):
    options = options_of(command)
    library = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    # Two defaults differ intentionally: the command scores an ensemble only with --ensemble, and
    # the default tile of the command has the size of the training images.
    shared = (options.keys() & library.keys()) - {"ensemble", "tile"}
    assert shared
    for name in shared:
        assert in_words(options[name]) == in_words(library[name]), name


def test_default_protocol_equals_the_library():
    (protocol,) = inspect.signature(evaluate_runs).parameters["protocols"].default
    assert options_of(evaluate)["protocol"] == protocol


@pytest.mark.parametrize(
    ("command", "option", "choices"),
    [
        (evaluate, "--protocol", {*PROTOCOLS, "all"}),
        *((command, "--average", set(AVERAGES)) for command in (evaluate, export, predict)),
        *((command, "--tta", set(TTA)) for command in (evaluate, predict)),
        (predict, "--extras", set(EXTRAS)),
        (predict, "--polygons", set(POLYGON_FORMATS)),
    ],
)
def test_choices_equal_the_library(command, option, choices, capsys):
    with pytest.raises(SystemExit) as end:
        command.parser().parse_args([*REQUIRED.get(command, []), option, "wrong"])
    assert end.value.code == 2
    listed = capsys.readouterr().err.split("choose from ")[1]
    assert set(re.findall(r"\w+", listed)) == choices


def test_preprocessing_choices_are_preprocessing_modes_of_the_library():
    listed = re.findall(r"\{(.*?)\}", help_of(import_torch, "preprocessing"))[0].split(",")
    assert set(listed) <= set(PREPROCESSING_MODES)


@pytest.mark.parametrize("name", sorted(FIELDS.keys() - WITHOUT_OPTION - SHOWN_OTHERWISE))
def test_train_help_has_the_default_of_the_configuration(name):
    default = in_words(FIELDS[name].default)
    assert re.search(
        rf"\(default: {re.escape(default)}(; with --recipe original: .*)?\)$", help_of(train, name)
    )


def test_train_options_are_the_fields_of_the_configuration():
    text = train.parser().format_help()
    assert not [name for name in WITHOUT_OPTION if "--" + name.replace("_", "-") in text]
    # Without options, the parsed options have no values, because the recipe or the resumed run
    # defines the values.
    assert options_of(train) == {"resume": False}


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("batch_size", "8; with --recipe original: 7"),
        ("patience", "20; with --recipe original: 20, 30 or 50"),
        ("ignore_class", "unknown; with --recipe original: none"),
        ("crop_scale", "1 1"),
        ("image_glob", "usual names are recognized"),
    ],
)
def test_train_help_shows_defaults_as_users_type_them(name, default):
    assert help_of(train, name).endswith(f"(default: {default})")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_option_with_a_value_ends_with_its_default(command):
    required = {argument.removeprefix("--") for argument in REQUIRED.get(command, [])}
    for name, default in options_of(command).items():
        if default is not False and name not in required:
            assert re.search(r"\(default: .+\)$", help_of(command, name)), name


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_the_help_are_valid(command):
    text = command.parser().format_help()
    examples = text.split("examples:\n")[1].split("\nexit codes:")[0].replace("\\\n", "")
    lines = re.sub(r"\blcc-(\S+)", r"python \1.py", examples).strip().splitlines()
    for line in lines:
        _, script, *arguments = shlex.split(line)
        module = importlib.import_module(
            f"lcc_tf.cli.{script.removesuffix('.py').replace('-', '_')}"
        )
        module.parser().parse_args(arguments)
    assert len(lines) >= 3
