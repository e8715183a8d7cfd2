"""Which device does the work: the one GPU, or the CPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pipeline.errors import Failure

CPUINFO = Path("/proc/cpuinfo")


@cache
def has_gpu(choice: str) -> bool:
    """Whether `choice` (auto, cpu or gpu) means the GPU here. Failure if a GPU is asked for and there is none."""
    if choice == "cpu":
        return False
    found = _cuda_works()
    if choice == "gpu" and not found:
        raise Failure("params.yaml asks for a GPU (device: gpu) and there is none here; device: auto uses the CPU then")
    return found


def slow_in_bfloat16(precision: str, device: str) -> bool:
    """Whether bfloat16 is asked for on an x86 CPU that has no units for it."""
    if precision != "bfloat16" or device != "cpu" or not CPUINFO.exists():
        return False
    text = CPUINFO.read_text()
    return "flags" in text and "avx512_bf16" not in text and "amx_bf16" not in text


def _cuda_works() -> bool:
    """torch's own word; not asked, because its import is slow, where there is no NVIDIA driver at all."""
    if (
        not Path("/proc/driver/nvidia").exists()
        and not Path("/dev/nvidiactl").exists()
        and not Path("/dev/dxg").exists()
    ):
        return False
    import torch

    return torch.cuda.is_available()
