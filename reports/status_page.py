"""The state of the grid, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.experiment.paper_tables import number_of
from pipeline.experiment.run_names import kind_of, train_stage, work_of
from pipeline.orchestration.status import EVALUATIONS, RunStatus, Status
from pipeline.system.progress import duration, gigabytes
from reports.page import Paragraph, Preformatted, Table, left
from reports.phrases import NONE
from reports.terminal import TerminalBlock

WORDS = {
    "done": "done",
    "committed": "as committed, not computed here",
    "part": "partial",
    "cached": "in the cache",
    "run": "to do",
}


def status_page(status: Status, jobs: Mapping[str, str]) -> tuple[TerminalBlock, ...]:
    """Return the data, one row per run, the further seeds, the tables, and the checkpoints that are no longer used.

    `jobs` has the state of each job on a cluster, by stage.
    """
    whose = "training" if status.weights == "trained" else "weights"
    states = _by_run(jobs)
    of_run = {run.name: states.pop(run.name) for run in status.runs if run.name in states}
    columns = left("run", whose, *EVALUATIONS, "in tables", *["job"] * bool(of_run))
    shown = [run for run in status.runs if kind_of(run.name) != "seeds" or run.name in of_run]
    rows = (
        (run.name, _state(run), *_scores(run), _tables(run), *[of_run.get(run.name, NONE)] * bool(of_run))
        for run in shown
    )
    seeds = _seeds([run for run in status.runs if run not in shown])
    rest = (Paragraph(f"{work}: {state}") for work, state in states.items())  # such as prepare: no run has a row for it
    notes = (*rest, *_not_learning(status), Paragraph(_done(status)), *_old(status))
    return (Paragraph(_head(status)), Table(columns, tuple(rows)), *seeds, *notes)


def _by_run(jobs: Mapping[str, str]) -> dict[str, str]:
    """Return the states of the jobs of each run, with the work if that is not its training, and of other stages."""
    states: dict[str, list[str]] = {}
    for stage, state in jobs.items():
        work, name = work_of(stage)
        states.setdefault(name or work, []).append(state if stage in (train_stage(name), work) else f"{work}: {state}")
    return {name: "; ".join(of_run) for name, of_run in states.items()}


def _seeds(runs: Sequence[RunStatus]) -> Iterator[Table]:
    """Yield a table of the runs of further seeds, one row per run of the grid and one column per seed."""
    states: dict[str, dict[str, str]] = {}
    for run in runs:
        name, _, seed = run.name.rpartition("-seed")
        scored = [score for score in run.scores.values() if score != "to do"]
        done = "scored" if len(scored) == len(run.scores) else "partly scored" if scored else ""
        states.setdefault(seed, {})[name] = f"{_state(run)}, {done}" if done else _state(run)
    if states:
        names = dict.fromkeys(name for of_seed in states.values() for name in of_seed)
        rows = ((name, *(of_seed.get(name, NONE) for of_seed in states.values())) for name in names)
        yield Table(left("run", *(f"seed {seed}" for seed in states)), tuple(rows))


def _head(status: Status) -> str:
    if status.preparing:
        return f"Profile {status.profile}: being prepared by {status.preparing.rstrip(',')}."
    if status.facts is None:
        return f"Profile {status.profile}: nothing is prepared yet (vgg-repro prepare)."
    facts = status.facts
    training = f"{facts.train:,} training and " if facts.train else ""
    counts = f"{training}{facts.val:,} validation images of {len(facts.classes)} classes"
    state = "prepared" if status.prepared else "to be prepared again: vgg-repro plan shows why"
    return f"Profile {status.profile}: {facts.source}, {counts}, {state}."


def _state(run: RunStatus) -> str:
    if run.state == "trained":
        return ("trained" if run.error is None else f"trained, error {run.error:.1f} %") + _stalled(run)
    if run.state in ("training", "stopped") and run.running:
        return _running(run)
    words = {
        "cached": "in the cache",
        "waits": f"waits for {run.after}",
        "published": "published weights",
        "to import": "published weights, not imported yet",
        "no net": NONE,
    }
    return words.get(run.state, "ready")


def _running(run: RunStatus) -> str:
    assert run.running is not None
    progress = run.running
    error = f", error {progress.top1:.1f} %" if progress.top1 is not None else ""
    epoch = min(progress.epoch + 1, progress.epochs)
    if run.state == "stopped":
        return f"stopped in epoch {epoch} of {progress.epochs}{error}; resumes from its checkpoint"
    loss = f", loss {progress.loss:.3f}" if progress.loss is not None else ""
    remaining = f", at most {duration(progress.left)} left" if progress.left is not None else ""
    return f"epoch {epoch} of {progress.epochs}{error}{loss}{_stalled(run)}{remaining}"


def _stalled(run: RunStatus) -> str:
    return ", does not learn" if run.stalled else ""


def _not_learning(status: Status) -> Iterator[Paragraph]:
    """Yield a paragraph on the runs that have stalled, and on those that start from them."""
    if not status.from_stalled:
        return
    runs = "; ".join(
        f"{run} ({', '.join(others)} start{'s' * (len(others) == 1)} from it)" if others else run
        for run, others in status.from_stalled.items()
    )
    yield Paragraph(f"The loss of these runs stays at that of a blind guess, so their nets do not learn: {runs}.")


def _scores(run: RunStatus) -> Iterator[str]:
    for evaluation in EVALUATIONS:
        error = run.scores.get(evaluation, "")
        yield f"{error:.1f} %" if isinstance(error, float) else NONE if error == "to do" else error


def _tables(run: RunStatus) -> str:
    return " ".join(number_of(name) for name in run.tables) or NONE


def _done(status: Status) -> str:
    listed = {word: [number_of(name) for name, what in status.tables.items() if what == key]
              for key, word in WORDS.items()}  # fmt: skip
    tables = "; ".join(f"{word} {', '.join(names)}" for word, names in listed.items() if names)
    return f"Tables: {tables}." + f" The paper's claims: {WORDS.get(status.claims)}." * bool(status.claims)


def _old(status: Status) -> list[TerminalBlock]:
    if not status.old:
        return []
    listed = [f"- {checkpoint.folder} ({gigabytes(checkpoint.size)})" for checkpoint in status.old]
    head = "Checkpoints of other parameters or data, which may be deleted unless you set those back:"
    return [Preformatted("\n".join([head, *listed]))]
