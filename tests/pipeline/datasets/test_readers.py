"""The readers' interface, and the embedded data sets that are drawn through it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.readers import READERS
from pipeline.datasets.readers.base import Annotations, Reader, examples_of, read_examples
from pipeline.errors import Failure
from pipeline.experiment.other_sets import PROTOCOLS, OfficialSets, RandomSplits
from pipeline.experiment.params import Params
from pipeline.experiment.validation import load
from tests.support import ROOT

DRAWN = [name for name, protocol in PROTOCOLS.items() if protocol.drawn]


@pytest.fixture
def params() -> Params:
    return load(ROOT / "params.yaml")


def reader(name: str, params: Params) -> Reader:
    """The reader of a data set of params.yaml."""
    return READERS[params.datasets[name].source].of(params.for_set(name).active)


def test_each_protocol_has_its_reader() -> None:
    assert set(READERS) == set(PROTOCOLS)


@pytest.mark.parametrize("name", DRAWN)
def test_the_annotations_fit_the_listing_and_the_protocol(name: str, params: Params) -> None:
    made = reader(name, params)
    annotations, listing, protocol = made.annotations(), made.listing(), PROTOCOLS[name]
    assert not listing.entries["train"]
    assert set(annotations.images) <= {entry.id for entry in listing.entries["val"]}
    assert annotations.labels.shape == (len(annotations.images), len(annotations.classes))
    assert (annotations.boxes >= 0).all() == protocol.boxed
    if isinstance(protocol.division, OfficialSets):
        parts = {protocol.division.fit, protocol.division.tune, protocol.division.test} - {None}
        assert set(annotations.subsets) == parts
        assert (np.sum(list(annotations.subsets.values()), 0) == 1).all()
    if isinstance(protocol.division, RandomSplits):
        least = (annotations.labels > 0).sum(0).min()
        assert not annotations.subsets and least > protocol.division.train


@pytest.mark.parametrize("name", DRAWN)
def test_an_image_is_drawn_the_same_each_time_with_its_objects_in_their_boxes(name: str, params: Params) -> None:
    entries = reader(name, params).listing().entries["val"]
    for entry in (entries[0], entries[-1]):
        encoded = reader(name, params).read(entry)
        assert encoded == reader(name, params).read(entry)
        with Image.open(io.BytesIO(encoded.data)) as image:
            grey = np.asarray(image.convert("L"), float)
        for left, top, right, bottom in (tuple(map(int, box)) for box in encoded.boxes):
            inside = grey[top:bottom, left:right] < np.median(grey) - 40  # dark ink on a light canvas
            for edge in (inside[:3], inside[-3:], inside[:, :3], inside[:, -3:]):  # borders are smooth
                assert edge.any()


def test_only_the_profile_that_draws_them_can_read_embedded_sets(params: Params) -> None:
    with pytest.raises(Exception, match="the block `drawn` of a profile"):
        READERS["scenes"].of(params.profiles["paper"])


def test_examples_of_images_that_are_not_stored_are_counted_and_left_out(tmp_path: Path) -> None:
    labels = np.array([[1], [-1], [0]], np.int8)
    there = Annotations(
        ["cat"], ["b", "lost", "a"], np.array([0, 1, 0]), labels, {"test": np.array([True, True, False])}
    )
    examples = examples_of(there, ["a", "b"])
    assert (examples.images.tolist(), examples.labels.tolist(), examples.missing) == ([1, 0], [[1], [0]], 1)
    examples.write(tmp_path / "examples.npz", np.zeros((2, 4)))
    read = read_examples(tmp_path / "examples.npz", "")
    assert read.subsets["test"].tolist() == [True, False] and (read.classes, read.missing) == (["cat"], 1)
    (tmp_path / "examples.npz").write_bytes(b"PK")
    with pytest.raises(Failure, match="make it with: vgg-repro prepare pets"):
        read_examples(tmp_path / "examples.npz", "vgg-repro prepare pets")
