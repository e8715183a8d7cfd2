"""The choice of the device that does the work: a GPU or the CPU."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pynvml

from pipeline.errors import Failure

CPUINFO = Path("/proc/cpuinfo")
DRIVER = Path("/dev/nvidiactl")  # also exists in a container that has CUDA but not NVML
DRIVERS = {12: 525, 13: 580}  # versions of CUDA that torch and DALI are built for, and the first drivers for them
CUDA_12 = "make CUDA=12 install"
OLDER_GPU = f"{CUDA_12}    # from compute capability 7.0 (V100); nothing here is built for older GPUs"
DOCTOR = "vgg-repro doctor"
VISIBLE = "CUDA_VISIBLE_DEVICES"
BUILT_FOR = re.compile(r"(sm|compute)_(\d+)(\d)[af]?")  # machine code, or code that newer GPUs can translate


class GpuFault(NamedTuple):
    """The reason why torch cannot use the GPUs that the driver has, and the command that helps."""

    why: str
    fix: str


def has_gpu(choice: str) -> bool:
    """Return True if `choice` (auto, cpu or gpu) means a GPU. Raise Failure if it is gpu and there is none."""
    if choice == "cpu":
        return False
    fault = gpu_fault()
    if choice == "gpu" and fault:
        raise Failure(f"params.yaml requires a GPU (device: gpu), but {fault.why}; fix: {fault.fix}")
    available = _has_driver() and not fault
    if choice == "gpu" and not available:
        raise Failure("params.yaml requires a GPU (device: gpu), but this machine has none; device: cpu uses the CPU")
    return available


def check_choice(choice: str, full_size: bool) -> None:
    """Warn if the CPU does the work only because the GPU cannot be used. Raise Failure instead for full-size nets."""
    fault = gpu_fault() if choice == "auto" else None
    if fault and full_size:
        raise Failure(
            f"this machine has a GPU, but {fault.why}. The CPU would take years for nets of full size. "
            f"fix: {fault.fix}; or, to use the CPU all the same, set device: cpu in params.yaml"
        )
    if fault:
        print(f"warning: the CPU is used, because {fault.why}; fix: {fault.fix}", flush=True)


@cache
def gpu_fault() -> GpuFault | None:
    """Return why torch cannot use the GPUs that there are; None if it can, or if there are none.

    torch is imported only if there is an NVIDIA driver, because its import is slow.
    """
    if not _has_driver():
        return None
    import torch

    if torch.version.cuda is None:
        return GpuFault(f"torch {torch.__version__} is built without CUDA", "make CUDA=13 install, or CUDA=12")
    if not torch.cuda.is_available():
        return _hidden() or _old_driver(torch.version.cuda) or GpuFault("torch finds no usable GPU", DOCTOR)
    built = torch.cuda.get_arch_list()
    for number in range(torch.cuda.device_count()):
        if not _runs_on(torch.cuda.get_device_capability(number), built):
            name = torch.cuda.get_device_name(number)
            return GpuFault(f"torch {torch.__version__} is not built for GPU {number} ({name})", OLDER_GPU)
    return None


def _hidden() -> GpuFault | None:
    if VISIBLE not in os.environ:
        return None
    return GpuFault(f"{VISIBLE} is {os.environ[VISIBLE]!r}, so torch finds no usable GPU", f"unset {VISIBLE}")


def _old_driver(cuda: str) -> GpuFault | None:
    """Return the fault if the driver is older than `cuda`, the version that torch is built for."""
    try:
        about, newest = driver()
    except pynvml.NVMLError:
        return None
    needed = int(cuda.partition(".")[0])
    return too_old(about, newest, needed) if newest < needed else None


def driver() -> tuple[str, int]:
    """Return the driver's description, and the newest CUDA that it supports. Raise NVMLError if it does not answer."""
    version, cuda = pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlSystemGetCudaDriverVersion()
    return f"{version}, CUDA up to {cuda // 1000}.{cuda % 1000 // 10}", cuda // 1000


def too_old(about: str, newest: int, needed: int) -> GpuFault:
    """Return the fault of a driver that supports CUDA up to `newest` where `needed` is needed."""
    oldest = min(DRIVERS)
    return GpuFault(
        f"NVIDIA's driver ({about}) is too old: torch needs CUDA {needed} (driver {DRIVERS.get(needed)} or newer)",
        CUDA_12 if oldest <= newest else f"ask for NVIDIA's driver {DRIVERS[oldest]} or newer",
    )


def _runs_on(capability: tuple[int, int], built: Sequence[str]) -> bool:
    """Return True if code that is built for GPUs such as sm_80 and compute_120 runs on a GPU of this capability."""
    targets = [(match[1], int(match[2]), int(match[3])) for name in built if (match := BUILT_FOR.fullmatch(name))]
    return not targets or any(
        (major, minor) <= capability and (kind == "compute" or major == capability[0]) for kind, major, minor in targets
    )


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
