"""Data, weights and results of other images than those prepared now are refused, wherever they would meet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.errors import Failure, UsageError
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION
from pipeline.experiment.validation import load
from pipeline.results.profile_results import collect
from reports.pages import render
from stages import prepare, score, table, train
from stages.tools import data
from tests.support import ROOT
from tests.support.ilsvrc_files import TRAIN, make
from tests.support.images import jpeg, photograph
from tests.support.training import in_copy_of, tiny, with_random_weights

OUT = Path("reports")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net A trained on some digits."""
    folder = tmp_path_factory.mktemp("trained")
    params = with_random_weights(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("VGG_REPRO_SHARDS", raising=False)
        train.main(params, "A-256")
    return folder


@pytest.fixture
def trained(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A copy of the place is the current folder."""
    return in_copy_of(place, tmp_path, monkeypatch)


def with_seed(folder: Path, seed: int) -> Params:
    """The same parameters with other images."""
    values = yaml.safe_load((folder / "params.yaml").read_text())
    values["profiles"]["mini"]["data"]["characters"]["seed"] = seed
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    return load(folder / "params.yaml")


def test_what_params_yaml_no_longer_asks_for_is_not_trained_on_scored_or_shown(trained: Params, tmp_path: Path) -> None:
    changed = with_seed(tmp_path, 7)
    for work in (lambda: train.main(changed, "A-256"), lambda: score.main(changed, "A-256", "dense"),
                 lambda: data.main(changed, OUT)):  # fmt: skip
        with pytest.raises(Failure, match=r"the prepared data set does not match params\.yaml"):
            work()
    score.main(with_seed(tmp_path, 11), "A-256", "dense")


def test_weights_of_other_images_are_neither_scored_nor_begun_from(trained: Params, tmp_path: Path) -> None:
    changed = with_seed(tmp_path, 7)
    prepare.main(changed)
    with pytest.raises(Failure, match=r"weights/trained/A-256\.pt was trained on other images"):
        score.main(changed, "A-256", "dense")
    with pytest.raises(Failure, match=r"weights/trained/A-256\.pt was trained on other images"):
        train.main(changed, "B-256")
    train.main(changed, "A-256")
    score.main(changed, "A-256", "dense")
    errors = json.loads(Path("scores/dense-A-256.json").read_text())
    assert errors["data"] == json.loads(CLASSIFICATION.facts("mini").read_text())["manifest"]


def test_a_report_of_other_images_shows_no_run(trained: Params, tmp_path: Path) -> None:
    collect(trained)
    render("mini", OUT)
    assert "training.md" in (OUT / "mini" / "README.md").read_text()
    prepare.main(with_seed(tmp_path, 7))
    collect(trained)
    with pytest.raises(Failure, match="were computed from other images"):
        render("mini", OUT)
    table.main(trained, "table1")
    render("mini", OUT)
    index = (OUT / "mini" / "README.md").read_text()
    assert (
        "training.md" not in index and "computed from other images than those prepared now: 1 runs and scores" in index
    )
    assert not (OUT / "mini" / "training.md").exists() and not (OUT / "mini" / "curves.png").exists()


def test_a_report_without_facts_shows_no_run(trained: Params) -> None:
    CLASSIFICATION.facts("mini").unlink()
    collect(trained)
    table.main(trained, "table1")
    render("mini", OUT)
    assert "A-256" not in (OUT / "mini" / "README.md").read_text()


def test_a_manifest_of_other_images_is_not_shown(trained: Params) -> None:
    lines = CLASSIFICATION.manifest.read_text().splitlines()
    CLASSIFICATION.manifest.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(Failure, match=r"manifest\.csv does not describe the prepared images"):
        data.main(trained, OUT)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((None, Path(".")), "to read this one: vgg-repro prepare --source imagefolder --path ."),
        (("imagefolder", Path("nowhere")), "there is no folder nowhere"),
        (("imagefoldr", None), "Did you mean imagefolder"),
        (("imagenette", Path("caf\udce9")), "is not valid UTF-8"),
    ],
    ids=str,
)
def test_a_source_that_makes_no_sense_is_not_written(
    words: tuple[str | None, Path | None], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cli.prepare import _write

    monkeypatch.chdir(tmp_path)
    tiny(tmp_path)
    before = Path("params.yaml").read_bytes()
    with pytest.raises(UsageError, match=message):
        _write(None, *words)
    assert Path("params.yaml").read_bytes() == before


def test_a_download_goes_to_its_own_folder_and_not_among_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    from cli.prepare import _write

    monkeypatch.chdir(tmp_path)
    tiny(tmp_path)
    for name in ("cats", "dogs"):
        for split in ("train", "val"):
            (tmp_path / "photographs" / split / name).mkdir(parents=True)
            (tmp_path / "photographs" / split / name / "one.jpg").write_bytes(jpeg(photograph(rng, 40, 40)))
    _write(None, "imagefolder", Path("photographs"))
    assert load().active.data.path == "photographs"
    _write(None, "imagenette", None)
    assert (load().active.data.source, load().active.data.path) == ("imagenette", None)


def test_a_profile_is_chosen_with_its_path_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    from cli.prepare import _write

    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    archives = make(rng).archives(tmp_path / "archives")
    before = Path("params.yaml").read_text()
    for words, message in (
        (("papr", None, None), "Did you mean paper"),
        (("paper", None, Path("nowhere")), "there is no folder nowhere"),
        (("paper", None, archives / TRAIN), "is a file"),
        (("mini", None, archives), "source characters does not read a folder"),
    ):
        with pytest.raises(UsageError, match=message):
            _write(*words)
        assert Path("params.yaml").read_text() == before
    _write("paper", None, archives)
    assert (load().profile, load().active.data.path) == ("paper", str(archives))
    _write("mini", None, None)
    changed = [line for line in Path("params.yaml").read_text().splitlines() if line not in before.splitlines()]
    assert len(changed) == 1 and changed[0].strip().startswith(f"path: {archives}")
