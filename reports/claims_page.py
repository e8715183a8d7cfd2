"""The ledger: the paper's claims, each with its effect, interval and verdict on our images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pipeline.results.claims import ERROR
from reports.other_sets_page import incomparable
from reports.page import (
    Block,
    Callout,
    Code,
    Heading,
    Inline,
    Judged,
    Link,
    Page,
    Paragraph,
    Strong,
    Table,
    Text,
    join,
    left,
    right,
)
from reports.page_parts import ALL_TABLES
from reports.phrases import NONE, p_value, points, signed, table_label
from vgg.judgement import LEVEL, Verdict

TITLE = "Claims of the paper"
TO_TEST: tuple[Inline, ...] = ("To compute them: ", Code("dvc repro claims"))
MEANING = (
    "A verdict is about these networks, images and schedule. “Contradicted” means that the opposite was found here. "
    "It says nothing about the paper's own results on ImageNet. B to E start from A's layers and then train as long "
    "again. So where A has not converged, comparisons with A or with the shallow network also compare lengths of "
    "training."
)
READING = (
    "Effects are points of top-1 error, or of the measure that the row names. Above 0, the net or method that the "
    "claim names first has the lower error, or the higher AP or recall: in favour of a claim that it is better, "
    "against “does not improve”. “About the same” needs an effect near 0. “Images that changed”: those wrong only "
    "without it / only with it. “Least of 4”: of 4 comparisons, the one that supports the claim least. “Visible "
    "from”: the smallest effect that would be found with a probability of 80 %; of “does not improve” and “about the "
    "same”, which allow effects up to a margin, the smallest that would contradict the claim."
)
UNTESTED: Text = ("The paper's claims are not tested yet. ", *TO_TEST)


def claims_page(values: dict[str, Any], warning: Callout, tables: Mapping[str, Any] = MappingProxyType({})) -> Page:
    """Return the page of the ledger's values; the warning is empty if the nets and images are the paper's.

    `tables` are those of other data sets that have pages, with their values.
    """
    links = join(" and ", [Link(table_label(name), f"{name}.md") for name in tables])
    measures = [Paragraph(("The measures of the data sets are in ", *links, "."))] * bool(tables)
    head: Page = (Heading(1, TITLE), warning, *incomparable(tables.values()))
    return (*head, *_body(values, bool(warning.text)), *_rules(values), *measures, ALL_TABLES)


def claims_section(values: dict[str, Any], small: bool) -> Page:
    """Return heading, ledger and rules for the terminal; `small`: the nets or the images are not the paper's."""
    return (Heading(2, TITLE), *_body(values, small), *_rules(values))


def claims_summary(values: dict[str, Any], small: bool) -> Page:
    """Return verdict and ledger for the index; `values` are empty if nothing is tested, `small` as above."""
    heading = Heading(2, "Did it reproduce?")
    if not values:
        return (heading, Paragraph(UNTESTED))
    return (heading, *_body(values, small), Paragraph((Link("How the claims are tested", "claims.md"), ".")))


def rules_page(values: dict[str, Any]) -> Page:
    """Return the page of the tests alone, for a report that shows the ledger elsewhere."""
    return (Heading(1, "How the claims were tested"), *_rules(values))


def _body(values: dict[str, Any], small: bool) -> Iterator[Block]:
    yield Paragraph(verdict_sentence(values))
    if _is_tested(values):
        if small:
            yield Paragraph(MEANING)
        yield from ledger(values)
    if partial := [claim for claim in values["claims"] if 0 < claim["pairs_run"] < claim["pairs"]]:
        parts = ", ".join(f"{claim['name']} ({claim['pairs_run']} of {claim['pairs']})" for claim in partial)
        yield Paragraph(f"Tested on the comparisons that are run so far: {parts}.")


def _is_tested(values: dict[str, Any]) -> bool:
    """Return True if there are images to test claims on: the profile's, or those of other data sets."""
    return bool(values["images"] or values["sets"])


def verdict_sentence(values: dict[str, Any]) -> Text:
    """Return the verdict in one sentence."""
    counts, claims = values["counts"], values["claims"]
    if counts["not run"] == len(claims):
        return ("None of the paper's claims can be tested yet: no table is computed. ", *TO_TEST)
    first = f"{counts['supported']} {'is' if counts['supported'] == 1 else 'are'} supported on {_tested_on(values)}"
    rest = f", {counts['not run']} not run" if counts["not run"] else ""
    words = f"{counts['contradicted']} contradicted, {counts['undecided']} undecided{rest}"
    holm = values["counts_holm"]
    return (
        f"Of the paper's {len(claims)} claims, ",
        Strong(f"{first}, {words}"),
        f", with {_seeds(values)}. Adjusted for the number of tests (Holm's method): "
        f"{holm['supported']} supported, {holm['contradicted']} contradicted.",
    )


def _tested_on(values: dict[str, Any]) -> str:
    """Return the images that the claims are tested on, in words."""
    others = ", ".join(f"{one['images']:,} of {title}" for title, one in values["sets"].items())
    if not values["images"]:
        return f"images of other data sets ({others})"
    return f"these {values['images']:,} images" + f" (and {others})" * bool(others)


def _seeds(values: dict[str, Any]) -> str:
    return f"up to {values['seeds']} seeds" if values["seeds"] > 1 else "one seed"


def ledger(values: dict[str, Any]) -> Page:
    """Return the table of the claims, after how to read it."""
    return (Paragraph(READING), claims_table(values))


def claims_table(values: dict[str, Any]) -> Table:
    """Return the ledger as a table, one row per claim."""
    columns = (
        *left("claim", "section"), *right("paper"), *left("ours (95 % interval)"), *right("images that changed", "p"),
        *left("verdict"),
    )  # fmt: skip
    return Table(columns, tuple(_row(claim, values) for claim in values["claims"]))


def _of(claim: dict[str, Any], seeds: int) -> str:
    """Return what an effect is of, where it is not of top-1 errors and the mean over all pairs and seeds."""
    statistic = [claim["statistic"]] * (claim["statistic"] != ERROR)
    least = [f"least of {claim['pairs_run']}"] * (claim["each"] and claim["pairs_run"] > 1)
    return "".join(
        f", {word}" for word in (*statistic, *least, *["one seed"] * (seeds > 1 and max(claim["seeds"]) == 1))
    )


def _row(claim: dict[str, Any], values: dict[str, Any]) -> tuple[Text, ...]:
    seeds, margin = values["seeds"], values["margin"]
    about = (claim["sentence"], claim["section"])
    paper = NONE if claim["paper"] is None else f"{claim['paper']:+.1f}"
    if claim["verdict"] == Verdict.NOT_RUN:
        return (*about, paper, NONE, NONE, NONE, _verdict(claim, margin))
    ours = f"{signed(claim['effect'])} ({_bound(claim, 'low')} to {_bound(claim, 'high')}){_of(claim, seeds)}"
    changed = NONE if claim["gained"] is None else f"{claim['gained']:,} / {claim['lost']:,}"
    p = p_value(claim["p_verdict"])
    return (*about, paper, ours, changed, p, _verdict(claim, margin))


def _bound(claim: dict[str, Any], name: str) -> str:
    """Return an end of an interval: one that excludes 0 has the digits that tell it from 0."""
    value, includes = claim[name], claim["low"] <= 0 <= claim["high"]
    digits = next((digits for digits in range(1, 5) if round(value, digits)), 1)
    return signed(value) if includes or digits == 1 else f"{value:+.{digits}f}"


def _verdict(claim: dict[str, Any], margin: float) -> Text:
    verdict = Verdict(claim["verdict"])
    shown = Judged(verdict)
    if verdict == Verdict.NOT_RUN:
        return (shown, ": ", Code(claim["to_run"]))
    if verdict == Verdict.UNDECIDED and claim["gained"] == claim["lost"] == 0:
        return (shown, ": both networks give the same answers")
    if verdict == Verdict.UNDECIDED and claim["low"] == claim["high"] == 0:
        return (shown, ": both ways give the same measure, also on resampled images")
    if verdict == Verdict.UNDECIDED:
        visible = f": visible from {_visible_effect(claim, margin):.1f} points"
        return (shown, f"{visible}{_unreachable(claim, margin)}{_although(claim, margin)}")
    return (shown, f"; {claim['verdict_holm']} if adjusted") if claim["verdict_holm"] != verdict else shown


def _visible_effect(claim: dict[str, Any], margin: float) -> float:
    """Return the effect in points that would be found; of a claim with a margin, the one that would contradict it."""
    return float(claim["smallest_visible"]) + (margin if claim["kind"] != "better" else 0.0)


def _unreachable(claim: dict[str, Any], margin: float) -> str:
    """Return that no effect could support the claim on these images, if that is so."""
    if claim["kind"] != "about equal" or claim["high"] - claim["low"] <= 2 * margin:
        return ""
    return f"; too few images to show that they are equal within {points(margin)}"


def _although(claim: dict[str, Any], margin: float) -> str:
    """Return why a claim is undecided although the interval excludes 0; nothing if it does not."""
    if claim["low"] <= 0 <= claim["high"]:
        return ""
    if claim["kind"] != "better":
        return f"; p is of the margin of {points(margin)}, not of 0"
    if claim["each"] and claim["effect"] < 0 and claim["p"] / claim["pairs_run"] <= LEVEL:
        return f"; the interval excludes 0, but p is multiplied by {claim['pairs_run']}, the number of comparisons"
    return "; the interval just excludes 0, but p is of another test"


def _rules(values: dict[str, Any]) -> Iterator[Block]:
    """Yield how the claims are tested."""
    if values["images"]:
        yield from _rules_of_errors(values)
    if values["sets"]:
        yield _rules_of_sets(values)


def _rules_of_errors(values: dict[str, Any]) -> Iterator[Block]:
    """Yield how claims about the profile's own images are tested."""
    margin = points(values["margin"])
    groups = values["groups"]
    units = (
        f"The images form {groups:,} groups that show the same thing; a group counts as one observation. "
        if groups < values["images"] else ""
    )  # fmt: skip
    seeds = (
        "Each run has one seed, so intervals count the images only, not how much a result varies from seed to seed. "
        if values["seeds"] == 1 else
        f"Intervals count images and seeds. {_spread(values['seed_std'])}"
    )  # fmt: skip
    yield Paragraph(
        "The paper's effects are computed from its printed numbers. Both nets of a comparison are tested on the same "
        "images; “images that changed” are counted over all comparisons and seeds of the claim. Several comparisons in "
        "one claim are tested by their mean; a claim about each of them by the one that supports it least. If that one "
        "speaks against the claim, its p is multiplied by the number of comparisons."
    )
    yield Paragraph(
        f"{units}{seeds}A claim that one is better is supported or contradicted if p is at most 0.05: with one seed "
        "the exact McNemar test, with several a t test. “Does not improve” and “about the same” are supported if the "
        f"difference is shown to be within {margin}, and contradicted if it is shown to be beyond; their p is of that. "
        "Intervals are those of a score test: with one seed, one may just exclude 0 although p is above 0.05. "
        "“If adjusted”: by Holm's method for all claims together."
    )  # fmt: skip


def _rules_of_sets(values: dict[str, Any]) -> Paragraph:
    """Return how the claims of appendix B are tested."""
    splits = any(one["splits"] > 1 for one in values["sets"].values())
    of_splits = " Of several random splits all but one are drawn, with replacement." * splits
    return Paragraph(
        "The claims of appendix B are tested on the test images of other data sets, with C chosen anew for each way to "
        f"describe them. Their intervals and p are of {values['resamples']:,} resamples, in each of which every image "
        f"has a random weight (Bayesian bootstrap).{of_splits} Both sides of a comparison have the same resamples. "
        "Training images are not resampled."
    )


def _spread(seed_std: float | None) -> str:
    """Return how much errors vary from seed to seed, and what is assumed of it."""
    if seed_std is None:
        return ""
    return (
        "Beyond what a seed changes in all runs alike, an error varies from seed to seed with a standard "
        f"deviation of {seed_std:.1f} points. This is pooled over the runs of Table 3, as if all varied alike, and "
        "used for runs of one seed too. "
    )
