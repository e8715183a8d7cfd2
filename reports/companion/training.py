"""Sections 3.1 and 3.3 of the paper: how the networks are trained, and on what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.experiment.modes import MODES
from pipeline.experiment.paper_facts import (
    BATCH,
    DROPOUT,
    DROPS,
    EPOCHS,
    FINETUNING_RATE,
    GPUS,
    LARGE,
    MOMENTUM,
    RATE,
    SMALL,
    SPEEDUP,
    VARIANCE,
    WEEKS,
    WEIGHT_DECAY,
)
from pipeline.experiment.paper_tables import INITIAL
from pipeline.experiment.run_names import FROM_A, NORMAL
from pipeline.results.deviations import SCHEDULES
from pipeline.results.profile_results import Results
from pipeline.results.run_chain import ChainedRun, chance, run_chain, stalled
from reports.companion.parts import (
    differences,
    differs,
    ledger,
    listed,
    name_of,
    section,
    times,
    trains,
    verdicts,
    word,
)
from reports.page import Block, Bullets, Code, Heading, Link, Paragraph, Preformatted, Strong, Text
from reports.phrases import number
from reports.table_pages import results_table

KNOBS = ("dropout", "initial weights", "batch", "momentum", "weight decay", "learning-rate drops",
         "colour shift", *SCHEDULES.values())  # fmt: skip
MACHINES = ("precision of training", "precision of scoring", "decoder")


def training(results: Results) -> Iterator[Block]:
    """Yield section 3.1, without what it needs from the stage `illustrations`."""
    yield from section(
        "3.1 Training",
        f"The loss is the softmax loss. Each step of gradient descent uses {BATCH} images, momentum {MOMENTUM:g}, "
        f"weight decay {WEIGHT_DECAY:g}, and dropout of {DROPOUT:g} after the hidden fully connected layers. The "
        f"learning rate begins at {RATE:g}. It is divided by ten whenever the validation accuracy stops improving: "
        f"{times(DROPS)} in {EPOCHS} epochs. Each image is rescaled so that its shorter side has S pixels. A random "
        "crop of it is flipped or not, and its colours are shifted a little. Only network A begins with random weights "
        "alone; the others begin with layers of A.",
        _here(results),
        _open(results),
    )
    yield from _choices(results)
    if differs(results, KNOBS):
        yield Paragraph(
            (
                "These settings are not the paper's. Where the paper states no value, its column has the choice of the "
                "profile ",
                Code("paper"),
                ":",
            )
        )
        yield from differences(results, KNOBS)
    yield from _chain(results)
    yield from _without(results)


def _here(results: Results) -> Text:
    if not trains(results):
        return (
            "Nothing is trained with ", *name_of(results), ". It evaluates networks that others trained and published. "
            "The profiles ", Code("mini"), ", ", Code("evening"), ", ", Code("imagenette"), " and ", Code("paper"),
            " train all networks in the paper's order.",
        )  # fmt: skip
    return (
        "All networks are trained in the paper's order. A table in ",
        Code("params.yaml"),
        " has one row for each run: network, S, initial weights, schedule. What is random about an image (S, crop, "
        "flip, colours, dropout) is computed from the seed, the epoch and the image's number. So a run that was "
        "interrupted goes on with the same draws.",
    )


def _open(results: Results) -> Text:
    return (
        "Some points are not stated in the paper, and every reproduction has to decide them. ",
        Code("docs/paper.md"),
        " lists all of them with the evidence. Three matter most:",
    )


def _choices(results: Results) -> Iterator[Block]:
    """Yield the open points that matter most."""
    train = results.settings.train if results.settings else None
    waits = f"here, {train.patience} epochs without a lower validation error" if train else (
        "a training profile names a number of epochs without a lower validation error")  # fmt: skip
    yield Bullets(
        (
            (
                Strong("How large the first weights are."),
                f" The paper gives a variance of {VARIANCE:g}, which is a standard deviation of {VARIANCE**0.5:g}. "
                "Networks of full width cannot train from that: their first loss is above 10⁸. The profile ",
                Code("paper"),
                f" takes {VARIANCE:g} as the standard deviation.",
            ),
            (
                Strong("Where A's layers go."),
                " The first four convolutions of A do not fit the deeper networks by position, because A's second "
                "doubles the channels and theirs does not. Here each goes to the same place in its block.",
            ),
            (Strong("When the accuracy “stops improving”."), f" The paper gives no rule; {waits}."),
        )
    )


def _chain(results: Results) -> Iterator[Block]:
    """Yield the chain of initial weights as a tree, and what came of its runs."""
    yield Heading(3, "Which run starts from which")
    chain = run_chain(results.params, results.summaries)
    yield Paragraph(
        f"Training is a chain. First all networks are trained at S = {SMALL}. From there C, D and E go on at S = "
        f"{LARGE}, in the paper with a learning rate of {FINETUNING_RATE:g}, and from there with jittered S. In the "
        "tree, a run starts from the weights of the run that it hangs on. Runs at the left edge start from random "
        "weights. D-jitter-fc, which trains its fully connected layers only, is the D of the paper's submission to the "
        "challenge."
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
        f"The percentage is the top-1 error at one crop from the image's centre. {_drops(trained)} The page with all "
        "learning curves is ",
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


def _without(results: Results) -> Iterator[Block]:
    """Yield what comes of other initial weights, or how to find out."""
    yield Heading(3, "What happens without A's layers")
    yield Paragraph(
        "The authors found it hard to start deep networks from small random weights: the gradient fades on its way "
        "down. After the submission they saw that Glorot's rule makes this chain unnecessary. The rule chooses each "
        "layer's variance from its number of inputs and outputs."
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
    yield Paragraph(_chance(table))
    yield Paragraph(verdicts(results, "3.1"))
    yield from ledger(results, "3.1")


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


def implementation(results: Results) -> Iterator[Block]:
    """Yield section 3.3."""
    yield from section(
        "3.3 Implementation",
        "The program was Caffe, changed by the authors so that it trains on several GPUs and evaluates whole images. "
        f"Each batch was divided among {word(GPUS)} GPUs and the gradients were averaged, so the result is that of one "
        f"GPU. It was {SPEEDUP:g} times faster than one. A network took {word(WEEKS[0])} to {word(WEEKS[1])} weeks.",
        (
            "The program is written in PyTorch, and NVIDIA's DALI decodes and rescales the images. Several GPUs also "
            "share each batch. DVC knows which result depends on which parameters, runs what is missing and nothing "
            "else, and keeps earlier results. Where and when each result was made is on the page ",
            Link("Provenance", "provenance.md"),
            ".",
        ),
        _machines(results),
    )
    yield from differences(results, MACHINES)


def _machines(results: Results) -> str:
    rounding = (
        "Decoders, resizing filters and the order of sums are not those of 2014. They change pixels by a few grey "
        "levels, and results by rounding."
    )
    return rounding + (" Precision and decoder of this profile:" if differs(results, MACHINES) else "")
