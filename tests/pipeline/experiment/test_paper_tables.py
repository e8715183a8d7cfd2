"""The rows of the paper's tables, the runs and scores they need, and dvc.yaml's edges, which say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.errors import UsageError
from pipeline.experiment import paper_tables, targets
from pipeline.experiment.modes import MODES, multi_scales, runs_of, single_scale
from pipeline.experiment.params import BOXED, Import, Params, Run
from pipeline.experiment.paths import CLASSIFICATION, history, posteriors, threshold
from pipeline.experiment.validation import load
from tests.support import ROOT

COUNTS = {
    "table3": 12, "table4": 10, "table5": 6, "table6": 4, "table7": 15, "table8": 3, "table9": 4, "table10": 4,
}  # fmt: skip  # rows
OF_GRID = ("table3", "table4", "table5", "table6", "table7", "shallow")  # tables of the runs of every profile
OF_BOXES = ("table8", "table9", "table10")
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.fixture(scope="module")
def params() -> Params:
    return load(ROOT / "params.yaml")


@pytest.mark.parametrize("table", [*OF_GRID, *OF_BOXES])
def test_a_tables_stage_depends_on_exactly_the_scores_of_its_rows(table: str, params: Params) -> None:
    needed = {str(posteriors(run, mode)) for row in paper_tables.rows(table, params) for run, mode in row.needs()}
    stated = {dep for dep in STAGES[table]["deps"] if dep.startswith("scores/")}
    assert stated - {str(threshold())} == needed
    assert (str(threshold()) in stated) == (table in ("table9", "table10"))


def test_what_applies_localisers_depends_on_the_scores_that_guess_classes(params: Params) -> None:
    needed = {str(posteriors(*need)) for need in paper_tables.GUESSING.needs()}
    assert {dep for dep in STAGES["windows"]["do"]["deps"] if dep.startswith("scores/")} == needed
    best = max(paper_tables.rows("table6", params), key=lambda row: -(row.paper["top5_val"] or 99))
    assert (best.runs, best.modes) == (paper_tables.GUESSING.runs, paper_tables.GUESSING.modes)


def test_the_threshold_and_the_windows_are_those_of_table_9(params: Params) -> None:
    rows = paper_tables.rows("table9", params)
    needed = {str(posteriors(run, mode)) for row in rows for run, mode in row.needs()}
    assert {dep for dep in STAGES["threshold"]["deps"] if dep.startswith("scores/")} == needed
    scales = {(run, scale) for row in rows for run, q in row.scales.items() for scale in q}
    assert {(name, scale) for name, row in params.windows.items() for scale in row.scales} == scales
    assert all(row.scores == params.localisers[name].run for name, row in params.windows.items())


def test_localisers_start_from_the_papers_net_at_the_s_of_their_name(params: Params) -> None:
    assert not any(paper_tables.other_localisers(params, table) for table in OF_BOXES)


@pytest.mark.parametrize("source", [*BOXED, "imagefolder"])
def test_without_boxes_all_but_localisation_is_run(source: str, params: Params) -> None:
    profile = params.active
    profile = profile.model_copy(update={"data": profile.data.model_copy(update={"source": source})})
    other = params.model_copy(update={"profiles": {**params.profiles, params.profile: profile}})
    other = other.model_copy(update={"located": other.needed_by_claims})
    wanted = targets.everything(other)
    if source in BOXED:
        assert wanted == []
    else:
        others = {stage for stage in targets.stages(params) if not any(name in stage for name in params.localisers)}
        assert set(wanted) == others - {*OF_BOXES, "truth", "threshold", "localisation"}
    assert (set(OF_BOXES) <= set(paper_tables.tables_of(other))) == (source in BOXED)


@pytest.mark.parametrize("table", [name for name in paper_tables.TITLES if name not in paper_tables.NO_ERRORS])
def test_a_tables_stage_depends_on_what_people_read_of_the_images(table: str) -> None:
    assert str(CLASSIFICATION.facts("${profile}")) in STAGES[table]["deps"]


@pytest.mark.parametrize("stage", ["random", "train", *MODES])
def test_what_trains_or_scores_depends_on_the_images_statistics_and_on_no_words(stage: str) -> None:
    deps = STAGES[stage]["do"]["deps"]
    assert str(CLASSIFICATION.statistics) in deps and str(CLASSIFICATION.facts("${profile}")) not in deps
    assert str(CLASSIFICATION.statistics) in STAGES["prepare"]["outs"]


@pytest.mark.parametrize("mode", [mode for mode in MODES if not MODES[mode].every_run])
def test_the_lists_of_scored_runs_are_those_the_tables_need(mode: str, params: Params) -> None:
    rows = [row for table in paper_tables.TITLES for row in paper_tables.rows(table, params)]
    assert set(runs_of(params, mode)) == {run for row in rows for run, needed in row.needs() if needed == mode}


def test_random_weights_are_made_for_exactly_the_runs_that_begin_from_them(params: Params) -> None:
    begun = {run.init.removeprefix("random-") for run in params.runs.values() if run.init.startswith("random-")}
    assert set(STAGES["random"]["foreach"]) == begun


def test_the_graph_has_every_table() -> None:
    assert set(paper_tables.TITLES) <= set(STAGES)


def test_every_row_of_the_printed_tables_is_there(params: Params) -> None:
    assert {table: len(paper_tables.rows(table, params)) for table in COUNTS} == COUNTS


@pytest.mark.parametrize("table", ["table3", "table4", "table5"])
def test_the_printed_test_scales_follow_from_the_runs(table: str, params: Params) -> None:
    for row in paper_tables.rows(table, params):
        run = params.runs[row.runs[0]]
        ours = (single_scale(run),) if row.single else multi_scales(run)
        assert " ".join(map(str, ours)) == row.label["Q"]


def test_test_scales_are_section_4s() -> None:
    fixed = Run(net="D", scale=384, init="D-256", recipe="finetune")
    jittered = Run(net="D", scale=(256, 512), init="D-384", recipe="jitter")
    assert (single_scale(fixed), multi_scales(fixed)) == (384, (352, 384, 416))
    assert (single_scale(jittered), multi_scales(jittered)) == (384, (256, 384, 512))


def test_other_peoples_rows_carry_the_papers_numbers_alone(params: Params) -> None:
    rows = {row.label["entry"]: row for row in paper_tables.rows("table7", params)}
    google = rows["GoogLeNet (Szegedy et al., 2014) (7 nets)"]
    assert (google.runs, google.paper) == ((), {"top1_val": None, "top5_val": None, "top5_test": 6.7})
    assert rows["VGG (2 nets, multi-crop & dense eval.)"].runs == ("D-jitter", "E-jitter")


def test_of_an_unknown_run_only_those_that_are_allowed_are_offered(params: Params) -> None:
    for check in (targets.check_classifier, targets.check_grid_run):
        with pytest.raises(UsageError) as failure:
            check(params, "PCR-X")
        assert "A-LRN-256" in str(failure.value) and not any(name in str(failure.value) for name in params.localisers)
    with pytest.raises(UsageError, match="PCR-256"):
        targets.check_run(params, "X")


def test_wrong_names_are_answered_with_the_nearest_and_all(params: Params) -> None:
    for ask, words in (
        (lambda: targets.check_run(params, "D-348"), "Did you mean D-384"),
        (lambda: targets.check_net("a-lrn"), "Did you mean A-LRN"),
        (lambda: targets.check_mode(params, "dens", "D-384"), "Did you mean dense"),
        (lambda: targets.check_mode(params, "crops", "A-256"), "not in the list `crops`"),
        (lambda: targets.check_mode(params, "dense", "PCR-384"), "for dvc repro: boxes@PCR-384, windows@PCR-384"),
        (lambda: targets.check_mode(params, "boxes", "SCR-384-fc"), "for dvc repro: boxes@SCR-384-fc$"),
        (lambda: targets.check_classifier(params, "PCR-256"), "such as its run D-256"),
        (lambda: targets.check_grid_run(params, "PCR-256"), "is a localiser"),
        (lambda: targets.check_run(params, "PCR-348"), "Did you mean PCR-384"),
        (lambda: targets.stage_of(params, "localiser@PCR-348"), "Did you mean localiser@PCR-384"),
        (lambda: targets.check_table("13"), "the paper has Tables 1 to 12"),
        (
            lambda: targets.check_run(params, "D"),
            r"Runs of net D: D-256 \(S = 256\), .*\(S in 256 to 512\)",
        ),
        (lambda: targets.check_run(params, "A-LRN-384"), r"Runs of net A-LRN: A-LRN-256"),
        (lambda: targets.check_run(params, "D-512"), "Runs of net D"),
        (lambda: targets.stage_of(params, "tabel4"), "Did you mean table4"),
        (lambda: targets.stage_of(params, "D-512"), "Runs of net D"),
        (lambda: targets.stage_of(params, "train@D-348"), "Did you mean train@D-384"),
        (lambda: targets.check_table("shalow"), "Did you mean shallow"),
    ):
        with pytest.raises(UsageError, match=words):
            ask()
    assert [targets.check_table(name) for name in ("4", "table4", "shallow")] == ["table4", "table4", "shallow"]


@pytest.mark.parametrize(("table", "run"), [("table3", "C-384"), ("table6", "D-jitter-fc"), ("shallow", "B-256")])
def test_a_tables_run_is_asked_for_by_name(table: str, run: str, params: Params) -> None:
    """A renamed run would leave its old score behind, which DVC takes for a source file."""
    renamed = {f"{name}ed" if name == run else name: row for name, row in params.runs.items()}
    with pytest.raises(UsageError, match=f"no run {run}.* under this name"):
        paper_tables.rows(table, params.model_copy(update={"runs": renamed}))


def test_another_run_under_a_tables_name_is_refused(params: Params) -> None:
    other = params.runs | {"C-384": params.runs["C-256"]}
    with pytest.raises(UsageError, match=r"runs\.C-384 differs"):
        paper_tables.rows("table3", params.model_copy(update={"runs": other}))


def test_dvcs_charts_have_a_line_for_each_run(params: Params) -> None:
    charts = [chart for plot in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"] if isinstance(plot, dict)
              for chart in plot.values()]  # fmt: skip
    assert len(charts) == 3
    for chart in charts:
        assert [Path(path) for path in chart["y"]] == [history(run) for run in params.runs]
        assert (ROOT / f".dvc/plots/{chart['template']}.json").exists()


def test_what_people_call_a_stage_is_understood(params: Params) -> None:
    called = {"4": "table4", "table4": "table4", "shallow": "shallow", "D-384": "train@D-384", "train": "train",
              "dense@A-256": "dense@A-256", "prepare": "prepare", "random@A-LRN": "random@A-LRN"}  # fmt: skip
    assert {word: targets.stage_of(params, word) for word in called} == called


def test_the_stages_are_dvcs(params: Params) -> None:
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        assert set(targets.stages(params)) == {stage.addressing for stage in repo.index.stages}


def with_published(params: Params, *runs: str) -> Params:
    """The same where published nets are scored, and those of `runs` are there."""
    rows = {run: Import(file="somewhere") for run in runs}
    return params.model_copy(update={"weights": "published", "imports": rows})


def test_published_d_and_e_are_enough_for_table_5_and_for_rows_of_3_4_6_and_7(params: Params) -> None:
    both = with_published(params, "D-jitter", "E-jitter")
    assert [name for name in paper_tables.tables_of(both) if not targets.lacking(name, both)] == [
        "table1",
        "table2",
        "table5",
        "table11",
        "table12",
    ]
    assert targets.in_part(both) == ["table3", "table4", "table6", "table7"]
    assert targets.lacking("table4", both) == [
        "B-256", "C-256", "C-384", "C-jitter", "D-256", "D-384", "E-256", "E-384",
    ]  # fmt: skip
    scores = {f"{mode}@{run}" for mode in ("dense", "crops") for run in ("D-jitter", "E-jitter")}
    scores |= {stage for table in ("table11", "table12") for stage in targets.classifying(table, both)}
    scores |= {f"aggregation@{name}" for name in ("scenes", "few-shot")}
    tables = {"table1", "table2", "table5", "table11", "table12"}
    shown = {"illustrations", *(f"descriptors@{name}" for name in both.datasets)}
    assert set(targets.everything(both)) == {"prepare", *scores, *tables, *shown}
    assert targets.within_reach(["table4", "table5"], both) == ["prepare", "dense@D-jitter", "dense@E-jitter", "table5"]


def test_with_one_net_tables_are_made_of_its_rows_alone(params: Params) -> None:
    published = with_published(params, "E-jitter")
    # no fusion of two, and Table 7's single net
    assert targets.in_part(published) == ["table3", "table4", "table5", "table7", "table11"]
    assert targets.in_part(with_published(params)) == []
    assert targets.everything(with_published(params)) == ["prepare", "table1", "table2"]


def test_where_nets_are_trained_nothing_is_lacking(params: Params) -> None:
    assert params.weights == "trained"
    assert targets.everything(params) == [] and targets.in_part(params) == []
    assert not any(targets.lacking(name, params) for name in paper_tables.TITLES)
    assert targets.within_reach(list(paper_tables.TITLES), params) == list(paper_tables.TITLES)
