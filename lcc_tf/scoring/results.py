"""The result of an evaluation, and the file `metrics.json` with it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lcc_tf.files import write_atomically
from lcc_tf.prediction.predictors import Average
from lcc_tf.scoring.definitions import definitions
from lcc_tf.scoring.ensemble_weights import TunedWeights
from lcc_tf.scoring.protocols import PROTOCOLS, Protocol
from lcc_tf.scoring.scored_predictors import COLOR_BASELINE
from tfds_deepglobe.classes import ClassTable

ENSEMBLE = "ensemble"
WITHOUT = "ensemble without "  # and the name of a member


@dataclass(frozen=True)
class Evaluation:
    """Scores of several predictors on one split.

    Attributes:
        split: "train", "validation" or "test".
        num_images: of the split.
        classes: names and colours.
        members: names of the runs.
        scores: by protocol and predictor, as `lcc_tf.scoring.protocols.scores` makes them.
            Predictors are the members, and where they are wanted `ENSEMBLE`, `WITHOUT` each member,
            and `COLOR_BASELINE`.
        average: of the ensemble, with weights; None without one.
        tuned: what tuning the weights brought; None where they were given.
        tta: test-time augmentation of each member, a key of `lcc_tf.prediction.tta.TTA`.
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
    def protocols(self) -> list[Protocol]:
        """What was scored by."""
        return [PROTOCOLS[name] for name in self.scores]

    def shares(self) -> dict[str, float]:
        """The members' shares in the ensemble, with a sum of 1."""
        weights = self.average.weights
        shares = [weight / sum(weights) for weight in weights]
        return dict(zip(self.members, shares, strict=True))

    def to_json(self) -> dict:
        """The content of `metrics.json`; a score that is not defined is null."""
        contents = {protocol.name: self._protocol_json(protocol) for protocol in self.protocols}
        first = next(iter(contents.values()))
        if len(contents) == 1:
            return first
        shared = {key: first[key] for key in ("split", "num_images", "class_names")}
        return {"protocol": "all", **shared, "protocols": contents}

    def _protocol_json(self, protocol: Protocol) -> dict:
        results = _without_nan(self.scores[protocol.name])
        content = {
            "protocol": protocol.name,
            "comparable_with": protocol.comparison(self.classes.names),
            "split": self.split,
            "num_images": self.num_images,
            "class_names": list(self.classes.names),
            "tta": self.tta,
            "members": {name: results[name] for name in self.members},
        }
        explained = definitions(protocol, self.classes.names)
        explained["num_images"] = "images of the split that was scored"
        explained["tta"] = (
            "what each member's prediction is averaged over: none, flip (both mirrorings and both "
            "together) or d4 (all eight symmetries of the square)"
        )
        if self.average:
            content |= {
                "ensemble": results[ENSEMBLE],
                "average": self.average.kind,
                "member_weights": self.shares(),
                "leave_one_out": {
                    name: results[WITHOUT + name]
                    for name in self.members
                    if WITHOUT + name in results
                },
            }
            explained |= {
                "member_weights": "each member's share in the ensemble's average",
                "leave_one_out": "scores of the ensemble without the member that is named, the "
                "others' weights in proportion; of three members and more",
            }
        if self.tuned:
            content["tuning"] = asdict(self.tuned)
            explained["tuning"] = (
                "mean IoU of the ensemble on the validation split, by the protocol that is named, "
                "with the tuned weights and with equal ones"
            )
        if COLOR_BASELINE in results:
            content[COLOR_BASELINE] = results[COLOR_BASELINE]
        return content | {"definitions": explained}


def write_metrics(evaluation: Evaluation, file: Path) -> None:
    """Writes `metrics.json`."""
    text = json.dumps(evaluation.to_json(), indent=2, allow_nan=False)
    write_atomically(file, text.encode())


def _without_nan(value: object) -> object:
    """JSON has no NaN: what is not defined becomes None."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
