"""Kaggle's LOC_train_solution.csv and LOC_val_solution.csv: each image's class and the boxes around its objects."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pipeline.datasets.sources.base import WNID, Split
from pipeline.datasets.sources.ilsvrc.boxes import AnnotatedBox, Boxes
from pipeline.datasets.sources.ilsvrc.names import IDS
from pipeline.errors import Failure

SOLUTIONS: dict[Split, str] = {"train": "LOC_train_solution.csv", "val": "LOC_val_solution.csv"}
OBJECT = 5  # words of each object: its class, left, top, right, bottom


class Solution(NamedTuple):
    """A row."""

    id: str
    wnid: str
    boxes: Boxes  # in pixels of the image: the file has no sizes


def read_solution(title: str, text: str, split: Split) -> Iterator[Solution]:
    """Yield each image of a list. Raise Failure, naming it, if a row is not as published, or if there is none."""
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    for row in rows[1:]:
        try:
            id, words = row[0].strip(), row[1].split()
            if not IDS[split].fullmatch(id) or not WNID.fullmatch(words[0]):
                raise ValueError
            boxes = tuple(_boxes(words))
        except (IndexError, ValueError):
            raise Failure(f"{title} is not as published: {','.join(row)[:60]!r}; download it again") from None
        yield Solution(id, words[0], boxes)
    if len(rows) < 2:
        raise Failure(f"{title} has no images; download it again")


def _boxes(words: Sequence[str]) -> Iterator[AnnotatedBox]:
    """Yield the boxes of a row, which may have a class alone. Raise ValueError if it is broken."""
    for place in range(0, len(words) if len(words) > 1 else 0, OBJECT):
        _, left, top, right, bottom = words[place : place + OBJECT]
        yield AnnotatedBox(float(left), float(top), float(right), float(bottom))
