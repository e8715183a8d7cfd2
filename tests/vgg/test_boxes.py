"""Boxes: frames of reference against painted pixels, overlap and targets against slow references by definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vgg.boxes import (
    BoxTargets,
    area_inside,
    box_loss,
    centred,
    edges,
    in_crops,
    mirrored,
    of_classes,
    overlap,
    rescaled_boxes,
    shifted,
)
from vgg.draws import Draws, draw, epoch_words

CROP = 32


def slow_overlap(one: np.ndarray, other: np.ndarray) -> float:
    """The overlap of two boxes of whole pixels, both ends included, by counting pixels."""
    pixels = [
        {(x, y) for x in range(int(box[0]), int(box[2]) + 1) for y in range(int(box[1]), int(box[3]) + 1)}
        for box in (one, other)
    ]
    return len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1])


def random_boxes(random: np.random.Generator, count: int, side: int) -> np.ndarray:
    """Boxes (count, 4) of whole pixels within `side`."""
    corners = np.sort(random.integers(0, side, (count, 2, 2)), 1)
    return np.concatenate([corners[:, 0], corners[:, 1]], 1).astype(np.float64)


def test_overlap_counts_pixels_as_the_development_kit_does() -> None:
    random = np.random.default_rng(1)
    first, second = random_boxes(random, 200, 12), random_boxes(random, 200, 12)
    expected = [slow_overlap(one, other) for one, other in zip(first, second, strict=True)]
    assert np.allclose(overlap(first, second), expected)


def test_the_pixel_more_alone_decides_on_the_appendixs_example() -> None:
    first, second = np.array([0.0, 0, 9, 9]), np.array([0.0, 0, 9, 19])
    assert overlap(first, second) == 0.5
    assert overlap(first, second, pixel=0.0) == pytest.approx(81 / 171)


def test_boxes_without_area_and_boxes_apart_have_no_overlap() -> None:
    empty, unit = np.array([3.0, 3, 3, 3]), np.array([0.0, 0, 1, 1])
    assert overlap(empty, empty, pixel=0.0) == 0
    assert overlap(unit, unit + 5, pixel=0.0) == 0


def test_edges_undo_centred_and_a_negative_size_counts_as_zero() -> None:
    boxes = random_boxes(np.random.default_rng(2), 50, 300)
    assert np.allclose(edges(centred(boxes, 96), 96), boxes)
    assert np.allclose(edges(np.array([0.5, 0.5, -1, -1]), 10), [5, 5, 5, 5])


def painted(random: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image with a painted rectangle, and the rectangle's edges."""
    x, y = np.sort(random.choice(width + 1, 2, False)), np.sort(random.choice(height + 1, 2, False))
    image = np.zeros((height, width), bool)
    image[y[0] : y[1], x[0] : x[1]] = True
    return image, np.array([x[0], y[0], x[1], y[1]], np.float64)


@pytest.mark.parametrize("seed", range(20))
def test_a_box_in_a_crop_is_where_the_painted_pixels_are(seed: int) -> None:
    """Whole factors of rescaling, so that pixels can be repeated, cropped and flipped exactly."""
    random = np.random.default_rng(seed)
    height, width, factor = 40, 56, 3
    image, box = painted(random, height, width)
    draws = draw(
        epoch_words(seed, 0, 1), np.array([height]), np.array([width]), (height * factor, height * factor), CROP
    )
    larger = image.repeat(factor, 0).repeat(factor, 1)
    assert larger.shape == (draws.height[0], draws.width[0])
    crop = larger[draws.top[0] : draws.top[0] + CROP, draws.left[0] : draws.left[0] + CROP]
    crop = crop[:, ::-1] if draws.flip[0] else crop
    placed = in_crops(box[None], np.zeros(1, np.int64), draws, np.array([height]), np.array([width]), CROP)[0]
    rows, columns = np.nonzero(crop)
    if not len(rows):
        assert area_inside(placed, CROP) == 0
        return
    seen = np.clip(placed, 0, CROP)
    assert seen.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert area_inside(placed, CROP) == crop.sum()


def test_frames_lead_back_to_the_stored_image() -> None:
    random = np.random.default_rng(4)
    boxes = random_boxes(random, 30, 200)
    old, new = random.integers(200, 500, (30, 2)), random.integers(200, 500, (30, 2))
    left, top = random.integers(0, 90, (2, 30))
    there = mirrored(shifted(rescaled_boxes(boxes, old, new), -left, -top), 96.0)
    back = rescaled_boxes(shifted(mirrored(there, 96.0), left, top), new, old)
    assert np.allclose(back, boxes)


class FewImages:
    """Four images with one to three boxes each."""

    heights, widths = np.array([60, 40, 50, 80]), np.array([50, 44, 90, 64])
    labels = np.array([2, 0, 1, 2])

    def __init__(self) -> None:
        random = np.random.default_rng(5)
        self.boxes = [random_boxes(random, count, 40).astype(np.float32) for count in (1, 2, 3, 3)]

    def boxes_of(self, image: int) -> np.ndarray:
        return self.boxes[image]


def slow_target(images: FewImages, image: int, draws: Draws, place: int, min_visible: float) -> list[float]:
    """The target of one image of a batch, step by step from the definition."""
    best: tuple[float, list[float]] = -1.0, []
    ratio_y, ratio_x = draws.height[place] / images.heights[image], draws.width[place] / images.widths[image]
    for box in images.boxes_of(image).astype(float):
        x0, x1 = (x * ratio_x - draws.left[place] for x in (box[0], box[2]))
        y0, y1 = (y * ratio_y - draws.top[place] for y in (box[1], box[3]))
        if draws.flip[place]:
            x0, x1 = CROP - x1, CROP - x0
        inside = max(0, min(x1, CROP) - max(x0, 0)) * max(0, min(y1, CROP) - max(y0, 0))
        if inside > best[0]:
            seen = inside >= min_visible * (x1 - x0) * (y1 - y0)
            best = inside, [seen, (x0 + x1) / 2 / CROP, (y0 + y1) / 2 / CROP, (x1 - x0) / CROP, (y1 - y0) / CROP]
    return [float(images.labels[image]), *map(float, best[1])]


@pytest.mark.parametrize("min_visible", [0.0, 0.5, 1.0])
def test_targets_are_those_of_the_definition(min_visible: float) -> None:
    images = FewImages()
    targets = BoxTargets(images, CROP, min_visible)
    weights = []
    for epoch in range(30):
        ids = np.random.default_rng(epoch).permutation(4)
        draws = draw(epoch_words(7, epoch, 4)[ids], images.heights[ids], images.widths[ids], (36, 60), CROP)
        made = targets(ids, draws)
        expected = [slow_target(images, image, draws, place, min_visible) for place, image in enumerate(ids)]
        assert made.dtype == torch.float32
        assert np.allclose(made, expected, atol=1e-5)
        weights.append(made[:, 1])
    share = torch.cat(weights).mean()
    assert (share == 1) if min_visible == 0 else (0 < share < 1)


@pytest.mark.parametrize("boxes", [1, 3])
def test_the_loss_is_half_the_squared_distance_of_the_true_class_alone(boxes: int) -> None:
    random = np.random.default_rng(6)
    outputs = torch.from_numpy(random.standard_normal((4, 4 * boxes, 1, 1))).requires_grad_()
    targets = torch.from_numpy(random.random((4, 6)))
    targets[:, 0], targets[:, 1] = torch.tensor([2, 0, 1, 2]), torch.tensor([1, 1, 0, 1])
    expected = 0.0
    for image in range(4):
        start = 4 * int(targets[image, 0]) if boxes > 1 else 0
        distance = outputs[image, start : start + 4, 0, 0] - targets[image, 2:]
        expected += float((targets[image, 1] * (distance**2).sum()).detach()) / 2 / 4
    loss = box_loss(outputs, targets)
    assert float(loss.detach()) == pytest.approx(expected)
    (gradient,) = torch.autograd.grad(loss, outputs)
    touched = {(image, int(output)) for image, output in gradient[:, :, 0, 0].nonzero().tolist()}
    starts = {0: 2, 1: 0, 3: 2} if boxes > 1 else {0: 0, 1: 0, 3: 0}
    assert touched == {(image, 4 * label + part) for image, label in starts.items() for part in range(4)}


def test_class_k_has_the_outputs_from_4_k_on() -> None:
    outputs = torch.arange(2 * 12 * 2 * 3).reshape(2, 12, 2, 3)
    chosen = of_classes(outputs, torch.tensor([[2, 0], [1, 1]]))
    assert torch.equal(chosen[0, 0], outputs[0, 8:12])
    assert torch.equal(chosen[0, 1], outputs[0, 0:4])
    assert torch.equal(chosen[1, 1], outputs[1, 4:8])
    assert torch.equal(of_classes(outputs[:, :4], torch.tensor([[2], [1]]))[:, 0], outputs[:, :4])
