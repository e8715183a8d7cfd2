"""What the parts share: sizes, the machine's name and its matrix rate, timing, nets and batches of noise."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch

from pipeline.system.decoders import installed_dali
from vgg.cost import training_flops
from vgg.fit import TrainingSchedule
from vgg.initialise import randomise
from vgg.nets import DROPOUTS, VGG
from vgg.stream import Batch

CLASSES = 1000
# a rate that noise cannot blow up
RECIPE = TrainingSchedule(1e-4, 1, 0.9, 5e-4, drops=0, patience=1, first_drop=0, tail=0)
MEAN, SHIFT = torch.tensor([123.7, 116.8, 103.9]), 3.0 * torch.eye(3)
PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32, "tf32": torch.float32}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Size:
    """How large everything is."""

    device: torch.device
    batch: int
    crop: int  # pixels
    width: float
    fc: int
    sides: tuple[int, ...]  # of the square matrices
    seconds: float  # that are timed at once
    rounds: int
    photographs: int

    @property
    def smoke(self) -> bool:
        """Return whether its figures mean nothing."""
        return self.device.type == "cpu"


SMOKE = Size(CPU, 4, 64, 1 / 16, 64, (128, 256), 0.1, 1, 8)


def full() -> Size:
    """Return the paper's sizes, on the first GPU."""
    return Size(torch.device("cuda", 0), 256, 224, 1.0, 4096, (4096, 8192, 16384), 1.0, 2, 4096)


def set_up(size: Size) -> None:
    """Set torch up as training does."""
    import torch._dynamo

    torch.backends.cudnn.benchmark = True  # as stages/trainer.py
    # one forward function serves all nets here, and more compiled forms of it are wanted than torch usually keeps
    torch._dynamo.config.recompile_limit = 64
    if size.smoke:
        torch.compiler.set_stance("force_eager")  # compiling for a CPU takes longer than all else
        torch.set_num_threads(1)


def describe(device: torch.device) -> str:
    """Return the machine and what runs on it, in a line."""
    cores = len(os.sched_getaffinity(0))
    dali = ", ".join(f"DALI {version(name)}" for name in installed_dali()) or "no DALI"
    torchs = f"torch {torch.__version__}, torchvision {version('torchvision')}"
    software = f"Python {platform.python_version()}, {torchs}, {dali}"
    if device.type != "cuda":
        return f"CPU, {cores} cores; {software}."
    said = _smi("--query-gpu=driver_version,power.limit", device)
    driver, _, power = (said or "unknown, unknown power limit").partition(", ")
    cuda = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return f"{torch.cuda.get_device_name(device)} ({power}), driver {driver}, {cores} cores; {software}, {cuda}."


def state(device: torch.device) -> str:
    """Return a GPU's clock, temperature and power now, and the processes that use it; an empty string for a CPU."""
    if device.type != "cuda":
        return ""
    asked = "clocks.sm,clocks.max.sm,temperature.gpu,power.draw"
    values = _smi(f"--query-gpu={asked}", device).split(", ")
    processes = _smi("--query-compute-apps=pid,used_memory", device).splitlines()
    used = f"{len(processes)} other process{'es' * (len(processes) != 1)} on the GPU"
    if len(values) != asked.count(",") + 1:
        return f"Before it: {used}." if processes else ""
    clock, highest, temperature, power = values
    return f"Before it: clock {clock} of {highest}, {temperature} °C, {power}; {used}."


def _smi(what: str, device: torch.device) -> str:
    """Return what nvidia-smi says of a GPU; an empty string if it cannot be asked."""
    try:
        words = ["nvidia-smi", what, "--format=csv,noheader", f"--id={device.index or 0}"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def neat(value: float) -> str:
    """Return a number with no more digits than are worth reading."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 3}f}"


def flops(net: str, size: Size) -> int:
    """Return the FLOP of training on one image."""
    with torch.device("meta"):
        return training_flops(VGG(net, CLASSES, size.crop, size.width, size.fc), size.crop)


def use(precision: str) -> None:
    """Set what float32 means to a GPU from now on, as stages/common.py does."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


def synchronise(device: torch.device) -> None:
    """Wait until the GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of `work`, with the GPU idle before and after."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def matrix_rate(precision: str, size: Size) -> float:
    """Return the FLOP/s of the best square product of random numbers; products of zeros would be faster."""
    use(precision)
    best = 0.0
    for side in size.sides:
        one, other = (torch.randn(side, side, device=size.device, dtype=PRECISIONS[precision]) for _ in range(2))
        product = torch.empty_like(one)
        multiply = lambda: torch.mm(one, other, out=product)  # noqa: B023
        multiply()
        times = max(1, round(size.seconds / 4 / timed(multiply, size.device)))  # long enough for the clock to settle
        for _ in range(3):
            seconds = timed(lambda: [multiply() for _ in range(times)], size.device)  # noqa: B023
            best = max(best, times * 2 * side**3 / seconds)
    return best


def initial(net: str, size: Size) -> VGG:
    """Return `net` with random weights, on its device and in its layout."""
    made = VGG(net, CLASSES, size.crop, size.width, size.fc)
    made.to(size.device)
    randomise(made, "he", 0.01, 0.01, 0)
    return made.to(memory_format=torch.channels_last)


def random_batch(size: Size) -> Batch:
    """Return a batch of noise, already on the device."""
    pixels = torch.randint(256, (size.batch, size.crop, size.crop, 3), dtype=torch.uint8, device=size.device)
    labels, keys = (torch.randint(high, shape, device=size.device)
                    for high, shape in ((CLASSES, (size.batch,)), (2**62, (size.batch, DROPOUTS))))  # fmt: skip
    colour = torch.randn(size.batch, 3, device=size.device)
    return Batch(pixels.permute(0, 3, 1, 2), labels, colour, keys, np.arange(size.batch))
