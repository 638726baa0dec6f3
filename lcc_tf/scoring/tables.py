"""Tables of scores: Markdown for reading, LaTeX for papers, CSV for programs.

A predictor is a network, an ensemble of networks or the color baseline. Each predictor is one row.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lcc_tf.files import write_atomically
from lcc_tf.scoring.definitions import comparison, definitions, describe
from lcc_tf.scoring.protocols import Protocol, ScoringRules
from lcc_tf.scoring.results import Evaluation
from tfds_deepglobe.classes import UNKNOWN

# Names of scores in column titles
LABELS = {
    "accuracy": "accuracy",
    "f1": "F1 = precision = recall",
    "image_iou": "IoU",
    "loss": "loss",
    "pixel_accuracy": "pixel accuracy",
    "mean_iou": "mean IoU",
}
WITH_INTERVAL = "mean_iou"  # score whose interval is in the Markdown and LaTeX tables
# Maximum number of classes in a table with one column per class. If there are more classes, the
# table has one row per class.
MAX_CLASS_COLUMNS = 10


@dataclass(frozen=True)
class Table:
    """A table: a header, rows of cells, a caption and remarks."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    remarks: Sequence[str]


def write_tables(evaluation: Evaluation, folder: Path) -> None:
    """Writes `scores.md`, `scores.csv` and `scores.tex`."""
    for name, render in (
        ("scores.md", to_markdown),
        ("scores.csv", to_csv),
        ("scores.tex", to_latex),
    ):
        write_atomically(folder / name, render(evaluation).encode())


def to_markdown(evaluation: Evaluation) -> str:
    """Formats all tables as Markdown, with the definitions of their scores."""
    lines = []
    for table in _tables(evaluation):
        lines += [table.caption, "", *_pipes(table.header, table.rows), ""]
        lines += [f"- {remark}" for remark in table.remarks]
        lines.append("")
    lines += ["Definitions of the scores:", ""]
    for protocol, sentences in [(rules.protocol, definitions(rules)) for rules in evaluation.rules]:
        lines += [f"- {protocol.name} {LABELS[key]}: {sentences[key]}" for key in protocol.columns]
    return "\n".join(lines) + "\n"


def to_latex(evaluation: Evaluation) -> str:
    r"""Formats all tables as LaTeX `table` environments, which need `\usepackage{booktabs}`."""
    lines = []
    for table in _tables(evaluation):
        caption = _latex_text(" ".join([table.caption, *table.remarks]))
        lines += [
            r"\begin{table}",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"\toprule",
            _latex_row(table.header),
            r"\midrule",
            *(_latex_row(row) for row in table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    return "\n".join(lines)


def to_csv(evaluation: Evaluation) -> str:
    """Formats all scores as CSV, with one row per predictor; undefined scores are empty cells."""
    rows = []
    for predictor in _predictors(evaluation):
        row = {
            "predictor": predictor,
            "split": evaluation.split,
            "images": str(evaluation.num_images),
        }
        for protocol in _protocols(evaluation):
            scores = evaluation.scores[protocol.name][predictor]
            for key in protocol.columns:
                title = f"{protocol.name} {LABELS[key]}"
                row[_with_unit(title, key)] = _number(scores[key], key)
                if key in scores["intervals"]:
                    for end, value in zip(("low", "high"), scores["intervals"][key], strict=True):
                        row[_with_unit(f"{title} 95 {end}", key)] = _number(value, key)
            for name, value in scores["iou"].items():
                row[_with_unit(f"{protocol.name} IoU of {name}", "iou")] = _number(value, "iou")
        rows.append({title: "" if cell == "n/a" else cell for title, cell in row.items()})
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _predictors(evaluation: Evaluation) -> list[str]:
    return list(next(iter(evaluation.scores.values())))


def _protocols(evaluation: Evaluation) -> list[Protocol]:
    return [rules.protocol for rules in evaluation.rules]


def _tables(evaluation: Evaluation) -> list[Table]:
    columns = [(protocol, key) for protocol in _protocols(evaluation) for key in protocol.columns]
    rows = [
        [predictor] + [_score(evaluation.scores[p.name][predictor], key) for p, key in columns]
        for predictor in _predictors(evaluation)
    ]
    remarks = [
        text for rules in evaluation.rules for text in _comparison_remarks(evaluation, rules)
    ]
    scores = Table(
        f"Split {evaluation.split}, {evaluation.num_images} images. Scores in %, loss in [0, 1]. "
        "Brackets: 95 % interval of the mean IoU, from a bootstrap over images.",
        ["predictor", *(f"{protocol.name} {LABELS[key]}" for protocol, key in columns)],
        rows,
        remarks + _prediction_remarks(evaluation),
    )
    return [scores, *(_class_table(evaluation, rules) for rules in evaluation.rules)]


def _comparison_remarks(evaluation: Evaluation, rules: ScoringRules) -> list[str]:
    """Returns a line that names the comparable published scores.

    If the published scores are for other images, a second line warns about the difference.
    """
    protocol, published = rules.protocol, comparison(rules)
    remarks = [f"{protocol.name} ({describe(rules)}): compare with {published}."]
    if published != protocol.comparable_with:
        return remarks
    if (evaluation.split, evaluation.num_images) != ("test", protocol.num_images):
        remarks.append(
            f"{protocol.name}: the published scores are for {protocol.num_images} test images, but "
            f"the scores in this table are for {evaluation.num_images} images of the split "
            f"{evaluation.split}. Therefore the scores are not exactly comparable."
        )
    return remarks


def _prediction_remarks(evaluation: Evaluation) -> list[str]:
    remarks = []
    if evaluation.tta != "none":
        remarks.append(f"Test-time augmentation of each member: {evaluation.tta}.")
    if not evaluation.average:
        return remarks
    weights = [f"{name} {weight:.3f}" for name, weight in evaluation.member_weights().items()]
    remarks.append(
        f"ensemble: average of {evaluation.average.kind} with the weights {', '.join(weights)}."
    )
    if tuned := evaluation.tuned:
        remarks.append(
            "The weights were tuned on the validation split. The mean IoU on this split with "
            f"protocol {tuned.protocol} is {100 * tuned.mean_iou:.2f} with the tuned weights, and "
            f"{100 * tuned.equal_mean_iou:.2f} with equal weights."
        )
    return remarks


def _class_table(evaluation: Evaluation, rules: ScoringRules) -> Table:
    protocol = rules.protocol
    shown = [rules.class_names[i] for i in rules.predicted]
    rows = [["predictor", *shown]] + [
        [predictor, *(_number(scores["iou"][name], "iou") for name in shown)]
        for predictor, scores in evaluation.scores[protocol.name].items()
    ]
    if len(shown) > MAX_CLASS_COLUMNS:
        rows = [list(column) for column in zip(*rows, strict=True)]
        rows[0][0] = "class"
    header, *rows = rows
    remarks = []
    if len(shown) > len(rules.averaged):
        remarks.append(f"The mean IoU does not include {UNKNOWN}.")
    if any("n/a" in row for row in rows):
        remarks.append(
            "n/a: neither ground truth nor prediction contains the class. The mean IoU does not "
            "include this class."
        )
    return Table(f"IoU of each class in %, protocol {protocol.name}.", header, rows, remarks)


def _score(scores: dict, key: str) -> str:
    text = _number(scores[key], key)
    low, high = scores["intervals"].get(key, (math.nan, math.nan))
    if key != WITH_INTERVAL or math.isnan(low):
        return text
    return f"{text} [{_number(low, key)}, {_number(high, key)}]"


def _number(value: float, key: str) -> str:
    if math.isnan(value):
        return "n/a"
    return f"{value:.4f}" if key == "loss" else f"{100 * value:.2f}"


def _with_unit(title: str, key: str) -> str:
    return title if key == "loss" else f"{title} (%)"


def _pipes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a Markdown table with aligned columns."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        " | ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    rule = "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths))
    return [f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])]


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(_latex_text(cell) for cell in cells) + r" \\"


def _latex_text(text: str) -> str:
    escapes = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    escapes |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(escapes.get(character, character) for character in text)
