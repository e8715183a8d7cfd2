"""Tables 1 to 7 and section 4.1's comparison as values: the paper's rows with our errors beside them.

A table's JSON is all that its page needs. Computing one is averaging the posteriors that its rows name (section 4).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Failure
from pipeline.facts import Facts
from pipeline.files import read_json
from pipeline.grid import Row, printed, rows, scales_of, scored, single_scale
from pipeline.params import NETS, Params, Run
from pipeline.paths import errors, posteriors, summary
from vgg.errors import error, top_k

PRINTED_NETS = [net for net in NETS if net != "shallow"]


def table(name: str, params: Params, facts: Facts | None) -> dict[str, Any]:
    """The values of table `name`; `facts` may be None for Tables 1 and 2, which need no data."""
    head = {"table": name, "profile": params.profile}
    if name == "table1":
        return head | {"columns": configurations()}
    if name == "table2":
        return head | {"rows": parameter_counts()}
    if facts is None:
        raise Failure(f"{name} needs prepared data; make it with: vgg-repro prepare")
    scores = Scores(params, facts)
    found = [_row(row, scores) for row in rows(name, params)]
    values = head | {
        "k": top_k(len(facts.classes)),
        "classes": len(facts.classes),
        "images": facts.val,
        "data": facts.source,
        "manifest": facts.manifest,
        "comparable": facts.comparable and params.chosen.net.size_ratio == params.chosen.net.width_ratio == 1,
        "rows": found,
        "seed": params.chosen.train.seed if params.chosen.train else None,
        "weights": scores.weights(),
        "precision": scores.precisions(),
    }
    return values | {"published": scores.published} if scores.published else values


def configurations() -> list[dict[str, Any]]:
    """Table 1, a dict a net: its layers by block, with the FC layers and the count of weight layers."""
    from vgg.nets import blocks, weight_layers

    head = ["FC-4096", "FC-4096", "FC-1000", "soft-max"]
    return [
        {
            "net": net,
            "weight_layers": weight_layers(net),
            "blocks": [[f"conv{c.kernel}-{c.channels}" if c.kernel else "LRN" for c in block] for block in blocks(net)],
            "head": head,
        }
        for net in PRINTED_NETS
    ]


def parameter_counts() -> list[dict[str, Any]]:
    """Table 2: the paper's millions and the exact count of the full nets at 1000 classes, and the shallow net's."""
    from vgg.nets import parameters

    paper = {row["net"]: float(row["parameters_millions"]) for row in printed("table2")}
    return [{"net": net, "paper_millions": paper.get(net), "parameters": parameters(net)} for net in NETS]


class Scores:
    """The posteriors on disk of the images that `facts` tells of, of which one array at a time is in memory."""

    def __init__(self, params: Params, facts: Facts) -> None:
        self.params, self.facts = params, facts
        self.possible = set(scored(params))  # by the weights that there are or can be made
        self.published: dict[str, Any] = {}  # of the runs read so far those of published weights, with their record
        self.read: dict[tuple[str, str], str] = {}  # run and mode of the files read so far, to their weights' hash

    def has(self, run: str, mode: str) -> bool:
        """Whether the run has been scored in this mode, on these images and no others."""
        said = self._said(run, mode)
        return bool(said and said["data"] == self.facts.manifest) and posteriors(run, mode).exists()

    def _said(self, run: str, mode: str) -> Any:
        try:
            return json.loads(errors(self.params.profile, run, mode).read_text())
        except (OSError, ValueError):
            return None

    def array(self, run: str, mode: str, name: str) -> NDArray[Any]:
        """One array of a score file: `labels` (images,), or the posteriors (images, K) at a Q. Failure if broken."""
        path = posteriors(run, mode)
        try:
            with np.load(path) as arrays:  # reads an array when it is asked for
                self.read[run, mode] = str(arrays["weights"])
                found: NDArray[Any] = arrays[name]
        except (OSError, ValueError, EOFError, KeyError, BadZipFile) as reason:
            raise Failure(f"{path} cannot be read ({reason}); make it with: vgg-repro score {mode} {run}") from None
        if record := (self._said(run, mode) or {}).get("published"):
            self.published[run] = record
        return found

    def weights(self) -> dict[str, str]:
        """The runs read so far, each with the hash of the weights that were scored."""
        return {run: weights for (run, _), weights in sorted(self.read.items())}

    def precisions(self) -> dict[str, list[str]]:
        """The precisions that the nets read so far were trained and scored in, as far as they are known."""
        said = [self._said(*key) or {} for key in self.read]
        scoring = {one["precision"] for one in said if "precision" in one}
        return {"training": sorted(set(self._trained_in())), "scoring": sorted(scoring)}

    def _trained_in(self) -> Iterator[str]:
        for run, weights in self.weights().items():
            path = summary(self.params.profile, run)
            said = read_json(path, f"vgg-repro train {run}") if path.exists() else {}
            if said.get("weights_sha256") == weights and "precision" in said:
                yield said["precision"]


def average(row: Row, scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A row's posteriors (images, K) and the labels (images,): the mean over its runs, modes and test scales.

    Bit for bit `np.mean` of all arrays as float64, which adds them in the same order; Failure if their shapes differ.
    """
    sources = [
        (run, mode, str(scale)) for run, mode in row.needs() for scale in _scales(row, scores.params.runs[run], mode)
    ]
    total = scores.array(*sources[0]).astype(np.float64)
    for source in sources[1:]:
        _add(total, scores.array(*source), row)
    total /= len(sources)
    return total, scores.array(row.runs[0], row.modes[0], "labels")


def _add(total: NDArray[np.float64], array: NDArray[Any], row: Row) -> None:
    """Add an array to `total` in place; it is let go before the next one is read."""
    if array.shape != total.shape:
        raise Failure(f"the scores of {', '.join(row.runs)} are of different images; score them again")
    total += array


def _scales(row: Row, run: Run, mode: str) -> tuple[int, ...]:
    return (single_scale(run),) if row.single and mode != "centre" else scales_of(run, mode)


def _row(row: Row, scores: Scores) -> dict[str, Any]:
    """One row's values: `ours` is None where the scores are missing, and for other people's rows."""
    lacking = [need for need in row.needs() if not scores.has(*need)]
    missing = [f"vgg-repro score {mode} {run}" for run, mode in lacking if (run, mode) in scores.possible]
    values: dict[str, Any] = {
        "label": dict(row.label), "runs": list(row.runs), "paper": dict(row.paper), "ours": None, "missing": missing
    }  # fmt: skip
    if row.runs and not lacking:
        mean, labels = average(row, scores)
        k = top_k(mean.shape[1])
        values["ours"] = {"top1": error(mean, labels, 1)._asdict(), "topk": error(mean, labels, k)._asdict()}
        if published := [run for run in row.runs if run in scores.published]:
            values["published"] = published
    return values
