"""CIFAR-10 and Imagenette: read as torchvision reads them, no pickle runs code, what cannot be fetched is named."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import io
import json
import os
import pickle
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib import request
from urllib.error import HTTPError, URLError

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import decoded, jpeg, photograph, repository_params
from torchvision import datasets
from torchvision.datasets import utils

from pipeline import sources
from pipeline.errors import Failure
from pipeline.params import Params
from pipeline.prepare import prepare, shards_key
from pipeline.shards import Shards
from pipeline.sources.base import SPLITS
from pipeline.sources.downloads import FOLDERS, Cifar10, Imagenette, fingerprint

Random = np.random.Generator
EACH, TEST = 6, 7  # images a batch, and in the test batch
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
WNIDS = {"n02102040": "English springer", "n01440764": "tench", "n03888257": "parachute"}
META, BATCH, LAST = "batches.meta", "data_batch_2", "test_batch"
ARCHIVES = {"cifar10": "cifar-10-python.tar.gz", "imagenette": "imagenette2.tgz"}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in, and no way to the network: only to this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VGG_REPRO_SHARDS", str(tmp_path / "shards"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for source in ARCHIVES:
        publish(monkeypatch, source, f"http://127.0.0.1:9/{ARCHIVES[source]}", "0" * 32)


def publish(monkeypatch: pytest.MonkeyPatch, source: str, address: str, md5: str) -> None:
    """Say where a data set's archive is and what its sum is."""
    if source == "cifar10":
        monkeypatch.setattr(datasets.CIFAR10, "url", address)
        monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5)
    else:
        monkeypatch.setattr(datasets.Imagenette, "_ARCHIVES", {"full": (address, md5)})


def address_of(source: str) -> str:
    return datasets.CIFAR10.url if source == "cifar10" else datasets.Imagenette._ARCHIVES["full"][0]


def md5_of(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class Python2Pickler(pickle._Pickler):
    """Pickles strings, and arrays' names and bytes, as Python 2 did when CIFAR-10 was published."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_string(self, value: str | bytes) -> None:
        data = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def pickled_by_python2(values: object) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, 2).dump(values)
    return buffer.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


PICKLERS: dict[str, Callable[[object], bytes]] = {
    "as Python 2": pickled_by_python2,
    **{f"protocol {n}": functools.partial(pickle.dumps, protocol=n) for n in (0, 2, 4)},
}


@dataclass
class Cifar:
    """A stand-in for CIFAR-10."""

    root: Path
    monkeypatch: pytest.MonkeyPatch
    files: dict[str, object] = field(default_factory=dict)  # what is pickled in each

    @property
    def folder(self) -> Path:
        return self.root / "cifar-10-batches-py"

    def write(self, dump: Callable[[object], bytes] = pickled_by_python2) -> None:
        """The files, and torchvision's sums as if they had been published."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, values in self.files.items():
            self.put(name, dump(values))

    def put(self, name: str, data: bytes) -> None:
        """One file, as if published so."""
        (self.folder / name).write_bytes(data)
        files = [file for file in self.files if file not in (META, LAST)]
        sums = {file: md5_of((self.folder / file).read_bytes()) if (self.folder / file).exists() else "0" * 32
                for file in self.files}  # fmt: skip
        self.monkeypatch.setattr(datasets.CIFAR10, "train_list", [[file, sums[file]] for file in files])
        self.monkeypatch.setattr(datasets.CIFAR10, "test_list", [[LAST, sums[LAST]]])
        self.monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": META, "key": "label_names", "md5": sums[META]})

    def source(self, limit: int | None = None) -> Cifar10:
        return Cifar10(self.root, 0.2, limit)


def batch(random: Random, labels: list[int]) -> dict[str, object]:
    """A file of CIFAR-10: planes of red, green and blue in a row an image, and labels."""
    rows = random.integers(0, 256, (len(labels), 3072)).astype(np.uint8)
    return {"batch_label": "a stand-in", "labels": labels, "data": rows, "filenames": ["x.png"] * len(labels)}


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: Random) -> Cifar:
    """A stand-in for CIFAR-10, written."""
    labels = (rng.permutation(5 * EACH) % 10).reshape(5, EACH).tolist()  # of every class
    files: dict[str, object] = {f"data_batch_{n}": batch(rng, some) for n, some in enumerate(labels, 1)}
    files[LAST] = batch(rng, rng.integers(0, 10, TEST).tolist())
    files[META] = {"label_names": NAMES, "num_cases_per_batch": EACH, "num_vis": 3072}
    made = Cifar(tmp_path / "cifar ten", monkeypatch, files)
    made.write()
    return made


def pixels_of(source: Cifar10 | Imagenette, split: str) -> list[NDArray[np.uint8]]:
    entries = source.listing().entries[split]  # type: ignore[index]
    return [decoded(source.read(entry).data) for entry in entries]


# CIFAR-10


@pytest.mark.parametrize("dump", PICKLERS)
def test_cifars_images_labels_and_classes_are_torchvisions(dump: str, cifar: Cifar) -> None:
    cifar.write(PICKLERS[dump])
    found = cifar.source().listing()
    assert not found.left_out
    for split, count in (("train", 5 * EACH), ("val", TEST)):
        theirs = datasets.CIFAR10(cifar.root, train=split == "train")
        assert found.classes == theirs.classes == NAMES
        entries = found.entries[split]
        assert [entry.label for entry in entries] == [label for _, label in theirs]
        assert [entry.id for entry in entries] == [f"{split}/{number:05d}" for number in range(count)]
        for entry, (picture, _) in zip(entries, theirs, strict=True):
            assert np.array_equal(decoded(cifar.source().read(entry).data), np.asarray(picture)), entry
            assert cifar.source().read(entry).boxes == ()


def test_cifars_rows_are_planes_of_red_green_and_blue(cifar: Cifar) -> None:
    """By the book, without torchvision: https://www.cs.toronto.edu/~kriz/cifar.html."""
    rows = cifar.files[LAST]["data"]  # type: ignore[index]
    for row, found in zip(rows, pixels_of(cifar.source(), "val"), strict=True):
        for colour in range(3):
            assert np.array_equal(found[:, :, colour], row[1024 * colour : 1024 * (colour + 1)].reshape(32, 32))


def test_a_limit_takes_cifars_first(cifar: Cifar) -> None:
    whole, some = cifar.source().listing(), cifar.source(5).listing()
    for split in SPLITS:
        assert some.entries[split] == whole.entries[split][:5]


def test_cifar_travels_small_and_reads_the_same_elsewhere(cifar: Cifar) -> None:
    source = cifar.source()
    before = pixels_of(source, "train")
    sent = pickle.dumps(source)
    assert len(sent) < 500, "the images stay behind"
    again = pickle.loads(sent)
    assert again == source
    assert all(np.array_equal(one, other) for one, other in zip(before, pixels_of(again, "train"), strict=True))


@pytest.mark.parametrize("name", [META, BATCH, LAST])
@pytest.mark.parametrize("harm", ["missing", "cut", "a bit flipped", "empty", "a folder"])
def test_a_file_of_cifar_that_is_not_as_published_says_what_to_do(
    name: str, harm: str, cifar: Cifar, rng: Random
) -> None:
    path = cifar.folder / name
    data = bytearray(path.read_bytes())
    path.unlink()
    if harm == "a folder":
        path.mkdir()
    elif harm != "missing":
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes({"cut": data[:-1], "a bit flipped": data, "empty": b""}[harm])
    with pytest.raises(Failure) as caught:
        cifar.source().listing()
    said = str(caught.value)
    assert said == f"{path} is missing or not as it was published; remove {cifar.folder} and do this again"


def test_a_file_of_cifar_that_may_not_be_read_is_a_failure(cifar: Cifar, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: str, *_: object) -> bool:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(utils, "check_integrity", forbidden)
    with pytest.raises(Failure, match="Permission denied"):
        cifar.source().listing()


@pytest.mark.parametrize("data", [b"", b"rubbish", b"\x80\x02}q\0", b"\x80\xff"], ids=str)
def test_a_broken_pickle_with_the_right_sum_is_a_failure(data: bytes, cifar: Cifar) -> None:
    cifar.put(BATCH, data)
    with pytest.raises(Failure, match=rf"{BATCH} cannot be read .*; remove .* and do this again"):
        cifar.source().listing()


class Runs:
    """Once unpickled, something is called."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.what = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.what


def attacks(mark: Path) -> dict[str, bytes]:
    """Pickles that leave a mark when they are loaded."""
    write = f"open({str(mark)!r}, 'w')"
    bad = {
        "system": Runs(os.system, f"touch '{mark}'"),
        "eval": Runs(eval, write),
        "exec": Runs(exec, write),
        "open": Runs(open, str(mark), "w"),
        "numpy's": Runs(np.save, str(mark), np.zeros(1)),
        "later": {"labels": [1], "data": np.zeros((1, 3072), np.uint8), "more": [Runs(open, str(mark), "w")]},
    }
    found = {f"{name}, protocol {n}": pickle.dumps(one, n) for name, one in bad.items() for n in (0, 2, 4)}
    found["by hand"] = b"cposix\nsystem\n(S\"touch '" + str(mark).encode() + b"'\"\ntR."
    found["an instance"] = b"(S\"touch '" + str(mark).encode() + b"'\"\niposix\nsystem\n."
    return found


@pytest.mark.parametrize("name", [META, BATCH, LAST])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(name: str, cifar: Cifar, tmp_path: Path) -> None:
    """Also with the right sum: of one who published both."""
    mark = tmp_path / "mark"
    for kind, data in attacks(mark).items():
        pickle.loads(data)
        left = [path for path in tmp_path.iterdir() if path.name.startswith("mark")]
        assert left, f"{kind} would leave a mark"
        for path in left:
            path.unlink()
        cifar.put(name, data)
        source = cifar.source()
        with pytest.raises(Failure, match=rf"{name} cannot be read \(it asks for .*\); remove"):
            source.listing()
        assert not [path for path in tmp_path.iterdir() if path.name.startswith("mark")], kind


def test_numpys_names_are_not_a_way_round(cifar: Cifar) -> None:
    """Only the five that arrays are made of; also not what hangs on them."""
    for module, name in [("numpy", "ndarray.tofile"), ("numpy", "load"), ("numpy.core.multiarray", "fromfile"),
                         ("_codecs", "lookup"), ("builtins", "getattr"), ("numpy", "dtype.__class__")]:  # fmt: skip
        cifar.put(BATCH, b"\x80\x04" + b"".join(
            b"\x8c" + bytes([len(one)]) + one.encode() for one in (module, name)) + b"\x93.")  # fmt: skip
        with pytest.raises(Failure, match=f"it asks for {module}.{name}"):
            cifar.source().listing()


def test_cifars_fingerprint_is_stable_and_sees_changes(cifar: Cifar) -> None:
    first = fingerprint("cifar10", cifar.root)
    pixels_of(cifar.source(), "train")
    assert fingerprint("cifar10", cifar.root) == first
    (cifar.root / "beside").write_text("")
    assert fingerprint("cifar10", cifar.root) == first
    json.dumps(first)
    path = cifar.folder / BATCH
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1000))
    touched = fingerprint("cifar10", cifar.root)
    assert touched != first
    path.unlink()
    assert fingerprint("cifar10", cifar.root) not in (first, touched)


def params_for(tmp_path: Path, source: str, root: Path, limit: int | None = None) -> Params:
    return repository_params(
        tmp_path,
        data={"source": source, "path": str(root), "limit": limit},
        prepare={"processes": 1, "device": "cpu"},
    )


def test_cifar_is_prepared(cifar: Cifar, tmp_path: Path) -> None:
    params = params_for(tmp_path, "cifar10", cifar.root)
    facts = prepare(params)
    assert (facts.source, facts.train, facts.val, facts.classes) == ("cifar10", 5 * EACH, TEST, NAMES)
    shards = Shards(tmp_path / "shards" / shards_key(params), "val")
    theirs = datasets.CIFAR10(cifar.root, train=False)
    assert shards.labels.tolist() == [label for _, label in theirs]
    for number, (picture, _) in enumerate(theirs):
        assert np.array_equal(decoded(shards[number]), np.asarray(picture))


# Imagenette


def make_imagenette(root: Path, random: Random, each: int = 3) -> Path:
    """A stand-in for Imagenette; its folder."""
    for split in SPLITS:
        for wnid in WNIDS:
            folder = root / "imagenette2" / split / wnid
            folder.mkdir(parents=True)
            for number in range(each):
                picture = jpeg(photograph(random, *random.integers(30, 60, 2).tolist()))
                (folder / f"{wnid}_{split}_{number}.JPEG").write_bytes(picture)
    (root / "imagenette2" / "noisy_imagenette.csv").write_text("path,noisy_labels_0\n")
    return root / "imagenette2"


@pytest.fixture
def imagenette(tmp_path: Path, rng: Random) -> Path:
    """The folder that a stand-in for Imagenette lies in."""
    return make_imagenette(tmp_path / "nette", rng).parent


def test_imagenettes_images_labels_and_classes_are_torchvisions(imagenette: Path) -> None:
    source = Imagenette(imagenette, 0.2, None)
    found = source.listing()
    assert not found.left_out
    assert found.classes == [WNIDS[wnid] for wnid in sorted(WNIDS)]
    for split in SPLITS:
        theirs = datasets.Imagenette(imagenette, split)
        assert found.classes == [names[0] for names in theirs.classes]
        for entry, (picture, label) in zip(found.entries[split], theirs, strict=True):
            assert entry.label == label
            assert np.array_equal(decoded(source.read(entry).data), np.asarray(picture))
    assert len(pickle.dumps(source)) < 500


def test_a_limit_takes_some_of_imagenette(imagenette: Path) -> None:
    found = Imagenette(imagenette, 0.2, 4).listing()
    assert [len(found.entries[split]) for split in SPLITS] == [4, 4]
    assert len(found.classes) == 3


def test_imagenette_with_a_class_that_it_does_not_have_is_a_failure(imagenette: Path) -> None:
    (imagenette / "imagenette2" / "train" / "n01440764").rename(imagenette / "imagenette2" / "train" / "n99999999")
    with pytest.raises(Failure, match="imagenette2 is not Imagenette as it is published: 'n99999999'"):
        Imagenette(imagenette, 0.2, None).listing()


@pytest.mark.parametrize("split", SPLITS)
def test_imagenette_that_is_not_whole_is_a_failure(split: str, imagenette: Path) -> None:
    """Without val/ nothing is split off, for its validation images are known."""
    (imagenette / "imagenette2" / split).rename(imagenette / "elsewhere")
    with pytest.raises(Failure, match=f"imagenette2.* {split}"):
        Imagenette(imagenette, 0.2, None).listing()


def test_imagenettes_fingerprint_is_stable_and_sees_changes(imagenette: Path) -> None:
    first = fingerprint("imagenette", imagenette)
    Imagenette(imagenette, 0.2, None).listing()
    assert fingerprint("imagenette", imagenette) == first
    assert first["files"] == 18
    (imagenette / "imagenette2" / "val" / "n01440764" / "new.JPEG").write_bytes(b"")
    assert fingerprint("imagenette", imagenette) != first


def test_imagenette_is_prepared(imagenette: Path, tmp_path: Path) -> None:
    facts = prepare(params_for(tmp_path, "imagenette", imagenette))
    assert (facts.source, facts.train, facts.val) == ("imagenette", 9, 9)
    assert facts.classes == ["tench", "English springer", "parachute"]


# Downloads


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which this machine serves it."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@dataclass
class Published:
    """An archive that this machine serves."""

    source: str
    folder: Path
    address: str
    root: Path
    monkeypatch: pytest.MonkeyPatch

    def put(self, archive: bytes) -> None:
        """Serve these bytes, of which torchvision knows the sum."""
        name = ARCHIVES[self.source]
        (self.folder / name).write_bytes(archive)
        publish(self.monkeypatch, self.source, f"{self.address}/{name}", md5_of(archive))

    @property
    def place(self) -> Path:
        return self.root / FOLDERS[self.source]


def packed(folder: Path, *more: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A folder as a tar.gz, and more in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, folder.name)
        for member, data in more:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture(params=ARCHIVES)
def published(
    request: pytest.FixtureRequest,
    served: tuple[Path, str],
    cifar: Cifar,
    imagenette: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Published:
    """Each data set, packed and served, and an empty place for it."""
    made = Published(request.param, *served, tmp_path / "data" / request.param, monkeypatch)
    made.put(packed(cifar.folder if made.source == "cifar10" else imagenette / "imagenette2"))
    return made


def test_a_data_set_that_is_not_there_is_downloaded_once(
    published: Published, cifar: Cifar, imagenette: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = fingerprint(published.source, published.root)
    said = capsys.readouterr().out
    assert said == f"{published.source} is not in {published.root}; downloading {address_of(published.source)}\n"
    for file in published.folder.iterdir():
        file.unlink()
    assert fingerprint(published.source, published.root) == first
    assert capsys.readouterr().out == ""
    here, there = (
        (Cifar10(root, 0.2, None) for root in (published.root, cifar.root))
        if published.source == "cifar10"
        else (Imagenette(root, 0.2, None) for root in (published.root, imagenette))
    )
    for split in SPLITS:
        pairs = zip(pixels_of(here, split), pixels_of(there, split), strict=True)
        assert all(np.array_equal(one, other) for one, other in pairs)


def test_by_the_profile_it_comes_to_lie_under_data(published: Published, tmp_path: Path) -> None:
    params = repository_params(
        tmp_path, data={"source": published.source, "path": None}, prepare={"processes": 1, "device": "cpu"}
    )
    found = sources.fingerprint(params.chosen)
    assert published.place.is_dir()
    assert found["source"] == published.source
    assert sources.open_source(params.chosen).listing().entries["train"]
    assert prepare(params).train == {"cifar10": 5 * EACH, "imagenette": 9}[published.source]


def check_said(published: Published, reason: str = "") -> None:
    """The data set cannot be had, and what to fetch by hand and where to put it is said."""
    with pytest.raises(Failure) as caught:
        fingerprint(published.source, published.root)
    said = str(caught.value)
    assert said.startswith(f"{published.source} could not be downloaded ("), said
    assert reason in said
    assert f"Fetch {address_of(published.source)} elsewhere and unpack it in {published.root}" in said
    assert f"so that {published.place} is there; then do this again" in said
    assert not published.place.exists(), "nothing that looks whole"


ERRORS: dict[str, tuple[Exception, str]] = {
    "no name": (URLError(OSError(-2, "Name or service not known")), "Name or service not known"),
    "not found": (HTTPError("http://x", 404, "Not Found", http.client.HTTPMessage(), None), "Not Found"),
    "forbidden": (HTTPError("http://x", 403, "Forbidden", http.client.HTTPMessage(), None), "Forbidden"),
    "too slow": (TimeoutError("timed out"), "timed out"),
    "cut off": (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
    "a full disk": (OSError(28, "No space left on device"), "No space left on device"),
    "no HTTP": (http.client.BadStatusLine("SSH-2.0-OpenSSH"), "SSH-2.0-OpenSSH"),
    "cut short": (http.client.IncompleteRead(b"", 99), "IncompleteRead"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_a_download_that_fails_says_what_to_fetch_and_where_to_put_it(
    kind: str, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, reason = ERRORS[kind]

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(request, "urlopen", fail)
    check_said(published, reason)


def test_a_failed_download_done_by_hand_is_found(
    published: Published, cifar: Cifar, imagenette: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, published.source, f"{published.address}/gone/{ARCHIVES[published.source]}", "0" * 32)
    check_said(published, "File not found")
    (cifar.folder if published.source == "cifar10" else imagenette / "imagenette2").rename(published.place)
    assert fingerprint(published.source, published.root)


def test_another_archive_than_was_published_is_not_unpacked(published: Published) -> None:
    path = published.folder / ARCHIVES[published.source]
    path.write_bytes(path.read_bytes() + b"\0")
    check_said(published, "File not found or corrupted")


@pytest.mark.parametrize("kind", ["cut", "no archive", "empty", "another folder"])
def test_an_archive_that_does_not_unpack_to_the_data_set_is_said(kind: str, published: Published) -> None:
    whole = (published.folder / ARCHIVES[published.source]).read_bytes()
    (published.folder / "other").mkdir()
    published.put({"cut": whole[: len(whole) // 2], "no archive": b"<html></html>", "empty": b"",
                   "another folder": packed(published.folder / "other")}[kind])  # fmt: skip
    check_said(published)


def test_an_end_while_unpacking_leaves_nothing_that_looks_whole(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract = tarfile.TarFile.extractall

    def stopped(self: tarfile.TarFile, *arguments: Any, **how: Any) -> None:
        extract(self, *arguments, members=self.getmembers()[:5], **how)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extractall", stopped)
        with pytest.raises(KeyboardInterrupt):
            fingerprint(published.source, published.root)
    assert not published.place.exists()
    assert fingerprint(published.source, published.root)
    source = Cifar10 if published.source == "cifar10" else Imagenette
    assert source(published.root, 0.2, None).listing().entries["val"]


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, to
    return found


@pytest.mark.parametrize("kind", ["up", "far up", "absolute", "through a link", "through a hard link"])
def test_an_archive_cannot_write_beside_its_place(kind: str, published: Published, tmp_path: Path) -> None:
    target = tmp_path / "evil"
    inside = FOLDERS[published.source]
    members = {
        "up": [(tarfile.TarInfo("../../../evil"), b"evil")],
        "far up": [(tarfile.TarInfo(f"{inside}/../../../../evil"), b"evil")],
        "absolute": [(tarfile.TarInfo(str(target)), b"evil")],
        "through a link": [
            (link(f"{inside}/out", str(tmp_path)), b""),
            (tarfile.TarInfo(f"{inside}/out/evil"), b"evil"),
        ],
        "through a hard link": [
            (link(f"{inside}/out", "../../../mine", tarfile.LNKTYPE), b""),
            (tarfile.TarInfo(f"{inside}/out"), b"evil"),
        ],
    }[kind]
    beside = tmp_path / "mine"
    beside.write_text("mine")
    folder = published.folder / inside
    folder.mkdir()
    published.put(packed(folder, *members))
    with contextlib.suppress(Failure):
        fingerprint(published.source, published.root)
    assert not target.exists()
    assert beside.read_text() == "mine"
    assert not [path for path in tmp_path.rglob("evil") if path.is_file() and not path.is_relative_to(published.root)]


def test_nothing_else_than_the_address_is_asked_for(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, ask = set[str](), request.urlopen

    def watched(what: request.Request, *arguments: Any, **how: Any) -> Any:
        asked.add(what.full_url)
        return ask(what, *arguments, **how)

    monkeypatch.setattr(request, "urlopen", watched)
    fingerprint(published.source, published.root)
    assert asked == {address_of(published.source)}


def test_the_folders_are_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the true addresses
    published = datasets.Imagenette._ARCHIVES["full"][0]
    assert FOLDERS["cifar10"] == datasets.CIFAR10.base_folder
    assert FOLDERS["imagenette"] == Path(published).stem
