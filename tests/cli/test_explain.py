"""vgg-repro explain: in a clone with nothing but what git has; several, no and wrong rows end with code 2."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from cli.explain import complete_words
from cli.main import app
from pipeline.errors import Failure, UsageError
from pipeline.experiment.params_file import activate
from tests.support import ROOT
from tests.support.committed import add_seeds, change, committed


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The committed numbers of mini in the current folder, without DVC."""
    monkeypatch.chdir(tmp_path)
    return committed(tmp_path)


def output(*words: str) -> str:
    """Return what the program prints; its failure is the test's."""
    done = CliRunner().invoke(app, [*words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


@pytest.mark.parametrize("words", ["4 D 256-512", "table4 d jitter", "Table4 [256;512] D"])
def test_a_cell_is_explained_from_what_git_has(words: str, mini: Path) -> None:
    text = output("explain", *words.split())
    assert text.startswith("# Table 4, row D, S 256-512") and "random-A → A-256 → D-256 → D-384 → D-jitter" in text


def test_a_measure_of_another_data_set_is_explained_from_what_git_has(mini: Path) -> None:
    text = output("explain", "11", "few-shot", "19")
    assert text.startswith("# Table 11, row drawn few-shot classes, VGG Net-E (19 layers)")
    assert "mean class recall, test" in text and "random-A → A-256 → E-256 → E-384 → E-jitter" in text
    assert "The number is the mean over 3 random splits." in text and "C 100, %" in text


def test_a_net_alone_is_chosen_by_its_column(mini: Path) -> None:
    assert output("explain", "11", "scenes", "E").startswith("# Table 11, row drawn scenes, VGG Net-E (19 layers)")
    assert "VGG Net-D & Net-E" in output("explain", "11", "scenes", "D", "E").splitlines()[0]
    with pytest.raises(UsageError, match=r"3 rows of Table 11 fit: VOC-2007\. To choose one:\n.* table11 VOC-2007 16 "):
        app(["explain", "11", "VOC-2007"], standalone_mode=False)
    assert "Other authors" in output("explain", "11", "VOC-2007", "Chatfield")
    assert output("explain", "11", "voc2007", "D").startswith("# Table 11, row VOC-2007, VGG Net-D (16 layers)")


def test_numbers_of_a_set_that_the_paper_lacks_are_compared_with_nothing(mini: Path) -> None:
    assert "Not comparable" not in output("explain", "11", "scenes", "E")


def test_a_data_set_that_is_not_there_has_the_papers_number_and_its_command(mini: Path) -> None:
    text = output("explain", "12", "actions", "box")
    assert "84.0" in text and "Not run. To compute it: `vgg-repro prepare actions --path FOLDER`" in text
    assert "Other authors' numbers" in output("explain", "12", "Hoai")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table3", "D"], r"3 rows of Table 3 fit: D\. To choose one:\n  vgg-repro explain table3 D-256 "),
        (["4"], r"Table 4 has 10 rows\. To choose one:"),
        (["4", "F", "256"], r"no row of Table 4 fits: F 256\. The nearest:\n  vgg-repro explain table4 "),
        (["4", "D", "--profile", "mni"], r"unknown profile mni\. Did you mean mini"),
        (["3", "A", "seed9"], r"no row of seed 9; its seeds: 11"),
        (["11", "16"], r"6 rows of Table 11 fit: 16\. To choose one:\n  vgg-repro explain table11 VOC-2007 16 "),
    ],
)
def test_words_that_choose_no_single_row_are_a_usage_error(words: list[str], message: str, mini: Path) -> None:
    with pytest.raises(UsageError, match=message) as failure:
        app(["explain", *words], standalone_mode=False)
    assert failure.value.code == 2


def test_a_profile_that_is_not_active_is_explained_from_its_report_alone(mini: Path) -> None:
    path = Path("params.yaml")
    activate("imagenette", "trained", path)
    text = output("explain", "--profile", "mini", "4", "D", "jitter")
    assert "D-384 → D-jitter" in text and "profile mini is not active" in text
    with pytest.raises(UsageError, match="vgg-repro explain --profile mini table4 D-256 "):
        app(["explain", "--profile", "mini", "4", "D"], standalone_mode=False)
    with pytest.raises(Failure, match="profile imagenette has no table4 yet; compute it: vgg-repro table 4"):
        app(["explain", "4", "D"], standalone_mode=False)
    with pytest.raises(Failure, match="compute it: vgg-repro prepare --profile paper, then vgg-repro table 4"):
        app(["explain", "4", "D", "--profile", "paper"], standalone_mode=False)


def test_a_comparison_that_the_profile_does_not_make_is_told(mini: Path) -> None:
    with pytest.raises(Failure, match="initialisation of profile mini has no rows; why: vgg-repro table init"):
        app(["explain", "initialisation", "D"], standalone_mode=False)


def test_seeds_of_other_images_are_not_offered(mini: Path) -> None:
    add_seeds(mini)
    assert "row A, S 256, Q 256, seed 12" in output("explain", "3", "A-256-seed12")
    change(mini / "seeds.json", lambda values: values.update(manifest="other"))
    with pytest.raises(UsageError, match="no row of seed 12"):
        app(["explain", "3", "A-256-seed12"], standalone_mode=False)


def test_labels_of_any_alphabet_are_printed(mini: Path) -> None:
    change(mini / "table7.json", lambda values: values["rows"][3].update(label={"entry": "Ångström | сеть (1 net)"}))
    assert r"Ångström \| сеть" in output("explain", "7", "СЕТЬ")


def test_tables_of_nets_alone_need_no_row(mini: Path) -> None:
    assert "weights and biases" in output("explain", "2", "D")


def test_words_of_labels_complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)

    def completed(table: str, incomplete: str) -> list[str]:
        return complete_words(cast(typer.Context, SimpleNamespace(params={"table": table})), incomplete)

    assert completed("5", "m") == ["multi-crop"] and completed("table4", "25") == ["256", "256-512"]
    assert completed("11", "") == completed("nonsense", "") == []
    monkeypatch.chdir(tmp_path)
    assert completed("5", "m") == []


def read_json(text: str) -> dict[str, Any]:
    """Return the values of a JSON text."""
    values: dict[str, Any] = json.loads(text)
    return values


def test_reports_rows_are_printed_alone(mini: Path) -> None:
    rows = pd.read_csv(io.StringIO(output("report", "--format", "csv")))
    document = read_json(output("report", "--format", "json"))
    assert len(rows) == len(document["rows"]) > 50
    assert document["schema"] == 1 and document["claims"]["not run"] == 2
    assert not (mini / "README.md").exists(), "no page is written"
    output("report", "--out", "elsewhere")
    assert Path("elsewhere/mini/results.csv").read_text() == output("report", "--format", "csv")
