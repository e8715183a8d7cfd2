"""The choice of a row: by what a person means, in any order and case; several and none are listed with their words."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.results.row_choice import RowName, choose, choosing_words, chosen, every_word, row_names
from tests.support import ROOT

TABLES = ("table3", "table4", "table5", "table6", "table7", "shallow")


def table(name: str) -> dict[str, Any]:
    """Return the values of a committed table."""
    values: dict[str, Any] = json.loads((ROOT / f"reports/mini/{name}.json").read_text())
    return values


def keys(name: str, words: str) -> list[str]:
    """Return the rows of a committed table that the words choose."""
    return [row.key for row in choose(shlex.split(words), row_names(table(name), {}), 11)]


@pytest.mark.parametrize(
    ("name", "words", "key"),
    [
        ("table4", "D 256-512", "D, 256-512, 256 384 512"),
        ("table4", "256-512 d", "D, 256-512, 256 384 512"),
        ("table4", "d '[256;512]'", "D, 256-512, 256 384 512"),
        ("table4", "d '[256, 512]'", "D, 256-512, 256 384 512"),
        ("table4", "D 256–512", "D, 256-512, 256 384 512"),
        ("table4", "JITTER D", "D, 256-512, 256 384 512"),
        ("table4", "D-jitter", "D, 256-512, 256 384 512"),
        ("table4", "D 256 384 512", "D, 256-512, 256 384 512"),
        ("table4", "D 256", "D, 256, 224 256 288"),
        ("table4", "D '224 256 288'", "D, 256, 224 256 288"),
        ("table4", "D-384", "D, 384, 352 384 416"),
        ("table3", "D 384", "D, 384, 384"),
        ("table3", "D s=256-512 q=384", "D, 256-512, 384"),
        ("table3", "A", "A, 256, 256"),
        ("table3", "lrn", "A-LRN, 256, 256"),
        ("table5", "e dense", "E, 256-512, 256 384 512, dense"),
        ("table5", "E crops", "E, 256-512, 256 384 512, multi-crop"),
        ("table5", "E multi-crop & dense", "E, 256-512, 256 384 512, multi-crop & dense"),
        ("table5", "'multi-crop and dense' E", "E, 256-512, 256 384 512, multi-crop & dense"),
        ("table4", "D, S 256, Q 224 256 288", "D, 256, 224 256 288"),
        ("table4", "D, 256, 224 256 288", "D, 256, 224 256 288"),
        ("table4", "d, s [256;512]", "D, 256-512, 256 384 512"),
        ("table3", "D, S 256-512, Q 384", "D, 256-512, 384"),
        ("table7", "googlenet 7", "GoogLeNet (Szegedy et al., 2014) (7 nets)"),
        ("shallow", "Shallow", "shallow, 256, 256"),
    ],
)
def test_words_find_what_a_person_means(name: str, words: str, key: str) -> None:
    assert keys(name, words) == [key]


@pytest.mark.parametrize("name", TABLES)
def test_a_rows_key_and_its_name_choose_it(name: str) -> None:
    rows = row_names(table(name), {})
    for row in rows:
        assert row in choose(row.key.split(), rows, 11)
        assert choose(row.name.split(), rows, 11) == choose(row.key.split(), rows, 11)


def test_names_say_which_scale_is_which() -> None:
    assert row_names(table("table4"), {})[4].name == "D, S 256, Q 224 256 288"
    assert RowName({"net": "D", "S": "256", "Q": "256"}, (), 13).name == "D, S 256, Q 256, seed 13"


def test_the_name_of_another_table_is_answered_with_its_command() -> None:
    with pytest.raises(UsageError, match=r"shallow is a table of its own: vgg-repro explain shallow$"):
        chosen(["shallow"], row_names(table("table3"), {}), 11, "Table 3", "vgg-repro explain table3")


def test_several_rows_are_all_found() -> None:
    assert keys("table3", "D") == ["D, 256, 256", "D, 384, 384", "D, 256-512, 384"]
    assert len(keys("table4", "")) == 10
    assert keys("table4", "F 256") == keys("table4", "D 999") == []


@pytest.mark.parametrize("name", TABLES)
def test_every_row_has_words_that_choose_it_alone(name: str) -> None:
    rows = row_names(table(name), {})
    for row in rows:
        words = choosing_words(row, rows, 11)
        assert choose(shlex.split(words), rows, 11) == [row]
        assert re.search("[A-Za-z]", words), "a number alone says nothing to a reader"


def test_several_rows_are_listed_each_with_its_command() -> None:
    rows = row_names(table("table3"), {})
    with pytest.raises(UsageError) as failure:
        chosen(["D"], rows, 11, "Table 3", "vgg-repro explain table3")
    assert failure.value.code == 2
    assert str(failure.value) == (
        "3 rows of Table 3 fit: D. To choose one:\n"
        "  vgg-repro explain table3 D-256      D, S 256, Q 256\n"
        "  vgg-repro explain table3 D-384      D, S 384, Q 384\n"
        "  vgg-repro explain table3 D-jitter   D, S 256-512, Q 384"
    )


def test_without_a_fitting_row_the_nearest_are_named() -> None:
    with pytest.raises(UsageError, match=r"no row of Table 7 fits: gogglenet\. The nearest:\n.*GoogLeNet"):
        chosen(["gogglenet"], row_names(table("table7"), {}), 11, "Table 7", "vgg-repro explain table7")


SEEDS = {
    "seeds": [11, 12, 13],
    "rows": [{"table": "table3", "label": {"net": "A", "S": "256", "Q": "256"}, "runs": ["A-256"]}],
}


@pytest.mark.parametrize("words", ["A-256-seed12", "A seed12", "seed=12 a", "A 256 seed 12"])
def test_a_further_seed_is_chosen_by_its_number(words: str) -> None:
    rows = row_names(table("table3"), SEEDS)
    assert [row.key for row in choose(words.split(), rows, 11)] == ["A, 256, 256, seed 12"]


def test_the_tables_own_seed_is_the_tables_row_and_other_seeds_are_refused() -> None:
    rows = row_names(table("table3"), SEEDS)
    assert choose(["A"], rows, 11) == choose(["A-256-seed11"], rows, 11) == [rows[0]]
    assert choosing_words(rows[-1], rows, 11) == "A seed13"
    with pytest.raises(UsageError, match="Table 3 has no row of seed 99; its seeds: 11, 12, 13"):
        chosen(["A", "seed99"], rows, 11, "Table 3", "")
    with pytest.raises(UsageError, match="seed 1; its seeds: none"):
        chosen(["A", "seed1"], row_names(table("table3"), {}), None, "Table 3", "")


def test_labels_of_any_alphabet_are_found_in_any_case() -> None:
    rows = [RowName({"entry": name}, ()) for name in ("Ångström & Ørsted (2 сети)", "Ångström (1 сеть)", "Straße's")]
    assert choose(["ångström", "ØRSTED"], rows, None) == [rows[0]]
    assert choose(["A\u030angstro\u0308m", "СЕТЬ"], rows, None) == [rows[1]]
    assert choose(["STRASSE'S"], rows, None) == [rows[2]]
    for row in rows:
        assert choose(shlex.split(choosing_words(row, rows, None)), rows, None) == [row]


def test_rows_that_their_words_do_not_tell_apart_have_all_their_words() -> None:
    rows = [RowName({"entry": "net, one"}, ()), RowName({"entry": "one net"}, ())]
    assert [choosing_words(row, rows, None) for row in rows] == ["net one", "one net"]
    assert choose(["net", "one"], rows, None) == rows


def test_the_words_of_all_labels_can_be_completed() -> None:
    assert [*every_word(row_names(table("table5"), {}))] == [
        "D", "256-512", "256", "384", "512", "dense", "multi-crop", "E",
    ]  # fmt: skip
