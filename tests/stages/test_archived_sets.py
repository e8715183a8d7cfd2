"""vgg-repro prepare NAME of official archives, from the command to the examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dvc.fs import localfs
from dvc.rwlock import rwlock

from cli.main import app
from pipeline.datasets.manifest import tally
from pipeline.datasets.readers.base import read_examples
from pipeline.datasets.shards import Shards
from pipeline.errors import Failure, UsageError
from pipeline.experiment.other_sets import PROTOCOLS
from pipeline.experiment.paths import DataSet
from pipeline.experiment.paths import table as reported_table
from pipeline.experiment.validation import load
from pipeline.orchestration.dvc_graph import IN_USE
from pipeline.results.other_sets import compute_other_sets
from pipeline.results.profile_results import Results
from pipeline.system.atomic_files import write_json
from stages import features as describe
from stages import svm, table
from tests.support.images import repository_params
from tests.support.other_archives import (
    Contents,
    actions,
    caltech101,
    caltech256,
    labels_in,
    nested101,
    pixels_of,
    shade_in,
    some_labels,
    tar_of,
    unpack,
    voc,
)
from tests.support.training import in_copy_of

SETS = ("voc2007", "voc2012", "caltech101", "caltech256", "actions")


def stand_ins() -> dict[str, tuple[Contents, Contents]]:
    """Of each set the archives and what is in them."""
    trainval = voc(2007, {"train": some_labels(1, ["000012"]), "val": some_labels(2, ["000005"])})
    test = voc(2007, {"test": some_labels(3, ["000001", "000002"])})
    of_2012 = voc(2012, {"train": some_labels(4, ["2008_000008"]), "val": some_labels(5, ["2008_000002"])})
    persons = actions({"train": some_labels(6, ["2010_000002"], 10), "val": some_labels(7, ["2010_000001"], 10)})
    packed = {"VOCtrainval_06-Nov-2007.tar": tar_of(trainval), "VOCtest_06-Nov-2007.tar": tar_of(test)}
    return {
        "voc2007": (packed, trainval | test),
        "voc2012": ({"VOCtrainval_11-May-2012.tar": tar_of(of_2012)}, of_2012),
        "caltech101": ({"caltech-101.zip": nested101(caltech101())}, caltech101()),
        "caltech256": ({"256_ObjectCategories.tar": tar_of(caltech256())}, caltech256()),
        "actions": ({"VOCtrainval_11-May-2012.tar": tar_of(persons)}, persons),
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project whose images are prepared in this process."""
    repository_params(tmp_path, prepare={"processes": 1})
    (tmp_path / "params-0.yaml").rename(tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VGG_REPRO_SHARDS", str(tmp_path / "shards"))
    return tmp_path


@pytest.mark.parametrize("unpacked", [False, True], ids=["packed", "unpacked"])
@pytest.mark.parametrize("name", SETS)
def test_prepare_writes_the_row_and_stores_images_and_labels(name: str, unpacked: bool, folder: Path) -> None:
    path = unpack(stand_ins()[name][unpacked], folder / "given")
    app(["prepare", name, "--path", str(path), "--direct"], standalone_mode=False)
    row, data_set = load().datasets[name], DataSet(name)
    assert (row.source, row.path, row.table) == (name, str(path), PROTOCOLS[name].table)
    examples, shards = read_examples(data_set.examples, ""), Shards(data_set.shards, "val")
    assert len(examples) and not examples.missing
    for image, box, labels in zip(examples.images, examples.boxes, examples.labels.tolist(), strict=True):
        encoded = np.asarray(shards[int(image)]).tobytes()
        if name.startswith("caltech"):
            assert shade_in(encoded) == labels.index(1)
            continue
        left, top, right, bottom = map(int, shards.boxes_of(int(image))[box]) if box >= 0 else (0, 0, 10**4, 10**4)
        assert labels_in(pixels_of(encoded)[top:bottom, left:right]) == labels
    assert tally(data_set.manifest).skipped == {"caltech101": 1, "caltech256": 2}.get(name, 0)


@pytest.mark.parametrize("name", SETS)
def test_archives_that_are_not_there_leave_params_yaml_as_it_is(name: str, folder: Path) -> None:
    text = Path("params.yaml").read_text()
    archives, _ = stand_ins()[name]
    damaged = unpack({archive: content[:700] for archive, content in archives.items()}, folder / "damaged")
    for path in ("nowhere", str(folder), str(damaged)):
        with pytest.raises(UsageError, match=r"params\.yaml is unchanged"):
            app(["prepare", name, "--path", path, "--direct"], standalone_mode=False)
    assert Path("params.yaml").read_text() == text


def learnable(shift: int, ids: int = 0) -> Contents:
    """VOC-2007 whose classes are all in each set; `shift` moves the labels, `ids` the images' names."""
    sets = {
        name: {f"{ids + first + number:06d}": [1 if (number + column + shift) % 3 == 0 else -1 for column in range(20)]
               for number in range(12)}
        for name, first in (("train", 0), ("val", 12), ("test", 24))
    }  # fmt: skip
    return voc(2007, sets)


def with_images_of(contents: Contents, others: Contents) -> Contents:
    """The annotations of `contents` for the images of `others`."""
    return contents | {name: data for name, data in others.items() if name.endswith(".jpg")}


@pytest.mark.parametrize("second", ["images", "labels"])
def test_a_set_prepared_from_other_archives_shows_nothing_of_the_first(
    second: str, describing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command to the table and the report."""
    in_copy_of(describing, tmp_path, monkeypatch)
    first = learnable(0)
    other = learnable(1) if second == "images" else with_images_of(learnable(1), first)
    app(["prepare", "voc2007", "--path", str(unpack(first, tmp_path / "first")), "--direct"], standalone_mode=False)
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("[256, 384, 512, 640, 768]", "[256]"))
    describe.main(load(), "voc2007", "D-jitter")
    svm.main(load(), "voc2007", "D")
    assert shown() == (True, True)
    app(["prepare", "voc2007", "--path", str(unpack(first, tmp_path / "copy")), "--direct"], standalone_mode=False)
    assert shown() == (True, True)  # the same images and annotations elsewhere are the same data set
    values = table.compute(load(), "table11").values
    app(["prepare", "voc2007", "--path", str(unpack(other, tmp_path / "other")), "--direct"], standalone_mode=False)
    write_json(reported_table("mini", "table11"), values)
    assert "table11" not in Results("mini").other_sets
    assert shown() == (False, False)


def shown() -> tuple[bool, bool]:
    """Whether Table 11 and the report have a number of VOC-2007."""
    values = table.compute(load(), "table11").values
    write_json(reported_table("mini", "table11"), values)
    ours = any(row["ours"] for row in values["rows"] if row["set"] == "voc2007")
    return ours, "table11" in Results("mini").other_sets


def test_other_boxes_of_the_same_images_are_other_examples(folder: Path) -> None:
    persons = actions({"train": some_labels(6, ["2010_000002"], 10), "val": some_labels(7, ["2010_000001"], 10)})
    other = {
        name: data.replace(b"<xmin>4<", b"<xmin>5<") if name.endswith(".xml") else data
        for name, data in persons.items()
    }
    written = []
    for name, contents in (("first", persons), ("other", other)):
        app(["prepare", "actions", "--path", str(unpack(contents, folder / name)), "--direct"], standalone_mode=False)
        written.append(DataSet("actions").examples.read_bytes())
    assert persons != other and written[0] != written[1]


def test_sets_that_are_not_there_are_rows_with_their_commands(folder: Path) -> None:
    commands = {
        row["missing"][0]
        for table in ("table11", "table12")
        for row in compute_other_sets(table, load())["rows"]
        if row["set"] is None and row["missing"]
    }
    assert commands == {f"vgg-repro prepare {name} --path FOLDER" for name in SETS}


@pytest.mark.parametrize("words", [["voc2007"], ["ilsvrc-test"], ["--profile", "evening"]], ids=lambda words: words[-1])
def test_while_dvc_is_at_work_nothing_that_it_reads_is_changed(
    words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.system.checkout.check", lambda: None)  # there is no git here
    text = Path("params.yaml").read_text()
    path = unpack(stand_ins()["voc2007"][0], folder / "given")
    IN_USE.parent.mkdir(parents=True)
    with (
        rwlock(str(IN_USE.parent), localfs, "dvc repro table11", [], [str(folder / "weights")], hardlink=False),
        pytest.raises(Failure, match=r"DVC is at work .*dvc repro table11.* wait .*params\.yaml is unchanged$"),
    ):
        app(["prepare", *words, *(["--path", str(path)] if len(words) == 1 else [])], standalone_mode=False)
    assert Path("params.yaml").read_text() == text
