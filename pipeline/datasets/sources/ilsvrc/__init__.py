"""The source `ilsvrc2012`: the published archives, the tree that people unpack them to, and the copies in other forms.

Nothing is unpacked. Where the place of each image can be listed (archives, trees, zips), several processes read images
from their places; shards as tars and parquet files are read from their beginning, several at once. Images keep their
published names and are in the order of classes and names, so that all copies are the same data set. Classes are
numbered in the order of their WordNet ids, as in torchvision's and Caffe's nets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.sources.base import (
    SPLITS,
    Encoded,
    Entry,
    ImageFacts,
    ImageNames,
    Known,
    Listing,
    Order,
    Skipped,
    Source,
    Split,
    Stream,
    Unreadable,
    root_of,
)
from pipeline.datasets.sources.folder import OUTSIDE, check_limit, following
from pipeline.datasets.sources.ilsvrc import authenticity
from pipeline.datasets.sources.ilsvrc.box_files import all_boxes
from pipeline.datasets.sources.ilsvrc.boxes import in_pixels
from pipeline.datasets.sources.ilsvrc.compact import NOTHING, Compact, Where
from pipeline.datasets.sources.ilsvrc.copies import others_text
from pipeline.datasets.sources.ilsvrc.layout import STREAMED, Layout
from pipeline.datasets.sources.ilsvrc.listed import file_content, scanned
from pipeline.datasets.sources.ilsvrc.names import Unnamed
from pipeline.datasets.sources.ilsvrc.presence import fingerprint, missing, present
from pipeline.datasets.sources.ilsvrc.reference import BYTES, CALLED, CLASSES, IMAGES, departures
from pipeline.datasets.sources.ilsvrc.settle import NO_GROUND_TRUTH, Settled, code_of, settle
from pipeline.datasets.sources.ilsvrc.streams import AN_IMAGE, named_samples, names_in, narrowed, streams_of
from pipeline.datasets.sources.ilsvrc.truth import NO_TRUTH
from pipeline.errors import Failure
from pipeline.experiment.params import Profile


@dataclass(frozen=True)
class Ilsvrc(Source):
    """ILSVRC-2012 in the folder `root`, with at most `limit` images per split, and only of `splits`."""

    root: Path
    limit: int | None
    splits: tuple[Split, ...] = SPLITS
    follow_links: bool = False  # links in a tree that lead out of it

    name = "ilsvrc2012"
    about = "ILSVRC-2012: photographs of 1000 classes of ImageNet (Russakovsky et al., 2015)"
    published = "ILSVRC-2012"
    altered = "images of ILSVRC-2012 (Russakovsky et al., 2015), but not the published data set"
    comparable = True
    place = "usual"
    downloads = False
    known = Known(IMAGES["train"], IMAGES["val"], CLASSES, BYTES)

    @classmethod
    def of(cls, profile: Profile) -> Ilsvrc:
        """Return the data set in data.path, or in data/ilsvrc2012."""
        return cls(root_of(profile.data), profile.data.limit, profile.splits, profile.data.follow_links)

    def missing(self) -> str:
        """Return which archive or folder is missing, or an empty string."""
        return missing(self.root, self.splits)

    def fingerprint(self) -> dict[str, Any]:
        """Return its parameters and the fingerprint of its archives and folders. See `fingerprint`."""
        links = {"follow_links": True} if self.follow_links else {}
        return {"source": self.name, "limit": self.limit, **links, **fingerprint(self.root, self.splits)}

    def listing(self) -> Listing:
        """Return all images, as far as they are listed before they are read.

        Raise Failure, naming the file, if one is missing, truncated, damaged or hostile.
        """
        layout = present(self.root, self.splits)
        skipped, streams = list[Skipped](), list[Stream]()
        entries: dict[Split, Compact] = dict.fromkeys(SPLITS, NOTHING)
        for split, copy in layout.copies.items():
            if text := others_text(split, layout.found[split]):
                print(f"prepare: {text}", flush=True)
            if copy.kind in STREAMED:
                streams += streams_of(self.root, split, copy)
            else:
                entries[split] = scanned(layout, split, skipped, self.follow_links)
        listing = Listing([], entries, skipped, streams=streams)
        if not streams:
            return self._listed(layout, listing, entries)
        if self.limit is not None:
            return self._limited(layout, listing, entries)
        size = sum((self.root / file).stat().st_size for file in {file for stream in streams for file in stream.files})
        return listing._replace(bytes=size + sum(int(part.sizes.sum()) for part in entries.values()))

    def settled(self, listing: Listing, found: Mapping[Split, ImageNames]) -> tuple[Listing, Mapping[Split, Order]]:
        """Return the listing with its classes and departures, and each split's images in order.

        Raise Failure if nothing says the classes of the validation images.
        """
        return self._settled(Layout.of(self.root, self.splits), listing, found)

    def stream(self, stream: Stream) -> Iterator[Entry]:
        """Yield the images of a stream's files in their order, those that cannot be used without their bytes."""
        boxes = all_boxes(self.root, self.splits, stream.split)
        remaining = set(stream.wanted or ())
        for path, name, number, data in named_samples(self.root, stream, names_only=False):
            if isinstance(name, Unnamed):
                if stream.wanted is None:
                    yield Entry(path, -1, Unreadable(str(name)))
            elif stream.wanted is None or name.id in remaining:
                remaining.discard(name.id)
                yield Entry(name.id, code_of(name, number), Encoded(data, *in_pixels(boxes.get(name.id, ()), data)))
            if stream.wanted is not None and not remaining:
                return

    def doubts(self, images: Iterator[ImageFacts]) -> list[str]:
        """Return why the images may be others than the published ones. See `authenticity`."""
        return authenticity.doubts(images)

    def read(self, entry: Entry) -> Encoded:
        """Return one image's bytes and boxes."""
        where: Where | Encoded | Unreadable = entry.where
        if isinstance(where, Unreadable):
            raise where
        if isinstance(where, Encoded):
            return where
        data = file_content(self.root, where.found)
        return Encoded(data, *in_pixels(where.boxes, data))

    def _settled(
        self, layout: Layout, listing: Listing, found: Mapping[Split, ImageNames]
    ) -> tuple[Listing, Mapping[Split, Order]]:
        """Do as `settled`."""
        settled, truth = self._settle(layout, found, listing.skipped), layout.truth
        counts = {split: len(order.images) for split, order in settled.orders.items()}
        by_class = _counts(settled) if "train" in self.splits else None
        reasons = departures(truth.kit, settled.wnids, by_class, counts.get("val", 0)) + settled.departures
        if self.limit is not None:
            reasons.insert(0, f"data.limit is {self.limit:,}")
        listing = listing._replace(
            classes=truth.names(settled.wnids),
            wnids=settled.wnids,
            departures=reasons,
            skipped=[*listing.skipped, *settled.skipped],
        )
        return listing, settled.orders

    def _settle(self, layout: Layout, found: Mapping[Split, ImageNames], skipped: Sequence[Skipped]) -> Settled:
        """Return what the images' names say. Raise Failure if too little says their classes."""
        settled = settle(layout.truth, found)
        if "val" in found and not len(settled.orders["val"].images) and layout.tars:
            settled = settle(layout.late_truth(), found)
        for split in self.splits:
            if not len(settled.orders[split].images):
                raise Failure(_nothing_left(self.root, split, found[split], [*skipped, *settled.skipped]))
        return settled

    def _listed(self, layout: Layout, listing: Listing, entries: Mapping[Split, Compact]) -> Listing:
        """Return the listing of images whose places are all known."""
        names = {split: ImageNames(entries[split].ids, entries[split].labels) for split in self.splits}
        listing, orders = self._settled(layout, listing, names)
        ordered = {split: entries[split].labelled(orders[split]) if split in orders else NOTHING for split in SPLITS}
        if self.limit is not None:
            check_limit(self.limit, len(listing.classes))
            ordered = {split: all_.first_of_each(self.limit) for split, all_ in ordered.items()}
        return listing._replace(entries=ordered, bytes=sum(int(part.sizes.sum()) for part in ordered.values()))

    def _limited(self, layout: Layout, listing: Listing, entries: Mapping[Split, Compact]) -> Listing:
        """Return the listing with the first images of each class only, after a look at all names in the streams."""
        assert self.limit is not None
        names = [names_in(self.root, stream) for stream in listing.streams]
        pairs = list(zip(names, listing.streams, strict=True))
        every = {
            split: Compact.joined([entries[split], *(own for own, stream in pairs if stream.split == split)])
            for split in self.splits
        }
        named = {split: ImageNames(all_.ids, all_.labels) for split, all_ in every.items()}
        settled = self._settle(layout, named, [])
        check_limit(self.limit, len(settled.wnids))
        ids: dict[Split, frozenset[str]] = {
            split: frozenset(entry.id for entry in all_.labelled(settled.orders[split]).first_of_each(self.limit))
            for split, all_ in every.items()
        }
        kept = {split: part.with_ids(ids.get(split, frozenset())) for split, part in entries.items()}
        size = sum(len(own) for own in ids.values()) * AN_IMAGE
        return listing._replace(entries=kept, bytes=size, streams=narrowed(listing.streams, names, ids))


def _counts(settled: Settled) -> list[int]:
    """Return the number of training images of each class."""
    counted = np.bincount(settled.orders["train"].labels, minlength=len(settled.wnids))
    return [int(count) for count in counted]


def _nothing_left(root: Path, split: Split, found: ImageNames, skipped: Sequence[Skipped]) -> str:
    """Return a message on a split without images that can be used."""
    reasons = [one for one in skipped if one.split == split]
    if split == "val" and len(found.ids) and all(one.reason == NO_GROUND_TRUTH for one in reasons if one.lost):
        return f"nothing in {root} says the classes of its {len(found.ids):,} validation images: {NO_TRUTH}"
    first = f": {len(reasons)} are skipped, the first {reasons[0].id}: {reasons[0].reason}" if reasons else ""
    hint = following(Ilsvrc.name, root) if any(one.reason == OUTSIDE for one in reasons) else ""
    return f"{root} has no {CALLED[split]} images that can be used{first}{hint}"
