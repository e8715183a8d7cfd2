"""The ledger: claims tested on planted outcomes, on half of a grid, and on several seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from pipeline.errors import Failure
from pipeline.experiment.claims import CLAIMS, FC_LAYERS, Cell, located, single
from pipeline.experiment.paths import ranks
from pipeline.results.claims import Outcomes, ledger, read_outcomes
from pipeline.results.ranks import SEEDS, TableRanks, read_ranks, seed_row

IMAGES = 2000
CELLS = sorted({cell for claim in CLAIMS for pair in claim.pairs for cell in pair if not claim.sets})
EMPTY = np.zeros(0, np.int64)


def planted(rng: np.random.Generator, errors: Mapping[Cell, float]) -> dict[Cell, NDArray[np.int64]]:
    """Return the ranks of cells that find the same images hard and have about these errors in per cent."""
    hardness = rng.random(IMAGES)
    noisy = {cell: hardness + rng.normal(0, 0.01, IMAGES) for cell in errors}
    return {cell: (noisy[cell] < error / 100).astype(np.int64) for cell, error in errors.items()}


def as_printed() -> dict[Cell, float]:
    """Return the paper's errors, and made-up ones where it prints none."""
    made = {"normal": 98.0, "A's layers, others normal": 27.0, "Glorot": 28.0}
    made |= {f"{net}, {initial}": error for net in "DE" for initial, error in made.items()}
    made |= {"shallow, 256, 256": 36.0, "B, 256, 256": 29.0}
    return {cell: made[cell.row] if cell.printed is None else cell.printed for cell in CELLS}


def files(
    cells: Mapping[Cell, NDArray[np.int64]],
    seeds: Mapping[int, Mapping[Cell, NDArray[np.int64]]] | None = None,
    groups: NDArray[np.int64] = EMPTY,
) -> dict[str, TableRanks]:
    """Return what the table stages and the stage of seeds write."""
    tables: dict[str, dict[str, NDArray[np.int64]]] = {}
    for cell, values in cells.items():
        tables.setdefault(cell.table, {})[cell.row] = values
    for seed, of_seed in (seeds or {}).items():
        tables.setdefault(SEEDS, {}).update({seed_row(seed, *cell): values for cell, values in of_seed.items()})
    return {name: TableRanks(rows, groups, "these images") for name, rows in tables.items()}


def verdicts(found: Mapping[str, TableRanks], margin: float = 1.0) -> dict[str, str]:
    """Return the verdict on each claim."""
    return {entry["name"]: entry["verdict"] for entry in ledger(Outcomes(found), margin)["claims"]}


def test_the_papers_own_errors_support_its_claims_where_the_images_can_show_them(rng: np.random.Generator) -> None:
    of_sets = {claim.name for claim in CLAIMS if claim.sets}
    found = verdicts(files(planted(rng, as_printed())))
    assert {name for name, verdict in found.items() if verdict == "not run"} == of_sets
    assert set(found.values()) <= {"supported", "undecided", "not run"}
    assert {"shallow", "depth-256", "jitter", "context", "saturation", "scale-384"} <= {
        name for name, verdict in found.items() if verdict == "supported"
    }


def test_errors_the_other_way_round_contradict_claims(rng: np.random.Generator) -> None:
    turned = {cell: 60 - error for cell, error in as_printed().items()}
    found = verdicts(files(planted(rng, turned)))
    assert {found[name] for name in ("shallow", "depth-256", "jitter", "context")} == {"contradicted"}


@pytest.mark.parametrize(("second", "wanted"), [(20.0, "supported"), (98.0, "undecided"), (99.9, "contradicted")])
def test_a_claim_about_each_of_its_nets_is_decided_by_the_weakest(
    second: float, wanted: str, rng: np.random.Generator
) -> None:
    """D trains from Glorot's weights; E does, stays where it was, or gets worse."""
    errors = as_printed()
    d, e = (pair.second for pair in next(claim for claim in CLAIMS if claim.name == "glorot").pairs)
    cells = planted(rng, errors | {d: 20.0, e: second})
    (entry,) = (one for one in ledger(Outcomes(files(cells)), 1.0)["claims"] if one["name"] == "glorot")
    assert entry["verdict"] == wanted and entry["pairs_run"] == 2
    first = cells[Cell("initialisation", "E, normal")] > 0
    gain = 100 * float((first.astype(int) - (cells[e] > 0)).mean())
    assert entry["effect"] == pytest.approx(gain if second > 20 else entry["effect"])
    assert entry["gained"] + entry["lost"] <= IMAGES, "of one pair alone"


def test_localisers_are_compared_by_their_boxes_and_may_speak_against_the_paper(rng: np.random.Generator) -> None:
    """At mini size one box for all classes is the better one, and all layers are better than the FC layers."""
    wrong = {located(FC_LAYERS, "SCR"): 10.0, located(FC_LAYERS, "PCR"): 30.0, located("all", "PCR"): 12.0}
    found = verdicts(files(planted(rng, as_printed() | wrong)))
    assert (found["boxes-per-class"], found["all-layers"]) == ("contradicted", "supported")


def test_claims_about_localisers_are_of_the_images_of_their_table_and_of_one_seed(rng: np.random.Generator) -> None:
    """Table 8 counts the images with boxes alone; how classes vary from seed to seed says nothing of boxes."""
    first, *others = (planted(rng, as_printed()) for _ in range(3))
    boxed = {cell: values[: IMAGES // 2] for cell, values in first.items() if cell.table == "table8"}
    seeds = [{cell: values for cell, values in seed.items() if cell.table == "table3"} for seed in others]
    every = files(first | boxed, dict(enumerate(seeds, 1)), np.repeat(np.arange(IMAGES // 2), 2))
    every["table8"] = TableRanks(every["table8"].rows, np.arange(IMAGES // 2), "these images")
    alone = ledger(Outcomes({"table8": every["table8"]}), 1.0)["claims"]
    together = ledger(Outcomes(every), 1.0)
    assert together["images"] == IMAGES and together["seed_std"] is not None
    for own, entry in zip(alone, together["claims"], strict=True):
        if entry["section"] == "A.2":
            assert entry["counts"] == "images only"
            assert [entry[key] for key in ("effect", "low", "high", "p")] == [
                own[key] for key in ("effect", "low", "high", "p")
            ]


def test_a_claim_of_one_pair_has_the_exact_mcnemar_test(rng: np.random.Generator) -> None:
    cells = planted(rng, as_printed())
    entries = {entry["name"]: entry for entry in ledger(Outcomes(files(cells)), 1.0)["claims"]}
    first, second = cells[single("A", "256")] > 0, cells[single("B", "256")] > 0
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    entry = entries["depth-13"]
    assert (entry["gained"], entry["lost"]) == (gained, lost)
    assert entry["effect"] == pytest.approx(100 * (gained - lost) / IMAGES)
    assert entry["p"] == pytest.approx(binomtest(gained, gained + lost).pvalue)


def test_without_results_nothing_is_run_and_with_half_a_grid_the_rest_is_not(rng: np.random.Generator) -> None:
    assert set(verdicts({}).values()) == {"not run"}
    cells = planted(rng, as_printed())
    half = {cell: values for cell, values in cells.items() if cell.table == "table3" and not cell.row.startswith("E")}
    values = ledger(Outcomes(files(half)), 1.0)
    entries = {entry["name"]: entry for entry in values["claims"]}
    assert (entries["jitter"]["pairs_run"], entries["jitter"]["pairs"]) == (4, 6)
    assert entries["jitter"]["missing"] == ["table3"]
    assert entries["fusion"]["verdict"] == entries["fusion"]["verdict_holm"] == "not run"
    assert entries["fusion"]["missing"] == ["table5", "table6"]
    assert values["counts"]["not run"] == sum(entry["verdict"] == "not run" for entry in entries.values()) > 5
    assert sum(values["counts"].values()) == len(CLAIMS)


def test_seeds_are_used_where_both_sides_of_a_pair_have_them(rng: np.random.Generator) -> None:
    first, *others = (planted(rng, as_printed()) for _ in range(3))
    table3 = [{cell: values for cell, values in seed.items() if cell.table == "table3"} for seed in others]
    del table3[1][single("E", "384")]  # half a pair
    values = ledger(Outcomes(files(first, dict(enumerate(table3, 1)))), 1.0)
    entries = {entry["name"]: entry for entry in values["claims"]}
    assert values["seeds"] == 3 and values["seed_std"] is not None
    assert entries["depth-256"]["seeds"] == [3] and entries["depth-256"]["counts"] == "images and seeds"
    assert entries["scale-384"]["seeds"] == [3, 3, 2]
    assert entries["crops"]["seeds"] == [1, 1] and entries["crops"]["counts"] == "images only"
    wrong = [first, *table3]
    each = [(seed[single("A", "256")] > 0).mean() - (seed[single("E", "256")] > 0).mean() for seed in wrong]
    assert entries["depth-256"]["effect"] == pytest.approx(100 * np.mean(each))


def test_images_of_one_group_count_as_one_observation(rng: np.random.Generator) -> None:
    cells = planted(rng, as_printed())
    alone = ledger(Outcomes(files(cells)), 1.0)
    tenfold = {cell: np.repeat(values, 10) for cell, values in cells.items()}
    grouped = ledger(Outcomes(files(tenfold, groups=np.repeat(np.arange(IMAGES), 10))), 1.0)
    assert (grouped["images"], grouped["groups"]) == (10 * IMAGES, IMAGES)
    for one, ten in zip(alone["claims"], grouped["claims"], strict=True):
        if one["verdict"] == "not run":  # those about other data sets
            continue
        assert ten["effect"] == pytest.approx(one["effect"])
        assert ten["p"] == pytest.approx(one["p"])
        assert (ten["low"], ten["high"]) == pytest.approx((one["low"], one["high"]), abs=0.02)


def test_ranks_of_other_images_are_not_mixed(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = files(planted(rng, as_printed()))
    for name, file in cells.items():
        file.write(ranks("mini", name))
    assert len(read_outcomes("mini").files) == len(cells)
    TableRanks(cells["table4"].rows, EMPTY, "others").write(ranks("mini", "table4"))
    assert "table4" not in read_outcomes("mini").files
    ranks("mini", "table4").write_bytes(b"rubbish")
    with pytest.raises(Failure, match="dvc repro table4"):
        read_outcomes("mini")


def test_ranks_are_read_as_they_were_written_in_few_bytes(rng: np.random.Generator, tmp_path: Path) -> None:
    written = TableRanks(
        {"b": rng.integers(0, 50, 900), "a": rng.integers(0, 50, 900)}, np.repeat(np.arange(300), 3), "m"
    )
    written.write(tmp_path / "one.npz")
    written.write(tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert (tmp_path / "one.npz").stat().st_size < 2 * 900 + 2 * 900 + 1500
    read = read_ranks(tmp_path / "one.npz", "dvc repro table3")
    assert read and read.manifest == "m" and all((read.rows[key] == written.rows[key]).all() for key in "ab")
    assert (read.groups == written.groups).all()
