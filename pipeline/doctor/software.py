"""Checks of the installed software: the packages, torch and DALI."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.doctor.base import EXTRA, INSTALL, INSTALL_ANEW, INSTALL_DALI, DoctorContext, Finding
from pipeline.doctor.probes import probe
from pipeline.errors import Failure
from pipeline.system.decoders import PILLOW, decoder_in_use, has_dali, installed_dali

PROJECT = Path(__file__).parent.parent.parent / "pyproject.toml"
SOFT = "torchvision"  # only for the source imagenette, and to recognise torchvision's own files
LOST = "without it there is no source imagenette, and torchvision's own files are not recognised"
SHOWN = ("torch", "torchvision", "dvc", "numpy", "pillow")
LEVELS = 2.0  # largest mean difference of two decoders, in grey levels


def installed(package: str) -> str:
    """Return the version of a package; an empty string if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def packages(context: DoctorContext) -> Iterator[Finding]:
    """Check whether all packages that pyproject.toml asks for are installed in matching versions."""
    from packaging.requirements import Requirement

    wrong = []
    project = tomllib.loads(PROJECT.read_text())["project"]
    extra = project["optional-dependencies"][EXTRA] if EXTRA else []
    for requirement in map(Requirement, [*project["dependencies"], *extra]):
        present = installed(requirement.name)
        if not present:
            wrong.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(present, prereleases=True):
            wrong.append(f"{requirement.name} is {present}, not {requirement.specifier}")
    if wrong and all(line.startswith(f"{SOFT} ") for line in wrong):
        yield Finding("packages", "warning", f"{', '.join(wrong)}: {LOST}", INSTALL)
    elif wrong:
        yield Finding("packages", "failure", ", ".join(wrong), INSTALL)
    else:
        yield Finding("packages", "ok", ", ".join(f"{name} {installed(name)}" for name in (*SHOWN, *installed_dali())))


def torch(context: DoctorContext) -> Iterator[Finding]:
    """Check whether torch and torchvision can be imported and match each other."""
    answer = context.torch
    if "died" in answer:
        yield Finding("torch", "failure", f"torch does not start: {answer['died']}", INSTALL_ANEW)
    elif answer["torchvision"]:
        says = f"torchvision does not work with this torch: {answer['torchvision']}; {LOST}"
        yield Finding("torch", "warning", says, INSTALL_ANEW)
    else:
        built = f"built for CUDA {answer['cuda']}" if answer["cuda"] else "built without CUDA"
        yield Finding("torch", "ok", f"{answer['version']}, {built}; torchvision matches")


def dali(context: DoctorContext) -> Iterator[Finding]:
    """Check whether DALI decodes a JPEG as Pillow does, on the CPU and on a GPU that is used, if it is used itself."""
    on_gpu = context.device != "cpu" and context.torch.get("why") == ""
    try:
        name = decoder_in_use(context.decoder)
    except Failure as reason:
        yield Finding("dali", "failure", str(reason), INSTALL_DALI)
        return
    if len(both := installed_dali()) > 1:
        says = f"{' and '.join(both)} are both installed, and write the same files"
        yield Finding("dali", "failure", says, f"pip uninstall --yes {' '.join(both)} && {INSTALL_DALI}")
        return
    if name == PILLOW:
        says = f"{'not used' if has_dali() else 'not installed'}: simplejpeg and Pillow decode the images, on the CPU"
        yield Finding("dali", "warning" if on_gpu else "ok", says + ", which a GPU may wait for" * on_gpu)
        return
    for device in ("cpu", "gpu") if on_gpu else ("cpu",):
        answer = probe("dali", device)
        if "died" in answer:
            says = f"it does not decode on the {device.upper()}: {answer['died']}"
            yield Finding("dali", "failure", says, f"{INSTALL_ANEW}    # or decoder: pillow in params.yaml")
        elif answer["apart"] > LEVELS:
            says = f"on the {device.upper()} its pixels differ from Pillow's by {answer['apart']:.1f} grey levels"
            yield Finding("dali", "failure", says, INSTALL_ANEW)
        else:
            yield Finding("dali", "ok", f"{answer['version']} decodes on the {device.upper()} as Pillow does")
