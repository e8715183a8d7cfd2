"""Where a number comes from: the commit, with a plus where code has changed since, and the processor by its name."""

from __future__ import annotations

import platform
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.results import provenance as module
from pipeline.results.provenance import commit, provenance_of, record_provenance
from tests.support.clones import call

CODE = ("vgg/nets.py", "pipeline/datasets/sources/folder.py", "stages/table.py", "params.yaml",
        "pipeline/results/tables.py", "pipeline/experiment/printed/table6.csv")  # fmt: skip
OTHERS = ("reports/mini/table6.json", "reports/mini/runs/A-256.csv", "reports/mini/table6.md", "README.md", "dvc.lock")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a file of each kind, all committed."""
    monkeypatch.chdir(tmp_path)
    for name in (*CODE, *OTHERS):
        write(tmp_path / name, "as committed")
    call(tmp_path, "git", "init", "--quiet")
    call(tmp_path, "git", "add", "--all")
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    call(tmp_path, "git", *author, "commit", "--quiet", "--message", "Begin")
    return tmp_path


def write(path: Path, text: str) -> None:
    """Write a file, and its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("name", CODE)
def test_changed_code_adds_a_plus(name: str, repository: Path) -> None:
    assert len(commit()) == 12
    write(repository / name, "changed")
    assert commit().endswith("+")


def test_results_and_other_files_add_none(repository: Path) -> None:
    for name in (*OTHERS, "reports/mini/table7.json", "reports/mini/helper.py"):
        write(repository / name, "changed")
    assert len(commit()) == 12


def test_outside_of_a_repository_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert commit() == "unknown"


X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) @ 2.20GHz\n\nprocessor\t: 1\n"
ARM = "processor\t: {}\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: {}\n\n"
CPUINFO = {
    "x86": X86,
    "arm": ARM.format(0, "0xd0c") + ARM.format(1, "0xd03"),
    "another": "processor\t: 0\n",
    "none": None,
}
LSCPU = {
    "known": "Architecture: aarch64\nVendor ID:  ARM\n  Model name: Neoverse-N1\n",
    "unknown": "Vendor ID:  0x41\n  Model name: -\n",
    "missing": None,
}


@pytest.mark.parametrize(
    ("kernel", "lscpu", "name"),
    [
        ("x86", "missing", "Intel(R) Xeon(R) @ 2.20GHz"),
        ("arm", "known", "ARM Neoverse-N1"),
        ("arm", "unknown", "ARM implementer 0x41 part 0xd0c"),
        ("arm", "missing", "ARM implementer 0x41 part 0xd0c"),
        ("another", "missing", "riscv64"),
        ("none", "known", "ARM Neoverse-N1"),
        ("none", "missing", "riscv64"),
    ],
)
def test_the_processor_is_named(
    kernel: str, lscpu: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (text := CPUINFO[kernel]) is not None:
        (tmp_path / "cpuinfo").write_text(text)
    if (text := LSCPU[lscpu]) is not None:
        program = tmp_path / "lscpu"
        program.write_text(f"#!/bin/sh\necho '{text}'\n")
        program.chmod(0o755)
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    monkeypatch.setattr(platform, "processor", lambda: "")
    result = tmp_path / "result.json"
    result.write_text("{}")
    monkeypatch.chdir(tmp_path)
    record_provenance("a stage", result, "cpu", 1, 1.0)
    record = provenance_of("a stage", result)
    assert record and record["machine"] == f"{name}, Linux riscv64"


def test_provenance_is_of_one_result_and_of_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that was restored or pulled has none."""
    monkeypatch.chdir(tmp_path)
    result = tmp_path / "result.json"
    result.write_text("{}")
    assert provenance_of("a stage", result) is None
    record_provenance("a stage", result, "cpu", 2, 1.234, 3, waited=4.5)
    record = provenance_of("a stage", result)
    assert record and (record["seconds"], record["processes"], record["waited"]) == (1.2, 3, 4.5)
    result.write_text("[]")
    assert provenance_of("a stage", result) is None
    Path("provenance/a stage.json").write_text("{")
    assert provenance_of("a stage", result) is None


def test_the_start_of_the_work_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = tmp_path / "result.json"
    result.write_text("{}")
    before = datetime.now(UTC).replace(microsecond=0)
    record_provenance("a stage", result, "cpu", 1, 3600.0)
    after = datetime.now(UTC)
    record = provenance_of("a stage", result)
    assert record
    assert before <= datetime.fromisoformat(record["started"]) + timedelta(hours=1) <= after
