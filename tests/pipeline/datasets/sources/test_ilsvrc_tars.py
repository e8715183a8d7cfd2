"""Archives of ILSVRC-2012 that are hostile, cut or damaged: refused by name, never taken for a smaller data set."""

from __future__ import annotations

import gzip
import importlib
import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.datasets.sources.base import SPLITS, Listing, Unreadable
from pipeline.errors import Failure
from tests.support.cases import case
from tests.support.ilsvrc_files import (
    ARCHIVES,
    BOXES_TRAIN,
    BOXES_VAL,
    DEVKIT,
    DEVKIT_FOLDER,
    META,
    TRAIN,
    TRUTH,
    VAL,
    Member,
    StandIn,
    in_this_process,
    make,
    member,
    meta_mat,
    pack,
    zipped,
)

Random = np.random.Generator
BLOCK = tarfile.BLOCKSIZE
PLACES = ("outer", "inner", "val", "devkit", "train boxes", "val boxes")
ARCHIVE = dict(zip(PLACES, (TRAIN, TRAIN, VAL, DEVKIT, BOXES_TRAIN, BOXES_VAL), strict=True))


def source(root: Path) -> Any:
    return importlib.import_module("pipeline.datasets.sources.ilsvrc").Ilsvrc(root, None)


def listed(root: Path) -> Listing:
    listing: Listing = source(root).listing()
    return listing


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Read tables of classes here, but where they are damaged."""
    if "damaged_table" not in request.node.name:
        in_this_process(monkeypatch)


@pytest.fixture
def made(rng: Random) -> StandIn:
    """A small stand-in."""
    return make(rng, classes=4, each=(3, 5), val=6, sides=(64, 80))


@pytest.fixture
def root(made: StandIn, tmp_path: Path) -> Path:
    """Its archives, whole."""
    return made.archives(tmp_path / "root")


def everything(root: Path) -> list[tuple[str, int, bytes, Any]]:
    """All that a listing leads to."""
    listing, reader = listed(root), source(root)
    entries = [entry for split in SPLITS for entry in listing.entries[split]]
    return [(entry.id, entry.label, *reader.read(entry)) for entry in entries]


def tried(root: Path) -> Listing | str:
    """A listing, or what is said instead of one: something that a terminal can show."""
    try:
        return listed(root)
    except Failure as failure:
        message = str(failure)
    assert message.isprintable(), repr(message)
    return message


def refused(root: Path) -> str:
    """What is said instead of a listing."""
    listing = tried(root)
    if isinstance(listing, str):
        return listing
    pytest.fail(f"taken, with {sum(len(listing.entries[split]) for split in SPLITS)} images")


def read(reader: Any, entry: Any) -> bytes | str:
    """An image's bytes, or what is said instead."""
    try:
        data: bytes = reader.read(entry).data
        return data
    except Failure as failure:
        return str(failure)
    except Unreadable:
        return "unreadable"


def members_of(made: StandIn, where: str) -> list[Member]:
    """What is in an archive, or in the tar of the second class."""
    if where == "inner":
        return made.class_members(made.wnids[1])
    if where == "outer":
        return made.train_members()
    if where == "val":
        return made.val_members()
    return made.devkit_members() if where == "devkit" else made.box_members(where.split()[0])


def put(made: StandIn, root: Path, where: str, members: list[Member], format: str = "gnu") -> None:
    """Write an archive anew, or the tar of the second class in one."""
    put_bytes(made, root, where, pack(members, format))


def put_bytes(made: StandIn, root: Path, where: str, data: bytes) -> None:
    """Write an archive's tar anew from its bytes, or the tar of the second class."""
    if where == "inner":
        data = pack(made.train_members({made.wnids[1]: data}), made.format)
    if not ARCHIVE[where].endswith(".tar"):
        data = zipped(data)
    (root / ARCHIVE[where]).write_bytes(data)


def fitting(made: StandIn, where: str) -> str:
    """A name that belongs into an archive."""
    return {
        "outer": f"{made.wnids[2]}.tar",
        "inner": f"{made.wnids[1]}_123456.JPEG",
        "val": "ILSVRC2012_val_00000099.JPEG",
        "devkit": f"{DEVKIT_FOLDER}/data/more.txt",
        "train boxes": f"{made.wnids[0]}/{made.wnids[0]}_123456.xml",
        "val boxes": "val/ILSVRC2012_val_00000099.xml",
    }[where]


# Hostile members


def under(prefix: str) -> Callable[[str], Member]:
    return lambda name: member(prefix + name, b"evil")


def linked(kind: bytes, to: str) -> Callable[[str], Member]:
    return lambda name: member(name, b"", kind, to)


def in_pax(**headers: str) -> Callable[[str], Member]:
    def made(name: str) -> Member:
        info, data = member(name, b"evil")
        info.pax_headers = {key.replace("__", "."): value.format(name) for key, value in headers.items()}
        return info, data

    return made


HOSTILE: dict[str, Callable[[str], Member]] = {
    "absolute": under("/tmp/"),
    "up": under("../"),
    "far up": under("a/../../../"),
    "up behind ./": under("./../"),
    "a long way up": under("../" * 60),
    "symbolic link": linked(tarfile.SYMTYPE, "/etc/passwd"),
    "symbolic link inside": linked(tarfile.SYMTYPE, "readme.txt"),
    "hard link": linked(tarfile.LNKTYPE, "../../secret"),
    "hard link inside": linked(tarfile.LNKTYPE, "n01440764_1.JPEG"),
    "pipe": linked(tarfile.FIFOTYPE, ""),
    "character device": linked(tarfile.CHRTYPE, ""),
    "block device": linked(tarfile.BLKTYPE, ""),
    "sparse": lambda name: member(name, b"", tarfile.GNUTYPE_SPARSE),
    "pax: absolute": in_pax(path="/tmp/{}"),
    "pax: up": in_pax(path="../{}"),
    "pax: sparse": in_pax(GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize="4"),
    "pax: sparse 0.1": in_pax(GNU__sparse__map="0,4", GNU__sparse__size="4", GNU__sparse__numblocks="1"),
}


def check_hostile(kind: str, where: str, made: StandIn, root: Path, rng: Random) -> None:
    """Such a member is refused by its name and its archive's, however well the name fits."""
    members, name = members_of(made, where), fitting(made, where)
    info, data = HOSTILE[kind](name)
    if kind.startswith("pax: sparse 0"):
        data = b"evil"
    elif kind == "pax: sparse":
        data = b"1\n0\n4\n".ljust(BLOCK, b"\0") + b"evil"
        info.size = len(data)
    members.insert(int(rng.integers(len(members) + 1)), (info, data))
    put(made, root, where, members, "pax" if kind.startswith("pax") else "gnu")
    with case((kind, where)):
        message = refused(root)
        assert ARCHIVE[where] in message and Path(name).name in message, message


@pytest.mark.parametrize("where", ["inner", "train boxes"])  # a tar in a tar, and a compressed one
def test_a_hostile_member_of_any_kind_is_refused_by_name(where: str, made: StandIn, root: Path, rng: Random) -> None:
    for kind in HOSTILE:
        check_hostile(kind, where, made, root, rng)


@pytest.mark.parametrize("where", PLACES)
def test_a_hostile_member_of_any_archive_is_refused_by_name(where: str, made: StandIn, root: Path, rng: Random) -> None:
    for kind in ("up", "symbolic link"):
        check_hostile(kind, where, made, root, rng)
    below = f"sub/{Path(fitting(made, where)).name}"
    for what, members in {
        "sub": [member("sub", b"", tarfile.SYMTYPE, "/tmp"), member(below, b"evil")],  # in a folder that is a link
        "../out": [member("../out", b"", tarfile.DIRTYPE)],
        "evil": [member("../\x1b[2J\x07\nevil\r\u202e", b"")],  # said harmlessly: it would write on the terminal
    }.items():
        put(made, root, where, members_of(made, where) + members)
        with case(what):
            message = refused(root)
            assert ARCHIVE[where] in message and what in message


def test_the_good_folders_pass(made: StandIn, root: Path) -> None:
    """Folders are no files; what the other tests refuse is refused for its own sake."""
    before = everything(root)
    for where in PLACES:
        members = members_of(made, where)
        put(made, root, where, [member("./", b"", tarfile.DIRTYPE), *members] if where != "devkit" else members)
    assert everything(root) == before


# What does not belong there


def jpeg_of(made: StandIn) -> bytes:
    return made.train[0].data


STRANGE: dict[str, tuple[str, Callable[[StandIn], Member]]] = {
    "not a tar's name": ("outer", lambda made: member("readme.txt", b"hello")),
    "a short id": ("outer", lambda made: member("n144.tar", pack([]))),
    "a tar in a folder": ("outer", lambda made: member(f"sub/{made.wnids[0]}x.tar", pack([]))),
    "a class that nobody knows": (
        "outer",
        lambda made: member("n99999999.tar", pack([member("n99999999_1.JPEG", b"x")])),
    ),
    "of another class": ("inner", lambda made: member(f"{made.wnids[0]}_654321.JPEG", jpeg_of(made))),
    "no number": ("inner", lambda made: member(f"{made.wnids[1]}_x1.JPEG", jpeg_of(made))),
    "no number at all": ("inner", lambda made: member(f"{made.wnids[1]}.JPEG", jpeg_of(made))),
    "another ending": ("inner", lambda made: member(f"{made.wnids[1]}_654321.txt", jpeg_of(made))),
    "a digit of another script": ("inner", lambda made: member(f"{made.wnids[1]}_٣.JPEG", jpeg_of(made))),
    "what a system leaves": ("inner", lambda made: member(".DS_Store", b"x")),
    "a name with a line in it": ("inner", lambda made: member(f"{made.wnids[1]}_1.JPEG\n", jpeg_of(made))),
    "another name in val": ("val", lambda made: member("ILSVRC2012_test_00000001.JPEG", jpeg_of(made))),
    "a number too many in val": ("val", lambda made: member("ILSVRC2012_val_00000007.JPEG", jpeg_of(made))),
    "number 0 in val": ("val", lambda made: member("ILSVRC2012_val_00000000.JPEG", jpeg_of(made))),
    "a short number in val": ("val", lambda made: member("ILSVRC2012_val_1.JPEG", jpeg_of(made))),
}


def test_what_does_not_belong_there_is_skipped_with_a_reason_or_refused(made: StandIn, root: Path, rng: Random) -> None:
    wanted = [(picture.id, picture.label) for pictures in (made.train, made.val) for picture in pictures]
    for kind, (where, strange) in STRANGE.items():
        before, members, member = (root / ARCHIVE[where]).read_bytes(), members_of(made, where), strange(made)
        members.insert(int(rng.integers(len(members) + 1)), member)
        put(made, root, where, members)
        name = Path(member[0].name).name.split(".")[0].strip("\n٣") or "DS_Store"
        listing = tried(root)
        with case(kind):
            if isinstance(listing, str):
                assert ARCHIVE[where] in listing and name in listing
            else:
                assert any(name in one.id and one.reason for one in listing.skipped), listing.skipped
                assert all(one.id.isprintable() for one in listing.skipped)
                assert [(entry.id, entry.label) for split in SPLITS for entry in listing.entries[split]] == wanted
        (root / ARCHIVE[where]).write_bytes(before)


@pytest.mark.parametrize("where", ["outer", "inner", "val"])
def test_a_name_that_comes_twice_is_not_taken_in_silence(where: str, made: StandIn, root: Path, rng: Random) -> None:
    """With the same bytes or others, or under another name of the same id."""
    members = members_of(made, where)
    files = [one for one in members if one[0].isfile()]
    info, data = files[int(rng.integers(len(files)))]
    stem = Path(info.name).stem
    other = pack([member(f"{info.name[:9]}_424242.JPEG", b"x")]) if where == "outer" else jpeg_of(made)
    again = [member(info.name, data), member(info.name, other)]
    if where != "outer":
        again += [member(f"{stem}.jpeg", other), member(f"{stem}.JPG", other), member(f"sub/{stem}.JPEG", other)]
    for one in again:
        put(made, root, where, [one, *members] if rng.integers(2) else [*members, one])
        with case(one[0].name):
            listing = listed(root)
            assert any(stem in one.id for one in listing.skipped), "once is enough"
            ids = [entry.id for split in SPLITS for entry in listing.entries[split]]
            assert len(ids) == len(set(ids))


def test_a_class_whose_tar_is_none_is_named(made: StandIn, root: Path, rng: Random) -> None:
    wnid = made.wnids[1]
    whole = pack(made.class_members(wnid))
    for kind, data in {
        "an image": jpeg_of(made), "zeros": bytes(10240), "noise": rng.bytes(5000), "empty": b"",
        "gzip": zipped(whole), "a cut header": whole[: int(rng.integers(1, BLOCK))],
    }.items():  # fmt: skip
        members = [member(info.name, data if info.name == f"{wnid}.tar" else old) for info, old in made.train_members()]
        put(made, root, "outer", members)
        listing = tried(root)
        with case(kind):
            if isinstance(listing, str):
                assert TRAIN in listing and wnid in listing
            else:
                assert kind in ("zeros", "empty"), "no tar at all is no empty class"
                assert any(wnid in text for text in listing.departures)


def test_an_archive_that_is_none_is_named(made: StandIn, root: Path, rng: Random) -> None:
    for name in ARCHIVES:
        whole = (root / name).read_bytes()
        for what, data in (("a page", b"<html>404</html>"), ("noise", rng.bytes(3000)), ("zeros", bytes(10240))):
            (root / name).write_bytes(data)
            with case((name, what)):
                assert name in refused(root)
        (root / name).write_bytes(whole)


def test_an_archive_that_is_a_tar_of_something_else_is_no_data_set(root: Path) -> None:
    for name in (VAL, TRAIN):
        (root / name).write_bytes(pack([member("a/readme.txt", b"hello")]))
        assert name in refused(root)


# Cut short


def where_members_lie(data: bytes) -> list[tuple[str, int, int, int]]:
    """A tar's files: the name, and where the header, the data and what follows begin."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [
            (member.name, member.offset, member.offset_data, member.offset_data + member.size)
            for member in archive
            if member.isfile()
        ]


def says_where(message: str, names: list[str], size: int) -> bool:
    """Whether a message has the place of the damage: a byte, or a member's name."""
    message = message.replace(",", "").replace("'", "")
    if any(Path(name).name.split(".")[0] in message for name in names):
        return True
    return any(int(offset) <= size for offset in re.findall(r"byte (\d+)", message))


CUTS = ("in the last one's data", "in a header", "between members", "anywhere", "to nothing", "a byte")


def cut_of(data: bytes, kind: str, rng: Random) -> int:
    """Where to cut a tar so that some of what it has is missing."""
    lie = where_members_lie(data)
    _, _, content, end = lie[-1]
    if kind == "in the last one's data":
        return int(rng.integers(content, end))
    if kind == "in a header":
        first = lie[int(rng.integers(len(lie)))][1]
        return first + int(rng.integers(1, BLOCK))
    if kind == "between members":
        return lie[int(rng.integers(1, len(lie)))][1]
    return {"anywhere": int(rng.integers(end)), "to nothing": 0, "a byte": end - 1}[kind]


@pytest.mark.parametrize("where", ["outer", "val"])
def test_a_truncated_archive_says_which_and_where(where: str, made: StandIn, root: Path, rng: Random) -> None:
    path = root / ARCHIVE[where]
    whole = path.read_bytes()
    names = [member[0] for member in where_members_lie(whole)]
    for kind in (*CUTS, *CUTS):
        cut = cut_of(whole, kind, rng)
        path.write_bytes(whole[:cut])
        message = refused(root)
        assert ARCHIVE[where] in message, (kind, cut, message)
        assert not cut or says_where(message, names, len(whole)), (kind, cut, message)


def test_an_archive_cut_after_its_last_member_is_not_whole(root: Path) -> None:
    """Nobody can know that nothing followed; the mark at the end is missing."""
    for name in (TRAIN, VAL):
        path = root / name
        whole = path.read_bytes()
        end = where_members_lie(whole)[-1][3]
        end += -end % BLOCK
        for cut in (end, end + BLOCK // 2):
            path.write_bytes(whole[:cut])
            assert name in refused(root)
        path.write_bytes(whole[: end + 2 * BLOCK])
        listed(root)
        path.write_bytes(whole)


def test_a_truncated_tar_of_a_class_says_which_and_where(made: StandIn, root: Path, rng: Random) -> None:
    """Packed into the outer tar after it was cut: the outer one is whole."""
    wnid = made.wnids[1]
    whole = pack(made.class_members(wnid), made.format)
    for kind in (kind for kind in (*CUTS, *CUTS) if kind != "to nothing"):
        cut = cut_of(whole, kind, rng) or 1
        put_bytes(made, root, "inner", whole[:cut])
        listing = tried(root)
        with case((kind, cut)):
            if isinstance(listing, str):
                assert TRAIN in listing and wnid in listing and says_where(listing, [wnid], len(whole))
            else:
                assert kind == "between members" or cut % BLOCK == 0, "half an image is in it"
                assert any(wnid in text for text in listing.departures)


@pytest.mark.parametrize("where", ["devkit", "val boxes"])
def test_a_truncated_gzip_says_which(where: str, root: Path, rng: Random) -> None:
    path = root / ARCHIVE[where]
    packed = path.read_bytes()
    for cut in [0, 1, 5, 11, *(len(packed) - behind for behind in (1, 4, 8)), *rng.integers(len(packed), size=4)]:
        path.write_bytes(packed[:cut])
        assert path.name in refused(root), cut
    whole = gzip.decompress(packed)
    for kind in CUTS:  # the gzip is whole, and what is in it is not
        cut = cut_of(whole, kind, rng)
        path.write_bytes(zipped(whole[:cut]))
        assert path.name in refused(root), (kind, cut)


@pytest.mark.parametrize("where", ["outer", "val"])
def test_an_archive_that_is_cut_after_it_was_listed_gives_no_half_images(
    where: str, made: StandIn, root: Path, rng: Random
) -> None:
    listing, reader, path = listed(root), source(root), root / ARCHIVE[where]
    cut = int(rng.integers(len(path.read_bytes()) // 2))  # the rest is not all padding
    with path.open("r+b") as file:
        file.truncate(cut)
    split = "val" if where == "val" else "train"
    messages = list[str]()
    for entry, picture in zip(listing.entries[split], made.images[split], strict=True):  # type: ignore[index]
        found_data = read(reader, entry)
        assert found_data == picture.data or isinstance(found_data, str), "the whole image or none"
        if isinstance(found_data, str):
            messages.append(found_data)
    assert messages and all(ARCHIVE[where] in message for message in messages), messages


# Damage in the middle


@pytest.mark.parametrize("where", ["outer", "inner", "val"])
def test_damage_to_a_header_says_where(where: str, made: StandIn, root: Path, rng: Random) -> None:
    """Any bit of any header: tar's own reader takes such a place for the end."""
    whole = pack(members_of(made, where))
    lie = where_members_lie(whole)
    for _ in range(8):
        data = bytearray(whole)
        header = lie[int(rng.integers(len(lie)))][1]
        place = int(rng.choice([*range(148), *range(156, BLOCK)]))  # a bit of the sum itself may mean the same
        data[header + place] ^= 1 << int(rng.integers(8))
        put_bytes(made, root, where, bytes(data))
        message = refused(root)
        assert ARCHIVE[where] in message, place
        assert where != "inner" or made.wnids[1] in message
        assert says_where(message, [member[0] for member in lie], len(whole)), message


@pytest.mark.parametrize("where", ["outer", "inner", "val"])
def test_zeros_in_the_middle_are_no_end(where: str, made: StandIn, root: Path, rng: Random) -> None:
    """A piece that a disk lost: all that follows it is still there."""
    whole = pack(members_of(made, where))
    lie = where_members_lie(whole)
    for blocks in (1, 2, 20):
        data = bytearray(whole)
        header = lie[int(rng.integers(len(lie) - 1))][1]  # not the last: something follows
        lost = min(blocks * BLOCK, lie[-1][1] - header)
        data[header : header + lost] = bytes(lost)
        put_bytes(made, root, where, bytes(data))
        message = refused(root)
        assert ARCHIVE[where] in message and says_where(message, [member[0] for member in lie], len(whole)), (
            blocks,
            message,
        )


@pytest.mark.parametrize("where", ["outer", "val"])
def test_a_size_that_leads_astray_is_no_endless_walk(where: str, made: StandIn, root: Path, rng: Random) -> None:
    """A header with a good sum and a size that is negative, or larger than anything."""
    for size in (-BLOCK, -1, 2**62, 2**80):
        members = members_of(made, where)
        files = [member for member in members if member[0].isfile()]
        info = files[int(rng.integers(len(files)))][0]
        whole = bytearray(pack(members))
        header = next(lies[1] for lies in where_members_lie(bytes(whole)) if lies[0] == info.name)
        field = (256**12 + size if size < 0 else size + (0x80 << 88)) if abs(size) < 2**87 else 0
        whole[header + 124 : header + 136] = field.to_bytes(12)
        whole[header + 148 : header + 156] = b" " * 8
        total = sum(whole[header : header + BLOCK])
        whole[header + 148 : header + 156] = b"%06o\0 " % total
        put_bytes(made, root, where, bytes(whole))
        assert ARCHIVE[where] in refused(root), size


@pytest.mark.parametrize("name", [DEVKIT, BOXES_TRAIN])
def test_a_flipped_bit_in_a_gzip_changes_nothing_or_is_said(name: str, root: Path, rng: Random) -> None:
    wanted, path = everything(root), root / name
    whole = path.read_bytes()
    for _ in range(8):
        data = bytearray(whole)
        data[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        listing = tried(root)
        if isinstance(listing, str):
            assert name in listing
        else:
            assert gzip.decompress(data) == gzip.decompress(whole)
            assert everything(root) == wanted


# The devkit


def with_devkit(made: StandIn, root: Path, **parts: bytes) -> str:
    (root / DEVKIT).write_bytes(zipped(pack(made.devkit_members(**parts))))
    message = refused(root)
    assert DEVKIT in message or DEVKIT_FOLDER in message, message
    return message


def test_a_ground_truth_that_does_not_fit_is_said(made: StandIn, root: Path) -> None:
    lines = made.truth().splitlines()
    for bad in ([b"0", *lines[1:]], [str(len(made.wnids) + 1).encode(), *lines[1:]], [b"-1", *lines[1:]],
                [b"n01440764", *lines[1:]], [b"1.5", *lines[1:]], [b"\xff", *lines[1:]]):  # fmt: skip
        assert "ground_truth" in with_devkit(made, root, truth=b"\n".join(bad) + b"\n"), bad


def test_a_ground_truth_of_another_length_leaves_no_image_with_a_guess(made: StandIn, root: Path) -> None:
    lines = made.truth().splitlines(True)
    wanted = [(picture.id, picture.label) for picture in made.val]
    for kept in (lines[:-1], [*lines, b"1\n"], []):
        (root / DEVKIT).write_bytes(zipped(pack(made.devkit_members(truth=b"".join(kept)))))
        listing = tried(root)
        if isinstance(listing, str):
            continue
        assert [(entry.id, entry.label) for entry in listing.entries["val"]] == wanted[: len(kept)]
        assert len(kept) > len(wanted) or any(made.val[-1].id in one.id for one in listing.skipped)


def test_a_table_of_classes_that_is_none_is_said(made: StandIn, root: Path) -> None:
    from scipy.io import savemat

    another, short = io.BytesIO(), io.BytesIO()
    savemat(another, {"classes": np.zeros((3, 3))})
    synsets = np.empty((2, 1), [("ILSVRC2012_ID", object), ("words", object)])
    synsets[0, 0], synsets[1, 0] = (1.0, "one"), (2.0, "two")
    savemat(short, {"synsets": synsets})
    hdf5 = b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(500)
    for bad in (b"", bytes(900), another.getvalue(), short.getvalue(), hdf5):
        with case(bad[:20]):
            assert "meta.mat" in with_devkit(made, root, meta=bad)


def test_a_damaged_table_of_classes_is_no_other_error(made: StandIn, root: Path, rng: Random) -> None:
    """It is read in a process of its own, which what reads it may end."""
    whole = made.meta(compressed=False)
    cut = whole[: int(rng.integers(130, len(whole) - 20))]
    assert "meta.mat" in with_devkit(made, root, meta=cut)
    for _ in range(2):
        bad = bytearray(whole)
        bad[int(rng.integers(len(bad)))] ^= 1 << int(rng.integers(8))
        (root / DEVKIT).write_bytes(zipped(pack(made.devkit_members(meta=bytes(bad)))))
        tried(root)


def test_a_devkit_without_a_file_names_it(made: StandIn, root: Path) -> None:
    for gone in (META, TRUTH):
        members = [member for member in made.devkit_members() if member[0].name != gone]
        (root / DEVKIT).write_bytes(zipped(pack(members)))
        assert Path(gone).name in refused(root)


@pytest.mark.parametrize("change", ["an id twice", "a wnid twice", "a gap", "a wnid that is none"])
def test_a_table_of_classes_that_contradicts_itself_is_said(change: str, made: StandIn, root: Path) -> None:
    ids, counts = dict(made.ids), dict.fromkeys(made.wnids, 5)
    words = dict(made.words)
    one, other = made.wnids[0], made.wnids[1]
    if change == "an id twice":
        ids[one] = ids[other]
        meta = meta_mat(ids, words, counts)
    elif change == "a gap":
        ids[max(ids, key=ids.__getitem__)] = 9
        meta = meta_mat(ids, words, counts)
    else:
        new = other if change == "a wnid twice" else "../../x"
        meta = meta_mat(ids, words, counts, compressed=False)
        assert meta.count(one.encode()) == 1
        meta = meta.replace(one.encode(), new.ljust(9)[:9].encode())
    (root / DEVKIT).write_bytes(zipped(pack(made.devkit_members(meta=meta))))
    listing = tried(root)
    if isinstance(listing, str):
        assert DEVKIT in listing or one in listing or other in listing
        return
    message = " ".join([*listing.departures, *(f"{one.id} {one.reason}" for one in listing.skipped)])
    assert change == "a gap" or one in message, "a class is gone, and nobody says so"
    wanted = [(picture.id, picture.label) for picture in made.train]
    if change == "a gap":
        assert [(entry.id, entry.label) for entry in listing.entries["train"]] == wanted


# Boxes


def entity(file: str) -> bytes:
    return f'<!DOCTYPE a [<!ENTITY x SYSTEM "file://{file}">]>'.encode()


LAUGHS = (
    b"<!DOCTYPE a [<!ENTITY a0 '1'>"
    + b"".join(b"<!ENTITY a%d '%s'>" % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 10))
    + b"]>"
)


def element(tag: str, value: bytes) -> Callable[[bytes], bytes]:
    """Another value in the first such element."""
    return lambda good: re.sub(rb"<%s>[^<]*" % tag.encode(), b"<%s>" % tag.encode() + value, good, count=1)


STRANGE_XML: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "no xml": lambda _: b"hello",
    "cut": lambda good: good[: len(good) * 2 // 3],
    "noise": lambda good: bytes(255 - one for one in good),
    "no boxes": lambda _: b"<annotation/>",
    "size 0": element("width", b"0"),
    "no size": lambda good: re.sub(rb"<size>.*</size>", b"", good, flags=re.S),
    "an empty size": element("height", b""),
    "a negative size": element("height", b"-5"),
    "words": element("xmin", b"left"),
    "no number": element("xmin", b""),
    "nan": element("xmin", b"nan"),
    "infinite": element("xmax", b"inf"),
    "infinitely small": element("xmin", b"-inf"),
    "a size of nan": element("width", b"nan"),
    "huge": element("xmax", b"9" * 400),
    "longer than int takes": element("xmax", b"9" * 5000),
    "fractions": element("xmin", b"1.5"),
    "no corner": lambda good: re.sub(rb"<ymin>-?\d+</ymin>", b"", good),
    "an entity": lambda good: entity("/proc/sys/kernel/pid_max") + element("xmin", b"&x;")(good),
    "a billion laughs": lambda good: LAUGHS + element("xmin", b"&a9;")(good),
    "deep": lambda _: b"<a>" * 50_000,
    "deep and whole": lambda _: b"<a>" * 50_000 + b"</a>" * 50_000,
    "another encoding": lambda good: b'<?xml version="1.0" encoding="utf-16"?>' + good,
    "unknown encoding": lambda good: b'<?xml version="1.0" encoding="martian"?>' + good,
}
WITHOUT_BOXES = {"empty", "no xml", "noise", "no boxes", "an entity", "deep", "deep and whole"}


def test_strange_annotations_are_boxes_inside_the_image_or_a_failure(made: StandIn, root: Path) -> None:
    picture = next(image for image in made.train if image.annotation and image.annotation.boxes)
    wnid = made.wnids[picture.label]
    assert picture.annotation
    good = picture.annotation.xml(wnid, wnid)
    for kind, change in STRANGE_XML.items():
        xml = change(good)
        assert xml != good
        members = [
            member(info.name, xml if picture.id in info.name else data, info.type)
            for info, data in made.box_members("train")
        ]
        put(made, root, "train boxes", members)
        with case(kind):
            listing = tried(root)
            if isinstance(listing, str):
                assert BOXES_TRAIN in listing and picture.id in listing, listing
                continue
            entry = next(image for image in listing.entries["train"] if image.id == picture.id)
            boxes = source(root).read(entry).boxes
            for left, top, right, bottom in boxes:
                assert 0 <= left < right <= picture.size[0] and 0 <= top < bottom <= picture.size[1], boxes
            assert not (boxes and kind in WITHOUT_BOXES), boxes


def test_boxes_of_an_image_whose_header_cannot_be_read_do_no_harm(made: StandIn, root: Path) -> None:
    """The image is skipped when it is looked at; its box needs its size before that."""
    number = next(i for i, picture in enumerate(made.train) if picture.annotation and picture.annotation.boxes)
    for data in (b"<html>404</html>", b"", made.train[number].data[:20]):
        made.train[number] = made.train[number]._replace(data=data)
        made.archives(root)
        entry = listed(root).entries["train"][number]
        assert read(source(root), entry) in (data, "unreadable")


# Random


def test_random_bytes_anywhere_never_make_another_error_than_a_failure(made: StandIn, root: Path, rng: Random) -> None:
    for name in (TRAIN, TRAIN, TRAIN, VAL, VAL, BOXES_TRAIN, BOXES_TRAIN, BOXES_VAL):
        path = root / name
        whole = path.read_bytes()
        data = bytearray(gzip.decompress(whole) if name not in (TRAIN, VAL) else whole)
        for _ in range(int(rng.integers(1, 4))):
            start, length = int(rng.integers(len(data))), int(rng.integers(1, 700))
            data[start : start + length] = rng.bytes(min(length, len(data) - start))
        path.write_bytes(bytes(data) if name in (TRAIN, VAL) else zipped(bytes(data)))
        listing = tried(root)
        if not isinstance(listing, str):
            assert all(read(source(root), entry) for split in SPLITS for entry in listing.entries[split])
        path.write_bytes(whole)
