"""The charts of other data sets with the class names of the paper's sets: nothing is cut, and ties are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipeline.datasets.readers.actions import ACTIONS
from pipeline.datasets.readers.voc import VOC_CLASSES
from pipeline.experiment.other_sets import IMAGE, IMAGE_AND_BOX, MEASURES, METHODS, PROTOCOLS
from pipeline.results.set_chart_data import class_rows
from pipeline.results.shown_sets import example_image
from reports.alternatives import set_classes_text, set_examples_text
from reports.chart_style import in_style
from reports.set_drawing import Images, class_chart, example_chart, map_chart
from tests.support.hand_made import HandMade

CALTECH_101 = ["Faces_easy", "crocodile_head", "electric_guitar", "ant", "windsor_chair", "BACKGROUND_Google"]
CALTECH_101 += [f"animal_{number}" for number in range(96)]
CALTECH_256 = ["045.computer-keyboard", "046.computer-monitor", "063.electric-guitar-101", "257.clutter"]
CALTECH_256 += [f"{number:03d}.thing" for number in range(253)]
NAMES: dict[str, Sequence[str]] = {
    "voc2007": VOC_CLASSES, "voc2012": VOC_CLASSES, "caltech101": CALTECH_101, "caltech256": CALTECH_256,
    "actions": ACTIONS,
}  # fmt: skip


def table_row(name: str, variant: str, values: Sequence[float]) -> dict[str, Any]:
    """A row of Table 11 or 12 by both nets, with these values of the classes in one split."""
    method = f"{METHODS['DE']}, {variant}" if variant else METHODS["DE"]
    split = {"by_class": dict(zip(NAMES[name], values, strict=True))}
    ours = {"value": float(np.mean(values)), "std": None, "splits": [split]}
    return {"label": {"method": method}, "set": name, "paper": {"value": 89.7}, "ours": ours}


def made_up(values: Callable[[int], Sequence[float]]) -> pd.DataFrame:
    """The rows of the chart of classes, with made-up values of so many classes of each of the paper's data sets."""
    rows = [
        table_row(name, variant, values(len(classes)))
        for name, classes in NAMES.items() for variant in ([IMAGE, IMAGE_AND_BOX] if name == "actions" else [""])
    ]  # fmt: skip
    sets = {
        name: {"title": one.title, "measure": one.measure, "measured": MEASURES[one.measure], "counted": one.counted}
        for name, one in PROTOCOLS.items()
    }
    return class_rows(HandMade(other_sets={"table11": {"rows": rows, "sets": sets}}))  # type: ignore[arg-type]


@pytest.fixture
def classes(rng: np.random.Generator) -> pd.DataFrame:
    """Values of which the best are 100."""
    return made_up(lambda count: np.clip(rng.normal(85, 15, count), 0, 100).tolist())


def few(classes: pd.DataFrame) -> Iterator[tuple[dict[str, Any], str, int]]:
    """Yield six classes of each data set, among them those of the longest names; first what the set is called."""
    for name, own in classes.groupby("set", sort=False):
        about = own.iloc[0][["set", "title"]].to_dict()
        yield from ((about, label, number) for number, label in enumerate(NAMES[str(name)][:6]))


def assert_whole(figure: Figure) -> None:
    """Assert that no text of a figure leaves it."""
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    for text in texts:
        place, (width, height) = text.get_window_extent(), figure.bbox.size
        assert place.x0 >= 0 and place.y0 >= 0 and place.x1 <= width and place.y1 <= height, text.get_text()


def test_no_name_and_no_dot_of_a_class_is_cut(classes: pd.DataFrame) -> None:
    with in_style():
        figure = class_chart(classes)
        assert_whole(figure)
    assert len(figure.axes) == 6 and classes["value"].max() == 100
    labels = {label.get_text() for axes in figure.axes[:5] for label in axes.get_yticklabels()}
    assert {"playinginstrument", "usingcomputer", "diningtable"} <= labels
    assert [label for label in labels if label.endswith("…")] == ["…"]
    assert not any(dots.get_clip_on() for axes in figure.axes for dots in axes.collections)


def test_short_names_leave_room_for_three_panels(classes: pd.DataFrame) -> None:
    drawn = class_chart(classes[classes["set"].str.startswith("voc")]).axes
    assert len(drawn) == 3


def test_the_level_of_chance_is_drawn_where_it_is_known(classes: pd.DataFrame) -> None:
    levels = classes.groupby("set", sort=False)["chance"].first()
    assert levels[["caltech101", "caltech256"]].tolist() == pytest.approx([100 / 102, 100 / 257])
    assert levels.drop(["caltech101", "caltech256"]).isna().all()
    lines = [len(axes.lines) for axes in class_chart(classes).axes[:5]]
    assert lines == [2, 2, 3, 3, 2]
    assert "of random guesses 0.4, best" in set_classes_text(classes)


def test_legends_and_panels_of_long_names_are_within_the_figure(
    classes: pd.DataFrame, rng: np.random.Generator
) -> None:
    points = [
        {**about, "first": 0.3, "second": 0.1, "label": number, "class": name, "x": x, "y": y}
        for about, name, number in few(classes) for x, y in rng.normal(0, 1, (9, 2))
    ]  # fmt: skip
    with in_style():
        figure = map_chart(pd.DataFrame(points))
        assert_whole(figure)
    legends = [legend for axes in figure.axes if (legend := axes.get_legend())]
    names = {text.get_text() for legend in legends for text in legend.get_texts()}
    assert len(legends) == 5 and {"BACKGROUND_Google", "playinginstrument"} <= names


@pytest.fixture
def examples(classes: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, Images]:
    """Examples of two classes of each data set, all highest ones of other classes, with images of any shape."""
    rows: list[dict[str, Any]] = []
    box = dict.fromkeys(("left", "top", "right edge", "bottom"))
    for about, name, number in list(few(classes))[::5]:
        for kind in ["highest"] * 3 + ["lowest"] * 3:
            right, others = kind == "lowest", "BACKGROUND_Google" if len(rows) % 2 else "diningtable chair person"
            own = {"number": len(rows), "label": number, "class": name, "value": 100.0, "kind": kind, "score": -1.55}
            rows.append({**about, **own, "right": right, "classes": name if right else others, **box})
    sizes = rng.integers(60, 113, (len(rows), 2))
    images = {
        example_image(row["set"], row["number"]): np.zeros((*size, 3), np.uint8)
        for row, size in zip(rows, sizes, strict=True)
    }
    return pd.DataFrame(rows), images


def test_the_words_of_examples_do_not_run_into_each_other(examples: tuple[pd.DataFrame, Images]) -> None:
    with in_style():
        figure = example_chart(*examples)
        assert_whole(figure)
        for first, second in pairwise(figure.axes):
            if first.get_subplotspec().rowspan == second.get_subplotspec().rowspan:  # type: ignore[union-attr]
                one, other = (axes.title.get_window_extent() for axes in (first, second))
                assert one.x1 < other.x0, first.get_title()
        names = [axes.yaxis.label.get_window_extent() for axes in figure.axes[::6]]
    assert all(lower.y1 < upper.y0 for upper, lower in pairwise(names))


def test_the_percentage_of_an_example_is_of_the_first_split_in_words(examples: tuple[pd.DataFrame, Images]) -> None:
    assert "class aeroplane, 100.0 % in the first split: highest scores" in set_examples_text(
        examples[0].assign(**{"class": "aeroplane"})
    )


def test_classes_that_are_equally_good_are_counted_in_the_text() -> None:
    alike = set_classes_text(made_up(lambda count: [100.0] * count))
    assert "all 20 classes 100.0" in alike and "best" not in alike and "worst" not in alike
    ties = set_classes_text(made_up(lambda count: [100.0, 100.0, 100.0, *[80.0] * (count - 4), 40.0]))
    assert "VOC-2007: mean 81.0, the paper's 89.7, best aeroplane and 2 more 100.0, worst tvmonitor 40.0;" in ties
