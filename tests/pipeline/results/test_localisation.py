"""Tables 8 to 10 from boxes on disk: errors, the threshold of training images, excluded images, other localisers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.datasets.manifest import COLUMNS
from pipeline.errors import Failure
from pipeline.experiment import paper_tables
from pipeline.experiment.modes import CENTRE_BOXES, WINDOWS
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, metrics, posteriors, table, threshold
from pipeline.experiment.validation import load
from pipeline.results.localisation import chosen_thresholds
from pipeline.results.metrics import write_metrics
from pipeline.results.scores import Scores
from pipeline.results.tables import compute_table
from pipeline.system.atomic_files import write_json
from reports.markdown import markdown
from reports.table_pages import table_section
from tests.support import ROOT
from tests.support.boxes import IMAGES, moved, truth_of, write, write_windows
from tests.support.tables import FACTS
from vgg.localise import merged_boxes

K = 5


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The repository's parameters, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return load(ROOT / "params.yaml")


def test_table_8_is_the_share_of_images_whose_box_is_wrong(params: Params) -> None:
    right = {"SCR-384-fc": 10, "PCR-384-fc": 20, "PCR-384": 30}
    for name, count in right.items():
        write(params, name, CENTRE_BOXES, **truth_of(IMAGES), boxes=moved(IMAGES, count))
    values, ranks = compute_table("table8", params, FACTS)
    assert [row["ours"]["top1"]["wrong"] for row in values["rows"]] == [IMAGES - count for count in right.values()]
    assert [row["paper"]["top1_val"] for row in values["rows"]] == [36.4, 34.3, 33.1]
    assert ranks is not None
    assert (ranks.rows["all, PCR"] == 0).sum() == 30 and len(ranks.rows["all, PCR"]) == IMAGES
    text = markdown(table_section(values, {}))
    assert "an overlap of at least 0.5" in text and "| all                 | PCR          |    33.1 | 25.0" in text


def test_exactly_a_half_is_right_unless_the_profile_says_above(params: Params) -> None:
    half = np.tile([100.0, 100, 199, 149], (IMAGES, 1)).astype(np.float32)
    write(params, "PCR-384", CENTRE_BOXES, **truth_of(IMAGES), boxes=half)
    wrong = []
    for above in (False, True):
        profile = params.active
        profile = profile.model_copy(update={"localise": profile.localising.model_copy(update={"above": above})})
        values = compute_table("table8", params.model_copy(update={"profiles": {"mini": profile}}), FACTS).values
        wrong.append(values["rows"][2]["ours"]["top1"]["wrong"])
        assert ("above 0.5" in markdown(table_section(values, {}))) == above
    assert wrong == [0, IMAGES]


def test_images_without_true_boxes_and_excluded_ones_do_not_count(params: Params) -> None:
    write(params, "PCR-384", CENTRE_BOXES, **truth_of(IMAGES, without=2), boxes=moved(IMAGES, 10))
    assert compute_table("table8", params, FACTS).values["images"] == IMAGES - 2
    CLASSIFICATION.manifest.parent.mkdir(parents=True)
    ids = [f"val/ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, IMAGES + 1)]
    lines = [COLUMNS, *(("val", id, *[""] * (len(COLUMNS) - 2)) for id in ids)]
    CLASSIFICATION.manifest.write_text("".join(f"{','.join(line)}\n" for line in lines))
    Path("list.txt").write_text("4\nILSVRC2012_val_00000011\n12\n")

    def with_list(path: str) -> Params:
        profile = params.active
        localise = profile.localising.model_copy(update={"excluded": path})
        return params.model_copy(update={"profiles": {"mini": profile.model_copy(update={"localise": localise})}})

    values, ranks = compute_table("table8", with_list("list.txt"), FACTS)
    assert values["images"] == IMAGES - 2 - 3 and ranks is not None and len(ranks.rows["all, PCR"]) == IMAGES - 5
    assert values["rows"][2]["ours"]["top1"]["wrong"] == IMAGES - 10 - 2  # the eleventh and the twelfth were wrong
    Path("list.txt").write_text("4 99")
    with pytest.raises(Failure, match="excludes 99, which is not among"):
        compute_table("table8", with_list("list.txt"), FACTS)
    with pytest.raises(Failure, match=r"other\.txt, the list of excluded images, cannot be read"):
        compute_table("table8", with_list("other.txt"), FACTS)


def slow_wrong(parts: list[tuple[np.ndarray, np.ndarray]], classes: np.ndarray, value: float, guesses: int) -> int:
    """The images without a right guess: class 3, and a merged box that overlaps the true one by half."""
    boxes, wrong, true = merged_boxes(parts, value), 0, np.array([100.0, 100, 199, 199])
    for image, order in enumerate(classes):
        hit = False
        for place, label in list(enumerate(order))[:guesses]:
            low, high = np.maximum(boxes[image, place, :2], true[:2]), np.minimum(boxes[image, place, 2:], true[2:])
            common = np.prod(np.maximum(high - low + 1, 0))
            areas = [np.prod(box[2:] - box[:2] + 1) for box in (boxes[image, place], true)]
            hit |= label == 3 and common / (sum(areas) - common) >= 0.5
        wrong += not hit
    return wrong


def test_table_9_merges_the_union_of_windows_at_the_threshold_of_training_images(params: Params) -> None:
    random = np.random.default_rng(13)
    for name in params.windows:
        write_windows(params, name, random)
    assert [row["missing"] for row in compute_table("table9", params, FACTS).values["rows"]] == [
        ["dvc repro threshold"]
    ] * 4
    chosen = chosen_thresholds(params, Scores(params, FACTS))
    write_json(threshold(), chosen)
    values = compute_table("table9", params, FACTS).values
    seen = set()
    for row, entry in zip(paper_tables.rows("table9", params), values["rows"], strict=True):
        arrays = {name: dict(np.load(posteriors(name, WINDOWS))) for name in row.runs}
        names = [(name, str(scale)) for name, scales in row.scales.items() for scale in scales]
        trained = [(arrays[name][f"train-{q}"], arrays[name][f"train-{q}-counts"]) for name, q in names]
        wrong = {t: slow_wrong(trained, np.full((12, 1), 3), t, 1) for t in params.active.localising.thresholds}
        record = chosen["rows"][row.parts_key]
        assert record["errors"] == {f"{t:g}": pytest.approx(100 * count / 12) for t, count in wrong.items()}
        best = next(t for t, count in wrong.items() if count == min(wrong.values()))
        assert record["threshold"] == best
        seen.add(best)
        parts = [(arrays[name][q], arrays[name][f"{q}-counts"]) for name, q in names]
        classes = arrays[row.runs[0]]["classes"]
        for measure, count in (("top1", 1), ("topk", K)):
            assert entry["ours"][measure]["wrong"] == slow_wrong(parts, classes, best, count), (row.key, measure)
    assert 0 < values["rows"][0]["ours"]["topk"]["wrong"] < IMAGES
    last = compute_table("table10", params, FACTS).values["rows"]
    assert last[0]["ours"] == values["rows"][-1]["ours"] and [row["ours"] for row in last[1:]] == [None] * 3
    assert "Thresholds of merging, chosen on 300" in markdown(table_section(values, {}))


def test_each_row_has_a_metric_of_its_own(params: Params) -> None:
    for name in params.windows:
        write_windows(params, name, np.random.default_rng(15))
    write_json(threshold(), chosen_thresholds(params, Scores(params, FACTS)))
    for name in paper_tables.LOCALISATION:
        write_json(table(params.profile, name), compute_table(name, params, FACTS).values)
    write_metrics(params.profile)
    written = json.loads(metrics(params.profile).read_text())
    rows = ["256, 256", "384, 384", "384, 352 384", "fusion, 256/256 and 384/352 384"]
    assert {name: list(written[name]) for name in ("table9", "table10")} == {"table9": rows, "table10": ["VGG"]}


def test_a_profile_without_localisation_shows_its_rows_as_not_run(params: Params) -> None:
    profile = params.active.model_copy(update={"localise": None})
    values = compute_table("table9", params.model_copy(update={"profiles": {"mini": profile}}), FACTS).values
    assert "26.9" in markdown(table_section(values, {})) and all(row["ours"] is None for row in values["rows"])


def test_a_threshold_of_other_images_is_not_used(params: Params) -> None:
    for name in params.windows:
        write_windows(params, name, np.random.default_rng(14))
    chosen = chosen_thresholds(params, Scores(params, FACTS))
    write_json(threshold(), chosen | {"data": "other images"})
    assert all(row["ours"] is None for row in compute_table("table9", params, FACTS).values["rows"])
    write_json(threshold(), chosen)
    other = compute_table("table9", params, replace(FACTS, manifest="other")).values
    assert other["rows"][0]["missing"] == ["dvc repro windows@PCR-256"]


def test_localisers_of_other_runs_than_the_papers_are_named(params: Params) -> None:
    row = params.localisers["PCR-384"].model_copy(update={"run": "D-jitter"})
    other = params.model_copy(update={"localisers": {**params.localisers, "PCR-384": row}})
    write(params, "PCR-384", CENTRE_BOXES, **truth_of(IMAGES), boxes=moved(IMAGES, 30))
    plain, changed = (markdown(table_section(compute_table("table8", p, FACTS).values, {})) for p in (params, other))
    assert "starts from" not in plain
    assert "PCR-384 starts from D-jitter (net D, S = 256-512); the paper: a net D of the same S." in changed


def test_the_localisers_of_the_tables_are_asked_for_by_name(params: Params, tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    path = tmp_path / "params.yaml"
    for change, words in (
        (lambda v: v["localisers"].pop("PCR-384-fc"), "has no localiser PCR-384-fc"),
        (lambda v: v["localisers"]["PCR-384"].update(layers="fc"), "layers: all under the name PCR-384"),
    ):
        edited = yaml.safe_load(yaml.safe_dump(values))
        change(edited)
        path.write_text(yaml.safe_dump(edited))
        with pytest.raises(Failure, match=words):
            paper_tables.rows("table8", load(path))
    values["windows"]["PCR-384"]["scales"] = [384]
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(Failure, match="Table 9 needs PCR-384 at Q = 352, 384"):
        paper_tables.rows("table9", load(path))
