"""The sources `cifar10` and `imagenette`: torchvision's names, addresses and sums, read without unpickling code."""

from __future__ import annotations

import io
import pickle
import tarfile
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import Failure
from pipeline.sources import folder
from pipeline.sources.base import SPLITS, Encoded, Entry, Listing, Split

FOLDERS = {"cifar10": "cifar-10-batches-py", "imagenette": "imagenette2"}  # that the archives unpack to


def fingerprint(source: str, root: Path) -> dict[str, Any]:
    """What the data set's files look like. It is downloaded if it is not there; Failure says what to fetch by hand."""
    if not (root / FOLDERS[source]).is_dir():
        _download(source, root)
    if source == "imagenette":
        return folder.fingerprint(root / FOLDERS[source])
    files = sorted((root / FOLDERS[source]).iterdir())
    return {"listing": [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]}


@dataclass(frozen=True)
class Imagenette:
    """Ten easy classes of ILSVRC-2012, photographs in full size, below `root`."""

    root: Path
    val_share: float  # unused: there is a val/
    limit: int | None

    name = "imagenette"
    about = "Imagenette: 13,394 photographs of ten classes of ILSVRC-2012 (fast.ai)"
    comparable = False

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
        return folder.ImageFolder(self.root / FOLDERS["imagenette"], self.val_share, self.limit)


@dataclass(frozen=True)
class Cifar10:
    """CIFAR-10's 32 x 32 images below `root`, each as a PNG."""

    root: Path
    val_share: float  # unused: its test images are for validation
    limit: int | None

    name = "cifar10"
    about = "CIFAR-10: 60,000 images of 32 x 32 pixels, ten classes (A. Krizhevsky, 2009)"
    comparable = False

    def listing(self) -> Listing:
        """The images by their numbers."""
        from torchvision.datasets import CIFAR10

        classes = _unpickled(self.root / FOLDERS["cifar10"] / CIFAR10.meta["filename"], CIFAR10.meta["md5"])
        return Listing(classes[CIFAR10.meta["key"]], {split: self._entries(split) for split in SPLITS}, [])

    def read(self, entry: Entry) -> Encoded:
        """The image as a PNG."""
        split, number = entry.where
        buffer = io.BytesIO()
        Image.fromarray(self._images[split][number]).save(buffer, "PNG", compress_level=1)
        return Encoded(buffer.getvalue())

    def __reduce__(self) -> tuple[Any, ...]:
        return Cifar10, (self.root, self.val_share, self.limit)  # the images stay behind

    def _entries(self, split: Split) -> list[Entry]:
        labels = [label for batch in self._batches(split) for label in batch["labels"]]
        return [Entry(f"{split}/{i:05d}", label, (split, i)) for i, label in enumerate(labels)][: self.limit]

    @cached_property
    def _images(self) -> dict[Split, NDArray[np.uint8]]:
        """Each split's images, (images, 32, 32, 3)."""
        planes = {split: np.concatenate([batch["data"] for batch in self._batches(split)]) for split in SPLITS}
        return {split: rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for split, rows in planes.items()}

    def _batches(self, split: Split) -> list[dict[str, Any]]:
        from torchvision.datasets import CIFAR10

        files = CIFAR10.train_list if split == "train" else CIFAR10.test_list
        return [_unpickled(self.root / FOLDERS["cifar10"] / name, md5) for name, md5 in files]


def _wnids_and_names(found: Any) -> tuple[list[str], list[str]]:
    return found.wnids, [names[0] for names in found.classes]


def _download(source: str, root: Path) -> None:
    """Fetch and unpack a data set where torchvision says it is."""
    from torchvision import datasets
    from torchvision.datasets.utils import download_and_extract_archive

    if source == "cifar10":
        address, md5 = datasets.CIFAR10.url, datasets.CIFAR10.tgz_md5
    else:
        address, md5 = datasets.Imagenette._ARCHIVES["full"]
    print(f"{source} is not in {root}; downloading {address}", flush=True)
    unpacking = root / ".unpacking"  # a killed one leaves nothing that looks whole
    try:
        root.mkdir(parents=True, exist_ok=True)
        download_and_extract_archive(address, str(root), str(unpacking), md5=md5)
        (unpacking / FOLDERS[source]).rename(root / FOLDERS[source])
    except (OSError, HTTPException, RuntimeError, EOFError, tarfile.TarError) as error:
        reason = getattr(error, "reason", None) or error
        raise Failure(
            f"{source} could not be downloaded ({reason}). Fetch {address} elsewhere and unpack it in {root}, so that "
            f"{root / FOLDERS[source]} is there; then do this again"
        ) from None


class _Plain(pickle.Unpickler):
    """Reads arrays and plain values; whatever else a pickle may ask to have called is refused."""

    ALLOWED = frozenset({
        ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"), ("numpy", "ndarray"),
        ("numpy", "dtype"), ("_codecs", "encode"),
    })  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        """Only what arrays are made of."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _unpickled(path: Path, md5: str) -> Any:
    """A file of CIFAR-10 as it was published. Failure if it is not."""
    from torchvision.datasets.utils import check_integrity

    again = f"remove {path.parent} and do this again"
    try:
        if not check_integrity(str(path), md5):
            raise Failure(f"{path} is missing or not as it was published; {again}")
        with path.open("rb") as file:
            return _Plain(file, encoding="latin1").load()
    except Failure:
        raise
    except Exception as error:  # a broken pickle raises anything
        raise Failure(f"{path} cannot be read ({error}); {again}") from None
