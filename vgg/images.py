"""Decoding and rescaling of whole images by DALI or without it, for prepare and for testing (section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vgg import pillow
from vgg.draws import Ints, rescaled

if TYPE_CHECKING:  # prepare's processes avoid torch, whose import takes longer than a thousand images
    from torch import Tensor

T = TypeVar("T")
ByteArray = NDArray[np.uint8]
READERS = 8  # threads that read a GPU's images, because a disk answers several requests sooner than one by one
PIXELS = 2**26  # decoded at a time: 200 MB, so that large photographs fit into memory too


class Labelled(Protocol):
    """Images with labels and sizes in pixels, (images,) each."""

    @property
    def heights(self) -> Ints: ...
    @property
    def widths(self) -> Ints: ...
    @property
    def labels(self) -> Ints: ...


class Images(Labelled, Protocol):
    """A sequence of encoded images, (bytes,) uint8 each."""

    def __len__(self) -> int: ...
    def __getitem__(self, image: int, /) -> ByteArray: ...


class Rescaled(NamedTuple):
    """A batch of N whole images of one shape."""

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
    resize: str = "bilinear",
    decoder: str = "dali",
) -> Iterator[Rescaled]:
    """Yield all `images` rescaled to smallest side `scale` pixels, in batches of equal shape, never padded.

    `decoder` is dali, or pillow, which decodes on the CPU. `gpu` is the number of the GPU that decodes, or None;
    `resize` is a filter of `rescaling`. With several ranks, rank r gets the batches r, r + ranks, ... of those that a
    single process would get.
    """
    from torch.utils.dlpack import from_dlpack

    heights, widths = rescaled(images.heights, images.widths, scale)
    groups = list(_equal_shapes(heights, widths, images.heights * images.widths, batch))[rank::ranks]
    read = reader(images, gpu)
    samples = ((read(ids), heights[ids], widths[ids]) for ids in groups)
    if decoder == "dali":
        whole: Iterator[Any] = (pixels.as_tensor() for pixels in rescale(samples, batch, threads, gpu, resize))
    else:
        whole = pillow.rescaled_samples(samples, threads, resize)
    for ids, pixels in zip(groups, whole, strict=True):
        yield Rescaled(from_dlpack(pixels).permute(0, 3, 1, 2), ids)


def _equal_shapes(heights: Ints, widths: Ints, pixels: Ints, batch: int) -> Iterator[Ints]:
    """Yield the images' numbers grouped by shape, at most `batch` at a time, fewer if they have many `pixels`."""
    by_shape = np.lexsort((widths, heights))
    edges = np.flatnonzero(np.diff(heights[by_shape]) | np.diff(widths[by_shape])) + 1
    for group in np.split(by_shape, edges):
        first = 0
        while first < len(group):
            together = np.searchsorted(np.cumsum(pixels[group[first : first + batch]]), PIXELS, "right")
            last = first + max(int(together), 1)
            yield group[first:last]
            first = last


Sample = tuple[list[ByteArray], Ints, Ints]  # encoded images and the heights and widths (N,) to rescale them to


def rescale(
    samples: Iterable[Sample], batch: int, threads: int = 1, gpu: int | None = None, resize: str = "bilinear"
) -> Iterator[Any]:
    """Decode and rescale each sample by `rescaling`; yield DALI's list of uint8 RGB images (height, width, 3).

    An image that already has the requested size comes back bit for bit as decoded. A list is valid until the next one.
    DALI raises RuntimeError if an image cannot be decoded; bytes that are not an image at all may end the process.
    """
    inputs = ((encoded, *_sides(height, width)) for encoded, height, width in samples)
    pipe = _pipeline(inputs, batch, threads, gpu, resize)
    while True:
        try:
            (pixels,) = outputs_of(pipe, gpu)
        except StopIteration:
            return
        yield pixels


def outputs_of(pipe: Any, gpu: int | None) -> Any:
    """Return DALI's next outputs. Work that torch's stream does on them waits until they are ready."""
    if gpu is None:
        return pipe.run()
    import torch

    return pipe.run(torch.cuda.current_stream(gpu))


def reader(images: Images, gpu: int | None) -> Callable[[Ints], list[ByteArray]]:
    """Return a function that reads images by their numbers (N,), in this order; for a GPU, in several threads."""
    if gpu is None:
        return lambda ids: [images[i] for i in ids]
    pool = ThreadPoolExecutor(READERS)  # its threads end with the function

    def read(ids: Ints) -> list[ByteArray]:
        parts = pool.map(lambda part: [images[i] for i in part], np.array_split(ids, READERS))
        return [encoded for part in parts for encoded in part]

    return read


def ahead(samples: Iterator[T], gpu: int | None) -> Iterator[T]:
    """Yield the same samples; for a GPU, read each while DALI processes the one before, so that the GPU never waits."""
    if gpu is None:
        yield from samples
        return
    with ThreadPoolExecutor(1) as thread:
        end = object()
        following = thread.submit(next, samples, end)
        while (sample := following.result()) is not end:
            following = thread.submit(next, samples, end)
            yield sample  # type: ignore[misc]  # it is not `end`


class Decoder:
    """A decoder of groups of images, at most `largest` at once, whole or rescaled as by `rescale`.

    `decoder` is dali or pillow, which has no use for a GPU.
    """

    def __init__(self, largest: int, gpu: int | None = None, decoder: str = "dali") -> None:
        self.largest, self.gpu, self.decoder = largest, gpu, decoder
        self._pipes: dict[bool, Any] = {}
        self._pixels: dict[bool, Any] = {}  # DALI's buffers; the returned arrays are views of them

    def __call__(self, encoded: list[ByteArray], sizes: Ints | None = None) -> list[NDArray[np.uint8]]:
        """Return the images' RGB, (height, width, 3) each, rescaled to `sizes` (N, 2) of height and width if given.

        The arrays are valid until the next call of the same kind. Raise RuntimeError if an image cannot be decoded;
        later calls are not affected.
        """
        if not encoded:
            return []
        if self.decoder == "pillow":
            whole = [pillow.decoded(image) for image in encoded]
            return whole if sizes is None else [*map(pillow.resized, whole, *sizes.T.tolist())]
        resized = sizes is not None
        pipe = self._pipes.get(resized) or self._build(resized)
        inputs = (encoded,) if sizes is None else (encoded, *_sides(sizes[:, 0], sizes[:, 1]))
        try:
            for name, values in zip(("encoded", "height", "width"), inputs, strict=False):
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
            image = fn.decoders.image(fn.external_source(name="encoded", no_copy=True), **decoding(self.gpu))
            if not resized:
                return image
            height, width = (fn.external_source(name=name) for name in ("height", "width"))
            return fn.resize(image, resize_y=height, resize_x=width, **rescaling())

        pipe = self._pipes[resized] = group()
        pipe.build()
        return pipe


def _sides(heights: Ints, widths: Ints) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return heights.astype(np.float32), widths.astype(np.float32)


def decoding(gpu: int | None) -> dict[str, Any]:
    """Return DALI's arguments for all decoding: to RGB, and as stored, ignoring the EXIF orientation."""
    from nvidia.dali import types

    # One decoder for all images: the JPEG engines would take a share of each batch, so pixels would depend on its
    # place in the batch. Subsampled chroma is upsampled as on the CPU.
    same = {} if gpu is None else {"jpeg_fancy_upsampling": True, "hw_decoder_load": 0.0}
    return {"device": "cpu" if gpu is None else "mixed", "output_type": types.RGB, "adjust_orientation": False, **same}


def rescaling(resize: str = "bilinear") -> dict[str, Any]:
    """Return DALI's arguments for rescaling: bilinear or bicubic with antialiasing, as in PIL; bilinear in training."""
    from nvidia.dali import types

    kind = {"bilinear": types.INTERP_LINEAR, "bicubic": types.INTERP_CUBIC}[resize]
    return {"interp_type": kind, "antialias": True, "subpixel_scale": False}


def _pipeline(samples: Iterator[tuple[Any, ...]], batch: int, threads: int, gpu: int | None, resize: str) -> Any:
    from nvidia.dali import fn, pipeline_def

    @pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=batch, num_threads=threads, device_id=gpu, prefetch_queue_depth=2
    )
    def whole() -> Any:
        encoded, height, width = fn.external_source(ahead(samples, gpu), num_outputs=3, no_copy=True)
        image = fn.decoders.image(encoded, **decoding(gpu))
        return fn.resize(image, resize_y=height, resize_x=width, **rescaling(resize))

    pipe = whole()
    pipe.build()
    return pipe
