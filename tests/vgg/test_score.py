"""Section 3.2's evaluations against a slow reference that takes one image and one view at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import nn

from vgg.images import Rescaled
from vgg.initialise import randomise
from vgg.nets import VGG
from vgg.normalise import Normalise
from vgg.score import VIEWS, Scorer, centre, crops, dense, grid

CROP, CLASSES = 64, 6
MEAN, SCALE = np.array([120.0, 110.0, 100.0], np.float32), 50.0
SHAPES = [(64, 64), (64, 101), (97, 64), (130, 99), (160, 224)]
CPU = torch.device("cpu")


def small(net: str, seed: int) -> VGG:
    """A narrow net in float64 whose scores spread by about one between images and views, whatever the draw."""
    made = VGG(net, CLASSES, crop=CROP, width=1 / 16, fc=16).double()
    randomise(made, "he", 0.01, None, seed)
    with torch.no_grad():
        random = np.random.default_rng(seed + 1)
        scores = np.stack([score_map(made.eval(), i) for i in pictures(random, [(160, 160)], 8)])  # (N, K, h, w)
        mean, spread = (torch.from_numpy(a) for a in (scores.mean((0, 2, 3)), scores.std((0, 2, 3))))
        made.fc3.weight /= spread[:, None, None, None]
        made.fc3.bias.copy_(-mean / spread)
    return made


def pictures(rng: np.random.Generator, shapes: list[tuple[int, int]], count: int) -> list[np.ndarray]:
    """`count` images (3, H, W) uint8 of each shape, coarse enough that flips and crops differ."""
    made = []
    for height, width in shapes * count:
        coarse = rng.integers(0, 256, (3, -(-height // 16), -(-width // 16)), np.uint8)
        made.append(coarse.repeat(16, 1).repeat(16, 2)[:, :height, :width])
    return made


def batched(images: list[np.ndarray], rng: np.random.Generator, size: int = 2) -> Iterator[Rescaled]:
    """The images in batches of one shape and at most `size`, in any order, in the loader's layout."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i in rng.permutation(len(images)):
        by_shape.setdefault(images[i].shape, []).append(int(i))
    for ids in by_shape.values():
        for first in range(0, len(ids), size):
            some = ids[first : first + size]
            pixels = torch.from_numpy(np.stack([images[i] for i in some]))
            yield Rescaled(pixels.contiguous(memory_format=torch.channels_last), np.array(some))


def softmax(scores: np.ndarray) -> np.ndarray:
    """That of scores (K,)."""
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def score_map(net: VGG, view: np.ndarray) -> np.ndarray:
    """The scores (K, h, w) of one view (3, H, W) uint8."""
    x = (view.astype(np.float64) - MEAN[:, None, None]) / SCALE
    with torch.no_grad():
        return net(torch.from_numpy(np.ascontiguousarray(x))[None])[0].numpy()


def posterior_of_view(net: VGG, view: np.ndarray, mean: str) -> np.ndarray:
    """The posteriors (K,) of one view: the map averaged, then the soft-max, or the other way round."""
    scores = score_map(net, view)
    cells = [scores[:, y, x] for y in range(scores.shape[1]) for x in range(scores.shape[2])]
    if mean == "before_softmax":
        return softmax(np.mean(cells, 0))
    return np.mean([softmax(cell) for cell in cells], 0)


def views_of(image: np.ndarray, mode: str) -> list[np.ndarray]:
    """What section 3.2 looks at of an image (3, H, W)."""
    height, width = image.shape[1:]
    if mode == "dense":
        return [image, image[:, :, ::-1]]
    if mode == "centre":
        places = [((height - CROP) // 2, (width - CROP) // 2)]
    else:  # a regular 5 x 5 grid from edge to edge, to the nearest pixel
        places = [(round(i * (height - CROP) / 4), round(j * (width - CROP) / 4)) for i in range(5) for j in range(5)]
    cut = [image[:, top : top + CROP, left : left + CROP] for top, left in places]
    return cut if mode == "centre" else cut + [view[:, :, ::-1] for view in cut]


def reference(net: VGG, images: list[np.ndarray], mode: str, mean: str) -> np.ndarray:
    """Posteriors (N, K): for each image, the mean over its views."""
    net.eval()
    return np.stack([np.mean([posterior_of_view(net, v, mean) for v in views_of(i, mode)], 0) for i in images])


def scorer(
    net: VGG, mean: str = "before_softmax", bfloat16: bool = False, remainder: str = "floor", crop: int = CROP
) -> Scorer:
    """The code under test, with its input in the net's precision."""
    normalise = Normalise(torch.from_numpy(MEAN), torch.zeros(3, 3), SCALE)
    values = lambda pixels: normalise(pixels).to(net.fc3.bias.dtype)
    return Scorer(net, values, crop, CPU, bfloat16, mean, remainder=remainder)


@pytest.mark.parametrize("mean", ["before_softmax", "after_softmax"])
@pytest.mark.parametrize("mode", VIEWS)
@pytest.mark.parametrize("net", ["A-LRN", "C"])
def test_posteriors_equal_the_slow_reference(
    net: str, mode: str, mean: str, seed: int, rng: np.random.Generator
) -> None:
    made, images = small(net, seed), pictures(rng, SHAPES, 3)
    expected = reference(made, images, mode, mean)
    got = scorer(made, mean).posteriors(batched(images, rng), len(images), VIEWS[mode])
    assert got.shape == (len(images), CLASSES) and got.dtype == np.float32
    # The input and the soft-max are in float32, whose 6e-8 the standardised scores enlarge.
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    assert np.ptp(expected, 0).max() > 1e-2  # else any net would do


@pytest.mark.parametrize("mode", ["crops", "centre"])
def test_a_crops_one_cell_has_the_same_posteriors_with_either_mean(
    mode: str, seed: int, rng: np.random.Generator
) -> None:
    """But for the soft-max's last digit, which is float32's: dvc.yaml scores no crop anew when score.mean changes."""
    made, images = small("A", seed).float(), pictures(rng, [(160, 224)], 4)
    before, after = (
        scorer(made, mean, bfloat16=True).posteriors(batched(images, np.random.default_rng(seed)), 4, VIEWS[mode])
        for mean in ("before_softmax", "after_softmax")
    )
    np.testing.assert_allclose(before, after, rtol=1e-6, atol=0)


def test_the_two_means_and_the_three_modes_differ(seed: int, rng: np.random.Generator) -> None:
    made, images = small("A", seed), pictures(rng, [(160, 224)], 4)
    kinds = [("dense", "before_softmax"), ("dense", "after_softmax"), ("crops", "before_softmax")]
    kinds += [("centre", "before_softmax")]
    posteriors = [scorer(made, mean).posteriors(batched(images, rng), 4, VIEWS[mode]) for mode, mean in kinds]
    for i, first in enumerate(posteriors):
        for other in posteriors[:i]:
            assert np.abs(first - other).max() > 1e-4  # ten times the tolerance above


def test_every_image_gets_its_row_whatever_its_batch(seed: int, rng: np.random.Generator) -> None:
    made, images = small("A", seed), pictures(rng, SHAPES, 3)
    alone = np.stack([scorer(made).posteriors(batched([image], rng), 1, dense)[0] for image in images])
    for size in (1, 3):
        got = scorer(made).posteriors(batched(images, rng, size), len(images), dense)
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, alone, rtol=0, atol=1e-5)  # as above
        np.testing.assert_allclose(got.sum(1), 1, rtol=0, atol=1e-5)


def test_an_image_and_its_mirror_image_score_the_same(seed: int, rng: np.random.Generator) -> None:
    made, images = small("A", seed), pictures(rng, [(130, 192)], 2)
    flipped = [image[:, :, ::-1].copy() for image in images]
    for views in (dense, crops):  # a room of 128 pixels divides by four, so the grid is its own mirror image
        one, other = (scorer(made).posteriors(batched(some, rng), 2, views) for some in (images, flipped))
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)  # as above
    one, other = (scorer(made).posteriors(batched(some, rng), 2, centre) for some in (images, flipped))
    assert np.abs(one - other).max() > 1e-4


def test_dense_is_the_fc_layers_slid_over_the_last_feature_map(seed: int, rng: np.random.Generator) -> None:
    made = small("D", seed).eval()
    for layer in (made.fc1, made.fc2, made.fc3):
        nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(seed % 2**31))
    x = torch.from_numpy(rng.standard_normal((1, 3, 160, 224)))
    with torch.no_grad():
        features = x
        for name, layer in made.named_children():
            if name == "fc1":
                break
            features = layer(features)
        whole = made(x)[0]  # (K, h, w)
        side = CROP // 32
        assert features.shape[2:] == (5, 7) and whole.shape == (CLASSES, 4, 6)
        for top in range(4):
            for left in range(6):
                cell = features[0, :, top : top + side, left : left + side].flatten()
                for layer in (made.fc1, made.fc2, made.fc3):
                    linear = nn.functional.linear(cell, layer.weight.flatten(1), layer.bias)
                    cell = linear if layer is made.fc3 else linear.relu()
                # float64 sums of up to 128 terms in another order, of standardised scores
                torch.testing.assert_close(whole[:, top, left], cell, rtol=1e-9, atol=1e-9)
    assert whole.flatten(1).std(1).max() > 1e-2  # cells differ


def cut(image: np.ndarray, crop: int = CROP) -> np.ndarray:
    """What `even` leaves of an image (3, H, W): the rest beyond cells of 32 pixels is cut, the smaller half first."""
    height, width = (max(crop, side - side % 32) for side in image.shape[1:])
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width]


def test_an_even_remainder_is_cut_on_both_sides(seed: int, rng: np.random.Generator) -> None:
    made, shapes = small("A", seed), [(64, 64), (65, 64), (64, 97), (95, 98), (130, 159)]
    images = pictures(rng, shapes, 2)
    assert [cut(image).shape[1:] for image in images[:5]] == [(64, 64), (64, 64), (64, 96), (64, 96), (128, 128)]
    for mean in ("before_softmax", "after_softmax"):
        got = scorer(made, mean, remainder="even").posteriors(batched(images, rng), len(images), dense)
        np.testing.assert_allclose(  # as above
            got, reference(made, [cut(image) for image in images], "dense", mean), rtol=0, atol=1e-5
        )


def test_with_ceil_dense_evaluation_is_of_maps_with_caffes_poolings(seed: int, rng: np.random.Generator) -> None:
    made, images = small("A", seed).eval(), pictures(rng, [(65, 64), (130, 159)], 2)
    got = scorer(made, remainder="ceil").posteriors(batched(images, rng), 4, dense)
    for image, row in zip(images, got, strict=True):
        posteriors = []
        for view in views_of(image, "dense"):
            x = torch.from_numpy((view.astype(np.float64) - MEAN[:, None, None]) / SCALE)
            with torch.no_grad():
                posteriors.append(softmax(made(x[None], ceil=True)[0].mean((1, 2)).numpy()))
        np.testing.assert_allclose(row, np.mean(posteriors, 0), rtol=0, atol=1e-5)  # as above


def test_no_remainder_leaves_nothing_to_choose(seed: int, rng: np.random.Generator) -> None:
    """And a remainder does: each choice gives other posteriors."""
    made, whole, rest = small("A", seed), pictures(rng, [(64, 64), (96, 128)], 2), pictures(rng, [(90, 121)], 4)

    def posteriors(images: list[np.ndarray], remainder: str) -> np.ndarray:
        batches = batched(images, np.random.default_rng(seed))
        return scorer(made, remainder=remainder).posteriors(batches, len(images), dense)

    floor, ceil, even = (posteriors(whole, remainder) for remainder in ("floor", "ceil", "even"))
    assert np.array_equal(floor, ceil) and np.array_equal(floor, even)
    floor, ceil, even = (posteriors(rest, remainder) for remainder in ("floor", "ceil", "even"))
    assert min(np.abs(a - b).max() for a, b in ((floor, ceil), (floor, even), (ceil, even))) > 1e-4


@pytest.mark.parametrize("crop", [64, 70, 90])
def test_a_remainder_affects_only_whole_images(crop: int, seed: int, rng: np.random.Generator) -> None:
    """A training crop has one cell even if its side is no multiple of 32; `even` never cuts an image below it."""
    made = VGG("A", CLASSES, crop, 1 / 16, 16)
    randomise(made, "he", 0.01, None, seed)
    images = pictures(rng, [(crop, crop), (95, 131), (100, 128)], 2)
    for views in (crops, centre):
        results = [
            scorer(made, remainder=remainder, crop=crop).posteriors(
                batched(images, np.random.default_rng(seed)), len(images), views
            )
            for remainder in ("floor", "ceil", "even")
        ]
        assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])
    even = scorer(made, remainder="even", crop=crop).posteriors(batched(images, rng), len(images), dense)
    smaller = [cut(image, crop) for image in images]
    floor = scorer(made, crop=crop).posteriors(batched(smaller, rng), len(images), dense)
    np.testing.assert_allclose(even, floor, rtol=0, atol=1e-5)  # as above


def test_at_the_crops_own_size_all_modes_are_the_plain_forward_pass(seed: int, rng: np.random.Generator) -> None:
    made, images = small("A", seed), pictures(rng, [(CROP, CROP)], 3)
    made.eval()
    plain = [[softmax(score_map(made, v)[:, 0, 0]) for v in (i, i[:, :, ::-1])] for i in images]
    expected = {
        "dense": [np.mean(p, 0) for p in plain],
        "crops": [np.mean(p, 0) for p in plain],
        "centre": [p[0] for p in plain],
    }
    for mode, views in VIEWS.items():
        for mean in ("before_softmax", "after_softmax"):
            got = scorer(made, mean).posteriors(batched(images, rng), 3, views)
            np.testing.assert_allclose(got, expected[mode], rtol=0, atol=1e-5)  # as above


def test_there_are_50_crops_a_scale_and_they_reach_all_edges(rng: np.random.Generator) -> None:
    height, width = (int(side) for side in rng.integers(CROP, 300, 2))
    numbered = torch.arange(height * width).view(1, 1, height, width)
    seen = list(crops(numbered, CROP))
    assert len(seen) == 50 and all(view.shape == (1, 1, CROP, CROP) for view in seen)
    corners = {int(view.min()) for view in seen}
    ends = {(height - CROP) * i * width + (width - CROP) * j for i in (0, 1) for j in (0, 1)}
    assert ends <= corners


def test_the_grid_is_even_to_half_a_pixel_from_edge_to_edge(rng: np.random.Generator) -> None:
    for room in (0, 1, 2, 3, int(rng.integers(4, 500))):
        places = grid(room)
        assert places[0] == 0 and places[-1] == room and len(places) == 5
        assert all(abs(place - room * i / 4) <= 0.5 for i, place in enumerate(places))


def test_the_centre_crop_is_in_the_middle(rng: np.random.Generator) -> None:
    height, width = (int(side) for side in rng.integers(CROP, 300, 2))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    (view,) = centre(torch.stack([rows, columns])[None], CROP)
    for side, line in ((height, view[0, 0, :, 0]), (width, view[0, 1, 0, :])):
        before, after = int(line[0]), side - 1 - int(line[-1])
        assert 0 <= after - before <= 1 and len(line) == CROP


@pytest.mark.parametrize("mode", VIEWS)
@pytest.mark.parametrize("shape", [(CROP - 1, 200), (200, CROP - 1)])
def test_an_image_smaller_than_the_crop_is_refused(
    mode: str, shape: tuple[int, int], seed: int, rng: np.random.Generator
) -> None:
    images = pictures(rng, [(CROP, CROP), shape], 1)
    with pytest.raises(ValueError, match="smaller than the crop of 64"):
        scorer(small("A", seed)).posteriors(batched(images, rng), 2, VIEWS[mode])


def test_no_images_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="no images"):
        scorer(small("A", seed)).posteriors(iter([]), 0, dense)


def test_dropout_is_off_and_no_gradient_is_kept(seed: int, rng: np.random.Generator) -> None:
    made, images = small("A", seed).train(), pictures(rng, [(96, 96)], 2)
    one, two = (scorer(made).posteriors(batched(images, np.random.default_rng(0)), 2, dense) for _ in range(2))
    assert np.array_equal(one, two)
    assert not made.training and all(parameter.grad is None for parameter in made.parameters())


def test_bfloat16_is_near_float32_and_its_soft_max_is_float32(seed: int, rng: np.random.Generator) -> None:
    made, images = VGG("A", CLASSES, CROP, 1 / 16, 16), pictures(rng, [(96, 96)], 4)
    randomise(made, "he", 0.01, 0.05, seed)  # scores of about one
    one, two = (scorer(made, bfloat16=b).posteriors(batched(images, rng), 4, dense) for b in (False, True))
    assert not np.array_equal(one, two)
    assert two.dtype == np.float32
    np.testing.assert_allclose(two.sum(1), 1, rtol=0, atol=1e-5)  # bfloat16's soft-max would be 1e-3 off
    # eleven roundings to 8 bits of such scores: some per cent of a posterior
    np.testing.assert_allclose(one, two, rtol=0, atol=0.1)


def test_a_views_function_is_all_a_mode_is(seed: int, rng: np.random.Generator) -> None:
    thirds: Callable[..., Iterator[torch.Tensor]] = lambda pixels, crop: iter([pixels, pixels, pixels.flip(3)])
    made, images = small("A", seed), pictures(rng, [(96, 96)], 2)
    got = scorer(made).posteriors(batched(images, rng), 2, thirds)
    for image, row in zip(images, got, strict=True):
        one, flipped = (posterior_of_view(made, v, "before_softmax") for v in (image, image[:, :, ::-1]))
        np.testing.assert_allclose(row, (2 * one + flipped) / 3, rtol=0, atol=1e-5)  # as above
    assert math.isclose(got.sum(), 2, rel_tol=1e-5)


class Small(Scorer):
    """A scorer whose device has room for so many values of images in one view."""

    fits = math.inf
    most = 0
    refused = 0

    def _map(self, view: torch.Tensor, ceil: bool) -> torch.Tensor:
        if view.numel() > self.fits:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        self.most = max(self.most, view.numel())
        return super()._map(view, ceil)


@pytest.mark.parametrize("mode", ["dense", "crops"])
def test_a_batch_too_large_for_the_memory_is_scored_in_parts(mode: str, seed: int, rng: np.random.Generator) -> None:
    made, images = small("A", seed).float(), pictures(rng, [(96, 96), (96, 130)], 7)
    whole = scorer(made)
    cramped = Small(made, whole.normalise, CROP, CPU)
    cramped.fits = 3 * 3 * (96 * 130 if mode == "dense" else CROP * CROP)
    batches = list(batched(images, rng, 7))
    wanted, got = (one.posteriors(iter(batches), len(images), VIEWS[mode]) for one in (whole, cramped))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)  # float32; another batch size is another order of sums
    assert 1 <= cramped.refused <= 2  # of seven; crops take the same room whatever the image, which is learnt later
    assert cramped.fits / 2 < cramped.most <= cramped.fits
    roomy = Small(made, whole.normalise, CROP, CPU)
    roomy.posteriors(iter(batches), len(images), VIEWS[mode])
    assert roomy.refused == 0 and roomy.most == 7 * 3 * (96 * 130 if mode == "dense" else CROP * CROP)  # all at once


@pytest.mark.parametrize("mode", ["dense", "crops"])
@pytest.mark.parametrize("fits", [math.inf, 3 * 96 * 96])
def test_views_that_do_not_fill_a_gpu_are_computed_together(
    mode: str, fits: float, monkeypatch: pytest.MonkeyPatch, seed: int, rng: np.random.Generator
) -> None:
    made, images = small("A", seed).float(), pictures(rng, [(96, 96)], 3)
    whole, batches = scorer(made), list(batched(images, rng, 3))
    wanted = whole.posteriors(iter(batches), len(images), VIEWS[mode])
    monkeypatch.setattr("vgg.score.filling", lambda device: 10 * 3 * 96 * 96)
    together = Small(made, whole.normalise, CROP, CPU)
    together.fits = fits
    got = together.posteriors(iter(batches), len(images), VIEWS[mode])
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)  # float32; another batch size is another order of sums
    view = 3 * (96 * 96 if mode == "dense" else CROP * CROP)
    assert (
        together.most == {"dense": 2 * 3, "crops": 3 * (10 * 96 * 96 // (3 * CROP * CROP))}[mode] * view or fits < 1e9
    )
    assert together.most <= fits


def test_an_image_too_large_for_the_memory_is_an_error(seed: int, rng: np.random.Generator) -> None:
    made, images = small("A", seed).float(), pictures(rng, [(96, 96)], 3)
    cramped = Small(made, scorer(made).normalise, CROP, CPU)
    cramped.fits = 3 * 96 * 96 - 1
    with pytest.raises(torch.OutOfMemoryError):
        cramped.posteriors(batched(images, rng, 3), len(images), dense)


def test_each_image_is_decoded_once_whatever_the_views(seed: int, rng: np.random.Generator) -> None:
    images, asked = pictures(rng, SHAPES, 3), []

    def counted() -> Iterator[Rescaled]:
        for batch in batched(images, rng):
            asked.extend(batch.ids.tolist())
            yield batch

    scorer(small("A", seed)).posteriors(counted(), len(images), crops)
    assert sorted(asked) == list(range(len(images)))
