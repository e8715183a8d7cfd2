"""Part 8, only if asked for: what else might be faster on this GPU, each way beside the one in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gpu.findings import Findings
from gpu.machine import Size, flops, neat, timed
from gpu.scoring import Row, noise, score, scorer_of, shape, work_of
from gpu.training import Ours
from vgg.nets import VGG, Dropout
from vgg.score import Scorer

MAPS = ((128, 64, 256, 341), (128, 128, 128, 170), (128, 512, 32, 42))  # of a dense pass at Q = 256 (N, C, H, W)
TURNS, STEPS = 3, 15


def run(size: Size, findings: Findings) -> None:
    """Time ways of pooling, of scoring in float32, and of training."""
    time_pooling(size, findings)
    time_float32(size, findings)
    time_training(size, findings)


# Pooling


def pooled_by_maxima(x: Tensor) -> Tensor:
    """Pool x (N, C, H, W) by the larger of two rows, then of two columns."""
    height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    rows = torch.maximum(x[:, :, 0:height:2], x[:, :, 1:height:2])
    return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])


def pooled_by_amax(x: Tensor) -> Tensor:
    """Pool x (N, C, H, W) as a reduction over two axes of two."""
    height, width = x.shape[2] // 2, x.shape[3] // 2
    cells: Tensor = x[:, :, : 2 * height, : 2 * width].unflatten(3, (width, 2)).unflatten(2, (height, 2))
    return cells.amax((3, 5))


def pooled(x: Tensor) -> Tensor:
    """Pool x as the nets do."""
    return nn.functional.max_pool2d(x, 2)


def time_pooling(size: Size, findings: Findings) -> None:
    """Write how long each way takes, in inference, for maps in bfloat16."""
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "max_pool2d, as it is": pooled, "max_pool2d, compiled for any shape": torch.compile(pooled, dynamic=True),
        "larger of rows, then of columns": pooled_by_maxima, "amax": pooled_by_amax,
    }  # fmt: skip
    table = findings.table("pooling in bfloat16", "map", "ms", "TB/s", "the same bits", "channels_last")
    with torch.inference_mode():
        for maps in ((2, 8, 16, 21),) if size.smoke else MAPS:
            x = torch.randn(maps, device=size.device, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
            for name, pool in ways.items():
                found = pool(x)
                seconds = timed(lambda: [pool(x) for _ in range(STEPS)], size.device) / STEPS  # noqa: B023
                table.row(
                    name, str(maps), f"{1000 * seconds:.3f}", f"{1.25 * x.nbytes / seconds / 1e12:.2f}",
                    str(torch.equal(found, pooled(x))), str(found.is_contiguous(memory_format=torch.channels_last)),
                )  # fmt: skip


# Scoring in float32


class Planar(Scorer):
    """A scorer whose values lie plane by plane, not pixel by pixel."""

    def _map(self, view: Tensor, ceil: bool) -> Tensor:
        scores: Tensor = self.net(view.contiguous(), ceil=ceil)
        return scores.float()


def time_float32(size: Size, findings: Findings) -> None:
    """Write the rate of dense scoring in float32 in both layouts, with cuDNN's search and without."""
    scale = 64 if size.smoke else 384
    row, pixels = Row("", "dense", (scale,), "float32"), [noise(32, *shape(scale), size)]
    table = findings.table("dense scoring in float32", "cuDNN searches", "images/s", "TFLOP/s")
    for layout, kind in ((torch.channels_last, Scorer), (torch.contiguous_format, Planar)):
        for searches in (False, True):
            torch.backends.cudnn.benchmark = searches
            one = scorer_of("float32", size)
            one.__class__ = kind
            one.net.to(memory_format=layout)
            score(one, "dense", pixels)
            seconds = timed(lambda: score(one, "dense", pixels), size.device)  # noqa: B023
            rate = len(pixels[0]) / seconds
            table.row(str(layout), str(searches), neat(rate), neat(rate * work_of(row, one) / 1e12))


# Training


class ConvolutionReLU(torch.autograd.Function):
    """A convolution and its ReLU by cuDNN's own function, with their gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return relu(convolution(x))."""
        ctx.side = weight.shape[2] // 2
        y = torch.cudnn_convolution_relu(x, weight, bias, (1, 1), (ctx.side,) * 2, (1, 1), 1)
        ctx.save_for_backward(x, weight, y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Return the gradients of x, weight and bias."""
        x, weight, y = ctx.saved_tensors
        masked = torch.ops.aten.threshold_backward(gradient, y, 0)
        wanted = [ctx.needs_input_grad[0], True, True]
        sizes = ([len(weight)], [1, 1], [ctx.side] * 2, [1, 1])
        return torch.ops.aten.convolution_backward(masked, x, weight, *sizes, False, [0, 0], 1, wanted)


def joined(self: VGG, x: Tensor, keys: Tensor | None = None, ceil: bool = False) -> Tensor:
    """Return a net's scores in bfloat16, each convolution computed with its ReLU."""
    dropouts, skipped = 0, False
    for name, layer in self.named_children():
        if name.startswith("conv"):
            x = ConvolutionReLU.apply(*(values.to(torch.bfloat16) for values in (x, layer.weight, layer.bias)))
        elif isinstance(layer, Dropout):
            x = layer(x, None if keys is None else keys[:, dropouts])
            dropouts += 1
        elif not (isinstance(layer, nn.ReLU) and skipped):
            x = layer(x)
        skipped = name.startswith("conv")
    return x


def time_training(size: Size, findings: Findings) -> None:
    """Write the time of a step of net D, as it is and with each convolution joined to its ReLU."""
    table = findings.table("training net D, compiled", "ms a step", "images/s", "TFLOP/s")
    usual = VGG.forward
    for name, forward in (("as it is", usual), ("each convolution and its ReLU at once", joined)):
        if size.smoke and forward is joined:
            continue  # a CPU has no such function
        VGG.forward = forward  # type: ignore[method-assign]
        try:
            one = Ours("D", size)
            one.turn(2)
            seconds = min(timed(lambda: one.turn(STEPS), size.device) for _ in range(TURNS)) / STEPS  # noqa: B023
            rate = size.batch / seconds
            done = neat(rate * flops("D", size) / 1e12)
            table.row(name + one.note, f"{1000 * seconds:.1f}", f"{rate:,.0f}", done)
        finally:
            VGG.forward = usual  # type: ignore[method-assign]
