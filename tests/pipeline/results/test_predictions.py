"""The file for the evaluation server: order, numbers, boxes, and what prevents it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.datasets.manifest import COLUMNS
from pipeline.datasets.sources.ilsvrc.layout import Layout
from pipeline.errors import Failure
from pipeline.experiment.paper_tables import GUESSING
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, errors, posteriors, threshold
from pipeline.experiment.validation import load
from pipeline.results import predictions
from pipeline.results.localisation import chosen_thresholds, located
from pipeline.results.predictions import read_predictions, write_predictions
from pipeline.results.scores import Scores
from pipeline.results.tables import compute_table
from pipeline.system.atomic_files import write_json
from tests.support import ROOT
from tests.support.boxes import IMAGES, write_windows
from tests.support.tables import FACTS

OUT = Path("predictions.txt")


def manifest(skipped: str = "") -> None:
    """The validation images in the order of classes; in the order of names it is the other way round."""
    CLASSIFICATION.manifest.parent.mkdir(parents=True, exist_ok=True)
    rows = [("val", f"val/{IMAGES - number:08d}.JPEG", *[""] * (len(COLUMNS) - 2)) for number in range(IMAGES)]
    rows += [("val", "val/bad.JPEG", *[""] * (len(COLUMNS) - 3), skipped)] * bool(skipped)
    CLASSIFICATION.manifest.write_text("".join(f"{','.join(row)}\n" for row in [COLUMNS, *rows]))


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Params:
    """The repository's parameters, in a folder with posteriors and windows of all validation images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predictions, "read_facts", lambda _: FACTS)
    params = load(ROOT / "params.yaml")
    labels = rng.integers(0, 10, IMAGES)
    for run, mode in GUESSING.needs():
        arrays = {str(scale): rng.dirichlet(np.ones(10), IMAGES).astype(np.float32) for scale in (256, 384, 512)}
        posteriors(run, mode).parent.mkdir(exist_ok=True)
        np.savez(posteriors(run, mode), **arrays, labels=labels, weights=np.array("w"))
        write_json(errors(run, mode), {"profile": params.profile, "data": FACTS.manifest, "posteriors_sha256": "p"})
    for name in params.windows:
        write_windows(params, name, np.random.default_rng(5))
    write_json(threshold(), chosen_thresholds(params, Scores(params, FACTS)))
    manifest()
    return params


def test_classes_are_the_likeliest_five_in_the_order_of_names(params: Params) -> None:
    written = write_predictions(params, "classification", OUT)
    table = compute_table("table6", params, FACTS).values["rows"][-1]
    assert written.error == pytest.approx(table["ours"]["topk"]["error"])
    lines = [[int(word) for word in line.split()] for line in OUT.read_text().splitlines()]
    assert len(lines) == IMAGES and all(len(line) == 5 for line in lines)
    arrays = [np.load(posteriors(*need))[str(q)] for need in GUESSING.needs() for q in (256, 384, 512)]
    mean = np.mean(arrays, 0, dtype=np.float64)
    for line, row in zip(lines, mean[::-1], strict=True):
        assert line == [int(label) + 1 for label in np.argsort(-row, kind="stable")[:5]]


def test_boxes_are_those_of_table_9_in_whole_pixels(params: Params) -> None:
    written = write_predictions(params, "localisation", OUT)
    row = predictions.rows("table9", params)[-1]
    found = located(row, Scores(params, FACTS), 5)
    read = read_predictions(OUT, "localisation")
    assert found and read.boxes is not None
    assert np.array_equal(read.classes, found.classes[::-1] + 1)
    assert np.abs(read.boxes - found.boxes[::-1]).max() <= 0.5
    table = compute_table("table9", params, FACTS).values["rows"][-1]
    assert written.error == pytest.approx(table["ours"]["topk"]["error"], abs=100 * 2 / IMAGES), "but for rounding"
    OUT.write_text("1 2 3\n")
    with pytest.raises(Failure, match=r"predictions\.txt is no file of predictions for localisation"):
        read_predictions(OUT, "localisation")


def test_the_kits_numbers_are_written_and_without_the_kit_nothing(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kit numbers its classes in an order of its own."""
    wnids = [f"n{number:08d}" for number in range(10)]
    kit = SimpleNamespace(wnids=wnids, ids=[700 - label for label in range(10)])
    facts = FACTS.__class__(**{**FACTS.as_dict(), "wnids": wnids})
    write_predictions(params, "classification", OUT)
    plain = read_predictions(OUT, "classification").classes
    monkeypatch.setattr(predictions, "read_facts", lambda _: facts)
    monkeypatch.setattr(Layout, "of", lambda *_: SimpleNamespace(truth=SimpleNamespace(kit=kit)))
    monkeypatch.setattr(predictions, "root_of", lambda _: Path("images"))
    write_predictions(params, "classification", OUT)
    assert np.array_equal(read_predictions(OUT, "classification").classes, 701 - plain)
    OUT.unlink()
    monkeypatch.setattr(Layout, "of", lambda *_: SimpleNamespace(truth=SimpleNamespace(kit=None)))
    with pytest.raises(Failure, match="which images lacks: put ILSVRC2012_devkit_t12"):
        write_predictions(params, "classification", OUT)
    assert not OUT.exists()


def test_skipped_images_and_missing_scores_prevent_a_file(params: Params) -> None:
    manifest(skipped="cannot be decoded")
    with pytest.raises(Failure, match="1 validation images are skipped"):
        write_predictions(params, "classification", OUT)
    manifest()
    errors("E-jitter", "crops").unlink()
    with pytest.raises(Failure, match="crops of E-jitter is missing; make it with: vgg-repro table 6"):
        write_predictions(params, "classification", OUT)
    assert not OUT.exists()
