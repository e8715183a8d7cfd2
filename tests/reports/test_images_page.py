"""The page of what the network sees: its pictures, their data and words, and what is said if something is missing."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pipeline.errors import Failure
from pipeline.experiment.paths import illustrated_images, illustrations
from pipeline.results.illustration_data import CROPS, DENSE
from pipeline.results.illustrations import Illustrations, grid_values, read_illustrations, write_illustrations
from pipeline.results.profile_results import Results
from reports.charts import CHARTS, IMAGES, Chart, charts_on, draw_charts
from reports.images_page import images_page
from reports.markdown import markdown
from reports.pages import render
from reports.site import write_site
from tests.support.hand_made import HandMade
from tests.support.illustrations import made_up

PICTURES = {"scoremap": ".jpg", "padding": ".png", "training-crops": ".jpg", "scales": ".jpg"}
BY_NAME = {chart.name: chart for chart in CHARTS}
KILOBYTES = 300


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    """Make warnings errors, such as those of letters that the font lacks."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def drawn(shown: Illustrations, folder: Path) -> dict[str, Chart]:
    """The pictures that are drawn, by name; their files are small and their data are those that they show."""
    charts = {chart.kind.name: chart for chart in draw_charts(cast(Results, HandMade(illustrations=shown)), folder)}
    for name, chart in charts.items():
        image = (folder / f"{name}{PICTURES[name]}").read_bytes()
        assert len(image) < KILOBYTES * 1000 and b"Software\0vgg-repro" in image
        assert (folder / f"{name}.csv").read_text() == chart.rows.to_csv(index=False)
    return charts


def figure(name: str, chart: Chart, shown: Illustrations) -> Figure:
    """A picture as matplotlib has it."""
    return BY_NAME[name].drawn(chart.rows, shown.pixels())


@pytest.mark.parametrize("shape", [(246, 330), (330, 246), (512, 700), (96, 96), (600, 97)])
def test_the_pictures_are_small_and_have_their_data(
    shape: tuple[int, int], tmp_path: Path, rng: np.random.Generator
) -> None:
    charts = drawn(made_up(rng, shape), tmp_path)
    assert charts.keys() == PICTURES.keys()
    assert all(re.search(r"\d", chart.figure.alt) and len(chart.figure.alt) < 1000 for chart in charts.values())


def test_full_size_crops_of_photographs_stay_small(tmp_path: Path, rng: np.random.Generator) -> None:
    assert drawn(made_up(rng, (512, 683), crop=224), tmp_path).keys() == PICTURES.keys()


def test_each_cell_of_map_and_crops_is_at_its_place(tmp_path: Path, rng: np.random.Generator) -> None:
    shown = made_up(rng)
    chart = drawn(shown, tmp_path)["scoremap"]
    image, rows = shown.scored, chart.rows
    dense, crops = (rows[rows["source"] == source] for source in (DENSE, CROPS))
    assert len(dense) == len(image.map.tops) * len(image.map.lefts) and len(crops) == 25
    assert dense["true"].to_numpy() == pytest.approx(grid_values(image.map.true).ravel())
    assert crops["other"].to_numpy() == pytest.approx(grid_values(image.grid.other).ravel())
    last = crops.iloc[-1]
    assert (last["y"], last["x"]) == pytest.approx((1 - 48 / image.height, 1 - 48 / image.width))
    panels = figure("scoremap", chart, shown).axes[:4]
    assert panels[1].get_title() == CROPS and panels[2].get_ylabel() == "other class: goldfish"
    assert [text.get_text() for text in panels[1].texts] == [f"{100 * value:.0f}" for value in crops["true"]]
    frames = [patch.get_zorder() for patch in panels[1].patches]
    assert all(text.get_bbox_patch() and text.get_zorder() > max(frames) for text in panels[1].texts)
    assert f"{CROPS}, 25 places: class tench {100 * crops['true'].min():.0f} to" in chart.figure.alt


def test_map_and_crops_are_compared_only_where_the_crop_is_within_the_image(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    shown = made_up(rng)
    chart = drawn(shown, tmp_path)["padding"]
    dense, cut = (grid_values(places.true) for places in (shown.scored.map, shown.scored.cut))
    assert np.isnan(cut[-1]).all() and len(chart.rows) == np.isfinite(cut).sum() < cut.size
    apart = 100 * np.nanmean(np.abs(cut - dense))
    assert f"differ by {apart:.1f} points on average" in chart.figure.alt
    text = markdown(images_page(cast(Results, HandMade(illustrations=shown)), ()))
    assert f"map and crops are {apart:.1f} points apart" in text


def test_training_crops_say_how_they_were_drawn(tmp_path: Path, rng: np.random.Generator) -> None:
    shown = made_up(rng)
    chart = drawn(shown, tmp_path)["training-crops"]
    assert len(chart.rows) == 30 and list(chart.rows["S"].unique()) == ["256", "384", "256-512"]
    assert chart.rows["drawn"].iloc[0] == round(130 * 224 / 96)
    panels = figure("training-crops", chart, shown).axes
    assert len(panels) == 30 and panels[0].get_ylabel() == "S = 256" and panels[29].get_xlabel() == "324"
    assert "S = 256-512: S from 303 to 324" in chart.figure.alt


def test_the_crops_share_of_the_image_is_its_area(tmp_path: Path, rng: np.random.Generator) -> None:
    chart = drawn(made_up(rng), tmp_path)["scales"]
    assert chart.rows["share"].tolist() == pytest.approx([96 * 96 / (123 * 165), 96 * 96 / (246 * 330)])
    assert "45 % of its area at S = 256 and 11 % of its area at S = 512" in chart.figure.alt


def test_without_images_the_numbers_are_still_drawn(tmp_path: Path, rng: np.random.Generator) -> None:
    shown = made_up(rng, images=False)
    assert drawn(shown, tmp_path).keys() == {"scoremap", "padding"}
    text = markdown(images_page(cast(Results, HandMade(illustrations=shown)), ()))
    assert "The photographs are not in this report" in text and "`dvc repro illustrations`" in text


def test_with_published_weights_there_are_no_training_crops(tmp_path: Path, rng: np.random.Generator) -> None:
    shown = made_up(rng, trained=False)
    assert drawn(shown, tmp_path).keys() == PICTURES.keys() - {"training-crops"}
    assert "with published weights" in markdown(images_page(cast(Results, HandMade(illustrations=shown)), ()))


@pytest.mark.parametrize(
    ("right", "words"),
    [((True, False), "gets right and the centre crop wrong"), ((True, True), "no image was found that only"),
     ((False, False), "gets no image right")],
)  # fmt: skip
def test_the_page_says_why_this_image(right: tuple[bool, bool], words: str, rng: np.random.Generator) -> None:
    results = cast(Results, HandMade(illustrations=made_up(rng, right=right)))
    assert words in markdown(images_page(results, ()))


def test_names_that_the_font_lacks_are_numbers_in_the_picture(tmp_path: Path, rng: np.random.Generator) -> None:
    shown = made_up(rng, classes=("猫", "12"))
    chart = drawn(shown, tmp_path)["scoremap"]
    read = replace(chart, rows=pd.read_csv(tmp_path / "scoremap.csv"))
    panels = figure("scoremap", read, shown).axes
    assert (panels[0].get_ylabel(), panels[2].get_ylabel()) == ("true class: class 0", "other class: 12")


def with_illustrations(clone: Path, shown: Illustrations) -> Path:
    """Write illustrations of the committed images of mini to a clone; return the folder of its results."""
    folder = clone / "reports/mini"
    manifest = json.loads((folder / "data/classification.json").read_text())["manifest"]
    write_illustrations(replace(shown, manifest=manifest))
    return folder


def test_values_are_read_back_as_they_were_written(clone: Path, rng: np.random.Generator) -> None:
    shown = made_up(rng)
    write_illustrations(shown)
    assert read_illustrations("mini") == shown
    before = illustrations("mini").read_bytes(), illustrated_images("mini").read_bytes()
    write_illustrations(shown)
    assert (illustrations("mini").read_bytes(), illustrated_images("mini").read_bytes()) == before
    illustrated_images("mini").unlink()
    assert read_illustrations("mini") == replace(shown, images={})
    write_illustrations(replace(shown, images={"a": b"b"}, manifest="other"))
    illustrations("mini").write_bytes(before[0])
    assert read_illustrations("mini") == replace(shown, images={}), "these images belong to other numbers"


@pytest.mark.parametrize("path", [illustrations("mini"), illustrated_images("mini")])
def test_a_broken_file_is_named_with_the_stage_that_makes_it_again(
    path: Path, clone: Path, rng: np.random.Generator
) -> None:
    with_illustrations(clone, made_up(rng))
    path.write_text("{}")
    with pytest.raises(Failure, match="dvc repro illustrations"):
        read_illustrations("mini")


def test_the_report_has_the_page_and_the_html_the_pictures_as_jpeg(clone: Path, rng: np.random.Generator) -> None:
    with_illustrations(clone, made_up(rng))
    results, _ = render("mini", clone / "out")
    assert results.paths["illustrations"] == illustrations("mini")
    page = (clone / "out/mini/images.md").read_text()
    assert [name for name in PICTURES if f"]({name}{PICTURES[name]})" in page] == list(PICTURES)
    assert "](images.md)" in (clone / "out/mini/README.md").read_text()
    html = write_site("mini", clone / "out")[1].read_text()
    section = html[html.index('id="images"') : html.index('id="localisation"')]
    assert section.count("data:image/jpeg") == 4 + 30 + 3 and "dense map</text>" in section
    assert len(section) < 400_000


def test_nothing_computed_yet_names_the_command(clone: Path) -> None:
    illustrations("mini").unlink(missing_ok=True)
    render("mini", clone / "out")
    page = (clone / "out/mini/images.md").read_text()
    assert "`dvc repro illustrations`" in page and "![" not in page


def test_illustrations_of_other_images_are_not_shown_and_pictures_of_them_go(
    clone: Path, rng: np.random.Generator
) -> None:
    with_illustrations(clone, made_up(rng))
    render("mini", clone / "out")
    assert (clone / "out/mini/scales.jpg").exists()
    write_illustrations(made_up(rng))
    results, _ = render("mini", clone / "out")
    assert results.illustrations is None and "illustrations" in results.others
    assert not any(
        (clone / "out/mini" / f"{name}{end}").exists() for name, kind in PICTURES.items() for end in (kind, ".csv")
    )


def test_outdated_illustrations_are_marked(clone: Path, rng: np.random.Generator) -> None:
    with_illustrations(clone, made_up(rng))
    reason = {"illustrations": "illustrations: method.score: 4, now 5"}
    render("mini", clone / "out", reason)
    assert "method.score: 4, now 5" in (clone / "out/mini/images.md").read_text()


def test_the_pictures_can_be_shown_on_another_page(tmp_path: Path, rng: np.random.Generator) -> None:
    charts = [*drawn(made_up(rng), tmp_path).values()]
    assert len([*charts_on(IMAGES, charts)]) == 8, "a heading and a figure each"
