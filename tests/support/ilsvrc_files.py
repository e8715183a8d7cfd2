"""Stand-ins for ILSVRC-2012: small archives in the published form, whose pixels say what class they are of.

A class's number in the order of WordNet ids is in its images' colour, so that another order, or another ground truth,
is seen by whoever looks at the pixels. Objects are painted where the boxes are.
"""

from __future__ import annotations

import functools
import gzip
import importlib
import io
import tarfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from pipeline.datasets.sources.ilsvrc import reference

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
BOXES_TRAIN, BOXES_VAL = "ILSVRC2012_bbox_train_v2.tar.gz", "ILSVRC2012_bbox_val_v3.tgz"
ARCHIVES = (TRAIN, VAL, DEVKIT, BOXES_TRAIN, BOXES_VAL)
DEVKIT_FOLDER = "ILSVRC2012_devkit_t12"
META, TRUTH = f"{DEVKIT_FOLDER}/data/meta.mat", f"{DEVKIT_FOLDER}/data/ILSVRC2012_validation_ground_truth.txt"
FORMATS = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT, "ustar": tarfile.USTAR_FORMAT}

PNG, CMYK = "n02105855_2933", "n01739381_1309"  # as published: a PNG by the name of a JPEG; one of 22 in CMYK
WORDS = {  # of true classes, those with a story first
    "n01440764": "tench, Tinca tinca",
    "n01739381": "vine snake",
    "n02012849": "crane",
    "n02105855": "Shetland sheepdog, Shetland sheep dog, Shetland",
    "n03126707": "crane",
    "n03710637": "maillot",
    "n03710721": "maillot, tank suit",
    "n02113186": "Cardigan, Cardigan Welsh corgi",
    "n02963159": "cardigan",
    "n02114367": "timber wolf, grey wolf, gray wolf, Canis lupus",
}
NAMES = {
    "n01440764": "tench",
    "n01739381": "vine snake",
    "n02012849": "crane (n02012849)",
    "n02105855": "Shetland sheepdog",
    "n03126707": "crane (n03126707)",
    "n03710637": "maillot (n03710637)",
    "n03710721": "maillot (n03710721)",
    "n02113186": "Cardigan",
    "n02963159": "cardigan",
    "n02114367": "timber wolf",
}
Random = np.random.Generator
Member = tuple[tarfile.TarInfo, bytes]
Box = tuple[float, float, float, float]

# Colours: three digits of ten levels a class

DARKEST, STEP, SCRAMBLE = 20, 24, 387  # 387 has no factor in common with 1000: neighbours look different


def colour_of(label: int) -> NDArray[np.int64]:
    """A class's colour, red, green, blue."""
    code = label * SCRAMBLE % 1000
    return DARKEST + STEP * np.array([code // 100, code // 10 % 10, code % 10])


def label_of(encoded: bytes, kind: str = "plain") -> int:
    """The class that an image's pixels say; a grey one's by its lightness, for classes below ten."""
    with Image.open(io.BytesIO(encoded)) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    label = (np.median(pixels, 0) - DARKEST) / STEP
    digits = np.rint(label).astype(int)
    assert np.abs(label - digits).max() < 0.4, f"no class has the colour {np.median(pixels, 0)}"
    if kind == "grey":
        assert len(set(digits)) == 1, f"not grey: {np.median(pixels, 0)}"
        return int(digits[0])
    return int((100 * digits[0] + 10 * digits[1] + digits[2]) * pow(SCRAMBLE, -1, 1000) % 1000)


def paint_on(colour: NDArray[np.int64]) -> NDArray[np.int64]:
    """What objects look like on a background."""
    return np.where(colour < 128, 250, 5)


# Images


class Annotation(NamedTuple):
    """What an XML file says: boxes as they stand there, and the size they are meant for."""

    boxes: tuple[tuple[int, int, int, int], ...]
    width: int
    height: int
    named: str  # its <filename>, which may be anything

    def expected(self, size: tuple[int, int]) -> tuple[Box, ...]:
        """The boxes in an image of `size` (width, height): reversed ones are put right, empty ones are not there."""
        found = []
        for box in self.boxes:
            left, top, right, bottom = (
                float(np.clip(at * true / said, 0, true))
                for at, true, said in zip(box, 2 * size, 2 * (self.width, self.height), strict=True)
            )
            left, right, top, bottom = min(left, right), max(left, right), min(top, bottom), max(top, bottom)
            if left < right and top < bottom:
                found.append((left, top, right, bottom))
        return tuple(found)

    def xml(self, folder: str, name: str) -> bytes:
        """The file, as published."""
        root = ElementTree.Element("annotation")
        for key, text in (("folder", folder), ("filename", self.named)):
            ElementTree.SubElement(root, key).text = text
        ElementTree.SubElement(ElementTree.SubElement(root, "source"), "database").text = "ILSVRC_2012"
        size = ElementTree.SubElement(root, "size")
        for key, value in (("width", self.width), ("height", self.height), ("depth", 3)):
            ElementTree.SubElement(size, key).text = str(value)
        ElementTree.SubElement(root, "segmented").text = "0"
        for box in self.boxes:
            thing = ElementTree.SubElement(root, "object")
            for key, text in (("name", name), ("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
                ElementTree.SubElement(thing, key).text = text
            corners = ElementTree.SubElement(thing, "bndbox")
            for key, at in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
                ElementTree.SubElement(corners, key).text = str(at)
        ElementTree.indent(root, "\t")
        return ElementTree.tostring(root) + b"\n"


def in_this_process(patch: pytest.MonkeyPatch) -> None:
    """Has meta.mat read in this process, which is quick, where it is whole: a broken one may end the process."""
    devkit = importlib.import_module("pipeline.datasets.sources.ilsvrc.devkit")
    patch.setattr(devkit, "run_apart", lambda work, task, _: work(task, False))


class IlsvrcImage(NamedTuple):
    """An image and the truth about it."""

    id: str
    label: int
    data: bytes
    size: tuple[int, int]  # width, height as stored
    annotation: Annotation | None
    kind: str

    @property
    def boxes(self) -> tuple[tuple[Box, ...], ...]:
        """What may be found as its boxes."""
        if self.annotation is None:
            return ((),)
        return (self.annotation.expected(self.size),)


KINDS = ("png", "cmyk", "grey", "exif 6", "junk", "plain")
STORIES = ("one", "several", "outside", "reversed", "another size", "nothing left", "none")


def annotation(random: Random, story: str, name: str, width: int, height: int) -> Annotation | None:
    """Boxes of a kind, each at most a third of the image wide and high; three at most."""
    if story == "none":
        return None

    def inside() -> tuple[int, int, int, int]:
        wide, high = int(random.integers(12, width // 3)), int(random.integers(12, height // 3))
        left, top = int(random.integers(width - wide)), int(random.integers(height - high))
        return left, top, left + wide, top + high

    left, top, right, bottom = inside()
    measured = width, height
    boxes: list[tuple[int, int, int, int]] = [(left, top, right, bottom)]
    if story == "several":
        boxes += [inside() for _ in range(int(random.integers(1, 3)))]
    elif story == "outside":
        boxes = [(-9, top, right - left, bottom), (width - 20, height - 15, width + 40, height + 1)]
    elif story == "reversed":
        boxes.append((right, top, left, bottom) if random.integers(2) else (left, bottom, right, top))
    elif story == "nothing left":
        boxes.append((width + 3, top, width + 30, bottom))
        boxes.append((left, top, left, bottom))
    elif story == "another size":  # the boxes are in it
        ratio = int(random.integers(2, 4))
        measured = width * ratio, height * (ratio + 1)
        boxes = [
            (left * ratio, top * (ratio + 1), right * ratio, bottom * (ratio + 1)),
            (0, 0, 12 * ratio, measured[1] // 9),
        ]
    return Annotation(tuple(boxes), *measured, "%s" if random.integers(2) else name)


def painted(random: Random, label: int, width: int, height: int, boxes: Iterable[Box]) -> NDArray[np.uint8]:
    """A class's colour with grain, and objects where the boxes are."""
    pixels = colour_of(label) + random.normal(0, 4, (height, width, 3))
    for left, top, right, bottom in boxes:
        pixels[round(top) : round(bottom), round(left) : round(right)] = paint_on(colour_of(label))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def encoded(random: Random, pixels: NDArray[np.uint8], label: int, kind: str) -> bytes:
    """An image file of a kind."""
    picture, buffer = Image.fromarray(pixels), io.BytesIO()
    if kind == "png":
        picture.save(buffer, "PNG")
    elif kind == "cmyk":
        picture.convert("CMYK").save(buffer, "JPEG", quality=92)
    elif kind == "grey":
        level = pixels[..., 0].astype(int) - int(colour_of(label)[0]) + DARKEST + STEP * label
        Image.fromarray(np.clip(level, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=92)
    elif kind == "exif 6":
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.save(buffer, "JPEG", quality=92, exif=exif)
    else:
        picture.save(buffer, "JPEG", quality=92)
    return buffer.getvalue() + (random.bytes(int(random.integers(1, 999))) if kind == "junk" else b"")


def make_picture(random: Random, id: str, label: int, kind: str, story: str, sides: tuple[int, int]) -> IlsvrcImage:
    """One image; an `exif 6` is wider than high."""
    width, height = (int(side) for side in random.integers(*sides, 2))
    if kind == "exif 6":
        width, height = max(width, height) + 9, min(width, height)
    about = annotation(random, story, id, width, height)
    boxes = about.expected((width, height)) if about else ()
    pixels = painted(random, label, width, height, boxes)
    return IlsvrcImage(id, label, encoded(random, pixels, label, kind), (width, height), about, kind)


# Archives


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> Member:
    """A member of an archive."""
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size, found.mtime = kind, link, len(data), 1_340_000_000
    found.uname = found.gname = "imagenet"
    found.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return found, data


def pack(members: Iterable[Member], format: str = "gnu") -> bytes:
    """A tar; pax has a header of its own before each member, and one for all."""
    buffer = io.BytesIO()
    everywhere = {"comment": "a stand-in"} if format == "pax" else None
    with tarfile.open(fileobj=buffer, mode="w", format=FORMATS[format], pax_headers=everywhere) as archive:
        for info, data in members:
            if format == "pax":
                info.mtime += 0.25  # type: ignore[assignment]
            archive.addfile(info, io.BytesIO(data))
            if format == "pax":
                info.mtime = int(info.mtime)
    return buffer.getvalue()


def zipped(data: bytes) -> bytes:
    """As gzip has it, the same each time."""
    return gzip.compress(data, 6, mtime=0)


def with_folders(members: list[Member], prefix: str) -> list[Member]:
    """Members under a prefix, and before them the folders that they lie in, as `tar c .` makes them."""
    folders = dict.fromkeys(
        prefix + "/".join(info.name.split("/")[:depth])
        for info, _ in members
        for depth in range(1, info.name.count("/") + 1)
    )
    first = [member(name, b"", tarfile.DIRTYPE) for name in ([prefix[:-1]] if prefix else []) + list(folders)]
    return first + [member(prefix + info.name, data) for info, data in members]


@dataclass
class StandIn:
    """All that is in a stand-in; images are in the order in which they are to be listed."""

    random: Random
    wnids: list[str]  # in order
    words: dict[str, str]
    ids: dict[str, int]  # ILSVRC2012_ID by WNID
    train: list[IlsvrcImage]
    val: list[IlsvrcImage]
    format: str = "gnu"

    @property
    def images(self) -> dict[str, list[IlsvrcImage]]:
        """By split."""
        return {"train": self.train, "val": self.val}

    def of_class(self, wnid: str) -> list[IlsvrcImage]:
        """A class's training images."""
        return [picture for picture in self.train if picture.id.startswith(wnid)]

    # Members, to be changed by who tests what is done about it

    def class_members(self, wnid: str) -> list[Member]:
        """Of a class's tar: in no order, as the published ones are."""
        found = [member(f"{picture.id}.JPEG", picture.data) for picture in self.of_class(wnid)]
        return [found[i] for i in self.random.permutation(len(found))]

    def train_members(self, changed: dict[str, bytes] | None = None) -> list[Member]:
        """Tars of classes; `changed` has the bytes of some by WNID."""
        order = [self.wnids[i] for i in self.random.permutation(len(self.wnids))]
        inner = {wnid: (changed or {}).get(wnid) or pack(self.class_members(wnid), self.format) for wnid in order}
        return [member(f"{wnid}.tar", data) for wnid, data in inner.items()]

    def val_members(self) -> list[Member]:
        """In no order, under ./ and with a folder."""
        found = [member(f"{picture.id}.JPEG", picture.data) for picture in self.val]
        return with_folders([found[i] for i in self.random.permutation(len(found))], "./")

    def devkit_members(self, meta: bytes | None = None, truth: bytes | None = None) -> list[Member]:
        """The devkit: also what is of no interest here."""
        return with_folders(
            [
                member(f"{DEVKIT_FOLDER}/readme.txt", b"ILSVRC2012 Development Kit\n"),
                member(META, self.meta() if meta is None else meta),
                member(TRUTH, self.truth() if truth is None else truth),
                member(f"{DEVKIT_FOLDER}/evaluation/make_hash.m", b"function hash = make_hash(names)\n"),
            ],
            "",
        )

    def box_members(self, split: str) -> list[Member]:
        """XML files, one of them of an image that there is not."""
        found = []
        for picture in self.images[split]:
            if picture.annotation:
                wnid = self.wnids[picture.label]
                folder = wnid if split == "train" else "val"
                found.append(member(f"{folder}/{picture.id}.xml", picture.annotation.xml(folder, wnid)))
        lonely = f"{self.wnids[0]}/{self.wnids[0]}_99999" if split == "train" else "val/ILSVRC2012_val_00049999"
        extra = Annotation(((1, 2, 30, 40),), 50, 60, "%s")
        found.append(member(f"{lonely}.xml", extra.xml("x", self.wnids[0])))
        return with_folders([found[i] for i in self.random.permutation(len(found))], "./")

    def meta(self, counts: dict[str, int] | None = None, **options: bool) -> bytes:
        """meta.mat; `counts` has the training images that it speaks of where they are others than there are."""
        counts = {wnid: len(self.of_class(wnid)) for wnid in self.wnids} | (counts or {})
        return meta_mat(self.ids, self.words, counts, **options)

    def truth(self) -> bytes:
        """The ground truth: an ILSVRC2012_ID a line."""
        return "".join(f"{self.ids[self.wnids[picture.label]]}\n" for picture in self.val).encode()

    # Layouts

    def archive(self, name: str) -> bytes:
        """One of the published archives."""
        if name == TRAIN:
            return pack(self.train_members(), self.format)
        if name == VAL:
            return pack(self.val_members(), self.format)
        if name == DEVKIT:
            return zipped(pack(self.devkit_members(), self.format))
        return zipped(pack(self.box_members("train" if name == BOXES_TRAIN else "val"), self.format))

    def archives(self, root: Path, names: Sequence[str] = ARCHIVES, **others: bytes) -> Path:
        """The published archives in a folder; `others` are given by their constant's name here."""
        root.mkdir(parents=True, exist_ok=True)
        given = {globals()[key]: data for key, data in others.items()}
        for name in names:
            (root / name).write_bytes(given[name] if name in given else self.archive(name))
        return root

    def tree(self, root: Path, val: str = "flat", devkit: str = "folder", boxes: bool = True) -> Path:
        """Unpacked: `val` is flat or in class `folders`; the `devkit` a folder, an archive or `none`."""
        for split, pictures in self.images.items():
            for picture in pictures:
                folder = root / split
                if split == "train" or val == "folders":
                    folder /= self.wnids[picture.label]
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{picture.id}.JPEG").write_bytes(picture.data)
        if devkit == "archive":
            self.archives(root, [DEVKIT])
        elif devkit == "folder":
            self.unpack_devkit(root)
        if boxes:
            self.archives(root, [BOXES_TRAIN, BOXES_VAL])
        return root

    def unpack_devkit(self, root: Path) -> None:
        """The devkit as a folder."""
        for info, data in self.devkit_members():
            if info.isfile():
                (root / info.name).parent.mkdir(parents=True, exist_ok=True)
                (root / info.name).write_bytes(data)


def meta_mat(ids: dict[str, int], words: dict[str, str], counts: dict[str, int], compressed: bool = True) -> bytes:
    """meta.mat in MATLAB's form: a column of structs, the classes by their ILSVRC2012_ID, then high-level synsets."""
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height",
              "num_train_images")  # fmt: skip

    def number(value: int) -> NDArray[np.float64]:
        return np.array([[float(value)]])

    rows = []
    for wnid, id in sorted(ids.items(), key=lambda pair: pair[1]):
        gloss = f"what is called {words[wnid]}"
        rows.append((number(id), wnid, words[wnid], gloss, number(0), np.zeros((1, 0)), number(0),
                     number(counts[wnid])))  # fmt: skip
    last, leaves = len(ids), list(range(1, len(ids) + 1))
    above = [("n00001930", "physical entity", [last + 2, last + 3], 2), ("n00004258", "living thing", leaves[::2], 1),
             ("n00021939", "artifact, artefact", leaves[1::2], 1)]  # fmt: skip
    for place, (wnid, name, children, height) in enumerate(above, last + 1):
        rows.append((number(place), wnid, name, "a kind of kinds", number(len(children)),
                     np.array([children], float), number(height), number(0)))  # fmt: skip
    synsets = np.empty((len(rows), 1), [(field, object) for field in fields])
    for place, row in enumerate(rows):
        synsets[place, 0] = row
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": synsets}, do_compression=compressed)
    return buffer.getvalue()


def shuffled_ids(random: Random, wnids: Sequence[str]) -> dict[str, int]:
    """ILSVRC2012_IDs 1 to N in another order than the WordNet ids'."""
    order = random.permutation(len(wnids))
    while len(wnids) > 1 and (order == np.arange(len(wnids))).any():  # not one is where it would be in order
        if len(wnids) > 20:  # hopeless by chance
            order = np.roll(order, 1)[np.argsort(order)]
            break
        order = random.permutation(len(wnids))
    return {wnid: int(place) + 1 for wnid, place in zip(wnids, order, strict=True)}


def make(
    random: Random,
    classes: int = 7,
    each: tuple[int, int] = (8, 14),
    val: int = 16,
    sides: tuple[int, int] = (64, 200),
    format: str | None = None,
) -> StandIn:
    """A stand-in with all oddities; the first seven classes have two pairs of one name."""
    wnids = sorted(list(WORDS)[:classes])
    train = []
    for label, wnid in enumerate(wnids):
        names = set()
        while len(names) < random.integers(each[0], each[1] + 1):
            names.add(f"{wnid}_{int(random.integers(1, 10 ** int(random.integers(1, 6))))}")
        odd = {"n02105855": PNG, "n01739381": CMYK}.get(wnid)
        if odd and odd not in names:
            names.add(odd)
            names.remove(min(names - {odd}))
        for number, name in enumerate(sorted(names)):
            kind = {PNG: "png", CMYK: "cmyk"}.get(name) or (
                ("grey", "exif 6", "junk", "plain")[number] if label == len(wnids) - 1 and number < 4 else "plain"
            )
            story = STORIES[(number + label) % len(STORIES)]
            train.append(make_picture(random, name, label, kind, story, sides))
    labels = random.permutation(np.resize(np.arange(len(wnids)), val))
    pictures = [
        make_picture(random, f"ILSVRC2012_val_{number:08d}", int(label), kind, STORIES[number % len(STORIES)], sides)
        for number, (label, kind) in enumerate(zip(labels, np.resize(("plain", "cmyk", "exif 6"), val), strict=True), 1)
    ]
    words = {wnid: WORDS[wnid] for wnid in wnids}
    kept = format or str(random.choice(list(FORMATS)))
    return StandIn(random, wnids, words, shuffled_ids(random, wnids), train, pictures, kept)


@functools.cache
def tile(label: int) -> bytes:
    """A tiny image of a class."""
    buffer = io.BytesIO()
    pixels = np.broadcast_to(colour_of(label).astype(np.uint8), (8, 8, 3))
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def make_all(random: Random, classes: int = 1000) -> StandIn:
    """As many classes as there are, one or two tiny images each, and one for validation."""
    numbers = random.choice(np.arange(1_400_000, 13_200_000), classes, replace=False)
    wnids = sorted(f"n{number:08d}" for number in numbers)
    words = {wnid: f"thing {label}, Res {label}" for label, wnid in enumerate(wnids)}
    train = [
        IlsvrcImage(f"{wnid}_{number}", label, tile(label), (8, 8), None, "plain")
        for label, wnid in enumerate(wnids)
        for number in sorted(random.choice(99999, int(random.integers(1, 3)), replace=False).tolist(), key=str)
    ]
    val = [
        IlsvrcImage(f"ILSVRC2012_val_{number:08d}", int(label), tile(int(label)), (8, 8), None, "plain")
        for number, label in enumerate(random.permutation(classes), 1)
    ]
    return StandIn(random, wnids, words, shuffled_ids(random, wnids), train, val)


def publish(patch: pytest.MonkeyPatch, made: StandIn) -> None:
    """Have a stand-in's numbers taken for those that were published."""
    each = Counter(image.label for image in made.train).values()
    patch.setattr(reference, "IMAGES", {"train": len(made.train), "val": len(made.val)})
    patch.setattr(reference, "CLASSES", len(made.wnids))
    sizes = {split: sum(len(image.data) for image in images) for split, images in made.images.items()}
    patch.setattr(reference, "ARCHIVE_BYTES", sizes)
    patch.setattr(reference, "OF_A_CLASS", (min(each), max(each)))
