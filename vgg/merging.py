"""OverFeat's greedy merging of boxes (Sermanet et al. 2014, section 4.3), for many images at once (appendix A).

The two boxes of the smallest match score become one, until no pair matches. OverFeat adds "the distance between
centres" and "the intersection area"; taken literally, boxes that are apart would merge before boxes that overlap. Here
a match score is the distance of the centres in units of the boxes' mean side, plus 1 - overlap: 0 for equal boxes,
above 1 for boxes that are apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vgg.draws import Floats, Ints

Mask = NDArray[np.bool_]
PAIRS = 2**20  # match scores in memory at once: 8 MB, and a few times that for what they are computed from


def best_boxes(
    boxes: NDArray[np.floating], scores: NDArray[np.floating], present: Mask, threshold: float, threads: int = 1
) -> tuple[Floats, Floats]:
    """Merge each problem's boxes; return the box with the largest sum of scores, (P, 4), and that sum, (P,).

    A problem is one class of one image: `boxes` (P, n, 4), `scores` (P, n), and `present` (P, n) marks the boxes that
    it has, at least one. A merged box is the mean of all its members. Of equal match scores the first pair is merged,
    of equal sums the first box is returned, in the order of the windows. Memory is that of a few problems per thread.
    """
    chosen, sums = np.empty((len(boxes), 4)), np.empty(len(boxes))
    together = max(1, PAIRS // boxes.shape[1] ** 2)

    def merge(first: int) -> None:
        part = slice(first, first + together)
        for state, which in _merged(boxes[part], scores[part], present[part], threshold):
            best = np.where(state.alive, state.scores, -np.inf).argmax(1)
            rows = np.arange(len(best))
            chosen[part][which] = state.means[:, rows, best].T
            sums[part][which] = state.scores[rows, best]

    with ThreadPoolExecutor(threads) as pool:  # NumPy releases the lock of the interpreter
        for _ in pool.map(merge, range(0, len(boxes), together)):
            pass
    return chosen, sums


def all_merged(boxes: NDArray[np.floating], scores: NDArray[np.floating], threshold: float) -> tuple[Floats, Floats]:
    """Merge the boxes (n, 4) of one problem as `best_boxes` does; return all (m, 4) and their sums of scores (m,).

    The largest sum is first, of equal ones the first box in the order of the windows.
    """
    ((state, _),) = _merged(boxes[None], scores[None], np.ones((1, len(boxes)), bool), threshold)
    (left,) = np.nonzero(state.alive[0])
    order = left[np.argsort(-state.scores[0, left], kind="stable")]
    return state.means[:, 0, order].T, state.scores[0, order]


def match(first: Floats, second: Floats) -> Floats:
    """Return the match scores (...) of boxes (4, ...): 0 for equal ones, infinite for points that are apart.

    The edges come first because NumPy is several times slower along short last axes.
    """
    width, height = (first[i + 2] - first[i] for i in (0, 1))
    across, down = (second[i + 2] - second[i] for i in (0, 1))
    common = np.maximum(np.minimum(first[2], second[2]) - np.maximum(first[0], second[0]), 0)
    common *= np.maximum(np.minimum(first[3], second[3]) - np.maximum(first[1], second[1]), 0)
    union = width * height + across * down - common
    x, y = (first[i] + first[i + 2] - (second[i] + second[i + 2]) for i in (0, 1))  # twice the distance
    apart = np.sqrt(x * x + y * y)
    side = (width + height) / 2 + (across + down) / 2  # twice the mean of four sides
    with np.errstate(divide="ignore", invalid="ignore"):
        scores: Floats = apart / side + 1 - common / union
    equal = (union == 0) & (apart == 0)
    scores[(union == 0) & ~equal] = np.inf
    scores[equal] = 0
    return scores


@dataclass
class _State:
    """Problems that are being merged: the members' sums of each box, and the match scores of all pairs."""

    total: Floats  # (4, P, n) sum of the members
    means: Floats  # (4, P, n) the merged boxes
    members: Floats  # (P, n)
    scores: Floats  # (P, n) sum of the members
    alive: Mask  # (P, n) False for boxes that are merged into an earlier one
    matches: Floats  # (P, n, n) of each box with those after it; infinite for all other pairs
    nearest: Ints  # (P, n) the later box that matches best
    smallest: Floats  # (P, n) its match score

    def taken(self, which: Mask) -> _State:
        """Return the problems that `which` (P,) selects."""
        names = ("total", "means")
        return _State(*(v[:, which] if k in names else v[which] for k, v in vars(self).items()))


def _merged(
    boxes: NDArray[np.floating], scores: NDArray[np.floating], present: Mask, threshold: float
) -> Iterator[tuple[_State, Ints]]:
    """Yield the problems in groups as their merging ends, each group with its problems' numbers."""
    state, numbers = _begun(boxes.astype(np.float64), scores.astype(np.float64), present), np.arange(len(boxes))
    while len(numbers):
        first = state.smallest.argmin(1)  # the first of equals
        going = state.smallest[np.arange(len(numbers)), first] <= threshold
        if not going.all():
            yield state.taken(~going), numbers[~going]
            state, numbers, first = state.taken(going), numbers[going], first[going]
        if len(numbers):
            _merge(state, first)


def _begun(boxes: Floats, scores: Floats, present: Mask) -> _State:
    """Return problems of which nothing is merged yet."""
    count = boxes.shape[1]
    edges = np.ascontiguousarray(np.moveaxis(np.where(present[..., None], boxes, 0.0), -1, 0))
    matches = match(edges[:, :, :, None], edges[:, :, None])
    pairs = present[:, :, None] & present[:, None] & np.triu(np.ones((count, count), bool), 1)
    matches[~pairs] = np.inf
    nearest = matches.argmin(2)
    smallest = np.take_along_axis(matches, nearest[..., None], 2)[..., 0]
    members = np.ones(scores.shape)
    return _State(edges.copy(), edges, members, scores.copy(), present.copy(), matches, nearest, smallest)


def _merge(state: _State, first: Ints) -> None:
    """Merge each problem's pair of the smallest match score in place; `first` (P,) has the earlier box of it."""
    rows = np.arange(len(first))
    second = state.nearest[rows, first]
    state.total[:, rows, first] += state.total[:, rows, second]
    state.members[rows, first] += state.members[rows, second]
    state.scores[rows, first] += state.scores[rows, second]
    state.alive[rows, second] = False
    merged = state.total[:, rows, first] / state.members[rows, first]
    state.means[:, rows, first] = merged
    scores = np.where(state.alive, match(state.means, merged[:, :, None]), np.inf)  # (P, n)
    places = np.arange(state.alive.shape[1])
    before, after = places < first[:, None], places > first[:, None]
    state.matches[rows, :, second] = state.matches[rows, second] = np.inf
    state.matches[rows, :, first] = np.where(before, scores, np.inf)
    state.matches[rows, first] = np.where(after, scores, np.inf)
    lost = (state.nearest == first[:, None]) | (state.nearest == second[:, None]) | (places == first[:, None])
    nearer = before & ((scores < state.smallest) | ((scores == state.smallest) & (first[:, None] < state.nearest)))
    np.copyto(state.nearest, first[:, None], where=nearer)
    np.copyto(state.smallest, scores, where=nearer)
    problem, box = np.nonzero(lost & ~nearer)
    again = state.matches[problem, box]  # (lost, n)
    nearest = again.argmin(1)
    state.nearest[problem, box], state.smallest[problem, box] = nearest, again[np.arange(len(again)), nearest]
    state.smallest[rows, second] = np.inf
