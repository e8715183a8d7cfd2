"""The source `imagenette`, with torchvision's names, address and checksum."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from pipeline.datasets.sources import folder
from pipeline.datasets.sources.base import Encoded, Entry, Known, Listing, Source, root_of
from pipeline.errors import Failure
from pipeline.experiment.params import Profile
from pipeline.system.decoders import constraints

FOLDER = "imagenette2"  # the archive's top folder


def fingerprint(root: Path) -> dict[str, Any]:
    """Return the images' fingerprint. Download them if they are missing. Raise Failure if that fails."""
    if not (root / FOLDER).is_dir():
        _download(root)
    return folder.fingerprint(root / FOLDER)


@dataclass(frozen=True)
class Imagenette(Source):
    """Ten easy classes of ILSVRC-2012, photographs in full size, below `root`."""

    root: Path
    limit: int | None

    name = "imagenette"
    about = "Imagenette: 13,394 photographs of ten classes of ILSVRC-2012 (fast.ai)"
    comparable = False
    place = "usual"
    downloads = True
    known = Known(9469, 3925, 10)

    @classmethod
    def of(cls, profile: Profile) -> Imagenette:
        """Return the data set in data.path, or in data/imagenette."""
        return cls(root_of(profile.data), profile.data.limit)

    def missing(self) -> str:
        """Return what is missing, and that `prepare` downloads it."""
        there = (self.root / FOLDER).is_dir()
        return "" if there else f"{self.name} is not in {self.root} yet; download it with: vgg-repro prepare"

    def fingerprint(self) -> dict[str, Any]:
        """Return a hash of all files' names, sizes and times. See `fingerprint`."""
        return {"source": self.name, "limit": self.limit, **fingerprint(self.root)}

    def listing(self) -> Listing:
        """Return the images, with named classes in the order of WordNet ids. Raise Failure if a part is missing."""
        if not (self._folder.root / "val").is_dir():
            raise Failure(f"{self._folder.root} is not the published Imagenette: it has no folder val")
        listing = self._folder.listing()
        try:
            names = dict(zip(*_wnids_and_names(_torchvision().Imagenette(self.root, "train")), strict=True))
        except (KeyError, OSError) as error:
            raise Failure(f"{self._folder.root} is not the published Imagenette: {error}") from None
        return listing._replace(classes=[names.get(wnid, wnid) for wnid in listing.classes], wnids=listing.classes)

    def read(self, entry: Entry) -> Encoded:
        """Return the file's bytes. Raise Unreadable if they cannot be read."""
        return self._folder.read(entry)

    @property
    def _folder(self) -> folder.ImageFolder:
        """Return the unpacked archive as a folder of images."""
        return folder.ImageFolder(self.root / FOLDER, 0.0, self.limit)  # val/ exists, so no share


def _wnids_and_names(data_set: Any) -> tuple[list[str], list[str]]:
    """Return the WordNet ids and the names of the classes of torchvision's data set."""
    return data_set.wnids, [names[0] for names in data_set.classes]


def _torchvision() -> Any:
    """Return torchvision's data sets. Raise Failure if it cannot be imported."""
    try:
        from torchvision import datasets
    except (ImportError, OSError, RuntimeError) as error:  # not installed, or built for another torch
        raise Failure(
            f"imagenette needs torchvision, which cannot be imported ({error}); fix: pip install --constraint "
            f"{constraints()} torchvision"
        ) from None
    return datasets


def _download(root: Path) -> None:
    """Download Imagenette from torchvision's address and unpack it. Raise Failure, saying what to fetch by hand."""
    address, md5 = _torchvision().Imagenette._ARCHIVES["full"]
    print(f"imagenette is not in {root}; downloading {address}", flush=True)
    unpacking = root / ".unpacking"  # so that an interrupted one leaves nothing that looks complete
    try:
        root.mkdir(parents=True, exist_ok=True)
        _torchvision().utils.download_and_extract_archive(address, str(root), str(unpacking), md5=md5)
        (unpacking / FOLDER).rename(root / FOLDER)
    except (OSError, HTTPException, RuntimeError, EOFError, tarfile.TarError) as error:
        reason = getattr(error, "reason", None) or error
        raise Failure(
            f"imagenette could not be downloaded ({reason}). Fetch {address} elsewhere and unpack it in {root}, so "
            f"that {root / FOLDER} exists; then run this command again"
        ) from None
