"""The evaluation modes of sections 3.2 and 4.1, one row each, and the test scales Q at which they are scored.

A new mode is a row here, a function of its views in vgg/score.py, a list of runs in params.yaml and `Params`, and a
stage in dvc.yaml.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.experiment.params import Params, Run


@dataclass(frozen=True)
class Mode:
    """An evaluation mode. A field of `Params` of its name lists the runs that are scored in it."""

    protocol: str  # in words, for reports
    views: int  # forward passes per image and scale
    every_run: bool = False  # all runs are scored in it, so that `Params` needs no list of them
    whole_images: bool = False  # its views are whole images; otherwise they are crops of the training crop's size
    scale: int | None = None  # its only Q, in the paper's pixels; None: those of the run (section 4.2)


MODES = {
    "dense": Mode("dense", 2, every_run=True, whole_images=True),  # an image and its flip
    "crops": Mode("50 crops per scale", 50),
    "centre": Mode("centre crop", 1, scale=256),  # section 4.1 names no Q; by convention the smallest side is 256
}


CENTRE_BOXES, WINDOWS = "boxes", "windows"
BOX_MODES = {  # of localisers (appendix A.2), which have stages of their own
    CENTRE_BOXES: Mode("the true class's box at a centre crop", 1),
    WINDOWS: Mode("boxes, dense", 2, whole_images=True),
}
ALL_MODES = MODES | BOX_MODES
PROTOCOLS = {name: mode.protocol for name, mode in ALL_MODES.items()}


def runs_of(params: Params, mode: str) -> Sequence[str]:
    """Return the runs that are scored in `mode`."""
    runs: Sequence[str] = list(params.runs) if MODES[mode].every_run else getattr(params, mode)
    return runs


def single_scale(run: Run) -> int:
    """Return Q of the single-scale evaluation, in the paper's pixels: S, or the middle of a jittered S (4.1)."""
    low, high = run.scales
    return (low + high) // 2


def multi_scales(run: Run) -> tuple[int, int, int]:
    """Return the three Q of the multi-scale evaluation: S and S +- 32, or a jittered S's ends and middle (4.2)."""
    low, high = run.scales
    return (low - 32, low, low + 32) if low == high else (low, (low + high) // 2, high)


def scales_of(run: Run, mode: str, single: bool = False) -> tuple[int, ...]:
    """Return every Q at which `mode` is scored for `run`, in the paper's pixels; if `single`, section 4.1's only.

    The Q of a localiser's windows are those of its row in `windows`, not these.
    """
    if fixed := ALL_MODES[mode].scale:
        return (fixed,)
    single = single or mode == CENTRE_BOXES
    return (single_scale(run),) if single else multi_scales(run)
