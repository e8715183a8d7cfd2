"""A folder of images that nobody tidied: each thing in it is handled, or skipped by name with its reason."""

from __future__ import annotations

import builtins
import csv
import ctypes
import hashlib
import io
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image, ImageOps
from torchvision import datasets

from pipeline.datasets import sources
from pipeline.datasets.dataset_key import shards_key
from pipeline.datasets.facts import Facts
from pipeline.datasets.prepare import prepare
from pipeline.datasets.shards import Shards
from pipeline.datasets.sources.base import SPLITS, Entry, Listing, Split, Unreadable
from pipeline.datasets.sources.folder import ORIGINAL, ImageFolder, fingerprint, printable
from pipeline.errors import Failure
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, shards_root
from tests.support.cases import case
from tests.support.images import USUAL, Pixels, check_grey_levels, decoded, jpeg, photograph, repository_params, rim
from vgg.draws import draw, epoch_words
from vgg.stream import StreamConfig, training_stream

Random = np.random.Generator
HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
CLASSES = ("a dog", "chat d’été", "猫")  # in the order of their names
ODD_NAMES = ("with two  spaces.jpg", "Ünïcödé é.jpg", "e\u0301.jpg", "写真 №1.jpg", "'quoted\", comma.jpg",
             "-rf.jpg", "new\nline.jpg", "tab\tand\x1b[31m.jpg", "right\u202eto-left.jpg", "*.jpg",
             "x" * 240 + ".jpg")  # fmt: skip
NO_UTF8 = b"caf\xe9 \xff.jpg"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in, shards included."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VGG_REPRO_SHARDS", str(tmp_path / "shards"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the images come to lie."""
    return tmp_path / "images of mine"


@contextmanager
def root_has_no_privilege() -> Iterator[None]:
    """Permissions hold for root too: this thread, and those it starts, do without the capabilities to ignore them."""
    libc = ctypes.CDLL(None, use_errno=True)
    head, before = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(head, before):
        pytest.skip("no capabilities here")
    fewer = (ctypes.c_uint32 * 6)(*before)
    fewer[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH among the effective ones
    assert libc.capset(head, fewer) == 0
    try:
        yield
    finally:
        assert libc.capset(head, before) == 0


def put(path: Path, data: bytes) -> Path:
    """A file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def picture(random: Random) -> Image.Image:
    """A small photograph, larger than it is high or the other way round."""
    height, width = random.integers(24, 60, 2).tolist()
    return Image.fromarray(photograph(random, height, width + (height == width)))


def saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def some_jpeg(random: Random) -> bytes:
    return saved(picture(random), "JPEG")


def tidy(root: Path, random: Random, names: tuple[str, ...] = ("a", "b"), each: int = 3, val: bool = True) -> Path:
    """Images in their classes' folders."""
    for split in SPLITS if val else ("train",):
        for name in names:
            for number in range(each):
                put(root / split / name / f"{number}.jpg", some_jpeg(random))
    return root


def params_for(tmp_path: Path, root: Path, data: dict[str, object] | None = None, **changes: object) -> Params:
    """The repository's parameters for the images below `root`."""
    chosen = {"source": "imagefolder", "path": str(root), **(data or {})}
    how = {"processes": 1, "device": "cpu", "max_unreadable": 1.0, **changes}
    return repository_params(tmp_path, data=chosen, prepare=how)


def manifest() -> list[dict[str, str]]:
    with CLASSIFICATION.manifest.open(newline="") as file:
        return list(csv.DictReader(file))


def shards_of(params: Params, split: str) -> Shards:
    return Shards(shards_root() / shards_key(params), split)


def listed(root: Path, val_share: float = 0.2, limit: int | None = None) -> Listing:
    return ImageFolder(root, val_share, limit).listing()


# Everything at once


@dataclass
class Untidy:
    """An untidy folder, and what is to come of it."""

    root: Path
    kept: dict[tuple[str, str], bytes] = field(default_factory=dict)  # split and id to the bytes in the source
    skipped: dict[tuple[str, str], str] = field(default_factory=dict)  # to the reason, or its beginning

    def keep(self, split: str, label: str, name: str, data: bytes) -> Path:
        """Put down an image that is used."""
        self.kept[split, printable(f"{split}/{label}/{name}")] = data
        return put(self.root / split / label / name, data)

    def leave(self, split: str, name: str, reason: str, data: bytes | None = None) -> Path:
        """Put down something that is skipped; without data, only say so."""
        self.skipped[split, printable(f"{split}/{name}")] = reason
        path = self.root / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path if data is None else put(path, data)


def good_ones(untidy: Untidy, random: Random) -> None:
    """Odd names, endings that lie, other kinds, turned ones, links within."""
    dog, chat, cat = CLASSES
    for split in SPLITS:
        for label in CLASSES:
            for number in range(4):
                untidy.keep(split, label, f"{number}.jpg", some_jpeg(random))
    for name in (*ODD_NAMES, os.fsdecode(NO_UTF8)):
        untidy.keep("train", dog, name, some_jpeg(random))
    image = picture(random)
    untidy.keep("train", cat, "a png.jpg", saved(picture(random), "PNG"))
    untidy.keep("train", cat, "a jpeg.png", some_jpeg(random))
    untidy.keep("train", cat, "a jpeg.txt", some_jpeg(random))
    untidy.keep("train", cat, "no ending", some_jpeg(random))
    untidy.keep("train", cat, "LOUD.JPEG", some_jpeg(random))
    untidy.keep("train", cat, "a gif.gif", saved(image.quantize(9), "GIF"))
    untidy.keep("val", cat, "a gif.jpg", saved(image.quantize(7), "GIF"))
    untidy.keep("train", cat, "clear.png", saved(image.convert("RGBA").rotate(30), "PNG"))
    untidy.keep("train", cat, "scan.tif", saved(picture(random), "TIFF"))
    exif = Image.Exif()
    exif[0x0112] = 6
    untidy.keep("train", chat, "turned.jpg", saved(picture(random), "JPEG", exif=exif))
    untidy.keep("val", chat, "turned.jpg", saved(picture(random), "JPEG", exif=exif))
    untidy.keep("train", chat, "lossless, with EXIF.webp", saved(picture(random), "WEBP", lossless=True, exif=exif))
    aside = put(untidy.root / "aside" / "one.jpg", some_jpeg(random))
    (untidy.root / "train" / chat / "link.jpg").symlink_to(aside)
    (untidy.root / "train" / chat / "relative link.jpg").symlink_to("../../aside/one.jpg")
    for name in ("link.jpg", "relative link.jpg"):
        untidy.kept["train", f"train/{chat}/{name}"] = aside.read_bytes()


def bad_ones(untidy: Untidy, random: Random, elsewhere: Path) -> None:
    """All that is no image, or leads away."""
    dog, chat, cat = CLASSES
    untidy.leave("train", f"{dog}/nothing.jpg", "an empty file", b"")
    untidy.leave("val", f"{dog}/nothing.jpg", "an empty file", b"")
    untidy.leave("train", f"{dog}/zeros.jpg", "only zeros", bytes(999))
    untidy.leave("train", f"{dog}/cut.jpg", "cannot be decoded: ", some_jpeg(random)[:-200])
    untidy.leave("val", f"{dog}/cut.jpg", "cannot be decoded: ", some_jpeg(random)[:-200])
    untidy.leave("train", f"{dog}/cut.png", "cannot be decoded: ", saved(picture(random), "PNG")[:-200])
    untidy.leave("train", f"{dog}/page.jpg", "a web page or other markup, not an image", HTML)
    untidy.leave("train", f"{dog}/notes.txt", "not an image", b"remember the milk")
    untidy.leave("train", f"{dog}/line.png", "one pixel high", saved(Image.new("RGB", (30, 1)), "PNG"))
    untidy.leave("train", f"{dog}/band.png", "longer than 32 times", saved(Image.new("RGB", (99, 3)), "PNG"))
    moving = saved(picture(random), "GIF", save_all=True, append_images=[picture(random)])
    untidy.leave("train", f"{dog}/moving.gif", "more than one image: a GIF with 2", moving)
    untidy.leave("train", f"{cat}/folder.jpg", "a folder, not an image").mkdir()
    put(untidy.root / "train" / cat / "folder.jpg" / "inside.jpg", some_jpeg(random))
    untidy.leave("train", f"{chat}/dangling.jpg", "a broken link").symlink_to("nothing here")
    untidy.leave("train", f"{chat}/loop.jpg", "a broken link").symlink_to("loop.jpg")
    outside = put(elsewhere / "secret" / "0.jpg", some_jpeg(random))
    away = "a link to a place outside the data set's folder"
    untidy.leave("train", f"{chat}/away.jpg", away).symlink_to(outside)
    untidy.leave("val", f"{chat}/away.jpg", away).symlink_to(outside)
    untidy.leave("train", "class elsewhere", away).symlink_to(outside.parent)
    untidy.leave("train", f"{chat}/folder elsewhere", away).symlink_to(outside.parent)
    os.mkfifo(untidy.leave("train", f"{chat}/pipe.jpg", "not a regular file"))
    os.mkfifo(untidy.leave("val", f"{chat}/pipe.jpg", "not a regular file"))
    for name in (".DS_Store", "._0.jpg", "Thumbs.db", "desktop.ini", ".hidden.jpg"):
        untidy.leave("train", f"{chat}/{name}", "hidden", b"\0\5\x16\7")
    for name in (".DS_Store", "Thumbs.db"):
        untidy.leave("train", name, "hidden", b"\0\0\0\1Bud1")
    untidy.leave("train", "__MACOSX", "hidden").mkdir()
    put(untidy.root / "train" / "__MACOSX" / "._0.jpg", some_jpeg(random))
    untidy.leave("train", ".git", "hidden").mkdir()
    untidy.leave("train", "empty", "an empty folder").mkdir()
    untidy.leave("train", "README.txt", "a file outside the class folders", b"hello")
    untidy.leave("train", "loose.jpg", "a file outside the class folders", some_jpeg(random))
    untidy.leave("val", "loose.jpg", "a file outside the class folders", some_jpeg(random))
    untidy.leave("val", "wolf/0.jpg", "its class is not in train/: wolf", some_jpeg(random))
    untidy.leave("val", "empty/0.jpg", "its class is not in train/: empty", some_jpeg(random))
    twice = untidy.kept["val", f"val/{cat}/0.jpg"]
    untidy.leave("train", f"{cat}/of val.jpg", "the same image is also in val", twice)
    untidy.leave("train", f"{dog}/of val, with another label.jpg", "the same image is also in val", twice)


@pytest.fixture
def untidy(root: Path, tmp_path: Path, rng: Random) -> Untidy:
    """Everything at once."""
    made = Untidy(root)
    good_ones(made, rng)
    bad_ones(made, rng, tmp_path / "elsewhere")
    return made


def check_untidy(untidy: Untidy, facts: Facts, params: Params) -> None:
    """All is in the manifest once, as it should be, and what is kept can be read back."""
    rows = {(row["split"], row["id"]): row for row in manifest()}
    assert len(rows) == len(manifest()), "each thing has a line of its own"
    assert {at for at, row in rows.items() if not row["skipped"]} == set(untidy.kept)
    assert {at for at, row in rows.items() if row["skipped"]} == set(untidy.skipped)
    for at, reason in untidy.skipped.items():
        assert rows[at]["skipped"].startswith(reason), at
    for at, data in untidy.kept.items():
        assert rows[at]["sha256"] == hashlib.sha256(data).hexdigest(), at
        assert rows[at]["class"] == str(CLASSES.index(rows[at]["id"].split("/")[1])), at
    assert facts.classes == list(CLASSES)
    for split in SPLITS:
        shards = shards_of(params, split)
        assert [(split, id) for id in shards.ids] == [at for at in rows if at[0] == split and at in untidy.kept]
        for number, id in enumerate(shards.ids):
            check_stored(untidy.kept[split, id], shards[number].tobytes(), id)
    assert (facts.train, facts.val) == tuple(sum(at[0] == split for at in untidy.kept) for split in SPLITS)


def check_stored(source: bytes, stored: bytes, id: str) -> None:
    """The image is stored upright; with its bytes, or with its pixels, or as a JPEG if it was turned."""
    with Image.open(io.BytesIO(source)) as opened:
        turned = opened.getexif().get(0x0112, 1) != 1
        upright = ImageOps.exif_transpose(opened)
        layer = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
        wanted = np.asarray(layer)[:, :, :3]
    if opened.format == "JPEG" and not turned:
        assert stored == source, id
    assert decoded(stored).shape == wanted.shape, id
    apart = np.abs(decoded(stored).astype(int) - wanted)
    # so small and busy a photograph is 3.0 levels from its JPEG of quality 95, up to 3.3; shifted by a pixel, over 9
    assert (apart.mean() < 5) if turned else (apart.max() == 0), id


def test_everything_in_an_untidy_folder_is_used_or_named_in_one_process_or_two(
    untidy: Untidy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = params_for(tmp_path, untidy.root, shard_images=16)
    facts = prepare(params)
    check_untidy(untidy, facts, params)
    changed = {row["id"]: row["changed"] for row in manifest() if not row["skipped"]}
    dog, chat, cat = CLASSES
    assert changed[f"train/{dog}/0.jpg"] == changed[f"train/{cat}/a png.jpg"] == ""
    assert changed[f"train/{chat}/turned.jpg"] == changed[f"val/{chat}/turned.jpg"] == "turned"
    assert changed[f"train/{cat}/a gif.gif"] == changed[f"val/{cat}/a gif.jpg"] == "converted from GIF"
    assert changed[f"train/{cat}/clear.png"] == "converted from PNG with transparency"
    assert changed[f"train/{cat}/scan.tif"] == "converted from TIFF"

    alone = CLASSIFICATION.manifest.read_bytes()
    monkeypatch.setenv("VGG_REPRO_SHARDS", str(tmp_path / "of two"))
    params = params_for(tmp_path, untidy.root, shard_images=16, processes=2)
    assert prepare(params) == facts and CLASSIFICATION.manifest.read_bytes() == alone
    check_untidy(untidy, facts, params)


def test_images_cut_or_harmed_are_skipped(root: Path, tmp_path: Path, rng: Random) -> None:
    """Also those that no library refuses at first sight."""
    tidy(root, rng)
    modes = [("RGB", {}), ("RGB", {"progressive": True}), ("L", {}), ("CMYK", {})]
    for number in range(8):
        mode, how = modes[number % 4]
        encoded = saved(picture(rng).convert(mode), "JPEG", **how)
        put(root / "train" / "a" / f"cut {number}.jpg", encoded[: -int(rng.integers(3, len(encoded)))])
    for number in range(4):
        layer = picture(rng)
        if number % 2:
            layer.putalpha(Image.linear_gradient("L").resize(layer.size))
        encoded = bytearray(saved(layer, "PNG"))
        start = encoded.index(b"IDAT") + 4
        encoded[start : start + 2] = b"\xff\xff"  # no head of zlib's
        put(root / "val" / "a" / f"harmed {number}.png", bytes(encoded))
    facts = prepare(params_for(tmp_path, root))
    kept = [row["id"] for row in manifest() if not row["skipped"]]
    assert not [id for id in kept if "cut" in id or "harmed" in id]
    assert (facts.train, facts.val) == (6, 6)
    assert all(row["skipped"] for row in manifest() if row["id"] not in kept)


@pytest.mark.parametrize("processes", [1, 2])
def test_bytes_too_many_in_a_jpeg_are_warned_of_by_name(
    processes: int, root: Path, tmp_path: Path, rng: Random, capfd: pytest.CaptureFixture[str]
) -> None:
    encoded = some_jpeg(rng)
    put(tidy(root, rng) / "train" / "a" / "longer.jpg", encoded[:-2] + bytes(40) + encoded[-2:])
    prepare(params_for(tmp_path, root, processes=processes))
    warned = {row["id"]: row["warning"] for row in manifest() if row["warning"]}
    assert list(warned) == ["train/a/longer.jpg"]
    assert "extraneous bytes" in warned["train/a/longer.jpg"]
    assert "orrupt" not in capfd.readouterr().err, "people are not shown the library's own line"


def test_what_val_has_too_stays_in_train_if_asked_for(root: Path, tmp_path: Path, rng: Random) -> None:
    tidy(root, rng)
    twice = shutil.copy(root / "val" / "a" / "0.jpg", root / "train" / "b" / "again.jpg")
    assert prepare(params_for(tmp_path, root, shared="keep")).train == 7
    assert prepare(params_for(tmp_path, root, shared="drop")).train == 6
    assert [row["id"] for row in manifest() if row["skipped"]] == [str(Path(twice).relative_to(root))]


def test_no_id_and_no_path_leads_out_of_the_folder(untidy: Untidy) -> None:
    listing = listed(untidy.root)
    for split in SPLITS:
        for entry in listing.entries[split]:
            assert (untidy.root / entry.where).resolve().is_relative_to(untidy.root.resolve()), entry
            assert entry.id.startswith(f"{split}/") and ".." not in entry.id.split("/"), entry
            assert entry.id.isprintable(), entry


def test_nothing_beside_regular_files_of_the_folder_is_opened(untidy: Untidy, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = set[str]()
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: opened.add(os.fspath(self)) or read(self))
    source = ImageFolder(untidy.root, 0.2, None)
    listing = source.listing()
    for split in SPLITS:
        for entry in listing.entries[split]:
            source.read(entry)
    assert len(opened) == sum(map(len, listing.entries.values())) > 50
    assert all(Path(name).is_file() and "secret" not in os.path.realpath(name) for name in opened)


# One thing at a time: what is no data set


def elsewhere(place: Path) -> None:
    """Lead out of the folder."""
    place.rename(place.parent.parent / "other")
    place.symlink_to(place.parent.parent / "other")


def instead(place: Path, link: str = "") -> None:
    """Put a link in a folder's place, or a file."""
    shutil.rmtree(place)
    place.symlink_to(link) if link else place.write_text("")


NO_DATA_SETS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (shutil.rmtree, "data.path is .*images of mine, but there is no such folder"),
    "a file": (instead, "data.path is .*images of mine, but there is no such folder"),
    "without train": (lambda root: shutil.rmtree(root / "train"), "has no folder train: images must be in train/"),
    "train elsewhere": (
        lambda root: elsewhere(root / "train"), "train is a link to a folder outside .*the folder that it points to"
    ),
    "train a loop": (lambda root: instead(root / "train", "train"), "has no folder train"),
    "val elsewhere": (lambda root: elsewhere(root / "val"), "val is a link to a folder outside"),
    "val a file": (lambda root: instead(root / "val"), "has no folder val"),
    "val nowhere": (lambda root: instead(root / "val", "nowhere"), "has no folder val"),
}  # fmt: skip


def test_what_is_no_data_set_is_one_clear_failure(tmp_path: Path, rng: Random) -> None:
    for kind, (harm, reason) in NO_DATA_SETS.items():
        root = tidy(tmp_path / kind / "images of mine", rng, each=1)
        params = params_for(tmp_path, root)
        harm(root)
        for ask in (lambda: fingerprint(root), lambda: listed(root), lambda: prepare(params)):  # noqa: B023
            with case(kind), pytest.raises(Failure, match=reason):
                ask()
    assert not CLASSIFICATION.manifest.exists()


# Names as people write them


@pytest.mark.parametrize("name", ["valid", "validation", "Val", "VALID", "dev", "val_set", "validation-images"])
def test_the_validation_folder_may_have_another_name(name: str, root: Path, tmp_path: Path, rng: Random) -> None:
    tidy(root, rng)
    usual = listed(root)
    before = fingerprint(root)
    (root / "val").rename(root / name)
    (root / "train").rename(root / "Training")
    again = listed(root)
    assert [(one.where.split("/", 1)[1], one.label) for one in again.entries["val"]] == [
        (one.where.split("/", 1)[1], one.label) for one in usual.entries["val"]
    ]
    assert len(again.entries["train"]) == len(usual.entries["train"]) and again.classes == usual.classes
    assert again.entries["val"][0].id.startswith(f"{name}/")
    assert fingerprint(root)["files"] == before["files"]
    facts = prepare(params_for(tmp_path, root))
    assert (facts.train, facts.val) == (6, 6)


def test_two_validation_folders_or_only_a_folder_of_tests_stop_it(root: Path, rng: Random) -> None:
    tidy(root, rng)
    (root / "valid").mkdir()
    with pytest.raises(Failure, match="val and valid, each of which may be val/"):
        listed(root)
    (root / "valid").rmdir()
    (root / "val").rename(root / "test")
    with pytest.raises(Failure, match=r"no folder val, but one named test: .*rename it to val.*move test elsewhere"):
        listed(root)
    shutil.rmtree(root / "test")
    put(root / "test" / "1.jpg", some_jpeg(rng))  # images without classes: nobody can validate on them
    tidy(root, rng, each=20, val=False)
    assert listed(root, 0.4).entries["val"]


ALIKE = {
    "Unicode form": ("caf\u00e9", "cafe\u0301"),
    "case": ("Cat", "cat"),
    "blank": ("a cat", "a  cat "),
    "no-break space": ("a cat", "a\u00a0cat"),
    "no width": ("cat", "\ufeffcat"),
}


@pytest.mark.parametrize("what", ALIKE)
def test_a_class_whose_name_in_val_only_looks_different_is_one_class(what: str, root: Path, rng: Random) -> None:
    ours, theirs = ALIKE[what]
    tidy(root, rng, (ours, "dog"))
    (root / "val" / ours).rename(root / "val" / theirs)
    found = listed(root)
    assert found.classes == sorted([printable(ours), "dog"]) and not found.skipped
    assert Counter(one.label for one in found.entries["val"]) == {0: 3, 1: 3}


@pytest.mark.parametrize("what", [what for what in ALIKE if what != "case"])
@pytest.mark.parametrize("split", SPLITS)
def test_two_classes_that_look_the_same_in_one_split_stop_it(what: str, split: Split, root: Path, rng: Random) -> None:
    tidy(root, rng, ("dog", ALIKE[what][0]))
    put(root / split / ALIKE[what][1] / "0.jpg", some_jpeg(rng))
    with pytest.raises(Failure, match="two classes whose names look the same"):
        listed(root)


def test_classes_that_differ_in_case_are_two_unless_val_has_only_a_third(root: Path, rng: Random) -> None:
    tidy(root, rng, ("a", "A"))
    assert listed(root).classes == ["A", "a"], "letters, for example"
    shutil.rmtree(root / "val")
    tidy_val = [put(root / "val" / "\u200ba" / "0.jpg", some_jpeg(rng))]
    assert tidy_val
    with pytest.raises(Failure, match="may be the class 'A' or 'a'"):
        listed(root)
    shutil.rmtree(root)
    tidy(root, rng, ("cat", "dog"))
    put(root / "val" / "CAT" / "0.jpg", some_jpeg(rng))
    with pytest.raises(Failure, match="'cat' and 'CAT', which may both be the class 'cat'"):
        listed(root)


# What else is there


def test_what_systems_and_network_disks_leave_behind_is_hidden(root: Path, rng: Random) -> None:
    tidy(root, rng)
    before = listed(root)
    for name in ("@eaDir", "@EADIR", "lost+found", "$RECYCLE.BIN", "System Volume Information", "#recycle",
                 ".Trash-1000", "__macosx", ".AppleDouble", ".ipynb_checkpoints"):  # fmt: skip
        put(root / "train" / name / "0.jpg", some_jpeg(rng))
        put(root / "val" / "a" / name / "0.jpg" / "SYNOFILE_THUMB_M.jpg", some_jpeg(rng))
    for name in ("thumbs.db", "Desktop.ini", "ehthumbs.db", "._0.jpg", "0.jpg@SynoResource", "Icon\r", ".DS_Store"):
        put(root / "train" / "a" / name, b"\0\5\x16\7")
    after = listed(root)
    assert after.entries == before.entries and after.classes == before.classes
    assert {one.reason for one in after.skipped} == {"hidden"}


def test_files_beside_images_are_no_damage(root: Path, tmp_path: Path, rng: Random) -> None:
    tidy(root, rng, each=15)
    for image in sorted(root.rglob("*.jpg")):
        for ending in (".json", ".supplemental-metadata.json", ".xmp", ".aae", ".txt", ".xml", ".csv", ".pp3", ".md5"):
            put(image.with_name(image.name + ending), b"title: a thing\n")
    facts = prepare(params_for(tmp_path, root, max_unreadable=0.0))
    assert (facts.train, facts.val) == (30, 30)
    assert {row["skipped"] for row in manifest()} == {"", "not an image, and not named like one"}


def test_a_cameras_file_next_to_its_image_is_no_damage(root: Path, rng: Random) -> None:
    folder = tidy(root, rng) / "train/a"
    for number, ending in enumerate((".CR2", ".nef", ".HEIC", ".dng") * 6):
        put(folder / f"IMG_{number}{ending}", b"II*\0")
        put(folder / f"img_{number}.JPG", some_jpeg(rng))
    put(folder / "alone.CR2", b"II*\0")
    listing = listed(root)
    assert Counter(skipped.reason for skipped in listing.skipped) == {ORIGINAL: 24}
    assert not any(skipped.lost for skipped in listing.skipped)
    assert "train/a/alone.CR2" in [entry.id for entry in listing.entries["train"]], "examined when it is read"


def broken_links(root: Path, number: int, data: bytes) -> None:
    """Links whose targets are gone."""
    (root / f"train/a/link {number}.jpg").symlink_to(root / f"gone {number}")


def links_outside(root: Path, number: int, data: bytes) -> None:
    """Links to another folder."""
    target = put(root.parent / f"elsewhere/{number}.jpg", data)
    (root / f"train/a/link {number}.jpg").symlink_to(target)


def images_beside(root: Path, number: int, data: bytes) -> None:
    """Images that nobody sorted."""
    put(root / f"train/{number}.jpg", data)


def images_of_other_classes(root: Path, number: int, data: bytes) -> None:
    """A class that is only in val/."""
    put(root / f"val/c/{number}.jpg", data)


@pytest.mark.parametrize("lose", [broken_links, links_outside, images_beside, images_of_other_classes])
def test_many_images_that_are_not_used_stop_it(
    lose: Callable[[Path, int, bytes], None], root: Path, tmp_path: Path, rng: Random
) -> None:
    tidy(root, rng, each=12)
    for place in ("train", "val/c"):
        for number in range(20):
            put(root / place / f"notes {number}.txt", b"no image")
    data = some_jpeg(rng)
    for number in range(10):
        lose(root, number, data)
    assert prepare(params_for(tmp_path, root, max_unreadable=0.01)).train == 24
    lose(root, 10, data)
    with pytest.raises(Failure, match=r"^11 of \d+ images cannot be used so far, more than 10 "):
        prepare(params_for(tmp_path, root, max_unreadable=0.01))


def test_images_a_level_deeper_stop_it_unless_they_are_few(root: Path, rng: Random) -> None:
    tidy(root, rng)
    for number in range(10):
        put(root / "train" / "a" / "rejected" / "more" / f"{number}.jpg", some_jpeg(rng))
    put(root / "train" / "a" / "rejected" / "notes.txt", b"no image")
    (few,) = listed(root).skipped
    assert (few.id, few.reason) == ("train/a/rejected", "a folder, not an image; images in it: 10")
    put(root / "train" / "a" / "rejected" / "11.jpg", some_jpeg(rng))
    with pytest.raises(Failure, match=r"11 images in folders inside the classes' folders.*train/a/rejected"):
        listed(root)


def test_fewer_than_two_classes_are_a_failure(tmp_path: Path, rng: Random) -> None:
    for name, message in (("", "no class"), ("only", "only the class only"), ("on\nly", r"only the class on\\nly")):
        root = tidy(tmp_path / f"of {message}", rng, (name,) if name else (), each=1)
        (root / "train" / "empty").mkdir(parents=True)
        put(root / "train" / "hidden things only" / ".DS_Store", b"")
        with pytest.raises(
            Failure, match=rf"train has {message}: images must be in train/CLASS/, at least two classes"
        ):
            listed(root)


def test_a_class_without_a_usable_image_is_named(root: Path, tmp_path: Path, rng: Random) -> None:
    tidy(root, rng)
    put(root / "train" / "cats" / "page.jpg", HTML)
    with pytest.raises(Failure, match=r"no training images are left in cats: data/classification/manifest\.csv"):
        prepare(params_for(tmp_path, root))


def test_no_usable_validation_image_is_a_failure(root: Path, tmp_path: Path, rng: Random) -> None:
    put(tidy(root, rng, val=False) / "val" / "a" / "page.jpg", HTML)
    with pytest.raises(Failure, match="there are no validation images: add some to val/"):
        prepare(params_for(tmp_path, root))


def test_a_link_among_the_classes_that_leads_nowhere_is_skipped(root: Path, rng: Random) -> None:
    tidy(root, rng)
    links = {"train/loop": "loop", "val/loop": "loop", "train/cats": "nowhere"}
    for where, target in links.items():
        (root / where).symlink_to(target)
    fingerprint(root)
    assert {skipped.id for skipped in listed(root).skipped} == set(links)


def test_a_class_may_be_a_link_within_the_folder(root: Path, rng: Random) -> None:
    tidy(root, rng, ("a",))
    for split in SPLITS:
        (root / split / "a").rename(root / f"of {split}")
        (root / split / "a").symlink_to(f"../of {split}")
        (root / split / "b").symlink_to("../of train")
    listing = listed(root)
    assert listing.classes == ["a", "b"]
    assert [len(listing.entries[split]) for split in SPLITS] == [6, 6]
    assert not listing.skipped


def test_the_folder_itself_may_be_a_link(root: Path, tmp_path: Path, rng: Random) -> None:
    tidy(root, rng)
    (tmp_path / "link").symlink_to(root)
    assert listed(tmp_path / "link") == listed(root)
    assert fingerprint(tmp_path / "link") == fingerprint(root)


# Permissions


def test_an_unreadable_file_is_skipped_by_name(root: Path, tmp_path: Path, rng: Random) -> None:
    tidy(root, rng)
    (root / "train" / "a" / "1.jpg").chmod(0)
    params = params_for(tmp_path, root)
    with root_has_no_privilege():
        assert prepare(params).train == 5
    assert [(row["id"], row["skipped"]) for row in manifest() if row["skipped"]] == [
        ("train/a/1.jpg", "permission denied")
    ]


def test_an_unreadable_file_of_a_train_that_is_split_is_skipped_by_name(
    root: Path, tmp_path: Path, rng: Random
) -> None:
    tidy(root, rng, each=10, val=False)
    (root / "train" / "a" / "1.jpg").chmod(0)
    params = params_for(tmp_path, root, {"val_share": 0.5})
    with root_has_no_privilege():
        facts = prepare(params)
    assert facts.train + facts.val == 19
    assert [(row["split"], row["id"], row["skipped"]) for row in manifest() if row["skipped"]] == [
        ("train", "train/a/1.jpg", "permission denied")
    ]


def test_a_folder_that_may_not_be_looked_into_is_a_failure_or_its_files_are_named(
    root: Path, tmp_path: Path, rng: Random
) -> None:
    params = params_for(tmp_path, tidy(root, rng))
    for where in (".", "train", "train/a", "val/b"):
        for mode in (0o000, 0o444, 0o111):
            (root / where).chmod(mode)
            try:
                with root_has_no_privilege(), case((where, oct(mode))):
                    asks = (lambda: fingerprint(root)), (lambda: listed(root)), (lambda: prepare(params))
                    messages = [failure(ask) for ask in asks]
                    assert all(root.name in text and "could not be written" not in text for text in messages if text), (
                        messages
                    )
                    denied = messages[2] or any(row["skipped"] == "permission denied" for row in manifest())
                    assert denied or (where, mode) == (".", 0o111)
            finally:
                (root / where).chmod(0o755)


def failure(do: Callable[[], object]) -> str:
    """What it fails with, if with one of our own."""
    try:
        do()
    except Failure as reason:
        return str(reason)
    return ""


def test_a_folder_below_one_that_may_not_be_entered_is_a_failure(root: Path, rng: Random) -> None:
    inner = tidy(root / "inner", rng)
    root.chmod(0)
    try:
        with root_has_no_privilege():
            for ask in (lambda: fingerprint(inner), lambda: listed(inner)):
                with pytest.raises(Failure, match="inner"):
                    ask()
    finally:
        root.chmod(0o755)


def test_a_file_that_cannot_be_read_is_skipped_and_a_disk_that_cannot_stops(
    root: Path, rng: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ImageFolder(tidy(root, rng), 0.2, None)
    entry = source.listing().entries["train"][0]
    for reason, kind, message in (
        (FileNotFoundError(2, "No such file or directory"), Unreadable, "no such file or directory"),
        (PermissionError(13, "Permission denied"), Unreadable, "permission denied"),
        (OSError(5, "Input/output error"), Failure, "could not be read: Input/output error"),
    ):
        monkeypatch.setattr(Path, "read_bytes", Mock(side_effect=reason))
        with pytest.raises(kind, match=message):
            source.read(entry)


def test_a_class_whose_images_lie_deeper_is_named(root: Path, rng: Random) -> None:
    put(tidy(root, rng) / "train" / "cats" / "2023" / "1.jpg", some_jpeg(rng))
    with pytest.raises(Failure, match=r"train/cats has no images directly in it, but 1 other"):
        listed(root)
    (root / "train" / "cats" / "one.jpg").write_bytes(some_jpeg(rng))
    assert "cats" in listed(root).classes


def test_a_limit_below_the_number_of_classes_is_a_failure(root: Path, rng: Random) -> None:
    tidy(root, rng, ("a", "b", "c"))
    with pytest.raises(Failure, match=r"data\.limit is 2"):
        listed(root, limit=2)
    assert [entry.label for entry in listed(root, limit=3).entries["train"]] == [0, 1, 2]


# Names


def test_classes_are_in_the_order_of_torchvisions(root: Path, rng: Random) -> None:
    letters = "aAbBzZ01_ -éÉß猫犬Ω"
    names = {"".join(rng.choice(list(letters), int(rng.integers(1, 5)))).strip() or "x" for _ in range(25)}
    for name in names:
        put(root / "train" / name / "0.jpg", b"")
        put(root / "val" / name / "0.jpg", b"")
    theirs = datasets.ImageFolder(root / "train")
    listing = listed(root)
    assert listing.classes == theirs.classes
    assert [(root / entry.where, entry.label) for entry in listing.entries["train"]] == [
        (Path(path), label) for path, label in theirs.samples
    ]


def test_images_and_classes_have_names_of_their_own(root: Path, tmp_path: Path, rng: Random) -> None:
    """Also where one name looks like another's escape."""
    names = ["a\nb", "a\\nb", "a\\\nb", "\\", "\\\\", os.fsdecode(b"\xff"), "\\xff", "\\udcff", "a\u202eb", "a\\u202eb"]
    for split in SPLITS:
        for label in names:
            for name in names:
                put(root / split / label / name, b"")
    listing = listed(root)
    assert len(set(listing.classes)) == len(listing.classes) == len(names)
    for split in SPLITS:
        ids = [entry.id for entry in listing.entries[split]]
        assert len(ids) == len(names) ** 2
        assert len(set(ids)) == len(ids), [id for id, count in Counter(ids).items() if count > 1]


def test_names_are_shown_as_they_are_where_they_can_be() -> None:
    assert printable("train/chat d’été/写真 1.jpg") == "train/chat d’été/写真 1.jpg"
    for name in ("a\nb", "\x1b[31mred", "\u202e", "\0", os.fsdecode(b"\xff\xfe"), "\u2028"):
        assert printable(name).isprintable() and printable(name).isascii(), repr(name)


# Splitting off val


def many(root: Path, random: Random, classes: int, each: int) -> Path:
    """Files of different content, of which nothing decodes: a listing does not mind."""
    for label in range(classes):
        for number in range(each):
            put(root / "train" / f"class {label}" / f"{number}.jpg", random.bytes(30))
    return root


def sides(root: Path, val_share: float) -> dict[bytes, Split]:
    """Where each content comes to lie."""
    splits: dict[bytes, Split] = {}
    for split, entries in listed(root, val_share).entries.items():
        for entry in entries:
            assert splits.setdefault((root / entry.where).read_bytes(), split) == split, "a duplicate straddles"
    return splits


def test_about_val_share_of_each_class_goes_to_val(root: Path, rng: Random) -> None:
    share, each = float(rng.uniform(0.1, 0.9)), 300
    listing = listed(many(root, rng, 3, each), share)
    for label in range(3):
        count = sum(entry.label == label for entry in listing.entries["val"])
        # six standard deviations of a binomial: once in 10^8
        assert abs(count - share * each) < 6 * math.sqrt(each * share * (1 - share)), share
    both = [entry.where for split in SPLITS for entry in listing.entries[split]]
    assert len(set(both)) == len(both) == 3 * each
    assert all(where.startswith("train/") for where in both)


def test_an_image_stays_on_its_side_as_others_come_and_go_and_names_change(root: Path, rng: Random) -> None:
    share = float(rng.uniform(0.3, 0.7))
    before = sides(many(root, rng, 2, 60), share)
    put(root / "train" / "class 2" / "new.jpg", rng.bytes(30))
    for number in range(40):
        put(root / "train" / "class 0" / f"new {number}.jpg", rng.bytes(30))
        (root / "train" / "class 1" / f"{number}.jpg").rename(root / "train" / "class 2" / f"{number}.png")
    for number in range(20):
        (root / "train" / "class 0" / f"{number}.jpg").unlink()
    after = sides(root, share)
    shared = before.keys() & after.keys()
    assert len(shared) == 100
    assert {content: before[content] for content in shared} == {content: after[content] for content in shared}
    assert {"train", "val"} <= set(after.values())


def test_a_class_of_which_all_images_fall_to_validation_is_named(root: Path, rng: Random) -> None:
    tidy(root, rng, each=40, val=False)
    data = some_jpeg(rng)
    share = int.from_bytes(hashlib.sha256(data).digest()[:8]) / 2**64
    put(root / "train" / "lonely" / "one.jpg", data)
    assert "lonely" in listed(root, share / 2).classes
    with pytest.raises(Failure, match="assigned to the validation split"):
        listed(root, min(share + 1e-9, 1 - 1e-9))


def test_a_larger_share_takes_nobody_back(root: Path, rng: Random) -> None:
    low, high = np.sort(rng.uniform(0.2, 0.8, 2)).tolist()
    many(root, rng, 2, 60)
    small, large = ({c for c, side in sides(root, share).items() if side == "val"} for share in (low, high))
    assert small <= large


def test_duplicates_never_straddle(root: Path, rng: Random) -> None:
    many(root, rng, 2, 40)
    for number in range(40):
        shutil.copy(root / "train" / "class 0" / f"{number}.jpg", root / "train" / "class 1" / f"copy {number}.jpg")
    assert len(sides(root, 0.5)) == 80, "sides() holds each content against its copies"


def test_what_is_skipped_of_a_train_that_is_split_is_named_once(root: Path, rng: Random) -> None:
    many(root, rng, 2, 20)
    for number in range(20):
        put(root / "train" / "class 0" / f".{number}", rng.bytes(9))
    listing = listed(root, 0.5)
    assert [(skipped.split, skipped.reason) for skipped in listing.skipped] == [("train", "hidden")] * 20
    assert len({skipped.id for skipped in listing.skipped}) == 20


# Limit


def test_a_limit_takes_from_all_classes(root: Path, rng: Random) -> None:
    entries = listed(many(root, rng, 3, 80), 0.5, 60).entries
    for split in SPLITS:
        assert len(entries[split]) == 60
        counts = Counter(entry.label for entry in entries[split])
        # 60 of about 120, 40 of each class: 20 +- 2.6; six standard deviations
        assert all(abs(counts[label] - 20) < 16 for label in range(3)), counts


def test_a_limit_is_stable(root: Path, tmp_path: Path, rng: Random) -> None:
    many(root, rng, 3, 40)
    put(root / "val" / "class 0" / "0.jpg", b"")
    names = [entry.where for entry in listed(root, limit=50).entries["train"]]
    assert [entry.where for entry in listed(root, limit=50).entries["train"]] == names
    assert set(names) < {entry.where for entry in listed(root, limit=51).entries["train"]}
    shutil.copytree(root, tmp_path / "moved")
    assert [entry.where for entry in listed(tmp_path / "moved", limit=50).entries["train"]] == names
    put(root / "train" / "class 1" / "one more.jpg", b"")
    assert len(set(names) - {entry.where for entry in listed(root, limit=50).entries["train"]}) <= 1


def test_a_limit_above_what_there_is_changes_nothing(root: Path, rng: Random) -> None:
    tidy(root, rng)
    assert listed(root, limit=6) == listed(root, limit=99) == listed(root)


# The fingerprint


def touched(path: Path, data: bytes, later: int) -> None:
    """Write a file, so many nanoseconds after it was written before."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + later))


CHANGES: dict[str, Callable[[Path], object]] = {
    "another file": lambda root: put(root / "train" / "a" / "new.jpg", b""),
    "a hidden one": lambda root: put(root / "train" / "a" / ".new.jpg", b""),
    "one less": lambda root: (root / "val" / "b" / "0.jpg").unlink(),
    "a name": lambda root: (root / "train" / "a" / "0.jpg").rename(root / "train" / "a" / "zero.jpg"),
    "a class": lambda root: (root / "train" / "a" / "1.jpg").rename(root / "train" / "b" / "9.jpg"),
    "as many bytes, later": lambda root: touched(root / "train" / "b" / "0.jpg", bytes(999), 1000),
    "as many bytes, later again": lambda root: touched(root / "train" / "b" / "0.jpg", bytes(999), 1000),
    "another size, as if at the same time": lambda root: touched(root / "val" / "a" / "0.jpg", b"", 0),
    "a permission": lambda root: (root / "train" / "a" / "2.jpg").chmod(0),
    "what a link leads to": lambda root: touched(root / "aside.jpg", b"", 1000),
    "val gone": lambda root: shutil.rmtree(root / "val"),
}


def test_the_fingerprint_sees(root: Path, rng: Random) -> None:
    put(tidy(root, rng) / "aside.jpg", some_jpeg(rng))
    (root / "train" / "a" / "link.jpg").symlink_to("../../aside.jpg")
    seen = [fingerprint(root)["listing"]]
    for what, change in CHANGES.items():
        change(root)
        with case(what):
            assert fingerprint(root)["listing"] not in seen
        seen.append(fingerprint(root)["listing"])


def test_the_fingerprint_sees_nothing_else(untidy: Untidy) -> None:
    before = fingerprint(untidy.root)
    source = ImageFolder(untidy.root, 0.2, None)
    for entry in source.listing().entries["train"]:
        source.read(entry)
    put(untidy.root / "README", b"")
    put(untidy.root / "test" / "a" / "0.jpg", b"")
    put(untidy.root / "train" / ".git" / "HEAD", b"")
    os.utime(untidy.root / "train" / CLASSES[0], ns=(1, 1))
    assert fingerprint(untidy.root) == before


def test_the_fingerprint_stays_as_the_folder_moves(root: Path, tmp_path: Path, rng: Random) -> None:
    before = fingerprint(tidy(root, rng))
    root.rename(tmp_path / "moved")
    assert fingerprint(tmp_path / "moved") == before


def test_the_fingerprint_counts_files_and_bytes(root: Path, rng: Random) -> None:
    tidy(root, rng)
    values = fingerprint(root)
    assert values["files"] == 12
    assert values["bytes"] == sum(path.stat().st_size for path in root.rglob("*.jpg"))


def test_the_fingerprint_reads_no_file(untidy: Untidy, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in untidy.root.rglob("*.jpg"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0)

    def never(*what: object, **_: object) -> None:
        raise AssertionError(f"opened: {what}")

    with monkeypatch.context() as patch, root_has_no_privilege():
        for where in (builtins, io, os):
            patch.setattr(where, "open", never)
        before = fingerprint(untidy.root)
    assert before["files"] > 50


def test_the_profiles_fingerprint_has_what_shapes_the_listing(root: Path, tmp_path: Path, rng: Random) -> None:
    tidy(root, rng)
    found = [
        sources.fingerprint(params_for(tmp_path, root, data).active)
        for data in ({}, {}, {"limit": 3}, {"val_share": 0.3})
    ]
    assert found[0] == found[1]
    assert found[0] != found[2] != found[3] != found[0]
    assert str(root) not in str(found[0]), "where the images lie is no matter"


# From end to end


def deep_png(random: Random, height: int, width: int) -> tuple[bytes, Pixels]:
    """A grey PNG of sixteen bits, and its pixels in eight: 65535 is 255 times 257."""
    grey = photograph(random, height, width).astype(np.uint16)[:, :, 0] * 257
    levels = np.clip(grey.astype(int) + random.integers(-128, 129, grey.shape), 0, 65535).astype(np.uint16)
    return saved(Image.fromarray(levels), "PNG"), np.repeat(np.rint(levels / 257).astype(np.uint8)[:, :, None], 3, 2)


def on_white(layer: Image.Image) -> Pixels:
    return np.asarray(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"))


def kinds(random: Random) -> dict[str, tuple[bytes, Pixels]]:
    """An image of each kind, and how it looks; none so large that it is stored as a smaller JPEG."""

    def scene() -> Image.Image:
        return Image.fromarray(photograph(random, *random.integers(100, 200, 2).tolist()))

    plain = {
        "grey.jpg": saved(scene().convert("L"), "JPEG"),
        "cmyk.jpg": saved(scene().convert("CMYK"), "JPEG"),
        "progressive.jpg": saved(scene(), "JPEG", progressive=True),
        "photograph.jpg": jpeg(np.asarray(scene())),
        "photograph.png": saved(scene(), "PNG"),
        "palette.png": saved(scene().quantize(64), "PNG"),
        "lossy.webp": saved(scene(), "WEBP"),
        "lossless.webp": saved(scene(), "WEBP", lossless=True),
        "palette.gif": saved(scene().quantize(64), "GIF"),
        "photograph.bmp": saved(scene(), "BMP"),
    }
    veiled = scene()
    veiled.putalpha(Image.linear_gradient("L").resize(veiled.size))
    return {
        **{name: (encoded, decoded(encoded)) for name, encoded in plain.items()},
        "deep.png": deep_png(random, *random.integers(100, 200, 2).tolist()),
        "veiled.png": (saved(veiled, "PNG"), on_white(veiled)),
    }


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def test_a_training_batch_of_all_kinds_is_what_pil_makes_of_them(root: Path, tmp_path: Path, rng: Random) -> None:
    looks: dict[str, Pixels] = {}
    for number, (name, (encoded, pixels)) in enumerate(kinds(rng).items()):
        path = put(root / "train" / "ab"[number % 2] / name, encoded)
        looks[str(path.relative_to(root))] = pixels
    put(root / "val" / "a" / "0.jpg", some_jpeg(rng))
    params = params_for(tmp_path, root)
    prepare(params)
    assert not [row for row in manifest() if row["skipped"] or row["warning"] or "rescaled" in row["changed"]]
    shards = shards_of(params, "train")
    plan = StreamConfig(int(rng.integers(2**63)), len(shards), 96, (96, 219))
    (batch,) = islice(training_stream(shards, plan, decoder=USUAL), 1)
    drawn = draw(epoch_words(plan.seed, 0, len(shards))[batch.ids], shards.heights[batch.ids],
                 shards.widths[batch.ids], plan.scales, plan.crop)  # fmt: skip
    assert sorted(batch.ids.tolist()) == list(range(12))
    for i, image in enumerate(batch.ids.tolist()):
        size, id = (int(drawn.height[i]), int(drawn.width[i])), shards.ids[image]
        crop = np.s_[int(drawn.top[i]) :, int(drawn.left[i]) :]
        flip = -1 if drawn.flip[i] else 1
        wanted, at_rim = (one[crop][:96, :96][:, ::flip] for one in (resized(looks[id], *size), rim(*size)))
        check_grey_levels(batch.pixels[i].permute(1, 2, 0).numpy(), wanted, at_rim, f"{id} at {size}")
        assert batch.labels[i] == "ab".index(id.split("/")[1]), id


def test_an_image_is_found_by_its_entry_alone(root: Path, rng: Random) -> None:
    """As in another process, which has no listing."""
    data = (tidy(root, rng) / "train" / "a" / "0.jpg").read_bytes()
    assert ImageFolder(root, 0.2, None).read(Entry("x", 0, "train/a/0.jpg")).data == data
