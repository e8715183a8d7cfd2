"""The machine's GPUs, as NVIDIA's driver counts them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pynvml
import pytest

from pipeline.errors import Failure
from pipeline.system import devices


def test_gpus_are_counted_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def handle(number: int) -> int:
        if number == 1:  # another container's
            raise pynvml.NVMLError_NoPermission
        return number

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 4)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", handle)
    assert devices.handles() == [0, 2, 3]
    assert devices.gpus_here() == 3


@pytest.mark.parametrize(
    ("error", "has_file", "count"),
    [
        (pynvml.NVMLError_LibraryNotFound, False, 0),
        (pynvml.NVMLError_DriverNotLoaded, False, 0),
        (pynvml.NVMLError_LibraryNotFound, True, None),
        (pynvml.NVMLError_LibRmVersionMismatch, False, None),
    ],
)
def test_where_the_driver_does_not_say_torch_is_asked(
    error: type[Exception], has_file: bool, count: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise error

    if has_file:
        (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "nvidiactl")
    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.version.cuda", "13.2")
    devices.gpu_fault.cache_clear()
    assert devices.gpus_here() == count
    assert devices.has_gpu("auto") == (count is None)
    devices.gpu_fault.cache_clear()


@pytest.fixture
def torch_says(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., devices.GpuFault | None]]:
    """Return what a GPU, its driver and torch must be given to learn the fault, if there is one."""

    def fault(
        built: str | None = "13.2", works: bool = True, cuda: int = 13000, gpu: tuple[int, int] = (9, 0), code: str = ""
    ) -> devices.GpuFault | None:
        devices.gpu_fault.cache_clear()
        monkeypatch.setattr(devices, "gpus_here", lambda: 1)
        monkeypatch.setattr(pynvml, "nvmlSystemGetCudaDriverVersion", lambda: cuda)
        monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "535.1")
        monkeypatch.setattr("torch.version.cuda", built)
        monkeypatch.setattr("torch.cuda.is_available", lambda: works)
        monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: gpu)
        monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "Test")
        monkeypatch.setattr("torch.cuda.get_arch_list", code.split)
        return devices.gpu_fault()

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield fault
    devices.gpu_fault.cache_clear()


def test_each_way_in_which_a_gpu_cannot_be_used_names_its_command(
    torch_says: Callable[..., devices.GpuFault | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert torch_says() is None and devices.has_gpu("auto")
    for words, why, fix in (
        ({"works": False, "cuda": 12040}, "(535.1, CUDA up to 12.4) is too old: torch needs CUDA 13", "make CUDA=12"),
        ({"works": False, "cuda": 11080}, "is too old: torch needs CUDA 13 (driver 580", "ask for NVIDIA's driver 525"),
        ({"works": False}, "torch finds no usable GPU", "vgg-repro doctor"),
        ({"built": None}, "is built without CUDA", "make CUDA=13 install"),
        ({"gpu": (7, 0), "code": "sm_75 sm_90 compute_120"}, "is not built for GPU 0 (Test)", "make CUDA=12"),
    ):
        fault = torch_says(**words)
        assert fault and why in fault.why and fault.fix.startswith(fix), words
        assert not devices.has_gpu("auto") and not devices.has_gpu("cpu")
        with pytest.raises(Failure, match="requires a GPU"):
            devices.has_gpu("gpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    fault = torch_says(works=False, cuda=12040)
    assert fault and fault.fix == "unset CUDA_VISIBLE_DEVICES"


@pytest.mark.parametrize(
    ("gpu", "code", "runs"),
    [
        ((9, 0), "sm_80 sm_90", True),
        ((8, 9), "sm_80 sm_90", True),  # the same major version
        ((7, 0), "sm_75 sm_80", False),
        ((12, 1), "sm_90 compute_90", True),  # translated when it is loaded
        ((8, 0), "compute_90", False),
        ((9, 0), "sm_90a", True),
        ((9, 0), "", True),  # nothing is known
    ],
)
def test_code_runs_on_gpus_of_its_major_version_and_translated_on_newer_ones(
    gpu: tuple[int, int], code: str, runs: bool, torch_says: Callable[..., devices.GpuFault | None]
) -> None:
    assert (torch_says(gpu=gpu, code=code) is None) == runs


def test_cores_are_those_of_the_process_or_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 2}, raising=False)
    assert devices.cores() == [2, 5]
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert devices.cores() == [0, 1, 2]
