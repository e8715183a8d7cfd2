"""The test images of ILSVRC-2012: the forms that people have, their order, and what is missing."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets.sources.base import Listing
from pipeline.datasets.sources.ilsvrc import Ilsvrc, unlabelled
from pipeline.datasets.sources.ilsvrc.unlabelled import IlsvrcTest
from pipeline.errors import Failure
from pipeline.experiment.params import Params, UnlabelledSet
from pipeline.experiment.server_sets import ILSVRC_TEST
from pipeline.experiment.validation import load
from tests.support import ROOT
from tests.support.ilsvrc_copies import kaggle_tree, put
from tests.support.ilsvrc_files import in_this_process, label_of, make, member, pack
from tests.support.unlabelled import FORMS, LATER, OLDER, archive, later, older
from tests.support.unlabelled import unlabelled as made_images

COUNT = 9


@pytest.fixture(autouse=True)
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins have all images that there are."""
    monkeypatch.setattr(unlabelled, "TEST_IMAGES", COUNT)
    in_this_process(monkeypatch)


def source(path: Path) -> IlsvrcTest:
    params: Params = load(ROOT / "params.yaml").model_copy(
        update={"test_sets": {ILSVRC_TEST: UnlabelledSet(path=str(path))}}
    )
    return IlsvrcTest.of(params.for_set(ILSVRC_TEST).active)


def listed(path: Path) -> Listing:
    return source(path).listing()


@pytest.mark.parametrize("form", FORMS)
def test_each_form_lists_the_same_images_in_the_order_of_their_numbers(
    form: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    images = made_images(rng)
    read = source(FORMS[form](images, tmp_path / "data"))
    assert not read.missing()
    listing = read.listing()
    entries = listing.entries["val"]
    assert [entry.id for entry in entries] == [image.id for image in images]
    assert [label_of(read.read(entry).data) for entry in entries] == [image.label for image in images]
    assert {entry.label for entry in entries} == {0} and not listing.entries["train"]
    assert not listing.departures and not listing.skipped
    assert listing.bytes == sum(len(image.data) for image in images)


def test_missing_images_are_named_with_numbers(tmp_path: Path, rng: np.random.Generator) -> None:
    images = made_images(rng)
    (departure,) = listed(older(images[:7], tmp_path / "short")).departures
    assert "has 7 of the 9 test images; the first that is missing is ILSVRC2012_test_00000008" in departure
    with_gaps = later([images[0], *images[2:4], images[8]], tmp_path / "gaps")
    with pytest.raises(Failure, match=r"4 of the 9 test images: 5 before .* the first ILSVRC2012_test_00000002, and"):
        listed(with_gaps)


def test_other_files_are_skipped_with_their_reasons(tmp_path: Path, rng: np.random.Generator) -> None:
    images = made_images(rng)
    members = [member(f"test/{image.id}.JPEG", image.data) for image in images]
    strays = ["test/notes.txt", f"test/again/{images[2].id}.JPEG", "test/ILSVRC2012_val_00000001.JPEG",
              "test/ILSVRC2012_test_00000001.xml", "test/.ILSVRC2012_test_00000004.JPEG"]  # fmt: skip
    put(tmp_path / OLDER, pack([*members, *(member(name, b"x") for name in strays)]))
    listing = listed(tmp_path)
    assert len(listing.entries["val"]) == COUNT
    assert [one.id for one in listing.skipped] == [f"{OLDER}/{name}" for name in strays]


def test_a_truncated_archive_and_an_empty_folder_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    assert re.search("has no test images of ILSVRC-2012: neither ILSVRC2012_img_test.tar", source(tmp_path).missing())
    assert "there is no folder" in source(tmp_path / "nowhere").missing()
    whole = archive(made_images(rng))
    put(tmp_path / OLDER, whole[: len(whole) // 2 | 1])  # within a block, and before the zeros at the end
    with pytest.raises(Failure, match="truncated"):
        listed(tmp_path)


def test_the_later_archive_is_read_if_both_are_there(
    tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    later(made_images(rng), older(made_images(rng, 3), tmp_path))
    assert len(listed(tmp_path).entries["val"]) == COUNT
    assert f"read from {LATER}; also there and not read: {OLDER}" in capsys.readouterr().out


def test_the_fingerprint_follows_the_images(tmp_path: Path, rng: np.random.Generator) -> None:
    images = made_images(rng)
    older(images, tmp_path / "a")
    before = source(tmp_path / "a").fingerprint()
    older(images, tmp_path / "b")
    assert source(tmp_path / "b").fingerprint() == before
    older(images[:8], tmp_path / "a")
    assert source(tmp_path / "a").fingerprint() != before


@pytest.mark.parametrize("form", ["archives", "Kaggle's tree"])
def test_test_images_never_enter_training_or_validation(form: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """They are beside the other images, in archives and folders whose names are similar."""
    made = make(rng)
    root = made.archives(tmp_path / "data") if form == "archives" else kaggle_tree(made, tmp_path / "data")
    read = Ilsvrc(root, None)
    ids = {split: [entry.id for entry in entries] for split, entries in read.listing().entries.items()}
    before = read.fingerprint()
    images = made_images(rng)
    for name in (OLDER, LATER):
        put(root / name, archive(images, "test/"))
    for image in images:
        put(root / "test" / f"{image.id}.JPEG", image.data)
    assert {split: [entry.id for entry in entries] for split, entries in read.listing().entries.items()} == ids
    assert read.fingerprint() == before
