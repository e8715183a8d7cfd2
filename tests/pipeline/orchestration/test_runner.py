"""Stages side by side: each after what it needs, the longest chain first, a failure stopping only what needs it.

In most tests a shell script takes DVC's place, so that a walk takes a moment; the processes and signals are real.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import networkx
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import cli.main
import cli.run
from pipeline.cluster import settings
from pipeline.errors import Failure, Interrupted, UsageError
from pipeline.experiment.validation import load
from pipeline.orchestration import runner
from pipeline.orchestration.dvc_graph import StageForecast, needs
from pipeline.orchestration.live_view import Foot, Lines, ViewRow
from pipeline.orchestration.resources import ResourceShare, chosen_gpus, shares, spans, visible_gpus
from pipeline.orchestration.runner import Walk, foreseen, lone, longest_first
from pipeline.system import devices
from tests.support import ROOT, on_linux
from tests.support.clones import at_work, begin, call, executed, patience, tiny_clone, wait_for

GRAPH = {
    "data": frozenset[str](),
    "a": frozenset({"data"}),
    "d": frozenset({"a"}),
    "d2": frozenset({"d"}),
    "lone": frozenset({"data"}),
    "table": frozenset({"d2", "lone"}),
}
STAND_IN = """
cd "$0"
if [ -e "busy-$1" ]; then rm "busy-$1"; echo "in use by b (process 7)"; exit 255; fi
echo "begin $* ${CUDA_VISIBLE_DEVICES:--} $(grep Cpus_allowed_list /proc/self/status | cut -f2)" >> log
if [ -e "does-$1" ]; then . "./does-$1"; else sleep 0.01; fi
echo "end $1" >> log
[ ! -e "bad-$1" ] || { echo "why $1 failed"; exit 1; }
"""


def until(condition: str) -> str:
    """A script that waits for something, and gives up after ten minutes and more."""
    return f"for step in $(seq {round(patience(30_000))}); do {condition} && break; sleep 0.02; done"


class Kept(Lines):
    """Keeps what would be shown."""

    def __init__(self) -> None:
        super().__init__(named=True)
        self.lines: list[str] = []
        self.rows: list[Sequence[ViewRow]] = []

    def show(self, rows: Sequence[ViewRow], foot: Foot) -> None:
        self.rows.append(rows)

    def _print(self, line: str) -> None:
        self.lines.append(line)


class Place:
    """A folder whose files say what the stand-ins do."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.view = folder, Kept()

    def command(self, stages: Sequence[str]) -> list[str]:
        """What stands in for DVC."""
        return ["sh", "-c", STAND_IN, str(self.folder), *stages]

    def bad(self, *stages: str) -> None:
        """Have these stages fail."""
        for stage in stages:
            (self.folder / f"bad-{stage}").touch()

    def does(self, stage: str, script: str) -> None:
        """Have a stage do something."""
        (self.folder / f"does-{stage}").write_text(script)

    def walk(self, graph: Mapping[str, frozenset[str]], jobs: int = 2, cheap: Sequence[str] = ()) -> Walk:
        """A walk with four GPUs and these cores."""
        gpus = tuple("0123")
        return Walk(graph, shares(jobs, gpus, devices.cores()), ResourceShare(gpus), self.view, cheap, self.command)

    @property
    def log(self) -> list[list[str]]:
        """begin or end, and the stage."""
        return [line.split() for line in (self.folder / "log").read_text().splitlines()]

    def times(self, kind: str) -> dict[str, int]:
        """When each stage began or ended, counted in events."""
        return {words[1]: number for number, words in enumerate(self.log) if words[0] == kind}

    @property
    def begun(self) -> list[str]:
        """The stages in the order of their beginnings."""
        return [words[1] for words in self.log if words[0] == "begin"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A place."""
    return Place(tmp_path)


def some_graph(rng: np.random.Generator, most: int = 9) -> dict[str, frozenset[str]]:
    """A few stages, each of which needs some before it."""
    names = [f"s{number}" for number in range(rng.integers(1, most + 1))]
    share = rng.uniform(0.1, 0.8)
    return {name: frozenset(up for up in names[:number] if rng.random() < share) for number, name in enumerate(names)}


def above(graph: Mapping[str, frozenset[str]]) -> dict[str, set[str]]:
    """All that a stage needs, by networkx."""
    edges = networkx.DiGraph([(up, stage) for stage, upstream in graph.items() for up in upstream])
    edges.add_nodes_from(graph)
    return {stage: networkx.ancestors(edges, stage) for stage in graph}


def test_every_stage_runs_once_and_after_what_it_needs(place: Place, rng: np.random.Generator) -> None:
    graph, jobs = some_graph(rng), int(rng.integers(1, 5))
    place.walk(graph, jobs).run()
    assert sorted(place.begun) == sorted(graph)
    for stage, upstream in graph.items():
        for up in upstream:
            assert place.times("end")[up] < place.times("begin")[stage]
    *ends, last = place.view.lines
    assert last == f"{len(graph)} of {len(graph)} stages done"
    counts = [re.fullmatch(r"(\w+) \| done at \d\d:\d\d; (\d+) of \d+ stages done", line) for line in ends]
    assert [match and int(match[2]) for match in counts] == [*range(1, len(graph) + 1)]
    assert sorted(match[1] for match in counts if match) == sorted(graph)


def test_as_many_run_at_a_time_as_asked_for_and_no_more(place: Place) -> None:
    """Three meet, which they could not if fewer ran."""
    graph = {str(number): frozenset[str]() for number in range(9)}
    for stage in graph:
        place.does(stage, f"touch met-{stage}; " + until('[ "$(ls met-* | wc -l)" -ge 3 ]'))
    place.walk(graph, 3).run()
    running = most = 0
    for words in place.log:
        running += 1 if words[0] == "begin" else -1
        most = max(most, running)
    assert most == 3
    assert max(len(rows) for rows in place.view.rows) == 3


def test_the_longest_chain_begins_first() -> None:
    order = longest_first(GRAPH)
    assert order[:2] == ["data", "a"]
    assert order.index("d") < order.index("lone")


def test_a_failed_stage_stops_what_needs_it_and_nothing_else(place: Place, rng: np.random.Generator) -> None:
    graph = some_graph(rng)
    bad = {stage for stage in graph if rng.random() < 0.3}
    place.bad(*bad)
    one, upstream = place.walk(graph, int(rng.integers(1, 4))), above(graph)
    if bad:
        with pytest.raises(Failure) as caught:
            one.run()
        said, failed = str(caught.value), {stage for stage in bad if not upstream[stage] & bad}
        assert said.startswith(f"failed: {', '.join(sorted(failed))}")
        assert all(f"{stage}, last output:\n    why {stage} failed" in said for stage in failed)
        left = {stage for stage in graph if upstream[stage] & bad}
        assert (f"{len(left)} stages that need them were not run" in said) == bool(left)
        assert all(stage in said.splitlines()[0] for stage in left)
    else:
        one.run()
    assert one.done == {stage for stage in graph if not (upstream[stage] | {stage}) & bad}


def test_a_stage_is_alone_if_no_other_could_run_beside_it(rng: np.random.Generator) -> None:
    for _ in range(50):
        graph = some_graph(rng)
        upstream = above(graph)
        beside = {
            stage: {one for one in graph if one not in upstream[stage] and stage not in upstream[one]} - {stage}
            for stage in graph
        }
        assert lone(graph) == {stage for stage in graph if not beside[stage]}


@on_linux
def test_who_runs_alone_gets_all_and_others_their_share(place: Place) -> None:
    place.walk(GRAPH, 2).run()
    mine = sorted(os.sched_getaffinity(0))
    gpus = {words[1]: words[2] for words in place.log if words[0] == "begin"}
    cores = {words[1]: words[3] for words in place.log if words[0] == "begin"}
    for stage in ("data", "table"):
        assert (gpus[stage], cores[stage]) == ("0,1,2,3", spans(mine))
    assert {gpus[stage] for stage in ("a", "d", "d2", "lone")} == {"0,1", "2,3"}
    if len(mine) > 1:
        half = -(-len(mine) // 2)
        assert {cores[stage] for stage in ("a", "d", "d2", "lone")} == {spans(mine[:half]), spans(mine[half:])}


def test_no_two_stages_have_a_share_at_a_time(place: Place, rng: np.random.Generator) -> None:
    graph = some_graph(rng, 12)
    place.bad(*(stage for stage in graph if rng.random() < 0.1))
    with suppress(Failure):
        place.walk(graph, int(rng.integers(2, 5))).run()
    held: dict[str, set[str]] = {}
    for kind, stage, *words in place.log:
        if kind == "end":
            del held[stage]
        else:
            held[stage] = set(words[0].split(","))
            assert sum(map(len, held.values())) == len(set().union(*held.values()))


def test_shares_are_equal_and_everything_is_somebodys(rng: np.random.Generator) -> None:
    for _ in range(50):
        jobs, gpus, cores = (int(rng.integers(least, 9)) for least in (1, 0, 1))
        found = shares(jobs, [str(number) for number in range(gpus)], range(cores))
        each = [len(share.gpus) for share in found]
        assert len(found) == jobs and max(each) - min(each) <= 1
        assert {name for share in found for name in share.gpus} == {str(number) for number in range(gpus)}
        assert sum(each) == (max(gpus, jobs) if gpus else 0), "several share one only where there are too few"
        if 1 < jobs <= cores:
            assert sorted(core for share in found for core in share.cores) == list(range(cores))
            assert max(len(share.cores) for share in found) - min(len(share.cores) for share in found) <= 1
        else:
            assert {share.cores for share in found} == {()}
    assert [share.gpus for share in shares(2, "0123", [0])] == [("0", "1"), ("2", "3")]
    assert [share.gpus for share in shares(3, "01", [0])] == [("0",), ("1",), ("0",)]


def with_gpus(patch: pytest.MonkeyPatch, gpus: int) -> None:
    """Have it look as if there were so many GPUs."""
    patch.setattr(devices, "handles", lambda: [*range(gpus)])


def test_gpus_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 4)
    assert chosen_gpus("0,1,2,3") == ("0", "1", "2", "3")
    assert chosen_gpus("3, 01") == ("3", "1")
    for text in ("", "0,", "0;1", "a", "-1", "0 1,x", "²"):
        with pytest.raises(UsageError, match="give GPU numbers"):
            chosen_gpus(text)
    with pytest.raises(UsageError, match="listed twice"):
        chosen_gpus("1,2,01")
    with pytest.raises(UsageError, match="no GPU 4 on this machine; they are 0 to 3"):
        chosen_gpus("0,4")


def test_the_command_shares_the_machine_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,2,1")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "")
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(runner, "forecasts", lambda *_: [])

    def given(jobs: int | None, gpus: str | None) -> list[str]:
        found = cli.run._walk([], load(), jobs, gpus, on_cluster=False)
        assert ",".join(found.whole.gpus) == (gpus or "3,2,1") and found.view.named == (len(found.shares) > 1)
        return [",".join(share.gpus) for share in found.shares]

    assert given(None, None) == ["3", "2", "1"] and given(2, None) == ["3,2", "1"] and given(1, None) == ["3,2,1"]
    assert "CUDA_DEVICE_ORDER" not in os.environ, "the numbers are whoever's who set them"
    assert given(None, "0,1,2,3") == ["0", "1", "2", "3"] and given(2, "0,1,2,3") == ["0,1", "2,3"]
    assert given(3, "1") == ["1", "1", "1"]
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_gpus_per_stage_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 8)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [cli.run._jobs_of(each, None, None) for each in (1, 2, 3, 4, 8)] == [8, 4, 2, 2, 1]
    assert cli.run._jobs_of(2, "0,1,4,5", None) == 2
    with pytest.raises(UsageError, match="there are 8 GPUs here"):
        cli.run._jobs_of(9, None, None)
    with pytest.raises(UsageError, match="give only one of them"):
        cli.run._jobs_of(2, None, 4)


def test_a_walk_of_jobs_has_a_share_for_every_job_and_shares_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("VGG_REPRO_CLUSTER", "VGG_REPRO_GPUS_PER_STAGE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(settings, "FILE", tmp_path / "slurm.yaml")
    stages = [f"{work}@{name}" for name in "ABCD" for work in ("train", "dense")]
    monkeypatch.setattr(runner, "forecasts", lambda *_: [StageForecast(s, frozenset(), "run", "") for s in stages])
    with_gpus(monkeypatch, 0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    walks: list[Walk] = []
    monkeypatch.setattr(Walk, "run", lambda walk: walks.append(walk))
    missing = CliRunner().invoke(cli.main.app, ["run", "--slurm"])
    assert isinstance(missing.exception, UsageError) and "cp docs/slurm.yaml" in str(missing.exception)
    (tmp_path / "slurm.yaml").write_text("train:\n")
    for words in (["--gpus-per-stage", "4"], ["--jobs", "3"]):
        done = CliRunner().invoke(cli.main.app, ["run", "table4", "--slurm", *words])
        assert done.exit_code == 0, done.exception
    assert re.search(r"score: no block in \S*slurm.yaml, runs on this machine, at most 2 at a time\n", done.output)
    jobs = [[share for share in walk.shares if share.cluster] for walk in walks]
    assert [len(shares) for shares in jobs] == [4, 3] and all(walk.on_cluster for walk in walks)
    assert all(walk.away == {f"train@{name}" for name in "ABCD"} for walk in walks)
    assert all(len(walk.shares) - len(shares) == 2 for walk, shares in zip(walks, jobs, strict=True))
    assert os.environ["VGG_REPRO_GPUS_PER_STAGE"] == "4" and os.environ["VGG_REPRO_CLUSTER"] == "slurm"
    wrong = CliRunner().invoke(cli.main.app, ["run", "--slurm", "--gpus", "0"])
    assert isinstance(wrong.exception, UsageError) and "--gpus-per-stage" in str(wrong.exception)


def test_a_driver_that_does_not_say_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.orchestration.resources.gpus_here", lambda: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert chosen_gpus("7") == ("7",) and visible_gpus() == ()


def test_a_machine_without_gpus_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ()
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["vgg-repro", "run"])
    done = CliRunner().invoke(cli.main.app, ["run", "table2", "--gpus", "0"])
    assert isinstance(done.exception, UsageError) and "omit --gpus" in str(done.exception)
    done = CliRunner().invoke(cli.main.app, ["run", "table2", "--jobs", "0"])
    assert done.exit_code == 2


def test_gpus_that_are_hidden_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ("0", "1", "2")
    for said, known in {"2,0": ("2", "0"), "": (), "-1": (), "1,-1,2": ("1",), "GPU-ab, 1": ("GPU-ab", "1")}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
        assert visible_gpus() == known


def test_what_costs_nothing_is_asked_for_at_once(place: Place) -> None:
    place.walk(GRAPH, 2, cheap=["data", "a", "lone"]).run()
    assert place.log[0][1:4] == ["data", "a", "lone"]
    assert place.begun[1:] == ["d", "d2", "table"]
    gpus = {words[1]: words[2] for words in place.log if words[0] == "begin" and words[1] != "data"}
    assert set(gpus.values()) == {"0,1,2,3"}, "nothing is left that could run beside them"


def test_nothing_runs_beside_who_has_the_whole_machine(place: Place) -> None:
    place.does("x", "sleep 0.2")
    place.walk({stage: frozenset() for stage in "xyz"}, 3, cheap=["x"]).run()
    assert place.times("end")["x"] < min(place.times("begin")[stage] for stage in "yz")


@pytest.mark.parametrize(("text", "stays"), [("", False), ('{"write": {"a', False), ("{}", True)])
def test_a_list_of_files_in_use_that_a_killed_dvc_has_left_broken_is_removed(
    text: str, stays: bool, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC would do nothing until somebody does."""
    monkeypatch.chdir(place.folder)
    known = place.folder / ".dvc/tmp/rwlock"
    known.parent.mkdir(parents=True)
    known.with_suffix(".lock").touch()
    known.write_text(text)
    place.walk({"x": frozenset()}).run()
    assert known.exists() == stays


def test_what_was_taken_to_cost_nothing_is_run_alone_if_it_fails(place: Place) -> None:
    place.does("data", "[ $# = 1 ] || exit 1")
    one = place.walk(GRAPH, 2, cheap=["data", "a"])
    one.run()
    assert place.begun == ["data", *place.begun[1:]] and sorted(place.begun[1:]) == sorted(GRAPH)
    assert one.done == set(GRAPH)


def test_stages_that_others_work_on_are_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "AGAIN", 0.05)
    (place.folder / "busy-a").touch()
    one = place.walk(GRAPH, 2)
    one.run()
    assert one.done == set(GRAPH) and not one.failed
    assert place.view.lines.count("a | waits for b (process 7) of another command in this clone") == 1
    assert not [line for line in place.view.lines if "in use by" in line]


def test_lines_are_whole_and_named(place: Place) -> None:
    place.does("data", r"printf 'one'; sleep 0.1; printf ' line\nbar 1\rbar 2\n> cmd\n\n\377\nno end'")
    place.walk({"data": frozenset()}, 1).run()
    assert place.view.lines[:-2] == ["data | one line", "data | bar 2", "data | \ufffd", "data | no end"]


def ask_when(ready: Callable[[], bool], *numbers: signal.Signals) -> threading.Thread:
    """Send this very process signals, once `ready`, a moment apart."""

    def ask() -> None:
        wait_for(ready, 600)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.4)  # or two of them may come as one

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


WORK = f"touch up-$1; {until('false')}; exit 1"
ASKED = f"trap 'echo saved $1; echo ERROR: failed to reproduce $1; exit 130' INT TERM; {WORK}"
DEAF = f"trap '' INT TERM; {WORK}"
SLOW_TO_END = """
import os, signal, time
from pathlib import Path
from typing import IO
above = os.getppid()
def end(*_):
    while os.getppid() == above:
        time.sleep(0.01)
    time.sleep(0.3)  # which the walk waits for
    Path("saved").touch()
    raise SystemExit
signal.signal(signal.SIGINT, end)
Path("up-x").touch()
while True:
    time.sleep(1)
"""


def both_up(place: Place) -> Callable[[], bool]:
    """Whether the two stages are at it."""
    return lambda: all((place.folder / f"up-{stage}").exists() for stage in "xy")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_reaches_all_and_is_waited_for(place: Place, number: signal.Signals) -> None:
    for stage in "xy":
        place.does(stage, ASKED)
    one = place.walk({stage: frozenset() for stage in "xyz"}, 2)
    thread = ask_when(both_up(place), number)
    with pytest.raises(Interrupted, match="the same command resumes") as caught:
        one.run()
    thread.join()
    assert caught.value.code == 130
    assert {"x | saved x", "y | saved y"} <= set(place.view.lines)
    assert place.view.lines[-1] == "0 of 3 stages done", "who was asked to end has not failed"
    assert not any("ERROR" in line for line in place.view.lines), "DVC calls it a failure, and it is none"
    assert not at_work(place.folder) and "z" not in place.begun


def test_who_does_not_listen_is_ended(place: Place) -> None:
    for stage in "xy":
        place.does(stage, DEAF)
    thread = ask_when(both_up(place), signal.SIGINT, signal.SIGINT, signal.SIGINT)
    with pytest.raises(Interrupted):
        place.walk({stage: frozenset() for stage in "xy"}, 2).run()
    thread.join()
    assert not at_work(place.folder)


JOB = "job 4711 running on n1"
OF_A_JOB = (
    f"echo '{JOB}'; count=0; trap 'count=$((count + 1)); echo asked $count; [ $count = 1 ] || exit 130' INT; "
    f"trap 'echo left; exit 130' TERM; {WORK}"
)


def jobs_of(place: Place) -> Walk:
    """A walk whose two stages are jobs of a cluster."""
    for stage in "xy":
        place.does(stage, OF_A_JOB)
    share = ResourceShare(cluster="Slurm")
    graph = {stage: frozenset[str]() for stage in "xy"}
    return Walk(graph, [share] * 2, ResourceShare(), place.view, (), away="xy", command=place.command)


def test_stages_that_are_no_jobs_share_this_machine(place: Place) -> None:
    here, away = [f"here{number}" for number in range(5)], ["job0", "job1", "job2"]
    for stage in away:
        place.does(stage, until('[ "$(grep -c "end here" log)" -ge 5 ]'))
    for stage in here[:2]:
        place.does(stage, until('[ "$(grep -c begin log)" -ge 5 ]'))  # all jobs and two others are up
    share = ResourceShare(cluster="Slurm")
    graph = {stage: frozenset[str]() for stage in (*away, *here)}
    divided = [share] * 3 + shares(2, (), ())
    Walk(graph, divided, ResourceShare(), place.view, away=away, command=place.command).run()
    running = [sum({"begin": 1, "end": -1}[word] for word, stage, *_ in place.log[:end] if stage in here)
               for end in range(len(place.log) + 1)]  # fmt: skip
    assert max(running) == 2 and len(place.log) == 16


def test_ctrl_c_stops_jobs_and_a_second_one_cancels_them(place: Place) -> None:
    one = jobs_of(place)
    thread = ask_when(both_up(place), signal.SIGINT, signal.SIGINT)
    with pytest.raises(Interrupted):
        one.run()
    thread.join()
    assert {"x | asked 1", "x | asked 2", "y | asked 2"} <= set(place.view.lines) and "x | left" not in place.view.lines
    assert not at_work(place.folder)


def test_a_walk_that_is_ended_leaves_its_jobs(place: Place) -> None:
    one = jobs_of(place)
    thread = ask_when(both_up(place), signal.SIGTERM)
    with pytest.raises(Interrupted):
        one.run()
    thread.join()
    assert {"x | left", "y | left"} <= set(place.view.lines) and "x | asked 1" not in place.view.lines


def test_a_row_says_the_state_of_its_job(place: Place) -> None:
    place.does("x", f"echo '{JOB}'; {until('[ -e seen ]')}")
    place.view.show = lambda rows, foot: place.view.rows.append(rows) or seen(rows)  # type: ignore[method-assign,func-returns-value]

    def seen(rows: Sequence[ViewRow]) -> None:
        if any((row.where, row.said) == ("Slurm", JOB) for row in rows):
            (place.folder / "seen").touch()

    share = ResourceShare(cluster="Slurm")
    Walk({"x": frozenset()}, [share], ResourceShare(), place.view, away="x", command=place.command).run()
    assert (place.folder / "seen").exists()


def test_patience_has_an_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "ENDING", tuple((number, 0.3, words) for number, _, words in runner.ENDING))
    for stage in "xy":
        place.does(stage, DEAF)
    thread = ask_when(both_up(place), signal.SIGINT)
    with pytest.raises(Interrupted):
        place.walk({stage: frozenset() for stage in "xy"}, 2).run()
    thread.join()
    assert not at_work(place.folder)


def test_what_a_stage_has_started_is_waited_for_too(place: Place) -> None:
    """A stage that outlives its DVC still writes its checkpoint."""
    (place.folder / "below.py").write_text(SLOW_TO_END)
    place.does("x", f"trap 'exit 1' INT; {sys.executable} -IS below.py & {until('false')}")
    thread = ask_when(lambda: (place.folder / "up-x").exists(), signal.SIGINT)
    with pytest.raises(Interrupted):
        place.walk({"x": frozenset()}, 1).run()
    thread.join()
    assert (place.folder / "saved").exists() and not at_work(place.folder)


def test_who_has_ended_is_not_waited_for_though_its_output_is_held_open(place: Place) -> None:
    """As by a process in the background that it has left behind."""
    place.does("x", f"({until('[ -e y-began ]')}; touch gone) & printf 'last words'")
    place.does("y", "[ ! -e gone ] || touch late; touch y-began")
    one = place.walk({"x": frozenset(), "y": frozenset({"x"})}, 1)
    one.run()
    assert one.done == {"x", "y"} and not (place.folder / "late").exists()
    assert "x | last words" in place.view.lines
    wait_for((place.folder / "gone").exists, 60)


def test_who_closes_its_output_is_at_work_until_it_exits(place: Place) -> None:
    place.does("x", f"exec > /dev/null 2>&1; {until('[ -e z-began ]')}; [ -e z-began ] || exit 1")
    place.does("z", "touch z-began")
    graph = {"x": frozenset[str](), "y": frozenset[str](), "z": frozenset({"y"}), "behind": frozenset({"x"})}
    one = place.walk(graph, 2)
    one.run()
    assert one.done == set(graph)
    assert place.times("end")["x"] < place.times("begin")["behind"]


def test_a_closed_output_ends_all(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(place.view, "_print", broken)
    place.does("x", ASKED)
    place.does("y", "while [ ! -e up-x ]; do sleep 0.01; done; echo a line")
    with pytest.raises(BrokenPipeError):
        place.walk({stage: frozenset() for stage in "xy"}, 2).run()
    wait_for(lambda: not at_work(place.folder), 120)


ALONE = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from typing import IO
from tests.pipeline.orchestration.test_runner import Place
Place(Path({folder!r})).walk(dict.fromkeys("xy", frozenset()), 2).run()
"""


def test_children_end_with_a_killed_walk(place: Place) -> None:
    for stage in "xy":
        place.does(stage, ASKED)
    script = ALONE.format(paths=[str(ROOT)], folder=str(place.folder))
    child = subprocess.Popen([sys.executable, "-c", script])
    wait_for(both_up(place), 120)
    assert at_work(place.folder)
    child.kill()
    child.wait()
    wait_for(lambda: not at_work(place.folder), 120)


def test_the_graph_is_dvcs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    graph = needs(["table5"])
    assert graph["train@D-jitter"] == {"prepare", "train@D-384"}
    assert "train@B-256" not in graph
    with pytest.raises(UsageError, match="tabel5"):
        needs(["tabel5"])


PROJECT = {
    "base": {"cmd": "echo base > base.txt", "deps": ["given.txt"], "outs": ["base.txt"]},
    "left": {"cmd": "sleep 0.5; cat base.txt > left.txt", "deps": ["base.txt"], "outs": ["left.txt"]},
    "right": {"cmd": "sleep 0.5; cat base.txt > right.txt", "deps": ["base.txt"], "outs": ["right.txt"]},
    "both": {"cmd": "cat left.txt right.txt > both.txt", "deps": ["left.txt", "right.txt"], "outs": ["both.txt"]},
}
WALK = """
import sys
sys.path[:0] = {paths!r}
from pipeline.orchestration.dvc_graph import needs
from pipeline.experiment.validation import load
from pipeline.orchestration.resources import ResourceShare, shares
from pipeline.orchestration.live_view import Lines
from pipeline.orchestration.runner import Walk
Walk(needs([]), shares(2, (), range(2)), ResourceShare(), Lines(True)).run()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A DVC project of its own, of four stages."""
    folder = tmp_path / "project"
    folder.mkdir()
    call(folder, "git", "init", "--quiet")
    call(folder, "dvc", "init", "--quiet")
    (folder / "given.txt").write_text("given")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": PROJECT}))
    return folder


def walking(folder: Path, output: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
    """A walk through a DVC project, in a process of its own."""
    words = [sys.executable, "-c", WALK.format(paths=[str(ROOT)], params=str(ROOT / "params.yaml"))]
    return subprocess.Popen(words, cwd=folder, stdout=output, stderr=subprocess.STDOUT, text=True)


@pytest.mark.exhaustive  # as behind two walks, below
def test_dvc_then_finds_nothing_to_do(project: Path) -> None:
    child = walking(project)
    output = child.communicate()[0]
    assert child.returncode == 0, output
    assert executed(output) == set(PROJECT)
    assert "left | Running stage 'left':" in output
    assert executed(call(project, "dvc", "repro")) == set()
    assert (project / "both.txt").read_text() == "base\nbase\n"


@pytest.mark.slow
def test_what_dvc_has_is_foreseen(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Done, or in the cache, and so is all that it needs; each forecast is then compared with what DVC does."""
    params = load(ROOT / "params.yaml")
    monkeypatch.chdir(project)

    def change(given: str, right: str) -> set[str]:
        """Those that cost nothing after a change of an input and a command; DVC is asked for them, and then for all."""
        (project / "given.txt").write_text(given)
        stages = PROJECT | {"right": PROJECT["right"] | {"cmd": right}}
        (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
        graph, cheap, _ = foreseen([], params)
        assert graph == needs([])
        if cheap:
            assert executed(call(project, *runner.repro_command(cheap))) == set()
        call(project, "dvc", "repro")
        return set(cheap)

    usual = str(PROJECT["right"]["cmd"])
    assert change("given", usual) == set()
    assert change("given", usual) == set(PROJECT)
    assert change("given", "echo another > right.txt") == {"base", "left"}
    assert change("other", usual) == set()
    assert change("given", "echo another > right.txt") == set(PROJECT), "all is in the cache"


def test_a_file_that_goes_while_it_is_looked_at_is_no_reason_to_stop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "weights/trained/A-256.pt")

    monkeypatch.setattr(runner, "forecasts", gone)
    monkeypatch.chdir(ROOT)
    assert foreseen(["table2"], load(ROOT / "params.yaml")) == (needs(["table2"]), [], [])
    said = capsys.readouterr().out
    assert said.startswith("could not check") and "'weights/trained/A-256.pt'" in said and said.count("\n") == 1


@pytest.mark.slow
def test_two_walks_at_once_do_everything_once(project: Path) -> None:
    children = [walking(project), walking(project)]
    outputs = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0, 0], "\n".join(outputs)
    ran = [stage for output in outputs for stage in re.findall(r"Running stage '([^']+)'", output)]
    assert sorted(ran) == sorted(PROJECT)
    assert any("left | Running stage 'left':" in output for output in outputs)
    assert executed(call(project, "dvc", "repro")) == set()
    assert (project / "both.txt").read_text() == "base\nbase\n"


@pytest.mark.slow
def test_the_stage_of_another_walk_is_named_once(project: Path) -> None:
    stages = PROJECT | {
        "left": PROJECT["left"] | {"cmd": f"touch left-begun; {until('[ -e go ]')}; cat base.txt > left.txt"}
    }
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    with (project / "said").open("w") as output:
        first = walking(project, subprocess.DEVNULL)
        wait_for((project / "left-begun").exists, 120)
        second = walking(project, output)
    wait_for(lambda: "waits for" in (project / "said").read_text(), 120)
    (project / "go").touch()
    assert second.wait(patience(300)) == 0 and first.wait(patience(300)) == 0
    said = (project / "said").read_text()
    assert re.findall(r"\w+ \| waits for left \(process \d+\) of another command in this clone", said)
    assert said.count("waits for") == 1 and "rwlock" not in said and "busy" not in said, said


@pytest.mark.exhaustive
def test_a_walk_beside_dvc_repro_goes_well(project: Path, rng: np.random.Generator) -> None:
    """DVC by itself may give up, for it waits for nobody; the walk waits for it."""
    other = begin(project, "dvc", "repro")
    time.sleep(rng.uniform(0, 3))
    child = walking(project)
    output = child.communicate()[0]
    other.wait()
    assert child.returncode == 0, output
    assert executed(call(project, "dvc", "repro")) == set()


@pytest.mark.slow
def test_after_a_kill_the_same_goes_on(project: Path, rng: np.random.Generator) -> None:
    for _ in range(2):
        child = walking(project)
        time.sleep(rng.uniform(0.5, 4))
        child.kill()
        child.communicate()  # until all have closed the output
    child = walking(project)
    output = child.communicate()[0]
    assert child.returncode == 0, output
    assert executed(call(project, "dvc", "repro")) == set()


HOLD = """

_tell = Trainer._tell


def _tell_and_wait(self):
    _tell(self)
    while Path("hold").exists() and not self.stop:
        time.sleep(0.02)


Trainer._tell = _tell_and_wait
"""


@pytest.mark.slow
def test_a_real_walk_is_interrupted_and_goes_on(tmp_path: Path) -> None:
    """Ctrl-C while two nets train; then their rest, and nothing is left for DVC, nor for another walk but a look.

    In the clone's own code training waits behind its first epoch, until it is interrupted.
    """
    clone = tiny_clone(tmp_path / "clone")
    values = yaml.safe_load((clone / "params.yaml").read_text())
    values["profiles"]["mini"]["recipes"]["scratch"]["epochs"] = 3
    (clone / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    call(clone, "dvc", "repro", "random@shallow", "random@A-LRN")
    with (clone / "stages/trainer.py").open("a") as file:
        file.write(HOLD)
    targets = ("train@shallow-256", "train@A-LRN-256")
    walk = ("env", f"PYTHONPATH={clone}", "vgg-repro", "run", *targets, "--jobs", "2")
    (clone / "hold").touch()
    child = begin(clone, *walk)
    wait_for(lambda: len(list(clone.glob("checkpoints/*/progress.json"))) == 2 or child.poll() is not None, 600)
    child.send_signal(signal.SIGINT)
    assert child.wait(patience(600)) == 130
    assert not at_work(clone)
    assert len(list(clone.glob("checkpoints/*/last.pt"))) == 2
    (clone / "hold").unlink()
    output = call(clone, *walk)
    assert output.count("resumed at step") == 2
    assert executed(output) >= set(targets)
    assert executed(call(clone, "dvc", "repro", *targets)) == {"fingerprint"}
    assert executed(call(clone, "vgg-repro", "run", *targets)) == {"fingerprint"}
