"""The training stream: the same bits however it is run, every image once an epoch, and the pixels that PIL gives."""

from __future__ import annotations

import io
from collections import deque
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.images import (
    DECODERS,
    Pictures,
    check_grey_levels,
    jpeg,
    needs_dali,
    photograph,
    photographs,
    resized,
    rim,
    run_seed,
)
from vgg import stream
from vgg.draws import Draws, Ints, draw, epoch_words, order
from vgg.stream import Batch, StreamConfig, crops_of, steps_per_epoch, training_stream

IMAGES, BATCH = 31, 7  # four steps an epoch, three images left over
STEPS = 4
ALL = 2 * STEPS + 2  # into the third epoch


@pytest.fixture(scope="module")
def small() -> Pictures:
    """Many small images, for what is about bits and not about looks."""
    random = np.random.default_rng(run_seed())
    return photographs(random, random.integers(50, 160, (IMAGES, 2)).tolist())


@pytest.fixture(scope="module")
def plan() -> StreamConfig:
    return StreamConfig(run_seed(), BATCH, 64, (73, 146))


@pytest.fixture(scope="module", params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def batches(small: Pictures, plan: StreamConfig, decoder: str) -> list[Batch]:
    """What one process with one thread sees from the start."""
    return taken(ALL, small, plan, decoder=decoder)


def taken(count: int, images: Pictures, plan: StreamConfig, *where: int, **how: Any) -> list[Batch]:
    """The stream's next `count` batches, kept."""
    return [
        batch._replace(pixels=batch.pixels.clone())
        for batch in islice(training_stream(images, plan, *where, **how), count)
    ]


def check_equal(batches: list[Batch], wanted: list[Batch], what: object) -> None:
    """Two runs of the stream are the same, to the bit."""
    assert len(batches) == len(wanted)
    for step, (batch, other) in enumerate(zip(batches, wanted, strict=True)):
        assert np.array_equal(batch.ids, other.ids), (what, step)
        for name in ("pixels", "labels", "colour", "keys"):
            assert torch.equal(getattr(batch, name), getattr(other, name)), (what, step, name)


def joined(parts: list[Batch]) -> Batch:
    """One batch of the ranks' parts: the image at place i is rank i % ranks's."""
    places = np.argsort(np.concatenate([np.arange(len(part.ids)) * len(parts) + i for i, part in enumerate(parts)]))
    tensors = (torch.cat(columns)[places] for columns in list(zip(*parts, strict=True))[:4])
    return Batch(*tensors, np.concatenate([part.ids for part in parts])[places])


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_bit(
    threads: int, small: Pictures, plan: StreamConfig, batches: list[Batch], decoder: str
) -> None:
    check_equal(taken(ALL, small, plan, threads=threads, decoder=decoder), batches, plan)


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_ranks_together_see_what_one_process_sees(
    ranks: int, small: Pictures, plan: StreamConfig, batches: list[Batch], decoder: str
) -> None:
    parts = [taken(ALL, small, plan, rank=rank, ranks=ranks, decoder=decoder) for rank in range(ranks)]
    check_equal([joined(list(step)) for step in zip(*parts, strict=True)], batches, plan)


@pytest.mark.parametrize("first", range(1, ALL - 1))
def test_the_stream_goes_on_from_any_step(
    first: int, small: Pictures, plan: StreamConfig, batches: list[Batch], decoder: str
) -> None:
    check_equal(taken(ALL - first, small, plan, first, decoder=decoder), batches[first:], plan)


def test_ranks_go_on_from_the_middle_too(
    small: Pictures, plan: StreamConfig, batches: list[Batch], decoder: str
) -> None:
    first = int(np.random.default_rng().integers(1, ALL - 2))
    parts = [taken(2, small, plan, first, rank=rank, ranks=3, threads=2, decoder=decoder) for rank in range(3)]
    check_equal([joined(list(step)) for step in zip(*parts, strict=True)], batches[first : first + 2], (plan, first))


def test_a_step_far_away_is_where_its_epoch_puts_it(small: Pictures, plan: StreamConfig, decoder: str) -> None:
    (batch,) = taken(1, small, plan, 1_000_000 * STEPS + 2, decoder=decoder)
    wanted = order(epoch_words(plan.seed, 1_000_000, IMAGES))[2 * BATCH : 3 * BATCH]
    assert np.array_equal(batch.ids, wanted), plan


def test_the_batch_size_changes_no_image(
    small: Pictures, plan: StreamConfig, batches: list[Batch], decoder: str
) -> None:
    other = StreamConfig(plan.seed, 14, plan.crop, plan.scales)
    pair = [torch.cat([one.pixels for one in batches[i : i + 2]]) for i in (0, 2)]
    for batch, wanted in zip(taken(2, small, other, decoder=decoder), pair, strict=True):
        assert torch.equal(batch.pixels, wanted), plan


def test_another_seed_gives_another_stream(
    small: Pictures, plan: StreamConfig, batches: list[Batch], decoder: str
) -> None:
    (other,) = taken(1, small, StreamConfig(plan.seed + 1, BATCH, plan.crop, plan.scales), decoder=decoder)
    assert not np.array_equal(other.ids, batches[0].ids), plan
    assert not torch.equal(other.colour, batches[0].colour), plan


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_visits_each_image_once_at_most(epoch: int, batches: list[Batch], plan: StreamConfig) -> None:
    assert steps_per_epoch(IMAGES, BATCH) == STEPS
    ids = np.concatenate([batch.ids for batch in batches[epoch * STEPS : (epoch + 1) * STEPS]])
    assert len(ids) == STEPS * BATCH
    assert len(set(ids.tolist())) == len(ids), plan
    assert set(ids.tolist()) <= set(range(IMAGES)), plan


def test_epochs_have_orders_of_their_own(batches: list[Batch], plan: StreamConfig) -> None:
    first, second = (np.concatenate([batch.ids for batch in batches[i : i + STEPS]]) for i in (0, STEPS))
    assert not np.array_equal(first, second), plan


def test_labels_and_colours_are_those_of_the_ids(small: Pictures, batches: list[Batch], plan: StreamConfig) -> None:
    for step, batch in enumerate(batches):
        words = epoch_words(plan.seed, step // STEPS, IMAGES)[batch.ids]
        colour = draw(words, small.heights[batch.ids], small.widths[batch.ids], plan.scales, plan.crop).colour
        assert batch.labels.dtype == torch.int64
        assert np.array_equal(batch.labels, small.labels[batch.ids]), (plan, step)
        assert batch.colour.dtype == torch.float32
        assert np.array_equal(batch.colour, colour.astype(np.float32)), (plan, step)


def test_a_target_gets_the_very_draws_of_each_crop(small: Pictures, plan: StreamConfig, decoder: str) -> None:
    """From any step and of any rank. Only the labels of a batch differ from those without a target."""

    def target(ids: Ints, draws: Draws) -> torch.Tensor:
        return torch.from_numpy(np.stack([ids, draws.height, draws.width, draws.top, draws.left, draws.flip], 1))

    for first in (0, STEPS + 1):
        whole, plain = (taken(2, small, plan, first, decoder=decoder, target=kind) for kind in (target, None))
        for step, (batch, other) in enumerate(zip(whole, plain, strict=True), first):
            words = epoch_words(plan.seed, step // STEPS, IMAGES)[batch.ids]
            draws = draw(words, small.heights[batch.ids], small.widths[batch.ids], plan.scales, plan.crop)
            assert torch.equal(batch.labels, target(batch.ids, draws))
            check_equal([batch._replace(labels=other.labels)], [other], step)
        parts = [taken(2, small, plan, first, rank, 2, decoder=decoder, target=target) for rank in range(2)]
        check_equal([joined(list(pair)) for pair in zip(*parts, strict=True)], whole, first)


def test_a_batch_is_channels_last(small: Pictures, plan: StreamConfig, decoder: str) -> None:
    batch = next(training_stream(small, plan, decoder=decoder))
    assert batch.pixels.shape == (BATCH, 3, 64, 64)
    assert batch.pixels.dtype == torch.uint8
    assert batch.pixels.is_contiguous(memory_format=torch.channels_last)


@needs_dali
def test_dalis_batch_is_no_copy(small: Pictures, plan: StreamConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    take = stream.from_dlpack
    monkeypatch.setattr(stream, "from_dlpack", lambda dali: made.append(dali.data_ptr()) or take(dali))
    batch = next(training_stream(small, plan))
    assert made == [batch.pixels.data_ptr()]


def test_photographs_without_hard_edges_at_the_rim_are_within_3_grey_levels_of_pil(seed: int, decoder: str) -> None:
    """The rim too, and 0.25 on average: what edges there and a ratio of exactly 2 add is bounded in the next test."""
    random = np.random.default_rng(seed)
    images = photographs(random, [(375, 500), (500, 375), (333, 500), *random.integers(300, 500, (5, 2))], things=0)
    plan = StreamConfig(int(random.integers(2**63)), len(images), 224, (256, 512))
    (batch,) = taken(1, images, plan, decoder=decoder)
    words = epoch_words(plan.seed, 0, len(images))[batch.ids]
    draws = draw(words, images.heights[batch.ids], images.widths[batch.ids], plan.scales, 224)
    for i, image in enumerate(batch.ids):
        picture = Image.open(io.BytesIO(images[image].tobytes())).convert("RGB")
        large = picture.resize((int(draws.width[i]), int(draws.height[i])), Image.Resampling.BILINEAR)
        crop = np.asarray(large)[draws.top[i] :, draws.left[i] :][:224, :224].astype(int)
        away = np.abs(batch.pixels[i].permute(1, 2, 0).numpy() - (crop[:, ::-1] if draws.flip[i] else crop))
        assert away.max() <= 3, (plan, i)
        assert away.mean() < 0.25, (plan, i)


@pytest.mark.parametrize("scale", [256, 384, 512, (256, 512)], ids=str)
def test_pixels_are_pils_full_decode_resize_crop_and_flip(
    scale: int | tuple[int, int], seed: int, decoder: str
) -> None:
    random = np.random.default_rng(seed)
    around = [(375, 500), (500, 375), (333, 500), *random.integers(300, 520, (5, 2)).tolist()]
    enlarged = [(120, 90), *random.integers(60, 230, (3, 2)).tolist()]
    images = photographs(random, [*around, *enlarged])
    scales = scale if isinstance(scale, tuple) else (scale, scale)
    plan = StreamConfig(int(random.integers(2**63)), len(images), 224, scales)
    for epoch, batch in enumerate(islice(training_stream(images, plan, decoder=decoder), 2)):
        check_against_pil(images, plan, epoch, batch, f"seed {seed}, epoch {epoch}")


def check_against_pil(images: Pictures, plan: StreamConfig, epoch: int, batch: Batch, what: str) -> None:
    """Each image of a batch is PIL's, whole, cropped and flipped as was drawn."""
    words = epoch_words(plan.seed, epoch, len(images))[batch.ids]
    drawn = draw(words, images.heights[batch.ids], images.widths[batch.ids], plan.scales, plan.crop)
    for place, image in enumerate(batch.ids.tolist()):
        size = int(drawn.height[place]), int(drawn.width[place])
        top, left, flip = int(drawn.top[place]), int(drawn.left[place]), -1 if drawn.flip[place] else 1
        crop = np.s_[top : top + plan.crop, left : left + plan.crop]
        wanted, at_rim = (one[crop][:, ::flip] for one in (resized(images[image], *size), rim(*size)))
        pixels = batch.pixels[place].permute(1, 2, 0).numpy()
        name = f"{what}, image {image} of {images.heights[image]}x{images.widths[image]} at {size}"
        check_grey_levels(pixels, wanted, at_rim, name)


def test_the_crops_of_one_image_are_those_of_the_stream(small: Pictures, plan: StreamConfig, decoder: str) -> None:
    image = int(order(epoch_words(plan.seed, 0, IMAGES))[0])  # the first of the first batch
    batch = next(training_stream(small, plan, decoder=decoder))
    pixels, draws = crops_of(small, plan, image, [0, 3], decoder)
    assert len(pixels) == 2 and np.array_equal(draws.colour[0].astype(np.float32), batch.colour[0].numpy())
    assert torch.equal(pixels[0], batch.pixels[0])


@pytest.mark.parametrize("orientation", [3, 6])
def test_an_exif_orientation_turns_nothing(orientation: int, seed: int, decoder: str) -> None:
    """PIL, which measures the images, does not turn them; whoever does, crops what was not measured."""
    random = np.random.default_rng(seed)
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(photograph(random, 300, 400)).save(buffer, "JPEG", exif=exif)
    images = Pictures([buffer.getvalue()], [0])
    plan = StreamConfig(int(random.integers(2**63)), 1, 224, (256, 256))
    check_against_pil(images, plan, 0, next(training_stream(images, plan, decoder=decoder)), f"seed {seed}")


def test_grey_and_cmyk_jpegs_become_rgb(seed: int, decoder: str) -> None:
    random = np.random.default_rng(seed)
    encoded = [jpeg(photograph(random, 280, 300))]
    for mode in ("L", "CMYK"):
        buffer = io.BytesIO()
        Image.fromarray(photograph(random, 280, 300)).convert(mode).save(buffer, "JPEG")
        encoded.append(buffer.getvalue())
    images = Pictures(encoded, [0, 1, 2])
    plan = StreamConfig(int(random.integers(2**63)), 3, 224, (256, 256))
    check_against_pil(images, plan, 0, next(training_stream(images, plan, decoder=decoder)), f"seed {seed}")


def test_fewer_images_than_a_batch_are_refused(small: Pictures, plan: StreamConfig, decoder: str) -> None:
    with pytest.raises(ValueError, match="31 training images are fewer than one batch of 32"):
        next(training_stream(small, StreamConfig(plan.seed, 32, plan.crop, plan.scales), decoder=decoder))


def test_dali_gets_a_batchs_regions_in_whole_arrays(small: Pictures, plan: StreamConfig) -> None:
    encoded, *regions = next(stream._samples(small, plan, 0, 0, 1, deque(), None))
    assert len(encoded) == BATCH
    assert [region.shape for region in regions] == [(BATCH, 2)] * 4 + [(BATCH,)]
