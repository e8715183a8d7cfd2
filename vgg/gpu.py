"""What is tried before training on a GPU: how many images fit into its memory, and whether the net can be compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from vgg.distributed import Ranks
from vgg.fit import accumulating, train_loss
from vgg.nets import DROPOUTS, VGG


def parts_that_fit(net: VGG, images: int, crop: int, bfloat16: bool) -> int:
    """In how many parts `images` crops of `crop` pixels must be computed for one update: 1, 2, 4, ...

    RuntimeError if there is no room for one image.
    """
    device = next(net.parameters()).device
    others = [torch.empty_like(weight) for weight in net.parameters() for _ in range(2)]  # momentum; what is exchanged
    parts = 1
    while True:
        together = -(-images // parts)
        try:
            _step(net, *_random(net, together, crop, device), bfloat16)
            break
        except RuntimeError as error:
            if together == 1 or not ran_out(error):
                raise
        finally:
            net.zero_grad()
        torch.cuda.empty_cache()
        parts *= 2
    del others
    torch.cuda.empty_cache()
    return parts


def compiled(
    model: nn.Module, net: VGG, images: int, crop: int, bfloat16: bool, ranks: Ranks, say: Callable[[str], None]
) -> nn.Module:
    """`model`, which is `net` or holds it, compiled for `images` crops at a time; as it is, and said, if that fails.

    Of several processes all have it compiled, or none.
    """
    device = next(net.parameters()).device
    made, why = model, ""
    try:
        made = cast(nn.Module, torch.compile(model, dynamic=False))  # raises by itself where Python is too new for it
        with accumulating(made, last=False):  # a process that fails here keeps no other waiting
            _step(made, *_random(net, images, crop, device), bfloat16)
    except Exception as reason:  # of many kinds: no compiler, no Triton, an old GPU
        why = (str(reason).strip() or type(reason).__name__).splitlines()[0]
    net.zero_grad()
    if not ranks.maximum(int(bool(why)), device):
        return made
    say(f"torch.compile does not work here, so training goes on without it, slower: {why or 'in another process'}")
    torch.compiler.reset()
    return model


def _random(net: VGG, images: int, crop: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Input (images, 3, crop, crop), keys and labels of no meaning."""
    x = torch.randn((images, 3, crop, crop), device=device).contiguous(memory_format=torch.channels_last)
    keys = torch.randint(2**62, (images, DROPOUTS), device=device)
    return x, keys, torch.randint(net.classes, (images,), device=device)


def _step(model: nn.Module, x: Tensor, keys: Tensor, labels: Tensor, bfloat16: bool) -> None:
    """A forward and a backward pass."""
    model.train()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
        scores = model(x, keys)
    train_loss(scores, labels).backward()  # type: ignore[no-untyped-call]
    if x.is_cuda:
        torch.cuda.synchronize(x.device)


def ran_out(error: RuntimeError) -> bool:
    """Whether a GPU's memory has run out; cudnn says so in words of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "unable to find an engine" in str(error)
