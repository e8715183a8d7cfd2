"""The source `imagenette`: torchvision's names, address and check sum."""

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

FOLDER = "imagenette2"  # that the archive unpacks to


def fingerprint(root: Path) -> dict[str, Any]:
    """What the images look like. They are downloaded if they are not there; Failure says what to fetch by hand."""
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
        """Return what is not there, and that `prepare` downloads it."""
        there = (self.root / FOLDER).is_dir()
        return "" if there else f"{self.name} is not in {self.root} yet; this downloads it: vgg-repro prepare"

    def fingerprint(self) -> dict[str, Any]:
        """Return a hash of all files' names, sizes and times. As `fingerprint`."""
        return {"source": self.name, "limit": self.limit, **fingerprint(self.root)}

    def listing(self) -> Listing:
        """The folder's images, the classes in the order of their WordNet ids and by their names."""
        from torchvision.datasets import Imagenette as Torchvision

        if not (self._folder.root / "val").is_dir():
            raise Failure(f"{self._folder.root} is not Imagenette as it is published: it has no folder val")
        found = self._folder.listing()
        try:
            names = dict(zip(*_wnids_and_names(Torchvision(self.root, "train")), strict=True))
        except (KeyError, OSError) as error:
            raise Failure(f"{self._folder.root} is not Imagenette as it is published: {error}") from None
        return found._replace(classes=[names.get(wnid, wnid) for wnid in found.classes], wnids=found.classes)

    def read(self, entry: Entry) -> Encoded:
        """The file's bytes."""
        return self._folder.read(entry)

    @property
    def _folder(self) -> folder.ImageFolder:
        return folder.ImageFolder(self.root / FOLDER, 0.0, self.limit)  # there is a val/


def _wnids_and_names(found: Any) -> tuple[list[str], list[str]]:
    return found.wnids, [names[0] for names in found.classes]


def _download(root: Path) -> None:
    """Fetch and unpack Imagenette from where torchvision says it is."""
    from torchvision.datasets import Imagenette as Torchvision
    from torchvision.datasets.utils import download_and_extract_archive

    address, md5 = Torchvision._ARCHIVES["full"]
    print(f"imagenette is not in {root}; downloading {address}", flush=True)
    unpacking = root / ".unpacking"  # a killed one leaves nothing that looks whole
    try:
        root.mkdir(parents=True, exist_ok=True)
        download_and_extract_archive(address, str(root), str(unpacking), md5=md5)
        (unpacking / FOLDER).rename(root / FOLDER)
    except (OSError, HTTPException, RuntimeError, EOFError, tarfile.TarError) as error:
        reason = getattr(error, "reason", None) or error
        raise Failure(
            f"imagenette could not be downloaded ({reason}). Fetch {address} elsewhere and unpack it in {root}, so "
            f"that {root / FOLDER} is there; then do this again"
        ) from None
