"""The folder of a stage's job: results are kept until they are taken over, and stops without progress are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cluster import job_folder as module
from pipeline.cluster.job_folder import IN_JOB, Asked, JobFolder, job_folder, keep_results
from pipeline.errors import Failure

OUTPUTS = (Path("weights/A.pt"), Path("weights/A.json"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobFolder:
    """The folder of a job that has been submitted, and its results."""
    monkeypatch.chdir(tmp_path)
    made = job_folder("train@A")
    made.begin(Asked("key", list(map(str, OUTPUTS))))
    for number, path in enumerate(OUTPUTS):
        path.parent.mkdir(exist_ok=True)
        path.write_text("result " * (number + 1))
    return made


def test_results_that_dvc_deletes_are_put_back(folder: JobFolder) -> None:
    assert not folder.has_kept("key")
    folder.keep()
    assert folder.has_kept("key") and not folder.has_kept("other key")
    for path in OUTPUTS:
        path.unlink()
    folder.put_back()
    assert [path.read_text() for path in OUTPUTS] == ["result ", "result result "]


def test_results_that_were_seen_are_kept_no_longer(folder: JobFolder) -> None:
    folder.keep()
    folder.wait_for_results()
    assert not folder.has_kept("key") and all(path.stat().st_nlink == 1 for path in OUTPUTS)


def test_results_that_this_machine_does_not_see_are_a_failure(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VISIBLE", 0.0)
    folder.keep()
    OUTPUTS[1].write_text("half")
    with pytest.raises(Failure, match=r"weights/A\.json is not as the job wrote it"):
        folder.wait_for_results()
    assert folder.has_kept("key")


def test_late_results_are_waited_for(folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.keep()
    OUTPUTS[0].rename("late")
    monkeypatch.setattr(module.time, "sleep", lambda seconds: Path("late").rename(OUTPUTS[0]))
    folder.wait_for_results()


def test_results_are_copied_where_files_cannot_be_linked(folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(module.os, "link", refused)
    folder.keep()
    OUTPUTS[0].unlink()
    folder.put_back()
    assert OUTPUTS[0].read_text() == "result " and OUTPUTS[0].stat().st_nlink == 1


def test_outside_a_job_nothing_is_kept(folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(IN_JOB, raising=False)
    keep_results()
    assert not folder.has_kept("key")
    monkeypatch.setenv(IN_JOB, str(folder.path))
    keep_results()
    assert folder.has_kept("key")


def test_a_new_job_begins_without_what_the_last_one_left(folder: JobFolder) -> None:
    folder.keep()
    folder.record("4711")
    folder.ask_to_stop()
    (folder.path / "code").write_text("0\n")
    assert (folder.number, folder.code, folder.is_stopped) == ("4711", 0, True)
    folder.begin(Asked("key", list(map(str, OUTPUTS))))
    assert (folder.number, folder.code, folder.is_stopped) == ("", None, False) and not folder.has_kept("key")


@pytest.mark.parametrize(
    ("marks", "expected"),
    [("aaa", [True, True, False]), ("aba", [True, True, True]), ("abbb", [True, True, True, False])],
)
def test_the_third_start_at_one_place_is_one_too_many(folder: JobFolder, marks: str, expected: list[bool]) -> None:
    assert [folder.note_start(mark, counts=True) for mark in marks] == expected
