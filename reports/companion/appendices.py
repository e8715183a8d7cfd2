"""The appendices of the paper: localisation, and features for other data sets."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.experiment.paper_facts import FC, OVERLAP
from pipeline.experiment.paper_tables import LOCALISATION, OTHER_SETS, printed
from pipeline.results.profile_results import Results
from reports.companion.parts import ledger, listed, section, table_links, verdicts
from reports.other_sets_page import incomparable
from reports.page import Block, Code, Paragraph

BOTH = "VGG Net-D & Net-E"


def localisation(results: Results) -> Iterator[Block]:
    """Yield appendix A."""
    *_, submitted = printed("table9")
    yield from section(
        "A Localisation",
        "Where is the object? D's last layer is replaced by one that predicts a box: its centre, width and height, "
        f"either once or for each class. A box is right if its overlap with the true box is above {OVERLAP:g}, "
        "measured as intersection over union. Whole images give many boxes, which are merged. The best result is a "
        f"top-5 error of {submitted['top5_test']} % on the test images.",
        (
            "A localiser is a row of ",
            Code("localisers"),
            " in params.yaml. The trainer of all runs trains it, with boxes instead of classes as targets. The boxes "
            "of all windows of an image are kept, so that merging is arithmetic on top. All rows are in ",
            *table_links(results, *LOCALISATION),
            ".",
            *_box_errors(results),
        ),
        (
            "The paper leaves much open: the unit of a box, which object counts if there are several, when two boxes "
            "are close enough to be merged. ",
            Code("docs/paper.md"),
            " has each choice with its reason. The threshold of merging is chosen on training images, never on "
            "validation images.",
        ),
    )
    yield Paragraph(verdicts(results, "A.2"))
    yield from ledger(results, "A.2")


def _box_errors(results: Results) -> Iterator[str]:
    """Yield a sentence with our top-5 errors of the rows of Table 9, if there are any."""
    rows = [row for row in results.tables.get("table9", {}).get("rows", ()) if row["ours"]]
    errors = [f"{row['ours']['topk']['error']:.1f} %" for row in rows]
    if errors:
        yield f" Top-{results.tables['table9']['k']} errors of Table 9 here: {listed(errors)}."


def features(results: Results) -> Iterator[Block]:
    """Yield appendix B."""
    rows = {row["method"]: row for row in printed("table11")}
    both = rows[BOTH]
    yield from section(
        "B Generalisation of very deep features",
        "Are the features good for other images? D and E are used as they are, without the last layer: each image "
        f"becomes {FC:,} numbers per network, averaged over the map. A linear SVM classifies these. Both networks "
        f"together reach a mean average precision of {both['voc2007_map']} % on VOC-2007 and a recall of "
        f"{both['caltech101_recall']} % on Caltech-101.",
        (
            "A data set is a row of ",
            Code("datasets"),
            " in params.yaml. The features of each network at each Q are kept, so that averaging and stacking them is "
            "arithmetic on top. C of the SVM is chosen on validation examples. All rows are in ",
            *table_links(results, *OTHER_SETS),
            ".",
            *_set_measures(results),
        ),
        (
            "Data sets whose names begin with “drawn” are made by this program: they are not the paper's. ",
            Code("docs/paper.md"),
            " has the choices that the paper leaves open.",
        ),
    )
    yield from incomparable(results.other_sets.values())
    yield Paragraph(verdicts(results, "B"))
    yield from ledger(results, "B")


def _set_measures(results: Results) -> Iterator[str]:
    """Yield a sentence with our measures by both networks, if there are any."""
    rows = [row for values in results.other_sets.values() for row in values["rows"] if row["ours"]]
    both = [row for row in rows if row["label"]["method"].startswith(BOTH)]
    if both:
        names = [", ".join(row["label"].values()).replace(f", {BOTH}", "") for row in both]
        measures = [f"{row['ours']['value']:.1f} % ({name})" for name, row in zip(names, both, strict=True)]
        yield f" Both networks here: {listed(measures)}."
