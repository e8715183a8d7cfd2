"""Dense maps of boxes and the development kit's measure, against slow references by definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vgg.boxes import centred, mirrored, rescaled_boxes
from vgg.localise import are_right, map_sides, seen_part, stored_boxes, window_boxes
from vgg.nets import VGG
from vgg.score import central, whole_cells

CROP = 64


@pytest.mark.parametrize("remainder", ["floor", "ceil", "even"])
def test_a_map_has_as_many_cells_as_the_net_gives(remainder: str) -> None:
    net = VGG("A", 4, crop=CROP, width=1 / 64, fc=2).eval()
    for height, width in ((64, 64), (64, 95), (70, 97), (127, 130), (130, 161)):
        image = torch.zeros(1, 3, height, width)
        if remainder == "even":
            image = central(image, *(whole_cells(side, CROP) for side in (height, width)))
        with torch.inference_mode():
            sides = net(image, ceil=remainder == "ceil").shape[2:]
        assert map_sides(height, width, CROP, remainder) == tuple(sides), (height, width)


def perfect_map(box: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """The map (1, 1, 4, h, w) of a net that sees this box in every window, cell by cell."""
    made = np.empty((1, 1, 4, *cells))
    for y in range(cells[0]):
        for x in range(cells[1]):
            made[0, 0, :, y, x] = centred(box - [32 * x, 32 * y, 32 * x, 32 * y], CROP)
    return made


@pytest.mark.parametrize("remainder", ["floor", "ceil", "even"])
def test_a_perfect_map_gives_one_and_the_same_box_in_every_cell_flipped_or_not(remainder: str) -> None:
    height, width, stored = 133, 171, (399, 510)
    box = np.array([40.0, 12, 100, 90])  # in the rescaled image
    top, left, seen = seen_part(height, width, CROP, remainder)
    cells = map_sides(height, width, CROP, remainder)
    local = box - [left, top, left, top]
    for flipped in (False, True):
        made = perfect_map(mirrored(local, seen) if flipped else local, cells)
        found = window_boxes(made, CROP, seen, flipped) + np.array([left, top, left, top])
        assert found.shape == (1, 1, cells[0] * cells[1], 4)
        assert np.allclose(found, box)
        back = stored_boxes(found, np.array([[height, width]]), np.array([stored]))
        assert np.allclose(back, rescaled_boxes(box[None], np.array([[height, width]]), np.array([stored])))


def test_the_flip_of_what_is_seen_is_the_flip_of_the_pixels() -> None:
    """A painted column is found again through the part that dense evaluation sees, in its flip."""
    for remainder in ("floor", "ceil", "even"):
        image = torch.zeros(1, 1, 133, 171)
        image[..., 50:60] = 1
        top, left, seen = seen_part(133, 171, CROP, remainder)
        if remainder == "even":
            image = central(image, *(whole_cells(side, CROP) for side in image.shape[2:]))
        columns = np.nonzero(image.flip(3)[0, 0, 0].numpy())[0]
        box = np.array([columns.min(), 0.0, columns.max() + 1, 10])
        assert (mirrored(box, seen) + np.array([left, top, left, top]))[[0, 2]].tolist() == [50, 60]


def slow_right(guesses: np.ndarray, classes: np.ndarray, label: int, truth: np.ndarray, above: bool) -> bool:
    """One image, as the development kit's eval_localization_flat.m goes through it."""
    for guess, of_class in list(zip(guesses, classes, strict=True))[:5]:
        best = 0.0
        for box in truth:
            width = min(guess[2], box[2]) - max(guess[0], box[0]) + 1
            height = min(guess[3], box[3]) - max(guess[1], box[1]) + 1
            if width > 0 and height > 0:
                areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (guess, box)]
                best = max(best, width * height / (sum(areas) - width * height))
        if of_class == label and (best > 0.5 if above else best >= 0.5):
            return True
    return False


@pytest.mark.parametrize("above", [False, True])
def test_five_guesses_meet_any_of_several_boxes_as_in_the_development_kit(above: bool) -> None:
    random = np.random.default_rng(8)
    images, guesses, classes_count = 400, 6, 8
    corners = np.sort(random.integers(0, 4, (images, guesses + 3, 2, 2)), 2).astype(float)
    boxes = np.concatenate([corners[:, :, 0], corners[:, :, 1]], 2)
    classes = np.stack([random.permutation(classes_count)[:guesses] for _ in range(images)])
    labels, counts = random.integers(0, classes_count, images), random.integers(1, 4, images)
    truths = [boxes[i, guesses : guesses + counts[i]] for i in range(images)]
    made = are_right(
        boxes[:, :guesses], classes, labels, np.concatenate(truths), np.repeat(np.arange(images), counts), above
    )
    expected = [slow_right(boxes[i, :guesses], classes[i], labels[i], truths[i], above) for i in range(images)]
    assert made.tolist() == expected
    assert 0.05 < made.mean() < 0.95  # both cases are there


def test_exactly_a_half_is_right_and_not_above() -> None:
    guess, truth = np.array([[[0.0, 0, 9, 9]]]), np.array([[0.0, 0, 9, 19]])
    zero = np.zeros(1, np.int64)
    assert are_right(guess, zero[None], zero, truth, zero).tolist() == [True]
    assert are_right(guess, zero[None], zero, truth, zero, above=True).tolist() == [False]
    assert are_right(guess, zero[None], zero, truth, zero, pixel=0.0).tolist() == [False]


def test_a_sixth_guess_is_ignored_and_an_image_without_boxes_is_wrong() -> None:
    guesses = np.tile(np.array([0.0, 0, 9, 9]), (2, 6, 1))
    classes, labels = np.arange(6)[None].repeat(2, 0), np.array([5, 0])
    truth, of = np.array([[0.0, 0, 9, 9]]), np.array([0])
    assert are_right(guesses, classes, labels, truth, of).tolist() == [False, False]
    assert are_right(guesses, classes, np.array([4, 0]), truth, of).tolist() == [True, False]
