"""The plan: images, iterations and arithmetic by hand, what waits for what by brute force, and the command as a person
meets it.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner, Result

from cli.main import app
from pipeline.datasets.sources import open_source
from pipeline.errors import Failure, UsageError
from pipeline.experiment.modes import scales_of
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION
from pipeline.experiment.validation import parse
from pipeline.orchestration.cost_plan import Cost, CostPlan, ImageCounts, count_images
from pipeline.orchestration.cost_plan import plan as planned
from pipeline.orchestration.dvc_graph import StageForecast
from pipeline.orchestration.speed import Speed
from pipeline.system.progress import duration
from reports.plan_page import plan_page, si
from reports.terminal import terminal
from tests.support import ROOT
from tests.support.clones import call, patience, tiny_clone
from vgg.nets import VGG

PROFILES = ("mini", "paper", "imagenette")
# the sources' own counts: training, validation, classes
SOURCES = {"ilsvrc2012": (1_281_167, 50_000, 1000), "imagenette": (9_469, 3_925, 10)}
VIEWS = {"dense": 2, "crops": 50, "centre": 1}
PREFIXES = {prefix: 1000**power for power, prefix in enumerate(["", "k", "M", "G", "T", "P", "E", "Z"])}


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def params_with(profile: str = "mini", **changes: Mapping[str, Any]) -> Params:
    """The repository's parameters with another profile, and keys of its blocks changed."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["profile"] = profile
    for block, keys in changes.items():
        values["profiles"][profile][block].update(keys)
    return parse(yaml.safe_dump(values).encode(), Path("params.yaml"))


def all_run(params: Params) -> list[StageForecast]:
    """Every run and score of the grid, all to be run."""
    scores = [("dense", name) for name in params.runs]
    scores += [("crops", name) for name in params.crops] + [("centre", name) for name in params.centre]
    forecasts = [
        forecast(f"train@{name}", [f"train@{run.init}"] * (run.init in params.runs))
        for name, run in params.runs.items()
    ]
    return forecasts + [forecast(f"{mode}@{name}", [f"train@{name}"]) for mode, name in scores]


def forecast(stage: str, needs: Sequence[str], what: Any = "run") -> StageForecast:
    return StageForecast(stage, frozenset(needs), what, "a test wants it")


@cache
def forward(
    net: str, classes: int, crop: int, width: float, fc: int, height: int, wide: int, ceil: bool = False
) -> int:
    """One image's arithmetic as torch counts it."""
    with FakeTensorMode():  # whose tensors have no numbers; meta tensors do not know autocast
        made = VGG(net, classes, crop, width, fc).eval()
        with FlopCounterMode(display=False) as counter:
            made(torch.zeros(1, 3, height, wide), ceil=ceil)
    return counter.get_total_flops()


def facts(folder: Path, params: Params, train: int, val: int, classes: int, source: str | None = None) -> None:
    """What a preparation would have left."""
    path = folder / CLASSIFICATION.facts(params.profile)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {
        "source": source or params.active.data.source, "about": "", "comparable": False, "rescaled": 0, "mean_rgb": [],
        "covariance": [], "classes": [str(number) for number in range(classes)],
        "train": train, "val": val, "stored": {}, "manifest": "m",
    }  # fmt: skip
    path.write_text(json.dumps(values))


def test_images_iterations_and_arithmetic_of_random_parameters(empty_folder: Path, rng: np.random.Generator) -> None:
    for profile in PROFILES:
        train, val, classes, batch = (
            int(rng.integers(low, high)) for low, high in ((300, 10**6), (1, 10**5), (2, 2000), (1, 300))
        )
        epochs = {name: int(rng.integers(1, 100)) for name in ("scratch", "warm", "finetune", "jitter")}
        net = {"size_ratio": str(Fraction(int(rng.integers(2, 8)), 7)), "width_ratio": f"1/{rng.integers(1, 40)}",
               "fc": int(rng.integers(2, 5000))}  # fmt: skip
        recipes = {name: {"learning_rate": 0.01, "epochs": number} for name, number in epochs.items()}
        params = params_with(profile, net=net, train={"batch": batch}, recipes=recipes)
        facts(empty_folder, params, train, val, classes)
        plan = planned(params, all_run(params))
        size = params.active.net
        crop, shape = size.crop, (classes, size.crop, float(size.width_ratio), size.fc)
        assert (plan.images.train, plan.images.val, plan.images.classes, plan.images.counted) == (
            train,
            val,
            classes,
            True,
        )
        assert [cost.name for cost in plan.training] == list(params.runs)
        for cost in plan.training:
            run = params.runs[cost.name]
            steps = train // batch * epochs[run.recipe]
            once = forward(run.net, *shape, crop, crop)
            fc = fc_flops(run.net, *shape)
            way_back = 2 * (once if run.layers == "all" else fc)
            assert (cost.iterations, cost.images) == (steps, steps * batch), cost
            assert cost.flops == steps * batch * (once + way_back) + epochs[run.recipe] * val * once, cost
        for cost in plan.scoring:
            mode = cost.stage.partition("@")[0]
            scales = scales_of(params.runs[cost.name], mode)
            assert (cost.images, cost.iterations) == (val * len(scales), val * len(scales) * VIEWS[mode]), cost
            if mode != "dense":
                assert cost.flops == cost.iterations * forward(params.runs[cost.name].net, *shape, crop, crop), cost


def fc_flops(net: str, classes: int, crop: int, width: float, fc: int) -> int:
    """Of the three fully connected layers on a crop."""
    last = max(1, round(512 * width))
    return 2 * (last * (crop // 32) ** 2 * fc + fc * fc + fc * classes)


@pytest.mark.parametrize("remainder", ["floor", "ceil", "even"])
def test_dense_scoring_has_the_images_own_shapes(remainder: str, empty_folder: Path, rng: np.random.Generator) -> None:
    """Images twice as long as high cost twice: the shapes are weighed by how many images have them."""
    from pipeline.orchestration import cost_plan as module

    params = params_with("imagenette", score={"remainder": remainder})
    facts(empty_folder, params, 1000, 100, 10)
    counts = rng.integers(1, 50, 3)
    shapes = {1.0: int(counts[0]), 1.47: int(counts[1]), 2.0: int(counts[2])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_shapes", lambda: (shapes, 5))
        plan = planned(params, [forecast("dense@D-384", [])])
    assert plan.images.bytes == 5
    (cost,) = plan.scoring
    ceil = remainder == "ceil"
    wide = lambda q, ratio: round(q * ratio) // 32 * 32 if remainder == "even" else round(q * ratio)
    flops = [2 * 100 * count / sum(shapes.values()) * forward("D", 10, 224, 1.0, 4096, q, wide(q, ratio), ceil)
             for q in (352, 384, 416) for ratio, count in shapes.items()]  # fmt: skip
    assert cost.flops == pytest.approx(sum(flops), rel=1e-9)


@pytest.mark.parametrize("source", SOURCES)
def test_images_are_known_before_anything_is_prepared(
    source: str, empty_folder: Path, rng: np.random.Generator
) -> None:
    train, val, classes = SOURCES[source]
    for limit in (None, int(rng.integers(classes, val)), int(rng.integers(val, train)), 10**8):
        counts = count_images(params_with("imagenette", data={"source": source, "limit": limit}))
        assert (counts.train, counts.val) == (min(train, limit or train), min(val, limit or val))
        assert (counts.classes, counts.counted) == (classes, False)


@pytest.mark.parametrize("source", ["characters", "digits"])
def test_the_images_known_are_those_that_are_drawn(source: str, empty_folder: Path, rng: np.random.Generator) -> None:
    for limit in (None, int(rng.integers(20, 400)), int(rng.integers(455, 1300))):
        params = params_with("mini", data={"source": source, "limit": limit})
        listing = open_source(params.active).listing()
        counts = count_images(params)
        assert (counts.train, counts.val) == (len(listing.entries["train"]), len(listing.entries["val"]))
        assert counts.classes == len(listing.classes)


def test_images_of_another_source_count_for_nothing(empty_folder: Path) -> None:
    params = params_with("mini", data={"source": "imagenette"})
    facts(empty_folder, params, 11, 12, 13, source="digits")
    assert count_images(params).train == 9_469
    facts(empty_folder, params, 11, 12, 13)
    assert count_images(params).train == 11


def test_a_lowered_limit_counts_though_more_are_prepared(empty_folder: Path, rng: np.random.Generator) -> None:
    """Preparation would run again then: the run's images are those that are asked for."""
    limit = int(rng.integers(20, 400))
    params = params_with("mini", data={"limit": limit})
    facts(empty_folder, params, 1343, 454, 10)
    counts = count_images(params)
    assert (counts.train, counts.val) == (limit, limit)
    assert not counts.counted


def test_own_images_that_nobody_has_counted_are_to_be_prepared(empty_folder: Path) -> None:
    params = params_with("mini", data={"source": "imagefolder", "path": "somewhere"})
    with pytest.raises(Failure, match="vgg-repro prepare"):
        planned(params, all_run(params))
    facts(empty_folder, params, 70, 30, 2)
    assert planned(params, all_run(params)).images.train == 70


def test_only_what_would_run_costs(empty_folder: Path, rng: np.random.Generator) -> None:
    params = params_with("paper")
    forecasts = [forecast._replace(what=str(rng.choice(["done", "cached", "run"]))) for forecast in all_run(params)]
    plan = planned(params, forecasts)
    costs = {cost.stage for cost in (*plan.training, *plan.scoring)}
    assert costs == {forecast.stage for forecast in forecasts if forecast.what == "run"}


# What waits for what


def random_plan(rng: np.random.Generator) -> tuple[CostPlan, dict[str, float]]:
    """A plan of few stages that need each other at random, in an order that suits, and times of those that run."""
    forecasts: list[StageForecast] = []
    names: list[str] = []
    for number in range(int(rng.integers(1, 12))):
        kind = str(rng.choice(["train", "dense", "random", "prepare"]))
        needs = [name for name in names if rng.random() < 0.3]
        names.append(f"{kind}@{number}")
        forecasts.append(forecast(names[-1], needs, str(rng.choice(["done", "cached", "run"], p=[0.2, 0.2, 0.6]))))
    costs = {
        kind: [Cost(stage.stage, stage.stage.partition("@")[2], 1, 1, 1, 1, 1, stage.needs)
               for stage in forecasts if stage.what == "run" and stage.stage.startswith(kind)]
        for kind in ("train", "dense")
    }  # fmt: skip
    seconds = {cost.stage: float(rng.integers(0, 50)) for kind in costs.values() for cost in kind}
    images = ImageCounts(1, 1, 1, {1.0: 1}, True, 1, 0)
    return CostPlan("p", forecasts, images, costs["train"], costs["dense"], {"D": 1}), seconds


def paths(forecasts: Sequence[StageForecast]) -> list[list[str]]:
    """All chains of stages, each needing the one before."""
    chains: list[list[str]] = []
    ending: dict[str, list[list[str]]] = {}
    for forecast in forecasts:
        ending[forecast.stage] = [
            [forecast.stage],
            *([*path, forecast.stage] for need in forecast.needs for path in ending[need]),
        ]
        chains += ending[forecast.stage]
    return chains


def test_the_chain_is_the_longest_of_all(rng: np.random.Generator) -> None:
    for _ in range(60):
        plan, seconds = random_plan(rng)
        every = [[name for name in path if name in seconds] for path in paths(plan.forecasts)]
        longest = max(sum(seconds[name] for name in path) for path in every)
        chain = plan.chain(seconds)
        assert chain in every
        assert sum(seconds[name] for name in chain) == longest


def test_waves_are_the_earliest_turns_there_are(rng: np.random.Generator) -> None:
    """A run's turn is the most runs that any chain to it has; those of one turn cannot need each other."""
    for _ in range(60):
        plan, _ = random_plan(rng)
        runs = {cost.stage for cost in plan.training}
        turns = Counter[str]()
        for path in paths(plan.forecasts):
            if path[-1] in runs:
                turns[path[-1]] = max(turns[path[-1]], sum(name in runs for name in path))
        waves = [[f"train@{name}" for name in wave] for wave in plan.waves()]
        assert {name: number for number, wave in enumerate(waves, 1) for name in wave} == dict(turns)
        assert sum(map(len, waves)) == len(runs)
        follow = {(first, later) for path in paths(plan.forecasts) for first, later in combinations(path, 2)}
        assert not any(pair in follow for wave in waves for pair in combinations(wave, 2))


# The text


def table(text: str, first: str) -> list[dict[str, str]]:
    """The rows of the table whose first heading is `first`."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith(f"| {first} ")]
    if not starts:
        return []
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[starts[0] :]]
    end = next((number for number, line in enumerate(lines[starts[0] :]) if not line.startswith("|")), len(cells))
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:end]]


def value(text: str) -> float:
    """What `si` wrote, without its unit."""
    number, prefix = re.fullmatch(r"([\d.e+]+) ?([kMGTPEZ]?)(?:FLOP|B)", text).groups()  # type: ignore[union-attr]
    return float(number) * PREFIXES[prefix]


def seconds_of(text: str) -> int:
    """What `duration` wrote."""
    units = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (d|h|min|s)\b", text))


def test_numbers_with_prefixes_are_right_and_short(rng: np.random.Generator) -> None:
    for _ in range(500):
        number = float(10 ** rng.uniform(0, 23))
        text = si(number, "B")
        assert value(text) == pytest.approx(number, rel=0.0051), number
        assert len(text) <= 8 and "e" not in text, text


@pytest.mark.parametrize("profile", PROFILES)
def test_sums_in_the_text_are_those_of_the_parts(profile: str, empty_folder: Path, rng: np.random.Generator) -> None:
    params = params_with(profile)
    forecasts = [forecast._replace(what=str(rng.choice(["done", "run"], p=[0.3, 0.7]))) for forecast in all_run(params)]
    forecasts[0], forecasts[-1] = forecasts[0]._replace(what="run"), forecasts[-1]._replace(what="run")
    plan = planned(params, forecasts)
    rate = float(rng.uniform(1, 5000))
    speed = Speed(dict.fromkeys(plan.nets, rate * plan.nets["D"]), rate * plan.nets["D"], "A test.")
    times = speed.times(plan, {name: run.net for name, run in params.runs.items()})
    seconds = times.stages
    text = terminal(plan_page(plan, [], times, "The note."))
    rows = {"training": table(text, "to train"), "scoring": table(text, "to score")}
    for name, costs in (("training", plan.training), ("scoring", plan.scoring)):
        assert [row["compute"] for row in rows[name]] == [si(cost.flops, "FLOP") for cost in costs]
        assert [row["time"] for row in rows[name]] == [duration(cost.flops / (rate * plan.nets["D"])) for cost in costs]
        total, time = re.search(rf"^{name} +([^,]*), (.*)$", text, re.M).groups()  # type: ignore[union-attr]
        assert value(total) == pytest.approx(sum(value(row["compute"]) for row in rows[name]), rel=0.011)
        assert time == duration(sum(seconds[cost.stage] for cost in costs))
    assert f"\nsequential   {duration(sum(seconds.values()))}\n" in text
    jobs = {row["job"]: row for row in table(text, "job")}
    assert list(jobs) == [*(cost.name for cost in plan.training), "the longest score"]
    for cost in plan.training:
        hours = seconds[cost.stage] / 3600
        assert jobs[cost.name]["GPU hours"] == f"{hours:,.1f}" and jobs[cost.name]["memory"] != "–"
        assert int(jobs[cost.name]["time limit"].removesuffix(" h")) >= hours
    ways = table(text, "GPUs")
    assert [row["GPUs"] for row in ways] == ["1", "2", "4", "8"]
    assert ways[0]["one network on each"] == ways[0]["one network on all"] == duration(sum(seconds.values()))
    chain = plan.chain(seconds)
    assert f"\nin parallel  at least {duration(sum(seconds[name] for name in chain))}: {', '.join(chain)}" in text
    weights = sum(cost.disk for cost in plan.training)
    assert f"{si(weights, 'B')} of trained weights" in text
    memory = max(value(row["memory per batch"]) for part in rows.values() for row in part)
    amount = re.search(r"^memory +(.*?) for the largest", text, re.M).group(1)  # type: ignore[union-attr]
    assert value(amount) == memory
    assert text.endswith("The note.\n")
    for forecast in forecasts:
        assert bool(re.search(rf"^run +{re.escape(forecast.stage)} +a test wants it$", text, re.M)) == (
            forecast.what == "run"
        )


def test_disk_is_what_the_files_have(empty_folder: Path, rng: np.random.Generator) -> None:
    """Weights, scores and a checkpoint of a real, small net, as the stages write them."""
    from stages.common import build, save_tensors, weights_of
    from vgg.fit import TrainingSchedule, optimiser

    params = params_with("mini", net={"size_ratio": "2/7", "fc": int(rng.integers(16, 300))})
    facts(empty_folder, params, 100, 50, 10)
    name = str(rng.choice(["A-256", "D-256", "E-256"]))
    plan = planned(params, [forecast(f"train@{name}", []), forecast(f"dense@{name}", [])])
    net = build(params, params.runs[name].net, 10)
    sgd = optimiser(net, TrainingSchedule(0.01, 1, 0.9, 0.0005, 3, 3, 0, 0))
    net.eval()(torch.zeros(2, 3, 64, 64)).sum().backward()
    sgd.step()
    save_tensors(empty_folder / "weights.pt", {"net": "A", "weights": weights_of(net)})
    save_tensors(empty_folder / "last.pt", {"weights": weights_of(net), "momentum": sgd.state_dict(), "state": {}})
    scores = {q: np.zeros((50, 10), np.float32) for q in ("1", "2", "3")}
    np.savez(empty_folder / "scores.npz", **scores)
    text = terminal(plan_page(plan, [], None, ""))
    kept = {what: value(re.search(rf"([\d.]+ \S+) (of )?{what}", text).group(1))  # type: ignore[union-attr]
            for what in ("trained weights", "scores", "checkpoint")}  # fmt: skip
    # a zip file's headers: a few hundred bytes a tensor or array
    assert kept["trained weights"] == pytest.approx((empty_folder / "weights.pt").stat().st_size, rel=0.03)
    assert kept["scores"] == pytest.approx((empty_folder / "scores.npz").stat().st_size, rel=0.2)
    assert kept["checkpoint"] == pytest.approx((empty_folder / "last.pt").stat().st_size, rel=0.05)


def test_nothing_to_do_costs_nothing(empty_folder: Path) -> None:
    params = params_with("mini")
    plan = planned(params, [forecast._replace(what="done") for forecast in all_run(params)])
    text = terminal(plan_page(plan, ["table4"], None, "The note."))
    assert text.count("\n") == 1 and "The note" not in text
    assert "table4" in text and "0 to run" in text


# The command


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny clone without any data."""
    return tiny_clone(tmp_path_factory.mktemp("plan") / "clone", *PROFILES)


def ask(folder: Path, *words: str, profile: str = "mini", **data: Any) -> Result:
    """`vgg-repro plan` in `folder`, the profile and its data changed."""
    before = (folder / "params.yaml").read_text()
    values = yaml.safe_load(before)
    values["profile"] = profile
    if profile != "mini":
        values["datasets"] = {}  # mini draws them
    values["profiles"][profile]["data"].update(data)
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        try:
            return CliRunner().invoke(app, ["plan", *words])
        finally:
            (folder / "params.yaml").write_text(before)


def files(folder: Path) -> set[str]:
    """All files, but for DVC's scratch, params.yaml, which these tests write, and objects that git may link."""
    others = (".dvc/tmp", ".git/objects", "params.yaml")
    return {f"{path} {path.stat().st_mtime_ns}" for path in folder.rglob("*")
            if path.is_file() and not any(name in str(path) for name in others)}  # fmt: skip


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_has_a_plan_without_any_data_and_nothing_is_run(profile: str, clone: Path) -> None:
    before = files(clone)
    done = ask(clone, "--images-per-second", "500", profile=profile)
    assert done.exit_code == 0, done.output
    assert files(clone) == before
    assert not (clone / "data").exists() and not (clone / "weights").exists()
    values = yaml.safe_load((clone / "params.yaml").read_text())
    runs, localisers = values["runs"], values["localisers"] if profile != "imagenette" else {}  # it has no boxes
    assert [row["to train"] for row in table(done.output, "to train")] and len(runs) == 14
    assert sorted(row["to train"] for row in table(done.output, "to train")) == sorted([*runs, *localisers])
    scores = Counter(row["protocol"] for row in table(done.output, "to score"))
    of_boxes = {"the true class's box at a centre crop": 4, "boxes, dense": 2} if localisers else {}
    of_sets = {f"features of {name}": 2 for name in (values["datasets"] if profile == "mini" else ())}
    assert scores == {"dense": 14, "50 crops per scale": 2, "centre crop": 2} | of_boxes | of_sets
    assert f"Profile {profile}, everything" in done.output
    assert "none are prepared yet" in done.output


def test_the_whole_paper_costs_what_it_costs(clone: Path, rng: np.random.Generator) -> None:
    rate = float(rng.integers(50, 3000))
    done = ask(clone, "--images-per-second", str(rate), profile="paper")
    rows = {row["to train"]: row for row in table(done.output, "to train")}
    assert "1,281,167 training and 50,000 validation images of 1000 classes" in done.output
    scratch = {"A-256", "A-LRN-256", "B-256", "C-256", "D-256", "E-256", "shallow-256"}
    assert {name for name, row in rows.items() if row["iterations"] == "370,296"} == scratch  # 74 of 5,004
    assert {row["images"] for name, row in rows.items() if name in scratch} == {f"{370_296 * 256:,}"}
    once = {net: forward(net, 1000, 224, 1.0, 4096, 224, 224) for net in ("A", "D", "E")}
    for net in once:
        flops = 370_296 * 256 * 3 * once[net] + 74 * 50_000 * once[net]
        assert rows[f"{net}-256"]["compute"] == si(flops, "FLOP")
        assert rows[f"{net}-256"]["time"] == duration(flops / (rate * 3 * once["D"]))
    assert value(re.search(r"^training +([^,]*),", done.output, re.M).group(1)) == pytest.approx(81.5e18, rel=0.01)  # type: ignore[union-attr]
    waves = re.findall(r"^(\d)\. (.*)$", done.output, re.M)
    assert [set(names.split(", ")) for _, names in waves] == [
        {"A-256", "A-LRN-256", "shallow-256"},
        {"B-256", "C-256", "D-256", "E-256"},
        {"C-384", "D-384", "E-384", "PCR-256"},
        {"C-jitter", "D-jitter", "E-jitter", "D-jitter-fc", "PCR-384", "PCR-384-fc", "SCR-384-fc"},
    ]
    assert {row["iterations"] for name, row in rows.items() if "CR-" in name} == {f"{37 * (544_546 // 256):,}"}
    assert "train@A-256, train@E-256, train@E-384, train@E-jitter, crops@E-jitter" in done.output


def test_a_tables_plan_has_what_the_table_needs(clone: Path) -> None:
    for words in (["5"], ["table5"]):
        done = ask(clone, *words)
        assert done.exit_code == 0
        names = {row["to train"] for row in table(done.output, "to train")}
        assert names == {"A-256", *(f"{net}-{scale}" for net in "DE" for scale in ("256", "384", "jitter"))}
        assert "--measure" in done.output and "time" not in table(done.output, "to train")[0]


def test_wrong_names_are_a_wrong_use(clone: Path) -> None:
    for word, message in (
        ("0", "Available: 1"),
        ("tabel5", "tabel5"),
        ("train@D-348", "D-348"),
    ):
        error = ask(clone, word).exception
        assert isinstance(error, UsageError) and message in str(error), (word, error)
        assert error.code == 2
    for words in (["--images-per-second", "0"], ["--images-per-second", "-3"], ["--images-per-second", "fast"]):
        assert ask(clone, "table1", *words).exit_code == 2


def program(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`vgg-repro plan` as a person has it."""
    words = (str(Path(sys.executable).parent / "vgg-repro"), "plan", *words)
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def test_own_images_without_data_end_with_one_message_in_time(clone: Path, tmp_path: Path) -> None:
    """Under 10 s of a processor's time, whoever else is at work on this machine."""
    before = (clone / "params.yaml").read_text()
    values = yaml.safe_load(before)
    values["profiles"]["mini"]["data"] |= {"source": "imagefolder", "path": str(tmp_path / "nowhere")}
    (clone / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    done = program(clone)
    (clone / "params.yaml").write_text(before)
    assert done.returncode == 1
    assert "vgg-repro prepare" in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.startswith("vgg-repro: ") and done.stderr.count("\n") == 1
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = program(clone)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime < patience(10)


def test_measuring_says_images_a_second_and_has_times(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.tools import measure

    monkeypatch.setattr(measure, "SECONDS", 0.2)
    before = files(clone)
    done = ask(clone, "train@A-256", "--measure")
    assert done.exit_code == 0, (done.output, done.exception)
    assert files(clone) == before
    speeds = re.search(r"training images per second (.*): A ([\d,]+)\.", done.output)
    assert speeds and "random pixels" in speeds.group(1)
    (row,) = table(done.output, "to train")
    rate = float(speeds.group(2).replace(",", ""))
    assert rate > 1
    flops = value(row["compute"])
    once = forward("A", 51, 64, 1 / 32, 16, 64, 64)
    assert seconds_of(row["time"]) == pytest.approx(flops / (rate * 3 * once), abs=0.52, rel=0.02)


@pytest.mark.slow
def test_measuring_reads_prepared_images_and_the_plan_counts_their_bytes(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.tools.measure.SECONDS", 0.2)
    there = tmp_path / "clone"
    call(clone, "cp", "-r", str(clone), str(there))
    call(there, "dvc", "repro", "prepare")
    done = ask(there, "table4", "--measure")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "with the prepared images" in done.output
    assert "40 training and 40 validation images of 51 classes, as prepared" in done.output
    for net in "ABCDE":
        assert re.search(rf"\b{net} [\d,]+\d[,.]", done.output), net
    size = sum(path.stat().st_size for path in there.glob("data/shards/*/*"))
    assert f"{si(size, 'B')} of prepared images" in done.output
    rows = {row["to score"]: value(row["compute"]) for row in table(done.output, "to score")}
    assert rows["D-384"] == pytest.approx(dense_by_hand(there, "D-384"), rel=0.03)  # shapes are known to two digits


def dense_by_hand(folder: Path, name: str) -> float:
    """A dense evaluation's arithmetic from the sizes of the very images."""
    from pipeline.datasets.shards import Shards

    (place,) = (path for path in (folder / "data/shards").iterdir() if path.is_dir())
    val = Shards(place, "val")
    sides = np.sort(np.stack([val.heights, val.widths]), 0)
    total = 0
    for scale in (352, 384, 416):
        short = round(scale * 2 / 7)
        for low, high in sides.T.tolist():
            kept = (max(64, side // 32 * 32) for side in (short, round(short * high / low)))  # remainder: even
            total += 2 * forward(name[0], 51, 64, 1 / 32, 16, *kept)
    return total
