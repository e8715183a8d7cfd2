"""Part 6: where the time of a training step and of dense scoring goes, by kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gpu.findings import Findings
from gpu.machine import Size, synchronise
from gpu.scoring import dense_work
from gpu.training import Ours

STEPS, SHOWN = 5, 18


def run(size: Size, findings: Findings) -> None:
    """Profile net D in training, compiled, and in dense scoring."""
    ours = Ours("D", size)
    profile("A step of training net D, compiled", lambda: ours.turn(STEPS), STEPS, size, findings)
    profile("Dense scoring of 64 images with net D at Q = 256, bfloat16", dense_work(size), 1, size, findings)


def profile(what: str, work: Callable[[], object], times: int, size: Size, findings: Findings) -> None:
    """Write the kernels that took most of the time; operators on a CPU, where there are no kernels."""
    gpu = not size.smoke
    work()
    activities = [torch.profiler.ProfilerActivity.CUDA if gpu else torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profiler:
        work()
        synchronise(size.device)
    spent = [(kernel_seconds(event, gpu), event.count, event.key) for event in profiler.key_averages()]
    total = sum(seconds for seconds, *_ in spent)
    kind = "kernel" if gpu else "operator"
    findings.say(f"{what}, by {kind}: {1000 * total / times:.1f} ms in all.")
    table = findings.table(kind, "ms", "share", "calls")
    for seconds, calls, name in sorted(spent, reverse=True)[:SHOWN]:
        short = f"`{name[:110].replace('|', '/')}`"
        table.row(short, f"{1000 * seconds / times:.2f}", f"{seconds / total:.1%}", f"{calls / times:.0f}")


def kernel_seconds(event: Any, gpu: bool) -> float:
    """Return an event's own time; what is an operator or somebody's note, and not a kernel, has none on a GPU."""
    if not gpu:
        return float(event.self_cpu_time_total) / 1e6
    kernel = event.device_type == torch.autograd.DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
    return float(event.self_device_time_total) / 1e6 if kernel else 0.0
