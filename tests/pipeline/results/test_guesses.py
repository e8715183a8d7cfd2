"""The guesses beside a table's ranks: the likeliest classes of each image in the best row, in few bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets.facts import Facts
from pipeline.experiment.modes import scales_of
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, errors, posteriors
from pipeline.experiment.validation import load
from pipeline.results.ranks import SHOWN, TableRanks, guesses_of, read_ranks
from pipeline.results.tables import compute_table
from pipeline.system.atomic_files import write_json
from tests.support import ROOT

IMAGES, CLASSES = 60, 7
NAMES = [str(label) for label in range(CLASSES)]
FACTS = Facts("digits", "digits", False, NAMES, 100, IMAGES, 0, [0.0] * 3, [[0.0] * 3] * 3, {}, "m")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The repository's parameters, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return load(ROOT / "params.yaml")


def test_guesses_are_the_likeliest_classes_of_each_image(rng: np.random.Generator) -> None:
    posteriors, labels = rng.dirichlet([0.5] * CLASSES, IMAGES), rng.integers(0, CLASSES, IMAGES)
    guesses = guesses_of("D", posteriors, labels)
    for image in range(IMAGES):
        likeliest = sorted(range(CLASSES), key=lambda label: -posteriors[image, label])[:5]
        assert guesses.classes[image].tolist() == likeliest
        assert guesses.probabilities[image] == pytest.approx(posteriors[image, likeliest], abs=1e-3)
    wrong = [image for image in range(IMAGES) if posteriors[image].argmax() != labels[image]]
    assert guesses.wrong.tolist() == sorted(wrong, key=lambda image: -posteriors[image].max())[:SHOWN]


def test_of_equally_likely_classes_the_lower_number_is_guessed_first() -> None:
    guesses = guesses_of("D", np.full((3, 4), 0.25), np.array([0, 1, 0]), ["a", "b", "c"])
    assert guesses.classes.tolist() == [[0, 1, 2, 3]] * 3
    assert guesses.ids == ("b",)


def test_guesses_are_read_back_and_equal_ones_are_equal_bytes(tmp_path: Path, rng: np.random.Generator) -> None:
    posteriors, labels = rng.dirichlet([0.1] * 300, IMAGES), rng.integers(0, 300, IMAGES)
    ids = [f"Zoë/{image}" for image in range(IMAGES)]
    contents = []
    for name in ("one.npz", "two.npz"):
        written = guesses_of("D, 256", posteriors, labels, ids)
        TableRanks({"D, 256": labels}, np.zeros(0, np.int64), "m", written).write(tmp_path / name)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    known = read_ranks(tmp_path / "one.npz", "make")
    assert known and known.guesses
    assert (known.guesses.row, known.guesses.ids) == (written.row, written.ids)
    for name in ("labels", "classes", "probabilities", "wrong"):
        assert getattr(known.guesses, name).tolist() == getattr(written, name).tolist()
    assert known.guesses.classes.dtype == np.uint16 and known.guesses.probabilities.dtype == np.float16


def test_ranks_without_guesses_are_read_without(tmp_path: Path) -> None:
    TableRanks({"D": np.zeros(3, np.int64)}, np.zeros(0, np.int64), "m").write(tmp_path / "ranks.npz")
    known = read_ranks(tmp_path / "ranks.npz", "make")
    assert known and known.guesses is None


def write_scores(params: Params, run: str, right: float, labels: np.ndarray, rng: np.random.Generator) -> None:
    """Write dense posteriors of a run that gives each image's class about so much more than the others."""
    values = rng.dirichlet([1.0] * CLASSES, len(labels)) + right * np.eye(CLASSES)[labels]
    path = posteriors(run, "dense")
    path.parent.mkdir(exist_ok=True)
    scales = {str(scale): values.astype(np.float32) for scale in scales_of(params.runs[run], "dense")}
    np.savez(path, **scales, labels=labels, weights=np.array("w"))
    write_json(errors(run, "dense"), {"profile": params.profile, "data": "m", "posteriors_sha256": "p"})


def test_a_table_has_the_guesses_of_its_best_row(params: Params, rng: np.random.Generator) -> None:
    labels = rng.integers(0, CLASSES, IMAGES)
    for run, right in (("A-256", 0.1), ("C-384", 0.4), ("E-256", 0.1)):
        write_scores(params, run, right, labels, rng)
    ranked = compute_table("table3", params, FACTS).ranks
    assert ranked and ranked.guesses
    assert ranked.guesses.row == min(ranked.rows, key=lambda row: int((ranked.rows[row] > 0).sum())) == "C, 384, 384"
    wrong = ranked.guesses.classes[:, 0] != labels
    assert wrong.tolist() == (ranked.rows["C, 384, 384"] > 0).tolist()
    assert ranked.guesses.ids == ()


def test_the_confidently_wrong_images_have_their_ids_from_the_manifest(params: Params) -> None:
    write_scores(params, "A-256", 0.0, np.zeros(IMAGES, np.int64), np.random.default_rng(1))
    lines = ["split,id,class,height,width,bytes,sha256,changed,small,warning,skipped", "train,t,0,1,1,1,h,,,,"]
    lines += ["val,broken,0,,,1,h,,,,cannot be read", *(f"val,v{image},0,1,1,1,h,,,," for image in range(IMAGES))]
    CLASSIFICATION.manifest.parent.mkdir(parents=True)
    CLASSIFICATION.manifest.write_text("\n".join(lines) + "\n")
    ranked = compute_table("table3", params, FACTS).ranks
    assert ranked and ranked.guesses and len(ranked.guesses.wrong)
    assert ranked.guesses.ids == tuple(f"v{image}" for image in ranked.guesses.wrong.tolist())


def test_tables_of_several_nets_and_tables_that_are_not_run_have_none(params: Params) -> None:
    for name in ("table3", "table6"):
        ranked = compute_table(name, params, FACTS).ranks
        assert ranked and ranked.guesses is None
