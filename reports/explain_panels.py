"""The panels of the HTML report: the explanation of each number of ours, and once each what several of them share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.experiment.modes import PROTOCOLS
from pipeline.experiment.paper_tables import NO_DATA, number_of, printed_scale
from pipeline.experiment.params import Params
from pipeline.experiment.run_names import train_stage
from pipeline.results.explanation import ExplainedRun, ExplainedScore, Explanation, Files, Measure, explain
from pipeline.results.profile_results import Results
from pipeline.results.row_choice import choosing_words, is_ours, row_names
from pipeline.results.set_explanation import explain_set
from reports.explain_page import (
    DIGITS,
    combination,
    drawn_text,
    gaps,
    images_section,
    made_again,
    place_text,
    printed_net,
    printed_value,
    published_section,
    settings_texts,
)
from reports.page import Bullets, Code, Heading, Judged, Opener, Page, Paragraph, Text
from reports.page_parts import row_panel, run_panel
from reports.panel_parts import Panel, Places, chain_facts, facts_table, last_facts, made_text
from reports.phrases import NONE, interval, mean_and_std, number, table_label
from reports.set_panels import ExplainedNumber, set_panels
from vgg.judgement import Verdict

IMAGES = "images-explained"
PLACE = "Program and machine"


def explain_panels(results: Results, params: Params, outdated: Mapping[str, str] | None) -> list[Panel]:
    """Return the panels of all numbers of ours in the tables, then those of their scores, runs, images and programs.

    `outdated` has the stages that are older than params.yaml, each with the reason; None if the profile is not active.
    """
    explained = list(_explanations(results, params, outdated))
    of_sets = list(_of_other_sets(results, params, outdated))
    explanations = [e for e, _ in explained]
    every = [*explanations, *(number.explanation for number in of_sets)]
    places = _places(every)
    return [
        *(_of_number(e, command, places) for e, command in explained),
        *_of_scores(explanations, places),
        *set_panels(of_sets, places),
        *_of_runs(every, places),
        *[Panel(IMAGES, "Images", (Heading(1, "Images"), *images_section(e)[1:])) for e in explanations[:1]],
        *(Panel(name, PLACE, (Heading(1, PLACE), Paragraph(text))) for text, name in places.items()),
    ]


def _explanations(
    results: Results, params: Params, outdated: Mapping[str, str] | None
) -> Iterator[tuple[Explanation, str]]:
    """Yield the explanation of each row that is run, with the command that prints it."""
    files = Files(results.profile)
    for name, values in results.tables.items():
        rows = [] if name in NO_DATA else row_names(values, results.seeds)
        command = _command(results, name, outdated)
        for row in rows:
            e = explain(params, files, values, results.seeds, row, outdated) if row.runs else None
            if e and e.measures[0].ours:
                yield e, f"{command} {choosing_words(row, rows, values['seed'])}"


def _command(results: Results, table: str, outdated: Mapping[str, str] | None) -> str:
    """Return the command that explains a row of a table, without the words that choose the row."""
    option = "" if outdated is not None else f" --profile {results.profile}"
    return f"vgg-repro explain{option} {number_of(table)}"


def _of_other_sets(results: Results, params: Params, outdated: Mapping[str, str] | None) -> Iterator[ExplainedNumber]:
    """Yield the explanation of each number of ours in Tables 11 and 12."""
    files = Files(results.profile)
    for name, values in results.other_sets.items():
        rows = [row for row in row_names(values, {}) if is_ours(row)]
        for row in rows:
            e = explain_set(params, files, values, row, outdated)
            if e.of_set and e.of_set.ours:
                words = choosing_words(row, rows, None)
                yield ExplainedNumber(e, e.of_set, f"{_command(results, name, outdated)} {words}")


def _places(explanations: Iterable[Explanation]) -> Places:
    made = [record for e in explanations for record in e.made.values() if record]
    texts = dict.fromkeys(place_text(record) for record in made)
    return {text: f"program-{count}" for count, text in enumerate(texts, 1)}


def _of_number(e: Explanation, command: str, places: Places) -> Panel:
    title, unknown = f"{table_label(e.table)}, row {e.row.name}", tuple(gaps(e, ""))
    facts = facts_table(_number_facts(e, command, places))
    page: Page = (Heading(1, title), facts, *made_again(e), *published_section(e))
    below: Page = (Heading(2, "Not known here"), Bullets(unknown)) if unknown else ()
    return Panel(row_panel(e.table, e.row), title, (*page, *below))


def _number_facts(e: Explanation, command: str, places: Places) -> Iterator[tuple[str, Text]]:
    """Yield the errors and, of what they were computed from, what this number does not share, and openers."""
    yield from ((f"top-{measure.k} error, %", _measure(measure, e.comparable)) for measure in e.measures)
    yield "computed from", combination(e)
    for score in e.scores:
        yield "score", (Opener(score.stage, _score_panel(score)), f", Q = {' '.join(map(str, score.scales))}")
    yield from chain_facts(e)
    yield "images", Opener(f"{e.images.val:,} validation images, {e.images.classes:,} classes", IMAGES)
    yield from last_facts(e, command, places)


def _measure(m: Measure, comparable: bool) -> Text:
    ours, judged = dict(m.ours or {}), m.judged
    text = f"{interval(ours)}: {ours['wrong']:,} of {ours['images']:,} images are wrong"
    if m.spread and m.spread["std"] is not None:
        text += f"; over seeds: {mean_and_std(dict(m.spread))}"
    if m.paper is None:
        return text
    text += f"; the paper: {number(m.paper)}"
    if not comparable:
        return (f"{text}, ", Judged(Verdict.NOT_COMPARABLE))
    if not judged:  # rows of further seeds
        return text
    text += f", ours − paper: {judged['difference']:+.1f} ({judged['low']:+.1f} to {judged['high']:+.1f}), "
    return (text, Judged(Verdict(judged["verdict"])))


def _score_panel(score: ExplainedScore) -> str:
    return f"score-{score.mode}-{score.run}"


def _of_scores(explanations: Sequence[Explanation], places: Places) -> Iterator[Panel]:
    """Yield each score's panel once, with all Q of the tables."""
    scores = {score.stage: (score, e.made.get(score.stage)) for e in explanations for score in e.scores}
    errors: dict[str, dict[str, Any]] = {stage: {} for stage in scores}
    for score in (score for e in explanations for score in e.scores):
        errors[score.stage] |= score.errors
    for stage, (score, made) in scores.items():
        facts = facts_table(_score_facts(replace(score, errors=errors[stage]), made, places))
        yield Panel(_score_panel(score), f"Score {stage}", (Heading(1, f"Score {stage}"), facts))


def _score_facts(score: ExplainedScore, made: Mapping[str, Any] | None, places: Places) -> Iterator[tuple[str, Text]]:
    yield "network", Opener(score.run, run_panel(score.run))
    yield "evaluation", PROTOCOLS[score.mode]
    for scale, error in sorted(score.errors.items()):
        yield f"top-1 error at Q = {scale}, %", number(error["top1"])
    yield "precision", score.precision or NONE
    yield "posteriors, SHA-256", Code(score.posteriors[:DIGITS]) if score.posteriors else NONE
    yield "computed", made_text(made, places)


def _of_runs(explanations: Sequence[Explanation], places: Places) -> Iterator[Panel]:
    """Yield each run's panel once, and that of each random initialisation."""
    runs = {run.name: (run, e.made.get(train_stage(run.name))) for e in explanations for run in e.runs}
    for name, (run, made) in runs.items():
        title = f"Run {name}"
        texts = (Paragraph(text) for text in settings_texts((run,)))
        yield Panel(run_panel(name), title, (Heading(1, title), facts_table(_run_facts(run, made, places)), *texts))
    firsts = {first.name: first for e in explanations for first in e.first}
    for name, first in firsts.items():
        title = f"Initial weights {name}"
        yield Panel(run_panel(name), title, (Heading(1, title), Paragraph(drawn_text(first))))


def _run_facts(run: ExplainedRun, made: Mapping[str, Any] | None, places: Places) -> Iterator[tuple[str, Text]]:
    """Yield a run's parameters and results, each with its name."""
    yield "net", printed_net(run)
    yield "train S", printed_scale(run.row.scales)
    yield "starts from", Opener(run.row.init, run_panel(run.row.init))
    yield "recipe", run.row.recipe
    yield "learning rate", printed_value(run.learning_rate)
    yield "batch", printed_value(run.values.get("batch"))
    yield "seed", NONE if run.seed is None else str(run.seed)
    yield "steps", printed_value(run.steps)
    yield "epochs", printed_value(run.epochs)
    yield "drops of the rate", printed_value(run.drops)
    yield "error, %", number(run.error)
    yield "lowest error, %", NONE if run.best is None else f"{run.best:.1f}, after epoch {run.best_epoch}"
    yield "weights, SHA-256", Code(run.weights[:DIGITS]) if run.weights else NONE
    yield "trained", made_text(made, places)
