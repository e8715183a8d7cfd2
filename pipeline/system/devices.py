"""The choice of the device that does the work: a GPU or the CPU."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pynvml

from pipeline.errors import Failure

CPUINFO = Path("/proc/cpuinfo")
DRIVER = Path("/dev/nvidiactl")  # also exists in a container that has CUDA but not NVML


@cache
def has_gpu(choice: str) -> bool:
    """Return True if `choice` (auto, cpu or gpu) means a GPU. Raise Failure if it is gpu and there is none."""
    if choice == "cpu":
        return False
    available = _cuda_works()
    if choice == "gpu" and not available:
        raise Failure("params.yaml requires a GPU (device: gpu), but this machine has none; device: cpu uses the CPU")
    return available


def gpu_count(choice: str) -> int:
    """Return the number of GPUs that `choice` means on this machine. Raise Failure as `has_gpu` does."""
    if not has_gpu(choice):
        return 0
    import torch

    return torch.cuda.device_count()


def gpu_of(choice: str, number: int) -> int | None:
    """Return the GPU for work item `number`, in turn; None for the CPU. Raise Failure as `has_gpu` does."""
    gpus = gpu_count(choice)
    return number % gpus if gpus else None


def cores() -> list[int]:
    """Return the cores that this process may use; where the system cannot tell, all that there are."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def gpus_here() -> int | None:
    """Return the number of GPUs that NVIDIA's driver reports, or None. torch is not used: its import is slow."""
    try:
        return len(handles())
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return None if DRIVER.exists() else 0
    except pynvml.NVMLError:
        return None


def handles() -> list[Any]:
    """Return the driver's handles of the GPUs that this process may use, by PCI bus. Raise NVMLError without driver."""
    pynvml.nvmlInit()
    devices = []
    for number in range(pynvml.nvmlDeviceGetCount()):
        with suppress(pynvml.NVMLError_NoPermission):  # a container may have access to only some of them
            devices.append(pynvml.nvmlDeviceGetHandleByIndex(number))
    return devices


def _has_driver() -> bool:
    return gpus_here() != 0


def in_use(precision: str, device: str) -> str:
    """Return the precision that a device uses for `precision`: TF32 exists only on GPUs."""
    return "float32" if precision == "tf32" and device == "cpu" else precision


def slow_in_bfloat16(precision: str, device: str) -> bool:
    """Return True if bfloat16 is requested on an x86 CPU without hardware support for it."""
    if precision != "bfloat16" or device != "cpu" or not CPUINFO.exists():
        return False
    text = CPUINFO.read_text()
    return "flags" in text and "avx512_bf16" not in text and "amx_bf16" not in text


def _cuda_works() -> bool:
    """Return torch's answer. torch is imported only if there is an NVIDIA driver, because its import is slow."""
    if not _has_driver():
        return False
    import torch

    return torch.cuda.is_available()
