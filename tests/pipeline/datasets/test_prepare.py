"""Preparation: what comes in is what is stored, large images made smaller, colours measured, work done once."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image, JpegImagePlugin

from pipeline.datasets import prepare as module
from pipeline.datasets import shard_worker
from pipeline.datasets.colour_stats import Colours, moments
from pipeline.datasets.dataset_key import _wanted, request_hash, shards_key
from pipeline.datasets.facts import Facts, Statistics, read_facts
from pipeline.datasets.manifest import COLUMNS, manifest_hash
from pipeline.datasets.prepare import is_whole, prepare
from pipeline.datasets.shards import Shards, ShardWriter, index_name, shard_name
from pipeline.datasets.sources import seen_from_outside
from pipeline.datasets.sources.base import SPLITS
from pipeline.errors import Failure, UsageError
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, shards_root
from pipeline.experiment.validation import load
from pipeline.system.atomic_files import digest
from tests.support import ROOT
from tests.support.cases import case
from tests.support.fake_source import (
    FakeSource,
    Item,
    Workplace,
    chosen,
    files_in,
    hashes_in,
    items_of,
    rows,
    small_items,
    stored,
)
from tests.support.images import Pixels, decoded, jpeg, needs_dali, photograph, resized, run_seed, size
from vgg.draws import rescaled
from vgg.images import Decoder

LARGEST = 219  # the mini profile's 3/7 of S = 512
LIMIT = 40  # training images: more than the 32 that are decoded at a time
VAL = 12
DRAWING = yaml.safe_load((ROOT / "params.yaml").read_text())["profiles"]["mini"]["data"]["characters"]
HOLDER = """
import sys
from pathlib import Path
from pipeline.system.locks import alone
with alone(Path(sys.argv[1]), "preparing this data set"):
    print("held", flush=True)
    sys.stdin.read()
"""


def some_items(random: np.random.Generator, split: str, count: int) -> list[Item]:
    """Photographs below, at and above LARGEST, with none, one or two boxes."""
    sizes = [(LARGEST, 300), (300, LARGEST), (LARGEST + 1, LARGEST + 1), (LARGEST - 1, 400), (90, 500), (438, 438)]
    sizes += random.integers(100, 400, (count - len(sizes), 2)).tolist()
    items = []
    for number, place in enumerate(random.permutation(count)):
        height, width = sizes[place]
        left, top = int(random.integers(width // 2)), int(random.integers(height // 2))
        boxes = ((left, top, left + width // 3, top + height // 3), (0, 0, width, height))[: number % 3]
        picture = jpeg(photograph(random, height, width))
        label = number if number < 2 else int(random.integers(2))
        items.append(Item(f"{split}/{number:03d}.JPEG", label, picture, boxes))
    return items


@pytest.fixture(scope="module")
def fake() -> FakeSource:
    """A source of photographs."""
    random = np.random.default_rng(run_seed())
    return FakeSource(some_items(random, "train", LIMIT), some_items(random, "val", VAL))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in, shards included."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VGG_REPRO_SHARDS", str(tmp_path / "shards"))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """The same, for sources of a test's own."""
    return Workplace(tmp_path, monkeypatch)


@pytest.fixture
def params(tmp_path: Path) -> Params:
    """The repository's, with few digits."""
    return chosen(tmp_path, data={"limit": LIMIT})


@pytest.fixture
def folder(params: Params) -> Path:
    """Where the shards come to lie."""
    return shards_root() / shards_key(params)


@pytest.fixture
def source(fake: FakeSource, monkeypatch: pytest.MonkeyPatch) -> FakeSource:
    """The photographs in the digits' place."""
    monkeypatch.setattr(module, "open_source", lambda _: fake)
    return fake


class PreparedPhotographs(NamedTuple):
    """The photographs, prepared: to be read only."""

    params: Params
    facts: Facts
    folder: Path  # of its shards
    rows: dict[tuple[str, str], dict[str, str]]  # of the manifest, by split and id


@pytest.fixture(scope="module")
def made(fake: FakeSource, tmp_path_factory: pytest.TempPathFactory) -> PreparedPhotographs:
    """Prepared once."""
    home = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("VGG_REPRO_SHARDS", str(home / "shards"))
        patch.setattr(module, "open_source", lambda _: fake)
        params = chosen(home, data={"limit": LIMIT})
        facts, folder = prepare(params), shards_root() / shards_key(params)
        assert read_facts(params.profile) == facts and isinstance(facts, Facts)
        assert CLASSIFICATION.shards_record.read_text().split()[0] == folder.name
        assert CLASSIFICATION.manifest.read_bytes() == (folder / "manifest.csv").read_bytes()
        return PreparedPhotographs(params, facts, folder, rows())


# What is stored


@pytest.mark.parametrize(("source", "classes"), [("characters", 51), ("digits", 10)])
def test_drawn_images_are_prepared(source: str, classes: int, tmp_path: Path) -> None:
    params = chosen(tmp_path, data={"source": source, "limit": 64})
    facts, folder = prepare(params), shards_root() / shards_key(params)
    assert is_whole(folder)
    assert (facts.source, facts.train, facts.val, len(facts.classes)) == (source, 64, 64, classes)
    assert facts.grouped == (source == "characters") == ("grouped" in facts.as_dict())
    opened = module.open_source(params.active)
    for split, entries in opened.listing().entries.items():
        shards = Shards(folder, split)
        assert [*zip(shards.ids, shards.labels, strict=True)] == [(entry.id, entry.label) for entry in entries]
    assert stored(folder, "val")[:5] == [item.encoded for item in items_of(opened, "val", 5)]


def test_shards_hold_what_their_index_says(made: PreparedPhotographs, fake: FakeSource) -> None:
    for split in SPLITS:
        shards = Shards(made.folder, split)
        with np.load(made.folder / index_name(split)) as index:
            hashes = [row.tobytes() for row in index["hash"]]
        assert hashes == [hashlib.sha256(encoded).digest() for encoded in stored(made.folder, split)]
        assert [*zip(shards.heights, shards.widths, strict=True)] == [
            size(encoded) for encoded in stored(made.folder, split)
        ]
        assert shards.ids == [item.id for item in fake.given[split]]
        assert shards.labels.tolist() == [item.label for item in fake.given[split]]


def test_training_images_above_the_largest_scale_become_it_as_pil_makes_them_and_others_keep_their_bytes(
    made: PreparedPhotographs, fake: FakeSource
) -> None:
    smaller = 0
    for item, kept in zip(fake.given["train"], stored(made.folder, "train"), strict=True):
        height, width = size(item.encoded)
        if min(height, width) <= LARGEST:
            assert kept == item.encoded, item.id
        else:
            smaller += 1
            wanted = rescaled(np.array([height]), np.array([width]), LARGEST)
            assert min(size(kept)) == LARGEST, item.id
            assert size(kept) == tuple(int(side[0]) for side in wanted), item.id
            look = decoded(jpeg_of(resized(item.encoded, *size(kept)), made.params))
            apart = np.abs(decoded(kept).astype(int) - look).mean()
            # a grey level's rounding before JPEG: up to 0.92 in 300 draws; a shift by a pixel is over 3
            assert apart < 1.5, (item.id, apart)
    assert made.facts.rescaled == smaller > 0
    assert stored(made.folder, "val") == [item.encoded for item in fake.given["val"]]


def jpeg_of(pixels: Pixels, params: Params) -> bytes:
    """A JPEG of the quality and chroma that `params` ask for."""
    buffer = io.BytesIO()
    asked = params.active.prepare
    Image.fromarray(pixels).save(buffer, "JPEG", quality=asked.quality, subsampling=asked.chroma)
    return buffer.getvalue()


@pytest.mark.parametrize(("chroma", "sampling"), [("4:4:4", 0), ("4:2:0", 2)])
def test_rescaled_images_have_the_quality_and_chroma_asked_for(
    chroma: str, sampling: int, source: FakeSource, tmp_path: Path, rng: np.random.Generator
) -> None:
    params = chosen(tmp_path, prepare={"chroma": chroma, "quality": int(rng.integers(50, 100))})
    prepare(params)
    checked = 0
    for item, kept in zip(source.given["train"], stored(shards_root() / shards_key(params), "train"), strict=True):
        if kept != item.encoded:
            with (
                Image.open(io.BytesIO(kept)) as picture,
                Image.open(io.BytesIO(jpeg_of(np.zeros((16, 16, 3), np.uint8), params))) as wanted,
            ):
                assert JpegImagePlugin.get_sampling(picture) == sampling
                assert picture.quantization == wanted.quantization, params.active.prepare
                checked += 1
    assert checked


def test_all_boxes_of_an_image_are_scaled_with_it(made: PreparedPhotographs, fake: FakeSource) -> None:
    for split in SPLITS:
        shards = Shards(made.folder, split)
        for number, (item, height, width) in enumerate(
            zip(fake.given[split], shards.heights, shards.widths, strict=True)
        ):
            old, boxes = size(item.encoded), shards.boxes_of(number)
            assert boxes.shape == (len(item.boxes), 4), item.id
            for box, wanted in zip(boxes, item.boxes, strict=True):
                assert np.allclose(box, np.multiply(wanted, [width / old[1], height / old[0]] * 2), rtol=1e-6, atol=0)


def test_the_manifest_has_a_row_an_image_with_the_hash_of_its_source(
    made: PreparedPhotographs, fake: FakeSource
) -> None:
    items = [(split, item) for split in SPLITS for item in fake.given[split]]
    sizes = [size(encoded) for split in SPLITS for encoded in stored(made.folder, split)]
    for row, (split, item), (height, width) in zip(made.rows.values(), items, sizes, strict=True):
        smaller = size(item.encoded) != (height, width)
        assert row == {
            "split": split, "id": item.id, "class": str(item.label), "height": str(height), "width": str(width),
            "bytes": str(len(item.encoded)), "sha256": hashlib.sha256(item.encoded).hexdigest(),
            "changed": "rescaled" if smaller else "", "small": "yes" if min(size(item.encoded)) < 96 else "",
            "warning": "", "skipped": "",
        }  # fmt: skip
    assert made.facts.manifest == manifest_hash(made.folder / "manifest.csv", made.facts.stored)


def test_the_manifests_identity_changes_with_what_an_image_is_and_with_nothing_else(
    workplace: Workplace, rng: np.random.Generator
) -> None:
    prepared = workplace.prepare(FakeSource(small_items(rng, "train", 4), small_items(rng, "val", 2)))
    lines = CLASSIFICATION.manifest.read_text().splitlines()
    path = workplace.folder / "other.csv"
    number = int(rng.integers(1, len(lines)))
    cells = lines[number].split(",")
    for column, name in enumerate(COLUMNS):
        changed = [*cells[:column], "7" if name != "skipped" else "a reason", *cells[column + 1 :]]
        path.write_text("\n".join([*lines[:number], ",".join(changed), *lines[number + 1 :]]) + "\n")
        same = manifest_hash(path, prepared.facts.stored) == prepared.facts.manifest
        assert same == (name in ("changed", "small", "warning") or changed == cells), (name, number)
    path.write_text("\n".join([*lines, *("train,more,0,,,0,,,,,a reason",)]) + "\n")
    assert manifest_hash(path, prepared.facts.stored) == prepared.facts.manifest
    assert manifest_hash(path, {**prepared.facts.stored, "quality": 1}) != prepared.facts.manifest


def test_the_manifests_identity_is_the_same_in_every_version(tmp_path: Path) -> None:
    """A new column or a renamed one must not train the nets again; this hash is the first version's."""
    kept = [f"train,a/one.jpg,0,300,400,5,{'1a' * 32},rescaled,,,", f"val,two,1,64,80,7,{'2b' * 32},,yes,,"]
    (tmp_path / "manifest.csv").write_text("\n".join([",".join(COLUMNS), *kept, "train,b,0,,,9,,,,,no image"]) + "\n")
    digest = manifest_hash(tmp_path / "manifest.csv", {"rescale": "train", "quality": 95})
    assert digest == "b7cb9343587249e758843829775600ea394add77b3cc03ab48b479ada963ef8e"


@needs_dali
def test_another_decoder_makes_a_data_set_of_its_own_of_the_same_images(
    made: PreparedPhotographs, source: FakeSource, tmp_path: Path
) -> None:
    params = chosen(tmp_path, data={"limit": LIMIT}).model_copy(update={"decoder": "pillow"})
    facts, folder = prepare(params), shards_root() / shards_key(params)
    assert is_whole(folder) and folder.name != made.folder.name and facts.manifest != made.facts.manifest
    assert facts.stored == {**made.facts.stored, "decoder": "pillow"}
    assert rows() == made.rows
    assert np.allclose(facts.mean_rgb, made.facts.mean_rgb, atol=0.1)
    assert stored(folder, "val") == stored(made.folder, "val"), "these are not rescaled"
    for ours, dalis in zip(stored(folder, "train"), stored(made.folder, "train"), strict=True):
        assert np.abs(decoded(ours).astype(int) - decoded(dalis)).mean() < 1


@needs_dali
def test_dali_changes_no_key_and_another_decoder_all_of_them(params: Params) -> None:
    """The keys are those of versions that had no other decoder, so that nothing is prepared and trained again."""
    auto, dali, pillow = (params.model_copy(update={"decoder": name}) for name in ("auto", "dali", "pillow"))
    assert set(seen_from_outside(dali)) == {"source", "path", "largest_scale"}
    for key in (shards_key, request_hash, seen_from_outside):
        assert key(auto) == key(dali) != key(pillow)


def test_only_dali_prepares_on_a_gpu(source: FakeSource, tmp_path: Path) -> None:
    params = chosen(tmp_path, prepare={"device": "gpu"}).model_copy(update={"decoder": "pillow"})
    with pytest.raises(Failure, match=r"prepare\.device is gpu, but only DALI decodes on a GPU"):
        prepare(params)


def test_shards_have_so_many_images_each(source: FakeSource, tmp_path: Path, rng: np.random.Generator) -> None:
    images = int(rng.integers(2, VAL))
    params = chosen(tmp_path, prepare={"shard_images": images})
    prepare(params)
    folder = shards_root() / shards_key(params)
    assert is_whole(folder)
    for split, count in (("train", LIMIT), ("val", VAL)):
        files = sorted(folder.glob(f"{split}-*.bin"))
        assert files == [folder / shard_name(split, i) for i in range(-(-count // images))]
        with np.load(folder / index_name(split)) as index:
            assert index["shard"].tolist() == [i // images for i in range(count)], images
    assert stored(folder, "val") == [item.encoded for item in source.given["val"]]
    assert {path.name for path in folder.iterdir()} == {
        "odd_boxes.csv",
        *(path.name for path in folder.glob("*.bin")), "train.index.npz", "val.index.npz", "manifest.csv", "facts.json"
    }  # fmt: skip
    files[1].write_bytes(files[1].read_bytes()[:-1])
    with pytest.raises(Failure, match=r"val-00001\.bin"):
        Shards(folder, "val")


# Colours


def exact_colours(images: list[Pixels]) -> tuple[np.ndarray, np.ndarray]:
    """The mean RGB and covariance of images, each weighing the same, as fractions of whole numbers, rounded last."""
    first, second = [Fraction(0)] * 3, [[Fraction(0)] * 3 for _ in range(3)]
    for pixels in images:
        flat = pixels.reshape(-1, 3).astype(np.int64)
        for i in range(3):
            first[i] += Fraction(int(flat[:, i].sum()), len(flat)) / len(images)
            for j in range(3):
                second[i][j] += Fraction(int(flat[:, i] @ flat[:, j]), len(flat)) / len(images)
    covariance = [[float(second[i][j] - first[i] * first[j]) for j in range(3)] for i in range(3)]
    return np.array([float(value) for value in first]), np.array(covariance)


def test_with_rescale_none_every_byte_is_kept_and_colours_are_the_training_images(
    source: FakeSource, tmp_path: Path
) -> None:
    params = chosen(tmp_path, prepare={"rescale": "none"})
    facts = prepare(params)
    assert facts.rescaled == 0
    for split in SPLITS:
        assert stored(shards_root() / shards_key(params), split) == [item.encoded for item in source.given[split]]
    mean, covariance = exact_colours([decoded(item.encoded) for item in source.given["train"]])
    # the same decoded bits, and exact sums of each image: what is left is float64's rounding of 40 quotients, 1e-16
    # each, and for the covariance the square of the mean taken away, some ten times as large as what stays
    assert np.allclose(facts.mean_rgb, mean, rtol=1e-12, atol=0)
    assert np.allclose(facts.covariance, covariance, rtol=1e-12, atol=1e-12 * mean.max() ** 2)


def test_colours_are_those_of_the_images_as_stored(made: PreparedPhotographs) -> None:
    mean, covariance = exact_colours([decoded(encoded) for encoded in stored(made.folder, "train")])
    # they are taken before the rescaled ones become JPEGs, at quality 95: which moves a mean by less than a quarter of
    # a grey level, and smooths grain away: 2 in the squares, of some thousands
    assert np.abs(np.array(made.facts.mean_rgb) - mean).max() < 0.25
    assert np.abs(np.array(made.facts.covariance) - covariance).max() < 4


def test_every_image_weighs_the_same_whatever_its_size(workplace: Workplace, rng: np.random.Generator) -> None:
    flat = [Item(str(i), i, jpeg(np.full((*sides, 3), level, np.uint8)))
            for i, (sides, level) in enumerate([((300, 300), 200), ((20, 30), 100)])]  # fmt: skip
    facts = workplace.prepare(FakeSource(flat, small_items(rng, "val", 2)), prepare={"rescale": "none"}).facts
    assert np.allclose(facts.mean_rgb, 150, rtol=1e-12)  # as above
    assert np.allclose(facts.covariance, 2500, rtol=1e-11)


def test_no_digit_of_the_colours_depends_on_a_library_of_linear_algebra(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image's sums are exact, to the bit, and what follows is done number by number; LAPACK is not asked."""
    monkeypatch.setattr(np.linalg, "eigh", None)
    images, colours = [rng.integers(0, 256, (*rng.integers(1, 99, 2), 3), np.uint8) for _ in range(5)], Colours()
    means, squares = [0.0] * 3, [[0.0] * 3 for _ in range(3)]
    for pixels in images:
        colours.add(*moments(pixels))
        flat = [[int(level) for level in pixel] for pixel in pixels.reshape(-1, 3)]
        for i in range(3):
            means[i] += sum(pixel[i] for pixel in flat) * 3 / (3 * len(flat))
            for j in range(3):
                squares[i][j] += sum(pixel[i] * pixel[j] for pixel in flat) * 3 / (3 * len(flat))
    mean = [value / 5 for value in means]
    covariance = [[squares[i][j] / 5 - mean[i] * mean[j] for j in range(3)] for i in range(3)]
    assert colours.facts() == {"mean_rgb": mean, "covariance": covariance}


def test_the_facts_say_where_the_images_are_from(made: PreparedPhotographs, fake: FakeSource) -> None:
    assert (made.facts.source, made.facts.about, made.facts.comparable) == ("given", fake.about, False)
    assert (made.facts.train, made.facts.val, made.facts.classes) == (LIMIT, VAL, ["one", "two"])
    facts = made.facts
    assert facts.statistics == Statistics(2, LIMIT, VAL, facts.mean_rgb, facts.covariance, facts.manifest)


# Once


def test_prepared_twice_the_bytes_are_the_same(
    made: PreparedPhotographs, params: Params, source: FakeSource, folder: Path
) -> None:
    assert prepare(params) == made.facts
    assert hashes_in(folder) == hashes_in(made.folder)


def test_the_second_time_does_no_work_and_puts_back_what_dvc_deleted(
    params: Params, source: FakeSource, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, before, manifest = prepare(params), files_in(folder), CLASSIFICATION.manifest.read_bytes()
    CLASSIFICATION.manifest.unlink()
    monkeypatch.setattr(module, "open_source", None)
    assert prepare(params) == first
    assert files_in(folder) == before
    assert CLASSIFICATION.manifest.read_bytes() == manifest


HARMS: tuple[tuple[str, Callable[[bytes], bytes] | None], ...] = (
    ("train-00000.bin", lambda data: data[:-1]),
    ("val-00000.bin", lambda data: b""),
    ("train-00000.bin", lambda data: data + b"more"),
    ("train-00000.bin", None),
    ("val.index.npz", None),
    ("val.index.npz", lambda data: data[: len(data) // 2]),
    ("val.index.npz", lambda data: b"rubbish" * 99),
    ("facts.json", None),
    ("facts.json", lambda data: bytes(200_000)),
    ("facts.json", lambda data: b"\xff\xfe" * 99),
    ("manifest.csv", None),
    ("manifest.csv", lambda data: b"rubbish"),
    ("manifest.csv", lambda data: b"\xff\xfe" * 99),
)


def test_what_is_damaged_beside_or_among_the_shards_is_noticed_and_made_again(
    workplace: Workplace, rng: np.random.Generator
) -> None:
    source = FakeSource(small_items(rng, "train", 4), small_items(rng, "val", 2))
    folder = workplace.prepare(source).folder
    before = hashes_in(folder)
    for name, change in HARMS:
        path = folder / name
        data = path.read_bytes()
        path.unlink()
        if change:
            path.write_bytes(change(data))
        with case((name, change and change(b"12"))):
            if name.startswith(SPLITS):
                with pytest.raises(Failure, match="vgg-repro prepare"):
                    Shards(folder, name.partition("-")[0].partition(".")[0])
            workplace.prepare(source, again=True)
            assert hashes_in(folder) == before


def test_nothing_lies_in_its_place_before_it_is_whole(
    params: Params, source: FakeSource, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[bool] = []
    add = ShardWriter.add

    def watched(*arguments: Any) -> None:
        there.append(folder.exists())
        add(*arguments)

    monkeypatch.setattr(ShardWriter, "add", watched)
    prepare(params)
    assert there == [False] * (LIMIT + VAL)
    assert is_whole(folder)


def test_a_second_process_at_work_is_refused_and_told_who_the_first_is(
    params: Params, source: FakeSource, folder: Path
) -> None:
    command = [sys.executable, "-c", HOLDER, str(folder.with_suffix(".lock"))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Failure, match=rf"another process is already preparing .*\b{holder.pid}\b"):
            prepare(params)
        assert not folder.exists()
        holder.communicate()
    prepare(params)
    assert is_whole(folder)


def test_what_somebody_else_finished_meanwhile_is_not_made_again(
    params: Params, source: FakeSource, folder: Path, monkeypatch: pytest.MonkeyPatch
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


@needs_dali
def test_all_shards_of_a_process_share_one_decoder(
    source: FakeSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, built = Decoder._build, list[bool]()
    monkeypatch.setattr(Decoder, "_build", lambda self, resized: built.append(resized) or build(self, resized))
    shard_worker._decoder.cache_clear()
    params = chosen(tmp_path, data={"limit": LIMIT}, prepare={"processes": 1, "shard_images": 16})
    prepare(params)
    assert len(list((shards_root() / shards_key(params)).glob("*.bin"))) > 2
    assert sorted(built) == [False, True], "one pipeline decodes, one also rescales"


def test_the_folders_name_changes_with_what_its_bytes_depend_on(params: Params, tmp_path: Path) -> None:
    for change, matters in (
        ({"data": {"characters": {**DRAWING, "seed": DRAWING["seed"] + 5}}}, True),
        ({"data": {"limit": LIMIT + 1}}, True),
        ({"prepare": {"quality": 94}}, True),
        ({"prepare": {"chroma": "4:2:0"}}, True),
        ({"prepare": {"rescale": "none"}}, True),
        ({"prepare": {"upright": False}}, True),
        ({"prepare": {"shared": "keep"}}, True),
        ({"prepare": {"max_aspect": 31.0}}, True),
        ({"prepare": {"shard_images": 255}}, True),
        ({"net": {"size_ratio": "2/7"}}, True),
        ({"prepare": {"device": "gpu"}}, True),
        ({"prepare": {"processes": 3, "max_unreadable": 0.5}}, False),
        ({"train": {"batch": 16}, "net": {"fc": 128}}, False),
    ):
        changes = {**change, "data": {"limit": LIMIT, **change.get("data", {})}}
        assert (shards_key(chosen(tmp_path, **changes)) != shards_key(params)) == matters, change


@needs_dali
def test_the_committed_images_of_mini_are_those_that_params_yaml_asks_for() -> None:
    params = load(ROOT / "params.yaml")
    assert params.profile == "mini"
    outputs = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]["prepare"]["outs"]
    record = f"{shards_key(params)} {request_hash(params)}\n"
    wanted = {output["path"]: output["md5"] for output in outputs}["data/classification/shards.txt"]
    assert hashlib.md5(record.encode()).hexdigest() == wanted


def test_a_gpu_is_part_of_the_request(params: Params, tmp_path: Path) -> None:
    gpu = chosen(tmp_path, data={"limit": LIMIT}, prepare={"device": "gpu"})
    assert request_hash(gpu) != request_hash(params)


def test_prepare_has_no_device_that_depends_on_the_machine(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"prepare\.device is 'auto': Input should be 'cpu' or 'gpu'"):
        chosen(tmp_path, prepare={"device": "auto"})


def test_the_folders_name_changes_with_the_methods_number_and_the_largest_scale(params: Params) -> None:
    method = params.method.model_copy(update={"prepare": params.method.prepare + 1})
    smaller = {name: run for name, run in params.runs.items() if run.scales[1] <= 384}
    names = [params, params.model_copy(update={"method": method}), params.model_copy(update={"runs": smaller})]
    assert len({shards_key(one) for one in names}) == 3


def test_damage_that_keeps_the_length_is_named_before_dali_sees_it(
    params: Params, source: FakeSource, folder: Path
) -> None:
    prepare(params)
    shards = folder / shard_name("train", 0)
    shards.write_bytes(bytes(shards.stat().st_size))
    with pytest.raises(Failure, match=r"train/\d+.JPEG is damaged"):
        Shards(folder, "train")[0]


def test_the_key_of_a_request_knows_no_parameter_at_its_default(tmp_path: Path) -> None:
    """Data sets that were prepared before there was `follow_links` keep their record."""
    params = chosen(tmp_path)
    data = params.active.data.model_dump(mode="json")
    assert data.pop("follow_links") is False
    before = digest([data, *_wanted(params)])[:16]
    assert request_hash(params) == before
    assert request_hash(chosen(tmp_path, data={"follow_links": True})) != before


def test_a_shard_that_is_lost_before_it_is_joined_is_a_failure_and_no_smaller_data_set(
    workplace: Workplace, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = module._make_shards

    def lose(work: Any, *others: Any) -> None:
        make(work, *others)
        min(work.folder.glob("train-*.part.npz")).unlink()

    monkeypatch.setattr(module, "_make_shards", lose)
    with pytest.raises(Failure, match="has lost shards of train since they were made; start again"):
        workplace.prepare(FakeSource(small_items(rng, "train", 4), small_items(rng, "val", 2)))
