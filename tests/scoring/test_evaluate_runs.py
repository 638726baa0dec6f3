import dataclasses
import functools
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from lcc_tf.data.pipeline import evaluation_batches
from lcc_tf.errors import InputError
from lcc_tf.models.preprocessing import EncoderPreprocessing
from lcc_tf.runs import find_runs, load_model, read_run
from lcc_tf.scoring.definitions import definitions
from lcc_tf.scoring.evaluate_runs import check_runs, evaluate_runs, open_dataset
from lcc_tf.scoring.examples import split_examples
from lcc_tf.scoring.protocols import ORIGINAL, PROTOCOLS
from lcc_tf.scoring.results import write_metrics
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, ClassTable
from tfds_deepglobe.errors import InputError as DatasetError
from tfds_deepglobe.fake_archive import write_pair
from tfds_deepglobe.file_names import FileNames

ALL = list(PROTOCOLS)


@pytest.fixture(scope="module", autouse=True)
def networks():
    """Loads each run once and runs it eagerly: tracing graphs would take most of the time."""

    @functools.cache
    def load(path):
        model = load_model(read_run(path))
        model.run_eagerly = True
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lcc_tf.prediction.predictors.load_model", lambda run: load(run.path))
        yield lambda run: load(run.path)


def framed(run, framing, **changes):
    """A run as if it had been trained in another framing."""
    config = dataclasses.replace(run.config, framing=framing, **changes)
    return dataclasses.replace(run, config=config)


@pytest.fixture(scope="module")
def whole(runs):
    """Both runs, on whole images of 64 pixels."""
    return [framed(run, "whole") for run in find_runs(runs)]


@pytest.fixture(scope="module")
def evaluation(whole, builder, tmp_path_factory):
    panels = tmp_path_factory.mktemp("panels")
    return evaluate_runs(
        whole,
        builder,
        protocols=ALL,
        split="train",
        member_weights=[3, 1],
        color_baseline=True,
        panels=panels,
    ), panels


@pytest.fixture(scope="module")
def three(runs, builder, tmp_path_factory):
    """Three members, of two framings and sizes, with weights tuned."""
    folder = tmp_path_factory.mktemp("three")
    shutil.copytree(runs / "unetpp", folder / "crops")
    members = [framed(run, "whole") for run in find_runs(runs)]
    members.append(framed(read_run(folder / "crops"), "crops", image_size=32))
    return evaluate_runs(members, builder, member_weights="tuned", average="logits", tta="flip")


def test_scores_are_those_of_the_predictions(evaluation, whole, builder, networks):
    """Protocol `original` by its definition, without confusion matrices."""
    p = {}
    for size in (64, 512):
        batches = evaluation_batches(builder, "train", image_size=size, batch_size=16)
        images, masks = next(batches.as_numpy_iterator())
        for run in whole if size == 64 else ():
            probabilities = tf.nn.softmax(networks(run)(images))
            p[run.name] = tf.image.resize(probabilities, (512, 512)).numpy()
    p["ensemble"] = 0.75 * p["deeplabv3plus"] + 0.25 * p["unetpp"]
    for name, probabilities in p.items():
        scores = evaluation[0].scores["original"][name]
        predicted = probabilities.argmax(-1)
        right = (masks == predicted).mean(axis=(1, 2))
        ious = [
            ((masks == k) & (predicted == k)).sum() / union
            for k in range(7)
            if (union := ((masks == k) | (predicted == k)).sum())
        ]
        expected = {
            "pixel_accuracy": right.mean(),
            "mean_iou": np.mean(ious),
            "accuracy": np.mean(1 - 2 * (1 - right) / 7),
            "f1": right.mean(),
            "image_iou": np.mean(right / (2 - right)),
        }
        for key, value in expected.items():
            assert scores[key] == pytest.approx(value, abs=1e-6), (name, key)
        assert np.sum(scores["confusion_matrix"]) == masks.size


def test_papers_protocols_are_scored_at_full_size(evaluation):
    by_protocol = evaluation[0].scores
    pixels = {name: np.sum(s["ensemble"]["confusion_matrix"]) for name, s in by_protocol.items()}
    assert pixels["original"] == 13 * 512**2
    assert pixels["glnet"] == 13 * 64**2
    unknown = np.sum(by_protocol["glnet"]["ensemble"]["confusion_matrix"][6])
    assert 0 < unknown < pixels["glnet"]
    assert pixels["official6"] == pixels["glnet"] - unknown


def test_crops_are_predicted_at_the_images_resolution(whole, builder, monkeypatch):
    """One tile of 96 pixels contains an image of 64 and reflect-padded borders of 16."""
    # This network predicts all classes; one trained this shortly may predict only one.
    inputs = keras.Input((None, None, 3))
    features = EncoderPreprocessing("tf", size_divisor=16)(inputs)
    kernel = keras.initializers.RandomNormal(seed=0)
    layer = keras.layers.Conv2D(7, 9, padding="same", kernel_initializer=kernel)
    network = keras.Model(inputs, layer(features))
    monkeypatch.setattr("lcc_tf.prediction.predictors.load_model", lambda _: network)
    crops = evaluate_runs([framed(whole[0], "crops", image_size=96)], builder, protocols=["glnet"])
    batches = evaluation_batches(builder, "test", image_size=64, batch_size=16)
    images, masks = next(batches.as_numpy_iterator())
    padded = np.pad(images, [(0, 0), (16, 16), (16, 16), (0, 0)], mode="reflect")
    ids = network(padded).numpy()[:, 16:80, 16:80].argmax(-1)
    matrix = np.zeros((7, 7), int)
    np.add.at(matrix, (masks, ids), 1)
    found = crops.scores["glnet"]["ensemble"]["confusion_matrix"]
    np.testing.assert_array_equal(found, matrix)
    unpadded = network(images).numpy().argmax(-1)
    assert (unpadded != ids).any()


def numbers_in(value, path=()):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numbers_in(item, (*path, key))
    elif isinstance(value, list):
        for item in value:
            yield from numbers_in(item, path)
    elif isinstance(value, (int, float)) or value is None:
        yield path


def test_metrics_file_of_all_protocols(evaluation, tmp_path):
    write_metrics(evaluation[0], tmp_path / "metrics.json")
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["protocol"] == "all"
    assert (content["split"], content["num_images"]) == ("train", 13)
    assert list(content["protocols"]) == ["original", "official6", "glnet"]
    for name, part in content["protocols"].items():
        rules = PROTOCOLS[name].for_classes(DEEPGLOBE_CLASSES)
        assert part["protocol"] == name
        assert list(part["members"]) == ["deeplabv3plus", "unetpp"]
        assert part["member_weights"] == {"deeplabv3plus": 0.75, "unetpp": 0.25}
        assert part["leave_one_out"] == {}
        for scores in (*part["members"].values(), part["ensemble"], part["color_baseline"]):
            assert set(scores) == set(definitions(rules))
            assert list(scores["iou"]) == part["class_names"]
        assert (part["ensemble"]["iou"]["unknown"] is None) == (name == "official6")


def test_metrics_file_of_one_protocol_defines_each_number(three, tmp_path):
    write_metrics(three, tmp_path / "metrics.json")
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert (content["protocol"], content["split"]) == ("original", "test")
    assert (content["average"], content["tta"]) == ("logits", "flip")
    assert list(content["leave_one_out"]) == ["deeplabv3plus", "unetpp", "crops"]
    sections = {"members": 2, "leave_one_out": 2, "ensemble": 1}
    for path in numbers_in({k: v for k, v in content.items() if k != "definitions"}):
        key = path[sections.get(path[0], 0)]
        assert content["definitions"][key], path
    assert len(content["definitions"]) > 25


def test_tuned_weights_are_no_worse_than_equal_ones(three, whole, builder):
    assert three.tuned.mean_iou >= three.tuned.equal_mean_iou
    assert sum(three.member_weights().values()) == pytest.approx(1)
    options = {"split": "validation", "protocols": ["official6"]}
    tuned = evaluate_runs(whole, builder, member_weights="tuned", **options)
    equal = evaluate_runs(whole, builder, **options)
    reached, before = (x.scores["official6"]["ensemble"]["mean_iou"] for x in (tuned, equal))
    assert reached == tuned.tuned.mean_iou
    assert before == tuned.tuned.equal_mean_iou
    assert reached >= before


def test_tuning_reads_no_test_image_before_the_weights_are_found(whole, builder, monkeypatch):
    read, as_dataset = [], builder.as_dataset

    def watched(split, **options):
        read.append(split)
        return as_dataset(split=split, **options)

    monkeypatch.setattr(builder, "as_dataset", watched)
    evaluate_runs(whole, builder, member_weights="tuned")
    assert read == ["validation", "test"]


def test_ensembles_without_one_member(three):
    scores = three.scores["original"]
    assert list(scores) == [
        *("deeplabv3plus", "unetpp", "crops", "ensemble"),
        *(f"ensemble without {name}" for name in ("deeplabv3plus", "unetpp", "crops")),
    ]


def test_ensemble_without_a_member_keeps_the_other_weights(whole, builder, runs, tmp_path):
    shutil.copytree(runs / "unetpp", tmp_path / "third")
    members = [*whole, framed(read_run(tmp_path / "third"), "whole")]
    scores = evaluate_runs(members, builder, member_weights=[2, 1, 0]).scores["original"]
    pair = evaluate_runs(whole, builder, member_weights=[2, 1]).scores["original"]["ensemble"]
    np.testing.assert_equal(scores["ensemble"], pair)
    np.testing.assert_equal(scores["ensemble without third"], pair)
    np.testing.assert_equal(scores["ensemble without unetpp"], scores["deeplabv3plus"])
    alone = evaluate_runs(members, builder, member_weights=[1, 0, 0]).scores["original"]
    assert "ensemble without deeplabv3plus" not in alone  # only the omitted member has weight


def test_panels_are_pictures_of_the_first_images(evaluation):
    files = sorted(evaluation[1].iterdir())
    assert [file.name for file in files] == [f"train_{i:02d}.png" for i in range(6)]
    with Image.open(files[0]) as panel:
        width, height = panel.size
        # Image, truth, two members, ensemble, baseline side by side.
        assert width > 4 * height
        colors = {rgb for _, rgb in panel.convert("RGB").getcolors(width * height)}
    assert {(0, 255, 255), (255, 255, 0)} & colors


def test_panels_keep_the_images_form(whole, builder, monkeypatch, tmp_path):
    image, mask = next(split_examples(builder, "test", "reading"))
    wide = [(image[:32], mask[:32])]
    drawn = {}
    monkeypatch.setattr("lcc_tf.scoring.evaluate_runs.split_examples", lambda *_: wide)
    monkeypatch.setattr(
        "lcc_tf.scoring.panels.save_panel", lambda *arrays, **_: drawn.update(arrays=arrays)
    )
    evaluate_runs(whole, builder, protocols=["glnet"], panels=tmp_path)
    drawn_image, drawn_mask, predictions, *_ = drawn["arrays"]
    assert drawn_image.shape == (256, 512, 3)
    np.testing.assert_array_equal(drawn_mask, mask[:32].repeat(8, 0).repeat(8, 1))
    assert {ids.shape for ids in predictions.values()} == {(256, 512)}


def test_one_run_without_ensemble(whole, builder):
    evaluation = evaluate_runs(whole[1:], builder, ensemble=False)
    assert list(evaluation.scores["original"]) == ["unetpp"]
    assert {"ensemble", "member_weights"}.isdisjoint(evaluation.to_json())


def test_invalid_runs_raise(whole, builder):
    run, other = whole
    with pytest.raises(InputError, match="same name"):
        evaluate_runs([run, run], builder)
    names = tuple(f"class {i}" for i in range(7))
    classes = ClassTable(names, DEEPGLOBE_CLASSES.palette)
    with pytest.raises(InputError, match="differ in their classes"):
        check_runs([run, dataclasses.replace(other, classes=classes)])
    with pytest.raises(InputError, match="differ in their fingerprint"):
        open_dataset([run, dataclasses.replace(other, fingerprint="0" * 64)])
    with pytest.raises(InputError, match="no images in its split 'holdout'"):
        evaluate_runs([run], builder, split="holdout")
    with pytest.raises(InputError, match="2 members needs 2 weights"):
        evaluate_runs([run, other], builder, member_weights=[1])
    with pytest.raises(InputError, match="equal, tuned, or one number.*Received: best"):
        evaluate_runs([run, other], builder, member_weights="best")
    for weights in ([1, 1], "tuned"):
        with pytest.raises(InputError, match="need `ensemble=True`"):
            evaluate_runs([run, other], builder, member_weights=weights, ensemble=False)


@pytest.mark.parametrize("name", ["member_0", "-é (1).x"])
def test_run_folders_may_have_any_name(name, runs, builder, tmp_path):
    shutil.copytree(runs / "unetpp", tmp_path / name)
    run = read_run(tmp_path / name)
    scores = evaluate_runs([run], builder, protocols=["glnet"]).scores["glnet"]
    assert list(scores) == [name, "ensemble"]


@pytest.mark.parametrize("name", ["ensemble", "color_baseline"])
def test_run_folders_may_not_be_named_like_another_predictor(name, whole):
    with pytest.raises(InputError, match=f"can't be named '{name}'"):
        check_runs([dataclasses.replace(whole[0], path=whole[0].path.parent / name)])


def test_other_data_may_be_scored(runs, tiny_config):
    run = read_run(runs / "unetpp")
    trained_by_lists = dataclasses.replace(tiny_config.data, split_files="lists", demo_count=12)
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, data=trained_by_lists))
    assert open_dataset([run], "demo").info.metadata["fingerprint"] != run.fingerprint


def test_other_data_may_have_other_names(runs, tmp_path):
    run = read_run(runs / "unetpp")
    names = FileNames.parse("images/*.jpg", "masks/*.png")
    for i in range(4):
        write_pair(tmp_path / "raw", str(i))
        for kind, pattern in (("sat.jpg", names.images), ("mask.png", names.masks)):
            file = tmp_path / "raw" / pattern.name_of(str(i))
            file.parent.mkdir(exist_ok=True)
            (tmp_path / "raw" / f"{i}_{kind}").rename(file)
    data = str(tmp_path / "raw")
    with pytest.raises(DatasetError, match="no labelled image"):
        open_dataset([run], data)
    patterns = {"image_glob": "images/*.jpg", "mask_pattern": "masks/*.png"}
    assert open_dataset([run], data, **patterns).info.splits["train"].num_examples == 2
    with pytest.raises(InputError, match="name patterns of files in `data`.*images/\\*.jpg"):
        open_dataset([run], **patterns)


def test_imported_run_fits_any_data_set(runs, whole):
    own = read_run(runs / "unetpp")
    imported = dataclasses.replace(whole[0], fingerprint=None)
    assert open_dataset([imported, own]).info.metadata["fingerprint"] == own.fingerprint
    assert open_dataset([imported], "demo").info.splits["test"].num_examples
    with pytest.raises(InputError, match="were imported.*`data`"):
        open_dataset([imported])


def test_changed_archive_is_refused(runs):
    run = read_run(runs / "unetpp")
    assert open_dataset([run]).info.metadata["fingerprint"] == run.fingerprint
    with pytest.raises(InputError, match="has changed since"):
        open_dataset([dataclasses.replace(run, fingerprint="0" * 64)])


def test_original_is_the_default(whole, builder):
    assert evaluate_runs(whole[:1], builder).rules[0].protocol is ORIGINAL
