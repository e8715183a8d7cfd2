"""Checks of the GPU: the driver against torch and DALI, whether torch computes and DALI decodes, the precision."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.device import slow_in_bfloat16
from pipeline.health.base import INSTALL_ANEW, Finding, Here, State, size
from pipeline.health.child import Child, DiedError, probe
from pipeline.params import Prepare

KERNEL_MODULE = Path("/proc/driver/nvidia/version")
NODES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))  # the second is Windows' way into its Linux
DRIVERS = {12: 525, 13: 580}  # the least driver of each CUDA, by NVIDIA's release notes
LEVELS = 2.0  # grey levels that two decoders may be apart on average
CONTAINER = (Path("/.dockerenv"), Path("/run/.containerenv"))
MODULES = "sudo nvidia-modprobe -u -c=0"  # loads them, and makes their device files
# what CUDA says, in part, to what mends it
MENDS = {
    "mismatch": "sudo reboot",  # the driver was updated and the old one is still at work
    "803": "sudo reboot",
    "unknown error": MODULES,  # one of them is lost when a laptop sleeps
    "Torch not compiled": INSTALL_ANEW,
}
Version = tuple[int, int]


class Driver(NamedTuple):
    """NVIDIA's driver."""

    version: str
    cuda: Version | None  # the newest that it runs; None if its library is not to be had
    reachable: bool  # whether this place, a container perhaps, was given the GPU


def driver() -> Driver | None:
    """The driver of this machine; None without one."""
    cuda, reachable = newest_cuda(), any(node.exists() for node in NODES)
    if KERNEL_MODULE.exists():
        number = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", KERNEL_MODULE.read_text())
        return Driver(number[0] if number else "of unknown version", cuda, reachable)
    return Driver("of Windows", cuda, reachable) if cuda and reachable else None


def newest_cuda() -> Version | None:
    """The newest CUDA that the driver's library runs; None without the library."""
    try:
        library, number = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
        failed = library.cuDriverGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):
        return None
    return None if failed or not number.value else (number.value // 1000, number.value % 1000 // 10)


def dali_cuda() -> int | None:
    """The CUDA that DALI's package is made for, by its name."""
    names = (re.fullmatch(r"nvidia-dali-cuda(\d+)", one.name or "") for one in distributions())
    return next((int(name[1]) // 10 for name in names if name), None)


def gpu(here: Here) -> Iterator[Finding]:
    """Whether there is a GPU, and whether it can be worked with."""
    found = driver()
    if found is None:
        yield _no_driver(here)
        return
    about = f"driver {found.version}" + (f", CUDA up to {_dotted(found.cuda)}" if found.cuda else "")
    if here.device == "cpu":
        yield Finding("gpu", "ok", f"{about}; not used: params.yaml has device: cpu")
        return
    newer = _too_new(_wheels(here), found)
    if newer:
        yield _old_driver(here, about, newer)
        return
    yield Finding("driver", "ok", about)
    yield from _seen(here, found)


def _no_driver(here: Here) -> Finding:
    if here.device != "gpu":
        if here.params and here.profile.net.width_ratio == 1:
            work = "train" if here.profile.train else "score"
            says = f"CPU only, and full nets to {work}: `vgg-repro plan --measure` says how long"
            return Finding("gpu", "warning", says)
        return Finding("gpu", "ok", "CPU only: there is no NVIDIA driver")
    says = "params.yaml has device: gpu, and there is no NVIDIA driver"
    return Finding("gpu", "failure", says, here.edit("device", "auto"))


def _wheels(here: Here) -> dict[str, int]:
    """The CUDA, major number alone, that each package is made for."""
    found = {"DALI": dali_cuda() or 0}
    cuda = _answer(here.torch).get("cuda", "")
    return {**found, "torch": int(cuda.partition(".")[0])} if cuda else found


def _too_new(wheels: dict[str, int], found: Driver) -> dict[str, int]:
    """The packages that the driver is too old for."""
    return {name: cuda for name, cuda in wheels.items() if found.cuda and cuda > found.cuda[0]}


def _old_driver(here: Here, about: str, newer: dict[str, int]) -> Finding:
    needs = " and ".join(f"{name} needs CUDA {cuda}" for name, cuda in newer.items())
    least = DRIVERS.get(max(newer.values()), max(DRIVERS.values()))
    says = f"{about}: too old, {needs} (driver {least} or newer); the work is done on the CPU"
    return Finding("driver", _grave(here), says, f"sudo apt-get install nvidia-driver-{least} && sudo reboot")


def _grave(here: Here) -> State:
    """How bad it is that the CPU does the work."""
    return "failure" if here.device == "gpu" else "warning"


def _seen(here: Here, found: Driver) -> Iterator[Finding]:
    """What torch says of the GPU of a driver that is new enough."""
    try:
        answer = here.torch.result()
    except DiedError:
        yield Finding("gpu", _grave(here), "not tried: torch does not start", INSTALL_ANEW)
        return
    if not answer["gpus"] or answer["why"]:
        yield _unseen(here, found, answer)
        return
    for number, one in enumerate(answer["gpus"]):
        yield _one_gpu(here, number, one, answer["architectures"])


def _unseen(here: Here, found: Driver, answer: dict[str, Any]) -> Finding:
    why = answer["why"] or "it finds none"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and not answer["gpus"]:
        says = f"torch sees no GPU: CUDA_VISIBLE_DEVICES is {hidden!r}"
        return Finding("gpu", _grave(here), says, "unset CUDA_VISIBLE_DEVICES")
    if not found.reachable or found.cuda is None:
        lacks = "device files" if not found.reachable else "library libcuda.so.1"
        mend = "docker run --gpus all ..." if any(file.exists() for file in CONTAINER) else MODULES
        return Finding("gpu", "failure", f"there is a driver, and its {lacks} cannot be had: {why}", mend)
    mend = next((mend for part, mend in MENDS.items() if part in why), "sudo reboot")
    return Finding("gpu", "failure", f"torch cannot work with the GPU: {why}", mend)


def _one_gpu(here: Here, number: int, one: dict[str, Any], architectures: list[str]) -> Finding:
    """Whether the GPU is one that torch has code for, and whose memory is free."""
    capability = (one["capability"][0], one["capability"][1])
    about = (
        f"{number}: {one['name']}, {size(one['free'])} of {size(one['memory'])} free, sm_{capability[0]}{capability[1]}"
    )
    if not runs_on(capability, architectures):
        says = f"{about}, for which this torch has no code (it has {', '.join(architectures)})"
        return Finding("gpu", "failure", says, here.edit("device", "cpu"))
    if one["free"] < one["memory"] / 2:
        return Finding("gpu", "warning", f"{about}: somebody else is at work on it", "nvidia-smi")
    return Finding("gpu", "ok", about)


def runs_on(capability: Version, architectures: list[str]) -> bool:
    """Whether code for `architectures`, as torch names them, runs on a GPU of this compute capability."""
    for name in architectures:
        kind, major, minor, only = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name).groups()  # type: ignore[union-attr]
        made = (int(major), int(minor))
        if only == "a" and made == capability:
            return True
        if only != "a" and kind == "sm" and made[0] == capability[0] and made[1] <= capability[1]:
            return True
        if not only and kind == "compute" and made <= capability:
            return True
    return False


def dali(here: Here) -> Iterator[Finding]:
    """Whether DALI decodes a JPEG as Pillow does, on the CPU and on a GPU that is used."""
    yield _decodes(here.dali, "CPU", INSTALL_ANEW)
    if works(here):
        child = probe("dali", "gpu")
        try:
            yield _decodes(child, "GPU", here.edit("device", "cpu") if here.params else INSTALL_ANEW)
        finally:
            child.end()


def works(here: Here) -> bool:
    """Whether there is a GPU that is used and that torch computes on."""
    answer = _answer(here.torch)
    return here.device != "cpu" and bool(answer.get("gpus")) and not answer["why"]


def _decodes(child: Child, where: str, mend: str) -> Finding:
    try:
        answer = child.result()
    except DiedError as reason:
        return Finding("dali", "failure", f"it does not decode on the {where}: {reason}", mend)
    if answer["apart"] > LEVELS:
        says = f"it decodes wrongly on the {where}: {answer['apart']:.1f} grey levels from Pillow's pixels"
        return Finding("dali", "failure", says, mend)
    return Finding("dali", "ok", f"{answer['version']} decodes on the {where} as Pillow does")


def precision(here: Here) -> Iterator[Finding]:
    """Whether bfloat16 is asked for where it is slow."""
    device = "gpu" if works(here) else "cpu"
    capabilities = [one["capability"] for one in _answer(here.torch).get("gpus", [])][:1]
    old = device == "gpu" and capabilities[0] < [8, 0]
    asked = [block.precision for block in here.steps.values() if not isinstance(block, Prepare)]
    if any(one == "bfloat16" and (old or slow_in_bfloat16(one, device)) for one in asked):
        says = f"bfloat16 is asked for, and this {device.upper()} has no units for it: float32 is faster"
        yield Finding("precision", "warning", says, here.edit("precision", "float32"))
    else:
        yield Finding("precision", "ok", f"{' and '.join(sorted(set(asked)))} on the {device.upper()}")


def _answer(child: Child) -> dict[str, Any]:
    """The answer of a process; nothing if it has died, which another check reports."""
    try:
        return child.result()
    except DiedError:
        return {}


def _dotted(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
