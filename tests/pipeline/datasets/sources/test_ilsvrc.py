"""ILSVRC-2012 from stand-ins: order, truth and boxes proved from pixels, the audit, and all the way to a table."""

from __future__ import annotations

import functools
import hashlib
import importlib
import io
import json
import os
import pickle
import re
import shutil
import signal
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from torchvision.datasets import imagenet

from pipeline.datasets import dataset_key
from pipeline.datasets import prepare as module
from pipeline.datasets.facts import Facts
from pipeline.datasets.shards import Shards
from pipeline.datasets.sources.base import SPLITS, Entry, Listing
from pipeline.errors import Failure, Interrupted
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, shards_root
from tests.support import ROOT, on_linux
from tests.support.clones import at_work, begin, call, executed, held, tiny_clone, wait_for
from tests.support.fake_source import hashes_in, rows
from tests.support.ilsvrc_files import (
    ARCHIVES,
    BOXES_TRAIN,
    BOXES_VAL,
    CMYK,
    DEVKIT,
    DEVKIT_FOLDER,
    NAMES,
    PNG,
    TRAIN,
    VAL,
    Box,
    IlsvrcImage,
    StandIn,
    in_this_process,
    label_of,
    make,
    make_all,
    pack,
    paint_on,
    publish,
    zipped,
)
from tests.support.ilsvrc_files import colour_of as colour
from tests.support.images import decoded, repository_params, run_seed

Random = np.random.Generator
NUMBER = r"\d[\d.,]*\s?(?:bytes|[kKMGT]i?B)\b"


@functools.cache
def source_module() -> Any:
    return importlib.import_module("pipeline.datasets.sources.ilsvrc")


def source(root: Path, limit: int | None = None) -> Any:
    return source_module().Ilsvrc(root, limit)


def listed(root: Path, limit: int | None = None) -> Listing:
    listing: Listing = source(root, limit).listing()
    return listing


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Read whole tables of classes here, which is quick, but once."""
    if "two_processes" not in request.node.name:
        in_this_process(monkeypatch)


@pytest.fixture
def stand_in(rng: Random) -> StandIn:
    """A stand-in with all oddities, not written yet."""
    return make(rng)


@pytest.fixture
def root(stand_in: StandIn, tmp_path: Path) -> Path:
    """The stand-in's archives."""
    return stand_in.archives(tmp_path / "the archives")


def unpacked_devkit(made: StandIn, root: Path) -> Path:
    """The archives, but of the devkit what they who unpack it have."""
    made.archives(root, [TRAIN, VAL, BOXES_TRAIN, BOXES_VAL])
    made.unpack_devkit(root)
    return root


LAYOUTS: dict[str, Callable[[StandIn, Path], Path]] = {
    "archives": lambda made, root: made.archives(root),
    "archives, devkit unpacked": unpacked_devkit,
    "tree, val flat": lambda made, root: made.tree(root, "flat", "folder"),
    "tree, val flat, devkit's archive": lambda made, root: made.tree(root, "flat", "archive"),
    "tree, val in classes, devkit": lambda made, root: made.tree(root, "folders", "folder"),
    "tree, val in classes": lambda made, root: made.tree(root, "folders", "none"),
}


def same_boxes(boxes: tuple[Box, ...], picture: IlsvrcImage) -> bool:
    return any(
        len(boxes) == len(wanted) and np.allclose(boxes, wanted, atol=0.01) if wanted else not boxes
        for wanted in picture.boxes
    )


def check_listing(made: StandIn, root: Path, listing: Listing, boxes: bool = True) -> None:
    """All that a listing says is the truth about the stand-in, and each image that is read is the one it should be."""
    reader = source(root)
    assert [skipped.reason for skipped in listing.skipped] == []
    for split, pictures in made.images.items():
        entries = listing.entries[split]  # type: ignore[index]
        assert [entry.id for entry in entries] == [picture.id for picture in pictures], split
        assert [entry.label for entry in entries] == [picture.label for picture in pictures], split
        for entry, picture in zip(entries, pictures, strict=True):
            encoded = reader.read(entry)
            assert encoded.data == picture.data, picture.id
            assert label_of(encoded.data, picture.kind) == entry.label, (
                f"{picture.id} ({picture.kind}) is of another class"
            )
            assert not boxes or same_boxes(encoded.boxes, picture), (picture, encoded.boxes)


# Order, names, ground truth, boxes


@pytest.mark.parametrize("format", ["gnu", "pax", "ustar"])
def test_the_archives_are_listed_in_order_and_the_pixels_bear_it_out(format: str, rng: Random, tmp_path: Path) -> None:
    made = make(rng, format=format)
    assert list(made.ids) != sorted(made.ids, key=made.ids.__getitem__), "ILSVRC2012_ID's is another order"
    root = made.archives(tmp_path / "root")
    listing = listed(root)
    check_listing(made, root, listing)
    assert listing.classes == [NAMES[wnid] for wnid in made.wnids]
    kinds = {picture.kind for picture in made.train}
    assert kinds == {"png", "cmyk", "grey", "exif 6", "junk", "plain"}, "all oddities are in it"
    ids = {entry.id for entry in listing.entries["train"]}
    assert {PNG, CMYK} <= ids


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_the_same_data_set_and_plain_with_the_published_numbers(
    layout: str, stand_in: StandIn, tmp_path: Path, as_published: Callable[[StandIn], None]
) -> None:
    as_published(stand_in)
    root = LAYOUTS[layout](stand_in, tmp_path / "root")
    listing = listed(root)
    check_listing(stand_in, root, listing)
    assert listing.classes == [NAMES[wnid] for wnid in stand_in.wnids]
    assert said_of(listing) == ""


def test_the_order_is_torchvisions(stand_in: StandIn, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision unpacks the same archives; who uses its nets, or Caffe's, expects its numbers."""
    listing = listed(root)
    sums = {key: (name, hashlib.md5((root / name).read_bytes(), usedforsecurity=False).hexdigest())
            for key, (name, _) in imagenet.ARCHIVE_META.items()}  # fmt: skip
    monkeypatch.setattr(imagenet, "ARCHIVE_META", sums)
    for split in SPLITS:
        theirs = imagenet.ImageNet(root, split)
        assert theirs.wnids == stand_in.wnids
        wanted = sorted((label, Path(path).stem) for path, label in theirs.samples)
        assert sorted((entry.label, entry.id) for entry in listing.entries[split]) == wanted
    assert [name.split(" (n0")[0] for name in listing.classes] == [names[0] for names in theirs.classes]


def test_a_split_whose_box_archive_is_missing_has_no_boxes(root: Path) -> None:
    for gone, having in ((BOXES_TRAIN, ["val"]), (BOXES_VAL, [])):
        (root / gone).unlink()
        listing = listed(root)
        there = {split: [source(root).read(entry).boxes for entry in listing.entries[split]] for split in SPLITS}
        assert [split for split, boxes in there.items() if any(boxes)] == having


def test_boxes_lie_inside_their_image_around_what_is_painted_there(stand_in: StandIn, root: Path) -> None:
    listing, seen = listed(root), Counter[str]()
    for split in SPLITS:
        for entry, picture in zip(listing.entries[split], stand_in.images[split], strict=True):
            width, height = picture.size
            for left, top, right, bottom in source(root).read(entry).boxes:
                assert 0 <= left < right <= width and 0 <= top < bottom <= height, picture
                if picture.kind in ("plain", "png", "junk", "exif 6"):
                    check_painted(decoded(picture.data), (left, top, right, bottom), picture.label, picture.id)
                    seen[picture.kind] += 1
    assert seen["plain"] > 20 and seen["exif 6"]


def check_painted(pixels: Any, box: Box, label: int, what: str) -> None:
    """What is in a box is an object, its rim left out."""
    left, top, right, bottom = box
    inside = pixels[int(top) + 2 : int(bottom) - 1, int(left) + 2 : int(right) - 1].reshape(-1, 3)
    if len(inside) > 20:
        assert np.abs(np.median(inside, 0) - paint_on(colour(label))).max() < 40, (what, box)


def test_a_thousand_classes_have_the_numbers_of_their_wordnet_ids(rng: Random, tmp_path: Path) -> None:
    made = make_all(rng)
    assert len(made.wnids) == 1000
    root = made.archives(tmp_path / "root", [TRAIN, VAL, DEVKIT])
    listing = listed(root)
    assert sorted({entry.label for entry in listing.entries["train"]}) == list(range(1000))
    assert listing.classes == [f"thing {label}" for label in range(1000)]
    for split, pictures in made.images.items():
        there = [(entry.id, entry.label) for entry in listing.entries[split]]  # type: ignore[index]
        assert there == [(picture.id, picture.label) for picture in pictures]


# Entries


def test_entries_are_a_sequence_and_travel_small(stand_in: StandIn, root: Path) -> None:
    listing = listed(root)
    assert listing.bytes == sum(len(picture.data) for picture in stand_in.train + stand_in.val)
    for split in SPLITS:
        entries = listing.entries[split]
        everything = list(entries)
        assert len(entries) == len(everything) == len(stand_in.images[split])
        assert all(isinstance(entry, Entry) for entry in everything)
        assert list(entries[3:9]) == everything[3:9]
        assert list(entries[:]) == everything and list(entries[len(everything) :]) == []
        assert len(entries[5:]) == len(everything) - 5
        assert list(entries[2:10][1:4]) == everything[3:6], "a slice of a slice"
        assert entries[0] == everything[0] and entries[-1] == everything[-1]
        again = pickle.loads(pickle.dumps(entries[4:7]))
        assert list(again) == everything[4:7]
        assert len(pickle.dumps(entries[4:7])) < 4000
    sent = pickle.dumps(source(root))
    assert len(sent) < 500
    last = listing.entries["train"][-1]
    assert pickle.loads(sent).read(last) == source(root).read(last)


def many(random: Random, classes: int, each: int) -> StandIn:
    """A stand-in of very many files that are no images at all, which a listing does not see."""
    wnids = [f"n{1_500_000 + 7 * number:08d}" for number in range(classes)]
    train = [
        IlsvrcImage(f"{wnid}_{number}", label, b"x", (1, 1), None, "plain")
        for label, wnid in enumerate(wnids)
        for number in range(each)
    ]
    val = [
        IlsvrcImage(f"ILSVRC2012_val_{number:08d}", 0, b"x", (1, 1), None, "plain") for number in range(1, classes + 1)
    ]
    ids = {wnid: classes - label for label, wnid in enumerate(wnids)}
    return StandIn(random, wnids, {wnid: wnid for wnid in wnids}, ids, train, val)


def measured(small: Path, large: Path) -> tuple[float, float]:
    """The bytes an image that a listing keeps, and has at most."""
    tracemalloc.start()
    try:
        first = listed(small)
        base = tracemalloc.get_traced_memory()[0]
        listing = listed(large)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    more = len(listing.entries["train"]) - len(first.entries["train"])
    assert more == 3900
    return (kept - base) / more, (peak - base) / more


def test_a_listing_of_a_million_images_would_fit_in_memory(rng: Random, tmp_path: Path) -> None:
    small = many(rng, 10, 10).archives(tmp_path / "small", [TRAIN, VAL, DEVKIT])
    large = many(rng, 10, 400).archives(tmp_path / "large", [TRAIN, VAL, DEVKIT])
    listed(small)  # what is imported and kept once
    # the least: in between, Python's table of names may grow, which is as large as the tests before have made it
    kept, peak = (min(some) for some in zip(*(measured(small, large) for _ in range(2)), strict=True))
    assert kept < 128, f"{kept:.0f} bytes an image are kept"
    assert peak < 600, f"{peak:.0f} bytes an image at most"


def bytes_read() -> int:
    """All that this process has read from files."""
    words = Path("/proc/self/io").read_text().split()
    return int(words[words.index("rchar:") + 1])


@on_linux
def test_each_images_bytes_are_read_once(rng: Random, tmp_path: Path) -> None:
    made = make(rng, each=(3, 5), val=7)
    for pictures in (made.train, made.val):
        pictures[:] = [
            picture._replace(data=picture.data + rng.bytes(400_000)) for picture in pictures
        ]  # junk after the end
    root = made.archives(tmp_path / "root")
    small = make(rng, each=(2, 3), val=7).archives(tmp_path / "small")
    listed(small)  # what is imported
    before = bytes_read()
    listed(small)
    whatever = bytes_read() - before  # also by a process that it may start and wait for
    total = sum(len(picture.data) for picture in made.train + made.val)
    before = bytes_read()
    images = listed(root)
    listing = bytes_read() - before - whatever
    assert listing < total / 10, f"listing reads {listing} bytes, of {total} that the images have"
    reader, before = source(root), bytes_read()
    for split in SPLITS:
        for entry in images.entries[split]:
            reader.read(entry)
    reading = bytes_read() - before
    assert reading < 1.1 * total, f"reading reads {reading} bytes for {total}"
    before = bytes_read()
    source_module().fingerprint(root)
    assert bytes_read() - before < total / 10


# The audit


def said_of(listing: Listing) -> str:
    assert not isinstance(listing.departures, str)
    return "\n".join(listing.departures)


def numbers_in(text: str) -> set[int]:
    return {int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", text)}


def test_a_stand_in_is_not_plain_and_the_counts_say_why(stand_in: StandIn, root: Path) -> None:
    numbers = numbers_in(said_of(listed(root)))
    assert {len(stand_in.train), 1_281_167} <= numbers, numbers
    assert {len(stand_in.val), 50_000} <= numbers
    assert {7, 1000} <= numbers


@pytest.fixture
def as_published(monkeypatch: pytest.MonkeyPatch) -> Callable[[StandIn], None]:
    """Has the audit take a stand-in's numbers for those that were published."""

    return functools.partial(publish, monkeypatch)


@pytest.mark.parametrize("change", ["one missing", "one too many", "one class's for another's", "val missing"])
def test_the_audit_finds_one_image_missing_or_too_many(
    change: str, stand_in: StandIn, rng: Random, tmp_path: Path, as_published: Callable[[StandIn], None]
) -> None:
    as_published(stand_in)
    meta = stand_in.meta()
    gone = int(rng.integers(len(stand_in.train)))
    wnid = stand_in.wnids[stand_in.train[gone].label]
    other = next(one for one in stand_in.wnids if one != wnid)
    extra = stand_in.of_class(other)[0]
    named = {wnid}
    kit = zipped(pack(stand_in.devkit_members(meta=meta)))
    if change == "val missing":
        del stand_in.val[int(rng.integers(len(stand_in.val)))]
        named = set()
    if change in ("one missing", "one class's for another's"):
        del stand_in.train[gone]
    if change in ("one too many", "one class's for another's"):
        stand_in.train.append(extra._replace(id=f"{other}_{10**6}"))
        named = {other} | ({wnid} if change.startswith("one class") else set())
    listing = listed(stand_in.archives(tmp_path / "root", DEVKIT=kit))
    message = said_of(listing)
    assert message
    assert all(one in message or NAMES[one] in message for one in named), message
    if change == "val missing":
        assert {len(stand_in.val), len(stand_in.val) + 1} <= numbers_in(message), message


def test_a_limit_is_a_departure_and_takes_as_many_of_each_class(
    stand_in: StandIn, tmp_path: Path, as_published: Callable[[StandIn], None], rng: Random
) -> None:
    as_published(stand_in)
    limit = int(rng.integers(7, 14))
    whole = listed(stand_in.archives(tmp_path / "root"))
    some = listed(tmp_path / "root", limit)
    tree = listed(stand_in.tree(tmp_path / "tree"), limit)
    assert str(limit) in said_of(some)
    for split in SPLITS:
        entries = list(some.entries[split])
        each = Counter(entry.label for entry in entries)
        assert len(entries) == limit and len(each) == 7 and max(each.values()) - min(each.values()) <= 1
        kept = {entry.id for entry in entries}
        assert [entry.id for entry in whole.entries[split] if entry.id in kept] == [entry.id for entry in entries]
        assert [(item.id, item.label) for item in tree.entries[split]] == [(item.id, item.label) for item in entries]
    chosen = {entry.id for split in SPLITS for entry in some.entries[split]}
    assert some.bytes == sum(len(item.data) for item in stand_in.train + stand_in.val if item.id in chosen)


def test_a_limit_beyond_what_there_is_takes_all_and_one_below_the_classes_is_a_failure(
    root: Path, stand_in: StandIn
) -> None:
    assert len(listed(root, 10**6).entries["train"]) == len(stand_in.train)
    with pytest.raises(Failure, match="limit"):
        listed(root, 6)


def test_the_facts_of_what_has_the_published_numbers_are_comparable(
    stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_published: Callable[[StandIn], None]
) -> None:
    as_published(stand_in)
    place(tmp_path, monkeypatch)
    facts = module.prepare(params_for(tmp_path, stand_in.archives(tmp_path / "root")))
    assert facts.comparable is True
    assert "not a plain" not in facts.about


def test_an_image_that_cannot_be_decoded_makes_it_no_plain_one(
    stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_published: Callable[[StandIn], None]
) -> None:
    """Skipped in preparation, it is in no training: the numbers of entries are not the whole audit."""
    as_published(stand_in)
    place(tmp_path, monkeypatch)
    bad = stand_in.train[5]
    stand_in.train[5] = bad._replace(data=b"<html>404</html>")
    facts = module.prepare(params_for(tmp_path, stand_in.archives(tmp_path / "root")))
    assert facts.train == len(stand_in.train) - 1
    assert facts.comparable is False
    assert "not the published data set" in facts.about


# Fingerprint, what is missing


@pytest.mark.parametrize("name", [TRAIN, DEVKIT, BOXES_VAL])
def test_the_fingerprint_sees_another_archive_and_no_copy(name: str, root: Path, tmp_path: Path, rng: Random) -> None:
    fingerprint = source_module().fingerprint
    first = fingerprint(root)
    json.dumps(first)
    copy = shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(copy / name, (1, 1))
    assert fingerprint(copy) == first
    listed(copy)
    assert fingerprint(copy) == first, "listing changes nothing"
    (copy / "beside.txt").write_text("")
    assert fingerprint(copy) == first
    data, seen = (root / name).read_bytes(), [first]
    for place in (0, int(rng.integers(64)), len(data) - 1 - int(rng.integers(64)), len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1 + int(rng.integers(255))
        (copy / name).write_bytes(changed)
        assert fingerprint(copy) != first, place
    for changed_size in (data + b"\0", data[:-1], data + bytes(10240)):
        (copy / name).write_bytes(changed_size)
        found = fingerprint(copy)
        assert found not in seen
        seen.append(found)
    (copy / name).unlink()
    if name in (BOXES_TRAIN, BOXES_VAL):
        assert fingerprint(copy) not in seen
    (copy / name).write_bytes(data)
    assert fingerprint(copy) == first


def test_a_trees_fingerprint_sees_an_image_more_and_one_less(stand_in: StandIn, tmp_path: Path) -> None:
    fingerprint, root = source_module().fingerprint, stand_in.tree(tmp_path / "root")
    first = fingerprint(root)
    json.dumps(first)
    assert fingerprint(root) == first
    picture = stand_in.train[0]
    path = root / "train" / stand_in.wnids[0] / f"{picture.id}.JPEG"
    path.rename(path.with_name(f"{stand_in.wnids[0]}_{10**7}.JPEG"))
    second = fingerprint(root)
    assert second != first
    path.write_bytes(picture.data)
    assert fingerprint(root) not in (first, second)


def test_the_fingerprint_of_nothing_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name in ("empty", "none", "file"):
        with pytest.raises(Failure, match=name):
            source_module().fingerprint(tmp_path / name)


def missing(tmp_path: Path, root: Path | None) -> str:
    from pipeline.datasets import sources

    message: str = sources.missing(params_for(tmp_path, root).active)
    return message


def test_what_is_missing_is_said_in_a_sentence(
    root: Path, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert missing(tmp_path, root) == ""
    assert missing(tmp_path, stand_in.tree(tmp_path / "tree")) == ""
    assert missing(tmp_path, stand_in.tree(tmp_path / "folders", "folders", "none")) == ""
    empty = tmp_path / "empty"
    empty.mkdir()
    assert missing(tmp_path, None), "data/ilsvrc2012 is not there"
    for place in (empty, tmp_path / "none", tmp_path / "params-0.yaml"):
        assert str(place) in missing(tmp_path, place)
    for name in (TRAIN, VAL, DEVKIT):
        there = stand_in.archives(tmp_path / f"without {name}", [archive for archive in ARCHIVES if archive != name])
        message = missing(tmp_path, there)
        assert name in message, message
        with pytest.raises(Failure, match=re.escape(name)):
            listed(there)


def test_a_flat_val_without_a_devkit_says_what_is_missing(stand_in: StandIn, tmp_path: Path) -> None:
    root = stand_in.tree(tmp_path / "root", "flat", "none")
    with pytest.raises(Failure, match=DEVKIT_FOLDER):
        listed(root)


def test_a_tree_without_a_split_says_which(stand_in: StandIn, tmp_path: Path) -> None:
    for split in SPLITS:
        root = stand_in.tree(tmp_path / f"without {split}")
        shutil.rmtree(root / split)
        with pytest.raises(Failure, match=rf"a folder {split}\b"):
            listed(root)


def test_what_does_not_belong_into_a_tree_is_skipped_by_name(stand_in: StandIn, tmp_path: Path) -> None:
    root = stand_in.tree(tmp_path / "root", "flat")
    folder = root / "train" / stand_in.wnids[2]
    outside = tmp_path / "outside.JPEG"
    outside.write_bytes(stand_in.train[0].data)
    (folder / "readme.txt").write_text("")
    (root / "train" / "stray.txt").write_text("")
    (folder / f"{stand_in.wnids[3]}_7.JPEG").write_bytes(stand_in.train[0].data)
    (folder / f"{stand_in.wnids[2]}_77777777.JPEG").symlink_to(outside)
    (root / "train" / "notes").mkdir()
    (root / "val" / "ILSVRC2012_val_00049998.JPEG").write_bytes(stand_in.val[0].data)
    listing = listed(root)
    message = " ".join(f"{skipped.id} {skipped.reason}" for skipped in listing.skipped)
    for name in ("readme.txt", "stray.txt", f"{stand_in.wnids[3]}_7", "77777777", "ILSVRC2012_val_00049998"):
        assert name in message, name
    for split, pictures in stand_in.images.items():
        assert [entry.id for entry in listing.entries[split]] == [picture.id for picture in pictures]  # type: ignore[index]


@pytest.mark.parametrize("devkit", ["none", "folder"])
def test_a_validation_image_that_lies_in_two_classes_is_not_taken_twice(
    devkit: str, stand_in: StandIn, tmp_path: Path, rng: Random
) -> None:
    root = stand_in.tree(tmp_path / "root", "folders", devkit)
    picture = stand_in.val[int(rng.integers(len(stand_in.val)))]
    other = stand_in.wnids[(picture.label + 1) % len(stand_in.wnids)]
    shutil.copy(root / "val" / stand_in.wnids[picture.label] / f"{picture.id}.JPEG", root / "val" / other)
    try:
        listing = listed(root)
    except Failure as failure:
        message = str(failure)
    else:
        message = " ".join([*(f"{skipped.id} {skipped.reason}" for skipped in listing.skipped), *listing.departures])
        ids = [entry.id for entry in listing.entries["val"]]
        assert len(ids) == len(set(ids))
    assert picture.id in message


@pytest.mark.parametrize("what", ["train", "val", "a class"])
def test_links_to_folders_elsewhere_are_followed_or_said(what: str, stand_in: StandIn, tmp_path: Path) -> None:
    """Many a tree is a link to the disk that has the room; nothing is skipped in silence."""
    root = stand_in.tree(tmp_path / "root")
    path = root / (f"train/{stand_in.wnids[1]}" if what == "a class" else what)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    try:
        listing = listed(root)
    except Failure as failure:
        message = str(failure)
    else:
        message = " ".join(f"{skipped.id} {skipped.reason}" for skipped in listing.skipped)
        if not message:
            check_listing(stand_in, root, listing)
            return
    assert path.name in message and "link" in message, message


# Prepared


def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: str = "shards") -> None:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VGG_REPRO_SHARDS", str(tmp_path / shards))


def params_for(tmp_path: Path, root: Path | None, limit: int | None = None, **prepare: object) -> Params:
    """The repository's parameters with a stand-in for a source; a crop is 64 pixels, S 146 at the most."""
    return repository_params(
        tmp_path,
        data={"source": "ilsvrc2012", "path": None if root is None else str(root), "limit": limit},
        prepare={"processes": 1, "device": "cpu", "upright": False, "shard_images": 16, **prepare},
        net={"size_ratio": "2/7"},
    )


def folder_of(params: Params) -> Path:
    return shards_root() / dataset_key.shards_key(params)


def test_prepared_images_carry_their_class_and_boxes(
    stand_in: StandIn, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path, monkeypatch)
    params = params_for(tmp_path, root)
    facts = module.prepare(params)
    assert facts.classes == [NAMES[wnid] for wnid in stand_in.wnids]
    assert (facts.train, facts.val) == (len(stand_in.train), len(stand_in.val)), "the known oddities pass"
    assert facts.rescaled
    assert (facts.source, facts.comparable) == ("ilsvrc2012", False)
    assert "not the published data set" in facts.about
    assert str(len(stand_in.train)) in facts.about or "1,281,167" in facts.about, "with the reason"
    known = rows()
    for split, pictures in stand_in.images.items():
        shards = Shards(folder_of(params), split)
        assert shards.ids == [picture.id for picture in pictures]
        assert shards.labels.tolist() == [picture.label for picture in pictures]
        for number, picture in enumerate(pictures):
            encoded = bytes(shards[number])
            assert label_of(encoded, picture.kind) == picture.label, picture.id
            width, height = int(shards.widths[number]), int(shards.heights[number])
            with Image.open(io.BytesIO(encoded)) as stored:
                assert stored.size == (width, height)
            ratio = np.array([width / picture.size[0], height / picture.size[1]] * 2)
            boxes = shards.boxes_of(number)
            assert boxes.dtype == np.float32 and boxes.shape == (len(boxes), 4)
            assert same_boxes(tuple((boxes / ratio).tolist()), picture), picture
            if picture.kind in ("plain", "png", "junk", "exif 6"):
                for box in boxes.tolist():
                    check_painted(decoded(encoded), tuple(box), picture.label, picture.id)
            assert known[split, picture.id]["sha256"] == hashlib.sha256(picture.data).hexdigest()
            if picture.kind == "exif 6":
                assert "turned" not in str(known[split, picture.id]), "it is taken as it lies"
                assert (width > height) == (picture.size[0] > picture.size[1])


def test_archives_and_tree_become_the_same_data_set(
    stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = {}
    for number, layout in enumerate(("archives", "tree, val in classes, devkit")):
        place(tmp_path, monkeypatch, f"shards-{number}")
        params = params_for(tmp_path, LAYOUTS[layout](stand_in, tmp_path / f"root-{number}"))
        module.prepare(params)
        files = {name: hashed for name, hashed in hashes_in(folder_of(params)).items() if name != "facts.json"}
        prepared[layout] = files, CLASSIFICATION.statistics.read_bytes(), CLASSIFICATION.manifest.read_bytes()
    for layout, result in prepared.items():
        assert result == prepared["archives"], layout


def test_two_processes_make_the_bytes_of_one(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees = []
    for processes in (1, 2):
        place(tmp_path, monkeypatch, f"shards-{processes}")
        params = params_for(tmp_path, root, processes=processes)
        facts = module.prepare(params)
        trees.append((facts, hashes_in(folder_of(params)), rows()))
    assert trees[0] == trees[1]


def stop_after(monkeypatch: pytest.MonkeyPatch, reads: int) -> list[str]:
    """Has Ctrl-C come as an image is to be read; the ids of those read before."""
    seen: list[str] = []
    real = source_module().Ilsvrc.read

    def read(self: Any, entry: Entry) -> Any:
        if len(seen) == reads:
            raise KeyboardInterrupt
        seen.append(entry.id)
        return real(self, entry)

    monkeypatch.setattr(source_module().Ilsvrc, "read", read)
    return seen


# Room on the disk


class Room:
    """A disk with so many bytes free."""

    def __init__(self, free: int) -> None:
        self.free, self.asked = free, list[Path]()

    def __call__(self, path: Any) -> Any:
        self.asked.append(Path(path))
        assert Path(path).exists(), "shutil.disk_usage fails for what is not there"
        return shutil._ntuple_diskusage(10**15, 10**15 - self.free, self.free)  # type: ignore[attr-defined]


def test_too_small_a_disk_is_refused_before_anything_is_written(
    stand_in: StandIn, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path, monkeypatch, "shards/deep below")
    monkeypatch.setattr(shutil, "disk_usage", Room(1000))
    seen = stop_after(monkeypatch, -1)
    before = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    params = params_for(tmp_path, root)
    with pytest.raises(Failure) as caught:
        module.prepare(params)
    message = str(caught.value)
    assert len(re.findall(NUMBER, message)) >= 2, f"how much is needed, and how much is free: {message}"
    assert not seen
    after = {path.name for path in tmp_path.rglob("*") if path.is_file()} - before
    assert all(name.startswith("params-") or name.endswith(".lock") for name in after), after


def test_the_room_that_is_needed_is_said_before_starting(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place(tmp_path, monkeypatch)
    room = Room(123_456_789_000)
    monkeypatch.setattr(shutil, "disk_usage", room)
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        with pytest.raises(Interrupted):
            module.prepare(params_for(tmp_path, root))
    output = capsys.readouterr()
    assert room.asked
    assert len(re.findall(NUMBER, output.out + output.err)) >= 2, output
    assert re.search(r"123(?:\.\d+)?\s?GB|11[45](?:\.\d+)?\s?GiB", output.out + output.err), (
        f"how much is free: {output}"
    )


def test_what_is_done_already_needs_no_more_room(
    stand_in: StandIn, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path, monkeypatch)
    params = params_for(tmp_path, root)
    total = len(stand_in.train) + len(stand_in.val)
    with monkeypatch.context() as patch:
        stop_after(patch, total - 1)
        with pytest.raises(Interrupted):
            module.prepare(params)
    images = sum(len(picture.data) for picture in stand_in.train + stand_in.val)
    monkeypatch.setattr(shutil, "disk_usage", Room(images * 2 // 3))
    facts = module.prepare(params)
    assert facts.train == len(stand_in.train)


# The whole


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StandIn]:
    """A tiny clone whose data set is a stand-in."""
    made = make(np.random.default_rng(run_seed()))
    root = made.archives(tmp_path_factory.mktemp("archives") / "ILSVRC 2012")
    folder = tiny_clone(tmp_path_factory.mktemp("whole") / "clone")
    for path in call(ROOT, "git", "ls-files", "--others", "--exclude-standard", "--", "*.py").split():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / path)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["profiles"]["mini"]["data"] |= {"source": "ilsvrc2012", "path": str(root), "limit": None}
    params["profiles"]["mini"]["prepare"] |= {"shard_images": 8, "processes": 2}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return folder, made


@pytest.mark.slow
def test_the_archives_become_a_table(clone: tuple[Path, StandIn]) -> None:
    folder, made = clone
    output = call(folder, "vgg-repro", "prepare")
    assert re.search(NUMBER, output), "the room that is needed"
    facts = Facts(**json.loads((folder / "data/classification/facts-mini.json").read_text()))
    assert (facts.train, facts.val) == (len(made.train), len(made.val))
    assert not facts.comparable and "not the published data set" in facts.about
    call(folder, "dvc", "repro", "dense@A-256")
    call(folder, "vgg-repro", "stage", "table", "table3")
    summary = json.loads((folder / "weights/trained/A-256.json").read_text())
    assert summary["steps"] > 0
    table = json.loads((folder / "reports/mini/table3.json").read_text())
    assert (table["data"], table["classes"], table["images"]) == ("ilsvrc2012", 7, len(made.val))
    assert table["comparable"] is False
    assert all(row["ours"] is None or 0 <= row["ours"]["top1"]["error"] <= 100 for row in table["rows"])
    assert any(row["ours"] for row in table["rows"])
    assert executed(call(folder, "dvc", "repro", "dense@A-256")) == {"fingerprint"}
    page = call(folder, "vgg-repro", "data")
    assert "not the published data set" in page + (folder / "reports/mini/data.md").read_text()


@pytest.mark.exhaustive  # as that of digits in tests/whole/test_kills.py
def test_a_prepare_that_is_killed_goes_on_and_ends_in_the_same_bytes(
    clone: tuple[Path, StandIn], tmp_path: Path, rng: Random
) -> None:
    folder, _ = clone
    found = []
    for kills in (0, 2):
        here = tmp_path / str(kills)
        here.mkdir()
        shutil.copyfile(folder / "params.yaml", here / "params.yaml")
        for _ in range(kills):
            wanted = len(list(here.glob("data/shards/*/*.part.npz"))) + int(rng.integers(1, 4))
            moment = f"len(list(Path().glob('data/shards/*/*.part.npz'))) >= {wanted}"
            run = begin(here, str(held(tmp_path, moment)), "prepare", "--direct")
            wait_for((here / "held").exists, 600)
            run.send_signal(signal.SIGKILL)
            assert run.wait() == -signal.SIGKILL
            wait_for(lambda here=here: not at_work(here), 60)
            (here / "held").unlink()
        output = call(here, "vgg-repro", "prepare", "--direct")
        assert ("are already in complete shards" in output) == (kills > 0)
        (shards,) = (path for path in here.glob("data/shards/*") if path.is_dir())
        found.append((shards.name, hashes_in(shards)))
    assert found[0] == found[1]
