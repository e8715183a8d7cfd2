"""Random mixtures of what people's folders hold become a right data set, or one clear message."""

from __future__ import annotations

import io
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.dataset_key import shards_key
from pipeline.datasets.prepare import SURE, prepare
from pipeline.datasets.shards import Shards
from pipeline.datasets.sources.base import SPLITS
from pipeline.datasets.sources.folder import NESTED, is_hidden
from pipeline.errors import Failure
from pipeline.experiment.paths import shards_root
from tests.support.cases import case
from tests.support.images import repository_params

Random = np.random.Generator
CLASSES = ("cat", "d\u00e9j\u00e0 vu", "dog")
COLOURS = ((220, 40, 40), (40, 200, 60), (50, 60, 220))
EACH = {"train": 20, "val": 8}


def drawn(rng: Random, label: int, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    """An image in its class's colour."""
    height, width = rng.integers(24, 60, 2).tolist()
    pixels = np.clip(np.array(COLOURS[label]) + rng.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def put(path: Path, data: bytes) -> Path:
    """A file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def some(root: Path, rng: Random) -> list[Path]:
    """A few to all of the images, or all of a class's."""
    files = sorted(path for path in root.rglob("*.jpg") if path.is_file() and not path.is_symlink())
    if not files:
        return []
    if rng.integers(2):
        folder = files[int(rng.integers(len(files)))].parent
        return [path for path in files if path.parent == folder]
    return [files[i] for i in rng.permutation(len(files))[: int(rng.integers(1, 16))]]


def sidecars(root: Path, rng: Random) -> None:
    for path in some(root, rng):
        put(path.with_name(path.name + str(rng.choice([".json", ".xmp", ".aae", ".txt", ".xml"]))), b"{}")


def pointers(root: Path, rng: Random) -> None:
    for path in some(root, rng):
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")


def cut(root: Path, rng: Random) -> None:
    for path in some(root, rng):
        path.write_bytes(path.read_bytes()[: int(rng.integers(path.stat().st_size))])


def raw(root: Path, rng: Random) -> None:
    for path in some(root, rng):
        put(path.with_suffix(".RAF"), b"FUJIFILMCCD-RAW 0201" + bytes(500))


def nested(root: Path, rng: Random) -> None:
    for path in some(root, rng):
        (path.parent / "more").mkdir(exist_ok=True)
        path.rename(path.parent / "more" / path.name)


def left_behind(root: Path, rng: Random) -> None:
    for path in some(root, rng):
        put(path.parent / str(rng.choice(["@eaDir", ".git", "__MACOSX", "lost+found"])) / path.name, path.read_bytes())


def links(root: Path, rng: Random) -> None:
    for path in some(root, rng):
        target = root.parent / f"elsewhere-{path.parent.parent.name}-{path.parent.name}-{path.name}"
        path.rename(target)
        path.symlink_to(target)
        if rng.integers(2):
            target.unlink()


def unsorted(root: Path, rng: Random) -> None:
    for path in some(root, rng):
        path.rename(path.parent.parent / f"{path.parent.name} {path.name}")


def other_kinds(root: Path, rng: Random) -> None:
    for path in some(root, rng):
        kind, mode = [("PNG", "RGBA"), ("TIFF", "RGB"), ("WEBP", "RGB"), ("JPEG", "CMYK"), ("BMP", "RGB")][
            int(rng.integers(5))
        ]
        path.write_bytes(drawn(rng, label_of(path), kind, mode))


def label_of(path: Path) -> int:
    """The class of an image's folder, or any for one that lies elsewhere."""
    return next((i for i, name in enumerate(CLASSES) if normal(name) == normal(path.parent.name)), 0)


def normal(name: str) -> str:
    """A class's name without its spelling."""
    return unicodedata.normalize("NFC", name).casefold().strip()


def named_otherwise(root: Path, rng: Random) -> None:
    for folder in [root / "train", root / "val"]:
        if folder.is_dir() and rng.integers(2):
            other = "Training" if folder.name == "train" else str(rng.choice(["valid", "dev", "test", "other"]))
            folder.rename(root / other)


def spelt_otherwise(root: Path, rng: Random) -> None:
    for place in (root / "val").glob("*"):
        if place.is_dir() and rng.integers(2):
            place.rename(place.with_name(unicodedata.normalize("NFD", place.name).title()))


def one_split(root: Path, rng: Random) -> None:
    (root / "val").is_dir() and (root / "val").rename(root.parent / "val set aside")


def a_class_of_val(root: Path, rng: Random) -> None:
    for number in range(int(rng.integers(1, 20))):
        put(root / "val" / "wolf" / f"{number}.jpg", drawn(rng, 0))


def empty(root: Path, rng: Random) -> None:
    (root / "train" / "empty").mkdir(parents=True, exist_ok=True)


def copies(root: Path, rng: Random) -> None:
    for path in some(root, rng):
        put(path.with_name(f"{path.stem} (1).jpg"), path.read_bytes())


KINDS: tuple[Callable[[Path, Random], None], ...] = (
    sidecars, pointers, cut, raw, nested, left_behind, links, unsorted, other_kinds, named_otherwise, spelt_otherwise,
    one_split, a_class_of_val, empty, copies,
)  # fmt: skip


@pytest.mark.parametrize("number", range(16))
def test_any_mixture_is_right_or_said(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: Random
) -> None:
    """What is kept has its folder's class and that class's colour, and no more is lost than is allowed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VGG_REPRO_SHARDS", str(tmp_path / "shards"))
    root = tmp_path / "images"
    for split, images in EACH.items():
        for label, name in enumerate(CLASSES):
            for place in range(images):
                put(root / split / name / f"{place}.jpg", drawn(rng, label))
    kinds = [KINDS[i] for i in rng.permutation(len(KINDS))[: int(rng.integers(1, 4))]]
    for kind in kinds:
        kind(root, rng)
    params = repository_params(
        tmp_path,
        data={"source": "imagefolder", "path": str(root)},
        prepare={"processes": 1, "device": "cpu", "max_unreadable": 0.01},
    )
    with case([kind.__name__ for kind in kinds]):
        try:
            facts = prepare(params)
        except Failure as failure:
            message = str(failure)
            assert message.isprintable() and len(message) < 1000, message
            return
        kept = check_classes(shards_root() / shards_key(params), facts.classes)
        lost = good_images(root) - sum(sum(counts.values()) for counts in kept.values())
        assert lost <= SURE + NESTED, f"{lost} images are lost in silence"


def good_images(root: Path) -> int:
    """The number of images in folders of splits, without what systems leave behind."""
    count = 0
    for path in (path for path in root.rglob("*") if path.is_file()):
        split, *folders = path.relative_to(root).parts
        if split != "other" and not any(map(is_hidden, folders)):
            try:
                with Image.open(path) as image:
                    image.load()
                count += 1
            except (OSError, ValueError):
                continue
    return count


def check_classes(folder: Path, classes: list[str]) -> dict[str, Counter[str]]:
    """Check that each image has its folder's class and that class's colour. Return their numbers by class."""
    kept = {split: Counter[str]() for split in SPLITS}
    for split in SPLITS:
        shards = Shards(folder, split)
        for place, id in enumerate(shards.ids):
            name = classes[int(shards.labels[place])]
            assert normal(id.split("/")[1]) == normal(name)
            with Image.open(io.BytesIO(bytes(shards[place]))) as image:
                colour = np.asarray(image.convert("RGB")).reshape(-1, 3).mean(0)
            if name in CLASSES:
                assert np.abs(colour - COLOURS[CLASSES.index(name)]).max() < 60, (id, colour)
            kept[split][name] += 1
    return kept
