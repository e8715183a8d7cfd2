"""Where a number comes from: the processor by its name, whatever kind it is."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from pipeline import provenance as module
from pipeline.provenance import provenance

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
    assert provenance("cpu", 1, 1.0)["machine"] == f"{name}, Linux riscv64"
