"""Dense maps of boxes and the development kit's measure, against slow references by definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vgg.boxes import centred, mirrored, rescaled_boxes
from vgg.images import Rescaled
from vgg.localise import (
    all_windows,
    centre_boxes,
    first_right,
    map_sides,
    merged_boxes,
    seen_part,
    stored_boxes,
    window_boxes,
)
from vgg.merging import best_boxes
from vgg.nets import VGG
from vgg.score import Scorer, central, whole_cells

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


class KnowsBoxes(torch.nn.Module):
    """A net that sees the bright rectangle in an image, and says in each window where it is; class k says k pixels on.

    With `scores`, it gives class scores instead, which depend on the class, the cell and the view.
    """

    def __init__(self, classes: int, scores: bool = False) -> None:
        super().__init__()
        self.classes, self.scores = classes, scores

    def forward(self, x: torch.Tensor, keys: None = None, ceil: bool = False) -> torch.Tensor:
        made = []
        cells = map_sides(*x.shape[2:], CROP, "ceil" if ceil else "floor")
        for image in x:
            rows, columns = (np.nonzero((image[0] > 0).any(axis).numpy())[0] for axis in (1, 0))
            box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)
            if self.scores:  # depends on where the rectangle is, so that a flip has other scores
                places = np.arange(cells[0] * cells[1]).reshape(cells)
                made.append(np.stack([np.sin(places + k + box[0]) for k in range(self.classes)]))
            else:
                made.append(np.concatenate([perfect_map(box + k, cells)[0, 0] for k in range(self.classes)]))
        return torch.from_numpy(np.stack(made)).float()


def bright(random: np.random.Generator, heights: list[int], widths: list[int]) -> tuple[list[np.ndarray], np.ndarray]:
    """Black images with a bright rectangle each, and the rectangles' edges."""
    images, boxes = [], []
    for height, width in zip(heights, widths, strict=True):
        left, top = random.integers(5, 40, 2)
        right, bottom = left + random.integers(8, width - 60), top + random.integers(8, height - 60)
        image = np.zeros((3, height, width), np.uint8)
        image[:, top:bottom, left:right] = 255
        images.append(image)
        boxes.append([left, top, right, bottom])
    return images, np.array(boxes, float)


def scorer(net: torch.nn.Module, remainder: str) -> Scorer:
    return Scorer(net, lambda x: x.float(), CROP, torch.device("cpu"), remainder=remainder)  # type: ignore[arg-type]


@pytest.mark.parametrize("remainder", ["floor", "ceil", "even"])
def test_all_windows_of_all_images_give_the_object_in_the_stored_image(remainder: str) -> None:
    random, classes = np.random.default_rng(9), 4
    images, boxes = bright(random, [133, 100, 133], [171, 140, 171])
    sizes = np.array([image.shape[1:] for image in images])
    stored = np.array([[399, 510], [50, 70], [266, 171]])  # what the images were rescaled from
    asked = np.array([[2, 0], [1, 3], [0, 1]])
    batches = [([0, 2], "equal shapes"), ([1], "")]
    given = [
        Rescaled(torch.from_numpy(np.stack([images[i] for i in ids])), np.array(ids, np.int64)) for ids, _ in batches
    ]
    nets = KnowsBoxes(classes), KnowsBoxes(classes, scores=True)
    rows, counts = all_windows(*(scorer(net, remainder) for net in nets), given, asked, sizes, stored)
    assert rows.shape == (counts.sum(), 2, 5)
    for image, own in enumerate(np.split(rows, np.cumsum(counts)[:-1])):
        cells = map_sides(*sizes[image], CROP, remainder)
        assert len(own) == 2 * cells[0] * cells[1]
        halves = own.reshape(2, -1, 2, 5)
        for view, sign in ((0, 1), (1, -1)):  # class k is k pixels to the right in what the net sees
            for place, k in enumerate(asked[image]):
                expected = boxes[image] + [sign * k, k, sign * k, k]
                back = rescaled_boxes(expected[None], sizes[image][None], stored[image][None])[0]
                assert np.allclose(halves[view, :, place, :4], back, atol=1e-3), (image, view, k)
        assert (own[..., 4] > 0).all() and len(np.unique(own[:, 0, 4].round(6))) > len(own) // 2


def test_a_windows_score_is_its_own_posterior() -> None:
    image, _ = bright(np.random.default_rng(10), [133], [171])
    pixels = torch.from_numpy(image[0][None])
    rater, asked = KnowsBoxes(5, scores=True), np.array([[3, 1]])
    sizes = np.array([[133, 171]])
    given = [Rescaled(pixels, np.zeros(1, np.int64))]
    rows, _ = all_windows(scorer(KnowsBoxes(5), "floor"), scorer(rater, "floor"), given, asked, sizes, sizes)
    maps = [rater(view.float()).softmax(1)[0, [3, 1]].flatten(1).T for view in (pixels, pixels.flip(3))]
    assert np.allclose(rows[..., 4], np.concatenate(maps), atol=1e-6)


def test_a_central_crop_gives_the_object_of_its_class_in_the_stored_image() -> None:
    images, boxes = bright(np.random.default_rng(11), [101, 101], [140, 140])
    boxes[:] = [45, 25, 90, 70]  # inside the central crop
    for image in images:
        image[:] = 0
        image[:, 25:70, 45:90] = 255
    sizes, stored = np.array([[101, 140]] * 2), np.array([[202, 280], [101, 70]])
    labels = np.array([2, 0])
    given = [Rescaled(torch.from_numpy(np.stack(images[::-1])), np.array([1, 0]))]
    found = centre_boxes(scorer(KnowsBoxes(3), "floor"), given, labels, sizes, stored)
    assert np.allclose(found, rescaled_boxes(boxes + labels[:, None], sizes, stored), atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_union_of_two_sets_of_windows_is_merged_image_by_image(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random, images, classes = np.random.default_rng(12), 9, 3
    monkeypatch.setattr("vgg.localise.TOGETHER", 4)
    parts = []
    for most in (5, 8):
        counts = random.integers(1, most, images)
        corners = random.uniform(0, 50, (counts.sum(), classes, 2))
        sides = random.uniform(10, 60, (counts.sum(), classes, 2))
        rows = np.concatenate([corners, corners + sides, random.random((counts.sum(), classes, 1))], 2)
        parts.append((rows.astype(np.float32), counts))
    merged = merged_boxes(parts, 0.9, threads)
    split = [np.split(rows, np.cumsum(counts)[:-1]) for rows, counts in parts]
    for image in range(images):
        for k in range(classes):
            own = np.concatenate([rows[image][:, k] for rows in split])
            alone, _ = best_boxes(own[None, :, :4], own[None, :, 4], np.ones((1, len(own)), bool), 0.9)
            assert np.allclose(merged[image, k], alone[0]), (image, k)


def slow_first(guesses: np.ndarray, classes: np.ndarray, label: int, truth: np.ndarray, above: bool) -> int:
    """The first right guess of one image, as the development kit's eval_localization_flat.m goes through them."""
    for number, (guess, of_class) in enumerate(list(zip(guesses, classes, strict=True))[:5]):
        best = 0.0
        for box in truth:
            width = min(guess[2], box[2]) - max(guess[0], box[0]) + 1
            height = min(guess[3], box[3]) - max(guess[1], box[1]) + 1
            if width > 0 and height > 0:
                areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (guess, box)]
                best = max(best, width * height / (sum(areas) - width * height))
        if of_class == label and (best > 0.5 if above else best >= 0.5):
            return number
    return 5


@pytest.mark.parametrize("above", [False, True])
def test_five_guesses_meet_any_of_several_boxes_as_in_the_development_kit(above: bool) -> None:
    random = np.random.default_rng(8)
    images, guesses, classes_count = 400, 6, 8
    corners = np.sort(random.integers(0, 4, (images, guesses + 3, 2, 2)), 2).astype(float)
    boxes = np.concatenate([corners[:, :, 0], corners[:, :, 1]], 2)
    classes = np.stack([random.permutation(classes_count)[:guesses] for _ in range(images)])
    labels, counts = random.integers(0, classes_count, images), random.integers(1, 4, images)
    truths = [boxes[i, guesses : guesses + counts[i]] for i in range(images)]
    made = first_right(
        boxes[:, :guesses], classes, labels, np.concatenate(truths), np.repeat(np.arange(images), counts), above
    )
    expected = [slow_first(boxes[i, :guesses], classes[i], labels[i], truths[i], above) for i in range(images)]
    assert made.tolist() == expected
    assert set(expected) == set(range(6))  # all cases are there


def test_exactly_a_half_is_right_and_not_above() -> None:
    guess, truth = np.array([[[0.0, 0, 9, 9]]]), np.array([[0.0, 0, 9, 19]])
    zero = np.zeros(1, np.int64)
    assert first_right(guess, zero[None], zero, truth, zero).tolist() == [0]
    assert first_right(guess, zero[None], zero, truth, zero, above=True).tolist() == [5]
    assert first_right(guess, zero[None], zero, truth, zero, pixel=0.0).tolist() == [5]


def test_a_sixth_guess_is_ignored_and_an_image_without_boxes_is_wrong() -> None:
    guesses = np.tile(np.array([0.0, 0, 9, 9]), (2, 6, 1))
    classes, labels = np.arange(6)[None].repeat(2, 0), np.array([5, 0])
    truth, of = np.array([[0.0, 0, 9, 9]]), np.array([0])
    assert first_right(guesses, classes, labels, truth, of).tolist() == [5, 5]
    assert first_right(guesses, classes, np.array([4, 0]), truth, of).tolist() == [4, 5]
