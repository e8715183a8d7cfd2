"""The grid at a glance, for the terminal."""

from __future__ import annotations

from pipeline.experiment.grid import MODES
from pipeline.orchestration.status import RunStatus, Status
from pipeline.system.progress import duration, gigabytes
from reports.page import Paragraph, Preformatted, Table, left
from reports.phrases import NONE
from reports.terminal import TerminalBlock

WORDS = {"done": "done", "part": "in part", "cached": "in the cache", "run": "to do"}


def status_page(status: Status) -> tuple[TerminalBlock, ...]:
    """Return the data, a line a run, the tables, and the checkpoints that are of no use any more."""
    rows = ((one.name, _state(one), *(_score(one, mode) for mode in MODES), _tables(one)) for one in status.runs)
    whose = "training" if status.weights == "trained" else "weights"
    columns = left("run", whose, *(f"{mode}, best Q" for mode in MODES), "in tables")
    return (Paragraph(_head(status)), Table(columns, tuple(rows)), Paragraph(_done(status)), *_old(status))


def _head(status: Status) -> str:
    if status.preparing:
        return f"Profile {status.profile}: being prepared by {status.preparing.rstrip(',')}."
    if status.facts is None:
        return f"Profile {status.profile}: nothing is prepared yet (vgg-repro prepare)."
    facts = status.facts
    training = f"{facts.train:,} training and " if facts.train else ""
    counts = f"{training}{facts.val:,} validation images of {len(facts.classes)} classes"
    here = "prepared" if status.prepared else "to be prepared again: vgg-repro plan says why"
    return f"Profile {status.profile}: {facts.source}, {counts}, {here}."


def _state(one: RunStatus) -> str:
    if one.state == "trained":
        return "trained" if one.error is None else f"trained, error {one.error:.1f} %"
    if one.state in ("training", "stopped") and one.running:
        return _running(one)
    before = "" if one.error is None else f"; last time {one.error:.1f} %"
    said = {
        "cached": "in the cache",
        "waits": f"waits for {one.after}",
        "published": "published weights",
        "to import": "published weights, to be imported",
        "no net": NONE,
    }
    return said.get(one.state, "ready") + before


def _running(one: RunStatus) -> str:
    assert one.running is not None
    found = one.running
    error = f", error {found.top1:.1f} %" if found.top1 is not None else ""
    if one.state == "stopped":
        return f"stopped in epoch {found.epoch + 1} of {found.epochs}{error}; goes on from its checkpoint"
    loss = f", loss {found.loss:.3f}" if found.loss is not None else ""
    left = f", at most {duration(found.left)} left" if found.left is not None else ""
    return f"epoch {min(found.epoch + 1, found.epochs)} of {found.epochs}{error}{loss}{left}"


def _score(one: RunStatus, mode: str) -> str:
    if mode not in one.scores:
        return ""
    error = one.scores[mode]
    return NONE if error is None else f"{error:.1f} %"


def _tables(one: RunStatus) -> str:
    return " ".join(name.removeprefix("table") for name in one.tables) or NONE


def _done(status: Status) -> str:
    listed = {word: [name.removeprefix("table") for name, what in status.tables.items() if what == key]
              for key, word in WORDS.items()}  # fmt: skip
    return "Tables: " + "; ".join(f"{word} {', '.join(names)}" for word, names in listed.items() if names) + "."


def _old(status: Status) -> list[TerminalBlock]:
    if not status.old:
        return []
    listed = [f"- {one.folder} ({gigabytes(one.size)})" for one in status.old]
    return [Preformatted("\n".join(["Checkpoints of other parameters or data, which may be deleted:", *listed]))]
