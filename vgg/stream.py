"""The training stream: images are decoded, rescaled, cropped and flipped by the draws of draws.py (section 3.1).

DALI decodes only the crop's region of each JPEG. It gets encoded bytes and the draws as arguments and draws nothing
itself, so a batch is a pure function of (seed, step) and of the images. Without DALI, pillow.py does the same work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from vgg import pillow
from vgg.draws import Draws, Ints, draw, epoch_words, image_words, order
from vgg.images import Images, ahead, decoding, outputs_of, reader, rescaling


class Batch(NamedTuple):
    """A training batch of N images, before the mean is subtracted."""

    pixels: Tensor  # (N, 3, crop, crop) uint8 RGB, channels_last; valid until the next batch is asked for
    labels: Tensor  # (N,) int64, or what the loss compares a net's outputs with instead, (N, ...)
    colour: Tensor  # (N, 3) float32 standard normals of the colour shift
    keys: Tensor  # (N, 2) int64 keys of the dropout masks
    ids: Ints  # (N,) the images' numbers

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on `device`, without waiting for a GPU."""
        if device.type == "cpu":
            return self
        tensors = (self.pixels, self.labels, self.colour, self.keys)
        moved = [tensor if tensor.is_cuda else tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]
        return Batch(moved[0], moved[1], moved[2], moved[3], self.ids)

    def parts(self, count: int) -> list[Batch]:
        """Return the batch in `count` parts of nearly equal size, or in fewer if it has fewer images."""
        count = min(count, len(self.ids))
        tensors = [tensor.tensor_split(count) for tensor in (self.pixels, self.labels, self.colour, self.keys)]
        return [Batch(*part) for part in zip(*tensors, np.array_split(self.ids, count), strict=True)]


Target = Callable[[Ints, Draws], Tensor]  # images' numbers (N,) and draws to what the loss compares with, (N, ...)


@dataclass(frozen=True)
class StreamConfig:
    """The parameters of the stream: everything that a batch depends on except the images."""

    seed: int
    batch: int  # images per step, over all ranks
    crop: int  # pixels
    scales: tuple[int, int]  # smallest and largest S, pixels


def steps_per_epoch(images: int, batch: int) -> int:
    """Return the whole batches in an epoch; the rest of its images are unused. Raise ValueError if there is none."""
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
    decoder: str = "dali",
    target: Target | None = None,
) -> Iterator[Batch]:
    """Yield batches from `first_step` on, without end; with several ranks, this rank's part of each.

    Rank r gets images r, r + ranks, ... of each batch, so the ranks' parts together are the single process's batch.
    `decoder` is dali, or pillow, which decodes on the CPU. `gpu` is the number of the GPU that decodes, or None. A
    batch has the images' labels, or what `target` returns.
    """
    waiting: deque[tuple[Ints, Draws]] = deque()
    samples = _samples(images, plan, first_step, rank, ranks, waiting, gpu, decoder)
    size = len(range(rank, plan.batch, ranks))
    labels = torch.from_numpy(images.labels)
    for pixels in _crops(samples, size, plan.crop, threads, gpu, decoder):
        ids, draws = waiting.popleft()
        yield Batch(
            from_dlpack(pixels).permute(0, 3, 1, 2),
            labels[ids] if target is None else target(ids, draws),
            torch.from_numpy(draws.colour).float(),
            torch.from_numpy(draws.keys),
            ids,
        )


def crops_of(
    images: Images, plan: StreamConfig, image: int, epochs: Sequence[int], decoder: str = "dali"
) -> tuple[Tensor, Draws]:
    """Return the training crops of one image in some epochs, (epochs, 3, crop, crop) uint8, and their draws."""
    ids = np.full(len(epochs), image)
    words = np.stack([image_words(plan.seed, epoch, image) for epoch in epochs])
    heights, widths = images.heights[ids], images.widths[ids]
    draws = draw(words, heights, widths, plan.scales, plan.crop)
    encoded = [images[image]] * len(ids)
    samples = iter([_inputs(encoded, draws, heights, widths, plan.crop, decoder)])
    pixels = next(_crops(samples, len(ids), plan.crop, 1, None, decoder))
    return from_dlpack(pixels).permute(0, 3, 1, 2).clone(), draws


def _crops(
    samples: Iterator[tuple[Any, ...]], size: int, crop: int, threads: int, gpu: int | None, decoder: str
) -> Iterator[Any]:
    """Yield the crops (size, crop, crop, 3) of each sample by either decoder."""
    if decoder != "dali":
        return pillow.cropped_samples(samples, crop, threads)
    return _outputs(_pipeline(samples, size, crop, threads, gpu), gpu)


def _outputs(pipe: Any, gpu: int | None) -> Iterator[Any]:
    """Yield DALI's crops, (N, crop, crop, 3) each, without end."""
    while True:
        (pixels,) = outputs_of(pipe, gpu)
        yield pixels.as_tensor()


def _samples(
    images: Images,
    plan: StreamConfig,
    step: int,
    rank: int,
    ranks: int,
    waiting: deque[tuple[Ints, Draws]],
    gpu: int | None,
    decoder: str = "dali",
) -> Iterator[tuple[Any, ...]]:
    """Yield the decoder's inputs for each batch; append the ids and draws, for what it does not need, to `waiting`."""
    steps = steps_per_epoch(len(images), plan.batch)
    read = reader(images, gpu)
    while True:
        epoch = step // steps
        words = epoch_words(plan.seed, epoch, len(images))
        permutation = order(words)
        for place in range(step % steps, steps):
            first = place * plan.batch
            ids = permutation[first : first + plan.batch][rank::ranks]
            heights, widths = images.heights[ids], images.widths[ids]
            draws = draw(words[ids], heights, widths, plan.scales, plan.crop)
            waiting.append((ids, draws))
            yield _inputs(read(ids), draws, heights, widths, plan.crop, decoder)
        step = (epoch + 1) * steps


def _inputs(
    encoded: Sequence[Any], draws: Draws, heights: Ints, widths: Ints, crop: int, decoder: str
) -> tuple[Any, ...]:
    """Return the decoder's inputs for a batch of encoded images."""
    if decoder == "dali":
        return (encoded, *_regions(draws, heights, widths, crop))
    return (encoded, draws.height, draws.width, draws.top, draws.left, draws.flip)


def _regions(draws: Draws, heights: Ints, widths: Ints, crop: int) -> tuple[NDArray[Any], ...]:
    """Return the crops in source pixels: slices to decode (start, shape), the exact regions in them, and the flips.

    A slice is wider than its region by the reach of the antialiasing filter.
    """
    places = (("top", draws.top, draws.height, heights), ("left", draws.left, draws.width, widths))
    starts, sizes, lows, highs = [], [], [], []
    for _, corner, new, old in places:
        ratio = old / new  # source pixels per rescaled pixel
        low, high = corner * ratio, (corner + crop) * ratio
        reach = np.maximum(ratio, 1.0) + 1.0
        start = np.maximum(np.floor(low - reach), 0).astype(np.int32)
        end = np.minimum(np.ceil(high + reach), old).astype(np.int32)
        starts.append(start)
        sizes.append(end - start)
        lows.append((low - start).astype(np.float32))
        highs.append((high - start).astype(np.float32))
    pairs = [np.stack(columns, 1) for columns in (starts, sizes, lows, highs)]  # each (N, 2): y, x
    return (*pairs, draws.flip.astype(np.int32))


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
