"""The machine's GPUs, as NVIDIA's driver counts them."""

from __future__ import annotations

import os
from pathlib import Path

import pynvml
import pytest

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
    devices.has_gpu.cache_clear()
    assert devices.gpus_here() == count
    assert devices.has_gpu("auto") == (count is None)
    devices.has_gpu.cache_clear()


def test_cores_are_those_of_the_process_or_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 2}, raising=False)
    assert devices.cores() == [2, 5]
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert devices.cores() == [0, 1, 2]
