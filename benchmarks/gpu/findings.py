"""What a part found: tables, figures, checks and aims, written to a JSON file as they come, and their Markdown."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NOT_REACHED = "not reached"


class Findings:
    """The findings of one part. The file is rewritten after each, so a part that is stopped keeps what it found."""

    def __init__(self, path: Path, title: str) -> None:
        self.path, self.started = path, time.monotonic()
        began = datetime.now(UTC).isoformat(timespec="seconds")
        self.values = nothing(title) | {"began": began, "ended": "stopped"}
        self._write()

    def machine(self, line: str, smoke: bool) -> None:
        """Record the machine that the part runs on, and whether its speeds mean nothing."""
        self.values |= {"machine": "Smoke run: tiny nets, and speeds mean nothing. " * smoke + line, "smoke": smoke}
        self._write()

    def other_work(self, line: str) -> None:
        """Record what else the GPU does before the part begins: its clock, temperature and processes."""
        self.values["gpu"] = line
        self._write()

    def say(self, text: str) -> None:
        """Add a paragraph."""
        print(text, flush=True)
        self.values["blocks"].append(text)
        self._write()

    def table(self, *heads: str) -> Rows:
        """Add a table with these column heads and return it, to add rows to."""
        rows: list[list[str]] = [list(heads)]
        self.values["blocks"].append(rows)
        print(" | ".join(heads), flush=True)
        return Rows(rows, self._write)

    def figure(self, name: str, value: float) -> None:
        """Record a number under a name, for other programs."""
        self.values["figures"][name] = value
        self._write()

    def check(self, what: str, right: bool, detail: str = "") -> None:
        """Record whether what must be true is true. A check that fails makes the program fail."""
        print(f"{'ok' if right else 'BROKEN'}: {what}{detail and ': '}{detail}", flush=True)
        self.values["checks"].append({"what": what, "passed": bool(right), "detail": detail})
        self._write()

    def aim(self, what: str, value: float, wanted: float, at_least: bool = True, unit: str = "") -> None:
        """Record a measured value beside the value wanted. An aim that is missed is told, and nothing fails."""
        reached = value >= wanted if at_least else value <= wanted
        print(f"{'reached' if reached else 'MISSED'}: {what}: {value:.3g}{unit}, aim {wanted:g}{unit}", flush=True)
        limits = {"wanted": wanted, "at_least": at_least, "unit": unit}
        self.values["aims"].append({"what": what, "value": value, **limits, "reached": bool(reached)})
        self._write()

    def end(self, how: str) -> None:
        """Record how the part ended."""
        self.values["ended"] = how
        self._write()

    def _write(self) -> None:
        self.values["seconds"] = round(time.monotonic() - self.started, 1)
        write(self.path, json.dumps(self.values, indent=1))


def nothing(title: str) -> dict[str, Any]:
    """Return the values of a part that has not begun."""
    about = {"title": title, "began": "", "machine": "", "gpu": "", "smoke": False}
    return about | {"blocks": [], "figures": {}, "checks": [], "aims": [], "seconds": 0.0, "ended": NOT_REACHED}


class Rows:
    """A table that grows."""

    def __init__(self, rows: list[list[str]], written: Any) -> None:
        self.rows, self.written = rows, written

    def row(self, *cells: str) -> None:
        """Add a row."""
        self.rows.append(list(cells))
        print(" | ".join(cells), flush=True)
        self.written()


def write(path: Path, text: str) -> None:
    """Replace a file whole, so that a reader or a crash never meets half of it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def page(program: str, parts: Sequence[Mapping[str, Any]]) -> str:
    """Return the Markdown page of all parts: first what is broken, not ended or missed, then each part."""
    machines = dict.fromkeys(part["machine"] for part in parts if part["machine"])
    lines = ["# GPU check", "", program, *(f"\n{machine}" for machine in machines), "", *_summary(parts)]
    for part in parts:
        if not part["began"]:
            continue
        lines += ["", f"## {part['title']}", "", f"Began {part['began']}, {part['seconds']:.0f} s, {part['ended']}."]
        lines += ["", part["gpu"]] if part["gpu"] else []
        for block in part["blocks"]:
            lines += ["", *([block] if isinstance(block, str) else _table(block))]
        passed = [check["what"] for check in part["checks"] if check["passed"]]
        lines += ["", f"Passed: {'; '.join(passed)}."] if passed else []
    return "\n".join(lines) + "\n"


def _summary(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    complete = [part for part in parts if part["ended"] == "complete"]
    checks = [check for part in parts for check in part["checks"]]
    right = sum(check["passed"] for check in checks)
    head = f"{len(complete)} of {len(parts)} parts complete; {right} of {len(checks)} checks passed."
    stopped = [f"- **{part['title']}: {part['ended']}**" for part in parts if part["ended"] != "complete"]
    broken = [
        f"- **Broken: {check['what']}**{check['detail'] and ': '}{check['detail']}"
        for check in checks if not check["passed"]
    ]  # fmt: skip
    return [head, "", *stopped, *broken, *_aims([aim for part in parts if not part["smoke"] for aim in part["aims"]])]


def _aims(aims: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of the aims, if there are any."""
    rows = [["aim", "measured", "wanted", ""]]
    for aim in aims:
        sign, unit = "≥" if aim["at_least"] else "≤", aim["unit"]
        outcome = "reached" if aim["reached"] else "**missed**"
        rows.append([aim["what"], f"{aim['value']:.3g}{unit}", f"{sign} {aim['wanted']:g}{unit}", outcome])
    return ["", *_table(rows)] if aims else []


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    heads, *others = rows
    return [f"| {' | '.join(row)} |" for row in (heads, [":--"] + ["--:"] * (len(heads) - 1), *others)]
