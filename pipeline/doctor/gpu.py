"""Checks of the GPUs: the driver, NVML's report on each GPU, and whether torch computes on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pynvml

from pipeline.doctor.base import EXTRA, INSTALL_ANEW, DoctorContext, Finding, size
from pipeline.system.devices import DRIVERS, OLDER_GPU, VISIBLE, driver, gpus_here, handles, too_old

REBOOT = "reboot this machine, or ask its administrator to"
SLOWED = {
    pynvml.nvmlClocksEventReasonHwSlowdown: "slowed down by the hardware",
    pynvml.nvmlClocksEventReasonHwThermalSlowdown: "too hot",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "too hot",
    pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: "short of power",
}


def gpu(context: DoctorContext) -> Iterator[Finding]:
    """Check whether there is a GPU, whether it is free and cool, and whether torch computes on it."""
    if gpus_here() == 0:
        yield _no_gpu(context)
        return
    try:
        devices, (about, newest) = handles(), driver()
    except pynvml.NVMLError_LibraryNotFound:
        fix = "docker run --gpus all --env NVIDIA_DRIVER_CAPABILITIES=compute,utility ..."
        yield Finding("driver", "warning", "its management library (NVML) is missing, so little is known about it", fix)
        yield from _torch(context)
        return
    except pynvml.NVMLError as error:  # for example, the driver was updated and the old one is still loaded
        yield Finding("driver", _severity(context), f"NVIDIA's driver does not answer: {error}", REBOOT)
        return
    needed = int(str(context.torch.get("cuda") or max(DRIVERS)).partition(".")[0])
    if newest < needed:
        yield Finding("driver", _severity(context), *too_old(about, newest, needed))
        return
    yield Finding("driver", "ok", about)
    for number, handle in enumerate(devices):
        yield _gpu_finding(number, handle)
    yield from _torch(context)


def _no_gpu(context: DoctorContext) -> Finding:
    if context.device == "gpu":
        says = "params.yaml has device: gpu, but there is no GPU with a driver"
        return Finding("gpu", "failure", says, context.without_gpu())
    if context.full_size:
        says = "CPU only, with full-size nets: `vgg-repro plan --measure` estimates the time"
        return Finding("gpu", "warning", says)
    return Finding("gpu", "ok", "CPU only: there is no GPU with a driver")


def _severity(context: DoctorContext) -> Literal["ok", "warning", "failure"]:
    """Return how severe it is that the CPU does the work: with full-size nets, runs do not begin (devices.py)."""
    auto = "failure" if context.full_size else "warning"
    return {"gpu": "failure", "auto": auto, "cpu": "ok"}[context.device]  # type: ignore[return-value]


def _gpu_finding(number: int, handle: Any) -> Finding:
    """Return the finding about one GPU: its memory, the processes that use it, and what slows it down."""
    memory = _answer(pynvml.nvmlDeviceGetMemoryInfo, handle)
    free = f", {size(memory.free)} of {size(memory.total)} free" if memory else ""
    about = f"{number}: {pynvml.nvmlDeviceGetName(handle)}{free}"
    pids = [process.pid for process in _answer(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or []]
    reasons = _answer(pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle) or 0
    slowed = list(dict.fromkeys(words for reason, words in SLOWED.items() if reasons & reason))
    if slowed:
        says = f"{about}; it is {' and '.join(slowed)}"
        return Finding("gpu", "warning", says, "nvidia-smi --query --display=PERFORMANCE,TEMPERATURE,POWER")
    if pids or (memory and memory.free < memory.total / 2):
        who = f" (process {', '.join(map(str, pids))})" if pids else ""
        return Finding("gpu", "warning", f"{about}; another process uses it{who}", "nvidia-smi")
    return Finding("gpu", "ok", about)


def _answer(ask: Callable[[Any], Any], handle: Any) -> Any:
    """Return the driver's answer; None if it has none for this kind of GPU."""
    try:
        return ask(handle)
    except pynvml.NVMLError:
        return None


def _torch(context: DoctorContext) -> Iterator[Finding]:
    """Yield a finding that says why torch does not compute on the GPUs, if it does not."""
    why, hidden = context.torch.get("why"), os.environ.get(VISIBLE)
    if not why or context.device == "cpu":
        return
    says = f"torch does not compute on GPUs: {why}"
    if hidden is not None:
        says = f"{says}; {VISIBLE} is {hidden!r}"
        yield Finding("gpu", _severity(context), says, f"unset {VISIBLE}")
    else:
        yield Finding("gpu", "failure", says, _remedy(why))


def _remedy(why: str) -> str:
    """Return the command that helps if torch does not compute on the GPUs for the reason `why`."""
    if "no kernel image" in why and EXTRA != "cuda12":  # a GPU that CUDA 13 no longer supports, such as a V100
        return OLDER_GPU
    return INSTALL_ANEW if "not compiled" in why else REBOOT
