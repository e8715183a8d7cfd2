"""Checks of what is installed: Python, the packages and their versions, the program on the path, torch."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sysconfig
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.metadata import metadata as metadata_of
from pathlib import Path

from pipeline.health.base import INSTALL, INSTALL_ANEW, Finding, Here, SkippedError, quoted
from pipeline.health.child import DiedError

PROJECT = "vgg-repro"
CONSTRAINTS = Path("constraints.txt")
SHOWN = ("torch", "torchvision", "nvidia-dali-cuda130", "dvc", "numpy", "pillow")
NAMED = 6  # packages that a line names at most


def installed(package: str) -> str:
    """The version of a package; empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def python(here: Here) -> Iterator[Finding]:
    """Whether this Python is one that the project is made for."""
    from packaging.specifiers import SpecifierSet

    if not installed(PROJECT):
        yield Finding("python", "failure", f"{PROJECT} is not installed in this Python", INSTALL)
        return
    wanted, found = metadata_of(PROJECT)["Requires-Python"] or "", platform.python_version()
    if SpecifierSet(wanted).contains(found, prereleases=True):
        yield Finding("python", "ok", found)
    else:
        mend = "rm -r .venv && make PYTHON=python3.12 .venv/done"
        yield Finding("python", "failure", f"this is {found}, and the project needs {wanted}", mend)


def packages(here: Here) -> Iterator[Finding]:
    """Whether all that the project needs is installed and new enough."""
    from packaging.requirements import Requirement

    if not installed(PROJECT):
        raise SkippedError(f"{PROJECT} is not installed")
    needed = [Requirement(line) for line in requires(PROJECT) or [] if "extra ==" not in line]
    wrong = []
    for one in needed:
        found = installed(one.name)
        if not found:
            wrong.append(f"{one.name} is missing")
        elif not one.specifier.contains(found, prereleases=True):
            wrong.append(f"{one.name} is {found}, not {one.specifier}")
    if wrong:
        yield Finding("packages", "failure", _some(wrong), INSTALL)
    else:
        yield Finding("packages", "ok", ", ".join(f"{name} {installed(name)}" for name in SHOWN if installed(name)))


def versions(here: Here) -> Iterator[Finding]:
    """Whether the versions are those that were tested."""
    if not CONSTRAINTS.exists():
        yield Finding("versions", "ok", f"not compared: there is no {CONSTRAINTS} here")
        return
    tested = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", CONSTRAINTS.read_text(), re.MULTILINE))
    found = {name: installed(name) for name in tested}
    other = [
        f"{name} is {found[name]}, not {wanted}"
        for name, wanted in tested.items()
        if found[name] and found[name].partition("+")[0] != wanted.partition("+")[0]  # +cpu, +cu132 are builds
    ]
    if other:
        yield Finding("versions", "warning", f"others than were tested: {_some(other)}", INSTALL)
    else:
        yield Finding("versions", "ok", f"those that were tested ({CONSTRAINTS})")


def program(here: Here) -> Iterator[Finding]:
    """Whether DVC's stages, which call vgg-repro by its name, find this one."""
    scripts = Path(sysconfig.get_path("scripts"))
    found = shutil.which(PROJECT)
    if found and Path(found).parent.resolve() == scripts.resolve():
        yield Finding("program", "ok", found)
        return
    says = f"`dvc repro` would run {found}, not this Python's" if found else f"`dvc repro` would not find {PROJECT}"
    activate = scripts / "activate"
    path = f"export PATH={quoted(scripts)}{os.pathsep}$PATH"
    yield Finding("program", "warning", says, f". {quoted(activate)}" if activate.exists() else path)


def torch(here: Here) -> Iterator[Finding]:
    """Whether torch and torchvision can be imported and fit each other."""
    try:
        found = here.torch.result()
    except DiedError as reason:
        yield Finding("torch", "failure", f"torch does not start: {reason}", INSTALL_ANEW)
        return
    built = f"built for CUDA {found['cuda']}" if found["cuda"] else "built without CUDA"
    yield Finding("torch", "ok", f"{found['version']}, {built}")
    if found["torchvision"]:
        says = f"torchvision does not go with this torch: {found['torchvision']}"
        yield Finding("torchvision", "failure", says, INSTALL_ANEW)
    else:
        yield Finding("torchvision", "ok", f"{installed('torchvision')} goes with it")


def _some(texts: list[str]) -> str:
    more = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return ", ".join(texts[:NAMED]) + more
