"""The files that a split's boxes are read from: the published archives, Kaggle's annotations, or its lists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from pipeline.datasets.sources.base import Split
from pipeline.datasets.sources.ilsvrc.boxes import ARCHIVES, Boxes, parsed, read_annotations, read_boxes
from pipeline.datasets.sources.ilsvrc.layout import Layout
from pipeline.datasets.sources.ilsvrc.solutions import SOLUTIONS, read_solution
from pipeline.datasets.sources.ilsvrc.tar import members_before_images
from pipeline.datasets.sources.ilsvrc.truth import first_list
from pipeline.datasets.sources.ilsvrc.zips import zip_content

KAGGLES = re.compile(r"object[._-]localization", re.IGNORECASE)  # an archive that has annotations for certain
Found = Mapping[str, Boxes]  # boxes by image id


def boxes_of(layout: Layout, split: Split) -> Found:
    """Return a split's boxes, empty if there are none. Annotations come before lists, because they have sizes.

    A tar is only read up to its first image, except Kaggle's if nothing else has boxes.
    """
    for folder in layout.folders:
        if (folder / ARCHIVES[split]).exists():
            return dict(read_boxes(folder / ARCHIVES[split]))
    if xml := layout.annotation_folder(split):
        return dict(read_annotations(xml))
    return _in_zips(layout, split) or _in_tars(layout, split) or _listed(layout, split) or _late(layout, split)


@cache
def all_boxes(root: Path, splits: Sequence[Split], split: Split) -> Found:
    """Return a split's boxes, read once in each process that reads streams."""
    return boxes_of(Layout.of(root, splits), split)


def _in_zips(layout: Layout, split: Split) -> Found:
    """Return the boxes of Kaggle's annotations in zips."""
    found = dict[str, Boxes]()
    for file, members in layout.zips.items():
        archive = layout.root / file
        inside = (member for member in members if _is_annotation(member.name, split))
        found.update(parsed(str(archive), ((member.name, zip_content(archive, member)) for member in inside)))
    return found


def _in_tars(layout: Layout, split: Split, whole: bool = False) -> Found:
    """Return the boxes of Kaggle's annotations in tars."""
    found = dict[str, Boxes]()
    for file in layout.tars:
        inside = members_before_images(layout.root / file, lambda name: _is_annotation(name, split), whole)
        found.update(parsed(str(layout.root / file), inside))
    return found


def _listed(layout: Layout, split: Split) -> Found:
    """Return the boxes of Kaggle's list, in a folder or in an archive."""
    name = SOLUTIONS[split]
    found = first_list((name,), layout.folders, layout.lists_inside((name,)))
    return {row.id: row.boxes for row in read_solution(*found, split)} if found else {}


def _late(layout: Layout, split: Split) -> Found:
    """Return the boxes of the annotations behind the images of Kaggle's tar."""
    return _in_tars(layout, split, whole=True) if any(KAGGLES.search(file) for file in layout.tars) else {}


def _is_annotation(name: str, split: Split) -> bool:
    """Return whether a member of an archive is an annotation of Kaggle's."""
    return f"Annotations/CLS-LOC/{split}/" in name
