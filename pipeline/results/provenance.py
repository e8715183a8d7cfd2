"""The provenance of a result: commit, versions, machine and time, in a file that names the hash of the result.

Equal results are equal bytes, so provenance is kept apart from them, where neither DVC nor git looks.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.experiment.paths import kept_provenance, provenance_record
from pipeline.system.atomic_files import sha256, write_json
from pipeline.system.decoders import PILLOW, installed_dali
from pipeline.system.devices import CPUINFO

CODE = ("vgg", "pipeline", "stages", "params.yaml")  # the files that numbers depend on


def record_provenance(
    stage: str,
    result: Path,
    device: str,
    threads: int,
    seconds: float,
    processes: int = 1,
    decoder: str = "",
    **speeds: float,
) -> None:
    """Write where, when and how `stage` made the file `result` in the last `seconds`, and further `speeds`.

    `decoder` is the one that decoded the images, if the stage read any.
    """
    started = datetime.now(UTC) - timedelta(seconds=seconds)
    values = {
        "result": sha256(result),
        "commit": commit(),
        "python": platform.python_version(),
        "versions": _versions(decoder),
        "machine": f"{_processor()}, {platform.system()} {platform.machine()}",
        "device": device,
        "threads": threads,
        "processes": processes,
        **({"decoder": decoder} if decoder else {}),  # older records lack it: DALI was the only one
        "started": started.isoformat(timespec="seconds"),  # without breaks; older records lack it
        "seconds": round(seconds, 1),
        **speeds,
    }
    write_json(provenance_record(stage), values)


def provenance_of(stage: str, result: Path) -> dict[str, Any] | None:
    """Return the provenance of the file `result`; None if it was not recorded, as for a restored or pulled file."""
    try:
        record: dict[str, Any] = json.loads(provenance_record(stage).read_text())
    except (OSError, ValueError):
        return None
    return _if_of(record, result)


def _if_of(record: dict[str, Any] | None, result: Path) -> dict[str, Any] | None:
    """Return a record if it is that of the file `result`."""
    return record if record and result.exists() and record.get("result") == sha256(result) else None


def known_provenance(profile: str, results: Mapping[str, Path]) -> dict[str, dict[str, Any] | None]:
    """Return the provenance of each stage's result, recorded here or kept in git; None where neither has it."""
    kept = _kept(profile)
    return {stage: provenance_of(stage, path) or _if_of(kept.get(stage), path) for stage, path in results.items()}


def keep_provenance(profile: str, known: Mapping[str, dict[str, Any] | None]) -> None:
    """Copy the known provenance of a profile's results, by stage, to where git keeps it; nothing if there is none."""
    if records := {stage: record for stage, record in known.items() if record}:
        write_json(kept_provenance(profile), records)


def _kept(profile: str) -> dict[str, dict[str, Any]]:
    """Return the records that git keeps; none if there is no file, or a damaged one, which `report` writes anew."""
    try:
        records: dict[str, dict[str, Any]] = json.loads(kept_provenance(profile).read_text())
    except (OSError, ValueError):
        return {}
    return records


def commit() -> str:
    """Return the commit of the code, followed by a plus if files that numbers depend on have been changed since."""
    head = git("rev-parse", "--short=12", "HEAD")
    if not head:
        return "unknown"
    return head + ("+" if git("status", "--porcelain", "--", *CODE) else "")


def git(*words: str) -> str:
    """Return what git prints; an empty string if it fails or does not exist."""
    return _output("git", *words)


def _output(*words: str) -> str:
    """Return the English output of a program, or an empty string if it fails or does not exist."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=20, check=True, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _versions(decoder: str) -> dict[str, str]:
    """Return the versions of the packages that results depend on, among them those of the decoder."""
    decoders = ("simplejpeg", "pillow") if decoder == PILLOW else installed_dali()
    return {name: _version(name) for name in ("vgg-repro", "torch", *decoders, "numpy", "dvc")}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _processor() -> str:
    """Return the CPU's name from the kernel. If the kernel has none (ARM), ask lscpu, then use ARM's part numbers."""
    kernel = _fields(CPUINFO.read_text() if CPUINFO.exists() else "")
    if "model name" in kernel:
        return kernel["model name"]
    lscpu = _fields(_output("lscpu"))
    if lscpu.get("Model name", "-") != "-":
        return f"{lscpu.get('Vendor ID', '')} {lscpu['Model name']}".strip()
    if "CPU part" in kernel:
        return f"ARM implementer {kernel.get('CPU implementer', '?')} part {kernel['CPU part']}"
    return platform.processor() or platform.machine()


def _fields(text: str) -> dict[str, str]:
    """Return the values of lines "key: value". The first line of each key counts."""
    pairs = [line.partition(":") for line in text.splitlines()]
    return {key.strip(): value.strip() for key, _, value in reversed(pairs)}
