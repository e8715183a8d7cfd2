"""From pixels to the nets' input: mean, scale and colour shift against slow references."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from vgg.normalise import COLOURS, Normalise, colour_components

# Krizhevsky's eigenvalues and eigenvectors of ImageNet's pixels in [0, 1], as everyone since has copied them
# (fb.resnet.torch's and MXNet's colour jitter): a photograph's covariance.
VALUES = np.array([0.2175, 0.0188, 0.0045])
VECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


def covariance(rng: np.random.Generator) -> np.ndarray:
    """That of some correlated pixels, 0..255."""
    grey = rng.uniform(0, 200, (500, 1))
    return np.cov((grey + rng.uniform(0, 55, (500, 3)) * [1, 2, 3]).T)


def characteristic(matrix: np.ndarray) -> np.ndarray:
    """Eigenvalues as roots of the characteristic polynomial, smallest first."""
    minors = sum(matrix[i, i] * matrix[j, j] - matrix[i, j] ** 2 for i, j in ((0, 1), (0, 2), (1, 2)))
    return np.sort(np.roots([1, -np.trace(matrix), minors, -np.linalg.det(matrix)]).real)


def eigenvector(matrix: np.ndarray, value: float) -> np.ndarray:
    """The unit vector that `matrix` stretches by `value`: the cross product of two rows of matrix - value."""
    rows = matrix - value * np.eye(3)
    candidates = [np.cross(rows[i], rows[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    longest = max(candidates, key=np.linalg.norm)
    return longest / np.linalg.norm(longest)


def test_the_mean_is_subtracted_channel_by_channel(rng: np.random.Generator) -> None:
    pixels, mean = rng.integers(0, 256, (2, 3, 4, 5), np.uint8), rng.uniform(50, 200, 3).astype(np.float32)
    got = Normalise(torch.from_numpy(mean), torch.zeros(3, 3))(torch.from_numpy(pixels))
    assert got.dtype == torch.float32
    for n, c, y, x in np.ndindex(pixels.shape):
        assert got[n, c, y, x] == np.float32(pixels[n, c, y, x]) - mean[c]


def test_the_range_is_divided_by_the_scale(rng: np.random.Generator) -> None:
    pixels = torch.from_numpy(rng.integers(0, 256, (2, 3, 4, 5), np.uint8))
    mean, scale = torch.tensor([120.0, 110.0, 100.0]), float(rng.uniform(2, 100))
    plain, scaled = Normalise(mean, torch.zeros(3, 3)), Normalise(mean, torch.zeros(3, 3), scale)
    torch.testing.assert_close(scaled(pixels) * scale, plain(pixels), rtol=1e-6, atol=0)  # two roundings of float32


@pytest.mark.parametrize("kind", COLOURS)
def test_the_shift_is_the_sum_of_components_and_falls_on_all_pixels_alike(kind: str, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (3, 3, 4, 5), np.uint8)
    mean, draws = rng.uniform(50, 200, 3), rng.standard_normal((3, 3))
    components = colour_components(covariance(rng), kind)
    normalise = Normalise(torch.from_numpy(mean).float(), components, 2.0)
    got = normalise(torch.from_numpy(pixels), torch.from_numpy(draws).float())
    for n, c, y, x in np.ndindex(pixels.shape):
        shift = sum(draws[n, i] * float(components[i, c]) for i in range(3))
        expected = (float(pixels[n, c, y, x]) - mean[c] + shift) / 2
        assert abs(got[n, c, y, x].item() - expected) < 1e-3, (n, c, y, x)  # float32 of numbers up to 255 and a shift


def test_without_draws_there_is_no_shift(rng: np.random.Generator) -> None:
    pixels = torch.from_numpy(rng.integers(0, 256, (2, 3, 4, 5), np.uint8))
    normalise = Normalise(torch.tensor([120.0, 110.0, 100.0]), colour_components(covariance(rng), "roots"))
    assert torch.equal(normalise(pixels), normalise(pixels, torch.zeros(2, 3)))
    assert not torch.equal(normalise(pixels), normalise(pixels, torch.ones(2, 3)))


@pytest.mark.parametrize(("kind", "power"), [("eigenvalues", 1.0), ("roots", 0.5)])
def test_components_are_the_covariances_eigenvectors_scaled(kind: str, power: float, rng: np.random.Generator) -> None:
    matrix = covariance(rng)
    reference = np.zeros((3, 3))
    for value in characteristic(matrix / 255**2):
        vector = eigenvector(matrix / 255**2, value)
        reference += np.outer(vector, vector) * (0.1 * value**power * 255) ** 2
    components = colour_components(matrix, kind).numpy().astype(np.float64)
    # C^T C does not see the eigenvectors' signs; float32 leaves 1e-7, the polynomial's roots some 1e-9, of the largest
    np.testing.assert_allclose(components.T @ components, reference, rtol=0, atol=1e-5 * reference.max())
    # rows, not columns, are the components: orthogonal, each as long as its size
    np.testing.assert_allclose(
        np.linalg.norm(components, axis=1), 25.5 * characteristic(matrix / 255**2) ** power, rtol=1e-4
    )
    products = components @ components.T
    assert np.abs(products - np.diag(np.diag(products))).max() < 1e-5 * products.max()


@pytest.mark.parametrize("kind", ["eigenvalues", "roots"])
def test_components_do_not_depend_on_the_signs_that_a_library_gives_eigenvectors(
    kind: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix, eigh, components = covariance(rng), np.linalg.eigh, []
    for signs in itertools.product((1, -1), repeat=3):
        monkeypatch.setattr(np.linalg, "eigh", lambda m, signs=signs: (eigh(m)[0], eigh(m)[1] * signs))
        components.append(colour_components(matrix, kind))
    assert all(torch.equal(other, components[0]) for other in components)
    for component in components[0]:  # the sign itself: the largest is positive
        assert component[component.abs().argmax()] > 0


def test_of_equally_large_parts_of_a_component_the_first_is_positive() -> None:
    """Red against green: (1, -1, 0) and its opposite are as good, whatever the last digits of the two say."""
    matrix = np.array([[2.0, -1.0, 0.0], [-1.0, 2.0, 0.0], [0.0, 0.0, 9.0]]) * 100
    for digit in (1e-12, -1e-12):
        components = colour_components(matrix + np.diag([digit, -digit, 0]), "roots")
        assert components[1, 0] > 0 > components[1, 1]


@pytest.mark.parametrize(("kind", "levels"), [("eigenvalues", 3), ("roots", 7)])
def test_a_photographs_shift_is_as_large_as_krizhevskys(kind: str, levels: float, rng: np.random.Generator) -> None:
    components = colour_components(VECTORS @ np.diag(VALUES) @ VECTORS.T * 255**2, kind)
    shifts = torch.from_numpy(rng.standard_normal((20000, 3))).float() @ components
    channel = shifts.square().mean().sqrt().item()  # root mean square of one channel's shift, grey levels
    # "about 3" and "about 7": 3.2 and 7.3 a channel; the factor of 255 between readings is what this must catch
    assert levels < channel < levels + 0.5
    # the formula itself, to the 0.5 % that 20,000 draws leave, sixfold
    sizes = 25.5 * VALUES ** {"eigenvalues": 1, "roots": 0.5}[kind]
    assert abs(channel / np.sqrt((sizes**2).sum() / 3) - 1) < 0.03


def test_none_shifts_nothing(rng: np.random.Generator) -> None:
    assert not colour_components(covariance(rng), "none").any()


def test_grey_images_are_shifted_along_grey_alone() -> None:
    for kind in COLOURS:  # a covariance of rank one has eigenvalues that rounding makes negative
        components = colour_components(np.full((3, 3), 3000.0), kind)
        assert torch.isfinite(components).all()
        assert (components - components.mean(1, keepdim=True)).abs().max() < 1e-4  # root of 1e-16, in grey levels


def test_an_unknown_kind_is_a_key_error(rng: np.random.Generator) -> None:
    with pytest.raises(KeyError):
        colour_components(covariance(rng), "root")
