import csv
import io

import numpy as np
import pytest

from lcc_tf.prediction.predictors import Average
from lcc_tf.scoring.ensemble_weights import TunedWeights
from lcc_tf.scoring.protocols import GLNET, OFFICIAL6, ORIGINAL, PROTOCOLS
from lcc_tf.scoring.results import Evaluation
from lcc_tf.scoring.scores import scores
from lcc_tf.scoring.tables import to_csv, to_latex, to_markdown, write_tables
from tfds_deepglobe.classes import DEEPGLOBE_CLASSES, ClassTable

NAMES = DEEPGLOBE_CLASSES.names


def evaluation(
    protocols=(ORIGINAL, OFFICIAL6, GLNET), count=8, absent=(), classes=DEEPGLOBE_CLASSES, **changes
):
    """Returns an evaluation with the scores of random confusion matrices.

    Args:
        protocols: protocols of the scores.
        count: number of images.
        absent: ids of classes that are not in the images.
        classes: names and colors of the classes.
        changes: changed fields of the evaluation.
    """
    results = {}
    num = classes.num_classes
    for protocol in protocols:
        rules, rng = protocol.for_classes(classes), np.random.default_rng(0)
        results[protocol.name] = {}
        for predictor in ("my_run", "b|c", "ensemble"):
            cells = rng.multinomial(1000, np.full(num**2, num**-2), count)
            matrices = cells.reshape(count, num, num) + 100 * np.eye(num, dtype=np.int64)
            ignored = rules.ignore_class
            hidden = [*absent] if ignored is None else [*absent, ignored]
            matrices[:, hidden] = matrices[:, :, hidden] = 0
            results[protocol.name][predictor] = scores(rules, matrices, matrices.astype(float))
    fields = {
        "split": "test",
        "num_images": count,
        "classes": classes,
        "members": ("my_run", "b|c"),
        "scores": results,
        "average": Average((3.0, 1.0), "probabilities"),
    }
    return Evaluation(**fields | changes)


def markdown_tables(text):
    """Returns the rows of each Markdown table, as lists of cells."""
    tables, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            cells = line.replace(r"\|", "\0").strip("|").split("|")
            rows.append([cell.strip().replace("\0", "|") for cell in cells])
        elif rows:
            tables.append([rows[0], *rows[2:]])
            rows = []
    return tables


def test_all_protocols_are_columns_of_one_table():
    result = evaluation()
    table = markdown_tables(to_markdown(result))[0]
    assert table[0][1:] == [
        *("original accuracy", "original F1 = precision = recall", "original IoU", "original loss"),
        *("original pixel accuracy", "original mean IoU"),
        *("official6 mean IoU", "official6 pixel accuracy"),
        *("glnet mean IoU", "glnet pixel accuracy"),
    ]
    assert [row[0] for row in table[1:]] == ["my_run", "b|c", "ensemble"]
    for row in table[1:]:
        for name in PROTOCOLS:
            values = result.scores[name][row[0]]
            low, high = values["intervals"]["mean_iou"]
            cell = row[table[0].index(f"{name} mean IoU")]
            expected = (values["mean_iou"], low, high)
            assert cell == "{:.2f} [{:.2f}, {:.2f}]".format(*(100 * x for x in expected))
        assert row[4] == f"{result.scores['original'][row[0]]['loss']:.4f}"


def test_tables_name_the_published_scores_to_compare_with():
    text = to_markdown(evaluation())
    for protocol, papers in (
        (ORIGINAL, "original PyTorch notebooks"),
        (OFFICIAL6, "arXiv 1805.06561"),
        (GLNET, "GLNet 71.6"),
    ):
        line = next(x for x in text.splitlines() if x.startswith(f"- {protocol.name} ("))
        assert papers in line
        assert f"- {protocol.name}: the published scores are for {protocol.num_images} test" in text
    ours = to_markdown(evaluation([GLNET], count=142))
    assert "GLNet 71.6" in ours
    assert "not exactly comparable" not in ours
    assert "not exactly comparable" in to_markdown(
        evaluation([GLNET], count=142, split="validation")
    )


def test_tables_contain_no_published_scores_if_classes_are_not_deepglobes():
    classes = ClassTable(("a_b", "unknown", "c"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    result = evaluation(classes=classes, count=142)
    for text in (to_markdown(result), to_latex(result)):
        assert (
            text.count("no published score, because the classes are not the classes of DeepGlobe")
            == 3
        )
        assert "71.6" not in text
        assert "the published scores are for" not in text
    for name, content in result.to_json()["protocols"].items():
        assert content["comparable_with"].startswith("no published score"), name
    reordered = ClassTable(NAMES[::-1], DEEPGLOBE_CLASSES.palette[::-1])
    assert "GLNet 71.6" in to_markdown(evaluation(classes=reordered))


def test_tables_of_many_classes_have_one_row_per_class():
    names = tuple(f"class {i}" for i in range(30))
    result = evaluation(classes=ClassTable(names, tuple((i, i, i) for i in range(30))))
    for table in markdown_tables(to_markdown(result))[1:]:
        assert table[0] == ["class", "my_run", "b|c", "ensemble"]
        assert [row[0] for row in table[1:]] == list(names)
    iou = result.scores["glnet"]["b|c"]["iou"]["class 17"]
    assert table[18][2] == f"{100 * iou:.2f}"
    assert r"\begin{tabular}{lrrr}" in to_latex(result)


def test_per_class_tables_contain_the_classes_that_the_protocol_scores():
    original, official6, glnet = markdown_tables(to_markdown(evaluation(absent=[4])))[1:]
    assert original[0][1:] == glnet[0][1:] == list(NAMES)
    assert official6[0][1:] == list(NAMES[:6])
    assert [row[5] for row in glnet] == ["water", "n/a", "n/a", "n/a"]
    assert "n/a" not in official6[1][:5]
    text = to_markdown(evaluation(absent=[4]))
    assert text.count("neither ground truth nor prediction") == 3
    assert text.count("mean IoU does not include unknown") == 1
    assert "n/a" not in to_markdown(evaluation())


def test_remarks_name_the_weights_and_the_result_of_tuning():
    assert "weights my_run 0.750, b|c 0.250" in to_markdown(evaluation())
    tuned = TunedWeights("glnet", (0.75, 0.25), 0.51234, 0.5)
    assert (
        "protocol glnet is 51.23 with the tuned weights, and 50.00 with equal weights"
        in to_markdown(evaluation(tuned=tuned))
    )
    assert "ensemble:" not in to_markdown(evaluation(average=None))


def test_remark_names_the_test_time_augmentation():
    assert "Test-time augmentation of each member: d4." in to_markdown(
        evaluation(average=None, tta="d4")
    )
    assert "augmentation" not in to_markdown(evaluation())


def test_csv_has_one_row_per_predictor():
    result = evaluation(absent=[4])
    rows = list(csv.DictReader(io.StringIO(to_csv(result))))
    assert [row["predictor"] for row in rows] == ["my_run", "b|c", "ensemble"]
    values = result.scores["glnet"]["ensemble"]
    for column, value in (
        ("glnet mean IoU (%)", 100 * values["mean_iou"]),
        ("glnet mean IoU 95 high (%)", 100 * values["intervals"]["mean_iou"][1]),
        ("glnet IoU of urban_land (%)", 100 * values["iou"]["urban_land"]),
        ("original loss", result.scores["original"]["ensemble"]["loss"]),
    ):
        assert float(rows[2][column]) == pytest.approx(value, abs=0.006)
    assert rows[0]["glnet IoU of water (%)"] == ""
    assert rows[0]["images"] == "8"


def test_latex_contains_the_escaped_cells_of_the_markdown_tables():
    result = evaluation()
    text = to_latex(result)
    for rows in markdown_tables(to_markdown(result)):
        for row in rows:
            cells = [cell.replace("_", r"\_").replace("%", r"\%") for cell in row]
            assert " & ".join(cells) + r" \\" in text
    assert text.count(r"\begin{tabular}{l") == text.count(r"\end{table}") == 4
    assert r"Scores in \%" in text
    assert r"GLNet 71.6" in text


def test_markdown_columns_are_aligned():
    lines = [line for line in to_markdown(evaluation()).splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines[:5]}) == 1


def test_tables_are_written_to_three_files(tmp_path):
    result = evaluation([ORIGINAL])
    write_tables(result, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"scores.md", "scores.csv", "scores.tex"}
    assert (tmp_path / "scores.md").read_text() == to_markdown(result)
