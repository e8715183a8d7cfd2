"""The packages: every requirement has a pin that it allows, for each CUDA, and make keeps the two CUDAs apart."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = {"cuda13": "constraints.txt", "cuda12": "constraints-cuda12.txt"}
DALI = {"cuda13": "nvidia-dali-cuda130", "cuda12": "nvidia-dali-cuda120"}
ON_CUDA = re.compile(r"(torch|torchvision|triton|nvidia-(?!ml-py).*|cuda-.*)")


def pins(extra: str) -> dict[str, str]:
    """The pinned versions of an extra's file, by canonical name."""
    lines = [line for line in (ROOT / FILES[extra]).read_text().splitlines() if not line.startswith("#")]
    assert lines == sorted(lines, key=str.lower)
    pairs = [re.fullmatch(r"([\w.-]+)==([\w.+-]+)", line) for line in lines]
    assert all(pairs), "names and versions alone: no address, no file"
    return {canonicalize_name(pair[1]): pair[2] for pair in pairs if pair}


@pytest.mark.parametrize("extra", FILES)
def test_every_requirement_is_pinned_to_a_version_that_it_allows(extra: str) -> None:
    pinned, extras = pins(extra), PROJECT["optional-dependencies"]
    for requirement in map(Requirement, [*PROJECT["dependencies"], *extras["dev"], *extras[extra]]):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("extra", FILES)
def test_dali_is_in_one_extra_alone_and_on_linux_alone(extra: str) -> None:
    """Both packages write one folder."""
    assert [name for name in pins(extra) if "dali" in name] == [DALI[extra]]
    assert not any("dali" in line for line in PROJECT["dependencies"])
    (line,) = [line for line in PROJECT["optional-dependencies"][extra] if "dali" in line]
    assert line.startswith(DALI[extra]) and line.endswith("; sys_platform == 'linux'")


def test_the_two_files_differ_only_in_what_depends_on_cuda() -> None:
    newer, older = pins("cuda13"), pins("cuda12")
    differing = {name for name in newer.keys() | older.keys() if newer.get(name) != older.get(name)}
    assert {name for name in differing if not ON_CUDA.fullmatch(name)} == set()
    assert {"torch", "torchvision", *DALI.values()} <= differing


def made(folder: Path, *words: str) -> str:
    """What make would run, with its environment in `folder`."""
    command = ["make", "--dry-run", f"VENV={folder}/venv", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout


def mark(folder: Path, cuda: str) -> None:
    """Leave what an installation leaves."""
    shutil.rmtree(folder / "venv", ignore_errors=True)
    (folder / "venv").mkdir()
    (folder / "venv" / f"cuda-{cuda}").touch()


def test_make_installs_the_extra_that_is_asked_for_from_its_file(tmp_path: Path) -> None:
    for cuda, words in (
        ("13", "--constraint constraints.txt --editable '.[dev,cuda13]'"),
        ("12", "--constraint constraints-cuda12.txt --editable '.[dev,cuda12]'"),
        ("none", "--constraint constraints.txt --editable '.[dev]'"),
    ):
        text = made(tmp_path, "install", f"CUDA={cuda}")
        assert words in text and "--clear" not in text


def test_make_keeps_to_the_environment_that_is_there_and_clears_it_for_another_cuda(tmp_path: Path) -> None:
    mark(tmp_path, "12")
    assert "pip install" not in made(tmp_path, "lint")
    assert "--clear" in made(tmp_path, "install", "CUDA=13")
    mark(tmp_path, "none")
    assert "pip install" not in made(tmp_path, "lint", "CUDA=none")
    assert "--clear" in made(tmp_path, "repro", "CUDA=12")


def test_make_takes_any_installer_and_a_wheelhouse(tmp_path: Path) -> None:
    assert "/bin/python -m pip install --quiet  --constraint" in made(tmp_path, "install"), "and nothing offline"
    assert "\nuv pip install --quiet  --constraint" in made(tmp_path, "install", "PIP=uv pip")
    offline = made(tmp_path, "install", "WHEELHOUSE=wheels", "CUDA=12")
    assert "pip install --quiet --no-index --find-links wheels --constraint constraints-cuda12.txt" in offline
    collected = made(tmp_path, "wheelhouse", "WHEELHOUSE=wheels", "CUDA=12")
    assert "--constraint constraints-cuda12.txt --wheel-dir wheels '.[dev,cuda12]' setuptools" in collected
    assert "--wheel-dir wheelhouse " in made(tmp_path, "wheelhouse")


@pytest.mark.parametrize("place", [".venv", "/somewhere/else"])
def test_the_environment_comes_first_wherever_it_is(place: str) -> None:
    show = "show: ; @echo $$PATH; echo $$VIRTUAL_ENV"
    command = ["make", "--silent", f"VENV={place}", f"--eval={show}", "show"]
    path, environment = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.split()
    assert environment == str(ROOT / place)
    assert path.startswith(f"{ROOT / place}/bin:")


def test_packages_for_one_format_are_in_extras_and_all_of_them_for_developers() -> None:
    extras = PROJECT["optional-dependencies"]
    for extra in ("onnx", "keras", "parquet"):
        assert set(extras[extra]) <= set(extras["dev"])
        assert not set(extras[extra]) & set(PROJECT["dependencies"])


def test_the_image_has_all_files_that_an_installation_needs() -> None:
    text = (ROOT / "apptainer.def").read_text()
    for name in ("Makefile", "pyproject.toml", PROJECT["readme"], *FILES.values()):
        assert f"    {name} /opt/vgg-repro/\n" in text, name
