"""Claims about other data sets: from the scores of SVMs to the ledger's rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.experiment.claims import CLAIMS
from pipeline.experiment.other_sets import PROTOCOLS
from pipeline.experiment.paths import DataSet, resampled
from pipeline.results.claims import Outcomes, ledger, read_outcomes
from pipeline.results.resampled import (
    NO_SETS,
    TIMES,
    ResampledRow,
    ResampledSet,
    ResampledSets,
    compare_resampled,
    read_resampled,
)
from pipeline.system.atomic_files import write_json

HOW = {"averaging": ("stack", "average"), "stacking": ("average", "stack")}


def of(source: str, splits: int = 1) -> ResampledSet:
    """Return a data set of 240 images that is named as its source."""
    return ResampledSet(source, source, f"images of {source}", "", 240, splits)


def rows_of(source: str, rng: np.random.Generator, gain: float, noise: float = 1.0) -> dict[str, ResampledRow]:
    """Return both rows of each net's descriptors; those of the paper's aggregation are better by `gain` points."""
    protocol, rows = PROTOCOLS[source], {}
    shared = rng.normal(0, 5, TIMES)
    for net in "DE":
        for how in ("average", "stack"):
            value = 60.0 + gain * (how == protocol.aggregate)
            rows[f"{protocol.title}, {net}, {how}"] = ResampledRow(value, value + shared + rng.normal(0, noise, TIMES))
    return rows


def entry(name: str, sets: ResampledSets, sources: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the ledger's row of a claim."""
    values = ledger(Outcomes({}, sets, sources), 1.0)
    (found,) = (claim for claim in values["claims"] if claim["name"] == name)
    return dict(found)


def test_the_effect_is_the_gain_and_its_interval_that_of_paired_resamples(rng: np.random.Generator) -> None:
    found = entry("stacking", ResampledSets(rows_of("few-shot", rng, 3.0), [of("few-shot", 3)]))
    assert found["effect"] == pytest.approx(3.0)
    deviation = 1.0  # of a net: sqrt(2); of the mean of two nets: 1; what both sides share cancels
    assert (found["low"], found["high"]) == pytest.approx((3 - 1.96 * deviation, 3 + 1.96 * deviation), abs=0.15)
    assert found["verdict"] == "supported" and found["counts"] == "images and splits"
    assert found["statistic"] == "mean class recall: drawn few-shot classes"
    assert (found["gained"], found["lost"], found["paper"]) == (None, None, None)
    assert found["p"] == pytest.approx(2 * (1 + found_below(rng)) / (TIMES + 1), abs=0.01)


def found_below(rng: np.random.Generator) -> int:
    """Return how many of as many normal numbers of mean 3 are below 0."""
    return int((rng.normal(3.0, 1.0, TIMES) < 0).sum())


@pytest.mark.parametrize(
    ("gain", "noise", "wanted"),
    [(0.0, 0.2, "supported"), (3.0, 0.2, "contradicted"), (-3.0, 0.2, "contradicted"), (0.0, 3.0, "undecided")],
)
def test_about_equal_is_within_the_margin_on_both_sides(
    gain: float, noise: float, wanted: str, rng: np.random.Generator
) -> None:
    found = entry("averaging", ResampledSets(rows_of("scenes", rng, gain, noise), [of("scenes")]))
    assert found["verdict"] == wanted and found["counts"] == "images only"


@pytest.mark.parametrize(("gain", "wanted"), [(4.0, "supported"), (-4.0, "contradicted"), (0.3, "undecided")])
def test_better_needs_an_interval_beyond_0(gain: float, wanted: str, rng: np.random.Generator) -> None:
    assert entry("stacking", ResampledSets(rows_of("few-shot", rng, gain), [of("few-shot", 3)]))["verdict"] == wanted


def test_the_papers_sets_are_used_if_they_are_run_and_the_mean_is_over_both(rng: np.random.Generator) -> None:
    gains = {"few-shot": 9.0, "caltech101": 1.0, "caltech256": 3.0}
    drawn, first, second = (rows_of(name, rng, gain) for name, gain in gains.items())
    sets = [of(name, 3) for name in gains]
    found = entry("stacking", ResampledSets(drawn | first | second, sets))
    assert found["effect"] == pytest.approx(2.0) and (found["pairs_run"], found["pairs"]) == (4, 4)
    assert found["statistic"] == "mean class recall: Caltech-101, Caltech-256"
    part = entry("stacking", ResampledSets(drawn | first, sets))
    assert part["effect"] == pytest.approx(1.0) and (part["pairs_run"], part["pairs"]) == (2, 4)
    assert part["missing"] == ["table11"] and part["to_run"] == "dvc repro resampled"


def test_without_a_set_the_row_says_how_to_add_one() -> None:
    for name, source in (("averaging", "voc2007"), ("stacking", "caltech101"), ("image-and-box", "actions")):
        found = entry(name, NO_SETS)
        assert (found["verdict"], found["to_run"]) == ("not run", f"vgg-repro prepare {source} --path FOLDER")
    assert entry("averaging", NO_SETS, ("voc2012",))["to_run"] == "dvc repro resampled"
    assert entry("averaging", NO_SETS, ("caltech101",))["to_run"] == "vgg-repro prepare voc2007 --path FOLDER"


def test_the_bias_of_resampled_measures_does_not_move_the_interval() -> None:
    """The AP of a poor ranking is larger in resamples, that of a good one is not."""
    noise = np.linspace(-2, 2, TIMES)
    found = compare_resampled(
        [(ResampledRow(30.0, 33.0 + noise), ResampledRow(98.0, 98.0 + np.zeros(TIMES)))], [of("boxed")]
    )
    assert (found.low + found.high) / 2 == pytest.approx(found.effect) == pytest.approx(68.0)


def test_rows_are_read_as_they_were_written_but_not_those_of_other_images(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = resampled("mini")
    written = ResampledSets(rows_of("scenes", rng, 1.0) | rows_of("few-shot", rng, 2.0), [of("scenes"), of("few-shot")])
    written.write(path)
    first = path.read_bytes()
    written.write(path)
    assert path.read_bytes() == first and len(first) < 4 * 9 * TIMES
    read = read_resampled("mini")
    assert read.sets == written.sets and list(read.rows) == list(written.rows)
    for name, row in written.rows.items():
        assert read.rows[name].value == row.value
        assert read.rows[name].resampled == pytest.approx(row.resampled, abs=1e-4)
    write_json(DataSet("scenes").facts("mini"), {"manifest": "other images"})
    verdicts = {claim["name"]: claim["verdict"] for claim in ledger(read_outcomes("mini"), 1.0)["claims"]}
    assert verdicts["averaging"] == "not run" != verdicts["stacking"]


def test_an_empty_file_has_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    NO_SETS.write(resampled("mini"))
    assert read_resampled("mini") == ResampledSets({}, [])
    assert sum(claim.sets != () for claim in CLAIMS) == 3
