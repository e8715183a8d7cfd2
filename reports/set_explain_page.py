"""The page of one number of Table 11 or 12: its measure, its SVMs with the chosen C, and the features they are of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.experiment.other_sets import IMAGE, PROTOCOLS, OfficialSets
from pipeline.results.explanation import ExplainedSet, Explanation
from reports.page import Block, Bullets, Callout, Code, Heading, Page, Paragraph, Table, Text, join, left, right
from reports.phrases import NONE, number, with_spread

DIGITS = 16  # of a hash
ACTIVATIONS = {"after_relu": "after its ReLU", "before_relu": "before its ReLU"}
AGGREGATED = {"average": "averaged", "stack": "stacked"}
AGAIN = "The SVMs have been trained again since: the number is of other ones than those that are described here."


def set_sections(e: Explanation, of_set: ExplainedSet) -> Iterator[Block]:
    """Yield the measure, and how the examples were divided, classified and described."""
    yield from _measure(e, of_set)
    if not of_set.ours:
        return
    if of_set.again:
        yield Callout(AGAIN)
    yield Heading(2, "Classification")
    yield Paragraph(division_text(of_set))
    yield _splits(of_set.ours)
    if of_set.record:
        yield Paragraph(svm_text(of_set.record))
        yield Heading(2, "Features")
        yield Paragraph(described_text(of_set))
        yield _nets(of_set.record["nets"])


def set_images(e: Explanation, of_set: ExplainedSet) -> Page:
    """Return what is known of the data set's images."""
    images, about = e.images, of_set.about
    if not about:
        return ()
    known: tuple[Text, ...] = (
        f"{of_set.name}: {about['about'] or about['title']}",
        *(counts_text(e, of_set),) * bool(of_set.ours),
        *(("manifest, SHA-256: ", Code(images.manifest)),) * bool(images.manifest),
    )
    others = "Other images are prepared now than those that this number was computed from."
    return (Heading(2, "Images"), Bullets(known), *[Callout(others)] * (images.are_prepared is False))


def counts_text(e: Explanation, of_set: ExplainedSet) -> str:
    """Return how many images, if that is known here, examples and classes a data set has."""
    images = f"{e.images.val:,} images, " if e.images.val else ""
    return f"{images}{of_set.about['examples'] or 0:,} examples, {e.images.classes:,} classes"


def _measure(e: Explanation, of_set: ExplainedSet) -> Iterator[Block]:
    columns = (*left("%"), *right("ours", "paper"))
    yield Table(columns, ((measure_text(of_set), _number(of_set.ours), _number(of_set.paper)),))
    if e.to_do:
        yield Paragraph(("Not run. To compute it: ", *join(", ", [Code(command) for command in e.to_do]), "."))


def measure_text(of_set: ExplainedSet) -> str:
    """Return the measure and the examples that it is of, in words."""
    return f"{of_set.about['measured']}, {of_set.about['counted']}" if of_set.about else "measure"


def _number(values: Mapping[str, Any] | None) -> str:
    return with_spread(values["value"], values["std"]) if values else NONE


def division_text(of_set: ExplainedSet) -> str:
    """Return how the examples were divided, in words."""
    division = next(one.division for one in PROTOCOLS.values() if one.title == of_set.about["title"])
    several = f"The number is the mean over {len(of_set.ours['splits'])} random splits. " if of_set.ours else ""
    if isinstance(division, OfficialSets):
        tuned = f"its set {division.tune}" if division.tune else "a held-out fifth of it"
        several = f"Trained on its set {division.fit}, tested on its set {division.test}. C is chosen on {tuned}; "
        return f"{several}then both are trained on."
    return f"{several}C is chosen on a held-out part of the training examples; then all of them are trained on."


def _splits(ours: Mapping[str, Any]) -> Table:
    """Return a row for each split: its examples, the measure at each C on those to tune, the chosen C, the result."""
    costs = list(ours["splits"][0]["tuning"])
    columns = (
        *right("split", "to train on", "to choose C", "to test"), *right(*(f"C {cost}, %" for cost in costs)),
        *right("chosen C", "result, %"),
    )  # fmt: skip
    return Table(columns, tuple(_split(place, split) for place, split in enumerate(ours["splits"], 1)))


def _split(place: int, split: Mapping[str, Any]) -> tuple[Text, ...]:
    counts = (f"{split['examples'][part]:,}" for part in ("fit", "tune", "test"))
    return (
        str(place), *counts, *map(number, split["tuning"].values()), f"{split['cost']:g}", number(split["value"]),
    )  # fmt: skip


def svm_text(record: Mapping[str, Any]) -> str:
    """Return how the SVMs were trained, in words."""
    solver = record["solver"]
    return (
        "A linear SVM per class against the rest (LinearSVC, squared hinge, primal, tolerance "
        f"{solver['tolerance']:g}, at most {solver['iterations']:,} iterations), seed {record['seed']}."
    )


def described_text(of_set: ExplainedSet) -> str:
    """Return how a descriptor is made, in words."""
    record, nets = of_set.record, len(of_set.record["nets"])
    scales, how = ", ".join(map(str, record["scales"])), AGGREGATED[record["aggregate"]]
    what = "whole images" if of_set.variant == IMAGE else "whole images and of the box of each object, side by side"
    each = (
        "each Q by itself, and the whole, has length 1" if record["normalise"] == "each" else "the whole has length 1"
    )
    both = "; the descriptors of both nets side by side" * (nets > 1)
    return (
        f"Of {what}: the activations of the layer before the last, {ACTIVATIONS[record['activations']]}, the mean over "
        f"the map and both flips, {how} over Q = {scales}; {each}{both}. Kept as {record['dtype']}."
    )


def _nets(nets: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = left("net", "weights, SHA-256", "precision", "features, SHA-256")
    return Table(
        columns,
        tuple(
            (Code(run), Code(net["weights_sha256"][:DIGITS]), net["precision"], Code(net["features_sha256"][:DIGITS]))
            for run, net in nets.items()
        ),
    )
