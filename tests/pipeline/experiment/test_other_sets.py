"""The rows of `datasets`: what the profile needs, how they are written, what is wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.errors import UsageError
from pipeline.experiment import other_sets, paper_tables
from pipeline.experiment.params import Params
from pipeline.experiment.params_file import activate
from pipeline.experiment.targets import classifying, everything, lacking, stages, within_reach
from pipeline.experiment.validation import load
from tests.support import ROOT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


def with_sets(path: Path, **rows: dict[str, object] | None) -> Params:
    """Write rows of `datasets`, None for their removal; return the parameters."""
    values = yaml.safe_load(path.read_text())
    values["datasets"] = {name: row for name, row in (values["datasets"] | rows).items() if row}
    path.write_text(yaml.safe_dump(values, allow_unicode=True))
    return load(path)


def test_each_printed_column_has_a_title() -> None:
    for table, columns in other_sets.COLUMNS.items():
        assert set(columns) == set(paper_tables.printed(table)[0]) - {"method"}


def test_the_methods_are_named_as_printed() -> None:
    assert set(other_sets.METHODS.values()) <= {row["method"] for row in paper_tables.printed("table11")}
    theirs = {row["method"] for row in paper_tables.printed("table12")}
    assert {f"{other_sets.METHODS['DE']}, {variant}" for variant in other_sets.variants(True)} <= theirs


def test_a_profile_that_draws_no_sets_has_none_and_gets_them_back(path: Path) -> None:
    text = path.read_text()
    activate("paper", "trained", path)
    assert load(path).datasets == {} and "datasets: {}" in path.read_text()
    activate("mini", "trained", path)
    assert path.read_text() == text


def test_drawn_sets_of_another_profile_are_named_with_the_command(path: Path) -> None:
    path.write_text(path.read_text().replace("profile: mini\n", "profile: imagenette\n", 1))
    with pytest.raises(UsageError, match=r"not needed: scenes, few-shot, boxed\).*prepare --profile imagenette"):
        load(path)


def test_a_removed_drawn_set_stays_removed(path: Path) -> None:
    assert set(with_sets(path, scenes=None).datasets) == {"few-shot", "boxed"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "voc207"}, "unknown data set voc207"),
        ({"table": "table12"}, "table is table12, but scenes belongs to table11"),
        ({"scales": [256, 256]}, "each Q may be there once"),
        ({"scales": [128]}, "smaller than the 224-pixel crop"),
        ({"aggregate": "max"}, "datasets.scenes.aggregate"),
    ],
)
def test_a_wrong_row_is_named(change: dict[str, object], message: str, path: Path) -> None:
    row = yaml.safe_load(path.read_text())["datasets"]["scenes"]
    with pytest.raises(UsageError, match=message):
        with_sets(path, scenes=row | change)


def test_published_nets_need_only_those_of_a_row(path: Path) -> None:
    """With D alone the stages of D are possible, and the tables are computed from these."""
    params = load(path)
    published = params.model_copy(update={"weights": "published", "imports": {"D-jitter": None}})
    assert lacking("table11", params) == [] and lacking("table11", published) == ["E-jitter"]
    assert classifying("table11", published) == ["svm-D@scenes", "svm-D@few-shot"]
    assert within_reach(["table11"], published) == classifying("table11", published)
    assert "svm-D@scenes" in everything(published) and "table11" not in everything(published)


def test_stages_are_named_after_set_and_net(path: Path) -> None:
    params = load(path)
    named = [stage for stage in stages(params) if stage.startswith("features@")]
    assert [other_sets.described_by(stage) for stage in named][:2] == [("scenes", "D-jitter"), ("scenes", "E-jitter")]
    assert other_sets.classified_by("svm-DE@few-shot") == ("few-shot", "DE")
