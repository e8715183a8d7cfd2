"""Part 1: what the device computes, against float64: same weights, same images, same dropout, other arithmetic.

For a small and the full A-LRN and D, from random weights and images: scores, loss, the change that one SGD update makes
(of all weights, and of the worst layer), and the posteriors of the three modes, in float32 (IEEE), TF32 and bfloat16.
Errors are the norm of the difference over the norm of the truth, which is computed in float64: for the small nets on
the CPU, for the full ones on the GPU, whose float64 is checked by the small nets. Then compiled code against eager, a
batch in four parts against whole, and dropout's masks to the bit.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gpu.findings import Findings
from gpu.machine import CPU, MEAN, RECIPE, SHIFT, SMOKE, Size, use
from vgg.distributed import ALONE
from vgg.fit import StepConfig, gradients, optimiser
from vgg.gpu import compiled
from vgg.images import Rescaled
from vgg.initialise import randomise, weighted
from vgg.nets import DROPOUTS, VGG, masks
from vgg.normalise import Normalise
from vgg.score import VIEWS, Scorer
from vgg.stream import Batch

CLASSES = 100
RATE = 0.1  # large, so that an update is far above the rounding of the weights that it is added to
NETS = ("A-LRN", "D")

# How far each precision may be off. A forward pass is off by its rounding, 2**-24, 2**-11 (TF32) or 2**-9 (bfloat16),
# some ten times over through twenty layers. In float32 cudnn may choose Winograd's convolutions, which lose a digit;
# the limits stay well below what TF32 is off by, so that float32 that is secretly TF32 is found. A softmax multiplies
# by as much as the scores are large. An update is off by far more: where a ReLU's input, or the difference of two
# pooled values, is within the error of zero, the gradient takes another way altogether, and a share e of other ways is
# an error of the root of e. So it falls with the root of the precision alone, adds up towards the first layers, and
# comes in jumps: on a CPU in float32 it was 6e-7, or 7e-3 where one way differed. A wrong gradient is off by about 1.
# There the worst of 33 small nets of either kind were at 60 % of bfloat16's limits and a quarter of float32's.
FLOAT64 = 1e-6
LIMITS = {
    "scores": {"float32": 1e-4, "tf32": 1e-2, "bfloat16": 4e-2},
    "loss": {"float32": 1e-4, "tf32": 1e-2, "bfloat16": 4e-2},
    "update": {"float32": 3e-2, "tf32": 2e-1, "bfloat16": 3e-1},
    "update, worst layer": {"float32": 1e-1, "tf32": 5e-1, "bfloat16": 8e-1},
    "dense": {"float32": 2e-4, "tf32": 3e-2, "bfloat16": 1e-1},
    "crops": {"float32": 2e-4, "tf32": 3e-2, "bfloat16": 1e-1},
    "centre": {"float32": 2e-4, "tf32": 3e-2, "bfloat16": 1e-1},
}


@dataclass(frozen=True)
class Case:
    """A net at a size, and the fresh input of it."""

    net: str
    what: str
    vgg: VGG  # in float32, on the CPU
    batch: Batch  # on the CPU
    whole: Tensor  # (N, 3, H, W) uint8, for the modes


@dataclass
class CaseOutputs:
    """What one precision makes of a case, or the truth; all in float64 but the posteriors."""

    scores: Tensor
    loss: Tensor
    update: dict[str, Tensor]
    modes: dict[str, Tensor]


def run(size: Size, findings: Findings) -> None:
    """Check all, from a seed that the page names."""
    seed = secrets.randbelow(2**31)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = False  # searching takes longer than all that is computed here
    findings.say(f"Seed {seed}.")
    check_masks(size, findings)
    found = cases(size)
    check_precisions(found, size, findings)
    check_ways(found[-1], size, findings)


def cases(size: Size) -> list[Case]:
    """Return the small nets and, on a GPU, the full ones."""
    small = replace(SMOKE, batch=16)
    sizes = {"small": small} if size.smoke else {"small": small, "full": replace(size, batch=4)}
    return [case(net, what, one) for what, one in sizes.items() for net in NETS]


def case(net: str, what: str, size: Size) -> Case:
    """Fresh weights, biases too, and fresh noise; whole images a little larger than the crop."""
    made = VGG(net, CLASSES, size.crop, size.width, size.fc)
    randomise(made, "he", 0.01, None, int(torch.randint(2**31, ())))
    for layer in weighted(made).values():
        nn.init.normal_(layer.bias, 0, 0.1)
    made.to(memory_format=torch.channels_last)
    high, wide = size.crop + 32, size.crop + 64
    pixels, whole = (
        torch.randint(256, (size.batch, *sides, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
        for sides in ((size.crop, size.crop), (high, wide))
    )
    whole = whole[: size.batch // 2]  # which the 50 crops make many of
    keys = torch.randint(-(2**62), 2**62, (size.batch, DROPOUTS))
    batch = Batch(
        pixels, torch.randint(CLASSES, (size.batch,)), torch.randn(size.batch, 3), keys, np.arange(size.batch)
    )
    return Case(net, what, made, batch, whole)


# Against float64


def check_precisions(found: list[Case], size: Size, findings: Findings) -> None:
    """Write the table of errors and check each against its limit."""
    precisions = precisions_of(size)
    table = findings.table("net", "of", *(f"{precision}{end}" for precision in precisions for end in ("", ", limit")))
    for one in found:
        truth = computed(one, None, CPU if one.what == "small" else size.device)
        off = {precision: relative_errors(computed(one, precision, size.device), truth) for precision in precisions}
        if not size.smoke and one.what == "small":
            exact = relative_errors(computed(one, None, size.device), truth)
            findings.check(f"{one.what} {one.net}: float64 on the GPU", max(exact.values()) < FLOAT64, f"{exact}")
        for what, limits in LIMITS.items():
            row = [(precision, off[precision][what], limits[precision]) for precision in precisions]
            table.row(
                f"{one.what} {one.net}",
                what,
                *(f"{x:.0e}" if i else f"{x:.1e}" for _, *two in row for i, x in enumerate(two)),
            )
            for precision, error, limit in row:
                findings.figure(f"relative error: {one.what} {one.net}, {what} in {precision}", error)
                findings.check(
                    f"{one.what} {one.net}, {what} in {precision}", error <= limit, f"{error:.1e}, limit {limit:.0e}"
                )


def precisions_of(size: Size) -> list[str]:
    """Those that there are on the device: a CPU has no TF32."""
    return ["float32", "bfloat16"] if size.smoke else ["float32", "tf32", "bfloat16"]


def computed(one: Case, precision: str | None, device: torch.device) -> CaseOutputs:
    """All there is to compare, in a precision or, with none, in float64."""
    use(precision or "float32")
    net, normalise, how = placed(one, precision, device)
    net.train()
    with torch.autocast(device.type, torch.bfloat16, enabled=how.bfloat16), torch.no_grad():
        x = normalise(one.batch.pixels.to(device), one.batch.colour.to(device))
        scores = net(x.contiguous(memory_format=torch.channels_last), one.batch.keys.to(device))
    loss, update = updated(net, net, one, normalise, how)
    torch.full((2**26,), torch.nan, device=device)  # freed memory that is read before it is written gives NaN
    scorer = Scorer(placed(one, precision, device)[0], normalise, net_crop(one), device, how.bfloat16)
    whole = [Rescaled(one.whole.to(device), np.arange(len(one.whole)))]
    modes = {mode: torch.from_numpy(scorer.posteriors(whole, len(one.whole), views)) for mode, views in VIEWS.items()}
    return CaseOutputs(scores.double(), loss, update, modes)


def placed(one: Case, precision: str | None, device: torch.device) -> tuple[VGG, Callable[..., Tensor], StepConfig]:
    """A copy of the net on a device, its input, and how it is computed; in float64 without a precision."""
    net = copy.deepcopy(one.vgg).to(device)
    usual = Normalise(MEAN, SHIFT, 58.0).to(device)
    how = StepConfig(len(one.batch.labels), device, precision == "bfloat16")
    if precision:
        return net, usual, how
    return net.double(), lambda *pixels: usual(*pixels).double(), how


def net_crop(one: Case) -> int:
    """The side of the case's training crops."""
    return one.batch.pixels.shape[2]


def updated(
    model: nn.Module, net: VGG, one: Case, normalise: Callable[..., Tensor], how: StepConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of the batch, and how one update changes each weight, in float64."""
    before = {name: value.detach().double().clone() for name, value in net.named_parameters()}
    sgd = optimiser(net, replace(RECIPE, learning_rate=RATE))
    model.train()
    loss = gradients(model, one.batch, normalise, how)
    sgd.step()
    return loss, {name: value.detach().double() - before[name].double() for name, value in net.named_parameters()}


def relative_errors(found: CaseOutputs, truth: CaseOutputs) -> dict[str, float]:
    """Relative errors by what they are of."""
    modes = {mode: relative_error(found.modes[mode], truth.modes[mode]) for mode in VIEWS}
    return {
        "scores": relative_error(found.scores, truth.scores),
        "loss": relative_error(found.loss, truth.loss),
        "update": update_error(found.update, truth.update),
        "update, worst layer": max(relative_error(found.update[name], truth.update[name]) for name in truth.update),
        **modes,
    }


def relative_error(found: Tensor, truth: Tensor) -> float:
    """The norm of the difference over that of the truth."""
    return float((found.double().to(truth.device) - truth.double()).norm() / truth.double().norm())


def update_error(found: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    """That of all weights together."""
    return relative_error(*(torch.cat([one[name].flatten() for name in truth]) for one in (found, truth)))


# Compiled, and in parts


def check_ways(one: Case, size: Size, findings: Findings) -> None:
    """Check updates by compiled code and in four parts against plain ones: no further off than from the truth."""
    for precision in precisions_of(size):
        use(precision)
        plain, limit = way(one, precision, size), LIMITS["update"][precision]
        ways: dict[str, dict[str, Any]] = {"in 4 parts against 1": {"parts": 4}}
        if precision == "bfloat16":  # compiling takes most of this part's time
            ways["compiled against eager"] = {"compiles": True}
        for name, arguments in ways.items():
            off = update_error(way(one, precision, size, **arguments), plain)
            findings.check(
                f"{one.what} {one.net}, the update {name}, {precision}", off <= limit, f"{off:.1e}, limit {limit:.0e}"
            )


def way(one: Case, precision: str, size: Size, parts: int = 1, compiles: bool = False) -> dict[str, Tensor]:
    """The update, computed in some way."""
    net, normalise, how = placed(one, precision, size.device)
    model: nn.Module = net
    if compiles:
        model = compiled(net, net, len(one.batch.labels), net_crop(one), how.bfloat16, ALONE, print)
        if model is net:
            raise RuntimeError("torch.compile failed")
    return updated(model, net, one, normalise, replace(how, parts=parts))[1]


# To the bit


def check_masks(size: Size, findings: Findings) -> None:
    """Check dropout's random bits, of any 64-bit keys, eager and compiled."""
    keys = torch.randint(-(2**63), 2**63 - 1, (256,))
    wanted = masks(keys, 4096)
    for name, function in (("eager", masks), ("compiled", torch.compile(masks, dynamic=False))):
        same = torch.equal(wanted, function(keys.to(size.device), 4096).cpu())
        findings.check(f"dropout's masks of 256 keys and 4096 channels are the CPU's to the bit, {name}", same)
