"""The page of one number: it has the whole chain, and says in words what is missing, changed or unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.experiment.validation import load
from pipeline.results.explanation import Explanation, Files, explain
from pipeline.results.row_choice import choose, row_names
from pipeline.results.tables import read_table
from reports.explain_page import counted_page, explain_page
from reports.markdown import markdown
from tests.support.committed import add_seeds, change, committed

MADE = {
    "commit": "0123456789ab", "python": "3.12.1", "versions": {"vgg-repro": "0.1.0", "torch": "2.15.0"},
    "machine": "AMD EPYC, Linux x86_64", "device": "cpu", "seconds": 76.4, "started": "2026-11-27T18:01:02+00:00",
}  # fmt: skip


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The committed numbers of mini and dvc.lock, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return committed(tmp_path, "dvc.lock")


def explained(table: str, words: str, outdated: Mapping[str, str] | None) -> Explanation:
    """Explain the one row of a table of mini that the words choose."""
    values, seeds = read_table("mini", table), read_table("mini", "seeds")
    (row,) = choose(words.split(), row_names(values, seeds), values["seed"])
    return explain(load(), Files("mini"), values, seeds, row, outdated)


def text_of(explanation: Explanation, kept: str = "") -> str:
    """Return the page in Markdown, tables without the spaces that align them."""
    lines = markdown(explain_page(explanation, kept)).splitlines()
    return "\n".join(" ".join(line.split()) for line in lines)


def test_the_page_names_the_decoder_that_a_stage_used(mini: Path) -> None:
    found = explained("table4", "D jitter", {})
    text = text_of(replace(found, made={key: {**MADE, "decoder": "pillow"} for key in found.made}))
    assert "AMD EPYC, Linux x86_64; cpu; images decoded by pillow: train@A-256" in text


def test_the_page_has_the_chain_the_parameters_and_the_number(mini: Path) -> None:
    found = explained("table4", "D jitter", {})
    measure = found.measures[0].ours
    text = text_of(replace(found, made=dict.fromkeys(found.made, MADE)))
    assert measure is not None and text.startswith("# Table 4, row D, S 256-512, Q 256 384 512\n")
    for part in (
        f"{measure['error']:.1f} ({measure['low']:.1f} to {measure['high']:.1f}) | {measure['wrong']} of 1,020 | 24.8",
        "random-A → A-256 → D-256 → D-384 → D-jitter",
        "`random-A`: random weights, drawn with seed 11; init he",
        "| `D-jitter` | D | 256-512 | D-384 | jitter | 0.003 | 16 | 11 |",
        "| 1 min 16 s | 2026-11-27 |",
        "momentum 0.9, weight decay 0.0005",
        "precision bfloat16",
        "The mean of 3 arrays of posteriors with equal weights: 1 net, 3 test scales Q; evaluation: dense.",
        f"`{found.scores[0].posteriors[:16]}`",
        f"manifest, SHA-256: `{found.images.manifest}`",
        "commit `0123456789ab`; Python 3.12.1, vgg-repro 0.1.0, torch 2.15.0; AMD EPYC, Linux x86_64; cpu: train@A-256",
        "Nothing: dvc.lock and params.yaml agree",
        "Not comparable with the paper's numbers",
    ):
        assert part in text
    assert "Not known here" not in text


def test_boxes_are_explained_by_their_threshold_and_guesses_and_one_box_by_its_class(mini: Path) -> None:
    """The printed threshold is the one of the row, not another one of the table."""
    path = mini / "table9.json"
    change(path, lambda v: v["localisation"]["thresholds"].update({"PCR-384 at 352, 384": 0.7}))
    text = text_of(explained("table9", "384 352 384", {}))
    assert "merged with the threshold 0.7, chosen on training images; the first right one of 5 guesses counts" in text
    assert "the guesses of D-jitter and E-jitter: dense and 50 crops per scale." in text and "boxes, SHA-256" in text
    central = text_of(explained("table8", "all PCR", {}))
    assert "The box of the true class at one central crop" in central and "posteriors" not in central
    assert "| top-1 " in central and "top-5" not in central


def test_what_has_changed_is_listed_with_its_reason(mini: Path) -> None:
    text = text_of(explained("table4", "D jitter", {"train@D-256": "profiles.mini.train.batch: 16, now 8"}))
    assert "- `train@D-256`: profiles.mini.train.batch: 16, now 8\n" in text
    assert "`vgg-repro run` brings them up to date" in text and "Nothing: dvc.lock" not in text


def test_a_change_of_another_row_of_the_table_is_none_of_this_number(mini: Path) -> None:
    reason = "train@B-256: profiles.mini.recipes.warm.learning_rate: 0.005, now 0.5"
    text = text_of(explained("table3", "A", {"train@B-256": reason, "dense@B-256": reason, "table3": reason}))
    assert "Nothing: dvc.lock" in text and "B-256" not in text
    method = text_of(explained("table3", "A", {"table3": "table3: method.table: 2, now 3"}))
    assert "- `table3`: method.table: 2, now 3" in method


def test_what_cannot_be_known_is_told(mini: Path) -> None:
    Path("dvc.lock").unlink()
    Path("reports/mini/provenance.json").unlink(missing_ok=True)
    text = text_of(explained("table4", "D jitter", None), "reports/mini/provenance.md")
    assert "a seed that is not known here" in text
    assert "DVC's record of the training of A-256, D-256, D-384, D-jitter is not here. So batch, momentum" in text
    assert "what has changed since: profile mini is not active" in text
    assert "time and date of all these results: not recorded here. `reports/mini/provenance.md` has commit" in text
    active = text_of(explained("table4", "D jitter", {}))
    assert "all that has changed since: dvc.lock does not hold this table" in active
    assert "Nothing: dvc.lock" not in active


def test_missing_runs_and_later_computations_are_warnings(mini: Path) -> None:
    (mini / "runs/D-256.json").unlink()
    change(mini / "scores/dense-D-jitter.json", lambda v: v.update(posteriors_sha256="x", weights_sha256="y"))
    text = text_of(explained("table4", "D jitter", {}))
    assert "> `D-256` has no summary here: its row is params.yaml's. To train it: `vgg-repro train D-256`" in text
    assert "> `dense@D-jitter` has been computed again since" in text
    assert "> `D-jitter` has been trained again since it was scored" in text


def test_verdicts_are_shown_with_their_rule(mini: Path) -> None:
    judged = {"verdict": "reproduced", "difference": 0.1, "low": -0.2, "high": 0.4}
    rule = {"weights": "trained", "tolerance": 1.0, "share": 0.12}

    def judge(values: dict[str, list[dict[str, object]]]) -> None:
        values["comparable"] = True  # type: ignore[assignment]
        for row in values["rows"]:
            row |= {"judged": {"top1_val": judged}, "rule": rule}

    change(mini / "table4.json", judge)
    text = text_of(explained("table4", "D jitter", {}))
    assert "| +0.1 (-0.2 to +0.4) | ✔ **reproduced** |" in text
    assert "Rule for trained weights: reproduced within 1 points" in text
    assert "Not comparable" not in text


def test_published_weights_are_named_with_their_file_and_hash(mini: Path) -> None:
    record = {"file": "vgg|16.pth", "sha256": "ab" * 32, "weights_sha256": "cd" * 32, "exported": None, "known": None,
              "input": {"channels": "BGR", "range": 255.0, "mean": [1.0, 2.0, 3.0], "std": [1.0] * 3}}  # fmt: skip
    change(mini / "table4.json", lambda values: values.update(published={"D-jitter": record}))
    text = text_of(explained("table4", "D jitter", {}))
    assert f"- `D-jitter` is `vgg|16.pth`, SHA-256 `{'ab' * 8}`, not on any list of known files; input BGR" in text
    assert "## Training" not in text


def test_a_further_seed_shows_the_spread(mini: Path) -> None:
    add_seeds(mini)
    text = text_of(explained("table3", "A seed12", {}))
    assert text.startswith("# Table 3, row A, S 256, Q 256, seed 12\n")
    assert "30.0 (27.3 to 32.9)" in text and "32.4 ± 2.5" in text and "`A-256-seed12`" in text


def test_other_peoples_rows_have_the_papers_numbers_alone(mini: Path) -> None:
    text = text_of(explained("table7", "googlenet 7", {}))
    assert "as the paper prints them" in text and "| 6.7 |" in text and "##" not in text


@pytest.mark.parametrize(("table", "words"), [("table1", "the strings in `vgg/nets.py`"), ("table2", "counts")])
def test_tables_of_nets_alone_say_how_they_are_counted(table: str, words: str) -> None:
    assert words in markdown(counted_page(table))
