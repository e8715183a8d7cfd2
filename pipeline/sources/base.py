"""What a source is: items of (id, class, encoded bytes, box or none), class names and a count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

Split = Literal["train", "val"]
SPLITS: tuple[Split, Split] = ("train", "val")
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels, right and bottom outside


class Item(NamedTuple):
    """One image of a source."""

    id: str
    label: int
    encoded: bytes
    box: Box | None


class Source(Protocol):
    """A data set in its own form."""

    name: str
    about: str  # one sentence
    comparable: bool  # with the paper's numbers

    def classes(self) -> list[str]:
        """The names of the classes, in the order of their numbers."""

    def items(self, split: Split) -> Iterator[Item]:
        """The items of `split`, always in the same order."""

    def count(self, split: Split) -> int:
        """How many items `split` has, for the progress bar."""
