"""Whole images, decoded and rescaled by DALI: what prepare writes and what testing sees (section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vgg.draws import Ints, rescaled

if TYPE_CHECKING:  # prepare's processes do without torch, whose import takes longer than a thousand images
    from torch import Tensor

T = TypeVar("T")
Encoded = NDArray[np.uint8]
PIXELS = 2**26  # to decode at a time: 200 MB, so that large photographs fit into the memory too


class Images(Protocol):
    """Encoded images, each (bytes,) uint8, with their sizes in pixels and their labels, (images,) each."""

    @property
    def heights(self) -> Ints: ...
    @property
    def widths(self) -> Ints: ...
    @property
    def labels(self) -> Ints: ...
    def __len__(self) -> int: ...
    def __getitem__(self, image: int, /) -> Encoded: ...


class Rescaled(NamedTuple):
    """N images of one shape, whole."""

    pixels: Tensor  # (N, 3, H, W) uint8 RGB, channels_last; valid until the next batch is asked for
    ids: Ints  # (N,) the images' numbers


def rescaled_batches(
    images: Images,
    scale: int,
    batch: int,
    threads: int = 1,
    gpu: int | None = None,
    rank: int = 0,
    ranks: int = 1,
) -> Iterator[Rescaled]:
    """All `images` rescaled to smallest side `scale` pixels, those of equal shape together, never padded.

    `gpu` is the number of the GPU that decodes, or none. With several ranks this one has every so many-th batch; the
    batches are those of one process.
    """
    from torch.utils.dlpack import from_dlpack

    heights, widths = rescaled(images.heights, images.widths, scale)
    groups = list(_equal_shapes(heights, widths, images.heights * images.widths, batch))[rank::ranks]
    samples = (([images[i] for i in ids], heights[ids], widths[ids]) for ids in groups)
    for ids, pixels in zip(groups, rescale(samples, batch, threads, gpu), strict=True):
        yield Rescaled(from_dlpack(pixels.as_tensor()).permute(0, 3, 1, 2), ids)


def _equal_shapes(heights: Ints, widths: Ints, pixels: Ints, batch: int) -> Iterator[Ints]:
    """The images' numbers, by shape, at most `batch` together, and fewer of those that have many `pixels` to decode."""
    by_shape = np.lexsort((widths, heights))
    edges = np.flatnonzero(np.diff(heights[by_shape]) | np.diff(widths[by_shape])) + 1
    for group in np.split(by_shape, edges):
        first = 0
        while first < len(group):
            together = np.searchsorted(np.cumsum(pixels[group[first : first + batch]]), PIXELS, "right")
            last = first + max(int(together), 1)
            yield group[first:last]
            first = last


Sample = tuple[list[Encoded], Ints, Ints]  # encoded images and the heights and widths (N,) to rescale them to


def rescale(samples: Iterable[Sample], batch: int, threads: int = 1, gpu: int | None = None) -> Iterator[Any]:
    """Decode each sample and rescale it with antialiasing: DALI's list of uint8 RGB images (height, width, 3).

    An image whose size is asked for as it is comes back as decoded, to the bit. A list is valid until the next.
    RuntimeError from DALI if an image cannot be decoded; bytes that are no image at all may end the process.
    """
    pipe = _pipeline(((encoded, *_sides(height, width)) for encoded, height, width in samples), batch, threads, gpu)
    while True:
        try:
            (pixels,) = run(pipe, gpu)
        except StopIteration:
            return
        yield pixels


def run(pipe: Any, gpu: int | None) -> Any:
    """DALI's next outputs. What torch's stream is given to do with them waits until they are there."""
    if gpu is None:
        return pipe.run()
    import torch

    return pipe.run(torch.cuda.current_stream(gpu))


def ahead(samples: Iterator[T], gpu: int | None) -> Iterator[T]:
    """The same samples; for a GPU, which would wait for it, each is read while DALI is busy with the one before."""
    if gpu is None:
        yield from samples
        return
    with ThreadPoolExecutor(1) as thread:
        end = object()
        following = thread.submit(next, samples, end)
        while (sample := following.result()) is not end:
            following = thread.submit(next, samples, end)
            yield sample  # type: ignore[misc]  # it is not the end


class Decoder:
    """Decodes one group of images after another, at most `largest` at once, whole or rescaled as `rescale` does."""

    def __init__(self, largest: int, gpu: int | None = None) -> None:
        self.largest, self.gpu = largest, gpu
        self._pipes: dict[bool, Any] = {}
        self._pixels: dict[bool, Any] = {}  # DALI's own, which the arrays that are handed out look into

    def __call__(self, encoded: list[Encoded], sizes: Ints | None = None) -> list[NDArray[np.uint8]]:
        """The images' RGB, (height, width, 3) each, rescaled to `sizes` (N, 2) of height and width if they are given.

        They are valid until the next call of the same kind. RuntimeError if DALI cannot decode one of them; the next
        call is as good as ever.
        """
        if not encoded:
            return []
        resized = sizes is not None
        pipe = self._pipes.get(resized) or self._build(resized)
        fed = (encoded,) if sizes is None else (encoded, *_sides(sizes[:, 0], sizes[:, 1]))
        try:
            for name, values in zip(("encoded", "height", "width"), fed, strict=False):
                pipe.feed_input(name, values)
            (pixels,) = pipe.run()
        except RuntimeError:
            self._pipes.pop(resized)  # DALI's pipelines do not survive a failure
            raise
        self._pixels[resized] = pixels = pixels.as_cpu()
        return [pixels.at(i) for i in range(len(encoded))]

    def _build(self, resized: bool) -> Any:
        from nvidia.dali import fn, pipeline_def

        @pipeline_def(  # type: ignore[untyped-decorator]
            batch_size=self.largest, num_threads=1, device_id=self.gpu, prefetch_queue_depth=1
        )
        def group() -> Any:
            picture = fn.decoders.image(fn.external_source(name="encoded", no_copy=True), **decoding(self.gpu))
            if not resized:
                return picture
            height, width = (fn.external_source(name=name) for name in ("height", "width"))
            return fn.resize(picture, resize_y=height, resize_x=width, **rescaling())

        pipe = self._pipes[resized] = group()
        pipe.build()
        return pipe


def _sides(heights: Ints, widths: Ints) -> tuple[list[Any], list[Any]]:
    return list(heights.astype(np.float32)), list(widths.astype(np.float32))


def decoding(gpu: int | None) -> dict[str, Any]:
    """DALI's arguments for decoding, wherever it is done: to RGB, and as stored, whatever EXIF says of turning."""
    from nvidia.dali import types

    same = {} if gpu is None else {"jpeg_fancy_upsampling": True}  # of halved colours, as on the CPU
    return {"device": "cpu" if gpu is None else "mixed", "output_type": types.RGB, "adjust_orientation": False, **same}


def rescaling() -> dict[str, Any]:
    """DALI's arguments for rescaling, the same in training and testing: bilinear with antialiasing, as PIL does it."""
    from nvidia.dali import types

    return {"interp_type": types.INTERP_LINEAR, "antialias": True, "subpixel_scale": False}


def _pipeline(samples: Iterator[tuple[Any, ...]], batch: int, threads: int, gpu: int | None) -> Any:
    from nvidia.dali import fn, pipeline_def

    @pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=batch, num_threads=threads, device_id=gpu, prefetch_queue_depth=2
    )
    def whole() -> Any:
        encoded, height, width = fn.external_source(ahead(samples, gpu), num_outputs=3, no_copy=True)
        picture = fn.decoders.image(encoded, **decoding(gpu))
        return fn.resize(picture, resize_y=height, resize_x=width, **rescaling())

    pipe = whole()
    pipe.build()
    return pipe
