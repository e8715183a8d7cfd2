"""The page of one number of a table: what it was computed from, step by step, and what is not known of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.experiment.modes import BOX_MODES, CENTRE_BOXES, PROTOCOLS, WINDOWS
from pipeline.experiment.paper_tables import GUESSING, printed_scale
from pipeline.experiment.params import RANDOM
from pipeline.experiment.run_names import train_stage
from pipeline.results.explanation import ExplainedRun, ExplainedScore, Explanation, FirstWeights, Measure
from pipeline.system.progress import duration
from reports.page import (
    Block,
    Bullets,
    Callout,
    Code,
    Heading,
    Inline,
    Judged,
    Page,
    Paragraph,
    Strong,
    Table,
    Text,
    join,
    left,
    right,
)
from reports.page_parts import UP_TO_DATE, difference, is_older
from reports.phrases import NONE, interval, mean_and_std, not_comparable, number, published_net, table_label
from reports.set_explain_page import set_images, set_sections
from vgg.judgement import Verdict

DIGITS = 16  # of a hash
SETTINGS = {  # parameters of training that are named besides batch and learning rate
    "momentum": "momentum", "weight_decay": "weight decay", "patience": "patience", "tail": "tail",
    "first_drop": "first drop", "colour": "colour", "precision": "precision",
}  # fmt: skip
NOTHING = "Nothing: dvc.lock and params.yaml agree on all that this number depends on."
DRAWN = {"init": "init", "std": "std", "last_std": "std of the last layer", "input_scale": "input divided by"}


def explain_page(explanation: Explanation, kept: str = "") -> Page:
    """Return the page. `kept` is the path of a page that has the provenance if it is not recorded here."""
    e = explanation
    head = Heading(1, f"{table_label(e.table)}, row {e.row.name}")
    measured = [*_number(e), *_scores(e)] if e.of_set is None else [*set_sections(e, e.of_set)]
    if not e.row.runs and not e.to_do:
        others = Paragraph("Other authors' numbers, as the paper prints them. Nothing is computed here.")
        return (head, others, *measured)
    if not e.row.runs:  # of a data set that params.yaml does not have
        return (head, *measured)
    return (
        head,
        _warning(e),
        *measured,
        *_training(e),
        *published_section(e),
        *(images_section(e) if e.of_set is None else set_images(e, e.of_set)),
        *_places(e),
        *_changes(e),
        *_unknown(e, kept),
    )


def counted_page(table: str) -> Page:
    """Return the page that says how the values of Table 1 or 2 come about: nothing is trained for them."""
    how: dict[str, Text] = {
        "table1": (
            "Table 1 is rendered from the strings in ", Code("vgg/nets.py"), " from which the nets are built, one per "
            "net. No image and no training is behind it. ", Code("vgg-repro table 1"), " shows it.",
        ),
        "table2": (
            "Table 2 counts the weights and biases of every layer of the full-size nets at 1,000 classes, from the "
            "modules that ", Code("vgg/nets.py"), " builds, whatever the profile's size. No image and no training is "
            "behind it. The paper's numbers are in ", Code("pipeline/experiment/printed/table2.csv"), ". ",
            Code("vgg-repro table 2"), " shows it.",
        ),
    }  # fmt: skip
    return (Heading(1, table_label(table)), Paragraph(how[table]))


def _warning(e: Explanation) -> Callout:
    if e.comparable:
        return Callout(())
    if e.of_set:
        lead = Strong("Not comparable with the paper's number:")
        return Callout((lead, f" {not_comparable(e.of_set.about, e.profile)}."))
    why = difference(e.profile)
    reason = f"profile {e.profile} runs the paper's method {why}." if why else "they are of other images."
    return Callout((Strong("Not comparable with the paper's numbers:"), f" {reason}"))


def _number(e: Explanation) -> Iterator[Block]:
    """Yield the errors, the paper's and the verdict."""
    judged, spread = any(m.judged for m in e.measures), any(m.spread for m in e.measures)
    test = any(m.paper_test is not None for m in e.measures)
    columns = (
        *left("error, %", "ours (95 % interval)"), *right("wrong", "paper"), *right("paper, test")[: int(test)],
        *left("ours − paper", "verdict")[: 2 * judged], *left("mean ± std over seeds")[: int(spread)],
    )  # fmt: skip
    yield Table(columns, tuple(tuple(_measure(m, test, judged, spread)) for m in e.measures))
    if e.rule:
        rule = e.rule
        yield Paragraph(
            f"Rule for {rule['weights']} weights: reproduced within {rule['tolerance']:g} points, with 95 % "
            f"confidence; {100 * rule['share']:g} % of the images are assumed to be decided differently."
        )
    if e.to_do:
        yield Paragraph(("Not run. To compute it: ", *join(", ", [Code(command) for command in e.to_do]), "."))


def _measure(m: Measure, test: bool, judged: bool, spread: bool) -> Iterator[Text]:
    yield f"top-{m.k}"
    yield interval(dict(m.ours)) if m.ours else NONE
    yield f"{m.ours['wrong']:,} of {m.ours['images']:,}" if m.ours else NONE
    yield number(m.paper)
    if test:
        yield number(m.paper_test)
    if judged:
        j = m.judged
        yield f"{j['difference']:+.1f} ({j['low']:+.1f} to {j['high']:+.1f})" if j else NONE
        yield Judged(Verdict(j["verdict"])) if j else NONE
    if spread:
        yield mean_and_std(dict(m.spread)) if m.spread else NONE


def _scores(e: Explanation) -> Iterator[Block]:
    """Yield how the number is averaged, and from which score files."""
    if not e.scores:
        return
    yield Heading(2, "Scores")
    yield Paragraph(combination(e))
    kind = "boxes" if any(score.mode in BOX_MODES for score in e.scores) else "posteriors"
    columns = (*left("score"), *right("Q", "top-1, %"), *left("precision", f"{kind}, SHA-256"))
    yield Table(columns, tuple(row for score in e.scores for row in _score(score)))
    yield from made_again(e)


def made_again(e: Explanation) -> Iterator[Block]:
    """Yield a warning for each score of which this number is not, or which is not of the run's newest weights."""
    for score in e.scores:
        if score.again:
            yield Callout((Code(score.stage), " has been computed again since: the number is of other posteriors."))
        if score.other_weights:
            yield Callout((Code(score.run), " has been trained again since it was scored: the runs below are newer."))


def combination(e: Explanation) -> str:
    """Return how the number is computed from posteriors or boxes."""
    modes = {score.mode for score in e.scores}
    if WINDOWS in modes:
        merged = "" if e.threshold is None else f" with the threshold {e.threshold:g}, chosen on training images"
        return (
            f"The boxes of all windows, merged{merged}; the first right one of {e.measures[-1].k} guesses counts. The "
            f"classes are the guesses of {' and '.join(GUESSING.runs)}: {_in_words(GUESSING.modes)}."
        )
    if CENTRE_BOXES in modes:
        return "The box of the true class at one central crop of each image; one net at one test scale Q."
    nets, arrays = len(e.row.runs), sum(len(score.scales) for score in e.scores)
    how = _in_words(score.mode for score in e.scores)
    if arrays == 1:
        return f"The posteriors of one net at one test scale Q; evaluation: {how}."
    scales = len(e.scores[0].scales)
    counted = f"{nets} net{'s' * (nets > 1)}, {scales} test scale{'s' * (scales > 1)} Q"
    return f"The mean of {arrays} arrays of posteriors with equal weights: {counted}; evaluation: {how}."


def _in_words(modes: Iterable[str]) -> str:
    return " and ".join(PROTOCOLS[mode] for mode in dict.fromkeys(modes))


def _score(score: ExplainedScore) -> Iterator[tuple[Text, ...]]:
    """Yield a row for each Q."""
    for place, scale in enumerate(score.scales):
        error = score.errors.get(str(scale))
        first = place == 0
        yield (
            Code(score.stage) if first else "",
            str(scale),
            number(error["top1"]) if error else NONE,
            (score.precision or NONE) if first else "",
            Code(score.posteriors[:DIGITS] or NONE) if first else "",
        )


def _training(e: Explanation) -> Iterator[Block]:
    """Yield the chain of each net, and its runs' parameters and results."""
    if not e.runs and not e.not_imported:
        return
    yield Heading(2, "Training")
    if e.runs:
        yield Bullets(tuple(" → ".join(chain) for chain in _longest(e)))
    yield from (Paragraph(drawn_text(first)) for first in e.first)
    if e.runs:
        yield _parameters(e.runs)
        yield _results(e)
        yield from (Paragraph(text) for text in settings_texts(e.runs))
    for run in e.runs:
        if run.missing:
            yield Callout((Code(run.name), " has no summary here: its row is params.yaml's. ", *_train(run.name)))
        if run.continued is False:
            yield Callout((Code(run.row.init), " has been made again since ", Code(run.name), " started from it."))
    for name in e.not_imported:
        yield Paragraph((Code(name), " is not imported: ", Code(f"vgg-repro weights import {name} FILE"), "."))


def _longest(e: Explanation) -> Iterator[tuple[str, ...]]:
    """Yield the chains of trained runs that are not the beginning of another."""
    chains = [chain for run, chain in e.chains.items() if run not in e.published]
    for chain in chains:
        if not any(other != chain and other[: len(chain)] == chain for other in chains):
            yield chain


def _train(run: str) -> tuple[Inline, ...]:
    return ("To train it: ", Code(f"vgg-repro train {run}"), ".")


def drawn_text(first: FirstWeights) -> Text:
    seed = "a seed that is not known here" if first.seed is None else f"seed {first.seed}"
    values = {key: value for key, value in first.values.items() if key != "std" or first.values.get("init") == "normal"}
    named = [f"; {words} {values[key]}" for key, words in DRAWN.items() if values.get(key) is not None]
    return (Code(first.name), f": random weights, drawn with {seed}", *named, ".")


def _parameters(runs: tuple[ExplainedRun, ...]) -> Table:
    columns = (*left("run", "net", "S", "starts from", "recipe"), *right("rate", "batch", "seed"))
    rows = [
        (Code(run.name), printed_net(run), printed_scale(run.row.scales), run.row.init, run.row.recipe, *_three(run))
        for run in runs
    ]
    return Table(columns, tuple(rows))


def _three(run: ExplainedRun) -> tuple[str, str, str]:
    seed = NONE if run.seed is None else str(run.seed)
    return (printed_value(run.learning_rate), printed_value(run.values.get("batch")), seed)


def printed_net(run: ExplainedRun) -> str:
    return run.row.net if run.row.layers == "all" else f"{run.row.net}, {run.row.layers} only"


def printed_value(value: Any) -> str:
    return NONE if value is None else f"{value:g}" if isinstance(value, float) else f"{value:,}"


def _results(e: Explanation) -> Table:
    """Return what came of each run: its length, its errors, its time and date."""
    counted = right("steps", "epochs", "drops", "error, %", "best, % (epoch)", "time")
    columns = (*left("run"), *counted, *left("started"))
    return Table(columns, tuple(_result(run, e.made.get(train_stage(run.name)) or {}) for run in e.runs))


def _result(run: ExplainedRun, made: Mapping[str, Any]) -> tuple[Text, ...]:
    best = NONE if run.best is None else f"{run.best:.1f} ({run.best_epoch})"
    time = duration(made["seconds"]) if made else NONE
    counts = map(printed_value, (run.steps, run.epochs, run.drops))
    return (Code(run.name), *counts, number(run.error), best, time, made.get("started", NONE)[:10])


def settings_texts(runs: tuple[ExplainedRun, ...]) -> Iterator[Text]:
    """Yield the other parameters, once if all runs share them, and what the errors are of."""
    texts: dict[str, list[str]] = {}
    for run in runs:
        if run.values:
            values = (f"{word} {run.values[key]}" for key, word in SETTINGS.items() if key in run.values)
            texts.setdefault(", ".join(values), []).append(run.name)
    for text, names in texts.items():
        yield f"{'All runs' if len(names) == len(runs) > 1 else ', '.join(names)}: {text}."
    yield "Errors are top-1 on the validation images, at a centre crop, after the last and after the best epoch."


def published_section(e: Explanation) -> Iterator[Block]:
    if e.published:
        yield Heading(2, "Published weights")
        yield Bullets(tuple((Code(run), " is ", *published_net(dict(file))) for run, file in e.published.items()))


def images_section(e: Explanation) -> Page:
    """Return what is known of the images."""
    images, facts = e.images, e.images.facts
    training = f"{facts['train']:,} training, " if facts.get("train") else ""
    known = (
        f"{facts.get('about', images.source)} (source {images.source})",
        f"{training}{images.val:,} validation, {images.classes:,} classes",
        ("manifest, SHA-256: ", Code(images.manifest)),
    )
    others = "Other images are prepared now than those that this number was computed from."
    return (Heading(2, "Images"), Bullets(known), *[Callout(others)] * (images.are_prepared is False))


def _places(e: Explanation) -> Iterator[Block]:
    """Yield the different commits, programs and machines, each with the results that were made there."""
    places: dict[tuple[Inline, ...], list[str]] = {}
    for stage, made in e.made.items():
        if made:
            places.setdefault(place_text(made), []).append(stage)
    if places:
        yield Heading(2, "Programs and machines")
        yield Bullets(tuple((*text, f": {', '.join(stages)}") for text, stages in places.items()))


def place_text(made: Mapping[str, Any]) -> tuple[Inline, ...]:
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    decoder = f"; images decoded by {made['decoder']}" if "decoder" in made else ""
    return (
        "commit ",
        Code(made["commit"]),
        f"; Python {made['python']}, {versions}; {made['machine']}; {made['device']}{decoder}",
    )


def _changes(e: Explanation) -> Iterator[Block]:
    changes = tuple(changes_texts(e))
    if not changes:
        return
    yield Heading(2, "Changed since")
    if changes == (NOTHING,):
        yield Paragraph(NOTHING)
        return
    yield Bullets(changes)
    yield Paragraph(UP_TO_DATE)


def changes_texts(e: Explanation) -> Iterator[Text]:
    """Yield each stage that is older than params.yaml, with the reason, or that none is; nothing if that is unknown."""
    if e.outdated is None or not (e.outdated or e.recorded):
        return
    older = bool(e.of_set) or is_older(e.stage, [score.stage for score in e.scores], e.outdated)
    changed = {stage: why for stage, why in e.outdated.items() if older or stage != e.stage}  # else: by another row
    yield from ((Code(stage), f": {why.removeprefix(f'{stage}: ')}") for stage, why in changed.items())
    if not changed:
        yield NOTHING


def _unknown(e: Explanation, kept: str) -> Iterator[Block]:
    items = tuple(gaps(e, kept))
    if items:
        yield Heading(2, "Not known here")
        yield Bullets(items)


def gaps(e: Explanation, kept: str) -> Iterator[Text]:
    """Yield what is not known here. `kept` is the path of a page that has the provenance, if there is one."""
    for name in dict.fromkeys(chain[0] for run, chain in e.chains.items() if run not in e.published):
        if not name.startswith(RANDOM):
            yield (
                "what ",
                Code(name),
                " started from: there is no summary of it here, and params.yaml does not have it",
            )
    unrecorded = [run.name for run in e.runs if not run.missing and "batch" not in run.values]
    if unrecorded:
        yield (
            f"DVC's record of the training of {', '.join(unrecorded)} is not here. So batch, momentum and the other "
            "parameters are unknown, and whether each run started from the weights that the run before it has now",
        )
    if e.outdated is None:
        yield f"what has changed since: profile {e.profile} is not active"
    elif not e.recorded:
        yield f"all that has changed since: dvc.lock does not hold this {'table' if e.row.seed is None else 'result'}"
    lacking = [stage for stage, made in e.made.items() if not made]
    if lacking:
        where = (" ", Code(kept), " has commit, machine and time.") if kept else ()
        which = "all these results" if len(lacking) == len(e.made) else ", ".join(lacking)
        yield (f"commit, machine, time and date of {which}: not recorded here.", *where)
