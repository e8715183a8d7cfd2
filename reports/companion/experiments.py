"""Section 4 of the paper: the experiments, with the rows of the ledger that belong to each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.datasets.sources.ilsvrc.reference import CLASSES, IMAGES
from pipeline.experiment.claims import (
    BOTH,
    CLAIMS,
    CROPS,
    DENSE,
    JITTER,
    SUBMISSION,
    Cell,
    by_method,
    fused,
    multiple,
    single,
)
from pipeline.experiment.paper_facts import SMALL, TEST_IMAGES
from pipeline.experiment.paper_tables import printed_errors
from pipeline.results.profile_results import Results
from reports.charts import Chart
from reports.companion.parts import (
    chart,
    claims_of,
    ledger,
    our_errors,
    paper_error,
    question,
    section,
    table_links,
    verdicts,
)
from reports.companion.testing import one_cell_scales
from reports.page import Block, Link, Paragraph, Text
from reports.page_parts import comparability_warning
from reports.phrases import points
from vgg.nets import weight_layers


def data(results: Results) -> Iterator[Block]:
    """Yield the beginning of section 4: the images and the errors."""
    yield from section(
        "4 Classification experiments",
        f"The images are those of ILSVRC-2012: {CLASSES:,} classes, {IMAGES['train']:,} images to train, "
        f"{IMAGES['val']:,} to validate and {TEST_IMAGES:,} to test. The labels of the test images are not public. So "
        "most experiments use the validation images as test images. The top-1 error counts the images whose first "
        "guess is wrong; the top-5 error, the measure of the challenge, those whose class is not among the first five "
        "guesses.",
        _images(results),
        _comparable(results),
    )
    if results.claims and comparability_warning(results).text:
        yield Paragraph(
            (
                "A verdict is about these networks, images and schedule, and not about the paper's results. The ",
                Link("first page", "README.md"),
                " says what else to keep in mind.",
            )
        )
        yield Paragraph(
            "B to E start from A's layers and then train as long again. So where A has not converged, comparisons with "
            "A or with the shallow network also compare lengths of training."
        )


def _images(results: Results) -> Text:
    facts = results.facts
    if not facts:
        return "No images are prepared yet, so no network is trained or tested."
    training = f"{facts['train']:,} to train and " if facts["train"] else ""
    few = len(facts["classes"]) <= 5
    rest = " With so few classes, fewer guesses count than five." if few else ""
    return (
        f"The images here: {facts['about']}. They have {len(facts['classes']):,} classes, with "
        f"{training}{facts['val']:,} to validate.{rest} Errors have 95 % intervals, because other images would give "
        "other errors."
    )


def _comparable(results: Results) -> Text:
    if not results.facts:
        return "There is nothing to compare yet."
    if comparability_warning(results).text:
        return (
            "Errors here cannot be compared with the paper's. What can be compared are effects: is one network or "
            "method better than another? The ledger tests the paper's claims of this kind on the same images for both."
        )
    return (
        "The images are the paper's, so single errors can be compared. The tables judge each: is it within a tolerance "
        "of the printed one?"
    )


def one_scale(results: Results, charts: Sequence[Chart]) -> Iterator[Block]:
    """Yield section 4.1, with the chart of error against depth."""
    a, lrn, b, c, d, e = (single(net, "256") for net in ("A", "A-LRN", "B", "C", "D", "E"))
    shallow = next(claim.stated for claim in CLAIMS if claim.name == "shallow")
    jittered = single("E", JITTER)
    yield from section(
        "4.1 Single scale evaluation",
        f"Each network is tested densely at one Q. Normalisation (LRN) does not help: {paper_error(a)} without it, "
        f"{paper_error(lrn)} with it. Depth does: the error falls from {paper_error(a)} in A to {paper_error(b)} in B, "
        f"{paper_error(c)} in C and {paper_error(d)} in D. At {weight_layers('E')} layers it has stopped falling: E "
        f"has {paper_error(e)}. B is also compared with a shallow network, in which one 5x5 layer replaces each pair "
        f"of 3x3 layers: that is {shallow:g} points worse at the centre crop. Jittered S helps further; E then has "
        f"{paper_error(jittered)}.",
        (
            "All rows are in ",
            *table_links(results, "table3", "shallow"),
            *_ours(results, {"A": a, "B": b, "D": d, "E": e, "E with jittered S": jittered}),
        ),
        verdicts(results, "4.1"),
    )
    yield from _one_cell(results)
    yield from _how_to_read(results)
    yield from ledger(results, "4.1")
    yield from chart(charts, "depth")
    yield question(
        "C is B with 1x1 layers added; D has 3x3 layers in their place. What does a comparison of B and C show, and "
        "what one of C and D? Why is C in the paper at all?"
    )


def _one_cell(results: Results) -> Iterator[Block]:
    """Yield that dense evaluation at S = 256 is hardly more than the centre crop, if it is."""
    if SMALL in one_cell_scales(results):
        yield Paragraph(
            f"At S = {SMALL} dense evaluation of a square image is here the centre crop and its mirror image, because "
            "the score map has one cell (section 3.2)."
        )


def _how_to_read(results: Results) -> Iterator[Block]:
    """Yield how to read the numbers of the ledger, where it has rows."""
    if not claims_of(results, "4.1"):
        return
    margin = points(results.claims["margin"])
    yield Paragraph(
        "How to read the numbers: they are points of top-1 error. Above 0, the network or method that the claim names "
        "first has the lower error. That is in favour of a claim that it is better. A claim that it “does not improve” "
        f"is supported if the number is shown to be below {margin}, so a negative number favours it. A claim of “about "
        f"the same error” is supported if the number is shown to be within {margin} of 0."
    )


def several_scales(results: Results) -> Iterator[Block]:
    """Yield section 4.2."""
    d_one, d_several, fixed = single("D", JITTER), multiple("D", JITTER), multiple("D", "384")
    yield from section(
        "4.2 Multi-scale evaluation",
        "Now each image is tested at three Q and the posteriors are averaged. For fixed S the three are close to S, "
        "because a network fails on objects much larger or smaller than those of its training. With jittered S they "
        f"span the whole range. The error of D with jittered S falls from {paper_error(d_one)} to "
        f"{paper_error(d_several)}. With fixed S = 384 it is {paper_error(fixed)}.",
        (
            "All rows are in ",
            *table_links(results, "table4"),
            *_ours(results, {"D at one Q": d_one, "at three Q": d_several, "with fixed S = 384": fixed}),
        ),
        verdicts(results, "4.2"),
    )
    yield from _together(results)
    yield from ledger(results, "4.2")


def _together(results: Results) -> Iterator[Block]:
    """Yield of how many rows the claim on several test scales is, if it is tested."""
    rows = [claim["pairs_run"] for claim in claims_of(results, "4.2") if claim["name"] == "test-scales"]
    if any(rows):
        which = f"all {rows[0]}" if rows[0] == len(printed_errors("table4")) else f"{rows[0]} of the"
        yield Paragraph(
            "Each of these claims is about the mean over several networks and S. That several test scales are better "
            f"than one is tested by {which} rows of Table 4 together, so a single network such as D may differ."
        )


def crops(results: Results) -> Iterator[Block]:
    """Yield section 4.3."""
    methods = {method: by_method("E", method) for method in (DENSE, CROPS, BOTH)}
    printed = [paper_error(cell) for cell in methods.values()]
    yield from section(
        "4.3 Multi-crop evaluation",
        f"Dense evaluation of E at three Q has an error of {printed[0]}, 50 crops per scale {printed[1]}, the mean of "
        f"both {printed[2]}. The authors explain the gain by the border. A crop is padded with zeros; the same part of "
        "a whole image is padded with its neighbourhood. So the two make different mistakes. Crops cost far more time.",
        ("All rows are in ", *table_links(results, "table5"), *_ours(results, methods, " of E")),
        verdicts(results, "4.3"),
    )
    yield from ledger(results, "4.3")


def fusion(results: Results, charts: Sequence[Chart]) -> Iterator[Block]:
    """Yield section 4.4, with the chart of the steps of the evaluation."""
    dense, both = fused(DENSE), fused(BOTH)
    yield from section(
        "4.4 ConvNet fusion",
        "The posteriors of several networks are averaged, as a vote. The submission to the challenge had seven "
        f"networks; tested densely, its error is {paper_error(SUBMISSION)}. Later the authors fused only the two best, "
        f"D and E with jittered S. Tested densely, these two have {paper_error(dense)}, less than the seven. With "
        f"crops and dense evaluation together they have {paper_error(both)}.",
        (
            "All rows are in ",
            *table_links(results, "table6"),
            *_ours(
                results,
                {
                    f"seven networks ({DENSE})": SUBMISSION,
                    f"D and E ({DENSE})": dense,
                    f"D and E ({BOTH})": both,
                },
            ),
        ),
        verdicts(results, "4.4"),
    )
    yield from ledger(results, "4.4")
    yield from chart(charts, "waterfall")


def comparison(results: Results) -> Iterator[Block]:
    """Yield section 4.5."""
    top5 = {key: errors["top5_test"] for key, errors in printed_errors("table7").items()}
    ours = [key for key in top5 if key.startswith("VGG")]
    google = [key for key in top5 if key.startswith("GoogLeNet")]
    two, one, seven = (f"{top5[key]:.1f} %" for key in ours)
    single_google, seven_google = (f"{top5[key]:.1f} %" for key in google)
    yield from section(
        "4.5 Comparison with the state of the art",
        "The last table compares top-5 errors on the challenge's test images. The submission of seven networks has "
        f"{seven}, two networks after it {two}; seven of GoogLeNet have {seven_google}. With one network each, VGG has "
        f"{one} and GoogLeNet {single_google}. The authors note that their networks keep the classical form, only "
        "deeper.",
        (
            "All rows are in ",
            *table_links(results, "table7"),
            ". The rows of the VGG networks are computed, those of other groups are quoted.",
        ),
        "Nobody outside the challenge can compute the test column, because the labels are not public. So the table "
        "here has errors on validation images, and repeats the paper's test errors.",
    )


def _ours(results: Results, cells: dict[str, Cell], of: str = "") -> tuple[str, ...]:
    """Return the end of a sentence on a table, and our errors in these cells, which are those `of` a network."""
    errors = our_errors(results, cells, of)
    return (f". {errors}",) if errors else (".",)
