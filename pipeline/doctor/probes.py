"""Probes of torch and DALI in processes of their own, because either may be slow or end its process.

`python -m pipeline.doctor.probes torch` (or `dali cpu`, `dali gpu`) prints its answer as JSON.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

PATIENCE = 180.0  # seconds; an environment on a network disk starts slowly


def probe(*words: str) -> dict[str, Any]:
    """Return the answer of a process of this module; if there is none, the key `died` says why."""
    command = [sys.executable, "-m", "pipeline.doctor.probes", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return {"died": f"no answer within {PATIENCE:.0f} s"}
    if done.returncode < 0:
        return {"died": f"it was killed by {signal.Signals(-done.returncode).name}"}
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"died": ["it printed nothing", *done.stderr.strip().splitlines()][-1]}
    return answer


def torch_answer() -> dict[str, Any]:
    """Return torch's version and CUDA, why torchvision does not match it, and why it does not compute on the GPUs."""
    import torch

    versions = {"version": torch.__version__, "cuda": torch.version.cuda or ""}
    return {**versions, "torchvision": _why_not(_torchvision), "why": _why_not(_multiply)}


def _why_not(work: Any) -> str:
    """Return the first line of the error that `work` raises; an empty string if it raises none."""
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    return ""


def _torchvision() -> None:
    import torch
    from torchvision.ops import nms

    nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)  # a C++ operator, missing if the two do not match


def _multiply() -> None:
    """Multiply on each GPU. Raise ArithmeticError if a product is wrong, and torch's own error without a GPU."""
    import torch

    torch.cuda.init()  # type: ignore[no-untyped-call]
    for number in range(torch.cuda.device_count()):
        ones = torch.ones(64, 64, device=f"cuda:{number}")
        if float((ones @ ones).sum()) != 64**3:
            raise ArithmeticError(f"GPU {number} computes wrong products")


def dali_answer(gpu: bool) -> dict[str, Any]:
    """Return DALI's version, and the mean difference of its pixels of a small JPEG from Pillow's, in grey levels."""
    import nvidia.dali
    from PIL import Image

    encoded = _jpeg()
    with Image.open(io.BytesIO(encoded)) as image:
        expected = np.asarray(image.convert("RGB")).astype(float)
    decoded = _decoded(encoded, gpu).astype(float)
    apart = float(np.abs(decoded - expected).mean()) if decoded.shape == expected.shape else 255.0
    return {"version": nvidia.dali.__version__, "apart": apart}


def _jpeg() -> bytes:
    """Return a JPEG of smooth colours, 64 x 48 pixels, on which all decoders agree."""
    from PIL import Image

    across, down = np.meshgrid(np.linspace(0, 255, 64), np.linspace(0, 255, 48))
    pixels = np.stack([across, down, 255 - (across + down) / 2], 2).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling="4:4:4")
    return buffer.getvalue()


def _decoded(encoded: bytes, gpu: bool) -> NDArray[np.uint8]:
    from nvidia.dali import fn, pipeline_def

    from vgg.images import decoding

    number = 0 if gpu else None

    @pipeline_def(batch_size=1, num_threads=1, device_id=number)  # type: ignore[untyped-decorator]
    def decoder() -> Any:
        source = fn.external_source(source=lambda: [np.frombuffer(encoded, np.uint8)])
        return fn.decoders.image(source, **decoding(number))

    pipe = decoder()
    pipe.build()
    (pixels,) = pipe.run()
    return np.array(pixels.as_cpu().at(0))


if __name__ == "__main__":
    print(json.dumps(torch_answer() if sys.argv[1] == "torch" else dali_answer(sys.argv[2] == "gpu")))
