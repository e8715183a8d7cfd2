"""ILSVRC-2012 as people have it: every copy becomes the same data set, or a message says what is wrong with it."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from pipeline.datasets import dataset_key
from pipeline.datasets import prepare as module
from pipeline.datasets.facts import Facts
from pipeline.datasets.shards import Shards
from pipeline.datasets.sources.base import SPLITS, ImageNames
from pipeline.datasets.sources.folder import ImageFolder
from pipeline.datasets.sources.ilsvrc import Ilsvrc, authenticity, layout
from pipeline.errors import Failure, Interrupted
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION, shards_root
from tests.support.cases import case
from tests.support.ilsvrc_copies import (
    CLS_LOC,
    COPIES,
    WITH_ANNOTATIONS,
    WITH_LISTS,
    hugging_parquet,
    hugging_tars,
    kaggle_images,
    kaggle_listed_tree,
    kaggle_listed_zip,
    kaggle_tree,
    kaggle_whole_tar,
    kaggle_zip,
    put,
    web_tars,
)
from tests.support.ilsvrc_files import DEVKIT, StandIn, in_this_process, label_of, make, member, pack, publish, zipped
from tests.support.images import repository_params

Random = np.random.Generator
PACKED = ("Hugging Face's tar.gz", "Hugging Face's parquet", "WebDataset, timm's", "Kaggle's zip")
FOREIGN = ("train-00000-of-01024", "train_data_batch_1", "imagenet_train.beton", "data.mdb", "images.h5", "x.tar.zst")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read tables of classes here."""
    in_this_process(monkeypatch)


class PreparedCopy(NamedTuple):
    """What a preparation made of a copy."""

    manifest: bytes
    statistics: bytes
    facts: Facts
    images: dict[str, list[tuple[str, int, bytes]]]  # by split: id, label, stored bytes
    boxes: list[Any]


def params_for(tmp_path: Path, root: Path, limit: int | None = None, **prepare: object) -> Params:
    """The repository's parameters with a copy for a source."""
    return repository_params(
        tmp_path,
        data={"source": "ilsvrc2012", "path": str(root), "limit": limit},
        prepare={"processes": 1, "device": "cpu", "upright": False, "shard_images": 16, **prepare},
        net={"size_ratio": "2/7"},
    )


def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path, **options: Any) -> PreparedCopy:
    """Prepare a copy in an empty folder."""
    home = tmp_path / f"home-{sum(1 for _ in tmp_path.glob('home-*'))}"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("VGG_REPRO_SHARDS", str(home / "shards"))
    params = params_for(home, root, **options)
    facts = module.prepare(params)
    folder = shards_root() / dataset_key.shards_key(params)
    shards = {split: Shards(folder, split) for split in SPLITS}
    images = {
        split: [(all_.ids[i], int(all_.labels[i]), bytes(all_[i])) for i in range(len(all_))]
        for split, all_ in shards.items()
    }
    boxes = [all_.boxes_of(i).tolist() for all_ in shards.values() for i in range(len(all_))]
    return PreparedCopy(
        CLASSIFICATION.manifest.read_bytes(), CLASSIFICATION.statistics.read_bytes(), facts, images, boxes
    )


@pytest.fixture(scope="module")
def made() -> StandIn:
    """A stand-in, the same for all copies."""
    return make(np.random.default_rng(18))


@pytest.fixture(scope="module")
def published(made: StandIn, tmp_path_factory: pytest.TempPathFactory) -> PreparedCopy:
    """What the published archives become."""
    folder = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch)
        return prepared(folder, patch, made.archives(folder / "archives"))


@pytest.mark.parametrize("copy", COPIES)
def test_every_copy_becomes_the_data_set_of_the_published_archives(
    copy: str, made: StandIn, published: PreparedCopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = prepared(tmp_path, monkeypatch, COPIES[copy](made, tmp_path / "the copy"))
    for split, images in result.images.items():
        assert [image[:2] for image in images] == [(one.id, one.label) for one in made.images[split]]
        for (_, label, stored), one in zip(images, made.images[split], strict=True):
            assert label_of(stored, one.kind) == label
    assert result.images == published.images
    assert result.manifest == published.manifest
    assert result.statistics == published.statistics
    assert (result.facts.classes, result.facts.wnids) == (published.facts.classes, published.facts.wnids)
    if copy in WITH_LISTS:
        assert in_own_size(made, result) == in_own_size(made, published)
    else:
        assert (result.boxes == published.boxes) == (copy in WITH_ANNOTATIONS)


def in_own_size(made: StandIn, result: PreparedCopy) -> list[Any]:
    """The boxes of the images that were annotated in their own size, which lists of boxes do not state."""
    images = zip(made.train + made.val, result.boxes, strict=True)
    return [
        boxes for one, boxes in images if one.annotation and one.size == (one.annotation.width, one.annotation.height)
    ]


def test_classes_are_found_behind_the_images_of_a_tar(
    made: StandIn, published: PreparedCopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = prepared(tmp_path, monkeypatch, kaggle_whole_tar(made, tmp_path / "root", lists_first=False))
    assert (result.manifest, result.images) == (published.manifest, published.images)


@pytest.mark.parametrize("row", ["n01440764_1,n01440764 1 2 3", "n01440764_1,n01440764 1 2 3 x", "n01440764_1", "a,b"])
def test_a_list_of_boxes_that_is_not_as_published_is_named(
    row: str, made: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = kaggle_listed_tree(made, tmp_path / "root")
    put(root / "LOC_train_solution.csv", f"ImageId,PredictionString\n{row}\n")
    message = message_of(tmp_path, monkeypatch, root)
    assert "LOC_train_solution.csv is not as published" in message and row in message


def test_a_list_of_boxes_belongs_to_the_fingerprint(made: StandIn, tmp_path: Path) -> None:
    root = kaggle_listed_tree(made, tmp_path / "root")
    before = Ilsvrc(root, None).fingerprint()
    (root / "LOC_train_solution.csv").unlink()
    assert Ilsvrc(root, None).fingerprint() != before


@pytest.mark.parametrize("copy", [kaggle_zip, kaggle_listed_zip])
def test_a_zip_and_its_folder_are_looked_at_once_for_a_listing(
    copy: Any, made: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, calls = copy(made, tmp_path / "root"), Counter[str]()
    for name in ("zip_members", "copies"):
        original = getattr(layout, name)
        monkeypatch.setattr(layout, name, lambda *given, n=name, f=original: (calls.update([n]), f(*given))[1])
    Ilsvrc(root, None).listing()
    assert calls == {"zip_members": 1, "copies": 2}, "once for each split"


@pytest.mark.parametrize(
    "copy", ["Hugging Face's tar.gz", "Hugging Face's parquet", "WebDataset, timm's", "Kaggle's zip"]
)
def test_two_processes_make_what_one_makes(
    copy: str, made: StandIn, published: PreparedCopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = prepared(tmp_path, monkeypatch, COPIES[copy](made, tmp_path / "copy"), processes=2, shard_images=7)
    assert (result.manifest, result.images) == (published.manifest, published.images)


@pytest.mark.parametrize("copy", COPIES)
def test_a_limit_takes_the_same_images_of_every_copy(
    copy: str, made: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = prepared(tmp_path, monkeypatch, made.archives(tmp_path / "archives"), limit=15)
    result = prepared(tmp_path, monkeypatch, COPIES[copy](made, tmp_path / "copy"), limit=15)
    assert len(result.images["train"]) == len(result.images["val"]) == 15
    assert (result.manifest, result.images) == (wanted.manifest, wanted.images)


@pytest.mark.parametrize("train", ["Hugging Face's tar.gz", "Hugging Face's parquet", "Hugging Face's folders"])
@pytest.mark.parametrize("val", ["Kaggle's zip", "WebDataset, cls", "Hugging Face's tar.gz"])
def test_the_splits_may_come_from_different_copies(
    train: str, val: str, made: StandIn, published: PreparedCopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    only(made, "train", train, root)
    only(made, "val", val, root)
    result = prepared(tmp_path, monkeypatch, root)
    assert (result.manifest, result.images) == (published.manifest, published.images)


def only(made: StandIn, split: str, copy: str, root: Path) -> None:
    """Write a copy of one split's images. A zip has both."""
    other = re.compile("val" if split == "train" else "train")
    whole = COPIES[copy](made, root.parent / f"{split} of it")
    for path in (path for path in whole.rglob("*") if path.is_file()):
        if not other.search(str(path.relative_to(whole))) or path.suffix == ".csv":
            put(root / path.relative_to(whole), path.read_bytes())
    if "cls" in copy:  # the numbers mean nothing without the names of the training images
        made.archives(root, [DEVKIT])


@pytest.mark.parametrize("copy", [*PACKED, "Kaggle's tree", "Kaggle's tar.gz", "renamed"])
def test_validation_images_alone_have_the_same_labels(copy: str, made: StandIn, tmp_path: Path) -> None:
    """The profile `published` needs no training images."""
    source = Ilsvrc(COPIES[copy](made, tmp_path / "root"), None, ("val",))
    listing = source.listing()
    entries = [*listing.entries["val"], *(entry for stream in listing.streams for entry in source.stream(stream))]
    if listing.streams:
        ids, codes = np.array([entry.id.encode() for entry in entries]), np.array([entry.label for entry in entries])
        listing, orders = source.settled(listing, {"val": ImageNames(ids, codes)})
        images, labels = orders["val"]
        entries = [entries[i]._replace(label=int(label)) for i, label in zip(images, labels, strict=True)]
    assert [(entry.id, entry.label) for entry in entries] == [(one.id, one.label) for one in made.val]
    assert [source.read(entry).data for entry in entries] == [one.data for one in made.val]
    assert listing.wnids == made.wnids


# Interrupted


@pytest.mark.parametrize("copy", ["Hugging Face's tar.gz", "Hugging Face's parquet", "WebDataset, timm's"])
def test_a_stopped_preparation_resumes_after_the_last_complete_shard(
    copy: str, made: StandIn, published: PreparedCopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: Random
) -> None:
    root = COPIES[copy](made, tmp_path / "copy")
    reads, read = int(rng.integers(5, 60)), Ilsvrc.read
    seen: list[str] = []

    def stopping(self: Ilsvrc, entry: Any) -> Any:
        if len(seen) == reads:
            raise KeyboardInterrupt
        seen.append(entry.id)
        return read(self, entry)

    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("VGG_REPRO_SHARDS", str(home / "shards"))
    params = params_for(home, root, shard_images=4)
    with monkeypatch.context() as patch:
        patch.setattr(Ilsvrc, "read", stopping)
        with pytest.raises(Interrupted):
            module.prepare(params)
    (partial,) = shards_root().glob("*.partial")
    before = {path.name: path.stat().st_mtime_ns for path in partial.glob("*.part.npz")}
    complete = 4 * len(before)
    again: list[str] = []
    monkeypatch.setattr(Ilsvrc, "read", lambda self, entry: again.append(entry.id) or read(self, entry))
    module.prepare(params)
    assert len(again) >= len(made.train) + len(made.val) - complete
    assert len(again) <= len(made.train) + len(made.val) - len(before), "complete shards are not made again"
    assert CLASSIFICATION.manifest.read_bytes() == published.manifest
    assert not list(shards_root().glob("*/*.part.npz")) + list(shards_root().glob("*/*.stream.json"))


# Two copies, missing pieces, damage


def test_of_two_copies_one_is_read_and_both_are_named(
    made: StandIn,
    published: PreparedCopy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = kaggle_zip(made, kaggle_tree(made, tmp_path / "root"))
    (root / "imagenet-object-localization-challenge.zip").rename(root / CLS_LOC / "imagenet.zip")
    result = prepared(tmp_path, monkeypatch, root)
    assert result.images == published.images
    assert (
        "ILSVRC/Data/CLS-LOC/train; also there and not read: ILSVRC/Data/CLS-LOC/imagenet.zip"
        in capsys.readouterr().out
    )


def test_of_two_copies_in_shards_the_larger_is_read(
    made: StandIn, published: PreparedCopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = hugging_tars(made, hugging_parquet(made, tmp_path / "root"))
    for path in (root / "data").glob("train_images_[12].tar.gz"):  # still being downloaded
        path.unlink()
    result = prepared(tmp_path, monkeypatch, root)
    assert [image[0] for image in result.images["train"]] == [image[0] for image in published.images["train"]]


def message_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path, **options: Any) -> str:
    """What is said instead of a data set: one printable line that names the folder or a file in it."""
    with pytest.raises(Failure) as caught:
        prepared(tmp_path, monkeypatch, root, **options)
    message = str(caught.value)
    assert message.isprintable(), message
    return message


def test_a_missing_piece_is_named(made: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = hugging_parquet(made, tmp_path / "root")
    (root / "data/train-00001-of-00003.parquet").unlink()
    assert "data/train-00001-of-00003.parquet: download it again" in message_of(tmp_path, monkeypatch, root)


@pytest.mark.parametrize(
    "copy", ["Hugging Face's tar.gz", "Hugging Face's parquet", "WebDataset, timm's", "Kaggle's zip"]
)
def test_a_file_that_is_cut_short_is_named(
    copy: str, made: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: Random
) -> None:
    root = COPIES[copy](made, tmp_path / "root")
    files = sorted(path for path in root.rglob("*") if path.suffix in (".gz", ".parquet", ".tar", ".zip"))
    files = [path for path in files if "test" not in path.name]
    for _ in range(3):
        path = files[int(rng.integers(len(files)))]
        whole = path.read_bytes()
        path.write_bytes(whole[: int(rng.integers(len(whole)))])
        assert path.name in message_of(tmp_path, monkeypatch, root)
        path.write_bytes(whole)


def test_a_pointer_of_git_lfs_says_what_it_is(made: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for copy in (hugging_tars, hugging_parquet, web_tars):
        root = copy(made, tmp_path / copy.__name__)
        path = sorted(path for path in root.rglob("*train*") if path.is_file())[0]
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
        message = message_of(tmp_path, monkeypatch, root)
        assert path.name in message and "git lfs pull" in message


def test_without_pyarrow_the_message_says_how_to_get_it(
    made: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = hugging_parquet(made, tmp_path / "root")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "pip install 'vgg-repro[parquet]'" in Ilsvrc(root, None).missing()
    assert "pip install 'vgg-repro[parquet]'" in message_of(tmp_path, monkeypatch, root)


def test_validation_images_of_no_class_are_not_guessed(
    made: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = kaggle_tree(made, tmp_path / "kaggle")
    (root / "LOC_val_solution.csv").unlink()
    assert "ILSVRC2012_devkit_t12.tar.gz" in message_of(tmp_path, monkeypatch, root)
    root = tmp_path / "tars"
    for split, images in made.images.items():
        members = [member(f"{image.id}.JPEG", image.data) for image in images]
        put(root / f"{split}_images.tar.gz", zipped(pack(members)))
    assert "LOC_val_solution.csv" in message_of(tmp_path, monkeypatch, root)


def test_other_numbers_of_classes_are_learned_from_the_names_or_not_used(
    made: StandIn, published: PreparedCopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's shards may count the classes in another order. The names of the training images say in which."""
    order = made.random.permutation(len(made.wnids))
    other = [image._replace(label=int(order[image.label])) for image in made.train]
    val = [image._replace(label=int(order[image.label])) for image in made.val]
    wnids = [made.wnids[int(np.flatnonzero(order == label)[0])] for label in range(len(order))]
    root = web_tars(dataclasses.replace(made, train=other, val=val, wnids=wnids), tmp_path / "root", "cls")
    assert prepared(tmp_path, monkeypatch, root).images == published.images
    mixed = [image._replace(label=number % len(order)) for number, image in enumerate(made.train)]
    root = web_tars(dataclasses.replace(made, train=mixed, val=val), tmp_path / "mixed", "cls")
    assert "classes" in message_of(tmp_path, monkeypatch, root)


def test_forms_that_are_not_read_are_named(tmp_path: Path) -> None:
    for name in (
        "train-00000-of-01024",
        "train_data_batch_1",
        "imagenet_train.beton",
        "data.mdb",
        "images.h5",
        "x.tar.zst",
    ):
        put(tmp_path / name / name, "x")
        message = Ilsvrc(tmp_path / name, None).missing()
        assert f"({name}), which this program does not read" in message and "a folder train" in message


def test_renamed_images_are_used_and_the_data_set_is_then_not_the_published_one(
    made: StandIn, published: PreparedCopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    for split, images in made.images.items():
        for number, image in enumerate(images):
            put(root / split / made.wnids[image.label] / f"{number:06d}.JPEG", image.data)
    result = prepared(tmp_path, monkeypatch, root)
    for split in SPLITS:
        assert Counter(image[1:] for image in result.images[split]) == Counter(
            image[1:] for image in published.images[split]
        )
    assert "do not have their published names, the first n01440764/0000" in result.facts.about


@pytest.mark.parametrize("copy", ["Hugging Face's tar.gz", "Kaggle's tree"])
def test_a_small_copy_is_not_compared_with_the_paper(
    copy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: Random
) -> None:
    whole, small = make(rng, classes=4, sides=(60, 90)), make(rng, classes=4, sides=(64, 65))
    monkeypatch.setattr(authenticity, "ENOUGH", 10)
    for made, comparable in ((whole, True), (small, False)):
        publish(monkeypatch, made)
        result = prepared(tmp_path, monkeypatch, COPIES[copy](made, tmp_path / f"{comparable}"))
        assert result.facts.comparable == comparable
        assert ("have a shorter side of 64 pixels: they are resized" in result.facts.about) != comparable


# Subsets


def tiny_imagenet(made: StandIn, root: Path) -> Path:
    """tiny-imagenet-200 as it is unpacked."""
    put(root / "wnids.txt", "".join(f"{one}\n" for one in made.wnids))
    for number, image in enumerate(made.train):
        wnid = made.wnids[image.label]
        put(root / f"train/{wnid}/images/{wnid}_{number}.JPEG", image.data)
        put(root / f"train/{wnid}/{wnid}_boxes.txt", "x\t0\t0\t63\t63\n")
    rows = [f"val_{number}.JPEG\t{made.wnids[image.label]}\t0\t0\t63\t63\n" for number, image in enumerate(made.val)]
    put(root / "val/val_annotations.txt", "".join(rows))
    for number, image in enumerate(made.val):
        put(root / f"val/images/val_{number}.JPEG", image.data)
    put(root / "test/images/test_0.JPEG", made.val[0].data)
    return root


def imagenet_100(made: StandIn, root: Path) -> Path:
    """Kaggle's ImageNet100: the training images in parts."""
    for image in made.train:
        put(root / f"train.X{1 + image.label % 4}" / made.wnids[image.label] / f"{image.id}.JPEG", image.data)
    for image in made.val:
        put(root / "val.X" / made.wnids[image.label] / f"{image.id}.JPEG", image.data)
    put(root / "Labels.json", "{}")
    return root


def imagenettes(made: StandIn, root: Path) -> Path:
    """Imagenette's way: both splits are drawn from both splits."""
    for number, image in enumerate(made.train + made.val):
        folder = "val" if number % 4 == 0 else "train"
        put(root / folder / made.wnids[image.label] / f"{image.id}.JPEG", image.data)
    return root


@pytest.mark.parametrize("copy", [tiny_imagenet, imagenet_100, imagenettes])
def test_subsets_are_read_with_their_classes(
    copy: Any, made: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = prepared(tmp_path, monkeypatch, copy(made, tmp_path / "root"))
    assert sum(map(len, result.images.values())) == len(made.train) + len(made.val)
    kinds = {image.data: image for image in made.train + made.val}
    for split in SPLITS:
        for _, label, stored in result.images[split]:
            assert stored not in kinds or kinds[stored].label == label
    assert not result.facts.comparable


@pytest.mark.parametrize("copy", [tiny_imagenet, imagenet_100, kaggle_tree, kaggle_images])
def test_under_imagefolder_the_command_that_reads_them_is_named(copy: Any, made: StandIn, tmp_path: Path) -> None:
    folder = ImageFolder(copy(made, tmp_path / "root"), 0.2, None)
    message = folder.missing()
    if not message:
        with pytest.raises(Failure) as caught:
            folder.listing()
        message = str(caught.value)
    assert message.endswith("vgg-repro prepare --source ilsvrc2012")


def test_validation_images_of_classes_that_train_lacks_are_counted(made: StandIn, tmp_path: Path) -> None:
    root = made.tree(tmp_path / "root", "folders", "none")
    for wnid in made.wnids[2:]:
        shutil.rmtree(root / "train" / wnid)
    listing = Ilsvrc(root, None).listing()
    others = sum(image.label >= 2 for image in made.val)
    assert f"{others} validation images of other classes are skipped" in listing.departures
    assert [(entry.id, entry.label) for entry in listing.entries["val"]] == [
        (image.id, image.label) for image in made.val if image.label < 2
    ]


def linked_subset(made: StandIn, root: Path) -> Path:
    """ImageNet-100's way: links to the class folders of the whole set elsewhere."""
    whole = made.tree(root.parent / "whole", "folders", "none")
    for split in SPLITS:
        for wnid in made.wnids[:3]:
            (root / split).mkdir(parents=True, exist_ok=True)
            (root / split / wnid).symlink_to(whole / split / wnid)
    return root


def test_links_that_lead_outside_are_followed_if_asked_for(
    made: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = linked_subset(made, tmp_path / "root")
    for kind in (Ilsvrc(root, None), ImageFolder(root, 0.2, None)):
        with pytest.raises(Failure, match="vgg-repro prepare --follow-links"):
            kind.listing()
    wanted = [image.id for image in made.train if image.label < 3]
    for kind in (Ilsvrc(root, None, follow_links=True), ImageFolder(root, 0.2, None, follow_links=True)):
        entries = kind.listing().entries["train"]
        assert sorted(Path(entry.id).stem for entry in entries) == sorted(wanted)
        assert kind.read(entries[0]).data in {image.data for image in made.train}
        assert kind.fingerprint() != dataclasses.replace(kind, follow_links=False).fingerprint()


def test_a_link_to_a_folder_above_it_is_no_endless_walk(made: StandIn, tmp_path: Path) -> None:
    root = made.tree(tmp_path / "root", "folders", "none")
    (root / "train" / made.wnids[0] / "again").symlink_to(root / "train")
    listing = Ilsvrc(root, None).listing()
    assert [entry.id for entry in listing.entries["train"]] == [image.id for image in made.train]


def test_a_link_to_itself_is_named_or_left_alone(made: StandIn, tmp_path: Path) -> None:
    root = made.tree(tmp_path / "root", "folders", "none")
    for place in (root / "again", root / "train" / "again", root / "train" / made.wnids[0] / "again.JPEG"):
        place.symlink_to(place)
    listing = Ilsvrc(root, None).listing()
    assert [entry.id for entry in listing.entries["train"]] == [image.id for image in made.train]
    assert [one.reason for one in listing.skipped] == ["a broken link", "a broken link"]
    assert "again" in Ilsvrc(root / "again", None).missing()


def test_a_listing_and_a_fingerprint_ask_for_no_status_of_an_image_that_the_folder_has_told(
    made: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call for each of 1.3 million images takes minutes on a network disk. A folder's own reading has the kinds."""
    asked, stat = list[str](), os.stat

    def noted(path: Any, *rest: Any, **named: Any) -> os.stat_result:
        asked.append(str(path))
        return stat(path, *rest, **named)

    monkeypatch.setattr(os, "stat", noted)
    flat = made.tree(tmp_path / "flat", "flat", "folder")
    folders = made.tree(tmp_path / "folders", "folders", "folder")
    for source in (Ilsvrc(flat, None), Ilsvrc(folders, None), ImageFolder(folders, 0.2, None)):
        source.listing()
        source.fingerprint()
    assert asked and not [path for path in asked if ".JPEG" in path]


# Mixtures


def disturb(made: StandIn, root: Path, rng: Random) -> str:
    """Do something to a copy that happens to copies. Return what."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size > 100)
    if not files:
        return "nothing"
    path = files[int(rng.integers(len(files)))]
    kind = str(rng.choice(["none", "junk", "cut", "byte", "gone", "copy", "link", "empty folder", "many gone"]))
    if kind == "junk":
        for name in (".DS_Store", "train/.DS_Store", "notes.txt", "__MACOSX/train/x.JPEG", "val/@eaDir/x.jpg"):
            if (root / name).parent.exists() or name.startswith("__"):
                put(root / name, b"\0junk")
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[: int(rng.integers(path.stat().st_size))])
    elif kind == "byte":
        data = bytearray(path.read_bytes())
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
    elif kind == "gone":
        path.unlink()
    elif kind == "many gone":
        for path in files[:: int(rng.integers(2, 5))]:
            path.unlink()
    elif kind == "copy":
        path.with_name(f"{path.stem} (1){path.suffix}").write_bytes(path.read_bytes())
    elif kind == "link":
        path.rename(root.parent / f"outside-{path.name}")
        path.symlink_to(root.parent / f"outside-{path.name}")
    elif kind == "empty folder":
        (path.parent / "empty").mkdir(exist_ok=True)
    return f"{kind}: {path.relative_to(root)}"


@pytest.mark.parametrize("number", range(12))
def test_any_mixture_of_copies_is_right_or_said(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: Random
) -> None:
    """Images have the ids and labels of the truth. What is missing is in the facts, or all stops with one line."""
    made = make(rng, classes=4, each=(4, 6), val=8, sides=(40, 60))
    publish(monkeypatch, made)
    root, names = tmp_path / "root", list(COPIES)
    told = [str(rng.choice(names)) for _ in range(int(rng.integers(1, 3)))]
    for name in told:
        COPIES[name](made, root)
    told += [disturb(made, root, rng) for _ in range(int(rng.integers(0, 3)))]
    with case(told):
        try:
            result = prepared(tmp_path, monkeypatch, root, max_unreadable=0.0)
        except Failure as failure:
            message = str(failure)
            assert message.isprintable() and len(message) < 1000
            return
        for split, images in made.images.items():
            truth = {image.id: made.wnids[image.label] for image in images}
            found = {id: result.facts.wnids[label] for id, label, _ in result.images[split]}
            assert len(found) == len(result.images[split])
            assert {id: truth.get(id) for id in found} == found
            lost = len(truth) - len(found)
            assert not lost or not result.facts.comparable, f"{lost} images of {split} are lost in silence"
