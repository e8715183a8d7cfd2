"""Memory that runs out while images are read stops preparation, and never makes another data set of the same images."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from pipeline.datasets.image_file import libjpegs_warning, look
from pipeline.datasets.sources import folder
from pipeline.datasets.sources.base import Encoded, Unreadable
from pipeline.datasets.sources.ilsvrc.boxes import AnnotatedBox, in_pixels
from pipeline.errors import Failure, NoMemory
from pipeline.system import memory
from tests.support.fake_source import FakeSource, Item, Stopping, Workplace, small_items
from tests.support.images import jpeg, photograph
from vgg.images import Decoder

Random = np.random.Generator
ENOMEM = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
# what is said of it: by Python, the system, Pillow, libjpeg, libavif, DALI and CUDA
SAID = [
    MemoryError(),
    ENOMEM,
    OSError("out of memory when reading image file"),
    ValueError("Insufficient memory (case 4)"),
    RuntimeError("Pixel allocation failed: Out of memory"),
    RuntimeError("Error in CPU operator `nvidia.dali.fn.decoders.image`,\nencountered:\n\nstd::bad_alloc"),
    RuntimeError("CUDA runtime API error cudaErrorMemoryAllocation (2): out of memory"),
    RuntimeError("CUDA allocation failed"),
]
# of a broken image, and as well where memory has run out
AMBIGUOUS = [
    OSError("broken data stream when reading image file"),
    OSError("could not create decoder object"),
    RuntimeError("Failed to decode sample #0 : "),
]
CASES = [(error, True) for error in SAID] + [(error, False) for error in AMBIGUOUS]
CROWDED = pytest.mark.parametrize(("error", "room"), CASES, ids=[repr(error)[:40] for error, _ in CASES])


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """An empty folder to work in."""
    return Workplace(tmp_path, monkeypatch)


@pytest.fixture
def fake(rng: Random) -> FakeSource:
    """A source of small photographs, of which the last of train is a PNG, which Pillow decodes."""
    train, val = small_items(rng, "train", 6), small_items(rng, "val", 4)
    buffer = io.BytesIO()
    Image.fromarray(photograph(rng, 70, 90)).save(buffer, "PNG")
    return FakeSource([*train, Item("a png", 0, buffer.getvalue())], val)


@pytest.fixture
def without_room(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Has the system refuse memory, or give as much as is asked for."""
    return lambda room: monkeypatch.setattr(memory, "_has_room", lambda _: room)


def raising(error: Exception) -> Callable[..., NoReturn]:
    """A function that raises `error`."""

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise error

    return fail


@CROWDED
def test_memory_that_runs_out_as_pillow_decodes_stops_preparation(
    error: Exception, room: bool, workplace: Workplace, fake: FakeSource, without_room: Any
) -> None:
    without_room(room)
    workplace.patch.setattr(PngImageFile, "load", raising(error))
    with pytest.raises(NoMemory, match=r"memory ran out while reading a png.*prepare\.processes"):
        workplace.prepare(fake)


@CROWDED
def test_memory_that_runs_out_as_dali_decodes_stops_preparation(
    error: Exception, room: bool, workplace: Workplace, fake: FakeSource, without_room: Any
) -> None:
    """Neither is an image converted by Pillow that DALI could not decode for want of memory."""
    without_room(room)
    workplace.patch.setattr(Decoder, "__call__", raising(RuntimeError(str(error) or "std::bad_alloc")))
    with pytest.raises(NoMemory, match=r"memory ran out while decoding val/000.*prepare\.processes"):
        workplace.prepare(fake)


@pytest.mark.parametrize("error", SAID[:2], ids=repr)
@pytest.mark.parametrize("processes", [1, 2])
def test_memory_that_runs_out_as_a_source_reads_stops_preparation(
    error: Exception, processes: int, workplace: Workplace, fake: FakeSource
) -> None:
    with pytest.raises(NoMemory, match=r"memory ran out while reading .*prepare\.processes"):
        workplace.prepare(Stopping(fake, 2, error), prepare={"processes": processes})


@pytest.mark.parametrize("error", AMBIGUOUS, ids=repr)
def test_where_there_is_room_a_broken_image_is_one(
    error: Exception, workplace: Workplace, fake: FakeSource, without_room: Any
) -> None:
    without_room(True)
    workplace.patch.setattr(PngImageFile, "load", raising(error))
    assert workplace.prepare(fake).rows["train", "a png"]["skipped"] == f"cannot be decoded: {error}"


# what raises it, and what of a good JPEG is found out by that
FOUND: dict[str, tuple[object, str, Callable[[bytes], object]]] = {
    "how it is turned": (Image.Image, "getexif", lambda encoded: look(encoded, 10)),
    "its boxes": (Image, "open", lambda encoded: in_pixels((AnnotatedBox(0, 0, 1, 1),), encoded)),
    "libjpeg's warnings": (simplejpeg, "decode_jpeg", libjpegs_warning),
}


@CROWDED
@pytest.mark.parametrize("what", FOUND)
def test_memory_that_runs_out_is_not_taken_for_nothing_found(
    what: str, error: Exception, room: bool, rng: Random, without_room: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = jpeg(photograph(rng, 60, 80), 90)
    place, name, find = FOUND[what]
    if what == "libjpeg's warnings":  # simplejpeg's errors are of one kind
        error = ValueError(str(error) or "Insufficient memory (case 4)")
    without_room(room)
    monkeypatch.setattr(place, name, raising(error))
    with pytest.raises(MemoryError):
        find(encoded)


def test_a_file_that_cannot_be_read_now_does_not_fall_to_another_split(
    tmp_path: Path, rng: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "train" / name / f"{number}.jpg").write_bytes(rng.bytes(100))
    source = folder.ImageFolder(tmp_path, 0.5, None)
    assert source.listing().entries["val"]
    real = io.open

    def failing(file: Any, *words: Any, **more: Any) -> Any:
        if str(file).endswith(".jpg"):
            raise ENOMEM
        return real(file, *words, **more)

    monkeypatch.setattr(io, "open", failing)
    with pytest.raises(Failure, match="could not be read: Cannot allocate memory"):
        source.listing()


# Really without memory


DECODE = """
import os, resource, sys
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from pipeline.datasets.image_file import look
from pipeline.datasets.sources.base import Unreadable
data = open(sys.argv[1], "rb").read()
look(open(sys.argv[2], "rb").read(), 10, distrust=True)
for number in range(24):
    if not (child := os.fork()):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        used = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        limit = used + int(1.5**number * 2**14)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            look(data, 10, distrust=True)
        except MemoryError:
            os._exit(2)
        except Unreadable as reason:
            os.write(1, str(reason).encode())
            os._exit(3)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {}),
    "progressive jpeg": ("JPEG", {"progressive": True}),
    "png": ("PNG", {"compress_level": 1}),
    "webp": ("WEBP", {"method": 0}),
    "jpeg2000": ("JPEG2000", {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_image_is_broken_because_memory_is_short(kind: str, rng: Random, tmp_path: Path) -> None:
    name, options = KINDS[kind]
    for size in (30, 1500):
        Image.fromarray(photograph(rng, 30, 40)).resize((size, size)).save(tmp_path / str(size), name, **options)
    done = subprocess.run(
        [sys.executable, "-c", DECODE, str(tmp_path / "1500"), str(tmp_path / "30")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ends = done.stdout.split()
    assert len(ends) == 24 and set(ends) <= {"0", "2"}, done.stdout
    assert "2" in ends


def test_a_broken_image_is_one(rng: Random) -> None:
    encoded = jpeg(photograph(rng, 60, 80), 90)
    with pytest.raises(Unreadable, match="cannot be decoded"):
        look(encoded[: len(encoded) // 2], 10, distrust=True)
    assert look(encoded, 10, distrust=True).encoded == Encoded(encoded).data


REPEATED = """
import resource, sys
import numpy as np
from pipeline.system.memory import keep_freed_memory

def step():
    for size in (2**20, 2**24, 2**26):  # bytes: below and above what glibc maps by itself
        np.empty(size, np.uint8).fill(1)

if sys.argv[1] == "kept":
    keep_freed_memory()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_memory_that_is_freed_and_allocated_again_is_kept() -> None:
    """Else the kernel clears each page again: 81 MiB have 20,736 pages of 4 KiB, or 40 of 2 MiB."""
    counts = {}
    for word in ("usual", "kept"):
        words = [sys.executable, "-c", REPEATED, word]
        counts[word] = int(subprocess.run(words, check=True, capture_output=True, text=True, env=os.environ).stdout)
    assert counts["kept"] < min(20, counts["usual"] / 2), counts


def test_the_tightest_limit_of_a_group_or_of_one_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").write_text("0::/a/b\n")
    monkeypatch.setattr(memory, "OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    assert memory.left_in_group() == float("inf")
    (tmp_path / "a/b").mkdir(parents=True)
    for name, limit in (("a", "1000"), ("a/b", "max")):
        (tmp_path / name / "memory.max").write_text(f"{limit}\n")
        (tmp_path / name / "memory.current").write_text("300\n")
        (tmp_path / name / "memory.stat").write_text("active_file 3\ninactive_file 50\n")
    assert memory.left_in_group() == 1000 - 300 + 50, "what the kernel gives back at once counts as free"
    assert memory.usable() == 750
