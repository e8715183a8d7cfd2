"""The charts: drawn from hand-made results, with their numbers in the data and in the text next to each image."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pipeline.experiment.paper_tables import printed
from pipeline.results.chart_data import MATRIX
from pipeline.results.filters import Filters
from pipeline.results.illustrations import ReceptiveFields, StackField
from pipeline.results.profile_results import Results
from pipeline.results.provenance import keep_provenance, record_provenance
from pipeline.results.ranks import guesses_of
from reports.charts import CHARTS, draw_charts
from reports.pages import render
from tests.support.hand_made import HandMade
from tests.support.illustrations import made_up

BY_NAME = {chart.name: chart for chart in CHARTS}
KILOBYTES = 300  # of an image at most


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    """Make warnings errors, such as those of letters that the font lacks."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def error(value: float) -> dict[str, float]:
    """An error of 1,000 images."""
    return {"error": value, "low": value - 2, "high": value + 2, "images": 1000}


def table(name: str, ours: dict[str, float], k: int = 5) -> dict[str, Any]:
    """A printed table by scales, with our top-1 errors of the rows named "NET, S, METHOD"."""
    rows = []
    for row in printed(name):
        label = {"net": row["net"], "S": row["train_scale"], "Q": row["test_scales"]}
        label |= {"method": row["method"]} if "method" in row else {}
        key = ", ".join(value for place, value in label.items() if place != "Q")
        values = {"top1": error(ours[key]), "topk": error(ours[key] / 4)} if key in ours else None
        paper = {"top1_val": float(row["top1_val"]), "top5_val": float(row["top5_val"])}
        rows.append({"label": label, "paper": paper, "ours": values})
    return {"rows": rows, "k": k, "data": "digits", "classes": 10}


def drawn(name: str, results: HandMade, tmp_path: Path) -> tuple[pd.DataFrame, Figure, str]:
    """A chart's data as read back from its file, its figure and its text; test what every chart must have."""
    (chart,) = [chart for chart in draw_charts(cast(Results, results), tmp_path) if chart.kind.name == name]
    image = (tmp_path / f"{name}.png").read_bytes()
    assert image.startswith(b"\x89PNG") and len(image) < KILOBYTES * 1000
    text = (tmp_path / f"{name}.csv").read_text()
    assert text == chart.rows.to_csv(index=False)
    figure = BY_NAME[name].drawn(pd.read_csv(StringIO(text), dtype={"seed": str}))
    return chart.rows, figure, chart.figure.alt


def not_drawn(name: str, results: HandMade) -> bool:
    """Whether there is nothing to draw."""
    return not len(BY_NAME[name].rows(cast(Results, results)))


def points(figure: Figure) -> set[tuple[str, float]]:
    """The heights of all marks in the panels, with the panel's title."""
    return {
        (axes.get_title(), round(float(y), 4)) for axes in figure.axes for line in axes.lines for y in line.get_ydata()
    }


def test_depth_shows_every_error_and_its_interval(tmp_path: Path) -> None:
    ours = {"A, 256": 30.0, "C, 256": 26.0, "D, 256": 20.0, "D, 256-512": 18.0, "E, 384": 22.5}
    results = HandMade({"table3": table("table3", ours), "table4": table("table4", {"D, 256-512": 17.0})})
    rows, figure, text = drawn("depth", results, tmp_path)
    top1 = rows[(rows["source"] == "ours, digits") & (rows["measure"] == "top-1")]
    assert sorted(top1["error"]) == [17, 18, 20, 22.5, 26, 30]
    assert (top1["error"] - top1["low"] == 2).all() and (top1["high"] - top1["error"] == 2).all()
    assert {error for title, error in points(figure) if title == "ours\ndigits"} == {17, 18, 20, 22.5, 26, 30}
    assert "ours, digits, top-1 error in per cent: S = 256: A 30.0, C 26.0, D 20.0; S = 384: E 22.5;" in text
    assert "the paper, ILSVRC-2012, top-5 error in per cent: S = 256: A 10.4, B 9.9" in text


def test_depth_shows_the_mean_and_each_seed(tmp_path: Path) -> None:
    results = HandMade({"table3": table("table3", {"A, 256": 30.0, "B, 256": 28.0})})
    label = results.tables["table3"]["rows"][0]["label"]
    by_seed = {"11": 30.0, "12": 33.0, "13": 27.6}
    measure = {"by_seed": by_seed}
    results.seeds = {"rows": [{"table": "table3", "label": label, "top1": measure, "topk": measure}]}
    rows, figure, text = drawn("depth", results, tmp_path)
    top1 = rows[(rows["source"] == "ours, digits") & (rows["measure"] == "top-1")]
    of_a = top1[top1["net"] == "A"].set_index("seed")["error"]
    assert of_a.to_dict() == pytest.approx({"mean of 3": 30.2, **by_seed})
    assert {30.2, 30.0, 33.0, 27.6, 28.0} == {error for title, error in points(figure) if title == "ours\ndigits"}
    assert "S = 256: A 30.2, B 28.0." in text


@pytest.mark.parametrize("k", [1, 4])
def test_depth_has_top_1_alone_where_there_is_no_other(k: int, tmp_path: Path) -> None:
    rows, figure, _ = drawn("depth", HandMade({"table3": table("table3", {"A, 256": 9.0}, k)}), tmp_path)
    assert len(figure.axes) == (2 if k == 1 else 4)
    assert set(rows.loc[rows["source"] == "ours, digits", "measure"]) == {"top-1", f"top-{k}"}


def test_nothing_is_drawn_without_results() -> None:
    assert all(not_drawn(name, HandMade()) for name in BY_NAME)
    nothing = HandMade({name: table(name, {}) for name in ("table3", "table4", "table5")})
    assert not_drawn("depth", nothing) and not_drawn("waterfall", nothing)


def evaluated(**without: bool) -> HandMade:
    """Results of D evaluated in every way, without some tables; E is not run."""
    rows = {"D, 256-512": 20.0}
    five = {"D, 256-512, dense": 19.0, "D, 256-512, multi-crop": 19.5, "D, 256-512, multi-crop & dense": 18.0}
    tables = {"table3": table("table3", rows), "table4": table("table4", {"D, 256-512": 19.0}),
              "table5": table("table5", five)}  # fmt: skip
    for row in tables["table3"]["rows"]:
        if row["ours"]:
            row["centre"] = 24.0
    return HandMade({name: values for name, values in tables.items() if not without.get(name)})


def test_the_waterfall_has_each_steps_gain_and_the_papers(tmp_path: Path) -> None:
    rows, figure, text = drawn("waterfall", evaluated(), tmp_path)
    ours = rows[rows["source"] == "ours"].set_index("step")
    assert ours["error"].tolist() == [24, 20, 19, 19.5, 18] and ours["change"].tolist()[1:] == [-4, -1, 0.5, -1.5]
    paper = rows[rows["source"] == "the paper"].set_index("step")
    assert paper["error"].tolist() == [25.6, 24.8, 24.6, 24.4]
    assert paper["change"].tolist()[1:] == pytest.approx([-0.8, -0.2, -0.2])
    assert [axes.get_title() for axes in figure.axes] == ["D, the paper", "D, ours"]
    shown = [note.get_text() for note in figure.axes[1].texts]
    assert shown == ["24.0", "20.0 (−4.0)", "19.0 (−1.0)", "19.5 (+0.5)", "18.0 (−1.5)"]
    assert "D, ours: centre crop 24.0, dense, one Q 20.0 (−4.0), dense, three Q 19.0 (−1.0)," in text


def test_the_waterfall_compares_the_steps_that_are_run(tmp_path: Path) -> None:
    rows, _, _ = drawn("waterfall", evaluated(table4=True), tmp_path)
    paper = rows[rows["source"] == "the paper"].set_index("step")
    assert "dense, three Q" not in set(rows["step"])
    assert paper.loc["50 crops, three Q", "change"] == pytest.approx(-1.0)
    assert not_drawn("waterfall", HandMade({"table4": evaluated().tables["table4"]}))


def trained(runs: dict[str, tuple[Any, str]], epochs: int) -> HandMade:
    """Results of training runs, each with S and initial weights; the rate falls after half of the epochs."""
    rates = np.where(np.arange(epochs) < epochs / 2, 0.01, 0.001)
    history = {"epoch": range(epochs), "loss": np.linspace(3, 1, epochs), "learning_rate": rates}
    return HandMade(
        summaries={
            run: {"net": run.split("-")[0], "scale": scale, "init": init} for run, (scale, init) in runs.items()
        },
        histories={run: pd.DataFrame(history | {"top1": np.linspace(90, 40 - len(run), epochs)}) for run in runs},
    )


def test_learning_curves_are_grouped_and_share_their_axes(tmp_path: Path) -> None:
    runs = {"A-256": (256, "random-A"), "D-jitter": ([256, 512], "D-384"), "D-384": (384, "D-256"),
            "D-256": (256, "A-256"), "D-256-seed2": (256, "A-256-seed2")}  # fmt: skip
    rows, figure, text = drawn("curves", trained(runs, 6), tmp_path)
    families = dict(zip(rows["family"], rows["run"], strict=True))
    assert families == {"from random weights": "A-256", "warm start, S = 256": "D-256",
                        "fine-tuned, larger S": "D-384", "jittered S": "D-jitter"}  # fmt: skip
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert (
        len({axes.get_ylim() for axes in figure.axes[::2]}) == len({axes.get_ylim() for axes in figure.axes[1::2]}) == 1
    )
    assert rows.loc[rows["drop"] == 1, "epoch"].tolist() == [4] * 4
    assert all(list(axes.lines[1].get_xdata()) == [4] for axes in figure.axes)
    assert "from random weights: A-256 90.0 to 35.0 in 6 epochs, lower rate from epoch 4." in text


@pytest.mark.parametrize("epochs", [1, 300])
def test_one_run_is_enough_for_a_learning_curve(epochs: int, tmp_path: Path) -> None:
    rows, figure, _ = drawn("curves", trained({"A-256": (256, "random-A")}, epochs), tmp_path)
    assert len(rows) == epochs and len(figure.axes) == 2
    assert figure.axes[0].lines[0].get_ydata().tolist() == pytest.approx(rows["top1"].tolist())


def made(started: str, seconds: float, machine: str = "M") -> dict[str, Any]:
    """A record of provenance."""
    return {"machine": machine, "device": "cpu", "started": started, "seconds": seconds}


def test_the_time_line_shows_who_ran_when_and_where(tmp_path: Path) -> None:
    records = {
        "dense@A-256": made("2026-11-27T20:30:00+00:00", 1800),
        "train@A-256": made("2026-11-27T18:00:00+00:00", 7200),
        "extra-train@A-256-seed2": made("2026-11-27T19:00:00+00:00", 3600, "N"),
        "train@B-256": {"machine": "M", "device": "cpu", "seconds": 5.0},
        "table3": made("2026-11-27T21:30:00+00:00", 0),
        "train@C-256": None,
    }
    rows, figure, text = drawn("timeline", HandMade(records=records), tmp_path)
    assert rows[["run", "work", "hours", "took"]].to_numpy().tolist() == [
        ["A-256", "train", 0.0, 2.0],
        ["A-256-seed2", "train", 1.0, 1.0],
        ["A-256", "dense", 2.5, 0.5],
    ]
    bars = [(axes.get_title("left"), bar.get_x(), bar.get_width()) for axes in figure.axes for bar in axes.patches]
    assert bars == [("M, cpu", 0.0, 2.0), ("M, cpu", 2.5, 0.5), ("N, cpu", 1.0, 1.0)]
    assert text.startswith(
        "Time line of 3 stages in 3 h 00 min on 2 devices, several at a time "
        "(added up, train: 2 in 3 h 00 min; dense: 1 in 30 min"
    )


def test_stages_one_after_another_are_not_said_to_be_at_a_time(tmp_path: Path) -> None:
    records = {f"train@{net}-256": made(f"2026-11-27T1{hour}:00:00+00:00", 3600) for hour, net in enumerate("AB")}
    assert (
        " on 1 device (added up, train: 2 in 2 h 00 min)" in drawn("timeline", HandMade(records=records), tmp_path)[2]
    )


def test_without_starts_there_is_no_time_line() -> None:
    assert not_drawn("timeline", HandMade(records={"train@A-256": {"machine": "M", "device": "cpu", "seconds": 5.0}}))


NAMES = ["Äpfel", "naïve café", "日本", "$x_1$", "a|b, c", "a name that is far too long for an axis"]


def guessed(classes: int, rng: np.random.Generator) -> HandMade:
    """Results with guesses of so many classes."""
    labels = rng.integers(0, classes, 2000)
    posteriors = rng.random((2000, classes)) + 0.9 * np.eye(classes)[labels] * rng.integers(0, 2, (2000, 1))
    names = [NAMES[label] if label < len(NAMES) else f"class {label}" for label in range(classes)]
    return HandMade(facts={"classes": names}, guesses=("table5", guesses_of("D", posteriors, labels)))


@pytest.mark.parametrize("classes", [2, 10, MATRIX])
def test_a_confusion_matrix_counts_every_image(classes: int, tmp_path: Path, rng: np.random.Generator) -> None:
    results = guessed(classes, rng)
    assert results.guesses and not_drawn("confused", results)
    guesses = results.guesses[1]
    rows, figure, text = drawn("confusion", results, tmp_path)
    counts = rows.iloc[:, 1:].to_numpy()
    for true in range(classes):
        mine = guesses.classes[guesses.labels == true, 0]
        assert counts[true].tolist() == [int((mine == guess).sum()) for guess in range(classes)]
    shares = figure.axes[0].images[0].get_array()
    assert shares is not None
    assert np.asarray(shares) == pytest.approx(100 * counts / counts.sum(1, keepdims=True))
    assert f"{counts.trace():,} of 2,000 images are on the diagonal" in text
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()[:3]] == ["Äpfel", "naïve café", "class 2"][
        :classes
    ]


@pytest.mark.parametrize("classes", [MATRIX + 1, 1000])
def test_of_many_classes_the_most_confused_pairs_are_shown(
    classes: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    results = guessed(classes, rng)
    assert results.guesses and not_drawn("confusion", results)
    guesses = results.guesses[1]
    rows, figure, text = drawn("confused", results, tmp_path)
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (guesses.labels, guesses.classes[:, 0]), 1)
    np.fill_diagonal(counts, 0)
    assert rows["images"].tolist() == sorted(counts.flat, reverse=True)[:20]
    for row in rows.itertuples():
        assert counts[row.true, row.guess] == row.images
        assert row.of == (guesses.labels == row.true).sum()
    assert [bar.get_width() for bar in figure.axes[0].patches] == rows["images"].tolist()
    first = rows.iloc[0]
    assert f"in images: {first['true class']} as {first['first guess']} ({first['images']} of {first['of']})" in text


def test_the_shallow_nets_text_and_data_say_the_same(tmp_path: Path) -> None:
    rows = [{"label": {"net": net}, "ours": {"top1": error(value)}} for net, value in (("B", 20.0), ("shallow", 26.5))]
    data, _, text = drawn("shallow", HandMade({"shallow": {"rows": rows}}), tmp_path)
    assert data["error"].tolist() == [20.0, 26.5]
    assert "B 20.0 (18.0 to 22.0), the shallow net 26.5 (24.5 to 28.5), a difference of +6.5 points" in text
    assert not_drawn("shallow", HandMade({"shallow": {"rows": [*rows[:1], {**rows[1], "ours": None}]}}))


def test_a_fresh_clone_keeps_the_time_line_of_its_results(clone: Path) -> None:
    run = clone / "reports/mini/runs/A-256.json"
    record_provenance("train@A-256", run, "cpu", 1, 60.0)
    render("mini", clone / "out")
    names = ("provenance.md", "timeline.png", "timeline.csv")
    before = {name: (clone / "out/mini" / name).read_bytes() for name in names}
    assert b"](timeline.png)" in before["provenance.md"]
    keep_provenance("mini", Results("mini").known_provenance)  # as `vgg-repro report` does
    shutil.rmtree(clone / "provenance")
    render("mini", clone / "out")
    assert {name: (clone / "out/mini" / name).read_bytes() for name in names} == before
    (clone / "reports/mini/table3.json").unlink()
    (clone / "reports/mini/provenance.json").unlink()
    render("mini", clone / "out")
    assert not (clone / "out/mini/timeline.png").exists() and not (clone / "out/mini/timeline.csv").exists()


def test_a_result_that_is_new_here_leaves_the_provenance_of_the_others(clone: Path) -> None:
    committed = json.loads((clone / "reports/mini/provenance.json").read_text())
    record_provenance("train@A-256", clone / "reports/mini/runs/A-256.json", "cpu", 1, 60.0)
    render("mini", clone / "out")
    text = (clone / "out/mini/provenance.md").read_text()
    assert {record["commit"] for record in committed.values()} <= set(re.findall(r"^\| ([0-9a-f]{12})", text, re.M))
    assert len((clone / "out/mini/timeline.csv").read_text().splitlines()) > 20


def test_every_chart_has_its_data_next_to_it_and_numbers_in_its_text(clone: Path) -> None:
    _, pages = render("mini", clone / "out")
    shown = [match for page in pages for match in re.findall(r"!\[(.*)\]\((\w+)\.png\)\n\n(.*)\n", page.read_text())]
    assert {name for _, name, _ in shown} >= {"depth", "waterfall", "curves", "shallow"}
    for alt, name, caption in shown:
        assert re.search(r"\d", alt) and len(alt) < 2000
        assert caption.endswith(f" Data: [{name}.csv]({name}.csv).")


@pytest.mark.parametrize("filters", [1, 8, 64])
def test_the_first_layers_filters_are_drawn_the_strongest_first(
    filters: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    values = rng.normal(0, 0.1, (filters, 3, 3, 3)).astype(np.float32)
    rows, figure, text = drawn("filters", HandMade(filters=Filters("D-jitter", "hash", values)), tmp_path)
    norms = [float(np.linalg.norm(value)) for value in values]
    assert rows["norm"].tolist() == pytest.approx(sorted(norms, reverse=True))
    first = values[rows["filter"].iloc[0]].transpose(1, 2, 0)
    image = np.asarray(figure.axes[0].images[0].get_array())
    assert image == pytest.approx(0.5 + first / (2 * np.abs(first).max()), abs=1e-6)
    assert f"The {filters} filters of the first layer of D-jitter" in text
    assert f"from {max(norms):.2f} to {min(norms):.2f}" in text


def test_a_chart_as_svg_has_its_text_as_text_and_equal_bytes(tmp_path: Path, draws_anew: None) -> None:
    for place in ("one", "two"):
        draw_charts(cast(Results, evaluated()), tmp_path / place, ".svg")
    first, second = ((tmp_path / place / "waterfall.svg").read_text() for place in ("one", "two"))
    assert first == second and "20.0 (−4.0)</text>" in first


def test_receptive_fields_show_every_pixel_that_is_seen(tmp_path: Path, rng: np.random.Generator) -> None:
    """The middle pixel of the first stack counts three times as much as a corner; the second sees one pixel."""
    first = [[0.1, 0.1, 0.1, 0.0], [0.1, 0.3, 0.1, 0.0], [0.1, 0.1, 0.1, 0.0], [0.0, 0.0, 0.0, 0.0]]
    second = [[0.0] * 4, [0.0, 1.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4]
    fields = ReceptiveFields([StackField([3, 3], first), StackField([7], second)])  # type: ignore[arg-type]
    shown = replace(made_up(rng, images=False), fields=fields)
    rows, figure, text = drawn("receptive", HandMade(illustrations=shown), tmp_path)
    assert [(axes.get_title(), len(axes.patches)) for axes in figure.axes] == [("two 3x3", 1 + 9), ("one 7x7", 1 + 1)]
    assert len(rows) == 2 * 16 and rows["gradient"].sum() == pytest.approx(2.1)
    assert "two 3x3: 3 x 3 pixels, the middle pixel 3 times as much as a corner; one 7x7: 1 x 1 pixels, all " in text
