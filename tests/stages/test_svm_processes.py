"""SVMs in several processes: equal to those of one, as many as the memory allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.results.other_sets import unconverged
from pipeline.system.progress import Progress
from stages import svm_processes
from stages.svm_processes import in_processes
from tests.support import on_linux
from vgg.svm import Job, bytes_of_one, one_by_one

JOBS = [Job(cost, number) for cost in (1.0, 100.0) for number in range(3)]


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels of three classes that overlap, in an empty folder; all processes are worth their start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(svm_processes, "SMALL", 0)
    random = np.random.default_rng(1)
    labels = np.where(np.arange(60)[:, None] % 3 == np.arange(3), 1, -1).astype(np.int8)
    labels[:3, 0] = 0
    return random.normal(size=(60, 40)) + (labels @ random.normal(size=(3, 40))) / 4, labels


@on_linux
def test_the_results_do_not_depend_on_the_number_of_processes(
    examples: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(svm_processes, "cores", lambda: [0, 1])
    with Progress("svm-D@some", len(JOBS), "SVMs") as progress:
        found = dict(in_processes(progress, *examples, JOBS, 5))
    assert progress.done == len(JOBS) and "6 SVMs on 60 x 40 numbers, 2 at once" in capsys.readouterr().out
    expected = dict(one_by_one(*examples, JOBS, 5))
    assert found.keys() == expected.keys()
    for job, solution in expected.items():
        assert np.array_equal(found[job].weights, solution.weights) and found[job][1:] == solution[1:]
    assert list(Path("checkpoints").iterdir()) == []


@on_linux
def test_a_class_without_negatives_is_an_error_from_any_process(
    examples: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, labels = examples
    labels[:, 2] = 1
    monkeypatch.setattr(svm_processes, "cores", lambda: [0, 1])
    with pytest.raises(ValueError, match="at least 2 classes"):
        list(in_processes(Progress("svm-D@some", None, "SVMs"), rows, labels, JOBS, 5))


@on_linux
@pytest.mark.parametrize(("left", "processes"), [(0, 1), (2.6, 2), (3.9, 3), (100, 4)])
def test_there_are_as_many_processes_as_the_memory_allows(
    examples: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, left: float, processes: int
) -> None:
    """`left` is how often one process's share of the memory is left, after the rows are mapped."""
    rows, labels = examples
    monkeypatch.setattr(svm_processes, "cores", lambda: [0, 1, 2, 3])
    each = bytes_of_one(rows, labels)
    one = (each + svm_processes.START) / svm_processes.SHARE
    monkeypatch.setattr(svm_processes, "usable", lambda: left * one + rows.nbytes / svm_processes.SHARE)
    assert svm_processes._processes(rows, each, len(JOBS)) == processes


def test_little_work_stays_in_this_process(
    examples: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(svm_processes, "SMALL", 60 * 40 * len(JOBS) + 1)
    monkeypatch.setattr(svm_processes, "run_tasks", lambda *_: pytest.fail("processes were started"))
    progress = Progress("svm-D@some", len(JOBS), "SVMs")
    assert len(dict(in_processes(progress, *examples, JOBS, 5))) == len(JOBS) == progress.done


def test_classes_that_did_not_converge_are_joined_by_c() -> None:
    splits = [{"unconverged": {"100": ["a", "b"]}}, {"unconverged": {"10": ["c"], "100": ["b", "d"]}}]
    assert list(unconverged({"splits": splits}).items()) == [("10", ["c"]), ("100", ["a", "b", "d"])]
