"""The appendices of the paper: localisation, and features for other data sets, which are not built yet."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.experiment.paper_facts import FC, OVERLAP
from pipeline.experiment.paper_tables import LOCALISATION, number_of, printed
from pipeline.results.profile_results import Results
from reports.companion.parts import ledger, listed, section, table_links, verdicts
from reports.page import Block, Code, Paragraph, Text
from reports.phrases import table_label


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


def features() -> Iterator[Block]:
    """Yield appendix B."""
    rows = {row["method"]: row for row in printed("table11")}
    both = rows["VGG Net-D & Net-E"]
    yield from section(
        "B Generalisation of very deep features",
        "Are the features good for other images? D and E are used as they are, without the last layer: each image "
        f"becomes {FC:,} numbers per network, averaged over the map. A linear SVM classifies these. Both networks "
        f"together reach a mean average precision of {both['voc2007_map']} % on VOC-2007 and a recall of "
        f"{both['caltech101_recall']} % on Caltech-101.",
        *_missing(["table11", "table12"]),
    )


def _missing(tables: list[str]) -> tuple[Text, Text]:
    """Return what this repository has of the tables of an appendix, and how that differs."""
    names = listed([table_label(name) for name in tables])
    command = f"vgg-repro table {number_of(tables[0])}"
    here = (f"Not built yet. {names} have no stages; ", Code(command), " says so. ", Code("docs/paper.md"),
            " has the protocol, and the repository has the printed numbers.")  # fmt: skip
    return here, "Everything: there is nothing to compare yet."
