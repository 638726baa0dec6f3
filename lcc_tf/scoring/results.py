"""Result of an evaluation, and the file `metrics.json`.

A predictor is a network, an ensemble of networks or the color baseline. The members of an ensemble
are its networks.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lcc_tf.files import write_atomically
from lcc_tf.prediction.predictors import Average
from lcc_tf.scoring.definitions import comparison, definitions
from lcc_tf.scoring.ensemble_weights import MAX_PIXELS, TunedWeights
from lcc_tf.scoring.protocols import ScoringRules, scoring_rules
from lcc_tf.scoring.scored_predictors import COLOR_BASELINE, ENSEMBLE, WITHOUT
from tfds_deepglobe.classes import ClassTable


@dataclass(frozen=True)
class Evaluation:
    """Scores of several predictors on one split.

    Attributes:
        split: name of the split, such as "test".
        num_images: number of scored images.
        classes: names and colors of the classes.
        members: names of the scored runs or models.
        scores: dictionary whose item `scores[protocol][predictor]` is a result of
            `lcc_tf.scoring.scores.scores`. `protocol` is the name of a protocol. `predictor` is the
            name of a member, `ENSEMBLE`, `WITHOUT` + the name of a member, or `COLOR_BASELINE`.
        average: the average that the ensemble computes, with its weights; None if there is no
            ensemble.
        tuned: result of tuning the weights; None if the weights were not tuned.
        tta: test-time augmentation of each member, a key of `lcc_tf.prediction.tta.TTA`.

    See the example of `lcc_tf.evaluate`.
    """

    split: str
    num_images: int
    classes: ClassTable
    members: tuple[str, ...]
    scores: dict[str, dict[str, dict]]
    average: Average | None = None
    tuned: TunedWeights | None = None
    tta: str = "none"

    @property
    def rules(self) -> list[ScoringRules]:
        """Scoring rules of each protocol."""
        return scoring_rules(list(self.scores), self.classes)

    def member_weights(self) -> dict[str, float]:
        """Returns the weight of each member in the ensemble; the weights have a sum of 1."""
        weights = self.average.weights
        fractions = [weight / sum(weights) for weight in weights]
        return dict(zip(self.members, fractions, strict=True))

    def to_json(self) -> dict:
        """Returns the content of `metrics.json`, in which an undefined score is None."""
        contents = {rules.protocol.name: self._protocol_json(rules) for rules in self.rules}
        first = next(iter(contents.values()))
        if len(contents) == 1:
            return first
        shared = {key: first[key] for key in ("split", "num_images", "class_names")}
        return {"protocol": "all", **shared, "protocols": contents}

    def _protocol_json(self, rules: ScoringRules) -> dict:
        results = _without_nan(self.scores[rules.protocol.name])
        content = {
            "protocol": rules.protocol.name,
            "comparable_with": comparison(rules),
            "split": self.split,
            "num_images": self.num_images,
            "class_names": list(self.classes.names),
            "tta": self.tta,
            "members": {name: results[name] for name in self.members},
        }
        sentences = definitions(rules)
        sentences["num_images"] = "number of scored images"
        sentences["tta"] = (
            "test-time augmentation of each member: none, flip (mean over 4 flipped images) or d4 "
            "(mean over 8 rotated and flipped images)"
        )
        if self.average:
            content |= {
                "ensemble": results[ENSEMBLE],
                "average": self.average.kind,
                "member_weights": self.member_weights(),
                "leave_one_out": {
                    name: results[WITHOUT + name]
                    for name in self.members
                    if WITHOUT + name in results
                },
            }
            sentences |= {
                "member_weights": "weight of each member in the ensemble; the weights sum to 1",
                "leave_one_out": "scores of the ensemble without one member. The key is the name "
                "of the removed member. The weights of the remaining members keep their ratios. "
                "Empty if the ensemble has fewer than three members",
            }
        if self.tuned:
            content["tuning"] = asdict(self.tuned)
            sentences["tuning"] = (
                "result of tuning the weights on the validation split. mean_iou: mean IoU of the "
                "ensemble with the tuned weights. equal_mean_iou: mean IoU with equal weights. "
                f"Both use the protocol in `tuning`, and at most {MAX_PIXELS} pixels per image"
            )
        if COLOR_BASELINE in results:
            content[COLOR_BASELINE] = results[COLOR_BASELINE]
        return content | {"definitions": sentences}


def write_metrics(evaluation: Evaluation, file: Path) -> None:
    """Writes `metrics.json`."""
    text = json.dumps(evaluation.to_json(), indent=2, allow_nan=False)
    write_atomically(file, text.encode())


def _without_nan(value: object) -> object:
    """Replaces NaN with None, because JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
