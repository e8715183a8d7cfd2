"""The readers of official archives: packed and unpacked, with strays, odd annotations, missing and wrong files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets as theirs

from pipeline.datasets.readers import READERS
from pipeline.datasets.readers.actions import NO_ANNOTATION
from pipeline.datasets.readers.archives import ArchivedReader
from pipeline.datasets.readers.base import Annotations, Reader, examples_of
from pipeline.datasets.readers.voc import IN_NO_SET, NO_FILE, VOC_CLASSES
from pipeline.datasets.sources.base import Encoded
from pipeline.datasets.sources.folder import FOLDER, HIDDEN_ONE, NOT_AN_IMAGE, OUTSIDE
from pipeline.errors import Failure, UsageError
from pipeline.experiment.other_sets import PROTOCOLS, OfficialSets
from pipeline.experiment.validation import load
from pipeline.system.atomic_files import digest, sha256
from tests.support import ROOT
from tests.support.other_archives import (
    PERSON,
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
    without_labels,
    xml,
)

TRAINVAL, TEST, OF_2012 = "VOCtrainval_06-Nov-2007.tar", "VOCtest_06-Nov-2007.tar", "VOCtrainval_11-May-2012.tar"
OF_2012_TEST = "VOC2012test.tar"
OF_101, ZIP_101, OF_256 = "101_ObjectCategories.tar.gz", "caltech-101.zip", "256_ObjectCategories.tar"
VOC = "VOCdevkit/VOC2007"
Make = Callable[[Path], Path]


def trainval() -> Contents:
    return voc(2007, {"train": some_labels(1, ["000012", "000017"]), "val": some_labels(2, ["000005"])})


def of_test() -> Contents:
    return voc(2007, {"test": some_labels(3, ["000001", "000002", "000003"])})


def of_2012() -> Contents:
    other = {"VOCdevkit/VOC2012/JPEGImages/2007_000027.jpg": b"of another task"}
    sets = {"train": some_labels(4, ["2008_000008"]), "val": some_labels(5, ["2008_000002", "2008_000003"])}
    return voc(2012, sets) | other


def of_actions() -> Contents:
    return actions({"train": some_labels(6, ["2010_000002"], 10), "val": some_labels(7, ["2010_000001"], 10)})


FORMS: dict[str, tuple[str, Make]] = {  # a data set and how it is stored
    "2007 packed": ("voc2007", lambda at: unpack({TRAINVAL: tar_of(trainval()), TEST: tar_of(of_test())}, at)),
    "2007 unpacked": ("voc2007", lambda at: unpack(trainval() | of_test(), at)),
    "2007 half unpacked": ("voc2007", lambda at: unpack(trainval() | {TEST: tar_of(of_test())}, at)),
    "the devkit's folder": ("voc2007", lambda at: unpack(trainval() | of_test(), at) / "VOCdevkit"),
    "the year's folder": ("voc2007", lambda at: unpack(trainval() | of_test(), at) / VOC),
    "2012 packed": ("voc2012", lambda at: unpack({OF_2012: tar_of(of_2012())}, at)),
    "2012 unpacked": ("voc2012", lambda at: unpack(of_2012(), at)),
    "101 packed": ("caltech101", lambda at: unpack({OF_101: tar_of(caltech101(), packed=True)}, at)),
    "101 in a zip": ("caltech101", lambda at: unpack({ZIP_101: nested101(caltech101())}, at)),
    "101 unpacked": ("caltech101", lambda at: unpack(caltech101(), at / "caltech-101").parent),
    "256 packed": ("caltech256", lambda at: unpack({OF_256: tar_of(caltech256())}, at)),
    "an archive by its name": ("caltech256", lambda at: unpack({OF_256: tar_of(caltech256())}, at) / OF_256),
    "256 unpacked": ("caltech256", lambda at: unpack(caltech256(), at)),
    "actions packed": ("actions", lambda at: unpack({OF_2012: tar_of(of_actions())}, at)),
    "actions unpacked": ("actions", lambda at: unpack(of_actions(), at)),
}


def reader(name: str, path: Path) -> Reader:
    """The reader of a set in a folder."""
    params = load(ROOT / "params.yaml")
    data = params.active.data.model_copy(update={"source": name, "path": str(path)})
    return READERS[name].of(params.active.model_copy(update={"data": data}))


def images_of(made: Reader) -> dict[str, Encoded]:
    return {entry.id: made.read(entry) for entry in made.listing().entries["val"]}


def strays(made: Reader) -> dict[str, str]:
    return {one.id: one.reason for one in made.listing().skipped}


def row_of(annotations: Annotations, image: str) -> list[int]:
    return annotations.labels[annotations.images.index(image)].tolist()


def check_pixels(name: str, images: dict[str, Encoded], annotations: Annotations) -> None:
    """The labels are those that the pixels show, in the box if examples have boxes."""
    for image, box, labels in zip(annotations.images, annotations.boxes, annotations.labels.tolist(), strict=True):
        encoded = images[image]
        if name.startswith("caltech"):
            assert labels.index(1) == shade_in(encoded.data) and labels.count(1) == 1
            continue
        left, top, right, bottom = map(int, encoded.boxes[box]) if box >= 0 else (0, 0, 10**4, 10**4)
        assert labels_in(pixels_of(encoded.data)[top:bottom, left:right]) == labels


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_those_that_the_pixels_show_in_every_form(form: str, tmp_path: Path) -> None:
    name, make = FORMS[form]
    made = reader(name, make(tmp_path))
    annotations, images = made.annotations(), images_of(made)
    assert made.missing() == "" and not made.listing().entries["train"]
    assert images and set(annotations.images) == set(images)
    assert made.listing().classes == annotations.classes
    assert (annotations.boxes >= 0).all() == PROTOCOLS[name].boxed
    check_pixels(name, images, annotations)


@pytest.mark.parametrize("form", FORMS)
def test_the_sets_are_those_of_the_protocol(form: str, tmp_path: Path) -> None:
    name, make = FORMS[form]
    annotations, division = reader(name, make(tmp_path)).annotations(), PROTOCOLS[name].division
    if isinstance(division, OfficialSets):
        assert set(annotations.subsets) == {division.fit, division.tune, division.test} - {None}
        assert (np.sum(list(annotations.subsets.values()), 0) == 1).all()
    else:
        assert not annotations.subsets and annotations.images == sorted(annotations.images)


def test_packed_and_unpacked_have_the_same_annotations(tmp_path: Path) -> None:
    found = dict[str, list[object]]()
    for form, (name, make) in FORMS.items():
        annotations = reader(name, make(tmp_path / form)).annotations()
        subsets = {key: mask.tolist() for key, mask in annotations.subsets.items()}
        values = [*(str(np.asarray(each).tolist()) for each in annotations._replace(subsets={})), subsets]
        assert found.setdefault(name, values) == values


@pytest.mark.parametrize(("part", "set_name"), [("train", "train"), ("val", "val"), ("test", "test")])
def test_torchvision_finds_the_same_images_of_voc(part: str, set_name: str, tmp_path: Path) -> None:
    unpack(trainval() | of_test(), tmp_path)
    annotations = reader("voc2007", tmp_path).annotations()
    ours = np.array(annotations.images)[annotations.subsets[set_name]].tolist()
    assert [Path(path).stem for path in theirs.VOCDetection(str(tmp_path), "2007", part).images] == ours


def test_torchvision_finds_the_same_images_of_caltech(tmp_path: Path) -> None:
    """Torchvision's Caltech101 does not have the background class, and counts files without looking at names."""
    pytest.importorskip("scipy")
    contents = {name: content for name, content in (caltech101() | caltech256()).items() if name.endswith(".jpg")}
    for name in ("caltech101", "caltech256"):
        unpack(contents, tmp_path / name)
    ours = reader("caltech101", tmp_path / "caltech101").annotations()
    other = theirs.Caltech101(str(tmp_path))
    kept = [image for image in ours.images if not image.startswith("BACKGROUND_Google/")]
    named = [f"{other.categories[y]}/image_{index:04d}.jpg" for y, index in zip(other.y, other.index, strict=True)]
    assert named == kept and ["BACKGROUND_Google", *other.categories] == ours.classes
    ours = reader("caltech256", tmp_path / "caltech256").annotations()
    other = theirs.Caltech256(str(tmp_path))
    named = [
        f"{other.categories[y]}/{y_number:03d}_{index:04d}.jpg"
        for y, index in zip(other.y, other.index, strict=True)
        if (y_number := int(other.categories[y][:3]))
    ]
    assert set(ours.images) <= set(named) and other.categories == ours.classes


@pytest.mark.parametrize("form", ["101 packed", "101 in a zip", "101 unpacked"])
def test_the_file_in_the_background_that_is_no_image_is_named(form: str, tmp_path: Path) -> None:
    made = reader("caltech101", FORMS[form][1](tmp_path))
    assert strays(made) == {"BACKGROUND_Google/tmp": NOT_AN_IMAGE}
    assert made.listing().classes[0] == "BACKGROUND_Google"


@pytest.mark.parametrize("form", ["256 packed", "256 unpacked"])
def test_the_strays_of_caltech_256_are_named_and_are_no_class(form: str, tmp_path: Path) -> None:
    made = reader("caltech256", FORMS[form][1](tmp_path))
    reasons = {
        "198.spider/RENAME2": NOT_AN_IMAGE,
        "056.dog/greg/vision309/a.jpg": "in a folder inside a class's folder",
    }
    assert strays(made) == reasons and len(made.listing().classes) == 4


def test_hidden_files_and_links_out_of_the_folder_are_named(tmp_path: Path) -> None:
    top = unpack(caltech256(), tmp_path / "set") / "256_ObjectCategories"
    (top / "056.dog" / "._056_0001.jpg").write_bytes(b"fork")
    (tmp_path / "secret.jpg").write_bytes(b"somebody's")
    os.symlink(tmp_path / "secret.jpg", top / "056.dog" / "056_0009.jpg")
    os.symlink(tmp_path, top / "058.all")
    (top / "notes.txt").write_text("by class")
    found = strays(reader("caltech256", tmp_path / "set"))
    assert found["056.dog/._056_0001.jpg"] == HIDDEN_ONE and found["056.dog/056_0009.jpg"] == OUTSIDE
    assert found["058.all"] == OUTSIDE and found["notes.txt"] == "a file outside the class folders"
    assert FOLDER not in found.values()


def test_another_number_of_classes_than_the_papers_is_said(tmp_path: Path) -> None:
    listing = reader("caltech101", unpack(caltech101(), tmp_path)).listing()
    assert "4 classes instead of 102" in listing.departures


def test_a_difficult_class_is_neither_there_nor_not(tmp_path: Path) -> None:
    labels = [0, 1, *[-1] * 18]
    contents = voc(2007, {"train": {"000007": labels}, "val": {}}) | voc(2007, {"test": {}})
    annotations = reader("voc2007", unpack(contents, tmp_path)).annotations()
    assert row_of(annotations, "000007") == labels and annotations.classes == list(VOC_CLASSES)


def test_images_without_a_file_and_images_of_no_set_are_named(tmp_path: Path) -> None:
    contents = trainval() | of_test()
    del contents[f"{VOC}/JPEGImages/000017.jpg"]
    contents |= {f"{VOC}/JPEGImages/000099.jpg": b"", f"{VOC}/JPEGImages/Thumbs.db": b"", f"{VOC}/JPEGImages/a.md": b""}
    made = reader("voc2007", unpack(contents, tmp_path))
    assert strays(made) == {
        "000017": NO_FILE, "JPEGImages/000099.jpg": IN_NO_SET, "JPEGImages/Thumbs.db": HIDDEN_ONE,
        "JPEGImages/a.md": NOT_AN_IMAGE,
    }  # fmt: skip
    assert [one.id for one in made.listing().skipped if one.lost] == ["000017"]
    assert "000017" in made.annotations().images  # preparation counts it as missing


def test_images_of_other_tasks_are_no_strays(tmp_path: Path) -> None:
    made = reader("voc2012", unpack(of_2012(), tmp_path))
    assert strays(made) == {} and "2007_000027" not in images_of(made)


@pytest.mark.parametrize(
    ("place", "content", "message"),
    [
        ("ImageSets/Main/sheep_val.txt", None, "has no VOC2007/ImageSets/Main/sheep_val.txt, which VOCtrainval_06"),
        ("ImageSets/Main/test.txt", None, "has no VOC2007/ImageSets/Main/test.txt"),
        ("ImageSets/Main/cat_val.txt", b"000005 2\n", "cat_val.txt has a line '000005 2', which is not as in VOC"),
        ("ImageSets/Main/cat_val.txt", b"000005\n", "cat_val.txt has a line '000005'"),
        ("ImageSets/Main/cat_val.txt", b"\xff\xfe", "cat_val.txt cannot be read"),
        ("ImageSets/Main/cat_val.txt", b"000006 1\n", "cat_val.txt and val.txt have different images, such as 000005"),
        ("ImageSets/Main/train.txt", b"000012\n000012\n", "have different images|is there twice"),
    ],
)
def test_a_missing_or_odd_file_of_labels_is_named(
    place: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    contents = trainval() | of_test()
    contents = {name: data for name, data in contents.items() if name != f"{VOC}/{place}"}
    made = reader("voc2007", unpack(contents | ({f"{VOC}/{place}": content} if content else {}), tmp_path))
    with pytest.raises(Failure, match=message):
        made.listing()


@pytest.mark.parametrize("name", ["voc2007", "voc2012", "caltech101", "caltech256", "actions"])
def test_a_folder_without_the_archives_is_told_which_ones_are_needed(name: str, tmp_path: Path) -> None:
    kind = READERS[name]
    assert issubclass(kind, ArchivedReader)
    assert reader(name, tmp_path / "nowhere").missing() == f"there is no folder {tmp_path / 'nowhere'}"
    (tmp_path / "photo.tar").touch()
    lacking = reader(name, tmp_path).missing()
    assert all(" or ".join(names) in lacking for names in kind.archives) and "photo.tar" in lacking
    with pytest.raises(Failure, match=kind.top):
        reader(name, tmp_path).listing()
    with pytest.raises(UsageError, match=f"vgg-repro prepare {name} --path FOLDER"):
        kind.of(load(ROOT / "params.yaml").active)


def test_the_test_archive_alone_is_not_enough(tmp_path: Path) -> None:
    unpack({TEST: tar_of(of_test())}, tmp_path)
    assert TRAINVAL in reader("voc2007", tmp_path).missing()


@pytest.mark.parametrize(
    ("name", "archive", "content", "message"),
    [
        ("voc2012", OF_2012, tar_of(trainval()), "has no files in a folder VOC2012: it is another archive"),
        ("voc2012", OF_2012, b"<html>not found</html>" * 99, f"{OF_2012} is .*download it again"),
        ("voc2012", OF_2012, tar_of(of_2012())[:3000], f"{OF_2012} is .*download it again"),
        ("voc2012", OF_2012, tar_of({"../VOC2012/a": b""}), "points outside the archive"),
        ("caltech101", OF_101, tar_of(caltech101(), True)[:-99], f"{OF_101} is truncated or damaged"),
        ("caltech101", OF_101, b"<html>", f"{OF_101} is truncated or damaged"),
        ("caltech101", ZIP_101, b"<html>", f"{ZIP_101} is truncated or no zip"),
        ("caltech101", ZIP_101, nested101(caltech101())[:-9], f"{ZIP_101} is truncated or no zip"),
        ("caltech101", OF_101, tar_of(caltech256(), True), "no files in a folder 101_ObjectCategories"),
        ("caltech256", OF_256, tar_of({"256_ObjectCategories/001.a/001_0001.jpg": b""}), "has 1 classes with images"),
    ],
)
def test_a_wrong_or_damaged_archive_is_named(
    name: str, archive: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / archive).write_bytes(content)
    with pytest.raises(Failure, match=message):
        reader(name, tmp_path).listing()


@pytest.mark.parametrize("form", FORMS)
def test_other_files_are_another_data_set(form: str, tmp_path: Path) -> None:
    name, make = FORMS[form]
    path = make(tmp_path)
    first = reader(name, path).fingerprint()
    assert reader(name, path).fingerprint() == first
    file = next(path for path in sorted(tmp_path.rglob("*")) if path.is_file())
    file.write_bytes(file.read_bytes() + bytes(512))
    assert reader(name, path).fingerprint() != first


def with_annotation(folder: Path, *boxes: tuple[float, float, float, float]) -> Reader:
    """The reader of actions with an image whose person, object 2, is after the first of the boxes."""
    content = xml("2010_000002", [("person", box) for box in boxes])
    return reader("actions", unpack(of_actions() | {"VOCdevkit/VOC2012/Annotations/2010_000002.xml": content}, folder))


def test_a_person_is_the_object_of_that_number_of_whatever_class(tmp_path: Path) -> None:
    made = reader("actions", unpack(of_actions(), tmp_path))
    assert made.annotations().boxes.tolist() == [1, 1]
    assert images_of(made)["2010_000002"].boxes == ((0, 19, 90, 40), PERSON)


def test_exchanged_ends_are_turned_round_and_named(tmp_path: Path) -> None:
    left, top, right, bottom = PERSON
    made = with_annotation(tmp_path, (1, 1, 5, 5), (right, top + 1, left + 1, bottom))
    image = images_of(made)["2010_000002"]
    assert image.boxes[1] == PERSON and image.odd_boxes == ("min and max exchanged",)
    check_pixels("actions", images_of(made), made.annotations())


def test_a_box_without_an_area_before_the_person_does_not_shift_the_number(tmp_path: Path) -> None:
    left, top, right, bottom = PERSON
    made = with_annotation(tmp_path, (200, 1, 300, 9), (left + 1, top + 1, right, bottom))
    assert made.annotations().boxes.tolist() == [0, 1]
    assert images_of(made)["2010_000002"].odd_boxes == ("outside the image or empty",)
    check_pixels("actions", images_of(made), made.annotations())


def test_a_person_whose_box_has_no_area_is_no_example(tmp_path: Path) -> None:
    made = with_annotation(tmp_path, (1, 1, 5, 5), (200, 1, 300, 9))
    assert made.annotations().images == ["2010_000001"]
    assert images_of(made)["2010_000002"].odd_boxes == ("outside the image or empty",)


def test_a_person_that_the_annotation_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"Annotations/2010_000002.xml has no object 2"):
        with_annotation(tmp_path, (1, 1, 5, 5)).annotations()


def test_an_image_of_actions_without_its_annotation_is_lost(tmp_path: Path) -> None:
    contents = of_actions()
    del contents["VOCdevkit/VOC2012/Annotations/2010_000001.xml"]
    made = reader("actions", unpack(contents, tmp_path))
    assert strays(made) == {"2010_000001": "its annotation in Annotations/ is missing"}
    assert set(images_of(made)) == {"2010_000002"}


def test_a_person_that_an_actions_file_does_not_have_is_not_judged_for_it(tmp_path: Path) -> None:
    contents = of_actions()
    place = "VOCdevkit/VOC2012/ImageSets/Action/{}_val.txt"
    contents[place.format("jumping")] = b""
    annotations = reader("actions", unpack(contents, tmp_path)).annotations()
    assert row_of(annotations, "2010_000001")[0] == 0
    expected = [int(contents[place.format(action)].split()[2]) for action in annotations.classes[1:]]
    assert row_of(annotations, "2010_000001")[1:] == expected


def test_a_person_in_two_sets_is_named(tmp_path: Path) -> None:
    contents = of_actions()
    name = "VOCdevkit/VOC2012/ImageSets/Action/walking_{}.txt"
    contents[name.format("val")] += contents[name.format("train")]
    with pytest.raises(Failure, match="object 2 of image 2010_000002 is in train and in val"):
        reader("actions", unpack(contents, tmp_path)).annotations()


def test_images_of_a_packed_tar_are_read_in_any_order(tmp_path: Path) -> None:
    made = reader("caltech101", FORMS["101 in a zip"][1](tmp_path))
    entries = made.listing().entries["val"]
    forward = [made.read(entry) for entry in entries]
    assert [made.read(entry) for entry in reversed(entries)] == forward[::-1]
    shutil.rmtree(tmp_path)


def of_2012_test() -> Contents:
    return without_labels(voc(2012, {"test": some_labels(8, ["2008_000001", "2009_000004"])}))


def of_actions_test() -> Contents:
    return without_labels(actions({"test": some_labels(9, ["2010_000003", "2009_000005"], 10)}))


LISTED = {"voc2012": (of_2012, of_2012_test), "actions": (of_actions, of_actions_test)}
TEST_FORMS: dict[str, Callable[[Contents, Contents, Path], Path]] = {  # how a set and its test images are stored
    "both packed": lambda known, test, at: unpack({OF_2012: tar_of(known), OF_2012_TEST: tar_of(test)}, at),
    "both unpacked": lambda known, test, at: unpack(known | test, at),
    "test packed": lambda known, test, at: unpack(known | {OF_2012_TEST: tar_of(test)}, at),
    "test unpacked": lambda known, test, at: unpack({OF_2012: tar_of(known)} | test, at),
}


@pytest.fixture(params=LISTED)
def of_server(request: pytest.FixtureRequest) -> str:
    """The name of a set whose test labels a server alone has."""
    return str(request.param)


def with_test(name: str, at: Path, form: str = "both packed", lacking: str = "", **changed: bytes) -> Reader:
    """The reader of a set with test images, without the file `lacking`; `changed` has lists' contents by their stem."""
    known, test = (make() for make in LISTED[name])
    folder = f"VOCdevkit/VOC2012/ImageSets/{'Action' if name == 'actions' else 'Main'}"
    test |= {f"{folder}/{stem}.txt": content for stem, content in changed.items()}
    test = {path: content for path, content in test.items() if path != f"VOCdevkit/VOC2012/{lacking}"}
    return reader(name, TEST_FORMS[form](known, test, at))


@pytest.mark.parametrize("form", TEST_FORMS)
def test_test_images_are_examples_without_labels_besides_the_others(of_server: str, form: str, tmp_path: Path) -> None:
    alone = reader(of_server, unpack(LISTED[of_server][0](), tmp_path / "alone"))
    made = with_test(of_server, tmp_path / "both", form)
    before, annotations, images = alone.annotations(), made.annotations(), images_of(made)
    protocol = PROTOCOLS[of_server]
    assert set(annotations.subsets) == {"train", "val", protocol.server}
    test, count = annotations.subsets[protocol.server], len(before.images)
    assert test.tolist() == [False] * count + [True] * 2 and not annotations.labels[test].any()
    assert annotations.images[:count] == before.images and np.array_equal(annotations.labels[:count], before.labels)
    assert all(np.array_equal(annotations.subsets[name][:count], mask) for name, mask in before.subsets.items())
    assert set(images) == set(annotations.images) and images_of(alone).items() <= images.items()
    seed, classes = (9, 10) if of_server == "actions" else (8, 20)
    shown = some_labels(seed, annotations.images[count:], classes)  # what their pixels show
    labels = np.array([*before.labels.tolist(), *shown.values()], np.int8)
    check_pixels(of_server, images, annotations._replace(labels=labels))
    assert "train and val, and test without labels" in made.about and "test" not in alone.about


@pytest.mark.parametrize(
    ("name", "examples", "listing"),
    [
        (
            "voc2012",
            "5a87f12568b8fd4b2ee89c28243726bc2a8c397511734dd16e32c16e1b354ad7",
            "73c8d72f4394703485cc62ea2b40035900e6c9b45914394a591501c2a51d6485",
        ),
        (
            "actions",
            "28fc4f3ad816d77c7020de22d63319de1b5cad6dba99588f63a464486b9ad1d9",
            "52ff548286ca00a228749b9171e5c7520d0a423d3c5cb8aee003fd5016070b46",
        ),
    ],
)
def test_without_the_test_archive_all_is_as_before_it_could_be_read(
    name: str, examples: str, listing: str, tmp_path: Path
) -> None:
    """The hashes are from before: what is prepared is the same data set, and nothing runs again."""
    made = reader(name, unpack(LISTED[name][0](), tmp_path / "unpacked"))
    listed = made.listing()
    ids = [entry.id for entry in listed.entries["val"]]
    of_images = examples_of(made.annotations(), ids)
    of_images.write(tmp_path / "examples.npz", np.zeros((len(of_images), 4)))
    assert sha256(tmp_path / "examples.npz") == examples
    assert digest([ids, listed.classes, listed.skipped, list(listed.departures)]) == listing
    packed = unpack({OF_2012: bytes(1024)}, tmp_path / "packed")
    os.utime(packed / OF_2012, ns=(0, 0))
    hashed = "738d43914f9feee0e9594db3b14d0c627f05edfecae5df365fdfbb8bec13884e"
    assert reader(name, packed).fingerprint() == {"source": name, "files": 1, "listing": hashed}


@pytest.mark.parametrize("form", TEST_FORMS)
def test_a_set_with_test_images_is_another_data_set(of_server: str, form: str, tmp_path: Path) -> None:
    made = with_test(of_server, tmp_path, form)
    assert made.fingerprint()["unlabelled"] == ["test"]
    for path in sorted(tmp_path.rglob("*")):
        if path.name in ("test.txt", OF_2012_TEST):
            path.unlink()
    assert "unlabelled" not in made.fingerprint()
    assert set(made.annotations().subsets) == {"train", "val"}


def test_the_number_of_test_images_is_compared_where_it_is_published(of_server: str, tmp_path: Path) -> None:
    said = [*with_test(of_server, tmp_path).listing().departures]
    known = {"voc2012": ["3 images instead of 11,540", "2 test images instead of 10,991"]}
    assert said == known.get(of_server, ["2 images instead of 4,588"])


def test_a_plan_counts_the_test_images_too(of_server: str, tmp_path: Path) -> None:
    known, test = with_test(of_server, tmp_path).known, {"voc2012": 10991, "actions": 4588}
    (tmp_path / OF_2012_TEST).unlink()
    fewer = reader(of_server, tmp_path).known
    assert known and fewer and known.val - fewer.val == test[of_server]


def test_persons_in_the_lists_of_some_actions_alone_are_evaluated_for_these(tmp_path: Path) -> None:
    annotations = with_test("actions", tmp_path, jumping_test=b"2009_000005  2\n").annotations()
    places = {image: place for place, image in enumerate(annotations.images)}
    assert annotations.listed is not None and not annotations.listed[places["2010_000003"], 0]
    assert annotations.listed[places["2010_000003"], 1:].all() and annotations.listed[places["2009_000005"]].all()
    labels = annotations.labels[: places["2009_000005"]]
    assert np.array_equal(annotations.listed[: len(labels)], labels != 0)


def test_labels_in_lists_of_the_test_set_are_not_read(tmp_path: Path) -> None:
    annotations = with_test("actions", tmp_path, phoning_test=b"2010_000003  2  1\n2009_000005  2 -1\n").annotations()
    assert not annotations.labels[annotations.subsets["test"]].any()


def test_test_images_that_cannot_be_used_are_named(of_server: str, tmp_path: Path) -> None:
    lost = {"voc2012": "2009_000004", "actions": "2009_000005"}[of_server]
    made = with_test(of_server, tmp_path / "image", lacking=f"JPEGImages/{lost}.jpg")
    assert strays(made) == {lost: NO_FILE} and lost in made.annotations().images
    if of_server == "actions":
        made = with_test(of_server, tmp_path / "annotation", lacking=f"Annotations/{lost}.xml")
        assert strays(made) == {lost: NO_ANNOTATION}


@pytest.mark.parametrize(
    ("name", "lacking", "changed", "message"),
    [
        ("voc2012", "ImageSets/Main/test.txt", {}, "no VOC2012/ImageSets/Main/test.txt, which VOC2012test.tar should"),
        ("actions", "ImageSets/Action/phoning_test.txt", {}, "phoning_test.txt, which VOC2012test.tar should have"),
        ("voc2012", "", {"test": b"2008_000001 1\n"}, "test.txt has a line '2008_000001 1', which is not as in VOC"),
        ("voc2012", "", {"test": b"2008_000002\n"}, "2008_000002 is there twice in the sets train, val, test"),
        ("actions", "", {"phoning_test": b"2009_000005\n"}, "phoning_test.txt has a line '2009_000005'"),
        ("actions", "", {"phoning_test": b"2010_000001 2\n"}, "object 2 of image 2010_000001 is in val and in test"),
        ("actions", "", {"phoning_test": b"2009_000005 3\n"}, r"Annotations/2009_000005.xml has no object 3"),
    ],
)
def test_an_odd_list_of_the_test_set_is_named(
    name: str, lacking: str, changed: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    made = with_test(name, tmp_path, lacking=lacking, **changed)
    with pytest.raises(Failure, match=message):
        made.annotations()


def test_another_archive_of_the_test_set_is_named(of_server: str, tmp_path: Path) -> None:
    unpack({OF_2012: tar_of(LISTED[of_server][0]()), OF_2012_TEST: tar_of(of_test())}, tmp_path)
    with pytest.raises(Failure, match=f"{OF_2012_TEST} has no files in a folder VOC2012: it is another archive"):
        reader(of_server, tmp_path).listing()
    (tmp_path / OF_2012).unlink()
    assert OF_2012 in reader(of_server, tmp_path).missing(), "the test archive alone is not enough"
