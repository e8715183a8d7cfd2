"""OverFeat's merging against a slow one written from the definition, and what it must do on plain cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vgg import merging
from vgg.merging import all_merged, best_boxes, match


def slow_match(one: np.ndarray, other: np.ndarray) -> float:
    """Distance of centres in mean sides, plus 1 - overlap."""
    widths, heights = [box[2] - box[0] for box in (one, other)], [box[3] - box[1] for box in (one, other)]
    side = (sum(widths) + sum(heights)) / 4
    centres = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in (one, other)]
    common = max(0, min(one[2], other[2]) - max(one[0], other[0])) * max(
        0, min(one[3], other[3]) - max(one[1], other[1])
    )
    union = widths[0] * heights[0] + widths[1] * heights[1] - common
    return math.dist(*centres) / side + 1 - common / union


def slow_best(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[np.ndarray, float]:
    """The best merged box of one problem and its score: lists of members, merged pair by pair."""
    groups = [[index] for index in range(len(boxes))]
    while len(groups) > 1:
        means = [boxes[group].mean(0) for group in groups]
        pairs = [(slow_match(means[i], means[j]), i, j) for i in range(len(groups)) for j in range(i + 1, len(groups))]
        smallest, i, j = min(pairs)
        if smallest > threshold:
            break
        groups[i] += groups.pop(j)
    sums = [sum(scores[group]) for group in groups]
    best = sums.index(max(sums))
    return boxes[groups[best]].mean(0), sums[best]


def problems(seed: int, count: int, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random boxes around one or two objects, scores, and how many each problem has."""
    random = np.random.default_rng(seed)
    centre = random.uniform(50, 150, (count, 1, 2)) + random.integers(0, 2, (count, most, 1)) * 60
    half = random.uniform(5, 60, (count, most, 2))
    centre = centre + random.normal(0, 20, (count, most, 2))
    present = np.arange(most) < random.integers(1, most + 1, count)[:, None]
    for row in present:
        random.shuffle(row)  # the boxes that a problem lacks may be anywhere
    return np.concatenate([centre - half, centre + half], 2), random.random((count, most)), present


@pytest.mark.parametrize("threshold", [-1.0, 0.3, 0.6, 1.0, 1.3, 1.6, 99.0])
def test_merging_many_problems_is_merging_each_by_hand(threshold: float) -> None:
    boxes, scores, present = problems(3, 60, 14)
    merged, sums = best_boxes(boxes, scores, present, threshold)
    for row in range(len(boxes)):
        box, total = slow_best(boxes[row, present[row]], scores[row, present[row]], threshold)
        assert np.allclose(merged[row], box), row
        assert sums[row] == pytest.approx(total)


@pytest.mark.parametrize("threshold", [0.0, 0.6, 1.3, 99.0])
def test_all_merged_boxes_of_one_problem_begin_with_the_best(threshold: float) -> None:
    boxes, scores, _ = problems(6, 20, 14)
    for row in range(len(boxes)):
        merged, sums = all_merged(boxes[row], scores[row], threshold)
        box, total = slow_best(boxes[row], scores[row], threshold)
        assert np.allclose(merged[0], box) and sums[0] == pytest.approx(total)
        assert len(merged) == len(sums) and sums.sum() == pytest.approx(scores[row].sum())
        assert (np.diff(sums) <= 0).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_parts_of_the_problems_give_the_same(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, scores, present = problems(4, 20, 9)
    whole = best_boxes(boxes, scores, present, 1.0)
    monkeypatch.setattr(merging, "PAIRS", 3 * 81)
    for one, other in zip(whole, best_boxes(boxes, scores, present, 1.0, threads), strict=True):
        assert np.array_equal(one, other)


def test_match_scores_are_those_of_the_definition() -> None:
    boxes = problems(5, 1, 30)[0][0]
    expected = [[slow_match(one, other) for other in boxes] for one in boxes]
    found = match(boxes.T[:, :, None], boxes.T[:, None])
    assert np.allclose(found, expected)
    assert np.allclose(np.diag(found), 0)


def test_points_match_only_their_equals() -> None:
    points = np.array([[5.0, 5, 5, 5], [5, 5, 5, 5], [6, 5, 6, 5]])
    assert match(points.T[:, :1], points.T).tolist() == [0, 0, np.inf]


def test_overlapping_boxes_merge_before_boxes_that_are_apart() -> None:
    boxes = np.array([[[0.0, 0, 10, 10], [100, 100, 110, 110], [1, 1, 11, 11]]])
    merged, sums = best_boxes(boxes, np.array([[0.3, 0.4, 0.3]]), np.ones((1, 3), bool), 1.0)
    assert merged.tolist() == [[0.5, 0.5, 10.5, 10.5]] and sums == pytest.approx(0.6)


def test_of_equal_pairs_and_sums_the_first_in_the_order_of_the_windows_wins() -> None:
    step = np.array([0.0, 4, 8, 12])[:, None] * [1, 0, 1, 0]
    boxes = (np.array([0.0, 0, 10, 10]) + step)[None]
    merged, _ = best_boxes(boxes, np.ones((1, 4)), np.ones((1, 4), bool), float(match(*boxes[0, :2, :, None])[0]))
    assert merged.tolist() == [[2, 0, 12, 10]]  # of the pairs 0 and 1, 2 and 3
    alone, _ = best_boxes(boxes, np.ones((1, 4)), np.ones((1, 4), bool), 0.0)
    assert alone.tolist() == [[0, 0, 10, 10]]


def test_members_weigh_equally_in_a_merged_box() -> None:
    boxes = np.array([[[0.0, 0, 10, 10], [0, 0, 10, 10], [6, 0, 16, 10]]])
    merged, _ = best_boxes(boxes, np.ones((1, 3)), np.ones((1, 3), bool), 9.0)
    assert merged.tolist() == [[2, 0, 12, 10]]
