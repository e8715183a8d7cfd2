"""Phrases that several pages share: numbers, intervals, the names of tables, the sources of published nets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.experiment.paper_tables import TITLES, number_of
from reports.page import Code, Inline

NONE = "–"
SECTIONS = {"shallow": "Section 4.1", "initialisation": "Section 3.1"}  # comparisons that are no table of the paper's

DIFFERS = {  # of a data set of Table 11 or 12
    "networks": "the networks of profile {} are not the paper's",
    "images": "the images are not the published ones",
    "subset": "the paper's number is of test images, ours of val",
}


def table_title(name: str) -> str:
    """Return the number and title of table `name`."""
    return f"{table_label(name)}. {TITLES[name]}"


def table_label(name: str) -> str:
    """Return the name of table `name` as it appears in a text."""
    return SECTIONS.get(name) or f"Table {number_of(name)}"


def not_comparable(of_set: Mapping[str, Any], profile: str) -> str:
    """Return why our numbers of a data set, as Table 11 or 12 has it, are others than the paper's; empty if not."""
    return "; ".join(DIFFERS[one].format(profile) for one in of_set.get("differs", ()))


def number(value: float | None) -> str:
    """Return a percentage to one decimal, or a dash."""
    return NONE if value is None else f"{value:.1f}"


def interval(error: dict[str, float]) -> str:
    """Return an error with its interval: 5.3 (3.6 to 7.8)."""
    return f"{error['error']:.1f} ({error['low']:.1f} to {error['high']:.1f})"


def signed(points: float) -> str:
    """Return an effect with its sign, and none that rounds to zero with a minus."""
    return f"{round(points, 1) + 0.0:+.1f}"


def points(margin: float) -> str:
    """Return a margin with its unit: 1 point, 0.5 points."""
    return f"{margin:g} point{'s' * (margin != 1)}"


def p_value(value: float) -> str:
    """Return a p-value to as many digits as are of use."""
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def mean_and_std(measure: dict[str, Any]) -> str:
    """Return mean and standard deviation: 20.1 ± 0.6; the mean alone of one seed, as a spread needs two."""
    return with_spread(measure["mean"], measure["std"])


def with_spread(value: float | None, std: float | None) -> str:
    """Return a number and its standard deviation, if there is one: 20.1 ± 0.6."""
    return number(value) + ("" if value is None or std is None else f" ± {std:.1f}")


def published_net(record: dict[str, Any]) -> tuple[Inline, ...]:
    """Return where a published net comes from and which input it takes."""
    return (*published_file(record), f"; input {input_text(record['input'])}")


def published_file(record: dict[str, Any]) -> tuple[Inline, ...]:
    """Return which file a published net comes from, and who made it."""
    return (Code(record["file"]), ", SHA-256 ", Code(record["sha256"][:16]), ", ", *_maker(record))


def _maker(record: dict[str, Any]) -> tuple[Inline, ...]:
    if exported := record.get("exported"):
        before = exported.get("published")
        of = (", which was imported from ", Code(before["file"])) if before else (", trained by this toolkit",)
        return (f"exported from {exported['run']}", *of)
    if file := record["known"]:
        return (f"{file['what']}, identified by its {file['algorithm'].upper()} ({file['source']})",)
    return ("not on any list of known files",)


def input_text(convention: dict[str, Any]) -> str:
    """Return a net's input as text: BGR, 0 to 255, minus 103.939, 116.779, 123.68."""
    mean, std = (", ".join(f"{level:g}" for level in convention[key]) for key in ("mean", "std"))
    divided = "" if set(convention["std"]) == {1.0} else f", divided by {std}"
    return f"{convention['channels']}, 0 to {convention['range']:g}, minus {mean}{divided}"
