"""A folder that git and DVC cannot work in: every command says what the doctor says."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import SILENT, app
from pipeline.system.checkout import BrokenCheckout, check, conflict
from tests.support import ROOT
from tests.support.cases import case
from tests.support.program import program

NAMES = ("params.yaml", "dvc.yaml", "dvc.lock")
ARGUMENTS = {  # what a command needs to get as far as its work
    "train": ["A-256"],
    "score": ["dense", "A-256"],
    "table": ["4"],
    "explain": ["table4", "D", "256-512"],
    "bundle": ["results.zip"],
    "compare": ["mini", "evening"],
    "weights random": ["A"],
    "weights import": ["D-jitter", "net.pth"],
    "weights export": ["A-256", "net.pth"],
}


def commands(group: Any = None, words: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """All commands that people type, with what they need."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if words or name not in SILENT:
            inner = (*words, name)
            yield from (
                commands(command, inner)
                if hasattr(command, "commands")
                else [[*inner, *ARGUMENTS.get(" ".join(inner), [])]]
            )


def git(folder: Path, *words: str) -> None:
    """Run git; a merge ends with 1."""
    names = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *names, *words], cwd=folder, check=words[0] != "merge", capture_output=True)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository with a commit."""
    folder = tmp_path / "place"
    folder.mkdir()
    for name in (*NAMES, ".dvcignore", ".gitignore"):
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=lambda *_: {"tmp", "cache", "config.local"})
    git(folder, "init", "--quiet"), git(folder, "add", "--all"), git(folder, "commit", "--quiet", "--message", "Begin")
    monkeypatch.chdir(folder)
    return folder


def unpack_a_zip(folder: Path) -> str:
    """Take git's folder away, in a folder below another repository; return the fix."""
    shutil.rmtree(folder / ".git")
    git(folder.parent, "init", "--quiet")
    return "fix: git init && git add --all && git commit --message Begin\n"


def merge(name: str) -> Callable[[Path], str]:
    """Merge two changes of a file that do not go together; return the fix."""

    def conflicting(folder: Path) -> str:
        text = (folder / name).read_text()
        first = text.splitlines()[0]
        git(folder, "checkout", "-b", "other")
        (folder / name).write_text(text.replace(first, f"{first} # theirs", 1))
        git(folder, "commit", "--all", "--message", "other")
        git(folder, "checkout", "-")
        (folder / name).write_text(text.replace(first, f"{first} # ours", 1))
        git(folder, "commit", "--all", "--message", "this")
        git(folder, "merge", "other")
        return f"fix: git checkout HEAD -- {name}\n" if name == "dvc.lock" else f"fix: git diff {name} "

    return conflicting


BROKEN = {"a ZIP": unpack_a_zip, **{f"a conflict in {name}": merge(name) for name in NAMES}}


@pytest.mark.parametrize("what", BROKEN)
def test_every_command_says_what_the_doctor_says(what: str, place: Path) -> None:
    fix = BROKEN[what](place)
    with pytest.raises(BrokenCheckout) as caught:
        check()
    says = str(caught.value)
    assert fix in f"{says}\n"
    told = [*commands()]
    assert ["status"] in told and ["weights", "check"] in told
    for words in told:
        with case(" ".join(words)):
            done = program(place, *words)
            assert (done.out + done.error).count(says) == 1, done.error
            assert "Traceback" not in done.error and "unexpected" not in done.error


def test_what_cannot_be_done_changes_no_parameter(place: Path) -> None:
    unpack_a_zip(place)
    for split, name in (("train", "a"), ("train", "b"), ("val", "a"), ("val", "b")):
        (place / "images" / split / name).mkdir(parents=True)
        (place / "images" / split / name / "1.jpg").write_bytes(b"1")
    before = (place / "params.yaml").read_bytes()
    for words in (
        ["prepare", "--source", "imagefolder", "--path", "images"],
        ["prepare", "--profile", "evening"],
        ["weights", "import", "D-384", "net.pth"],
    ):
        with case(" ".join(words)):
            assert program(place, *words).code == 2
            assert (place / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("what", BROKEN)
def test_the_doctor_says_it_in_a_failure(what: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline import doctor
    from pipeline.doctor import tracking

    fix = BROKEN[what](place)
    monkeypatch.setattr(doctor, "CHECKS", (tracking.repository, tracking.cache, tracking.lost_results))
    failures = [finding for finding in doctor.findings() if finding.state == "failure"]
    with pytest.raises(BrokenCheckout) as caught:
        check()
    assert [(finding.says, finding.fix) for finding in failures] == [tuple(caught.value.problem)]
    assert fix.strip() in f"fix: {failures[0].fix}"


@pytest.mark.parametrize("name", NAMES)
def test_the_fix_of_a_conflict_ends_it(name: str, place: Path) -> None:
    merge(name)(place)
    found = conflict(Path(name))
    assert found is not None and f"a conflict in {name}, from line 1 on" in found.says
    if name == "dvc.lock":
        subprocess.run(found.fix, shell=True, check=True, capture_output=True)
        check()
        assert "# ours" in Path(name).read_text()


def test_help_and_sound_folders_say_nothing(place: Path) -> None:
    assert "fix:" not in program(place, "status").error
    unpack_a_zip(place)
    for words in (["--help"], ["train", "--help"], ["help"], ["--version"]):
        assert "fix:" not in program(place, *words).error
