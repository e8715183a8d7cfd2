"""Whole images: each exactly once, equal shapes together and never padded, and the pixels that PIL gives."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Iterator
from threading import Barrier, Event

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils import dlpack

from tests.support.images import (
    DECODERS,
    GREY_LEVELS_AT_THE_RIM,
    GREY_LEVELS_ON_AVERAGE,
    Pictures,
    check_grey_levels,
    decoded,
    jpeg,
    needs_dali,
    photograph,
    photographs,
    resized,
    rim,
)
from vgg import images as module
from vgg.draws import rescaled
from vgg.images import READERS, Decoder, Rescaled, ahead, reader, rescale, rescaled_batches
from vgg.stream import StreamConfig, _samples


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def mixed(rng: np.random.Generator) -> Pictures:
    """Images of few shapes and of many, some of which agree only once they are rescaled."""
    few = [(90, 120)] * 5 + [(120, 90)] * 3 + [(180, 240)] * 4 + [(100, 100)] * 3
    sizes = [*few, *rng.integers(60, 260, (12, 2)).tolist()]
    return photographs(rng, [sizes[i] for i in rng.permutation(len(sizes))])


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (4, 1), (64, 2)])
def test_each_image_comes_exactly_once(
    batch: int, threads: int, rng: np.random.Generator, seed: int, decoder: str
) -> None:
    images = mixed(rng)
    ids = [rescaled.ids for rescaled in rescaled_batches(images, 96, batch, threads, decoder=decoder)]
    assert max(map(len, ids)) <= batch, seed
    assert sorted(np.concatenate(ids).tolist()) == list(range(len(images))), seed


def test_equal_shapes_come_together_in_batches_as_full_as_can_be(
    rng: np.random.Generator, seed: int, decoder: str
) -> None:
    images = mixed(rng)
    shapes = list(zip(*(side.tolist() for side in rescaled(images.heights, images.widths, 96)), strict=True))
    batch_shapes = [tuple(batch.pixels.shape[2:]) for batch in rescaled_batches(images, 96, 4, decoder=decoder)]
    assert sorted(batch_shapes) == sorted(s for s in set(shapes) for _ in range(-(-shapes.count(s) // 4))), seed
    assert batch_shapes.count((96, 128)) >= 3, "90x120 and 180x240 agree at 96x128: nine images, three batches"


def test_every_batch_has_its_images_shapes_unpadded(rng: np.random.Generator, seed: int, decoder: str) -> None:
    images = mixed(rng)
    for pixels, ids in rescaled_batches(images, 96, 4, decoder=decoder):
        assert pixels.shape[:2] == (len(ids), 3)
        assert min(pixels.shape[2:]) == 96, seed
        for height, width in zip(*rescaled(images.heights[ids], images.widths[ids], 96), strict=True):
            assert tuple(pixels.shape[2:]) == (height, width), seed


@pytest.mark.parametrize("scale", [224, 256, 384, 512])
def test_pixels_are_pils(scale: int, rng: np.random.Generator, seed: int, decoder: str) -> None:
    sizes = [(375, 500), (500, 375), (120, 90), *rng.integers(100, 520, (4, 2)).tolist()]
    images = photographs(rng, sizes)
    for pixels, ids in rescaled_batches(images, scale, 3, decoder=decoder):
        for found, image in zip(pixels.permute(0, 2, 3, 1).numpy(), ids.tolist(), strict=True):
            wanted = resized(images[image], *found.shape[:2])
            check_grey_levels(
                found, wanted, rim(*found.shape[:2]), f"seed {seed}, image {image} of {sizes[image]} at {scale}"
            )


@needs_dali
@pytest.mark.parametrize("scale", [96, 256, 512])
def test_dalis_bicubic_pixels_are_pils(scale: int, rng: np.random.Generator, seed: int) -> None:
    """Within a grey level of Pillow's bicubic filter in floating point, rounded once, but for a rim of its support.

    There DALI repeats the last pixel. Pillow's usual filter also rounds and clips between its two passes, so that
    overshoots next to strong edges are several levels apart; on average it differs as little as bilinear rescaling.
    """
    sizes = [(375, 500), (120, 90), (900, 700), *rng.integers(100, 520, (3, 2)).tolist()]
    images = photographs(rng, sizes)
    for pixels, ids in rescaled_batches(images, scale, 3, resize="bicubic"):
        for found, image in zip(pixels.permute(0, 2, 3, 1).numpy(), ids.tolist(), strict=True):
            source, what = decoded(images[image]), f"seed {seed}, image {image} of {sizes[image]} at {scale}"
            exact, usual = (bicubic(source, *found.shape[:2], number) for number in (np.float32, np.uint8))
            support = max(2, -(-2 * len(found) // len(source)))
            inside = (slice(support, -support), slice(support, -support))
            assert np.abs(found - exact)[inside].max() <= 1, what
            assert np.abs(found - exact).max() <= GREY_LEVELS_AT_THE_RIM, what
            assert np.abs(found - exact).mean() < 0.05 and np.abs(found - usual).mean() < GREY_LEVELS_ON_AVERAGE, what
            assert np.abs(found - resized(images[image], *found.shape[:2]).astype(float)).mean() > 0.3, what


def bicubic(source: np.ndarray, height: int, width: int, number: type[np.generic]) -> np.ndarray:
    """Pillow's bicubic rescaling with antialiasing, (height, width, 3), computed in `number`, in whole grey levels."""
    parts = [Image.fromarray(source[..., i].astype(number)) for i in range(3)]
    values = np.stack([part.resize((width, height), Image.Resampling.BICUBIC) for part in parts], -1)
    return np.clip(np.rint(values.astype(np.float64)), 0, 255)


def by_id(batches: Iterable[Rescaled]) -> dict[int, torch.Tensor]:
    """Each image's pixels, kept."""
    return {i: pixels for batch in batches for i, pixels in zip(batch.ids.tolist(), batch.pixels.clone(), strict=True)}


def test_threads_and_batch_change_no_bit(rng: np.random.Generator, seed: int, decoder: str) -> None:
    images = mixed(rng)
    runs = [by_id(rescaled_batches(images, 96, *how, decoder=decoder)) for how in ((4, 1), (4, 2), (9, 1))]
    for other in runs[1:]:
        assert all(torch.equal(other[i], runs[0][i]) for i in range(len(images))), seed


def test_a_batch_is_channels_last(rng: np.random.Generator, decoder: str) -> None:
    pixels, _ = next(rescaled_batches(photographs(rng, [(100, 140)] * 3), 96, 3, decoder=decoder))
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    assert pixels.dtype == torch.uint8


@needs_dali
def test_dalis_batch_is_no_copy(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    take = dlpack.from_dlpack
    monkeypatch.setattr(dlpack, "from_dlpack", lambda dali: made.append(dali.data_ptr()) or take(dali))
    pixels, _ = next(rescaled_batches(photographs(rng, [(100, 140)] * 3), 96, 3))
    assert made == [pixels.data_ptr()]


def rescaled_to(encoded: list[bytes], heights: list[int], widths: list[int], decoder: str) -> list[np.ndarray]:
    """One sample through rescale(), or through the decoder of groups."""
    sample = [np.frombuffer(data, np.uint8) for data in encoded], np.array(heights), np.array(widths)
    if decoder != "dali":
        return Decoder(len(encoded), decoder=decoder)(sample[0], np.stack(sample[1:], 1))
    (images,) = ([np.array(pixels.at(i)) for i in range(len(encoded))] for pixels in rescale([sample], len(encoded)))
    return images


def test_an_image_asked_for_as_it_is_keeps_its_bits_beside_others_that_do_not(
    rng: np.random.Generator, decoder: str
) -> None:
    sizes = [tuple(size) for size in rng.integers(40, 400, (6, 2)).tolist()]
    encoded = [jpeg(photograph(rng, *size)) for size in sizes]
    sizes[0] = (sizes[0][0] + 7, sizes[0][1])
    images = rescaled_to(encoded, *map(list, zip(*sizes, strict=True)), decoder)
    assert images[0].shape[:2] == sizes[0]
    for image, source in zip(images[1:], encoded[1:], strict=True):
        assert np.array_equal(image, decoded(source)), sizes


@pytest.mark.parametrize("how", ["PNG", "WEBP", "BMP", "TIFF", "grey", "CMYK", "progressive"])
def test_other_formats_decode_as_pil_does(how: str, rng: np.random.Generator, seed: int, decoder: str) -> None:
    picture, buffer = Image.fromarray(photograph(rng, 130, 170)), io.BytesIO()
    mode = {"grey": "L", "CMYK": "CMYK"}.get(how, "RGB")
    kind = how if how.isupper() and mode == "RGB" else "JPEG"
    picture.convert(mode).save(buffer, kind, **({"progressive": True} if how == "progressive" else {}))
    (image,) = rescaled_to([buffer.getvalue()], [130], [170], decoder)
    assert np.array_equal(image, decoded(buffer.getvalue())), seed


@pytest.mark.parametrize("orientation", [3, 6])
def test_an_exif_orientation_turns_nothing(orientation: int, rng: np.random.Generator, seed: int, decoder: str) -> None:
    """PIL, which measures the images, does not turn them; an image turned and then rescaled is distorted."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(photograph(rng, 130, 170)).save(buffer, "JPEG", exif=exif)
    (image,) = rescaled_to([buffer.getvalue()], [130], [170], decoder)
    assert np.array_equal(image, decoded(buffer.getvalue())), seed


@needs_dali
def test_samples_come_back_in_their_order_and_end(rng: np.random.Generator, seed: int) -> None:
    encoded = [jpeg(photograph(rng, 40, 40 + i)) for i in range(9)]
    samples = [([np.frombuffer(data, np.uint8)], np.array([40]), np.array([40 + i])) for i, data in enumerate(encoded)]
    images = [np.array(pixels.at(0)) for pixels in rescale(iter(samples), 1)]
    assert [image.shape[1] for image in images] == list(range(40, 49))
    assert all(np.array_equal(image, decoded(source)) for image, source in zip(images, encoded, strict=True)), seed


def test_few_large_images_are_decoded_at_a_time(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, decoder: str
) -> None:
    sides = rng.integers(30, 120, 40)
    images = photographs(rng, [(int(side), int(side)) for side in sides])  # of one shape once they are rescaled
    monkeypatch.setattr(module, "PIXELS", 20_000)
    batches = [ids for _, ids in rescaled_batches(images, 64, 16, decoder=decoder)]
    assert sorted(np.concatenate(batches).tolist()) == list(range(40))
    assert max(map(len, batches)) > 1 and any(len(ids) < 16 for ids in batches[:-1])
    assert all(len(ids) == 1 or (sides[ids] ** 2).sum() <= 20_000 for ids in batches)


def test_samples_read_ahead_are_the_same_and_so_is_a_failure(rng: np.random.Generator) -> None:
    wanted = list(rng.integers(9, size=rng.integers(20)))
    assert list(ahead(iter(wanted), gpu=0)) == list(ahead(iter(wanted), gpu=None)) == wanted

    def broken() -> Iterator[int]:
        yield from wanted
        raise RuntimeError("damaged")

    for gpu in (0, None):
        samples = ahead(broken(), gpu)
        assert [next(samples) for _ in wanted] == wanted
        with pytest.raises(RuntimeError, match="damaged"):
            next(samples)


def test_one_sample_is_read_while_another_is_worked_on() -> None:
    begun = Event()

    def source() -> Iterator[int]:
        yield 0
        begun.set()
        yield 1

    samples = ahead(source(), gpu=0)
    assert next(samples) == 0
    assert begun.wait(600)
    assert list(samples) == [1]


@pytest.mark.parametrize("gpu", [None, 0])
def test_images_are_read_in_the_order_they_are_asked_for(gpu: int | None, rng: np.random.Generator) -> None:
    images = photographs(rng, rng.integers(40, 60, (9, 2)).tolist())
    read = reader(images, gpu)
    for count in (0, 1, READERS, 3 * READERS + 1):
        ids = rng.integers(len(images), size=count)
        assert [id(encoded) for encoded in read(ids)] == [id(images[i]) for i in ids]


class Together(Pictures):
    """Images whose readers wait for one another, so that one reader alone fails."""

    together = Barrier(READERS, timeout=600)

    def __getitem__(self, image: int) -> np.ndarray:
        self.together.wait()
        return super().__getitem__(image)


def test_a_gpus_images_are_read_by_several_threads_whole_and_for_training(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = photographs(rng, [(40, 50)] * READERS)
    images = Together([bytes(encoded) for encoded in pictures.encoded], [0] * READERS)
    taken = list[int]()
    monkeypatch.setattr(module, "rescale", lambda samples, *_: taken.extend(map(len, next(samples))) or iter(()))
    with pytest.raises(ValueError, match="shorter"):  # no pixels come of it
        list(rescaled_batches(images, 64, READERS, gpu=0))
    assert taken == [READERS] * 3
    plan = StreamConfig(0, READERS, 32, (40, 40))
    encoded, *_ = next(_samples(images, plan, 0, 0, 1, deque(), gpu=0))
    assert len(encoded) == READERS


def test_a_damaged_image_is_an_error_also_where_several_threads_read(rng: np.random.Generator) -> None:
    images = photographs(rng, [(40, 50)])
    with pytest.raises(IndexError):
        reader(images, 0)(np.array([0, 0, 1]))
