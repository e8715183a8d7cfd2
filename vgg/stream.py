"""The training stream: DALI decodes, rescales, crops and flips what draws.py has drawn (section 3.1).

Only the crop's region of each JPEG is decoded. DALI is handed encoded bytes and the draws as arguments and draws
nothing itself, so a batch is a pure function of (seed, step) and of the images.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from vgg.draws import Draws, Ints, draw, epoch_words, order
from vgg.images import Images, ahead, decoding, rescaling, run


class Batch(NamedTuple):
    """One training batch of N images, before the mean is subtracted."""

    pixels: Tensor  # (N, 3, crop, crop) uint8 RGB, channels_last; valid until the next batch is asked for
    labels: Tensor  # (N,) int64
    colour: Tensor  # (N, 3) float32 standard normals of the colour shift
    keys: Tensor  # (N, 2) int64 that dropout is drawn from
    ids: Ints  # (N,) the images' numbers

    def to(self, device: torch.device) -> Batch:
        """The same on `device`, without waiting for a GPU."""
        if device.type == "cpu":
            return self
        tensors = (self.pixels, self.labels, self.colour, self.keys)
        moved = [one if one.is_cuda else one.pin_memory().to(device, non_blocking=True) for one in tensors]
        return Batch(moved[0], moved[1], moved[2], moved[3], self.ids)

    def parts(self, count: int) -> list[Batch]:
        """The batch in `count` parts of nearly equal size, or in fewer if it has fewer images."""
        count = min(count, len(self.ids))
        tensors = [one.tensor_split(count) for one in (self.pixels, self.labels, self.colour, self.keys)]
        return [Batch(*part) for part in zip(*tensors, np.array_split(self.ids, count), strict=True)]


@dataclass(frozen=True)
class StreamConfig:
    """What fixes the stream: everything a batch depends on besides the images."""

    seed: int
    batch: int  # images a step, over all ranks
    crop: int  # pixels
    scales: tuple[int, int]  # smallest and largest S, pixels


def steps_per_epoch(images: int, batch: int) -> int:
    """Whole batches in an epoch; the rest of its permutation is dropped. ValueError if there is none."""
    if images < batch:
        raise ValueError(f"{images} training images are fewer than one batch of {batch}")
    return images // batch


def training_stream(
    images: Images,
    plan: StreamConfig,
    first_step: int = 0,
    rank: int = 0,
    ranks: int = 1,
    threads: int = 1,
    gpu: int | None = None,
) -> Iterator[Batch]:
    """Batches from `first_step` on, without end; with several ranks, this rank's part of each.

    Rank r has images r, r + ranks, ... of each batch, so the ranks' parts together are the single process's batch.
    `gpu` is the number of the GPU that decodes, or none.
    """
    waiting: deque[tuple[Ints, Draws]] = deque()
    samples = _samples(images, plan, first_step, rank, ranks, waiting)
    size = len(range(rank, plan.batch, ranks))
    pipe = _pipeline(samples, size, plan.crop, threads, gpu)
    labels = torch.from_numpy(images.labels)
    while True:
        (pixels,) = run(pipe, gpu)
        ids, draws = waiting.popleft()
        yield Batch(
            from_dlpack(pixels.as_tensor()).permute(0, 3, 1, 2),
            labels[ids],
            torch.from_numpy(draws.colour).float(),
            torch.from_numpy(draws.keys),
            ids,
        )


def _samples(
    images: Images, plan: StreamConfig, step: int, rank: int, ranks: int, waiting: deque[tuple[Ints, Draws]]
) -> Iterator[tuple[Any, ...]]:
    """What DALI is fed for each batch; what it does not need goes to the `waiting` queue."""
    steps = steps_per_epoch(len(images), plan.batch)
    while True:
        epoch = step // steps
        words = epoch_words(plan.seed, epoch, len(images))
        permutation = order(words)
        for place in range(step % steps, steps):
            first = place * plan.batch
            ids = permutation[first : first + plan.batch][rank::ranks]
            draws = draw(words[ids], images.heights[ids], images.widths[ids], plan.scales, plan.crop)
            waiting.append((ids, draws))
            yield ([images[i] for i in ids], *_regions(draws, images.heights[ids], images.widths[ids], plan.crop))
        step = (epoch + 1) * steps


def _regions(draws: Draws, heights: Ints, widths: Ints, crop: int) -> tuple[list[Any], ...]:
    """The crops in source pixels: a slice to decode (start, shape) and within it the exact region, and the flips.

    The slice is wider than the region by what the antialiasing filter reaches.
    """
    places = (("top", draws.top, draws.height, heights), ("left", draws.left, draws.width, widths))
    starts, sizes, lows, highs = [], [], [], []
    for _, corner, new, old in places:
        ratio = old / new  # source pixels a rescaled pixel
        low, high = corner * ratio, (corner + crop) * ratio
        reach = np.maximum(ratio, 1.0) + 1.0
        start = np.maximum(np.floor(low - reach), 0).astype(np.int32)
        end = np.minimum(np.ceil(high + reach), old).astype(np.int32)
        starts.append(start)
        sizes.append(end - start)
        lows.append((low - start).astype(np.float32))
        highs.append((high - start).astype(np.float32))
    pairs = [list(np.stack(columns, 1)) for columns in (starts, sizes, lows, highs)]  # each (N, 2): y, x
    return (*pairs, list(draws.flip.astype(np.int32)))


def _pipeline(samples: Iterator[tuple[Any, ...]], size: int, crop: int, threads: int, gpu: int | None) -> Any:
    from nvidia.dali import fn, pipeline_def

    @pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=size, num_threads=threads, device_id=gpu, prefetch_queue_depth=2
    )
    def crops() -> Any:
        encoded, start, shape, low, high, flip = fn.external_source(ahead(samples, gpu), num_outputs=6, no_copy=True)
        part = fn.decoders.image_slice(
            encoded,
            start,
            shape,
            axes=(0, 1),
            normalized_anchor=False,
            normalized_shape=False,
            **decoding(gpu),
        )
        return fn.resize_crop_mirror(
            part,
            resize_y=float(crop),
            resize_x=float(crop),
            roi_start=low,
            roi_end=high,
            roi_relative=False,
            crop=(crop, crop),
            mirror=flip,
            **rescaling(),
        )

    pipe = crops()
    pipe.build()
    return pipe
