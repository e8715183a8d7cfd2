"""How far the GPU decoder's pixels are from the CPU's: images of several kinds, whole and by region."""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpu.findings import Findings
from gpu.machine import Size

GREY_LEVELS = {"mean": 2.0, "99.9 %": 24.0}  # decoders differ where colours meet; another crop would differ by tens
NEVER_STORED = {"CMYK"}  # prepare stores them as PNG, so what a GPU makes of them is told, not checked
LOADS = (None, 0.0, 0.65, 1.0)  # the JPEG engines' share of a batch; None: as the project sets it
SIDES = 375, 500
Pixels = NDArray[np.uint8]
Encoded = dict[str, list[bytes]]  # images by kind
Decoded = dict[str, list[Pixels] | str]  # their pixels by kind, or why they could not be decoded
Decode = Callable[[Encoded, Size, int | None], Decoded]


def check_pixels(size: Size, findings: Findings) -> None:
    """Compare the decoders in a process of its own, which DALI may end; with --smoke two CPU threads with one."""
    where = "two CPU threads" if size.smoke else "the GPU"
    findings.say(f"Pixels decoded by {where} against one CPU thread's, in grey levels; `hw_decoder_load` is the share "
                 "of a batch that the JPEG engines get.")  # fmt: skip
    table = findings.table("decoded", "images", "hw_decoder_load", "mean", "99.9 % quantile", "largest")
    orders = list[tuple[str, ...]]()
    try:
        for how, kind, load, *values in told(compare, size):
            shown, check = "as set" if load is None else f"{load:g}", f"{kind}, decoded {how} by {where}"
            if kind == "order":
                orders.append((how, shown, *values))
            elif len(values) == 1:
                table.row(how, kind, shown, values[0], "", "")
                if load is None and kind not in NEVER_STORED:
                    findings.check(check, False, values[0])
            else:
                levels = dict(zip(("mean", "99.9 %", "largest"), values, strict=True))
                table.row(how, kind, shown, f"{levels['mean']:.3f}", f"{levels['99.9 %']}", f"{levels['largest']}")
                findings.figure(f"grey levels on average: {how}, {kind}, {shown}", levels["mean"])
                if load is None and kind not in NEVER_STORED:
                    detail = ", ".join(f"{what} {level:.3g}" for what, level in levels.items())
                    findings.check(check, all(levels[what] <= limit for what, limit in GREY_LEVELS.items()), detail)
    except ChildProcessError as error:
        findings.check("the decoders' comparison ends", False, str(error))
    table = findings.table("4:2:0 decoded", "hw_decoder_load", "differ when decoded again", "differ in reversed order")
    for row in orders:
        table.row(*row)
    table = findings.table("a truncated JPEG", "outcome")
    for gpu in dict.fromkeys((None, size.device.index)):
        try:
            outcome = "; ".join(told(truncated, size, gpu))
        except ChildProcessError as error:
            outcome = str(error)
        table.row("on the CPU" if gpu is None else "on the GPU", outcome)


def told(work: Callable[..., None], *arguments: Any) -> Iterator[Any]:
    """Yield what `work` sends through its first argument, from a new process, until it ends.

    Raise ChildProcessError if it does not end well.
    """
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(writer, *arguments))
    process.start()
    writer.close()
    while True:
        try:
            yield reader.recv()
        except EOFError:
            break
    process.join()
    if process.exitcode:
        raise ChildProcessError(f"the process ended with {process.exitcode}")


def compare(sent: Any, size: Size) -> None:
    """Send the differences of each way of decoding, kind of image and load, and those that an order makes."""
    count = 4 if size.smoke else 16
    encoded, gpu = kinds(count), size.device.index
    again = {"4:2:0": encoded["4:2:0"], "again": encoded["4:2:0"], "reversed": encoded["4:2:0"][::-1]}
    ways: dict[str, Decode] = {"whole": whole, "by region": regions}
    for how, decode in ways.items():
        usual = by_kind(decode, encoded, size, None)
        for load in LOADS if gpu is not None else (None,):
            with decoder_load(load):
                found = by_kind(decode, encoded, size, gpu)
                for kind in encoded:
                    sent.send((how, kind, load, *difference(found[kind], usual[kind])))
                one, same, turned = in_orders(how, again, size, gpu)
                texts = [f"{sum((a != b).any() for a, b in zip(one, other, strict=True))} of {len(one)}"
                         for other in (same, turned)]  # fmt: skip
                sent.send((how, "order", load, *texts))


def truncated(sent: Any, size: Size, gpu: int | None) -> None:
    """Send what becomes of two thirds of a JPEG."""
    (one,) = kinds(1)["4:2:0"]
    try:
        whole({"truncated": [one[: 2 * len(one) // 3]]}, size, gpu)
        sent.send("decoded without an error")
    except RuntimeError as error:
        sent.send(reason(error))


def kinds(count: int) -> Encoded:
    """Return `count` photograph-like images in each of several encodings."""
    from tests.support.images import photograph

    random = np.random.default_rng(0)
    made = [Image.fromarray(photograph(random, *SIDES)) for _ in range(count)]
    rotated = Image.Exif()
    rotated[0x0112] = 6  # a quarter turn
    return {
        "4:2:0": [saved(one, subsampling=2) for one in made],
        "4:2:2": [saved(one, subsampling=1) for one in made],
        "4:4:4": [saved(one, subsampling=0) for one in made],
        "grey": [saved(one.convert("L")) for one in made],
        "progressive": [saved(one, progressive=True) for one in made],
        "CMYK": [saved(one.convert("CMYK")) for one in made],
        "EXIF rotation": [saved(one, exif=rotated) for one in made],
        "odd sides": [saved(one.crop((0, 0, 499, 333))) for one in made],
        "8 x 8": [saved(one.resize((8, 8))) for one in made],
        "PNG": [saved(one, "PNG") for one in made],
    }


def saved(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """Return an encoded image; JPEGs have Pillow's usual 4:2:0 and a quality of 92."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 92, **options} if kind == "JPEG" else options))
    return buffer.getvalue()


@contextmanager
def decoder_load(load: float | None) -> Iterator[None]:
    """Have DALI's decoders give this share of each batch to the JPEG engines; None: as the project has it."""
    from vgg import images, stream

    usual = images.decoding

    def decoding(gpu: int | None) -> dict[str, Any]:
        return usual(gpu) if gpu is None or load is None else {**usual(gpu), "hw_decoder_load": load}

    images.decoding = stream.decoding = decoding
    try:
        yield
    finally:
        images.decoding = stream.decoding = usual


def by_kind(decode: Decode, encoded: Encoded, size: Size, gpu: int | None) -> Decoded:
    """Return all images decoded together; if that fails, kind by kind, with the reason where one fails."""
    try:
        return decode(encoded, size, gpu)
    except RuntimeError:
        found: Decoded = {}
        for kind, images in encoded.items():
            try:
                found |= decode({kind: images}, size, gpu)
            except RuntimeError as error:
                found[kind] = reason(error)
        return found


def whole(encoded: Encoded, size: Size, gpu: int | None) -> Decoded:
    """Return whole images at their own size, by vgg.images.rescale, a batch of each kind."""
    from tests.support.images import Pictures
    from vgg.images import rescale

    sets = [Pictures(images, [0] * len(images)) for images in encoded.values()]
    samples = [(one.encoded, one.heights, one.widths) for one in sets]
    batches = rescale(samples, max(map(len, sets)), threads(gpu, size), gpu)
    return {
        kind: [np.array(pixels.at(i)) for i in range(len(images))]
        for (kind, images), pixels in zip(encoded.items(), map(on_cpu, batches, repeat(gpu)), strict=True)
    }


def on_cpu(pixels: Any, gpu: int | None) -> Any:
    """Return DALI's list of pixels on the CPU."""
    if gpu is None:
        return pixels
    import torch

    torch.cuda.synchronize(gpu)
    return pixels.as_cpu()


def regions(encoded: Encoded, size: Size, gpu: int | None, turned: bool = False) -> Decoded:
    """Return random crops, by vgg.stream.training_stream in one batch of all kinds, if asked in the opposite order."""
    from tests.support.images import Pictures
    from vgg import stream

    everything = [one for images in encoded.values() for one in images]
    scales = (size.crop * 8 // 7, size.crop * 16 // 7)  # 256 and 512 for a crop of 224
    plan, usual = stream.StreamConfig(0, len(everything), size.crop, scales), stream.order
    images = Pictures(everything, [0] * len(everything))
    stream.order = lambda words: usual(words)[::-1].copy() if turned else usual(words)
    try:
        batch = next(stream.training_stream(images, plan, threads=threads(gpu, size), gpu=gpu))
        crops = batch.pixels.permute(0, 2, 3, 1).cpu().numpy().copy()[np.argsort(batch.ids)]
    finally:
        stream.order = usual
    ends = np.cumsum([len(images) for images in encoded.values()])[:-1]
    return {kind: list(part) for kind, part in zip(encoded, np.split(crops, ends), strict=True)}


def threads(gpu: int | None, size: Size) -> int:
    """Return the decoder's CPU threads: one for the truth, and two where a smoke run has no GPU to compare with it."""
    return 2 if gpu is not None or size.smoke else 1


def in_orders(how: str, again: Encoded, size: Size, gpu: int | None) -> list[list[Pixels]]:
    """Return the same images decoded once, once more, and in reversed order, each time in their own order."""
    if how == "whole":
        one, same, turned = (pixels_of(whole(again, size, gpu)[kind]) for kind in again)
        return [one, same, turned[::-1]]
    alone = {"4:2:0": again["4:2:0"]}
    return [pixels_of(regions(alone, size, gpu, turned)["4:2:0"]) for turned in (False, False, True)]


def pixels_of(found: list[Pixels] | str) -> list[Pixels]:
    """Return the pixels of images that were decoded."""
    assert not isinstance(found, str), found
    return found


def difference(found: Sequence[Pixels] | str, usual: Sequence[Pixels] | str) -> tuple[Any, ...]:
    """Return mean, 99.9 % quantile and largest of the differences in grey levels, or why there are none."""
    for one in (found, usual):
        if isinstance(one, str):
            return (one,)
    counts = np.zeros(256, np.int64)
    for one, other in zip(found, usual, strict=True):
        if one.shape != other.shape:
            return (f"the shape is {one.shape}, not {other.shape}",)
        counts += np.bincount(np.abs(one.astype(np.int16) - other.astype(np.int16)).ravel(), minlength=256)
    levels = np.arange(256)
    quantile = int(np.searchsorted(np.cumsum(counts), 0.999 * counts.sum()))
    return float((levels * counts).sum() / counts.sum()), quantile, int(np.flatnonzero(counts)[-1])


def reason(error: Exception) -> str:
    """Return what DALI encountered, or the first line of its message."""
    lines = [line.strip() for line in str(error).partition("encountered:")[2].splitlines()] or str(error).splitlines()
    return next((line for line in lines if line), type(error).__name__)[:150].replace("|", "/")
