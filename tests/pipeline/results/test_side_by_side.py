"""Two reproductions side by side: against itself, other ranks, other images, half the runs; bundles and folders."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import Failure, UsageError
from pipeline.results.paired_tests import holm
from pipeline.results.ranks import TableRanks, read_ranks
from pipeline.results.side_by_side import ComparedCell, SideBySide, read_reproduction, side_by_side
from reports.compare_page import compare_page
from reports.markdown import markdown
from tests.support import ROOT
from tests.support.committed import change, committed
from tests.support.program import program
from vgg.errors import error_of

Edit = Callable[[NDArray[Any]], None]
ROW = "D, 256, 256"  # of Table 3
ERRORS, ROWS = 78, 39  # of mini, repeated ones once


@pytest.fixture
def clones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two folders with the committed numbers of mini, without groups of images; the first is the current one."""
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
        committed(folder, "dvc.yaml")
        for path in sorted((folder / "reports/mini/ranks").glob("*.npz")):
            known = read_ranks(path, "")
            assert known
            replace(known, groups=np.zeros(0, np.int64)).write(path)
    monkeypatch.chdir(folders[0])
    return folders


def edit_row(clone: Path, table: str, row: str, edit: Edit) -> None:
    """Change the ranks of a row, and its errors in the table accordingly."""
    path = clone / f"reports/mini/ranks/{table}.npz"
    known = read_ranks(path, "")
    assert known
    ranks = np.array(known.rows[row])
    edit(ranks)
    TableRanks({**known.rows, row: ranks}, known.groups, known.manifest, known.guesses).write(path)

    def update(values: Any) -> None:
        entry = next(entry for entry in values["rows"] if ", ".join(entry["label"].values()) == row)
        entry["ours"] = {"top1": error_of(ranks, 1)._asdict(), "topk": error_of(ranks, values["k"])._asdict()}

    change(clone / f"reports/mini/{table}.json", update)


def swap(worse: int, better: int) -> Edit:
    """Return an edit after which so many right images are wrong, and so many wrong ones right."""

    def edit(ranks: NDArray[Any]) -> None:
        right, wrong = np.flatnonzero(ranks == 0), np.flatnonzero(ranks > 0)
        ranks[right[:worse]], ranks[wrong[:better]] = 1, 0

    return edit


def compared(first: Path | str, second: Path | str) -> SideBySide:
    """Return the comparison of two places."""
    return side_by_side(read_reproduction(str(first)), read_reproduction(str(second)))


def cell(comparison: SideBySide, table: str, row: str, k: int = 1) -> ComparedCell:
    """Return a compared cell."""
    return next(cell for cell in comparison.cells if (cell.table, cell.row, cell.k) == (table, row, k))


def mcnemar(first: int, second: int) -> float:
    """Return the exact two-sided p of so many images that only one of two sides got wrong."""
    number, most = first + second, max(first, second)
    return min(1.0, 2 * sum(comb(number, count) for count in range(most, number + 1)) / 2**number)


def test_a_result_is_equal_to_itself_to_the_bit(clones: tuple[Path, Path]) -> None:
    itself = compared(clones[0], clones[1])
    assert itself.verdict == f"Equal to the bit: all {ERRORS} errors, and the ranks of all images in {ROWS} rows."
    assert itself.same_images and itself.parameters == [] and itself.claims == [] and itself.beyond == []
    assert {(cell.difference, cell.p, cell.p_holm, cell.paired) for cell in itself.cells} == {(0.0, 1.0, 1.0, True)}


def test_measures_of_other_data_sets_are_compared_with_their_images(clones: tuple[Path, Path]) -> None:
    both = compared(*clones)
    assert both.verdict_on_measures == "All 8 measures of other data sets are equal."
    assert "| Table 12: drawn boxed objects, VGG Net-D & Net-E, image only" in markdown(compare_page(both))

    def other(values: Any) -> None:
        row = next(row for row in values["rows"] if row["ours"])
        row["ours"]["value"] += 2.5
        values["sets"][row["set"]]["manifest"] = "other images"

    change(clones[1] / "reports/mini/table11.json", other)
    changed = compared(*clones)
    assert changed.verdict == both.verdict, "of the errors"
    assert changed.verdict_on_measures == (
        "1 of 8 measures of other data sets differ, by up to 2.5 points (not tested). The images of 3 are not the same."
    )
    assert [one.same_images for one in changed.measures].count(False) == 3
    assert changed.document()["measures"][0]["row"] == "drawn scenes, VGG Net-D (16 layers)"
    assert "+2.5" in markdown(compare_page(changed))


def test_another_choice_of_a_data_set_is_a_parameter_that_differs_but_not_its_folder(clones: tuple[Path, Path]) -> None:
    text = (clones[1] / "params.yaml").read_text()
    old = "scales: [256, 384, 512], aggregate: stack}"
    assert text.count(old) == 1
    edited = text.replace(old, "scales: [256, 384], aggregate: stack}")
    edited = edited.replace("source: boxed, path: null", "source: boxed, path: elsewhere")
    (clones[1] / "params.yaml").write_text(edited)
    assert [one.what for one in compared(*clones).parameters or ()] == ["datasets.few-shot.scales"]


def test_images_decided_differently_give_the_p_counted_by_hand(clones: tuple[Path, Path]) -> None:
    edit_row(clones[1], "table3", ROW, swap(9, 2))
    both = compared(*clones)
    changed = cell(both, "table3", ROW)
    assert (changed.only_first_wrong, changed.only_second_wrong) == (2, 9)
    assert changed.p == pytest.approx(mcnemar(2, 9)) == pytest.approx(0.0654296875)
    assert changed.difference == pytest.approx(100 * 7 / 1020) and changed.low < changed.difference < changed.high
    assert changed.p_holm == pytest.approx(min(1, ERRORS * changed.p))
    assert both.verdict.startswith(
        f"1 of {ERRORS} errors differ, by up to 0.7 points; none by more than chance explains"
    )


def test_what_chance_does_not_explain_is_counted_after_holm(clones: tuple[Path, Path]) -> None:
    edit_row(clones[1], "table3", ROW, swap(40, 2))
    edit_row(clones[1], "table4", "D, 256, 224 256 288", swap(12, 2))
    both = compared(*clones)
    assert both.verdict.startswith(
        f"2 of {ERRORS} errors differ, by up to 3.7 points; 1 of them by more than chance explains"
    )
    assert [(cell.table, cell.row) for cell in both.beyond] == [("table3", ROW)]
    assert cell(both, "table4", "D, 256, 224 256 288").p < 0.05
    assert [cell.p_holm for cell in both.cells] == holm([cell.p for cell in both.cells])
    back = compared(clones[1], clones[0])
    here, there = cell(both, "table3", ROW), cell(back, "table3", ROW)
    assert (here.difference, here.low, here.high) == pytest.approx((-there.difference, -there.high, -there.low))
    assert here.p == pytest.approx(there.p)


def test_images_of_one_group_count_as_one_unit(clones: tuple[Path, Path]) -> None:
    edit_row(clones[1], "table3", ROW, swap(9, 0))
    single = cell(compared(*clones), "table3", ROW)
    for clone in clones:
        path = clone / "reports/mini/ranks/table3.npz"
        known = read_ranks(path, "")
        assert known
        right = np.flatnonzero(read_ranks(clones[0] / "reports/mini/ranks/table3.npz", "").rows[ROW] == 0)  # type: ignore[union-attr]
        groups = np.arange(1020)
        groups[right[:9]] = right[0]  # the nine changed images show the same thing
        replace(known, groups=groups).write(path)
    grouped = cell(compared(*clones), "table3", ROW)
    assert single.p == pytest.approx(2 / 2**9) and grouped.p == 1.0 and grouped.low < single.low


def test_equal_errors_with_other_ranks_are_not_equal_to_the_bit(clones: tuple[Path, Path]) -> None:
    edit_row(clones[1], "table3", ROW, swap(1, 1))
    assert compared(*clones).verdict == f"All {ERRORS} errors are equal, but 1 of {ROWS} rows rank images differently."
    for clone in clones:
        shutil.rmtree(clone / "reports/mini/ranks")
    assert "the ranks of single images are not known on both sides" in compared(*clones).verdict


def test_without_ranks_the_same_images_are_compared_unpaired(clones: tuple[Path, Path]) -> None:
    edit_row(clones[1], "table3", ROW, swap(40, 2))
    paired = cell(compared(*clones), "table3", ROW)
    (clones[0] / "reports/mini/ranks/table3.npz").unlink()
    both = compared(*clones)
    unpaired = cell(both, "table3", ROW)
    assert (unpaired.paired, unpaired.only_first_wrong) == (False, None) and both.same_images
    assert unpaired.difference == pytest.approx(paired.difference)
    assert unpaired.low < paired.low < paired.high < unpaired.high and unpaired.p > 1000 * paired.p


def test_other_images_are_said_first_and_compared_unpaired(clones: tuple[Path, Path]) -> None:
    both = compared(clones[0], ROOT / "reports/evening")
    assert both.verdict.startswith(f"The images are not the same. {ERRORS} of {ERRORS} errors differ, by up to ")
    assert not both.same_images and not any(cell.paired for cell in both.cells) and both.rank_rows == 0
    assert both.parameters and ("train.seed", "11", "12") in both.parameters
    assert ("Multi-crop evaluation gives a lower error than dense evaluation.", "supported", "undecided") in both.claims
    newcombe = cell(both, "table3", "A, 256, 256")
    assert newcombe.low < newcombe.difference < newcombe.high < 0 and newcombe.p < 1e-9


def test_newcombes_interval_is_that_of_his_paper(clones: tuple[Path, Path]) -> None:
    """56 of 70 against 48 of 80: 0.2 (0.0524 to 0.3339), method 10 of Newcombe (1998)."""
    manifests = iter(("a" * 64, "b" * 64))
    for clone, (wrong, images) in zip(clones, ((48, 80), (56, 70)), strict=True):
        ranks = np.repeat([1, 0], [wrong, images - wrong])
        errors = {"top1": error_of(ranks, 1)._asdict(), "topk": error_of(ranks, 5)._asdict()}

        def update(values: Any, errors: Any = errors) -> None:
            values.update(manifest=next(manifests), rows=values["rows"][:1])
            values["rows"][0]["ours"] = errors

        change(clone / "reports/mini/table3.json", update)
    found = cell(compared(*clones), "table3", "A, 256, 256")
    assert (found.difference, found.low, found.high) == pytest.approx((20.0, 5.24, 33.39), abs=0.01)


def test_rows_that_one_side_has_alone_are_counted(clones: tuple[Path, Path]) -> None:
    def half(values: Any) -> None:
        for row in values["rows"][::2]:
            row["ours"] = None

    change(clones[1] / "reports/mini/table3.json", half)
    (clones[1] / "reports/mini/table5.json").unlink()
    both = compared(*clones)
    assert both.only_run == {"first": 12 + 6, "second": 0}  # the rest is in Tables 4 and 7
    assert len(both.cells) == ERRORS - 18
    assert both.verdict.startswith(f"Equal to the bit: all {ERRORS - 18} errors")
    for name in (*(f"table{number}" for number in (3, 4, 6, 7, 8, 9, 10, 11, 12)), "shallow"):
        change(
            clones[1] / f"reports/mini/{name}.json", lambda values: [row.update(ours=None) for row in values["rows"]]
        )
    assert compared(*clones).verdict == "There is nothing to compare: no row of a table is run on both sides."


def test_a_result_that_several_tables_repeat_counts_once(clones: tuple[Path, Path]) -> None:
    both = compared(*clones)
    rows = {(cell.table, cell.row) for cell in both.cells}
    best = "D, 256-512, 256 384 512"
    assert ("table4", best) in rows and ("table5", f"{best}, dense") not in rows
    assert ("table5", f"{best}, multi-crop") in rows and not any(table == "table7" for table, _ in rows)
    assert ("table3", "B, 256, 256") in rows and ("shallow", "B, 256, 256") in rows  # dense, and the centre crop
    (clones[1] / "reports/mini/table4.json").unlink()
    assert ("table5", f"{best}, dense") in {(cell.table, cell.row) for cell in compared(*clones).cells}


def test_parameters_without_effect_on_the_results_are_not_compared(clones: tuple[Path, Path]) -> None:
    path = clones[1] / "params.yaml"
    text = path.read_text()
    for old, new in (("shard_images: 256", "shard_images: 128"), ("digit: [0.45", "digit: [0.5")):
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text)
    assert compared(*clones).parameters == []
    evening = {name for name, *_ in compared(clones[0], ROOT / "reports/evening").parameters or ()}
    assert "data.characters.seed" in evening and not any("digits" in name for name in evening)


def test_the_page_says_which_seed_is_compared(clones: tuple[Path, Path]) -> None:
    page = program(clones[0], "compare", ".", str(ROOT / "reports/evening")).out
    assert re.search(r"\| seed +\| 11 +\| 12, the first of 3; the others are not compared", page)


def test_parameters_and_verdicts_that_differ_are_listed(clones: tuple[Path, Path]) -> None:
    path = clones[1] / "params.yaml"
    path.write_text(path.read_text().replace("C-256: {net: C", "C-256: {layers: fc, net: C"))
    change(clones[1] / "reports/mini/claims.json", lambda values: values["claims"][2].update(verdict="supported"))
    both = compared(*clones)
    assert both.parameters == [("runs.C-256.layers", "none", "fc")]
    assert both.claims == [("Local response normalisation does not improve net A.", "undecided", "supported")]


def test_a_place_is_a_bundle_a_clone_a_folder_or_a_profile(clones: tuple[Path, Path], tmp_path: Path) -> None:
    assert program(clones[0], "bundle", "mini.zip").code == 0
    alone = tmp_path / "alone"
    shutil.copytree(clones[0] / "reports/mini", alone)
    for place in ("mini.zip", ".", "reports/mini", "reports/mini/", "mini", str(alone)):
        both = compared(clones[1], place)
        assert both.verdict.startswith("Equal to the bit"), place
        assert (both.parameters is None) == (place == str(alone))
    with pytest.raises(UsageError, match=r"nothing is no bundle, no clone .* no profile with results here \(mini\)"):
        read_reproduction("nothing")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/params.yaml").write_text("profile: paper\n")
    with pytest.raises(Failure, match="empty has no table of profile paper"):
        read_reproduction(str(tmp_path / "empty"))
    (tmp_path / "empty/params.yaml").write_text("profiles: {}\n")
    with pytest.raises(Failure, match=r"params\.yaml has no profile"):
        read_reproduction(str(tmp_path / "empty"))


def test_the_command_prints_writes_and_lists(clones: tuple[Path, Path]) -> None:
    edit_row(clones[1], "table3", ROW, swap(40, 2))
    here, there = clones
    page = program(here, "compare", ".", str(there)).out
    assert (
        "# Two reproductions compared" in page
        and f"**1 of {ERRORS} errors differ, by up to 3.7 points; 1 of them" in page
    )
    assert "+3.7 (+2." in page and "2 / 40" in page and "McNemar's exact test" in page
    assert "Unpaired" not in page

    rows = list(csv.DictReader(io.StringIO(program(here, "compare", ".", str(there), "--format", "csv").out)))
    assert len(rows) == ERRORS and rows[12]["row"] == ROW and float(rows[12]["p"]) == pytest.approx(mcnemar(2, 40))
    document = json.loads(program(here, "compare", ".", str(there), "--format", "json").out)
    assert document["same_images"] and document["first"]["profile"] == "mini" and len(document["cells"]) == ERRORS

    for name in ("page.md", "page.html"):
        assert f"{name} written" in program(here, "compare", ".", str(there), "--out", name).out
    assert (here / "page.md").read_text() == page
    html = (here / "page.html").read_text()
    assert html.startswith("<!doctype html>") and "Two reproductions compared" in html and "src=" not in html
    wrong = program(here, "compare", ".", str(there), "--out", "page.pdf")
    assert (
        wrong.code == 2 and "--out page.pdf: the page is written to a file that ends with .md or .html" in wrong.error
    )
    rows_to_file = program(here, "compare", ".", str(there), "--out", "page.md", "--format", "csv")
    assert rows_to_file.code == 2 and "--format csv prints rows" in rows_to_file.error
    assert "Table 3: D, S 256, Q 256, top-1" in page
    assert program(here, "compare", ".", "absent.zip").code == 2
