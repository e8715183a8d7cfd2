"""Checks of the GPUs: the driver, NVML's report on each GPU, and whether torch computes on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pynvml

from pipeline.doctor.base import CUDA_12, EXTRA, INSTALL_ANEW, DoctorContext, Finding, size
from pipeline.system.devices import gpus_here, handles

DRIVERS = {12: 525, 13: 580}  # versions of CUDA that torch and DALI are built for, and the first drivers for them
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
        devices, cuda = handles(), pynvml.nvmlSystemGetCudaDriverVersion()
        about = f"{pynvml.nvmlSystemGetDriverVersion()}, CUDA up to {cuda // 1000}.{cuda % 1000 // 10}"
    except pynvml.NVMLError_LibraryNotFound:
        fix = "docker run --gpus all --env NVIDIA_DRIVER_CAPABILITIES=compute,utility ..."
        yield Finding("driver", "warning", "its management library (NVML) is missing, so little is known about it", fix)
        yield from _torch(context)
        return
    except pynvml.NVMLError as error:  # for example, the driver was updated and the old one is still loaded
        yield Finding("driver", _severity(context), f"NVIDIA's driver does not answer: {error}", "sudo reboot")
        return
    needed = int(str(context.torch.get("cuda") or max(DRIVERS)).partition(".")[0])
    if cuda // 1000 < needed:
        says = f"{about}: too old; torch and DALI need CUDA {needed} (driver {DRIVERS.get(needed)} or newer)"
        fix = CUDA_12 if cuda // 1000 >= min(DRIVERS) else f"ask for NVIDIA's driver {DRIVERS[min(DRIVERS)]} or newer"
        yield Finding("driver", _severity(context), says, fix)
        return
    yield Finding("driver", "ok", about)
    for number, handle in enumerate(devices):
        yield _gpu_finding(number, handle)
    yield from _torch(context)


def _no_gpu(context: DoctorContext) -> Finding:
    if context.device == "gpu":
        says = "params.yaml has device: gpu, but there is no GPU with a driver"
        return Finding("gpu", "failure", says, context.without_gpu())
    if context.params and context.params.active.net.width_ratio == 1:
        says = "CPU only, with full-size nets: `vgg-repro plan --measure` estimates the time"
        return Finding("gpu", "warning", says)
    return Finding("gpu", "ok", "CPU only: there is no GPU with a driver")


def _severity(context: DoctorContext) -> Literal["ok", "warning", "failure"]:
    """Return how severe it is that the CPU does the work."""
    return {"gpu": "failure", "auto": "warning", "cpu": "ok"}[context.device]  # type: ignore[return-value]


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
    why, hidden = context.torch.get("why"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if not why or context.device == "cpu":
        return
    says = f"torch does not compute on GPUs: {why}"
    if hidden is not None:
        says = f"{says}; CUDA_VISIBLE_DEVICES is {hidden!r}"
        yield Finding("gpu", _severity(context), says, "unset CUDA_VISIBLE_DEVICES")
    else:
        yield Finding("gpu", "failure", says, _remedy(why))


def _remedy(why: str) -> str:
    """Return the command that helps if torch does not compute on the GPUs for the reason `why`."""
    if "no kernel image" in why and EXTRA != "cuda12":  # a GPU that CUDA 13 no longer supports, such as a V100
        return CUDA_12
    return INSTALL_ANEW if "not compiled" in why else "sudo reboot"
