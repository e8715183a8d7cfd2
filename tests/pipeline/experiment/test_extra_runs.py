"""The rows of runs that a profile adds to the grid, dvc.yaml's stages of them, and what params.yaml may not have."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.errors import UsageError
from pipeline.experiment import paper_tables, targets
from pipeline.experiment.extra_runs import extra_rows, outdated_rows
from pipeline.experiment.modes import MODES, runs_of
from pipeline.experiment.params import Initialisation, Params
from pipeline.experiment.params_file import activate, locate
from pipeline.experiment.paths import errors, errors_of, history, posteriors, summary, weights
from pipeline.experiment.run_names import KINDS, score_stage, train_stage, work_of
from pipeline.experiment.validation import load
from pipeline.orchestration.heartbeat import asked
from tests.support import ROOT
from tests.support.extra import INITIAL, SEEDS, params_with, text_with

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.fixture
def params(tmp_path: Path) -> Params:
    """Parameters with three seeds and section 3.1's initialisations."""
    return params_with(tmp_path, **SEEDS, **INITIAL)


def test_by_default_a_profile_adds_nothing() -> None:
    params = load(ROOT / "params.yaml")
    assert not any(extra_rows(params).model_dump().values())
    assert params.active.every_seed == [11]
    assert params.for_run("D-384") is params and params.all_runs == params.runs


def test_a_seed_is_a_whole_chain_of_its_own(params: Params) -> None:
    runs = params.extra.runs
    for seed in (1, 2):
        names = [f"{name}-seed{seed}" for name in ("D-jitter", "D-384", "D-256", "A-256")]
        assert [runs[name].init for name in names] == [*names[1:], f"random-A-seed{seed}"]
        assert {runs[name].seed for name in names} == {seed}
        assert params.extra.random[f"A-seed{seed}"].seed == seed
    for name in SEEDS["seed_runs"]:
        same = {"init", "seed", "initialisation"}
        assert runs[f"{name}-seed2"].model_dump(exclude=same) == params.runs[name].model_dump(exclude=same)
    assert not any(name.endswith("-seed0") for name in runs), "the first seed's runs are the grid's"


def test_further_seeds_are_scored_as_the_grid_is(params: Params) -> None:
    for mode in MODES:
        grid = [f"{name}-seed{seed}" for seed in (1, 2) for name in runs_of(params, mode) if name in SEEDS["seed_runs"]]
        assert [name for name, kind in getattr(params.extra, mode).items() if kind == "seeds"] == grid


def test_the_initialisations_are_section_3_1s(params: Params) -> None:
    runs = {name: row for name, row in params.extra.runs.items() if row.initialisation}
    assert list(runs) == ["A-normal", "A-glorot", "D-normal", "D-normal-from-A", "D-glorot"]
    normal = Initialisation(init="normal", std=0.01, last_std=None, input_scale=1.0)
    for name, row in runs.items():
        assert row.initialisation == normal.model_copy(update={"init": "glorot" if "glorot" in name else "normal"})
        from_a = name.endswith("from-A")
        assert (row.init, row.recipe) == (("A-normal", "warm") if from_a else (f"random-{name}", "scratch"))
        assert (row.scales, row.seed, params.extra.centre[name]) == ((256, 256), 0, "initialisation")
    assert [row.key for row in paper_tables.rows("initialisation", params)] == [
        "A, normal", "A, Glorot", "D, normal", "D, A's layers, others normal", "D, Glorot",
    ]  # fmt: skip
    assert [row.runs[0] for row in paper_tables.rows("initialisation", params)] == list(runs)


def test_a_run_has_its_own_seed_and_initial_weights_and_all_else_of_the_profile(params: Params) -> None:
    seed, normal = params.for_run("D-384-seed2"), params.for_run("D-normal")
    assert (seed.active.training.seed, normal.active.training.seed) == (2, 0)
    assert seed.active.net == params.active.net
    assert seed.active.training.model_copy(update={"seed": 0}) == params.active.training
    assert (normal.active.net.init, normal.active.net.std, normal.active.net.last_std) == ("normal", 0.01, None)
    assert normal.active.net.input_scale == 1.0 and normal.active.net.width_ratio == params.active.net.width_ratio
    assert params.for_random("A-seed1")[1] == "A" and params.for_random("A-seed1")[0].active.training.seed == 1
    assert params.for_random("D-glorot")[0].active.net.init == "glorot"
    assert params.for_random("A") == (params, "A")


def test_runs_that_differ_have_checkpoints_of_their_own(params: Params) -> None:
    assert len({asked(params, name) for name in params.all_runs}) == len(params.all_runs)
    once = params.model_copy(update={"extra": extra_rows(load(ROOT / "params.yaml"))})
    assert [asked(params, name) for name in params.runs] == [asked(once, name) for name in params.runs]


def test_an_added_run_is_trained_here_also_where_published_nets_are_scored(params: Params) -> None:
    published = params.model_copy(update={"weights": "published"})
    assert published.for_run("D-384-seed1").weights == "trained"
    assert targets.stage_of(published, "D-384-seed1") == "extra-train@D-384-seed1"
    with pytest.raises(UsageError, match="D-384-seed1 is not a run of the grid"):
        targets.check_imported(published, "D-384-seed1")
    assert not any(run in params.extra.runs for run, _ in targets.scored(published))


# dvc.yaml


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """DVC's view of dvc.yaml with three seeds and the initialisations."""
    from dvc.repo import Repo

    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "params.yaml").write_text(text_with(**SEEDS, **INITIAL))
    activate("mini", "trained")
    Repo.init(no_scm=True).close()
    with Repo() as repo:
        yield repo


def test_each_row_is_a_stage_with_the_paths_that_the_program_uses(repository: Any) -> None:
    params, stages = load(), {stage.addressing: stage for stage in repository.index.stages}
    assert set(targets.stages(params)) == set(stages)
    for name, row in params.extra.runs.items():
        stage = stages[train_stage(name)]
        assert {out.def_path for out in stage.outs} == {str(f(name)) for f in (weights, summary, history)}
        assert str(weights(row.init)) in {dep.def_path for dep in stage.deps}
    for mode in MODES:
        for name in getattr(params.extra, mode):
            stage = stages[score_stage(name, mode)]
            assert {out.def_path for out in stage.outs} == {str(posteriors(name, mode)), str(errors(name, mode))}
            assert str(weights(name)) in {dep.def_path for dep in stage.deps}
            assert errors_of(stage.addressing) == errors(name, mode) and work_of(stage.addressing) == (mode, name)


def test_seeds_and_initialisation_need_their_runs_and_not_each_others(repository: Any) -> None:
    from dvc.repo.reproduce import collect_stages, plan_repro

    def needed(target: str) -> set[str]:
        graph = repository.index.graph
        return {stage.addressing for stage in plan_repro(graph, collect_stages(repository, [target]))}

    params = load()
    trained = {kind: {run for mode in MODES for run, why in getattr(params.extra, mode).items() if why == kind}
               for kind in KINDS}  # fmt: skip
    assert trained["seeds"] and trained["initialisation"]
    for kind, other in (KINDS, KINDS[::-1]):
        stages = needed(kind)
        assert {train_stage(run) for run in trained[kind]} <= stages
        assert not {train_stage(run) for run in trained[other]} & stages
    assert "train@D-384" not in needed("initialisation")
    assert {"table3", "table7", "shallow", "dense@D-384"} <= needed("seeds")
    assert not any(stage.startswith("extra") for stage in needed("table3"))


@pytest.mark.parametrize("work", ["random", "train", *MODES])
def test_an_added_stage_depends_on_what_the_grids_does(work: str) -> None:
    """The row takes the run's place, and the row's seed that of the profile."""
    own, grid = STAGES[f"extra-{work}"]["do"], STAGES[work]["do"]
    row = f"extra.{'random' if work == 'random' else 'runs'}.${{key}}"
    wanted = {key.replace("${item}", "${key}") for key in grid["params"]} - {"runs.${key}"}
    assert set(own["params"]) == wanted - {"profiles.${profile}.train.seed"} | {row}
    assert own["cmd"] == grid["cmd"].replace("${item}", "${key}")


# what params.yaml may not have


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"seeds": [1, 0], "seed_runs": ["A-256"]}, "profiles.mini.seeds is [1, 0]: the first must be 0"),
        ({"seeds": [0, 1, 1], "seed_runs": ["A-256"]}, "each seed may be there once"),
        ({"seeds": [0, 1]}, "profiles.mini.seed_runs does not say which runs are repeated"),
        ({"seeds": [0, 1], "seed_runs": ["A-265"]}, "unknown run A-265. Did you mean A-256"),
        ({"seeds": [0, 1], "seed_runs": ["D-384", "A-256"]}, "has D-384 without D-256, from which it starts"),
        ({"initialisation": {**INITIAL["initialisation"], "nets": ["D"]}}, "initialisation.nets must have A"),
        ({"initialisation": {**INITIAL["initialisation"], "nts": ["D"]}}, "Did you mean nets"),
    ],
)
def test_impossible_seeds_and_initialisations_are_refused(keys: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text_with(**keys))
    for check in (load, lambda path: activate("mini", "trained", path)):
        with pytest.raises(UsageError) as caught:
            check(path)
        assert words in str(caught.value)


@pytest.mark.parametrize("name", ["D-384-seed1", "D-normal", "X-normal-from-A", "D-glorot"])
def test_the_grid_has_no_names_of_added_runs(name: str, tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["runs"][name] = values["runs"]["D-384"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UsageError, match=rf"runs\.{name}: names that end in -seedN, -normal"):
        load(tmp_path / "params.yaml")


def test_another_profiles_seeds_do_not_matter(tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["profiles"]["paper"] |= {"seeds": [5, 6], "seed_runs": ["D-384"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    assert load(tmp_path / "params.yaml").active.every_seed == [11]


def test_rows_that_are_missing_different_or_not_needed_are_named_with_the_fix(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text_with(seeds=[0, 1], seed_runs=["A-256"]))
    with pytest.raises(UsageError, match=r"missing: random.A-seed1, runs.A-256-seed1, dense.A-256-seed1\).*prepare"):
        load(path)
    activate("mini", "trained", path)
    load(path)
    rows = yaml.safe_load(path.read_text())
    rows["runs"]["A-256"]["scale"] = 288  # as `dvc exp run -S` does, and somebody's editor
    path.write_text(yaml.safe_dump(rows))
    with pytest.raises(UsageError, match=r"different: runs.A-256-seed1\). To write .*prepare --profile mini"):
        load(path)
    del rows["profiles"]["mini"]["seeds"]
    path.write_text(yaml.safe_dump(rows))
    with pytest.raises(UsageError, match=r"not needed: random.A-seed1"):
        load(path)
    params = load(path, extra=False)
    assert outdated_rows(params) and not outdated_rows(params.model_copy(update={"extra": extra_rows(params)}))


def test_the_claims_need_table_8_only_where_images_have_boxes(tmp_path: Path) -> None:
    """Otherwise `vgg-repro run` would train localisers before it tests the claims; until it is set, it leaves them."""
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    assert load(path).located == "table8"
    values = yaml.safe_load(path.read_text())
    values["profiles"]["mini"]["data"]["source"] = "imagefolder"
    path.write_text(yaml.safe_dump(values))
    assert "claims" not in targets.everything(load(path))
    assert locate(path) == load(path).located == "table3" and not locate(path)
    assert "claims" in targets.everything(load(path))
    activate("paper", "trained", path)
    assert load(path).located == "table8"
    activate("imagenette", "trained", path)
    assert load(path).located == "table3"


def test_a_run_that_is_renamed_is_asked_for_in_seed_runs(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text_with(seeds=[0, 1], seed_runs=["A-LRN-256"]))
    activate("mini", "trained", path)
    path.write_text(path.read_text().replace("  A-LRN-256:", "  A-LRN-256b:", 1))
    with pytest.raises(UsageError, match=r"seed_runs: unknown run A-LRN-256. Did you mean A-LRN-256b"):
        load(path)


# the command that writes them


def test_rows_come_and_go_and_the_file_is_otherwise_the_same(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    block = "    seeds: [11, 12] # of the runs below\n    seed_runs: [A-256, D-256]\n"
    text = path.read_text().replace("    score: # section 3.2\n", f"{block}    score: # section 3.2\n", 1)
    path.write_text(text)
    rows = activate("mini", "trained", path)
    assert list(rows.runs) == ["A-256-seed12", "D-256-seed12"]
    assert load(path).extra == rows
    lines = path.read_text().splitlines()
    assert "    D-256-seed12: {net: D, scale: 256, init: A-256-seed12, recipe: warm, seed: 12}" in lines
    written = path.read_bytes()
    assert activate("mini", "trained", path) == rows and path.read_bytes() == written
    activate("paper", "trained", path)
    without_sets, _, rest = text.replace("profile: mini", "profile: paper", 1).partition("\ndatasets:")
    below = rest.partition("\n\n")[2]
    assert path.read_text() == f"{without_sets}\ndatasets: {{}}\n\n{below}"
    activate("mini", "trained", path)
    assert path.read_bytes() == written
