"""The runs that a profile adds to the grid: further seeds, and section 3.1's initialisations.

DVC cannot cross a mapping with a list and keep its fields, so the block `extra` of params.yaml holds them as rows. The
command that activates a profile writes them (cli/prepare.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.experiment.modes import MODES, runs_of
from pipeline.experiment.params import RANDOM, Extra, ExtraRun, ExtraWeights, Params
from pipeline.experiment.run_names import FROM_A, GLOROT, INITIALISATIONS, NORMAL, Kind, initialised, seeded

S = 256  # of the runs with other initial weights, in the paper's pixels; section 4.1 compares A to E at it
NAMED = 3  # at most this many rows are named in a message


def extra_rows(params: Params) -> Extra:
    """Return the rows of `extra` that the active profile needs."""
    runs = dict([*_seed_runs(params), *_initialisation_runs(params)])
    drawn = {run.init.removeprefix(RANDOM): run for run in runs.values() if run.init.startswith(RANDOM)}
    random = {
        name: ExtraWeights(net=run.net, seed=run.seed, initialisation=run.initialisation) for name, run in drawn.items()
    }
    return Extra(random=random, runs=runs, **{mode: dict(_scored(params, mode)) for mode in MODES})


def _seed_runs(params: Params) -> Iterator[tuple[str, ExtraRun]]:
    """Yield the runs of further seeds, each of which starts from weights of its own seed."""
    for name, seed in _repeated(params):
        row = params.runs[name]
        values = row.model_dump() | {"init": seeded(row.init, seed), "seed": seed}
        yield seeded(name, seed), ExtraRun.model_validate(values)


def _repeated(params: Params) -> Iterator[tuple[str, int]]:
    """Yield each run of the grid that is repeated, with each of its further seeds, in the grid's order."""
    profile = params.active
    for seed in profile.seeds[1:]:
        yield from ((name, seed) for name in params.runs if name in profile.seed_runs)


def _initialisation_runs(params: Params) -> Iterator[tuple[str, ExtraRun]]:
    """Yield the runs that show what initial weights do (section 3.1), none of them at S other than 256."""
    block = params.active.initialisation
    if block is None:
        return
    values = {"std": block.std, "last_std": None, "input_scale": block.input_scale}
    weights = {kind: {"init": "glorot" if kind == GLOROT else "normal", **values} for kind in INITIALISATIONS}
    for net, kind in initialised(block.nets):
        init, recipe = (f"A-{NORMAL}", "warm") if kind == FROM_A else (f"{RANDOM}{net}-{kind}", "scratch")
        row = {"net": net, "scale": S, "init": init, "recipe": recipe, "initialisation": weights[kind]}
        yield f"{net}-{kind}", ExtraRun.model_validate(row | {"seed": params.active.training.seed})


def _scored(params: Params, mode: str) -> Iterator[tuple[str, Kind]]:
    """Yield the added runs that are scored in a mode: seeds like the grid's runs, initialisations at a centre crop."""
    scored = runs_of(params, mode)
    yield from ((seeded(name, seed), "seeds") for name, seed in _repeated(params) if name in scored)
    if mode == "centre":
        yield from ((name, "initialisation") for name, _ in _initialisation_runs(params))


def outdated_rows(params: Params) -> str:
    """Return how the rows of `extra` differ from those that the active profile needs, and the fix; empty if equal."""
    wanted, present = _flat(extra_rows(params)), _flat(params.extra)
    names = {
        "missing": [row for row in wanted if row not in present],
        "different": [row for row in wanted if row in present and wanted[row] != present[row]],
        "not needed": [row for row in present if row not in wanted],
    }
    differences = "; ".join(f"{what}: {_listed(rows)}" for what, rows in names.items() if rows)
    if not differences:
        return ""
    return (
        f"extra does not have the rows that profile {params.profile} needs ({differences}). "
        f"To write them: vgg-repro prepare --profile {params.profile}. If this is an experiment of DVC, make its "
        "change of the grid, the seeds or the profile in params.yaml first, and then write the rows"
    )


def _flat(extra: Extra) -> dict[str, object]:
    blocks = extra.model_dump()
    return {f"{block}.{name}": row for block, rows in blocks.items() for name, row in rows.items()}


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def as_values(extra: Extra) -> dict[str, dict[str, object]]:
    """Return the rows as plain values, without what is not set."""
    values: dict[str, dict[str, object]] = extra.model_dump(mode="json", exclude_defaults=True)
    return values
