"""Which device does the work: a GPU, or the CPU."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pynvml

from pipeline.errors import Failure

CPUINFO = Path("/proc/cpuinfo")
DRIVER = Path("/dev/nvidiactl")  # is there in a container, too, that was given CUDA and not NVML


@cache
def has_gpu(choice: str) -> bool:
    """Whether `choice` (auto, cpu or gpu) means the GPU here. Failure if a GPU is asked for and there is none."""
    if choice == "cpu":
        return False
    found = _cuda_works()
    if choice == "gpu" and not found:
        raise Failure("params.yaml asks for a GPU (device: gpu) and there is none here; device: auto uses the CPU then")
    return found


def gpu_count(choice: str) -> int:
    """How many GPUs `choice` means here. Failure as for `has_gpu`."""
    if not has_gpu(choice):
        return 0
    import torch

    return torch.cuda.device_count()


def gpu_of(choice: str, number: int) -> int | None:
    """The GPU for piece `number` of some work, by turns; none for the CPU. Failure as for `has_gpu`."""
    gpus = gpu_count(choice)
    return number % gpus if gpus else None


def gpus_here() -> int | None:
    """Return how many GPUs NVIDIA's driver has, without torch, whose import is slow; None if it does not say."""
    try:
        return len(handles())
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return None if DRIVER.exists() else 0
    except pynvml.NVMLError:
        return None


def handles() -> list[Any]:
    """Return the driver's handles of the GPUs that this process may use, by PCI bus. NVMLError without a driver."""
    pynvml.nvmlInit()
    found = []
    for number in range(pynvml.nvmlDeviceGetCount()):
        with suppress(pynvml.NVMLError_NoPermission):  # a container may be given some of them only
            found.append(pynvml.nvmlDeviceGetHandleByIndex(number))
    return found


def _has_driver() -> bool:
    return gpus_here() != 0


def in_use(precision: str, device: str) -> str:
    """The precision that `precision` comes to on a device: TF32 is a GPU's."""
    return "float32" if precision == "tf32" and device == "cpu" else precision


def slow_in_bfloat16(precision: str, device: str) -> bool:
    """Whether bfloat16 is asked for on an x86 CPU that has no units for it."""
    if precision != "bfloat16" or device != "cpu" or not CPUINFO.exists():
        return False
    text = CPUINFO.read_text()
    return "flags" in text and "avx512_bf16" not in text and "amx_bf16" not in text


def _cuda_works() -> bool:
    """torch's own word; not asked, because its import is slow, where there is no NVIDIA driver at all."""
    if not _has_driver():
        return False
    import torch

    return torch.cuda.is_available()
