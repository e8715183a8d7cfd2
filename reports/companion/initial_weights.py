"""Section 3.1 of the paper, continued: which run starts from which, and what comes of other initial weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.experiment.modes import MODES
from pipeline.experiment.paper_facts import DROPS, FINETUNING_RATE, LARGE, SMALL
from pipeline.experiment.paper_tables import INITIAL
from pipeline.experiment.run_names import FROM_A, GLOROT, NORMAL
from pipeline.results.deviations import WEIGHTS
from pipeline.results.profile_results import Results
from pipeline.results.run_chain import ChainedRun, chance, run_chain, stalled
from reports.companion.parts import ledger, listed, times, trains, verdicts, with_seed
from reports.page import Block, Code, Heading, Link, Paragraph, Preformatted, Text
from reports.phrases import number
from reports.table_pages import results_table


def chain_of_weights(results: Results) -> Iterator[Block]:
    """Yield the chain of initial weights as a tree, and what came of its runs."""
    yield Heading(3, "Which run starts from which")
    chain = run_chain(results.params, results.summaries)
    yield Paragraph(
        f"Training is a chain. First all networks are trained at S = {SMALL}. From there C, D and E go on at S = "
        f"{LARGE}, in the paper with a learning rate of {FINETUNING_RATE:g}, and from there with jittered S. In the "
        "tree, a run starts from the weights of the run that it hangs on. Runs at the left edge start from random "
        "weights. D-jitter-fc, which trains its fully connected layers only, is the jittered D of the paper's "
        "submission to the challenge."
    )
    if not chain:
        yield Paragraph("No network is trained yet.")
        return
    yield Preformatted("\n".join(_tree(chain)))
    yield Paragraph(_outcome(results, chain))


def _tree(chain: Sequence[ChainedRun]) -> list[str]:
    """Return the chain as lines: branches and names, then each trained run's error and schedule."""
    names = [line for run in chain for line in _branches(run)]
    width = max(len(name) for name, _ in names)
    return [f"{name:<{width}}  {_result(run)}".rstrip() for name, run in names]


def _branches(run: ChainedRun) -> Iterator[tuple[str, ChainedRun]]:
    yield run.name, run
    for place, follower in enumerate(run.followers, 1):
        last = place == len(run.followers)
        for depth, (name, child) in enumerate(_branches(follower)):
            stem = ("└ " if last else "├ ") if depth == 0 else ("  " if last else "│ ")
            yield f"{stem}{name}", child


def _result(run: ChainedRun) -> str:
    if run.summary is None:
        return ""
    epochs = run.summary["epochs"]
    return f"{number(run.summary['centre_crop']['top1']):>5} %  {epochs} epoch{'s' * (epochs != 1)}"


def _outcome(results: Results, chain: Sequence[ChainedRun]) -> Text:
    """Return what the tree's numbers mean, how often the learning rate dropped, and what is missing."""
    runs = [run for first in chain for run in first.everyone()]
    trained = [run.summary for run in runs if run.summary]
    if not trained:
        return "This is the order of the grid; none of its runs is trained here."
    missing = [run.name for run in runs if run.summary is None]
    rest = (
        (" Runs without a number are not trained yet: ", Code(f"vgg-repro train {missing[0]}"), ".") if missing else ()
    )
    return (
        f"The percentage is the top-1 error at one crop from the image's centre{with_seed(results)}. {_drops(trained)} "
        "The page with all learning curves is ",
        Link("Training", "training.md"),
        ".",
        *rest,
    )


def _drops(summaries: Sequence[Any]) -> str:
    counts = Counter(summary["drops"] for summary in summaries)
    if len(counts) == 1 and len(summaries) > 1:
        parts = [f"{times(next(iter(counts)))} in all {len(summaries)} runs"]
    else:
        parts = [f"{times(drops)} in {runs} run{'s' * (runs != 1)}" for drops, runs in sorted(counts.items())]
    return f"The learning rate dropped {listed(parts)}; in the paper it drops {times(DROPS)}."


def other_weights(results: Results) -> Iterator[Block]:
    """Yield what comes of other initial weights, or how to find out."""
    yield Heading(3, "What happens without A's layers")
    yield Paragraph(
        "The authors found it hard to start deep networks from small random weights: they write that the "
        "gradient is unstable. After the submission they saw that Glorot's rule makes this chain unnecessary. The rule "
        "chooses each layer's variance from its number of inputs and outputs."
    )
    table = results.tables.get("initialisation")
    if not table:
        yield Paragraph(_how(results))
        return
    yield Paragraph(
        f"Here the networks {listed(table['initialisation']['nets'])} were trained from each kind of weights, for the "
        f"same number of epochs, and tested at one centre crop at Q = {MODES['centre'].scale}:"
    )
    yield results_table(table, results.outdated)
    yield Paragraph(f"{_chance(table)}{_grid(results, table)}")
    yield Paragraph(verdicts(results, "3.1"))
    yield from ledger(results, "3.1")


def _grid(results: Results, table: dict[str, Any]) -> str:
    """Return from which rule the grid's runs start, if it is none of those that are compared."""
    rule = results.settings.net.init if results.settings else NORMAL
    if rule in (NORMAL, GLOROT):
        return ""
    scales = {results.settings.net.input_scale, table["initialisation"]["input_scale"]} if results.settings else set()
    divided = ", and their input is divided differently" if len(scales) > 1 else ""
    return f" The runs of the tree above start from {WEIGHTS[rule]} instead{divided}."


def _how(results: Results) -> Text:
    if not trains(results):
        return (
            "This profile trains nothing, so it cannot show this. The profile ",
            Code("evening"),
            " can: its report is in ",
            Code("reports/evening"),
            ".",
        )  # fmt: skip
    return (
        "This profile does not compare them. The profile ",
        Code("evening"),
        " does, and its report is in ",
        Code("reports/evening"),
        ". To compare them here, give this profile a block ",
        Code("initialisation"),
        " as it has in ",
        Code("params.yaml"),
        ". Then: ",
        Code(f"vgg-repro prepare --profile {results.profile}"),
        " and ",
        Code("dvc repro initialisation"),
        ".",
    )


def _chance(table: dict[str, Any]) -> str:
    """Return which networks learnt nothing, and what follows where A is among them."""
    first = f"A network that has learnt nothing is wrong for {chance(table):.1f} % of the images."
    rows = stalled(table)
    if not rows:
        return f"{first} All of these learnt something."
    names = listed([f"{row['net']} ({row['init']})" for row in rows])
    begins = {(row["net"], row["init"]) for row in rows}
    lost = ("A", INITIAL[NORMAL]) in begins and any(row["init"] == INITIAL[FROM_A] for row in rows)
    why = " A itself did not get away from its random weights here, so its layers could not help the others." * lost
    return f"{first} That is where these ended: {names}.{why}"
