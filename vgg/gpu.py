"""Trials before training on a GPU: how many images fit into its memory, and whether the net can be compiled."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from vgg.distributed import Ranks
from vgg.fit import accumulating, train_loss
from vgg.nets import DROPOUTS, VGG

_NO_MEMORY = (  # in lower case: of torch and CUDA, of cuBLAS and cuDNN, of torch where cuDNN finds no algorithm
    "out of memory",
    "alloc_failed",
    "unable to find an engine",
)


def parts_that_fit(net: VGG, images: int, crop: int, bfloat16: bool) -> int:
    """Return in how many parts `images` crops of `crop` pixels must be computed for one update: 1, 2, 4, ...

    Raise RuntimeError if there is no room for one image.
    """
    device = next(net.parameters()).device
    extra = [torch.empty_like(weight) for weight in net.parameters() for _ in range(2)]  # momentum; exchange buffers
    parts = 1
    while True:
        together = -(-images // parts)
        try:
            _step(net, *_random(net, together, crop, device), bfloat16)
            break
        except RuntimeError as error:
            if together == 1 or not gpu_memory_ran_out(error):
                raise
        finally:
            net.zero_grad()
        torch.cuda.empty_cache()
        parts *= 2
    del extra
    torch.cuda.empty_cache()
    return parts


def compiled(
    model: nn.Module, net: VGG, images: int, crop: int, bfloat16: bool, ranks: Ranks, say: Callable[[str], None]
) -> nn.Module:
    """Return `model`, which is `net` or contains it, compiled for `images` crops at a time.

    If compilation fails, pass the reason to `say`, print the whole error on standard error, and return `model`
    unchanged. Either all processes compile or none.
    """
    device = next(net.parameters()).device
    candidate, why = model, ""
    try:
        candidate = cast(nn.Module, torch.compile(model, dynamic=False))  # raises here if Python is too new for it
        with accumulating(candidate, last=False):  # so that no process waits for one that fails here
            _step(candidate, *_random(net, images, crop, device), bfloat16)
    except Exception as reason:  # of many types: no compiler, no Triton, an old GPU
        why = _first_line(reason)
        print(reason, file=sys.stderr, flush=True)
    net.zero_grad()
    if not ranks.maximum(int(bool(why)), device):
        return candidate
    say(f"torch.compile does not work here, so training is slower without it: {why or 'in another process'}")
    torch.compiler.reset()
    return model


def _first_line(error: Exception) -> str:
    """Return the first line of the error's text that says what happened, or the error's type if it has no text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and re.match(r"backend=.* raised:$", lines[0]):  # what torch puts before a backend's error
        del lines[0]
    return lines[0] if lines else type(error).__name__


def _random(net: VGG, images: int, crop: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return random inputs (images, 3, crop, crop), dropout keys (images, DROPOUTS) and labels (images,)."""
    x = torch.randn((images, 3, crop, crop), device=device).contiguous(memory_format=torch.channels_last)
    keys = torch.randint(2**62, (images, DROPOUTS), device=device)
    return x, keys, torch.randint(net.classes, (images,), device=device)


def _step(model: nn.Module, x: Tensor, keys: Tensor, labels: Tensor, bfloat16: bool) -> None:
    """Run a forward and a backward pass and wait for the GPU."""
    model.train()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
        scores = model(x, keys)
    train_loss(scores, labels).backward()  # type: ignore[no-untyped-call]
    if x.is_cuda:
        torch.cuda.synchronize(x.device)


def gpu_memory_ran_out(error: RuntimeError) -> bool:
    """Return True if the error means that GPU memory has run out; CUDA's libraries have messages of their own."""
    text = str(error).lower()
    return any(words in text for words in _NO_MEMORY)
