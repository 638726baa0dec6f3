import contextlib
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from lcc_tf.data.pipeline import evaluation_batches
from lcc_tf.data.training_images import write_training_images
from lcc_tf.errors import InputError
from lcc_tf.prediction.predictors import Predictor
from lcc_tf.runs import load_model
from lcc_tf.scoring.definitions import definitions
from lcc_tf.scoring.evaluate_runs import check_runs, evaluate_runs, open_dataset
from lcc_tf.scoring.protocols import ORIGINAL, PROTOCOLS
from lcc_tf.scoring.results import write_metrics
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, ClassTable
from tfds_deepglobe.errors import InputError as DatasetError
from tfds_deepglobe.fake_archive import write_pair
from tfds_deepglobe.file_names import FileNames
from tfds_deepglobe.prepare import prepare
from tfds_deepglobe.source_files import image_checksums

ALL = list(PROTOCOLS)


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Loads each run only once for all tests, and predicts eagerly.

    Loading and building graphs would take most of the time.
    """
    load = Predictor.from_run
    loaded = {}

    def from_run(run, *, tta="none"):
        key = repr((run, tta))
        if key not in loaded:
            loaded[key] = load(run, tta=tta)
        return loaded[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "from_run", from_run)
        tf.config.run_functions_eagerly(True)
        yield
        tf.config.run_functions_eagerly(False)


def framed(run, framing, **changes):
    """Returns a run with another framing (crops or whole images) in its configuration."""
    config = dataclasses.replace(run.config, framing=framing, **changes)
    return dataclasses.replace(run, config=config)


def copied(run, path):
    """Copies a run to another folder and returns the copy."""
    shutil.copytree(run.path, path)
    return dataclasses.replace(run, path=path)


@pytest.fixture(scope="module")
def evaluation(pair, builder, tmp_path_factory):
    panels = tmp_path_factory.mktemp("panels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lcc_tf.scoring.panels.MAX_PANELS", 2)
        return evaluate_runs(
            pair,
            builder,
            protocols=ALL,
            split="train",
            member_weights=[3, 1],
            color_baseline=True,
            panels=panels,
        ), panels


@pytest.fixture(scope="module")
def three(pair, builder, tmp_path_factory):
    """Scores of two runs on whole images, one run on crops, and their ensembles."""
    path = tmp_path_factory.mktemp("three") / "crops"
    members = [*pair, framed(copied(pair[0], path), "crops", image_size=32)]
    return evaluate_runs(members, builder, member_weights=[2, 1, 1], average="logits", tta="flip")


@pytest.fixture(scope="module")
def tuned(pair, builder):
    """Scores of two runs with tuned weights, on the split on which the weights were tuned."""
    options = {"split": "validation", "protocols": ["official6"]}
    return evaluate_runs(pair, builder, member_weights="tuned", **options)


def test_scores_equal_scores_computed_from_the_predictions(evaluation, pair, builder):
    """The expected scores of the protocol `original` are computed without confusion matrices."""
    p = {}
    for size in (64, 512):
        batches = evaluation_batches(builder, "train", image_size=size, batch_size=16)
        images, masks = next(batches.as_numpy_iterator())
        for run in pair if size == 64 else ():
            probabilities = tf.nn.softmax(load_model(run)(images))
            p[run.name] = tf.image.resize(probabilities, (512, 512)).numpy()
    p["ensemble"] = 0.75 * p["first"] + 0.25 * p["second"]
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


def test_protocols_of_papers_score_images_without_resizing(evaluation):
    by_protocol = evaluation[0].scores
    pixels = {name: np.sum(s["ensemble"]["confusion_matrix"]) for name, s in by_protocol.items()}
    assert pixels["original"] == 13 * 512**2
    assert pixels["glnet"] == 13 * 64**2
    unknown = np.sum(by_protocol["glnet"]["ensemble"]["confusion_matrix"][6])
    assert 0 < unknown < pixels["glnet"]
    assert pixels["official6"] == pixels["glnet"] - unknown


def test_run_on_crops_predicts_images_without_resizing(pair, builder):
    """One tile of 96 pixels contains an image of 64 pixels and reflect-padded borders of 16."""
    run = framed(pair[0], "crops", image_size=96)
    network = load_model(run)
    crops = evaluate_runs([run], builder, protocols=["glnet"])
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
        assert list(part["members"]) == ["first", "second"]
        assert part["member_weights"] == {"first": 0.75, "second": 0.25}
        assert part["leave_one_out"] == {}
        for scores in (*part["members"].values(), part["ensemble"], part["color_baseline"]):
            assert set(scores) == set(definitions(rules))
            assert list(scores["iou"]) == part["class_names"]
        assert (part["ensemble"]["iou"]["unknown"] is None) == (name == "official6")


def test_metrics_file_of_one_protocol_defines_each_score(three, tmp_path):
    write_metrics(three, tmp_path / "metrics.json")
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert (content["protocol"], content["split"]) == ("original", "test")
    assert (content["average"], content["tta"]) == ("logits", "flip")
    assert list(content["leave_one_out"]) == ["first", "second", "crops"]
    sections = {"members": 2, "leave_one_out": 2, "ensemble": 1}
    for path in numbers_in({k: v for k, v in content.items() if k != "definitions"}):
        key = path[sections.get(path[0], 0)]
        assert content["definitions"][key], path
    assert len(content["definitions"]) > 25


def test_metrics_file_contains_the_result_of_tuning(tuned, tmp_path):
    write_metrics(tuned, tmp_path / "metrics.json")
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["tuning"]["protocol"] == "official6"
    assert content["tuning"]["weights"] == list(content["member_weights"].values())
    assert "on the validation split" in content["definitions"]["tuning"]


def test_tuned_weights_are_no_worse_than_equal_weights(tuned, pair, builder):
    assert sum(tuned.member_weights().values()) == pytest.approx(1)
    equal = evaluate_runs(pair, builder, split="validation", protocols=["official6"])
    reached, before = (x.scores["official6"]["ensemble"]["mean_iou"] for x in (tuned, equal))
    assert reached == tuned.tuned.mean_iou
    assert before == tuned.tuned.equal_mean_iou
    assert reached >= before


def test_tuning_reads_no_test_image(pair, builder, monkeypatch):
    read, as_dataset = [], builder.as_dataset

    def watched(split, **options):
        read.append(split)
        return as_dataset(split=split, **options)

    monkeypatch.setattr(builder, "as_dataset", watched)
    evaluate_runs(pair, builder, member_weights="tuned")
    assert read == ["validation", "test"]


def test_ensembles_without_one_member(three):
    scores = three.scores["original"]
    assert list(scores) == [
        *("first", "second", "crops", "ensemble"),
        *(f"ensemble without {name}" for name in ("first", "second", "crops")),
    ]


def test_ensemble_without_one_member_has_unchanged_weights_of_the_other_members(
    pair, builder, tmp_path
):
    members = [*pair, copied(pair[1], tmp_path / "third")]
    scores = evaluate_runs(members, builder, member_weights=[2, 1, 0]).scores["original"]
    pair = evaluate_runs(pair, builder, member_weights=[2, 1]).scores["original"]["ensemble"]
    np.testing.assert_equal(scores["ensemble"], pair)
    np.testing.assert_equal(scores["ensemble without third"], pair)
    np.testing.assert_equal(scores["ensemble without second"], scores["first"])
    alone = evaluate_runs(members, builder, member_weights=[1, 0, 0]).scores["original"]
    assert "ensemble without first" not in alone  # the remaining members have weights of 0


def test_panels_are_pictures_of_the_first_images(evaluation):
    files = sorted(evaluation[1].iterdir())
    assert [file.name for file in files] == [f"train_{i:02d}.png" for i in range(2)]
    with Image.open(files[0]) as panel:
        width, height = panel.size
        # Six pictures side by side: image, ground truth, two runs, ensemble and color baseline
        assert width > 4 * height
        colors = {rgb for _, rgb in panel.convert("RGB").getcolors(width * height)}
    assert {(0, 255, 255), (255, 255, 0)} & colors


def test_one_run_without_ensemble(pair, builder):
    evaluation = evaluate_runs(pair[1:], builder, ensemble=False)
    assert list(evaluation.scores["original"]) == ["second"]
    assert {"ensemble", "member_weights"}.isdisjoint(evaluation.to_json())


def test_invalid_runs_raise(pair, builder):
    run, other = pair
    with pytest.raises(InputError, match="different names"):
        evaluate_runs([run, run], builder)
    names = tuple(f"class {i}" for i in range(7))
    classes = ClassTable(names, DEEPGLOBE_CLASSES.palette)
    with pytest.raises(InputError, match="`runs` must have the same classes"):
        check_runs([run, dataclasses.replace(other, classes=classes)])
    with pytest.raises(InputError, match="differ in their fingerprint"):
        open_dataset([run, dataclasses.replace(other, fingerprint="0" * 64)])
    with pytest.raises(InputError, match="split 'holdout' .* has no images"):
        evaluate_runs([run], builder, split="holdout")
    with pytest.raises(InputError, match="2 members needs 2 weights"):
        evaluate_runs([run, other], builder, member_weights=[1])
    with pytest.raises(InputError, match="equal, tuned, or one number.*Received: best"):
        evaluate_runs([run, other], builder, member_weights="best")
    for weights in ([1, 1], "tuned"):
        with pytest.raises(InputError, match="need `ensemble=True`"):
            evaluate_runs([run, other], builder, member_weights=weights, ensemble=False)


@pytest.mark.parametrize("name", ["member_0", "-é (1).x"])
def test_run_folders_can_have_any_name(name, pair, builder, tmp_path):
    run = copied(pair[0], tmp_path / name)
    scores = evaluate_runs([run], builder, protocols=["glnet"]).scores["glnet"]
    assert list(scores) == [name, "ensemble"]


@pytest.mark.parametrize("name", ["ensemble", "color_baseline"])
def test_run_folder_with_the_name_of_another_predictor_raises(name, pair):
    with pytest.raises(InputError, match=f"cannot be named '{name}'"):
        check_runs([dataclasses.replace(pair[0], path=pair[0].path.parent / name)])


def test_other_data_can_be_scored(pair, tiny_config):
    run = pair[0]
    with_lists = dataclasses.replace(tiny_config.data, split_files="lists", demo_count=12)
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, data=with_lists))
    assert open_dataset([run], "demo").info.metadata["fingerprint"] != run.fingerprint


def test_other_data_can_have_other_file_names(pair, tmp_path):
    run = pair[0]
    names = FileNames.parse("pictures/*.jpg", "classes/*.png")
    for i in range(4):
        write_pair(tmp_path / "raw", str(i))
        for kind, pattern in (("sat.jpg", names.images), ("mask.png", names.masks)):
            file = tmp_path / "raw" / pattern.name_of(str(i))
            file.parent.mkdir(exist_ok=True)
            (tmp_path / "raw" / f"{i}_{kind}").rename(file)
    data = str(tmp_path / "raw")
    with pytest.raises(DatasetError, match="No image with a mask"):
        open_dataset([run], data)
    patterns = {"image_glob": "pictures/*.jpg", "mask_pattern": "classes/*.png"}
    assert open_dataset([run], data, **patterns).info.splits["train"].num_examples == 2
    with pytest.raises(InputError, match="name patterns of files in `data`.*pictures/\\*.jpg"):
        open_dataset([run], **patterns)


def test_imported_run_can_be_scored_on_any_data_set(pair):
    trained = pair[1]
    imported = dataclasses.replace(pair[0], fingerprint=None)
    assert open_dataset([imported, trained]).info.metadata["fingerprint"] == trained.fingerprint
    assert open_dataset([imported], "demo").info.splits["test"].num_examples
    with pytest.raises(InputError, match="were imported.*`data`"):
        open_dataset([imported])


def test_damaged_data_set_raises(pair, damaged_data):
    run = pair[0]
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, data=damaged_data))
    builder = open_dataset([run])
    with pytest.raises(DatasetError, match="tfrecord-00002-of-00013 contains a damaged record"):
        evaluate_runs([run], builder, split="train", ensemble=False)
    (Path(builder.data_dir) / "deepglobe-train.tfrecord-00002-of-00013").unlink()
    with pytest.raises(DatasetError, match="tfrecord-00002-of-00013 does not exist"):
        open_dataset([run])


def test_fingerprint_of_an_earlier_version_is_equal(pair):
    old = dataclasses.replace(pair[0], fingerprint=pair[0].fingerprint[:64])
    assert open_dataset([pair[1], old]).info.metadata["fingerprint"] == pair[1].fingerprint
    assert open_dataset([old, pair[1]]).info.metadata["fingerprint"] == pair[1].fingerprint


def test_changed_archive_raises(pair):
    run = pair[0]
    assert open_dataset([run]).info.metadata["fingerprint"] == run.fingerprint
    with pytest.raises(InputError, match="has changed since"):
        open_dataset([dataclasses.replace(run, fingerprint="0" * 64)])


def test_original_is_the_default_protocol(pair, builder):
    assert evaluate_runs(pair[:1], builder).rules[0].protocol is ORIGINAL


def test_images_on_which_a_run_was_trained_are_refused(pair, tiny_config, tmp_path, capsys):
    data = tiny_config.data
    (archive,) = Path(data.cache_dir).glob(f"demo_{data.demo_count}x{data.demo_size}px")
    trained = prepare(archive, tmp_path / "deleted")
    run = copied(pair[0], tmp_path / "run")
    run = dataclasses.replace(run, fingerprint=trained.info.metadata["fingerprint"])
    write_training_images(run.path, trained)
    shutil.rmtree(tmp_path / "deleted")
    other_split = prepare(archive, tmp_path, seed=1)
    for split in ("test", "validation"):
        with pytest.raises(InputError, match=f"{split} images are images on which .*run was train"):
            evaluate_runs([run], other_split, split=split, ensemble=False)
    evaluate_runs([run], other_split, ensemble=False, allow_training_images=True)
    assert "warning" not in capsys.readouterr().out
    (run.path / "training_images.json").unlink()
    evaluate_runs([run], other_split, ensemble=False)
    assert "run or the data set has no checksums of images" in capsys.readouterr().out
    (run.path / "training_images.json").write_text("{}")
    with pytest.raises(InputError, match="training_images.json cannot be read"):
        evaluate_runs([run], other_split, ensemble=False)


def test_validation_images_are_refused_only_as_test_images(pair, tiny_config, tmp_path):
    data = tiny_config.data
    (archive,) = Path(data.cache_dir).glob(f"demo_{data.demo_count}x{data.demo_size}px")
    run = copied(pair[0], tmp_path / "run")
    other = prepare(archive, tmp_path, seed=1)
    for split, is_refused in (("validation", False), ("test", True)):
        images = image_checksums(Path(other.data_dir), split)
        checksums = {"train": [], "validation": [*images.values()]}
        (run.path / "training_images.json").write_text(json.dumps(checksums))
        with pytest.raises(InputError) if is_refused else contextlib.nullcontext():
            evaluate_runs([run], other, split=split, ensemble=False)
