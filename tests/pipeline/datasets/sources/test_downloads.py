"""Imagenette: read as torchvision reads it, downloaded once, and what cannot be fetched is named."""

from __future__ import annotations

import functools
import hashlib
import http.client
import io
import pickle
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib import request
from urllib.error import HTTPError, URLError

import numpy as np
import pytest
from torchvision import datasets

from pipeline.datasets import sources
from pipeline.datasets.prepare import prepare
from pipeline.datasets.sources.base import SPLITS
from pipeline.datasets.sources.downloads import FOLDER, Imagenette, fingerprint
from pipeline.errors import Failure
from pipeline.experiment.params import Params
from tests.support.images import decoded, jpeg, photograph, repository_params

Random = np.random.Generator
WNIDS = {"n02102040": "English springer", "n01440764": "tench", "n03888257": "parachute"}
ARCHIVE = "imagenette2.tgz"
PUBLISHED = datasets.Imagenette._ARCHIVES["full"][0]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in, and no way to the network: only to this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VGG_REPRO_SHARDS", str(tmp_path / "shards"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    publish(monkeypatch, f"http://127.0.0.1:9/{ARCHIVE}", "0" * 32)


def publish(monkeypatch: pytest.MonkeyPatch, address: str, md5: str) -> None:
    """Say where the archive is and what its sum is."""
    monkeypatch.setattr(datasets.Imagenette, "_ARCHIVES", {"full": (address, md5)})


def address() -> str:
    return str(datasets.Imagenette._ARCHIVES["full"][0])


@pytest.fixture
def imagenette(tmp_path: Path, rng: Random) -> Path:
    """The folder that a stand-in for Imagenette lies in."""
    root = tmp_path / "nette"
    for split in SPLITS:
        for wnid in WNIDS:
            folder = root / FOLDER / split / wnid
            folder.mkdir(parents=True)
            for number in range(3):
                image = jpeg(photograph(rng, *rng.integers(30, 60, 2).tolist()))
                (folder / f"{wnid}_{split}_{number}.JPEG").write_bytes(image)
    (root / FOLDER / "noisy_imagenette.csv").write_text("path,noisy_labels_0\n")
    return root


def params_for(tmp_path: Path, root: Path | None) -> Params:
    data = {"source": "imagenette", "path": root and str(root)}
    return repository_params(tmp_path, data=data, prepare={"processes": 1, "device": "cpu"})


def test_images_labels_and_classes_are_torchvisions(imagenette: Path) -> None:
    source = Imagenette(imagenette, None)
    listing = source.listing()
    assert not listing.skipped
    assert listing.classes == [WNIDS[wnid] for wnid in sorted(WNIDS)]
    for split in SPLITS:
        theirs = datasets.Imagenette(imagenette, split)
        assert listing.classes == [names[0] for names in theirs.classes]
        for entry, (image, label) in zip(listing.entries[split], theirs, strict=True):
            assert entry.label == label
            assert np.array_equal(decoded(source.read(entry).data), np.asarray(image))
    assert len(pickle.dumps(source)) < 500


def test_a_limit_takes_some_images_of_all_classes(imagenette: Path) -> None:
    listing = Imagenette(imagenette, 4).listing()
    assert [len(listing.entries[split]) for split in SPLITS] == [4, 4]
    assert len(listing.classes) == 3


@pytest.mark.parametrize("lost", ["train/n01440764", "train", "val"])
def test_what_is_not_as_published_is_a_failure(lost: str, imagenette: Path) -> None:
    """Without val/ nothing is split off, for the validation images are known; a class of its own is none."""
    place = imagenette / FOLDER / lost
    place.rename(place.parent / "n99999999")
    with pytest.raises(Failure, match=f"{FOLDER}.*({Path(lost).name}|n99999999)"):
        Imagenette(imagenette, None).listing()


def test_the_fingerprint_is_stable_and_sees_changes(imagenette: Path) -> None:
    first = fingerprint(imagenette)
    Imagenette(imagenette, None).listing()
    assert fingerprint(imagenette) == first
    assert first["files"] == 18
    (imagenette / FOLDER / "val" / "n01440764" / "new.JPEG").write_bytes(b"")
    assert fingerprint(imagenette) != first


# Downloads


@dataclass
class Published:
    """An archive that this machine serves, and the empty place that it is for."""

    file: Path
    address: str
    root: Path
    monkeypatch: pytest.MonkeyPatch

    def put(self, archive: bytes) -> None:
        """Serve these bytes, of which torchvision knows the sum."""
        self.file.write_bytes(archive)
        publish(self.monkeypatch, self.address, hashlib.md5(archive, usedforsecurity=False).hexdigest())

    @property
    def place(self) -> Path:
        return self.root / FOLDER


@pytest.fixture
def published(imagenette: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    """Imagenette, packed and served."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        there = f"http://127.0.0.1:{server.server_port}/{ARCHIVE}"
        made = Published(folder / ARCHIVE, there, tmp_path / "data" / "imagenette", monkeypatch)
        made.put(packed(imagenette / FOLDER))
        yield made
        server.shutdown()
        thread.join()


def packed(folder: Path) -> bytes:
    """A folder as a tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, folder.name)
    return buffer.getvalue()


def test_what_is_not_there_is_downloaded_once(published: Published, capsys: pytest.CaptureFixture[str]) -> None:
    first = fingerprint(published.root)
    assert capsys.readouterr().out == f"imagenette is not in {published.root}; downloading {address()}\n"
    published.file.unlink()
    assert fingerprint(published.root) == first
    assert capsys.readouterr().out == ""


def test_by_the_profile_it_comes_to_lie_under_data_and_is_prepared(published: Published, tmp_path: Path) -> None:
    params = params_for(tmp_path, None)
    assert sources.missing(params.active) and not sources.missing(params_for(tmp_path, tmp_path / "nette").active)
    assert sources.fingerprint(params.active)["source"] == "imagenette"
    assert published.place.is_dir()
    facts = prepare(params)
    assert (facts.source, facts.train, facts.val) == ("imagenette", 9, 9)
    assert facts.classes == ["tench", "English springer", "parachute"]


def check_said(published: Published, reason: str = "") -> None:
    """The data set cannot be had, and what to fetch by hand and where to put it is said."""
    with pytest.raises(Failure) as caught:
        fingerprint(published.root)
    message = str(caught.value)
    assert message.startswith("imagenette could not be downloaded ("), message
    assert reason in message
    assert f"Fetch {address()} elsewhere and unpack it in {published.root}" in message
    assert f"so that {published.place} exists; then run this command again" in message
    assert not published.place.exists(), "nothing that looks whole"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (URLError(OSError(-2, "Name or service not known")), "Name or service not known"),
        (HTTPError("http://x", 404, "Not Found", http.client.HTTPMessage(), None), "Not Found"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (http.client.IncompleteRead(b"", 99), "IncompleteRead"),
    ],
    ids=repr,
)
def test_a_download_that_fails_says_what_to_fetch_and_what_was_done_by_hand_is_found(
    error: Exception, reason: str, published: Published, imagenette: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(request, "urlopen", fail)
    check_said(published, reason)
    (imagenette / FOLDER).rename(published.place)
    assert fingerprint(published.root)


def test_another_archive_than_was_published_is_not_unpacked(published: Published) -> None:
    published.file.write_bytes(published.file.read_bytes() + b"\0")
    check_said(published, "File not found or corrupted")


@pytest.mark.parametrize("kind", ["cut", "no archive", "another folder"])
def test_an_archive_that_does_not_unpack_to_the_data_set_is_said(kind: str, published: Published) -> None:
    whole, other = published.file.read_bytes(), published.file.parent / "other"
    other.mkdir()
    published.put(
        {"cut": whole[: len(whole) // 2], "no archive": b"<html></html>", "another folder": packed(other)}[kind]
    )
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
            fingerprint(published.root)
    assert not published.place.exists()
    fingerprint(published.root)
    assert Imagenette(published.root, None).listing().entries["val"]


def test_the_folder_is_torchvisions() -> None:
    assert Path(PUBLISHED).stem == FOLDER


def test_without_torchvision_the_failure_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)  # an import raises ModuleNotFoundError
    with pytest.raises(Failure, match=r"needs torchvision, .*fix: pip install --constraint constraints"):
        fingerprint(tmp_path)
