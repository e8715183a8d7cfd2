"""The embedded digits: the same bytes from the same parameters, honest splits, boxes around the ink, variety."""

from __future__ import annotations

import hashlib
import io
import pickle
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.datasets.sources import digits, fingerprint, open_source
from pipeline.datasets.sources.base import SPLITS
from pipeline.datasets.sources.digits import Digits
from pipeline.experiment.params import Data, DigitsParams
from pipeline.experiment.validation import load
from tests.support import ROOT
from tests.support.fake_source import Item, items_of
from tests.support.images import decoded, gaps_around_ink, run_seed, size

_MINI = load(ROOT / "params.yaml").active
PROFILE = _MINI.model_copy(update={"data": _MINI.data.model_copy(update={"source": "digits"})})
CODE = """
from tests.pipeline.datasets.sources.test_digits import *
print(hashed(items_of(source(seed={seed}), "val", 60)))
"""


def source(ratio: float = 3 / 7, limit: int | None = None, **changes: Any) -> Digits:
    """The digits of params.yaml with other parameters."""
    return Digits(DigitsParams(**{**PROFILE.data.digits.model_dump(), **changes}), limit, ratio)


def hashed(items: list[Item]) -> str:
    """A hash of all that items are."""
    return hashlib.sha256(repr([tuple(item) for item in items]).encode()).hexdigest()


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Item]]:
    """Every digit, by split, from a seed that nobody chose."""
    fresh = source(seed=run_seed())
    return {split: items_of(fresh, split) for split in SPLITS}


def test_two_instances_draw_the_same_bytes(seed: int) -> None:
    for split in SPLITS:
        first, second = (items_of(source(seed=seed), split, 60) for _ in range(2))
        assert first == second, seed


def test_two_interpreters_draw_the_same_bytes(seed: int) -> None:
    command = [sys.executable, "-c", CODE.format(seed=seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    assert done.stdout.strip() == hashed(items_of(source(seed=seed), "val", 60)), seed


def test_an_image_is_the_same_whatever_else_is_drawn(seed: int) -> None:
    all_of_them = {item.id: item for item in items_of(source(seed=seed), "train", 40)}
    few = items_of(source(seed=seed, limit=7), "train")
    assert all(item == all_of_them[item.id] for item in few), seed


def test_another_seed_draws_other_bytes_and_splits_otherwise(seed: int) -> None:
    one, other = (items_of(source(seed=s), "val", 60) for s in (seed, seed + 1))
    assert {item.id for item in one} != {item.id for item in other}, seed
    assert not {item.encoded for item in one} & {item.encoded for item in other}, seed


def test_the_splits_share_no_digit_and_use_all_1797(drawn: dict[str, list[Item]]) -> None:
    ids = [item.id for split in drawn.values() for item in split]
    assert len(ids) == len(set(ids)) == 1797
    assert len({item.encoded for split in drawn.values() for item in split}) == 1797


def test_labels_are_scikit_learns(drawn: dict[str, list[Item]]) -> None:
    target = load_digits().target
    for split in drawn.values():
        assert all(item.label == target[int(item.id.removeprefix("digit-"))] for item in split)


def test_each_class_has_a_quarter_in_validation(drawn: dict[str, list[Item]]) -> None:
    counts = {split: Counter(item.label for item in items) for split, items in drawn.items()}
    assert len(drawn["val"]) >= 450
    for digit in range(10):
        train, val = counts["train"][digit], counts["val"][digit]
        assert train > 0
        assert val == -(-(train + val) // 4)
    assert source().listing().classes == [str(digit) for digit in range(10)]


def test_classes_are_mixed(drawn: dict[str, list[Item]]) -> None:
    for items in drawn.values():
        labels = [item.label for item in items]
        neighbours = np.mean([a == b for a, b in pairwise(labels)])
        assert neighbours < 0.2, "a tenth by chance, std 0.014 over 453"


def test_nothing_is_skipped_and_entries_say_what_images_are(drawn: dict[str, list[Item]]) -> None:
    listing = source(seed=run_seed()).listing()
    assert listing.skipped == []
    assert {split: len(entries) for split, entries in listing.entries.items()} == {k: len(v) for k, v in drawn.items()}


def test_a_source_that_was_sent_to_another_process_reads_the_same(seed: int) -> None:
    there = pickle.loads(pickle.dumps(source(seed=seed)))
    assert items_of(there, "train", 9) == items_of(source(seed=seed), "train", 9), seed


def test_entries_are_small_for_they_travel(seed: int) -> None:
    assert all(len(pickle.dumps(entry)) < 500 for entry in source(seed=seed).listing().entries["train"])


def test_an_image_is_the_same_in_whatever_order_they_are_read(seed: int) -> None:
    drawer = source(seed=seed)
    entries = drawer.listing().entries["val"][:20]
    backwards = [drawer.read(entry) for entry in reversed(entries)]
    assert [drawer.read(entry) for entry in entries] == backwards[::-1], seed


@pytest.mark.parametrize("limit", [1, 13, 5000])
def test_a_limit_takes_the_first_of_each_split(limit: int, seed: int) -> None:
    fewer, more = source(seed=seed, limit=limit), source(seed=seed)
    for split in SPLITS:
        assert fewer.listing().entries[split] == more.listing().entries[split][:limit], seed


def test_images_are_jpegs_with_sides_of_the_canvas(drawn: dict[str, list[Item]]) -> None:
    low, high = (side * 3 / 7 for side in PROFILE.data.digits.canvas)
    for item in drawn["val"]:
        with Image.open(io.BytesIO(item.encoded)) as picture:
            assert (picture.format, picture.mode) == ("JPEG", "RGB")
            assert low - 0.5 <= min(picture.size) <= high + 0.5, item.id  # rounded to a pixel


def test_sizes_shapes_and_colours_vary(drawn: dict[str, list[Item]]) -> None:
    pixels = [decoded(item.encoded) for item in drawn["val"]]
    heights, widths = np.array([image.shape[:2] for image in pixels]).T
    assert len(set(heights)) > 50
    assert len(set(widths)) > 50
    wanted = {8 / 9, 4 / 5, 1.0, 9 / 8, 5 / 4}
    assert {min(wanted, key=lambda shape: abs(shape - ratio)) for ratio in widths / heights} == wanted
    corners = np.array([image[:8, :8].mean((0, 1)) for image in pixels])
    assert corners.std(0).min() > 10, "papers: uniform over 60 grey levels, std 17"


def test_places_vary_with_the_spread(seed: int) -> None:
    places = []
    for spread in (0.0, 0.2):
        items = items_of(source(seed=seed, spread=spread), "val", 60)
        sides = np.array([decoded(item.encoded).shape[:2] for item in items])
        boxes = np.array([item.boxes[0] for item in items], np.float64)
        centres = (boxes[:, 1::-1] + boxes[:, 3:1:-1]) / 2
        places.append(((centres - sides / 2) / sides.min(1, keepdims=True)).std(0))
    # at 0 the ink is not quite in the middle of its 8x8 cells; uniform over -0.2..0.2 has a std of 0.115
    assert places[0].max() < 0.05 < 0.085 < places[1].min(), (seed, places)


def test_boxes_lie_inside_their_images(drawn: dict[str, list[Item]]) -> None:
    for items in drawn.values():
        for item in items:
            ((left, top, right, bottom),) = item.boxes
            with Image.open(io.BytesIO(item.encoded)) as picture:
                assert 0 <= left < right <= picture.width, item.id
                assert 0 <= top < bottom <= picture.height, item.id


def test_the_box_is_drawn_around_the_ink(seed: int) -> None:
    for item in items_of(source(seed=seed, texture=0.0), "val", 150):
        (box,) = item.boxes
        gaps = gaps_around_ink(item.encoded, box)
        # nothing outside, beyond a pixel that JPEG may smear; inside, the edge is soft for less than one of 8x8 cells
        cell = PROFILE.data.digits.digit[1] * min(size(item.encoded)) / 8
        assert min(gaps) >= -1, (seed, item.id, gaps)
        assert max(gaps) <= cell, (seed, item.id, gaps, cell)


def test_the_pixels_are_the_digit_with_the_label(seed: int) -> None:
    """The ink, made small again, correlates with scikit-learn's 8x8 digit."""
    images = load_digits().images
    labels = []
    for item in items_of(source(seed=seed, texture=0.0), "val", 60):
        grey = 255 - np.asarray(
            Image.open(io.BytesIO(item.encoded)).convert("L").crop(item.boxes[0]).resize((16, 16)), float
        )
        index = int(item.id.removeprefix("digit-"))
        digit = images[index]
        rows, columns = np.flatnonzero((digit > 5).any(1)), np.flatnonzero((digit > 5).any(0))
        cut = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
        wanted = np.asarray(Image.fromarray(cut).resize((16, 16), Image.Resampling.BICUBIC))
        labels.append(np.corrcoef(grey.ravel(), wanted.ravel())[0, 1])
    assert np.median(labels) > 0.7, (seed, labels)  # chance is near 0


def test_the_size_ratio_shrinks_the_pictures(seed: int) -> None:
    half, full = (items_of(source(ratio, seed=seed, texture=0.0), "val", 1)[0] for ratio in (0.5, 1.0))
    small, large = decoded(half.encoded).shape, decoded(full.encoded).shape
    assert np.allclose(np.multiply(small, 2)[:2], large[:2], atol=2), seed  # each side rounded to a pixel


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"canvas": (281, 700)}, {"canvas": (280, 701)}, {"digit": (0.46, 0.6)}, {"digit": (0.45, 0.61)},
        {"spread": 0.06}, {"texture": 10.5},
    ],
    ids=str,
)  # fmt: skip
def test_the_fingerprint_changes_with_every_parameter(change: dict[str, Any]) -> None:
    data = PROFILE.data.model_copy(update={"digits": PROFILE.data.digits.model_copy(update=change)})
    assert fingerprint(PROFILE.model_copy(update={"data": data})) != fingerprint(PROFILE)


def test_the_fingerprint_has_all_parameters_that_digits_have_and_no_other_sources() -> None:
    before = fingerprint(PROFILE)
    assert set(DigitsParams.model_fields) <= set(before), "a new parameter is in it, too"
    known = {"source", "limit", "digits", "characters", "path", "val_share", "follow_links"}
    assert set(Data.model_fields) == known, "does a new one matter?"
    changes: dict[str, tuple[Any, bool]] = {"limit": (40, True), "path": ("a", False), "val_share": (0.3, False)}
    for name, (value, matters) in changes.items():
        data = PROFILE.data.model_copy(update={name: value})
        assert (fingerprint(PROFILE.model_copy(update={"data": data})) != before) == matters, name


def test_the_fingerprint_changes_with_the_ratio_the_generator_and_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(PROFILE)
    assert fingerprint(PROFILE) == before
    net = PROFILE.net.model_copy(update={"size_ratio": Fraction(2, 7)})
    assert fingerprint(PROFILE.model_copy(update={"net": net})) != before
    monkeypatch.setattr(digits, "VERSION", digits.VERSION + 1)
    assert fingerprint(PROFILE) != before
    monkeypatch.undo()
    monkeypatch.setattr(digits, "version", lambda _: "0.0")
    assert fingerprint(PROFILE) != before


def test_the_fingerprint_does_not_change_with_what_the_pictures_do_not_depend_on() -> None:
    train = PROFILE.train.model_copy(update={"batch": 64})
    assert fingerprint(PROFILE.model_copy(update={"train": train})) == fingerprint(PROFILE)


def test_the_profile_opens_the_digits(seed: int) -> None:
    drawing = PROFILE.data.digits.model_copy(update={"seed": seed})
    data = PROFILE.data.model_copy(update={"digits": drawing, "limit": 3})
    opened = open_source(PROFILE.model_copy(update={"data": data}))
    assert (opened.name, opened.comparable) == ("digits", False)
    assert items_of(opened, "val") == items_of(source(seed=seed, limit=3), "val")
