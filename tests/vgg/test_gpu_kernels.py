"""The kernels that torch.compile writes for training are compiled for an H100, on a machine that needs no GPU.

Inductor believes that the CPU's code is to be Triton's, and that the CPU is an H100. Each kernel that it writes is kept
and compiled by Triton; nothing is run but the convolutions, whose values are of no matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vgg.fit import train_loss
from vgg.nets import DROPOUTS, VGG, masks

pytest.importorskip("triton")
H100 = {
    "type": "cuda", "index": 0, "cc": 90, "major": 9, "multi_processor_count": 132, "warp_size": 32,
    "regs_per_multiprocessor": 65536, "max_threads_per_multi_processor": 2048, "max_threads_per_block": 1024,
}  # fmt: skip


class Unrun:
    """A kernel that does nothing."""

    def run(self, *given: Any, **more: Any) -> None:
        """Leave the outputs as they are."""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The source of each Triton kernel by its name, as torch.compile writes them from now on."""
    import torch._functorch.config
    import torch._inductor.config
    from torch._inductor.async_compile import AsyncCompile
    from torch._inductor.runtime import triton_helpers
    from torch._inductor.runtime.hints import DeviceProperties

    sources: dict[str, str] = {}

    def keep(self: AsyncCompile, name: str, source: str, **more: Any) -> Unrun:
        sources[name] = source
        return Unrun()

    monkeypatch.setattr(AsyncCompile, "triton", keep)
    monkeypatch.setattr(DeviceProperties, "create", lambda device: DeviceProperties(**H100))
    monkeypatch.setattr(torch.utils._triton, "triton_hash_with_backend", lambda: "an H100's")
    for name in ("set_driver_to_cpu", "set_driver_to_gpu"):
        monkeypatch.setattr(triton_helpers, name, lambda: None)
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    torch.compiler.reset()
    with (
        torch._inductor.config.patch(cpu_backend="triton", fx_graph_cache=False),
        torch._functorch.config.patch(enable_autograd_cache=False),
    ):
        yield sources
    torch.compiler.reset()


def refused(written: dict[str, str]) -> dict[str, str]:
    """The kernels that Triton cannot compile for an H100, with what it says."""
    import triton
    from torch._inductor.codecache import PyCodeCache
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    reasons = {}
    for name, source in written.items():
        kernel = getattr(PyCodeCache.load(source), name)
        about = kernel._create_compile_meta(kernel.configs[0])
        code = ASTSource(kernel.fn, about["signature"], about["constants"], about["configs"][0])
        options = kernel._create_compile_options(kernel.configs[0], about)
        try:
            made = triton.compile(code, target=GPUTarget("cuda", 90, 32), options=options)
            assert made.asm["cubin"], name
        except triton.CompilationError as error:
            reasons[name] = str(error)
    return reasons


def test_dropouts_masks_compile_for_an_h100(written: dict[str, str], rng: np.random.Generator) -> None:
    keys = torch.from_numpy(rng.integers(-(2**63), 2**63, 8))
    torch.compile(masks, dynamic=False)(keys, 4096)
    assert written
    assert refused(written) == {}


@pytest.mark.slow
def test_a_training_step_compiles_for_an_h100(written: dict[str, str], rng: np.random.Generator) -> None:
    """Forward and backward in bfloat16, of a narrow net with all kinds of layers that there are."""
    net = VGG("A-LRN", 10, 32, 1 / 32, 16, dropout=0.1).train().to(memory_format=torch.channels_last)
    x = torch.from_numpy(rng.standard_normal((4, 3, 32, 32), np.float32)).contiguous(memory_format=torch.channels_last)
    keys = torch.from_numpy(rng.integers(-(2**63), 2**63, (4, DROPOUTS)))
    model = torch.compile(net, dynamic=False)
    with torch.autocast("cpu", torch.bfloat16):
        scores = model(x, keys)
    forward = len(written)
    train_loss(scores, torch.zeros(4, dtype=torch.int64)).backward()
    assert 20 < forward < len(written) - 20
    assert sum("arange" in name for name in written) > 0, "the masks are among them"
    assert refused(written) == {}
