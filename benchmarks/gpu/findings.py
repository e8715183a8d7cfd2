"""What a part found: tables, figures, checks and aims, written to a JSON file as they come, and their Markdown."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Findings:
    """The findings of one part. The file is rewritten after each, so a part that is stopped keeps what it found."""

    def __init__(self, path: Path, title: str) -> None:
        self.path, self.started = path, time.monotonic()
        self.values: dict[str, Any] = {
            "title": title, "machine": "", "blocks": [], "figures": {}, "checks": [], "aims": [], "seconds": 0.0,
            "ended": "stopped",
        }  # fmt: skip
        self._write()

    def machine(self, line: str) -> None:
        """Record the machine that the part runs on."""
        self.values["machine"] = line
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
        self.values["checks"].append([what, bool(right), detail])
        self._write()

    def aim(self, what: str, value: float, wanted: float, at_least: bool = True, unit: str = "") -> None:
        """Record a measured value beside the value wanted. An aim that is missed is told, and nothing fails."""
        reached = value >= wanted if at_least else value <= wanted
        print(f"{'reached' if reached else 'MISSED'}: {what}: {value:.3g}{unit}, aim {wanted:g}{unit}", flush=True)
        self.values["aims"].append([what, value, wanted, at_least, unit, bool(reached)])
        self._write()

    def end(self, how: str) -> None:
        """Record how the part ended."""
        self.values["ended"] = how
        self._write()

    def _write(self) -> None:
        self.values["seconds"] = round(time.monotonic() - self.started, 1)
        write(self.path, json.dumps(self.values, indent=1))


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


def page(machine: str, parts: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown page of all parts: first what is broken and what was missed, then each part."""
    lines = ["# GPU check", "", machine, "", *_summary(parts)]
    for part in parts:
        lines += ["", f"## {part['title']}", "", f"{part['seconds']:.0f} s, {part['ended']}."]
        for block in part["blocks"]:
            lines += ["", *([block] if isinstance(block, str) else _table(block))]
    return "\n".join(lines) + "\n"


def _summary(parts: Sequence[dict[str, Any]]) -> list[str]:
    checks = [check for part in parts for check in part["checks"]]
    broken = [f"- **Broken: {what}**{detail and ': '}{detail}" for what, right, detail in checks if not right]
    aims = [["aim", "measured", "wanted", ""]]
    for what, value, wanted, at_least, unit, reached in (aim for part in parts for aim in part["aims"]):
        sign = "≥" if at_least else "≤"
        aims.append([what, f"{value:.3g}{unit}", f"{sign} {wanted:g}{unit}", "reached" if reached else "**missed**"])
    stopped = [f"- **{part['title']}: {part['ended']}**" for part in parts if part["ended"] != "complete"]
    return [f"{len(checks) - len(broken)} of {len(checks)} checks passed.", "", *broken, *stopped, "", *_table(aims)]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    heads, *others = rows
    return [f"| {' | '.join(row)} |" for row in (heads, [":--"] + ["--:"] * (len(heads) - 1), *others)]
