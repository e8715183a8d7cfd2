"""Names of folders as people write them: a split's folder by another name, and a class's name written in two ways."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from pipeline.datasets.sources.base import Split
from pipeline.errors import Failure

WORDS: dict[Split, tuple[str, ...]] = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev")}
TEST = ("test", "testing", "eval", "evaluation", "holdout")
ADDED = re.compile(r"(set|images|imgs|data|split)$")  # as in training_set and val-images
INVISIBLE = re.compile(r"[\s\u00ad\u200b-\u200f\u2060\ufeff]+")  # blanks, and characters of no width


def split_folder(root: Path, split: Split) -> str:
    """Return the name of a split's folder below `root`; the split's own name if there is none.

    Raise Failure if there are several, or if there is no val/ but a folder of tests that has classes.
    """
    found = _named(root, WORDS[split])
    if len(found) > 1:
        names = " and ".join(printed_names(found))
        raise Failure(f"{root} has {names}, each of which may be {split}/: keep one, and move the others elsewhere")
    if not found and split == "val" and (tests := [name for name in _named(root, TEST) if _has_folders(root / name)]):
        (test,) = printed_names(tests[:1])
        raise Failure(
            f"{root} has no folder val, but one named {test}: to use it for validation, rename it to val; to take a "
            f"part of train/ instead (data.val_share), move {test} elsewhere"
        )
    return found[0] if found else split


def _named(root: Path, words: Iterable[str]) -> list[str]:
    """Return the folders, or links, in `root` whose names are one of `words`, in any case and with words added."""
    try:
        with os.scandir(root) as items:
            names = sorted(item.name for item in items if item.is_symlink() or item.is_dir())
    except OSError:  # whoever reads the folder says so
        return []
    return [name for name in names if ADDED.sub("", re.sub(r"[\W_]+", "", name).casefold()) in words]


def _has_folders(folder: Path) -> bool:
    try:
        with os.scandir(folder) as items:
            return any(item.is_dir() and not item.name.startswith(".") for item in items)
    except OSError:
        return False


def check_distinct(labels: Iterable[str], folder: Path) -> None:
    """Raise Failure if the names of two classes look the same."""
    seen: dict[str, str] = {}
    for label in sorted(set(labels)):
        other = seen.setdefault(seen_as(label), label)
        if other != label:
            names = " and ".join(map(ascii, (other, label)))
            raise Failure(f"{folder} has two classes whose names look the same, {names}: merge or rename them")


def matched_labels(labels: Iterable[str], classes: list[str], folder: Path) -> dict[str, str]:
    """Return the class of each label: itself, or the only one whose name differs in case, blanks or Unicode form.

    Labels without a class are left out. Raise Failure if several labels, or several classes, are possible.
    """
    same, forms, owners = set(classes), dict[str, list[str]](), dict[str, str]()
    for name in classes:
        forms.setdefault(seen_as(name).casefold(), []).append(name)
    for label in sorted(set(labels), key=lambda label: label not in same):  # the same names first
        alike = forms.get(seen_as(label).casefold(), [])
        name = label if label in same else alike[0] if len(alike) == 1 else ""
        if len(alike) > 1 and not name:
            raise Failure(f"{folder} has {label!a}, which may be the class {' or '.join(map(ascii, alike))}: rename it")
        if other := owners.get(name):
            raise Failure(f"{folder} has {other!a} and {label!a}, which may both be the class {name!a}: merge them")
        if name:
            owners[name] = label
    return {label: name for name, label in owners.items()}


def seen_as(name: str) -> str:
    """Return a name in one Unicode form, with single blanks."""
    return INVISIBLE.sub(" ", unicodedata.normalize("NFC", name)).strip()


def printed_names(names: Iterable[str]) -> list[str]:
    """Return names for a message, with characters that are not ASCII escaped if they are not printable."""
    return [name if name.isprintable() else ascii(name) for name in names]
