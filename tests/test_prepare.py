"""Preparation: what comes in is what is stored, large images made smaller, bad ones named, work done once."""

from __future__ import annotations

import csv
import fcntl
import functools
import hashlib
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import Pixels, decoded, fresh_seed, jpeg, photograph, repository_params, resized, size
from PIL import Image, JpegImagePlugin

from pipeline import prepare as module
from pipeline.errors import Failure
from pipeline.facts import Facts, read_facts
from pipeline.files import sha256
from pipeline.params import Params
from pipeline.paths import MANIFEST, SHARDS, shards_root
from pipeline.prepare import is_whole, prepare, shards_key
from pipeline.shards import Shards, index_name, shard_name
from pipeline.sources.base import SPLITS, Item, Split
from vgg.draws import rescaled

LARGEST = 219  # the mini profile's 3/7 of S = 512
LIMIT = 40  # training images: more than the 32 that are decoded at a time
VAL = 12


class Given:
    """A source of given items."""

    name, about, comparable = "given", "photographs that a test made", False

    def __init__(self, **items: list[Item]) -> None:
        self.given = items

    def classes(self) -> list[str]:
        return ["one", "two"]

    def items(self, split: Split) -> Iterator[Item]:
        return iter(self.given[split])

    def count(self, split: Split) -> int:
        return len(self.given[split])


def some_items(random: np.random.Generator, split: str, count: int) -> list[Item]:
    """Photographs below, at and above LARGEST, every other one with a box."""
    sizes = [(LARGEST, 300), (300, LARGEST), (LARGEST + 1, LARGEST + 1), (LARGEST - 1, 400), (90, 500), (438, 438)]
    sizes += random.integers(100, 400, (count - len(sizes), 2)).tolist()
    items = []
    for number, place in enumerate(random.permutation(count)):
        height, width = sizes[place]
        left, top = int(random.integers(width // 2)), int(random.integers(height // 2))
        box = (left, top, left + width // 3, top + height // 3) if number % 2 else None
        picture = jpeg(photograph(random, height, width))
        items.append(Item(f"{split}/{number:03d}.JPEG", int(random.integers(2)), picture, box))
    return items


@pytest.fixture(scope="module")
def given() -> Given:
    """A source of photographs."""
    random = np.random.default_rng(fresh_seed())
    return Given(train=some_items(random, "train", LIMIT), val=some_items(random, "val", VAL))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in, shards included."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VGG_REPRO_SHARDS", str(tmp_path / "shards"))


@pytest.fixture
def params(tmp_path: Path) -> Params:
    """The repository's, with few digits."""
    return repository_params(tmp_path, data={"limit": LIMIT})


@pytest.fixture
def folder(params: Params) -> Path:
    """Where the shards come to lie."""
    return shards_root() / shards_key(params)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Given], Given]:
    """Puts a source in the digits' place."""

    def put(source: Given) -> Given:
        monkeypatch.setattr(module, "open_source", lambda _: source)
        return source

    return put


@pytest.fixture
def source(use: Callable[[Given], Given], given: Given) -> Given:
    """The photographs in the digits' place."""
    return use(given)


def files_in(folder: Path) -> dict[str, tuple[str, int]]:
    """Each file's hash and time of writing."""
    return {path.name: (sha256(path), path.stat().st_mtime_ns) for path in sorted(folder.iterdir())}


def hashes_in(folder: Path) -> dict[str, str]:
    """Each file's hash."""
    return {name: hashed for name, (hashed, _) in files_in(folder).items()}


def stored(folder: Path, split: str) -> list[bytes]:
    """A split's images as they lie in the shards."""
    shards = Shards(folder, split)
    return [bytes(shards[i]) for i in range(len(shards))]


def changed(source: Given, split: str, number: int, encoded: bytes) -> Given:
    """The source with other bytes in one of its items."""
    items = list(source.given[split])
    items[number] = items[number]._replace(encoded=encoded)
    return Given(**{**source.given, split: items})


# What is stored


def test_the_digits_are_prepared(params: Params, folder: Path) -> None:
    facts = prepare(params)
    assert is_whole(folder)
    assert (facts.source, facts.train, facts.val, len(facts.classes)) == ("digits", LIMIT, LIMIT, 10)
    for split in SPLITS:
        items = list(module.open_source(params.chosen).items(split))
        shards = Shards(folder, split)
        assert shards.ids == [item.id for item in items]
        assert shards.labels.tolist() == [item.label for item in items]
    assert stored(folder, "val") == [item.encoded for item in items]


def test_shards_hold_what_their_index_says(params: Params, source: Given, folder: Path) -> None:
    prepare(params)
    for split in SPLITS:
        shards = Shards(folder, split)
        with np.load(folder / index_name(split)) as index:
            hashes = [row.tobytes() for row in index["hashes"]]
        assert hashes == [hashlib.sha256(one).digest() for one in stored(folder, split)]
        assert [*zip(shards.heights, shards.widths, strict=True)] == [size(one) for one in stored(folder, split)]
        assert shards.ids == [item.id for item in source.given[split]]
        assert shards.labels.tolist() == [item.label for item in source.given[split]]


def test_validation_images_keep_their_bytes(params: Params, source: Given, folder: Path) -> None:
    prepare(params)
    assert stored(folder, "val") == [item.encoded for item in source.given["val"]]


def test_training_images_above_the_largest_scale_become_it_and_others_keep_their_bytes(
    params: Params, source: Given, folder: Path
) -> None:
    facts, smaller = prepare(params), 0
    for item, kept in zip(source.given["train"], stored(folder, "train"), strict=True):
        height, width = size(item.encoded)
        if min(height, width) <= LARGEST:
            assert kept == item.encoded, item.id
        else:
            smaller += 1
            wanted = rescaled(np.array([height]), np.array([width]), LARGEST)
            assert min(size(kept)) == LARGEST, item.id
            assert size(kept) == tuple(int(side[0]) for side in wanted), item.id
    assert facts.rescaled == smaller > 0


def test_rescaled_images_look_as_pil_makes_them(params: Params, source: Given, folder: Path) -> None:
    prepare(params)
    for item, kept in zip(source.given["train"], stored(folder, "train"), strict=True):
        if kept != item.encoded:
            wanted = decoded(jpeg_of(resized(item.encoded, *size(kept)), params))
            apart = np.abs(decoded(kept).astype(int) - wanted).mean()
            assert apart < 1.0, (item.id, apart)  # a grey level's rounding before JPEG; a shift by a pixel is over 4


def jpeg_of(pixels: Pixels, params: Params) -> bytes:
    """A JPEG of the quality and chroma that `params` ask for."""
    buffer = io.BytesIO()
    chosen = params.chosen.prepare
    Image.fromarray(pixels).save(buffer, "JPEG", quality=chosen.quality, subsampling=chosen.chroma)
    return buffer.getvalue()


@pytest.mark.parametrize(("chroma", "sampling"), [("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)])
def test_rescaled_images_have_the_quality_and_chroma_asked_for(
    chroma: str, sampling: int, source: Given, tmp_path: Path, rng: np.random.Generator
) -> None:
    params = repository_params(tmp_path, prepare={"chroma": chroma, "quality": int(rng.integers(50, 100))})
    prepare(params)
    for item, kept in zip(source.given["train"], stored(shards_root() / shards_key(params), "train"), strict=True):
        if kept != item.encoded:
            with (
                Image.open(io.BytesIO(kept)) as picture,
                Image.open(io.BytesIO(jpeg_of(np.zeros((16, 16, 3), np.uint8), params))) as wanted,
            ):
                assert JpegImagePlugin.get_sampling(picture) == sampling
                assert picture.quantization == wanted.quantization, params.chosen.prepare


def test_rescale_none_keeps_every_byte(source: Given, tmp_path: Path) -> None:
    params = repository_params(tmp_path, prepare={"rescale": "none"})
    assert prepare(params).rescaled == 0
    for split in SPLITS:
        assert stored(shards_root() / shards_key(params), split) == [item.encoded for item in source.given[split]]


def test_boxes_are_scaled_with_their_images_and_missing_ones_are_nan(
    params: Params, source: Given, folder: Path
) -> None:
    prepare(params)
    for split in SPLITS:
        shards = Shards(folder, split)
        for item, box, height, width in zip(
            source.given[split], shards.boxes, shards.heights, shards.widths, strict=True
        ):
            if item.box is None:
                assert np.isnan(box).all(), item.id
            else:
                old = size(item.encoded)
                wanted = np.multiply(item.box, [width / old[1], height / old[0]] * 2)
                assert np.allclose(box, wanted, rtol=1e-6, atol=0), item.id  # stored as float32


def test_the_manifest_has_a_row_an_image_with_the_hash_of_its_source(
    params: Params, source: Given, folder: Path
) -> None:
    facts = prepare(params)
    with MANIFEST.open(newline="") as file:
        rows = list(csv.DictReader(file))
    items = [(split, item) for split in SPLITS for item in source.given[split]]
    sizes = [size(one) for split in SPLITS for one in stored(folder, split)]
    for row, (split, item), (height, width) in zip(rows, items, sizes, strict=True):
        assert row == {
            "split": split, "id": item.id, "class": str(item.label), "height": str(height), "width": str(width),
            "bytes": str(len(item.encoded)), "sha256": hashlib.sha256(item.encoded).hexdigest(),
        }  # fmt: skip
    assert facts.manifest == sha256(MANIFEST)


def test_shards_are_split_when_they_grow_large(
    params: Params, source: Given, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = 100_000  # bytes; two to six images
    writer = module.ShardWriter
    monkeypatch.setattr(module, "ShardWriter", lambda where, split, _: writer(where, split, largest))
    prepare(params)
    assert is_whole(folder)
    for split in SPLITS:
        files = sorted(folder.glob(f"{split}-*.bin"))
        assert len(files) > 1
        assert files == [folder / shard_name(split, i) for i in range(len(files))]
        assert all(0 < file.stat().st_size <= largest for file in files)
    assert stored(folder, "val") == [item.encoded for item in source.given["val"]]
    files[1].write_bytes(files[1].read_bytes()[:-1])
    with pytest.raises(Failure, match=r"val-00001\.bin"):
        Shards(folder, "val")


def test_an_image_larger_than_a_shard_has_one_of_its_own(
    params: Params, source: Given, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = module.ShardWriter
    monkeypatch.setattr(module, "ShardWriter", lambda where, split, _: writer(where, split, 1))
    prepare(params)
    assert len(list(folder.glob("val-*.bin"))) == VAL
    assert stored(folder, "val") == [item.encoded for item in source.given["val"]]


@pytest.mark.parametrize("orientation", [3, 6])
def test_an_exif_orientation_turns_nothing(
    orientation: int, params: Params, source: Given, use: Callable[[Given], Given], folder: Path, seed: int
) -> None:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(photograph(np.random.default_rng(seed), 300, 400)).save(buffer, "JPEG", exif=exif)
    use(changed(source, "train", 0, buffer.getvalue()))
    prepare(params)
    kept = stored(folder, "train")[0]
    wanted = decoded(jpeg_of(resized(buffer.getvalue(), LARGEST, 292), params))
    assert np.abs(decoded(kept).astype(int) - wanted).mean() < 1.0, seed  # as above


# Colours


def slow_colours(images: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The mean RGB and covariance of images, each weighing the same, by the book: E[x], E[(x - m)(x - m)']."""
    pixels = [decoded(one).reshape(-1, 3) / 1.0 for one in images]
    mean = sum(one.mean(0) for one in pixels) / len(pixels)
    return mean, sum((one - mean).T @ (one - mean) / len(one) for one in pixels) / len(pixels)


def test_colours_are_the_training_images(source: Given, tmp_path: Path) -> None:
    facts = prepare(repository_params(tmp_path, prepare={"rescale": "none"}))
    mean, covariance = slow_colours([item.encoded for item in source.given["train"]])
    assert np.allclose(facts.mean_rgb, mean, rtol=1e-9)  # the same decoded bits; only sums differ in order
    assert np.allclose(facts.covariance, covariance, rtol=1e-7)


def test_colours_are_those_of_the_images_as_stored(params: Params, source: Given, folder: Path) -> None:
    facts = prepare(params)
    mean, covariance = slow_colours(stored(folder, "train"))
    # they are taken before the rescaled ones become JPEGs, at quality 95: which moves a mean by less than a quarter of
    # a grey level, and smooths grain away: 2 in the squares, of some thousands
    assert np.abs(np.array(facts.mean_rgb) - mean).max() < 0.25
    assert np.abs(np.array(facts.covariance) - covariance).max() < 4


def test_every_image_weighs_the_same_whatever_its_size(
    tmp_path: Path, use: Callable[[Given], Given], source: Given
) -> None:
    flat = [Item(str(i), 0, jpeg(np.full((*sides, 3), level, np.uint8)), None)
            for i, (sides, level) in enumerate([((300, 300), 200), ((20, 30), 100)])]  # fmt: skip
    use(Given(train=flat, val=source.given["val"]))
    facts = prepare(repository_params(tmp_path, prepare={"rescale": "none"}))
    assert np.allclose(facts.mean_rgb, 150, atol=1e-9)
    assert np.allclose(facts.covariance, 2500, atol=1e-6)


def test_eigenvectors_belong_to_their_eigenvalues(params: Params, source: Given) -> None:
    facts = prepare(params)
    covariance, vectors = np.array(facts.covariance), np.array(facts.eigenvectors)
    assert np.array_equal(covariance, covariance.T)
    for value, vector in zip(facts.eigenvalues, vectors, strict=True):
        assert np.allclose(covariance @ vector, value * vector, atol=1e-9 * np.trace(covariance))
    assert np.allclose(vectors @ vectors.T, np.eye(3), atol=1e-12)
    assert math.isclose(sum(facts.eigenvalues), np.trace(covariance), rel_tol=1e-12)


# Once


def test_prepared_twice_the_bytes_are_the_same(
    params: Params, source: Given, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(params), hashes_in(folder), MANIFEST.read_bytes()
    monkeypatch.setenv("VGG_REPRO_SHARDS", str(tmp_path / "elsewhere"))
    again = prepare(params), hashes_in(tmp_path / "elsewhere" / shards_key(params)), MANIFEST.read_bytes()
    assert first == again


def test_the_second_time_does_no_work_and_puts_back_what_dvc_deleted(
    params: Params, source: Given, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, before, manifest = prepare(params), files_in(folder), MANIFEST.read_bytes()
    MANIFEST.unlink()
    monkeypatch.setattr(module, "open_source", None)
    assert prepare(params) == first
    assert files_in(folder) == before
    assert MANIFEST.read_bytes() == manifest


def test_facts_are_read_back(params: Params, source: Given) -> None:
    facts = prepare(params)
    assert read_facts(params.profile) == facts
    assert isinstance(facts, Facts)
    assert (facts.source, facts.about, facts.comparable) == ("given", source.about, False)
    assert (facts.train, facts.val, facts.classes) == (LIMIT, VAL, ["one", "two"])
    assert SHARDS.read_text() == f"{shards_key(params)}\n"


@pytest.mark.parametrize(
    "harm",
    [
        ("train-00000.bin", lambda data: data[:-1]),
        ("val-00000.bin", lambda data: data[: len(data) // 2]),
        ("val-00000.bin", lambda data: b""),
        ("train-00000.bin", lambda data: data + b"more"),
        ("train-00000.bin", None),
        ("val.index.npz", None),
        ("val.index.npz", lambda data: data[: len(data) // 2]),
        ("val.index.npz", lambda data: b""),
        ("val.index.npz", lambda data: b"rubbish" * 99),
    ],
    ids=lambda harm: f"{harm[0]}-{'gone' if harm[1] is None else harm[1](b'12')}",
)
def test_a_damaged_shard_or_index_is_noticed_and_made_again(
    harm: tuple[str, Callable[[bytes], bytes] | None], params: Params, source: Given, folder: Path
) -> None:
    prepare(params)
    before = hashes_in(folder)
    name, change = harm
    path = folder / name
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(Failure, match="vgg-repro prepare"):
        Shards(folder, name.partition("-")[0].partition(".")[0])
    prepare(params)
    assert hashes_in(folder) == before


@pytest.mark.parametrize("name", ["facts.json", "manifest.csv"])
@pytest.mark.parametrize("content", [None, b"", b"rubbish"], ids=["gone", "empty", "rubbish"])
def test_a_missing_or_broken_list_beside_the_shards_is_made_again(
    name: str, content: bytes | None, params: Params, source: Given, folder: Path
) -> None:
    prepare(params)
    before = hashes_in(folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    prepare(params)
    assert hashes_in(folder) == before


def test_nothing_lies_in_its_place_before_it_is_whole(
    params: Params, source: Given, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[bool] = []
    add = module.ShardWriter.add

    def watched(*arguments: Any) -> None:
        there.append(folder.exists())
        add(*arguments)

    monkeypatch.setattr(module.ShardWriter, "add", watched)
    prepare(params)
    assert there == [False] * (LIMIT + VAL)
    assert is_whole(folder)


def test_two_at_once_are_kept_apart(params: Params, source: Given, folder: Path) -> None:
    folder.parent.mkdir()
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Failure, match="another process is preparing"):
            prepare(params)
        assert not folder.exists()
    prepare(params)
    assert is_whole(folder)


def test_what_somebody_else_finished_meanwhile_is_not_made_again(
    params: Params, source: Given, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our look at the folder and our turn, another clone has made the whole of it, and reads from it."""
    theirs: dict[str, Any] = {}
    look = module.is_whole

    def too_early(place: Path) -> bool:
        if theirs:
            return look(place)
        theirs["begun"] = True
        prepare(params)
        theirs.update(files_in(folder))
        return False

    monkeypatch.setattr(module, "is_whole", too_early)
    prepare(params)
    assert files_in(folder) == {name: file for name, file in theirs.items() if name != "begun"}


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        ({"data": {"seed": 5}}, True),
        ({"data": {"limit": 41}}, True),
        ({"prepare": {"quality": 94}}, True),
        ({"prepare": {"chroma": "4:2:0"}}, True),
        ({"prepare": {"rescale": "none"}}, True),
        ({"prepare": {"shard_mb": 1}}, True),
        ({"net": {"size_ratio": "2/7"}}, True),
        ({"prepare": {"device": "cpu"}}, False),
        ({"train": {"batch": 16}}, False),
        ({"net": {"fc": 128}}, False),
    ],
    ids=str,
)
def test_the_folders_name_changes_with_what_its_bytes_depend_on(
    change: dict[str, dict[str, object]], matters: bool, params: Params, tmp_path: Path
) -> None:
    changes = {**change, "data": {"limit": LIMIT, **change.get("data", {})}}
    assert (shards_key(repository_params(tmp_path, **changes)) != shards_key(params)) == matters


def test_the_folders_name_changes_with_the_methods_number_and_the_largest_scale(params: Params) -> None:
    method = params.method.model_copy(update={"prepare": params.method.prepare + 1})
    smaller = {name: run for name, run in params.runs.items() if run.scales[1] <= 384}
    names = [params, params.model_copy(update={"method": method}), params.model_copy(update={"runs": smaller})]
    assert len({shards_key(one) for one in names}) == 3


# Bad images


def in_format(kind: str, random: np.random.Generator) -> bytes:
    """A photograph in another format than JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(photograph(random, 250, 260)).save(buffer, kind)
    return buffer.getvalue()


def truncated(random: np.random.Generator) -> bytes:
    """A JPEG cut somewhere inside its scan."""
    encoded = jpeg(photograph(random, 250, 260))
    return encoded[: int(random.integers(len(encoded) // 4, len(encoded) - 2))]


BAD: dict[str, Callable[[np.random.Generator], bytes]] = {
    "html": lambda _: b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "nothing": lambda _: b"",
    "zeros": lambda _: bytes(5000),
    "noise": lambda random: random.bytes(5000),
    "jpeg-head": lambda random: jpeg(photograph(random, 250, 260))[: int(random.integers(4, 300))],
    "jpeg-cut": truncated,
    "gif": functools.partial(in_format, "GIF"),
    "png-cut": lambda random: in_format("PNG", random)[:5000],
    "png-tail": lambda random: in_format("PNG", random)[:-16],  # PIL does not miss it and DALI does
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_stops_it_by_name_and_leaves_nothing_whole(
    kind: str, params: Params, source: Given, use: Callable[[Given], Given], folder: Path, seed: int,
) -> None:  # fmt: skip
    random = np.random.default_rng(seed)
    split = SPLITS[int(random.integers(2))]
    number = int(random.integers(source.count(split)))
    use(changed(source, split, number, BAD[kind](random)))
    with pytest.raises(Failure) as caught:
        prepare(params)
    assert source.given[split][number].id in str(caught.value), (seed, str(caught.value))
    assert not any(is_whole(one) for one in shards_root().iterdir() if one.is_dir()), seed
    assert not MANIFEST.exists()
    use(source)
    prepare(params)
    assert is_whole(folder)
    assert [one.name for one in shards_root().iterdir() if one.is_dir()] == [folder.name], seed


@pytest.mark.parametrize("kind", [kind for kind in BAD if kind != "png-tail"])
def test_dali_never_sees_a_bad_image(
    kind: str, params: Params, source: Given, use: Callable[[Given], Given], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random = np.random.default_rng(seed)
    bad, number = BAD[kind](random), int(random.integers(LIMIT))
    use(changed(source, "train", number, bad))
    seen: list[bytes] = []

    def watched(samples: Iterator[Any], *_: Any, **__: Any) -> Iterator[Any]:
        for encoded, _, _ in samples:
            seen.extend(one.tobytes() for one in encoded)
        yield from ()

    monkeypatch.setattr(module, "rescale", watched)
    with pytest.raises(Failure):
        prepare(params)
    assert len(seen) == number // module.BATCH * module.BATCH, "the batches before"
    assert bad not in seen, seed


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
def test_other_formats_are_taken_as_they_are(
    kind: str, params: Params, source: Given, use: Callable[[Given], Given], folder: Path, seed: int
) -> None:
    picture = in_format(kind, np.random.default_rng(seed))
    use(changed(changed(source, "train", 3, picture), "val", 3, picture))
    prepare(params)
    assert stored(folder, "val")[3] == picture
    kept = stored(folder, "train")[3]
    wanted = decoded(jpeg_of(resized(picture, *size(kept)), params))
    assert np.abs(decoded(kept).astype(int) - wanted).mean() < 1.0, seed  # as above


def test_a_full_disk_is_a_failure_and_leaves_nothing_whole(
    params: Params, source: Given, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.ShardWriter, "add", full)
    with pytest.raises(Failure, match=r"could not be written to .*No space left on device"):
        prepare(params)
    assert not is_whole(folder)


def test_damage_that_keeps_the_length_is_named_before_dali_sees_it(params: Params, source: Given, folder: Path) -> None:
    prepare(params)
    shards = folder / shard_name("train", 0)
    shards.write_bytes(bytes(shards.stat().st_size))
    with pytest.raises(Failure, match=r"train/\d+.JPEG is damaged"):
        Shards(folder, "train")[0]


def test_an_empty_part_is_said_plainly(params: Params, source: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Given(train=source.given["train"], val=[])
    monkeypatch.setattr(module, "open_source", lambda _: empty)
    with pytest.raises(Failure, match="no image in its part val"):
        prepare(params)
