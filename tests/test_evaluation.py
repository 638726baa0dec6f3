import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from lcc_tf.checkpoints import find_runs, load_model, read_run
from lcc_tf.data.pipeline import evaluation_batches
from lcc_tf.evaluation import DEFINITIONS, evaluate, format_table, open_dataset, write_metrics
from lcc_tf.losses import Dice
from tfds_deepglobe.errors import InputError


@pytest.fixture(scope="module")
def evaluation(runs, builder, tmp_path_factory):
    panels = tmp_path_factory.mktemp("panels")
    return evaluate(
        find_runs(runs),
        builder,
        split="train",
        member_weights=[3, 1],
        with_color_baseline=True,
        panels=panels,
    ), panels


@pytest.fixture(scope="module")
def examples(builder):
    batches = list(
        evaluation_batches(builder, "train", image_size=64, batch_size=7).as_numpy_iterator()
    )
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def slow_scores(masks, predictions):
    """The scores by their definitions, without a confusion matrix."""
    ious = {}
    for k in range(7):
        union = ((masks == k) | (predictions == k)).sum()
        if union:
            ious[k] = ((masks == k) & (predictions == k)).sum() / union
    right = (masks == predictions).mean(axis=(1, 2))
    wrong = 1 - right
    return {
        "pixel_accuracy": right.mean(),
        "mean_iou": np.mean(list(ious.values())),
        "accuracy": np.mean(1 - 2 * wrong / 7),
        "f1": right.mean(),
        "precision": right.mean(),
        "recall": right.mean(),
        "image_iou": np.mean(right / (right + 2 * wrong)),
    }


@pytest.mark.parametrize("name", ["unetpp", "deeplabv3plus", "ensemble"])
def test_scores_are_those_of_the_predictions(evaluation, examples, runs, name):
    images, masks = examples
    p = {
        member: tf.nn.softmax(load_model(read_run(runs / member)).predict(images, verbose=0))
        for member in ("deeplabv3plus", "unetpp")
    }
    p["ensemble"] = 0.75 * p["deeplabv3plus"] + 0.25 * p["unetpp"]
    scores = evaluation[0].scores[name]
    for key, value in slow_scores(masks, np.argmax(p[name], -1)).items():
        assert scores[key] == pytest.approx(value, abs=1e-9), key
    assert np.sum(scores["confusion_matrix"]) == masks.size
    losses = [
        float(Dice()(masks[i : i + 7], np.log(p[name][i : i + 7]))) * len(masks[i : i + 7])
        for i in range(0, len(masks), 7)
    ]
    assert scores["loss"] == pytest.approx(sum(losses) / len(masks), abs=1e-5)


def test_metrics_file(evaluation, tmp_path):
    write_metrics(evaluation[0], tmp_path / "metrics.json")
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["protocol"] == "seed"
    assert content["split"] == "train"
    assert content["num_images"] == 13
    assert list(content["members"]) == ["deeplabv3plus", "unetpp"]
    assert content["member_weights"] == {"deeplabv3plus": 0.75, "unetpp": 0.25}
    for scores in (*content["members"].values(), content["ensemble"], content["color_baseline"]):
        assert set(scores) == set(DEFINITIONS)
        assert len(scores["iou"]) == 7
    assert set(content["definitions"]) == set(DEFINITIONS)


def test_absent_class_is_null_in_the_file_and_na_in_the_table(evaluation, tmp_path):
    scores = dict(evaluation[0].scores)
    scores["unetpp"] = scores["unetpp"] | {"iou": scores["unetpp"]["iou"] | {"water": np.nan}}
    changed = dataclasses.replace(evaluation[0], scores=scores)
    write_metrics(changed, tmp_path / "metrics.json")
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["members"]["unetpp"]["iou"]["water"] is None
    rows = format_table(changed).splitlines()
    assert "n/a" in next(row for row in rows[7:] if row.startswith("unetpp"))


def test_table_has_the_originals_columns_and_definitions(evaluation):
    table = format_table(evaluation[0])
    header = table.splitlines()[2]
    positions = [header.index(x) for x in ("accuracy", "F1 = precision = recall", "IoU", "loss")]
    assert positions == sorted(positions)
    for name in ("unetpp", "deeplabv3plus", "ensemble", "color_baseline"):
        assert f"\n{name} " in table
    assert DEFINITIONS["image_iou"] in table


def test_panels_are_pictures_of_the_first_images(evaluation):
    files = sorted(evaluation[1].iterdir())
    assert [file.name for file in files] == [f"train_{i:02d}.png" for i in range(6)]
    with Image.open(files[0]) as panel:
        width, height = panel.size
        # Image, truth, two members, ensemble, baseline side by side.
        assert width > 4 * height
        colors = {rgb for _, rgb in panel.convert("RGB").getcolors(width * height)}
    assert {(0, 255, 255), (255, 255, 0)} & colors


def test_one_run_without_ensemble(runs, builder):
    evaluation = evaluate([read_run(runs / "unetpp")], builder, with_ensemble=False)
    assert list(evaluation.scores) == ["unetpp"]
    assert "ensemble" not in evaluation.to_json()


def test_runs_that_do_not_go_together(runs, builder):
    run, other = find_runs(runs)
    larger = dataclasses.replace(other, config=dataclasses.replace(other.config, image_size=96))
    with pytest.raises(InputError, match="different image sizes.*64.*96"):
        evaluate([run, larger], builder)
    with pytest.raises(InputError, match="same name"):
        evaluate([run, run], builder)
    with pytest.raises(InputError, match="differ in their fingerprint"):
        open_dataset([run, dataclasses.replace(other, fingerprint="0" * 64)])
    with pytest.raises(InputError, match="no images in its split 'holdout'"):
        evaluate([run], builder, split="holdout")
    with pytest.raises(InputError, match="2 members needs 2 weights"):
        evaluate([run, other], builder, member_weights=[1])
    with pytest.raises(InputError, match="with `--ensemble` alone"):
        evaluate([run, other], builder, member_weights=[1, 1], with_ensemble=False)


@pytest.mark.parametrize("name", ["my run (1)", "image", "member_0", "-é.x"])
def test_run_folders_may_have_any_name(name, runs, builder, tmp_path):
    shutil.copytree(runs / "unetpp", tmp_path / name)
    run = read_run(tmp_path / name)
    assert list(evaluate([run], builder, with_ensemble=True).scores) == [name, "ensemble"]


def test_other_data_may_be_scored(runs, tiny_config):
    run = read_run(runs / "unetpp")
    trained_by_lists = dataclasses.replace(tiny_config.data, split_files="lists", demo_count=12)
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, data=trained_by_lists))
    assert open_dataset([run], "demo").info.metadata["fingerprint"] != run.fingerprint


def test_changed_archive_is_refused(runs):
    run = read_run(runs / "unetpp")
    assert open_dataset([run]).info.metadata["fingerprint"] == run.fingerprint
    with pytest.raises(InputError, match="has changed since"):
        open_dataset([dataclasses.replace(run, fingerprint="0" * 64)])
