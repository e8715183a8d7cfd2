"""What a walk shows: on a terminal a table below the lines that stay, gone at the end; elsewhere lines alone."""

from __future__ import annotations

import fcntl
import itertools
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.system import progress
from pipeline.system.progress import Progress, duration, told
from tests.support import ROOT
from tests.support.clones import patience

SCRIPT = """
import sys
sys.path[:0] = {paths!r}
from pipeline.orchestration.resources import ResourceShare, shares
from pipeline.orchestration.live_view import view
from pipeline.orchestration.runner import Walk
STAGE = '''
wait_for() {{ while [ ! -e $1 ]; do sleep 0.02; done; }}
echo "Running stage '$0':"; echo "> vgg-repro $0"; wait_for begun-is-seen
echo "every $VGG_REPRO_EVERY"
for step in 1 2 3; do echo "work [$0]: $step/6 steps, 3/s, 9 s left, note"; done; wait_for work-is-seen
for step in 4 5 6; do echo "work [$0]: $step/6 steps, 3/s, 9 s left, note"; done
[ $0 != third ] || {{ echo "[red]no[/red] more"; exit 1; }}
'''
one = Walk({{"first": frozenset(), "second": frozenset(), "third": frozenset({{"first"}})}}, shares(2, "01", ()),
           ResourceShare(), view(named=True), (), lambda stages: ["sh", "-c", STAGE, *stages])
try:
    one.run()
except Exception as failure:
    sys.exit(str(failure))
"""
CONTROL = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]")


class Screen:
    """As much of a terminal as rich needs here, wide enough that no line wraps."""

    def __init__(self) -> None:
        self.rows, self.row, self.column, self.cursor, self.begun = [""], 0, 0, True, ""

    def feed(self, text: str) -> None:
        """What is written to it; the beginning of a control sequence waits for the rest."""
        text = self.begun + text
        cut = text.rfind("\x1b")
        end = len(text) if cut < 0 or CONTROL.match(text, cut) else cut
        text, self.begun = text[:end], text[end:]
        for control in CONTROL.finditer(text):
            if control[2]:
                self._control(control[1], control[2])
            elif control[0] == "\r":
                self.column = 0
            elif control[0] == "\n":
                self.row += 1
                self.rows += [""] * (self.row + 1 - len(self.rows))
            else:
                line = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = line[: self.column] + control[0] + line[self.column + 1 :]
                self.column += 1

    def _control(self, number: str, what: str) -> None:
        if what == "A":
            self.row -= int(number or 1)
            assert self.row >= 0
        elif what == "K":
            assert number == "2"
            self.rows[self.row] = ""
        elif what in "hl":
            assert number == "?25"
            self.cursor = what == "h"
        else:
            assert what == "m", f"unknown to this terminal: {number}{what}"

    @property
    def text(self) -> str:
        """What is seen."""
        return "\n".join(row.rstrip() for row in self.rows).strip()


BEGUN = re.compile("^second .* Running stage 'second':$", re.M)
WORK = [re.compile(rf"^{stage} +GPU {gpu} .*\d s  +3/6 steps, 3/s, 9 s left, note$", re.M)
        for gpu, stage in enumerate(("first", "second"))]  # fmt: skip
SEEN: dict[str, Callable[[str], object]] = {  # what the stages wait for
    "begun-is-seen": BEGUN.search,
    "work-is-seen": lambda text: all(row.search(text) for row in WORK),
}


def shown(terminal: str, folder: Path) -> tuple[list[str], Screen, int]:
    """What a terminal shows, as often as something comes, and in the end; and the exit code.

    A stage goes on as a file of SEEN comes, which is when its text is seen, or is there.
    """
    script = SCRIPT.format(paths=[str(ROOT)])
    process, handle = pty.fork()
    if process == 0:
        os.environ["TERM"] = terminal
        os.chdir(folder)
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        os.execv(sys.executable, [sys.executable, "-c", script])
    screen, seen, end = Screen(), list[str](), time.monotonic() + patience(600)
    while some := printed(handle, end):
        screen.feed(some.decode())
        seen.append(screen.text)
        for name, pattern in SEEN.items():
            if pattern(screen.text):
                (folder / name).touch()
    os.close(handle)
    return seen, screen, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def printed(handle: int, end: float) -> bytes:
    """What comes next; nothing when all have closed the terminal, or it is later than `end`."""
    with suppress(OSError):  # Linux's way to say that all have closed it
        if select.select([handle], [], [], max(0, end - time.monotonic()))[0]:
            return os.read(handle, 1 << 16)
    return b""


def all_seen(folder: Path) -> Path:
    """The folder with the files that no stage then waits for."""
    for name in SEEN:
        (folder / name).touch()
    return folder


def test_a_terminal_shows_all_that_runs_and_is_clean_at_the_end(tmp_path: Path) -> None:
    seen, screen, code = shown("xterm", tmp_path)
    foot = "0 of 3 stages done, 2 running"
    assert any(BEGUN.search(text) for text in seen)
    assert any(SEEN["work-is-seen"](text) and foot in text.splitlines() for text in seen), seen[len(seen) // 2]
    assert any(0 <= text.find("first | every 1") < text.find(foot) for text in seen), "lines stay above the table"
    assert code == 1 and screen.cursor
    lines = screen.text.splitlines()
    assert sorted(lines[:3]) == ["first | every 1", "second | every 1", "third | every 1"]
    assert lines[3:] == [
        *("third | [red]no[/red] more", "2 of 3 stages done, 1 failed", "failed: third"),
        *("third, last output:", "    every 1", "    [red]no[/red] more"),
    ]


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(tmp_path: Path) -> None:
    _, screen, _ = shown("dumb", all_seen(tmp_path))
    assert screen.text.count("first | work [first]: ") == 6


def test_a_pipe_gets_lines(tmp_path: Path) -> None:
    words = [sys.executable, "-c", SCRIPT.format(paths=[str(ROOT)])]
    kept = {name: value for name, value in os.environ.items() if name != progress.EVERY}
    done = subprocess.run(words, cwd=all_seen(tmp_path), env=kept, capture_output=True, text=True, check=False)
    assert "\x1b" not in done.stdout and "\r" not in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("third")]
    steps = [f"third | work [third]: {step}/6 steps, 3/s, 9 s left, note" for step in range(1, 7)]
    assert lines == ["third | Running stage 'third':", "third | every ", *steps, "third | [red]no[/red] more"]
    assert done.stderr.startswith("failed: third\n")


def test_what_progress_says_is_understood(rng: np.random.Generator, capsys: pytest.CaptureFixture[str]) -> None:
    what = str(rng.choice(["train A-256", "dense D-384", "check: x at Q = 256", "prepare"]))
    note, total = str(rng.choice(["", "epoch 3, loss 2.31", "a: 1/2 b"])), int(rng.integers(1, 1000))
    with Progress(what, total, "images") as bar:
        bar.advance(int(rng.integers(total + 1)), note)
    line = capsys.readouterr().out.rstrip("\n")
    assert line == f"{what}: {told(line)}"
    for other in ("", "Running stage 'x':", f"{what}: done", "| D | 9.1/8.0 |", "x: 1/2"):
        assert told(other) is None


def test_without_a_known_total_none_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(progress.EVERY, "0")
    with Progress("prepare", None, "images") as shown:
        shown.advance(16)
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith("prepare: 16 images, ") and "left" not in line
        assert told(line) == line.removeprefix("prepare: ")
        shown.total = 16
    assert capsys.readouterr().out.startswith("prepare: 16/16 images, ")


def test_progress_is_said_as_often_as_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=itertools.count(step=0.001).__next__))
    for said, lines in {"0": 4, "1000": 1, "often": 1, None: 1}.items():
        if said is None:
            monkeypatch.delenv(progress.EVERY)
        else:
            monkeypatch.setenv(progress.EVERY, said)
        with Progress("work", 3, "steps") as bar:
            for _ in range(3):
                bar.advance()
        assert len(capsys.readouterr().out.splitlines()) == lines
    assert duration(progress.INTERVAL) == "15 s"
