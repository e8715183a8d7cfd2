"""Images as they come: what is of no use is skipped with its reason, the rest kept, turned or converted."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.datasets import prepare as module
from pipeline.datasets import shard_worker
from pipeline.datasets.manifest import IN_VAL_TOO, tally
from pipeline.datasets.prepare import is_whole
from pipeline.datasets.shards import Shards
from pipeline.datasets.sources.base import SPLITS, Skipped, Split
from pipeline.datasets.sources.folder import NOT_AN_IMAGE
from pipeline.errors import Failure
from pipeline.experiment.paths import CLASSIFICATION
from tests.support.cases import case
from tests.support.fake_source import (
    CANNOT,
    FakeSource,
    Item,
    Prepared,
    Workplace,
    hashes_in,
    rows,
    small_items,
    stored,
)
from tests.support.images import Pixels, decoded, jpeg, photograph, resized, size

Random = np.random.Generator
LARGEST, CROP = 146, 64  # 2/7 of S = 512 and of 224
TRAIN, VAL = 12, 6
# mean grey levels between two resamplers' or decoders' roundings, each followed by a JPEG of quality 95: up to 1.1 in
# 250 draws; shifted by a pixel or turned otherwise it is over 3
APART = 2.0


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """An empty folder to work in."""
    return Workplace(tmp_path, monkeypatch)


@pytest.fixture
def fake(rng: Random) -> FakeSource:
    """A source of small photographs."""
    return FakeSource(small_items(rng, "train", TRAIN), small_items(rng, "val", VAL))


def in_format(kind: str, random: Random, height: int = 90, width: int = 110, **options: Any) -> bytes:
    """A photograph in any of Pillow's formats."""
    buffer = io.BytesIO()
    Image.fromarray(photograph(random, height, width)).save(buffer, kind, **options)
    return buffer.getvalue()


def with_more(fake: FakeSource, split: Split, more: dict[str, bytes | None], random: Random) -> FakeSource:
    """The source with more images, by their ids, of random classes and in random places."""
    items = list(fake.given[split])
    for id, encoded in more.items():
        items.insert(int(random.integers(len(items) + 1)), Item(id, int(random.integers(2)), encoded))
    return FakeSource(**{**fake.given, split: items}, skipped=fake.skipped)


def animated(random: Random) -> bytes:
    """A GIF of two pictures."""
    return in_format("GIF", random, save_all=True, append_images=[Image.fromarray(photograph(random, 90, 110))])


BAD: dict[str, tuple[Callable[[Random], bytes | None], str]] = {
    "html": (lambda _: b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "a web page .*not an image"),
    "nothing": (lambda _: b"", "an empty file"),
    "zeros": (lambda _: bytes(5000), "only zeros"),
    "noise": (lambda random: b"\x01" + random.bytes(5000), "not an image"),
    "jpeg-head": (
        lambda random: in_format("JPEG", random)[: int(random.integers(4, 150))],
        "not an image|cannot be decoded: .+",
    ),
    "png-cut": (lambda random: in_format("PNG", random)[:5000], "cannot be decoded: .+"),
    "animation": (animated, "more than one image: a GIF with 2 frames"),
    "thin": (lambda random: in_format("PNG", random, 1, 20), "one pixel high or wide: 20 x 1"),
    "long": (lambda random: in_format("PNG", random, 70, 2), "longer than 32 times its shorter side: 2 x 70"),
    "refused": (lambda _: None, CANNOT),
}


# Skipped


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_skipped_is_named_with_its_reason_and_changes_nothing_else(
    split: Split, workplace: Workplace, fake: FakeSource, rng: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TINY", 100)  # so that all are in one shard
    wanted = workplace.prepare(fake)
    before = hashes_in(wanted.folder)
    bad = {kind: make(rng) for kind, (make, _) in BAD.items()}
    prepared = workplace.prepare(with_more(fake, split, bad, rng))
    assert prepared.facts == wanted.facts
    after = hashes_in(prepared.folder)
    assert {name for name in after if after[name] != before.get(name)} == {"manifest.csv"}
    assert {key: row for key, row in prepared.rows.items() if key[1] not in BAD} == wanted.rows
    for kind, (_, reason) in BAD.items():
        row = prepared.rows[split, kind]
        assert re.fullmatch(reason, row["skipped"]), (kind, row)
        assert (row["height"], row["width"], row["changed"]) == ("", "", ""), row
        assert row["bytes"] == str(len(bad[kind] or b"")), row
    assert tally(CLASSIFICATION.manifest)[0] == len(BAD)


def test_one_bad_file_more_changes_what_is_said_of_a_plain_data_set_and_not_what_training_depends_on(
    workplace: Workplace, fake: FakeSource, rng: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TINY", 100)
    monkeypatch.setattr(FakeSource, "comparable", True)
    plain = workplace.prepare(fake).facts
    before = CLASSIFICATION.statistics.read_bytes()
    facts = workplace.prepare(with_more(fake, "val", {"page": b"<html>404</html>"}, rng)).facts
    assert plain.comparable and not facts.comparable and "1 images are skipped" in facts.about
    assert CLASSIFICATION.statistics.read_bytes() == before


def test_an_image_whose_end_is_missing_is_skipped_or_kept_with_a_warning(
    workplace: Workplace, fake: FakeSource, rng: Random
) -> None:
    """DALI decides, and libjpeg says what there is to say."""
    cut = in_format("JPEG", rng, 120, 130)
    cut = cut[: int(rng.integers(len(cut) // 2, len(cut) - 50))]
    prepared = workplace.prepare(with_more(fake, "train", {"cut": cut}, rng))
    row = prepared.rows["train", "cut"]
    assert bool(row["skipped"]) != bool(row["warning"]), row
    assert (cut in stored(prepared.folder, "train")) == bool(row["warning"]), row


def test_what_the_listing_leaves_out_is_in_the_manifest_too(workplace: Workplace, fake: FakeSource) -> None:
    wanted = workplace.prepare(fake)
    fake.skipped = [Skipped("train", f"train/one/.{number}", "hidden") for number in range(50)]
    fake.skipped.append(Skipped("val", "val/notes, old.txt", 'a file beside the classes\' "folders"'))
    prepared = workplace.prepare(fake, prepare={"max_unreadable": 0.0})  # they are no images, and never too many
    assert prepared.facts == wanted.facts
    assert prepared.rows["train", "train/one/.7"]["skipped"] == "hidden"
    assert prepared.rows["val", "val/notes, old.txt"] == dict.fromkeys(prepared.rows["train", "train/one/.7"], "") | {
        "split": "val", "id": "val/notes, old.txt", "skipped": 'a file beside the classes\' "folders"'
    }  # fmt: skip
    assert tally(CLASSIFICATION.manifest)[0] == 51


def test_dali_never_sees_what_is_no_image(
    workplace: Workplace, fake: FakeSource, rng: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = [kind for kind in BAD if kind != "jpeg-head"]  # whose head may be that of a JPEG, and DALI says no to it
    bad = {kind: BAD[kind][0](rng) for kind in kinds}
    seen: list[bytes] = []
    decode = shard_worker.Decoder.__call__

    def watched(decoder: Any, encoded: list[Pixels], *rest: Any) -> Any:
        seen.extend(one.tobytes() for one in encoded)
        return decode(decoder, encoded, *rest)

    monkeypatch.setattr(shard_worker.Decoder, "__call__", watched)
    workplace.prepare(with_more(fake, "train", bad, rng))
    assert set(seen) == {item.encoded for split in SPLITS for item in fake.given[split]}


def test_a_shard_of_which_nothing_is_left_is_read_like_any_other(
    workplace: Workplace, fake: FakeSource, rng: Random
) -> None:
    nothing = [Item(f"bad {i}", 0, rng.bytes(40)) for i in range(4)]
    for place in (0, 4, TRAIN):
        train = [*fake.given["train"][:place], *nothing, *fake.given["train"][place:]]
        prepared = workplace.prepare(
            FakeSource(train, fake.given["val"]), prepare={"shard_images": 2, "rescale": "none"}
        )
        assert is_whole(prepared.folder)
        assert stored(prepared.folder, "train") == [item.encoded for item in fake.given["train"]]
        assert [path.stat().st_size for path in prepared.folder.glob("train-*.bin")].count(0) == 2


# Too many


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_too_many_unreadable_images_stop_it_with_names_and_one_fewer_does_not(
    share: float, workplace: Workplace, fake: FakeSource, rng: Random
) -> None:
    total = 60
    limit = max(10, int(total * share))
    good = small_items(rng, "train", total - limit - VAL)
    ten = with_more(FakeSource(good, fake.given["val"]), "train", {f"bad {i}": None for i in range(limit)}, rng)
    prepared = workplace.prepare(ten, prepare={"max_unreadable": share})
    assert prepared.facts.train == len(good)
    assert tally(CLASSIFICATION.manifest)[0] == limit
    one_more = FakeSource([item for item in ten.given["train"] if item is not good[-1]], fake.given["val"])
    one_more = with_more(one_more, "train", {"one more": None}, rng)
    with pytest.raises(Failure) as caught:
        workplace.prepare(one_more, prepare={"max_unreadable": share})
    first = [item.id for item in one_more.given["train"] if item.encoded is None][:3]
    text = str(caught.value)
    assert f"{limit + 1} of {total} images" in text, text
    assert f"more than {limit} " in text and "prepare.max_unreadable" in text, text
    assert "; ".join(f"{id}: {CANNOT}" for id in first) in text, text
    assert not any(is_whole(folder) for folder in (workplace.folder / "shards-2").iterdir() if folder.is_dir())


def test_it_stops_as_soon_as_there_are_too_many_and_goes_on_when_more_are_allowed(
    workplace: Workplace, fake: FakeSource, rng: Random
) -> None:
    bad = [Item(f"bad {i}", 0, rng.bytes(99)) for i in range(14)]
    source = FakeSource([*bad, *fake.given["train"]], fake.given["val"])
    with pytest.raises(Failure, match="12 of 32 images cannot be used"):
        workplace.prepare(source, prepare={"shard_images": 2})
    assert source.reads == [item.id for item in [*fake.given["val"], *bad[:12]]]
    source.reads.clear()
    prepared = workplace.prepare(source, again=True, prepare={"shard_images": 2, "max_unreadable": 0.5})
    assert source.reads == [item.id for item in [*bad[12:], *fake.given["train"]]]
    assert prepared.facts.train == TRAIN


def test_images_that_could_not_be_read_are_tried_again_by_the_same_command(
    workplace: Workplace, fake: FakeSource, rng: Random
) -> None:
    """A disk that was away for a while, say: nothing about the files has changed, and they can be read now."""
    away = [item._replace(encoded=None) for item in fake.given["train"]]
    with pytest.raises(Failure, match="12 of 18 images cannot be used"):
        workplace.prepare(FakeSource(away, fake.given["val"]))
    prepared = workplace.prepare(fake, again=True)
    assert prepared.facts.train == TRAIN


# Too little


def test_a_class_of_which_no_training_image_is_left_is_a_failure_and_the_manifest_says_why(
    workplace: Workplace, fake: FakeSource, rng: Random
) -> None:
    train = [item._replace(encoded=rng.bytes(99)) if item.label else item for item in fake.given["train"]]
    with pytest.raises(Failure, match=r"no training images are left in two: data/classification/manifest\.csv"):
        workplace.prepare(FakeSource(train, fake.given["val"]))
    assert {row["skipped"] for row in rows().values() if row["split"] == "train"} == {"", "not an image"}


def test_a_split_without_an_image_is_a_failure(workplace: Workplace, fake: FakeSource, rng: Random) -> None:
    for val in ([], [Item("val/0", 0, rng.bytes(99))]):
        with pytest.raises(Failure, match="there are no validation images"):
            workplace.prepare(FakeSource(fake.given["train"], val))
    with pytest.raises(Failure, match="no training images are left in one, two"):  # all of a few fall to validation
        workplace.prepare(FakeSource([], fake.given["val"]))


# In both splits


def test_training_images_that_are_in_val_too_are_dropped_or_kept(
    workplace: Workplace, fake: FakeSource, rng: Random
) -> None:
    both = {f"shared {i}": fake.given["val"][i].encoded for i in (0, 2, 3)}
    source = with_more(fake, "train", both, rng)
    without = workplace.prepare(fake)
    images = {split: stored(without.folder, split) for split in SPLITS}
    dropped = workplace.prepare(source)
    assert dropped.facts == without.facts, "counts and colours too"
    assert {split: stored(dropped.folder, split) for split in SPLITS} == images
    assert {id: row["skipped"] for (_, id), row in dropped.rows.items() if row["skipped"]} == dict.fromkeys(
        both, IN_VAL_TOO
    )
    kept = workplace.prepare(source, prepare={"shared": "keep"})
    assert (kept.facts.train, kept.facts.val) == (TRAIN + 3, VAL)
    assert Shards(kept.folder, "train").ids == [item.id for item in source.given["train"]]
    assert not any(row["skipped"] for row in kept.rows.values())
    first = np.multiply(without.facts.mean_rgb, TRAIN) + sum(
        decoded(small(encoded, kept.rows["train", id])).reshape(-1, 3).mean(0) for id, encoded in both.items()
    )
    # each weighs the same; DALI's smaller ones differ from Pillow's by a grey level's rounding at the most
    assert np.allclose(kept.facts.mean_rgb, first / (TRAIN + 3), atol=0.1)
    assert kept.facts.manifest != dropped.facts.manifest


def small(encoded: bytes, row: dict[str, str]) -> bytes:
    """An image at the size that the manifest says, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(resized(encoded, int(row["height"]), int(row["width"]))).save(buffer, "PNG")
    return buffer.getvalue()


def test_what_is_twice_in_one_split_stays(workplace: Workplace, fake: FakeSource, rng: Random) -> None:
    twice = with_more(fake, "train", {"again": fake.given["train"][0].encoded}, rng)
    twice = with_more(twice, "val", {"again": fake.given["val"][0].encoded}, rng)
    facts = workplace.prepare(twice).facts
    assert (facts.train, facts.val) == (TRAIN + 1, VAL + 1)


# Kept


@pytest.mark.parametrize("split", SPLITS)
def test_an_image_that_only_pillow_decodes_is_converted_without_loss_and_said_to_be(
    split: Split, workplace: Workplace, fake: FakeSource, rng: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, decode = in_format("JPEG", rng), shard_worker.Decoder.__call__

    def stumble(self: Any, encoded: list[Pixels], sizes: Any = None) -> list[Pixels]:
        """As DALI does over some lossless WebPs with EXIF data, in one version or another."""
        if any(one.tobytes() == odd for one in encoded):
            raise RuntimeError("Unexpected end of stream")
        return decode(self, encoded, sizes)

    monkeypatch.setattr(shard_worker.Decoder, "__call__", stumble)
    prepared = workplace.prepare(with_more(fake, split, {"odd": odd}, rng), prepare={"rescale": "none"})
    row = prepared.rows[split, "odd"]
    assert (row["changed"], row["skipped"]) == ("converted from a format that DALI cannot decode", "")
    kept = stored(prepared.folder, split)[Shards(prepared.folder, split).ids.index("odd")]
    assert kept.startswith(b"\x89PNG")
    assert np.array_equal(decoded(kept), decoded(odd))


def test_plain_formats_keep_their_bytes_and_odd_ones_are_converted_without_loss(
    workplace: Workplace, fake: FakeSource, rng: Random
) -> None:
    more = {kind: in_format(kind, rng) for kind in ("PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")}
    prepared = workplace.prepare(with_more(fake, "val", more, rng))
    images = dict(zip(Shards(prepared.folder, "val").ids, stored(prepared.folder, "val"), strict=True))
    for kind, picture in more.items():
        if kind in ("PNG", "WEBP"):
            assert (images[kind], prepared.rows["val", kind]["changed"]) == (picture, "")
        else:
            assert prepared.rows["val", kind]["changed"] == f"converted from {kind}"
            assert images[kind].startswith(b"\x89PNG") and np.array_equal(decoded(images[kind]), decoded(picture))


def test_large_training_images_of_other_formats_become_smaller_like_any(
    workplace: Workplace, fake: FakeSource, rng: Random
) -> None:
    more = {kind: in_format(kind, rng, 200, 240) for kind in ("PNG", "WEBP", "BMP")}
    prepared = workplace.prepare(with_more(fake, "train", more, rng))
    ids, images = Shards(prepared.folder, "train").ids, stored(prepared.folder, "train")
    for kind, picture in more.items():
        kept = images[ids.index(kind)]
        assert size(kept) == (LARGEST, 175)
        wanted = decoded(jpeg_of(resized(picture, *size(kept))))
        assert np.abs(decoded(kept).astype(int) - wanted).mean() < APART, kind
    changed = [prepared.rows["train", kind]["changed"] for kind in more]
    assert changed == ["rescaled", "rescaled", "converted from BMP, rescaled"]


def jpeg_of(pixels: Pixels) -> bytes:
    """A JPEG as the repository's parameters ask for it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling="4:4:4")
    return buffer.getvalue()


def test_images_below_the_crop_are_marked_small(workplace: Workplace, fake: FakeSource, rng: Random) -> None:
    sides = {"below": (CROP - 1, 300), "at": (CROP, 300), "upright": (300, CROP - 1), "large": (LARGEST + 30, 200)}
    for split in SPLITS:
        more = {id: jpeg(photograph(rng, *side)) for id, side in sides.items()}
        prepared = workplace.prepare(with_more(fake, split, more, rng))
        marked = {id: prepared.rows[split, id]["small"] for id in sides}
        assert marked == {"below": "yes", "at": "", "upright": "yes", "large": ""}
        assert tally(CLASSIFICATION.manifest).small == Counter(row["small"] for row in prepared.rows.values())["yes"]


@pytest.mark.parametrize("split", SPLITS)
def test_what_libjpeg_warns_of_keeps_its_bytes_and_has_the_warning_in_its_row(
    split: Split, workplace: Workplace, fake: FakeSource, rng: Random, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = in_format("JPEG", rng)
    odd = whole[:-2] + bytes(range(1, 41)) + whole[-2:]
    prepared = workplace.prepare(with_more(fake, split, {"odd": odd}, rng))
    assert odd in stored(prepared.folder, split)
    row = prepared.rows[split, "odd"]
    assert re.search(r"\d extraneous bytes before marker 0xd9", row["warning"]), (
        row
    )  # it swallows up to eight of the 40
    assert (row["changed"], row["skipped"]) == ("", "")
    assert [id for (_, id), row in prepared.rows.items() if row["warning"]] == ["odd"]
    assert tally(CLASSIFICATION.manifest).warning == 1
    assert capfd.readouterr().err == "", "the row says it, with the image's name"


# Upright


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Pillow's word on what is upright."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    with Image.open(buffer) as picture:
        return np.asarray(ImageOps.exif_transpose(picture))


def oriented(orientation: int) -> Image.Exif:
    """EXIF data with an orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_images_are_made_upright_as_pillow_does_it_and_their_boxes_too(
    workplace: Workplace, fake: FakeSource, rng: Random
) -> None:
    shapes = {("val", "large"): (170, 231), ("train", "large"): (231, 170), ("train", "less"): (80, 101)}
    images = {split: list(fake.given[split]) for split in SPLITS}
    pixels = {}
    for orientation in range(1, 9):
        for (split, name), (height, width) in shapes.items():
            key = split, f"{name} {orientation}"
            pixels[key] = photograph(rng, height, width)
            encoded, boxes = io.BytesIO(), ((9, 20, width // 2, height // 2 + 14),) * (name == "large")
            Image.fromarray(pixels[key]).save(encoded, "PNG", exif=oriented(orientation))
            images[split].insert(int(rng.integers(5)), Item(key[1], 0, encoded.getvalue(), boxes))
    prepared = workplace.prepare(FakeSource(images["train"], images["val"]))
    for (split, id), before in pixels.items():
        with case((split, id)):
            check_upright(prepared, split, id, before)


def check_upright(prepared: Prepared, split: Split, id: str, before: Pixels) -> None:
    """An image lies upright in its shard, and its box if it has one around what it was around."""
    shards, orientation = Shards(prepared.folder, split), int(id[-1])
    place = shards.ids.index(id)
    kept, upright = decoded(shards[place]), turned(before, orientation)
    smaller = "rescaled" if split == "train" and id.startswith("large") else ""
    if smaller:
        wanted = decoded(jpeg_of(turned(resized_pixels(before), orientation)))
        assert np.abs(kept.astype(int) - wanted).mean() < APART
    else:
        wanted = upright if orientation == 1 else decoded(jpeg_of(upright))  # a PNG's pixels are exact
        assert np.array_equal(kept, wanted)
    changed = ", ".join(filter(None, ["turned" * (orientation > 1), smaller]))
    row = prepared.rows[split, id]
    assert (row["changed"], row["height"], row["width"]) == (changed, *map(str, kept.shape[:2]))
    if id.startswith("less"):
        assert shards.boxes_of(place).shape == (0, 4)
        return
    ink = np.zeros_like(before)
    ink[20 : before.shape[0] // 2 + 14, 9 : before.shape[1] // 2] = 255
    ink = turned(ink, orientation)[:, :, 0]
    down, across = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    box = np.array([across[0], down[0], across[-1] + 1, down[-1] + 1])
    ratio = np.divide(kept.shape[:2], ink.shape)[[1, 0, 1, 0]]
    assert np.allclose(shards.boxes_of(place), [box * ratio], rtol=1e-6, atol=1e-4), "stored as float32"


def resized_pixels(pixels: Pixels) -> Pixels:
    """Pixels (231, 170) made LARGEST wide by Pillow."""
    picture = Image.fromarray(pixels).resize((LARGEST, round(231 * LARGEST / 170)), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def test_other_formats_are_made_upright_too_unless_that_is_switched_off(
    workplace: Workplace, fake: FakeSource, rng: Random
) -> None:
    more = {
        kind: in_format(kind, rng, 60, 90, exif=oriented(int(rng.choice([3, 6])))) for kind in ("JPEG", "WEBP", "TIFF")
    }
    prepared = workplace.prepare(with_more(fake, "val", more, rng))
    images = dict(zip(Shards(prepared.folder, "val").ids, stored(prepared.folder, "val"), strict=True))
    for kind, encoded in more.items():
        kept = decoded(images[kind])
        with Image.open(io.BytesIO(encoded)) as picture:
            wanted = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
        assert kept.shape == wanted.shape
        # a TIFF may become a PNG that is upright already, the others a JPEG
        assert min(np.abs(kept.astype(int) - one).mean() for one in (wanted, decoded(jpeg_of(wanted)))) < APART

    del more["TIFF"]  # which is converted in any case
    for split in SPLITS:
        source = with_more(fake, split, more, rng)
        prepared = workplace.prepare(source, prepare={"upright": False, "rescale": "none"})
        assert stored(prepared.folder, split) == [item.encoded for item in source.given[split]]
        assert not any(row["changed"] for row in prepared.rows.values())
        assert all(
            (prepared.rows[split, id]["height"], prepared.rows[split, id]["width"]) == ("60", "90") for id in more
        )


def test_other_pixels_make_other_facts_so_that_nets_are_trained_anew(
    workplace: Workplace, fake: FakeSource, rng: Random
) -> None:
    """Upside down or encoded otherwise, an image has the same size, source and colours; a net sees another one."""
    more = {"turned": in_format("JPEG", rng, 60, 90, exif=oriented(3)), "large": in_format("JPEG", rng, 160, 180)}
    source = with_more(fake, "train", more, rng)
    one = workplace.prepare(source)
    for change in ({"upright": False}, {"quality": 30}, {"chroma": "4:2:0"}):
        other = workplace.prepare(source, prepare=change)
        assert stored(one.folder, "train") != stored(other.folder, "train")
        assert one.facts != other.facts, change


@pytest.mark.parametrize("name", ["notes.txt", "list.CSV", "labels.json", "index.html", "thumbs.db", "setup.yaml"])
def test_a_file_that_is_no_image_is_skipped_and_counts_for_none(
    name: str, workplace: Workplace, fake: FakeSource, rng: Random
) -> None:
    """Neither when it is made nor when a preparation goes on; one that is named like an image counts."""
    wanted = workplace.prepare(fake)
    others: dict[str, bytes | None] = {
        f"one/{i} {name}": [b"remember the milk", b"", b"<html>"][i % 3] for i in range(30)
    }
    prepared = workplace.prepare(with_more(fake, "train", others, rng), prepare={"max_unreadable": 0.0})
    assert prepared.facts == wanted.facts
    assert {row["skipped"] for key, row in prepared.rows.items() if key[1] in others} == {NOT_AN_IMAGE}

    pages: dict[str, bytes | None] = {f"{i}{rng.choice(['.jpg', '.PNG', '', '.heic'])}": b"<html>" for i in range(11)}
    source = with_more(with_more(fake, "train", others, rng), "train", pages, rng)
    for again in (False, True):
        with pytest.raises(Failure, match=f"11 of {TRAIN + VAL + 41} images cannot be used"):
            workplace.prepare(source, again=again, prepare={"shard_images": 2, "max_unreadable": 0.0})


def test_an_image_counts_whatever_its_name(workplace: Workplace, fake: FakeSource, rng: Random) -> None:
    cut: dict[str, bytes | None] = {f"{i}.txt": in_format("PNG", rng)[:5000] for i in range(11)}
    with pytest.raises(Failure, match=r"11 of .* images cannot be used"):
        workplace.prepare(with_more(fake, "train", cut, rng), prepare={"max_unreadable": 0.0})
