"""What a file's path says about an image of ILSVRC-2012: its published name and its class.

Copies of the data set rename its files. Hugging Face's add the class (n01440764_10026_n01440764.JPEG), others change
the ending or the folders. The published name is found anywhere in a file's name, so that an image has the same id in
every copy. An image without a published name is known by its class and its file's name.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import NamedTuple

from pipeline.datasets.sources.base import Split
from pipeline.datasets.sources.folder import HIDDEN_ONE, is_hidden, printable

ANY_CASE = re.ASCII | re.IGNORECASE
START, END = r"(?<![A-Za-z0-9])", r"(?!\d)"
TRAINING = re.compile(rf"{START}(n\d{{8}})_(\d{{1,9}}){END}", ANY_CASE)
VALIDATION = re.compile(rf"{START}ILSVRC2012_val_(\d{{8}}){END}", ANY_CASE)
TEST = re.compile(rf"{START}ILSVRC2012_test_(\d{{8}}){END}", ANY_CASE)
CLASS = re.compile(rf"{START}(n\d{{8}}){END}", ANY_CASE)
NUMBER = re.compile(r"\d{1,4}", re.ASCII)
SPLIT_WORD = re.compile(r"(?<![a-z])(train(?:ing)?|val(?:id(?:ation)?)?|test(?:ing)?)(?![a-z])", re.IGNORECASE)
IDS: dict[Split, re.Pattern[str]] = {
    "train": re.compile(r"n\d{8}_\d{1,9}", re.ASCII), "val": re.compile(r"ILSVRC2012_val_\d{8}", re.ASCII)
}  # fmt: skip
FILES = {split: re.compile(rf"{id.pattern}\.jpe?g", ANY_CASE) for split, id in IDS.items()}  # in the archives
OTHER_SPLIT = "an image of another split"
CONTRADICTION = "its name and its folder say different classes"
NO_LOSS = (HIDDEN_ONE, OTHER_SPLIT)  # reasons for which no image that belongs here is missing


class Unnamed(Exception):
    """An error for a file that is not read as an image. Its text is the reason."""


class PathInfo(NamedTuple):
    """What a path says about an image."""

    id: str  # the published name, or the class and the file's name
    wnids: tuple[str, ...]  # the different classes that it says
    number: int  # a class's number, from the name of its folder; -1 without one


def named(split: Split, path: str) -> PathInfo:
    """Return what an image's path, below its split's folder or archive, says. Raise Unnamed if it is none to use."""
    pure = PurePosixPath(path)
    name, folders = pure.name, pure.parts[:-1]
    if any(is_hidden(part) for part in pure.parts):
        raise Unnamed(HIDDEN_ONE)
    if TEST.search(name):
        raise Unnamed(OTHER_SPLIT)
    wnids = {found.lower() for found in CLASS.findall(name)}
    near = next((found for part in reversed(folders) for found in CLASS.findall(part)), "").lower()
    wnids |= {near} if near else set()
    if split == "train" and len(wnids) > 1:
        raise Unnamed(CONTRADICTION)
    number = int(folders[-1]) if folders and NUMBER.fullmatch(folders[-1]) else -1
    return PathInfo(_id(split, pure, near), tuple(sorted(wnids)), number)


def _id(split: Split, path: PurePosixPath, folder: str) -> str:
    """Return an image's published name, or its class's folder and its file's name without the ending."""
    if found := VALIDATION.search(path.name):
        return f"ILSVRC2012_val_{found[1]}"
    if found := TRAINING.search(path.name):
        return f"{found[1].lower()}_{found[2]}"
    above = folder or "/".join(path.parts[-2:-1])
    return printable(f"{above}/{path.stem}" if above else path.stem)


def split_of(name: str) -> Split | None:
    """Return the split that a file's or folder's name says, "val" for valid and validation; None if it says none.

    The last word counts. Raise Unnamed for the images of the test.
    """
    words = SPLIT_WORD.findall(name.lower())
    if words and words[-1].startswith("test"):
        raise Unnamed(OTHER_SPLIT)
    return None if not words else "train" if words[-1].startswith("train") else "val"


def split_and_rest(path: str) -> tuple[Split | None, str]:
    """Return the split that a member's folders say, and its path below the folder that says so.

    Raise Unnamed for the images of the test.
    """
    parts = PurePosixPath(path).parts
    for place in reversed(range(len(parts) - 1)):
        if SPLIT_WORD.fullmatch(parts[place]):
            return split_of(parts[place]), "/".join(parts[place + 1 :])
    return None, path
