"""The draws of the training stream: pure functions of (seed, epoch, image), within bounds and of the right shape."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from vgg.draws import WORDS, Draws, draw, epoch_words, image_words, order, rescaled

IMAGES = 20_000
CROP, SCALES = 224, (256, 512)


@pytest.fixture
def key(rng: np.random.Generator) -> int:
    """A seed of the stream: any 64-bit number."""
    return int(rng.integers(2**64, dtype=np.uint64))


def sizes(rng: np.random.Generator, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Heights and widths as a data set has them."""
    return rng.integers(60, 1200, images), rng.integers(60, 1200, images)


def drawn(rng: np.random.Generator, key: int) -> Draws:
    """The draws of one epoch of IMAGES images."""
    return draw(epoch_words(key, int(rng.integers(1000)), IMAGES), *sizes(rng, IMAGES), SCALES, CROP)


def test_one_images_words_are_its_row_of_the_epochs(rng: np.random.Generator, key: int) -> None:
    epoch = int(rng.integers(1000))
    words = epoch_words(key, epoch, 500)
    assert words.shape == (500, WORDS)
    for image in (0, 1, 499, *rng.integers(500, size=20).tolist()):
        assert np.array_equal(image_words(key, epoch, image), words[image]), (key, epoch, image)


def test_an_images_words_do_not_depend_on_how_many_images_there_are(rng: np.random.Generator, key: int) -> None:
    fewer = int(rng.integers(1, 300))
    assert np.array_equal(epoch_words(key, 3, 300)[:fewer], epoch_words(key, 3, fewer)), (key, fewer)


def test_the_order_is_a_permutation_of_all_images(rng: np.random.Generator, key: int) -> None:
    images = int(rng.integers(1, 3000))
    assert np.array_equal(np.sort(order(epoch_words(key, 0, images))), np.arange(images)), (key, images)


def test_the_order_differs_by_epoch_and_by_seed_and_is_the_same_again(key: int) -> None:
    orders = [order(epoch_words(k, e, 200)) for k, e in ((key, 0), (key, 1), (key ^ 1, 0), (key ^ 1, 1))]
    assert len({tuple(permutation) for permutation in orders}) == 4, key
    assert np.array_equal(order(epoch_words(key, 0, 200)), orders[0]), key


def test_no_image_has_a_favourite_place_in_the_order(key: int) -> None:
    places = np.mean([np.argsort(order(epoch_words(key, epoch, 50))) for epoch in range(400)], 0)
    # uniform over 0..49: mean 24.5, std 14.4 / sqrt(400) = 0.72; six of them miss 1 run in 10 million
    assert np.abs(places - 24.5).max() < 6 * 0.72, key


def test_every_scale_of_the_range_is_drawn_and_none_outside(rng: np.random.Generator, key: int) -> None:
    draws = drawn(rng, key)
    counts = np.bincount(np.minimum(draws.height, draws.width), minlength=513)
    assert counts[:256].sum() == 0, key
    assert len(counts) == 513, key
    expected = IMAGES / 257  # 77.8 a scale, std 8.8; six of them
    assert np.abs(counts[256:] - expected).max() < 6 * expected**0.5, key


def test_crops_lie_inside_and_reach_every_edge(rng: np.random.Generator, key: int) -> None:
    draws = drawn(rng, key)
    for corner, side in ((draws.top, draws.height), (draws.left, draws.width)):
        assert (corner >= 0).all(), key
        assert (corner + CROP <= side).all(), key
        assert (corner == 0).any(), key
        assert (corner + CROP == side).any(), key


def test_crops_are_uniform_over_their_places(rng: np.random.Generator, key: int) -> None:
    draws = drawn(rng, key)
    for corner, side in ((draws.top, draws.height), (draws.left, draws.width)):
        share = corner / (side - CROP)  # mean 1/2, std at most 0.4 / sqrt(20000) = 0.003
        assert abs(share.mean() - 0.5) < 6 * 0.003, key


def test_half_of_the_images_are_flipped(rng: np.random.Generator, key: int) -> None:
    # a coin's std is 0.5 / sqrt(20000) = 0.0035; six of them
    assert abs(drawn(rng, key).flip.mean() - 0.5) < 6 * 0.0035, key


def test_colour_shifts_are_three_independent_standard_normals(rng: np.random.Generator, key: int) -> None:
    colour = drawn(rng, key).colour
    assert colour.shape == (IMAGES, 3)
    # stds over 20,000: of a mean 0.0071, of a variance 0.01, of a covariance 0.0071; six of the largest
    assert np.abs(colour.mean(0)).max() < 0.06, key
    assert np.abs(np.cov(colour.T) - np.eye(3)).max() < 0.06, key
    # no more do their squares; a square's std is 1.4, a covariance of two of them has 2 / sqrt(20000) = 0.014
    squares = np.cov((colour**2).T)
    assert np.abs(squares - np.diag(np.diag(squares))).max() < 6 * 0.0145, key
    # a normal lies within 1, 2, 3 stds so often; six times sqrt(p (1 - p) / 60000) is at most 0.0114
    within = [(np.abs(colour) < limit).mean() for limit in (1, 2, 3)]
    assert np.allclose(within, (0.6827, 0.9545, 0.9973), rtol=0, atol=0.0115), key


def test_the_draws_of_an_image_are_independent_of_each_other(rng: np.random.Generator, key: int) -> None:
    square = np.full(IMAGES, 300)
    words = epoch_words(key, 0, IMAGES)
    found = draw(words, square, square, SCALES, CROP)
    places = found.height - CROP
    draws = (words[:, 0], found.height, found.top / places, found.left / places, found.flip, *found.colour.T)
    apart = np.corrcoef(np.stack(draws).astype(np.float64)) - np.eye(len(draws))
    assert np.abs(apart).max() < 6 * 0.0071, key  # a correlation's std is 1 / sqrt(20000)


@pytest.mark.parametrize(("word", "scale", "corner"), [(0, 256, 0), (2**64 - 1, 512, 288)])
def test_the_extreme_words_give_the_extreme_draws(word: int, scale: int, corner: int) -> None:
    words = np.full((1, WORDS), word, np.uint64)
    draws = draw(words, np.array([700]), np.array([700]), SCALES, CROP)
    assert (draws.height[0], draws.width[0], draws.top[0], draws.left[0]) == (scale, scale, corner, corner)
    assert np.isfinite(draws.colour).all()


def test_the_smallest_side_becomes_exactly_the_scale_and_the_other_is_rounded(rng: np.random.Generator) -> None:
    heights, widths = sizes(rng, 5000)
    scale = rng.integers(64, 600, 5000)
    for height, width, s, *new in zip(heights, widths, scale, *rescaled(heights, widths, scale), strict=True):
        assert min(new) == s, (height, width, s)
        exact = Fraction(int(max(height, width)) * int(s), int(min(height, width)))
        # half a pixel is rounding; the rest lets an exact half go either way
        assert abs(max(new) - exact) <= Fraction(1, 2) + Fraction(1, 10**9), (height, width, s)
        assert (new[0] <= new[1]) == (height <= width) or new[0] == new[1], (height, width, s)


def test_one_scale_for_all_is_that_scale_for_each(rng: np.random.Generator) -> None:
    heights, widths = sizes(rng, 100)
    assert np.array_equal(rescaled(heights, widths, 384), rescaled(heights, widths, np.full(100, 384)))


def test_a_scale_below_the_crop_is_refused(rng: np.random.Generator, key: int) -> None:
    words, (heights, widths) = epoch_words(key, 0, 4), sizes(rng, 4)
    with pytest.raises(ValueError, match="no crop of 224"):
        draw(words, heights, widths, (223, 512), CROP)
    draw(words, heights, widths, (224, 224), CROP)
