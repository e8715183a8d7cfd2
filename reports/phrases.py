"""Phrases that several pages share: numbers, intervals, what a table is called, where a published net comes from."""

from __future__ import annotations

from typing import Any

from pipeline.experiment.grid import TITLES
from reports.page import Code, Inline

NONE = "–"


def table_title(name: str) -> str:
    """Return the number and title of table `name`."""
    return f"{table_label(name)}. {TITLES[name]}"


def table_label(name: str) -> str:
    """Return what table `name` is called in a text."""
    return "Section 4.1" if name == "shallow" else f"Table {name.removeprefix('table')}"


def number(value: float | None) -> str:
    """Return a percentage to one decimal, or a dash."""
    return NONE if value is None else f"{value:.1f}"


def interval(found: dict[str, float]) -> str:
    """Return an error with its interval: 5.3 (3.6 to 7.8)."""
    return f"{found['error']:.1f} ({found['low']:.1f} to {found['high']:.1f})"


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
    if known := record["known"]:
        return (f"{known['what']} by its {known['algorithm'].upper()} ({known['source']})",)
    return ("on no list known here",)


def input_text(said: dict[str, Any]) -> str:
    """Return how a net takes its images: BGR, 0 to 255, minus 103.939, 116.779, 123.68."""
    mean, deviation = (", ".join(f"{level:g}" for level in said[key]) for key in ("mean", "deviation"))
    divided = "" if set(said["deviation"]) == {1.0} else f", divided by {deviation}"
    return f"{said['channels']}, 0 to {said['range']:g}, minus {mean}{divided}"
