"""One image's class score map before it is averaged, and the posteriors of its crops by place (section 3.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vgg.images import Rescaled
from vgg.nets import STRIDE
from vgg.score import Scorer, centre, dense, seen_side

TOGETHER = 16  # crops in a forward pass


@torch.inference_mode()
def score_map(scorer: Scorer, pixels: Tensor) -> Tensor:
    """Return the score map (K, h, w) of one whole image (1, 3, H, W) uint8, in float32."""
    scorer.net.eval()
    return next(scorer.maps(pixels, dense))[0].cpu()


def cell_starts(side: int, cells: int, scorer: Scorer) -> list[int]:
    """Return where, along a side in pixels, the crops begin that the cells of a score map stand for.

    The last crop may reach beyond the image if `scorer` keeps a remainder.
    """
    first = (side - seen_side(side, scorer.crop, scorer.remainder)) // 2
    return [first + STRIDE * cell for cell in range(cells)]


def posteriors_by_place(
    scorer: Scorer, pixels: Tensor, tops: Sequence[int], lefts: Sequence[int]
) -> NDArray[np.float32]:
    """Return the posteriors (tops, lefts, K) of crops cut out of one image (1, 3, H, W) uint8.

    Those of a crop that reaches beyond the image are NaN.
    """
    height, width = pixels.shape[2:]
    within = (np.array(tops) + scorer.crop <= height)[:, None] & (np.array(lefts) + scorer.crop <= width)
    places = [(tops[i], lefts[j]) for i, j in np.argwhere(within)]
    found = np.full((*within.shape, scorer.net.classes), np.nan, np.float32)
    found[within] = scorer.posteriors(_batches(pixels, places, scorer.crop), len(places), centre)
    return found


def _batches(pixels: Tensor, places: Sequence[tuple[int, int]], crop: int) -> Iterator[Rescaled]:
    for start in range(0, len(places), TOGETHER):
        part = places[start : start + TOGETHER]
        crops = [pixels[:, :, top : top + crop, left : left + crop] for top, left in part]
        yield Rescaled(torch.cat(crops), np.arange(start, start + len(part)))
