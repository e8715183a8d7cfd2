"""What the processes of `child` do: try torch, and decode with DALI. Each prints its answer as JSON.

`python -m pipeline.health.probes torch SIZES` (JSON: classes, crop, width, fc), and `... dali cpu` or `... dali gpu`.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray


def torch_answers(sizes: dict[str, Any]) -> dict[str, Any]:
    """Versions, each net's number of weights at these sizes, and what torch says of the GPUs."""
    import torch

    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda or "",
        "torchvision": _torchvision(),
        "parameters": _parameters(sizes),
        **_gpus(),
    }


def _torchvision() -> str:
    """Why torchvision does not go with torch; empty if it does."""
    import torch

    try:
        from torchvision.ops import nms

        nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)  # an operator in C++, which another pair lacks
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _parameters(sizes: dict[str, Any]) -> dict[str, int]:
    import torch

    from vgg.nets import NETS, VGG

    with torch.device("meta"):
        return {net: sum(one.numel() for one in VGG(net, **sizes).parameters()) for net in NETS}


def _gpus() -> dict[str, Any]:
    """The GPUs that torch sees, and why there is none or it does not compute."""
    import torch

    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        gpus = [_gpu(number) for number in range(torch.cuda.device_count())]
        ones = torch.ones(64, 64, device="cuda")
        wrong = float((ones @ ones).sum()) != 64**3
    except Exception as error:
        return {"gpus": [], "architectures": [], "why": str(error).partition("\n")[0]}
    return {"gpus": gpus, "architectures": torch.cuda.get_arch_list(), "why": "it multiplies wrongly" if wrong else ""}


def _gpu(number: int) -> dict[str, Any]:
    import torch

    found = torch.cuda.get_device_properties(number)
    free, total = torch.cuda.mem_get_info(number)
    return {"name": found.name, "capability": [found.major, found.minor], "memory": total, "free": free}


def dali_answers(gpu: bool) -> dict[str, Any]:
    """DALI's version, and how many grey levels its pixels of a small JPEG are from Pillow's, on average."""
    import nvidia.dali
    from PIL import Image

    encoded = _jpeg()
    with Image.open(io.BytesIO(encoded)) as picture:
        wanted = np.asarray(picture.convert("RGB")).astype(float)
    found = _decoded(encoded, gpu).astype(float)
    apart = float(np.abs(found - wanted).mean()) if found.shape == wanted.shape else 255.0
    return {"version": nvidia.dali.__version__, "apart": apart}


def _jpeg() -> bytes:
    """Smooth colours, 64 x 48, on which all decoders agree."""
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
    def one() -> Any:
        source = fn.external_source(source=lambda: [np.frombuffer(encoded, np.uint8)])
        return fn.decoders.image(source, **decoding(number))

    pipe = one()
    pipe.build()
    (pixels,) = pipe.run()
    return np.array(pixels.as_cpu().at(0))


if __name__ == "__main__":
    answers = torch_answers(json.loads(sys.argv[2])) if sys.argv[1] == "torch" else dali_answers(sys.argv[2] == "gpu")
    print(json.dumps(answers))
