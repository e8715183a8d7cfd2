"""Stand-ins of ILSVRC-2012's test images, in the forms that people have them; their pixels say their class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tests.support.ilsvrc_copies import CLS_LOC, put, unpacked, zip_of
from tests.support.ilsvrc_files import IlsvrcImage, make_picture, member, pack, with_folders

OLDER, LATER = "ILSVRC2012_img_test.tar", "ILSVRC2012_img_test_v10102019.tar"
Images = Sequence[IlsvrcImage]


def unlabelled(random: np.random.Generator, count: int = 9, classes: int = 7) -> list[IlsvrcImage]:
    """Test images in the order of their names."""
    labels = np.resize(random.permutation(classes), count).tolist()
    return [
        make_picture(random, f"ILSVRC2012_test_{number:08d}", label, "plain", "none", (64, 200))
        for number, label in enumerate(labels, 1)
    ]


def archive(images: Images, folder: str = "") -> bytes:
    """The published archive, in another order than that of names."""
    members = [member(f"{folder}{image.id}.JPEG", image.data) for image in reversed(images)]
    return pack(with_folders(members, "") if folder else members)


def older(images: Images, root: Path) -> Path:
    """ILSVRC2012_img_test.tar, flat."""
    put(root / OLDER, archive(images))
    return root


def later(images: Images, root: Path) -> Path:
    """ILSVRC2012_img_test_v10102019.tar, with the folder test/."""
    put(root / LATER, archive(images, "test/"))
    return root


def named(images: Images, root: Path) -> Path:
    """The archive itself by its path, beside another one."""
    older(images[:1], root)
    return later(images, root) / LATER


def kaggles(images: Images) -> dict[str, bytes]:
    """Kaggle's files, as far as they matter."""
    files = {f"{CLS_LOC}/test/{image.id}.JPEG": image.data for image in reversed(images)}
    other = {f"{CLS_LOC}/val/ILSVRC2012_val_00000001.JPEG": images[0].data, "ILSVRC/ImageSets/CLS-LOC/test.txt": b"1\n"}
    return files | other


def kaggle_tree(images: Images, root: Path) -> Path:
    """Kaggle's download, unpacked."""
    return unpacked(kaggles(images), root)


def kaggle_folder(images: Images, root: Path) -> Path:
    """The folder of the test images in it."""
    return kaggle_tree(images, root) / CLS_LOC / "test"


def kaggle_zip(images: Images, root: Path) -> Path:
    """Kaggle's download as it is."""
    return zip_of(kaggles(images), root)


def class_folder(images: Images, root: Path) -> Path:
    """test/ with all images in one folder, as readers of class folders want it."""
    return unpacked({f"test/unknown/{image.id}.JPEG": image.data for image in images}, root)


FORMS: dict[str, Callable[[Images, Path], Path]] = {
    "the older archive": older,
    "the later archive": later,
    "an archive by its path": named,
    "Kaggle's tree": kaggle_tree,
    "Kaggle's folder": kaggle_folder,
    "Kaggle's zip": kaggle_zip,
    "a folder in test": class_folder,
}
