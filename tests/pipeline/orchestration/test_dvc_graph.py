"""What the plan says of each stage against what `dvc repro` then does, after random changes of everything it looks at.

In most tests a stand-in takes the place of `vgg-repro` in the stages' commands. It writes a hash of what its stage
depends on, so that a whole reproduction takes seconds; DVC, dvc.yaml and params.yaml are the real ones.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from zc.lockfile import LockFile

from pipeline.errors import Failure, UsageError
from pipeline.experiment.params_file import activate
from pipeline.experiment.validation import parse
from pipeline.orchestration import dvc_graph
from pipeline.orchestration.dvc_graph import (
    ALWAYS,
    IN_USE,
    StageForecast,
    _changed_outputs,
    _changed_values,
    at_work,
    forecasts,
    needs,
    outdated,
)
from tests.support.clones import TABLES, Reproduction, call, tiny_clone, wait_for
from tests.support.images import run_seed

STAND_IN = """#!{python} -IS
import hashlib, json, os, sys, time
from pathlib import Path
stage, here = os.environ["DVC_STAGE"], Path({here!r})
if stage == "fingerprint":
    os.execv({program!r}, ["vgg-repro", "stage", "fingerprint"])
book = json.loads((here / "book.json").read_text())
while (here / "wait").exists():
    (here / "waiting").touch()
    time.sleep(0.01)
one = book["stages"][stage]
files = [path for dep in map(Path, one["deps"]) for path in (sorted(dep.iterdir()) if dep.is_dir() else [dep])]
known = json.dumps([one["params"], [path.read_text() for path in files]], sort_keys=True)
for out in one["outs"]:
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(out + " " + ("" if stage in book["same"] else hashlib.sha256(known.encode()).hexdigest()))
"""
SAID = {
    "run": re.compile(r"Running stage '([^']+)'"),
    "cached": re.compile(r"Stage '([^']+)' is cached - skipping run"),
    "done": re.compile(r"Stage '([^']+)' didn't change, skipping"),
}
EDITS = int(os.environ.get("EDITS", "1"))  # of each of the two slow kinds; EDITS=20 tries most of them
SCORES = ("dense", "crops", "centre")
Did = Mapping[str, str]


class Change(NamedTuple):
    """A value of params.yaml that was changed, and the stages that depend on it themselves."""

    key: str
    old: Any
    new: Any
    stages: set[str]


class StandInClone:
    """A tiny clone whose stages a stand-in runs."""

    def __init__(self, folder: Path, random: np.random.Generator) -> None:
        self.root, self.tools, self.random = folder / "clone", folder / "tools", random
        self.tools.mkdir()
        program = Path(sys.executable).parent / "vgg-repro"
        script = self.tools / "vgg-repro"
        script.write_text(STAND_IN.format(python=sys.executable, here=str(self.tools), program=str(program)))
        script.chmod(0o755)
        tiny_clone(self.root)
        values = self.values()
        values["profiles"]["other"] = json.loads(json.dumps(values["profiles"]["mini"]))
        values["profiles"]["other"]["train"]["seed"] = 9
        self.write(values)
        self.texts = [self.text()]  # of params.yaml, as it was
        self.noted = ""  # of which the stand-in knows
        self.runs, self.recipes = list(values["runs"]), ["scratch", "warm", "finetune", "jitter"]  # that are changed
        stages = ["prepare", "random@A", *(f"train@{run}" for run in values["runs"])]
        self.same = [stage for stage in stages if random.random() < 0.15]  # which make the same whatever comes

    def text(self) -> str:
        """params.yaml as it stands."""
        return (self.root / "params.yaml").read_text()

    def values(self) -> Any:
        """What stands in it."""
        return yaml.safe_load(self.text())

    def write(self, values: Any) -> None:
        """Put `values` in it, with the rows of `extra` that they need: without them no command begins."""
        profile = values["profiles"][values["profile"]]
        if "seeds" in profile:
            profile["seeds"][0] = profile["train"]["seed"]
        (self.root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        activate(values["profile"], "trained", self.root / "params.yaml")

    def forecasts(self, targets: Sequence[str], patch: pytest.MonkeyPatch) -> list[StageForecast]:
        """What the code under test says."""
        patch.chdir(self.root)
        return forecasts(targets, parse(self.text().encode(), Path("params.yaml")))

    def repro(self, targets: Sequence[str], patch: pytest.MonkeyPatch) -> Did:
        """What `dvc repro` says that it does with each stage."""
        self.note(patch)
        return did_of(call(self.root, "dvc", "repro", *targets, PATH=self.path))

    def begin(self, targets: Sequence[str]) -> subprocess.Popen[str]:
        """`dvc repro`, going on by itself."""
        words = [sys.executable, "-m", "dvc", "repro", *targets]
        return subprocess.Popen(words, cwd=self.root, env={**os.environ, "PATH": self.path},
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip

    @property
    def path(self) -> str:
        """Where programs are looked for, the stand-in first."""
        return os.pathsep.join([str(self.tools), str(Path(sys.executable).parent), os.environ["PATH"]])

    def note(self, patch: pytest.MonkeyPatch) -> None:
        """Tell the stand-in what DVC takes each stage to depend on and to make."""
        from dvc.repo import Repo

        patch.chdir(self.root)
        if self.noted == self.text():
            return
        self.noted = self.text()
        book: dict[str, Any] = {}
        values = self.values()
        with Repo() as repo:
            for stage in repo.index.stages:
                params = [value_at(key, values) for dep in stage.deps for key in getattr(dep, "params", ())]
                deps = [dep.def_path for dep in stage.deps if not hasattr(dep, "params")]
                outs = [out.def_path for out in stage.outs]
                book[stage.addressing] = {"params": params, "deps": deps, "outs": outs}
        (self.tools / "book.json").write_text(json.dumps({"stages": book, "same": self.same}))

    def set(self, key: str, new: Any) -> Change:
        """Change a value of params.yaml; where `new` is called to draw one, to another than it is."""
        values = self.values()
        *place, last = key.split(".")
        block = values
        for name in place:
            block = block[name]
        old = block.get(last)
        block[last] = new() if callable(new) else new
        while callable(new) and block[last] == old:
            block[last] = new()
        self.write(values)
        return Change(key, old, block[last], set(dependants(key, self.values())))


def value_at(key: str, values: Any) -> Any:
    """What stands at a key as DVC has it; None if nothing does."""
    for name in key.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values


def did_of(output: str) -> Did:
    """What DVC says that it did with each stage."""
    return {stage: what for what, said in SAID.items() for stage in said.findall(output)}


def dependants(key: str, values: Any) -> Iterable[str]:
    """The stages that depend on a value of params.yaml, as docs/architecture.md has it."""
    place, runs = key.split("."), values["runs"]
    scores = {f"dense@{run}" for run in runs} | {f"{mode}@{run}" for mode in SCORES[1:] for run in values[mode]}
    train, random = {f"train@{run}" for run in runs}, {f"random@{net}" for net in ("A", "A-LRN", "shallow")}
    tables = {*(f"table{number}" for number in range(1, 13)), "shallow", "initialisation", "seeds", "claims"}
    added, boxed = values["extra"], box_stages(values)
    scores |= {f"extra-{mode}@{run}" for mode in SCORES for run in added[mode]}
    train |= {f"extra-train@{run}" for run in added["runs"]}
    random |= {f"extra-random@{name}" for name in added["random"]}
    features, svms, shown, sets = set_stages(values)
    if place[0] == "runs":
        own = {stage for stage in train | scores if stage.endswith(f"@{place[1]}")}
        own |= {stage for stage in features if stage.endswith(f"-{place[1]}")} | boxed.of_run(place[1])
        return own | ({"illustrations"} if place[1] == "D-jitter" else set())
    if place[0] in ("localisers", "windows"):
        kinds = ("windows",) if place[0] == "windows" else ("localiser", "boxes", "windows")
        return {f"{kind}@{place[1]}" for kind in kinds} & boxed.every
    if place[0] == "method":
        scored = {*scores, "illustrations"} | boxed.scored | features
        of_boxes = boxed.every | BOX_TABLES | {"truth", "threshold", "localisation"}
        return {
            "prepare": {"prepare"} | sets, "train": train | random | boxed.trained, "score": scored,
            "table": {*tables, "illustrations", "localisation", "resampled"}, "localise": of_boxes,
            "transfer": sets | features | svms | shown | {"table11", "table12", "resampled"},
        }[place[1]]  # fmt: skip
    if place[1] != values["profile"]:
        return set()
    block, last = place[2], place[-1]
    if block == "recipes":
        own = {f"train@{run}" for run in runs if runs[run]["recipe"] == place[3]}
        own |= {f"localiser@{name}" for name, row in values["localisers"].items() if row["recipe"] == place[3]}
        return own | {f"extra-train@{run}" for run, row in added["runs"].items() if row["recipe"] == place[3]}
    if (block, last) == ("score", "mean"):
        return {stage for stage in scores if stage.startswith(("dense", "extra-dense"))}
    if (block, last) == ("score", "remainder"):
        dense = {stage for stage in scores if stage.startswith(("dense", "extra-dense"))}
        return dense | boxed.windows | features | {"illustrations"}
    if (block, last) == ("train", "seed"):
        return {stage for stage in train | random if not stage.startswith("extra")} | boxed.trained
    if block == "localise":
        return {
            "min_visible": boxed.trained, "tuning_images": boxed.windows, "thresholds": {"threshold"},
            "above": boxed.trained | BOX_TABLES | {"threshold"}, "excluded": {*BOX_TABLES, "localisation"},
        }[last]  # fmt: skip
    if block == "transfer":
        of_features = features if last in ("activations", "dtype") else svms
        return of_features | (shown if last == "normalise" else set())
    nets = train | random | scores | boxed.every | features | {"illustrations"}
    scored = scores | boxed.scored | features | ({"illustrations"} if last == "resize" else set())
    found = {"net": nets, "train": train | boxed.trained, "score": scored, "prepare": {"prepare"} | sets, "data": set()}
    return found[block] | ({"prepare", *sets} if (block, last) == ("net", "size_ratio") else set())


BOX_TABLES = {"table8", "table9", "table10"}


class BoxStages(NamedTuple):
    """The stages of localisers, by what they do."""

    values: Any
    trained: set[str]
    boxes: set[str]
    windows: set[str]

    @property
    def scored(self) -> set[str]:
        """Those that apply localisers."""
        return self.boxes | self.windows

    @property
    def every(self) -> set[str]:
        """All of them."""
        return self.trained | self.scored

    def of_run(self, run: str) -> set[str]:
        """Those of localisers that start from a run, and those whose boxes its class scores rate."""
        begun = [name for name, row in self.values["localisers"].items() if row["run"] == run]
        rated = [name for name, row in self.values["windows"].items() if row["scores"] == run]
        return {f"{kind}@{name}" for kind in ("localiser", "boxes") for name in begun} | {f"windows@{n}" for n in rated}


def box_stages(values: Any) -> BoxStages:
    """The stages of localisers (appendix A)."""
    trained, boxes = ({f"{kind}@{name}" for name in values["localisers"]} for kind in ("localiser", "boxes"))
    return BoxStages(values, trained, boxes, {f"windows@{name}" for name in values["windows"]})


def set_stages(values: Any) -> tuple[set[str], set[str], set[str], set[str]]:
    """The stages of other data sets (appendix B): features, SVMs, what the page shows, preparations."""
    features = {f"features@{name}-{net}-jitter" for name in values["datasets"] for net in "DE"}
    svms = {f"svm-{system}@{name}" for name in values["datasets"] for system in ("D", "E", "DE")}
    svms |= {f"aggregation@{name}" for name in values["datasets"]}
    shown = {f"descriptors@{name}" for name in values["datasets"]}
    return features, svms, shown, {f"dataset@{name}" for name in values["datasets"]}


Edit = Callable[[StandInClone], Change | None]


def pick(place: StandInClone, among: Iterable[Any]) -> Any:
    """One of them."""
    listed = list(among)
    return listed[int(place.random.integers(len(listed)))]


def a_run(place: StandInClone) -> Change:
    """Its layers or its scale."""
    values = place.values()
    name = pick(place, place.runs)
    if place.random.random() < 0.5:
        layers = values["runs"][name].get("layers", "all")
        return place.set(f"runs.{name}.layers", "fc" if layers == "all" else "all")
    return place.set(f"runs.{name}.scale", lambda: pick(place, (256, 288, 384, 416)))


def a_localiser(place: StandInClone) -> Change:
    """Its layers, or the run whose class scores rate its boxes."""
    values = place.values()
    if place.random.random() < 0.5:
        name = pick(place, values["windows"])
        return place.set(f"windows.{name}.scores", lambda: pick(place, ("D-256", "D-384", "C-256")))
    name = pick(place, values["localisers"])
    layers = values["localisers"][name].get("layers", "all")
    return place.set(f"localisers.{name}.layers", "fc" if layers == "all" else "all")


def a_choice_of_localisation(place: StandInClone) -> Change:
    """Of which crops are trained on, or of the images that choose the threshold."""
    draws: dict[str, Callable[[], Any]] = {
        "min_visible": lambda: float(place.random.integers(1, 99)) / 100,
        "tuning_images": lambda: int(place.random.integers(2, 999)),
    }
    key = pick(place, draws)
    return place.set(f"profiles.mini.localise.{key}", draws[key])


def an_init(place: StandInClone) -> Change:
    """The run that another begins from."""
    name, inits = pick(place, [("D-jitter-fc", ("D-384", "D-jitter")), ("D-384", ("D-256", "A-256")),
                               ("E-jitter", ("E-384", "E-256"))])  # fmt: skip
    return place.set(f"runs.{name}.init", lambda: pick(place, (*inits, "A-256")))


def a_recipe(place: StandInClone) -> Change:
    """Its rate or its length."""
    recipe, key = pick(place, place.recipes), pick(place, ("learning_rate", "epochs"))
    draw = {"learning_rate": lambda: float(place.random.integers(1, 10**6)) / 10**7,
            "epochs": lambda: int(place.random.integers(2, 99))}  # fmt: skip
    return place.set(f"profiles.mini.recipes.{recipe}.{key}", draw[key])


def the_seed(place: StandInClone) -> Change:
    return place.set("profiles.mini.train.seed", lambda: int(place.random.integers(1, 10**9)))


def the_scores_mean(place: StandInClone) -> Change:
    return place.set("profiles.mini.score.mean", lambda: pick(place, ("before_softmax", "after_softmax")))


def a_size(place: StandInClone) -> Change:
    """Of the profile."""
    draws: dict[str, Callable[[], Any]] = {
        "net.fc": lambda: int(place.random.integers(17, 999)),
        "net.width_ratio": lambda: f"1/{place.random.integers(33, 999)}",
        "net.dropout": lambda: float(place.random.integers(1, 99)) / 100,
        "train.batch": lambda: int(place.random.integers(2, 7)),
        "prepare.quality": lambda: int(place.random.integers(2, 90)),
        "data.limit": lambda: int(place.random.integers(41, 900)),
        "data.characters.seed": lambda: int(place.random.integers(2, 10**6)),
    }
    key = pick(place, draws)
    return place.set(f"profiles.mini.{key}", draws[key])


def a_method(place: StandInClone) -> Change:
    step = pick(place, ("prepare", "train", "score", "table"))
    return place.set(f"method.{step}", lambda: int(place.random.integers(3, 10**6)))


def back_to_an_earlier_text(place: StandInClone) -> None:
    (place.root / "params.yaml").write_text(pick(place, place.texts))


def the_profile(place: StandInClone) -> None:
    values = place.values()
    values["profile"] = {"mini": "other", "other": "mini"}[values["profile"]]
    place.write(values)


def further_seeds(place: StandInClone) -> None:
    """They come, or go."""
    values = place.values()
    profile = values["profiles"][values["profile"]]
    if profile.pop("seeds", None) is None:
        profile |= {"seeds": [profile["train"]["seed"], 10**10], "seed_runs": ["A-256", "B-256"]}
    place.write(values)


def a_new_run(place: StandInClone) -> None:
    values = place.values()
    values["runs"][f"A-{place.random.integers(10**9)}"] = {**values["runs"]["A-256"], "scale": 320}
    place.write(values)


def made(place: StandInClone, pattern: str) -> list[Path]:
    """The files that stages made."""
    return sorted(path for path in place.root.glob(pattern) if path.is_file())


def some(place: StandInClone, *patterns: str) -> list[Path]:
    """One of the files that stages made; none where edits before this one have taken them all."""
    found = [path for pattern in patterns for path in made(place, pattern)]
    return [pick(place, found)] if found else []


def a_lost_file(place: StandInClone) -> None:
    for path in some(place, "weights/trained/*", "scores/*", "data/classification/facts-*.json"):
        path.unlink()


def lost_weights(place: StandInClone) -> None:
    for path in some(place, "weights/trained/*"):
        path.unlink()


def overwritten_weights(place: StandInClone) -> None:
    for path in some(place, "weights/trained/*"):
        path.unlink()
        path.write_text(f"what --direct made: {place.random.integers(10**9)}")


def a_file_lost_here_and_in_the_cache(place: StandInClone) -> None:
    for path in some(place, "weights/trained/*", "scores/*"):
        for copy in made(place, ".dvc/cache/files/md5/*/*"):
            if copy.read_bytes() == path.read_bytes():
                copy.unlink()
        path.unlink()


def a_lost_object(place: StandInClone) -> None:
    for path in some(place, ".dvc/cache/files/md5/*/*"):
        path.unlink()


def the_lost_run_cache(place: StandInClone) -> None:
    """As in a clone that had `dvc pull`: outputs in the cache, and nothing of how they were made."""
    shutil.rmtree(place.root / ".dvc/cache/runs", ignore_errors=True)
    for path in [*made(place, "weights/trained/*"), *made(place, "scores/*")]:
        if place.random.random() < 0.3:
            path.unlink()


def the_lost_lock_file(place: StandInClone) -> None:
    (place.root / "dvc.lock").unlink(missing_ok=True)


def a_printed_table(place: StandInClone) -> None:
    path = pick(place, [place.root / f"pipeline/experiment/printed/table{number}.csv" for number in range(2, 8)])
    path.write_text(f"{path.read_text()}\n")


def the_lost_fingerprint(place: StandInClone) -> None:
    (place.root / "data/classification/fingerprint.json").unlink(missing_ok=True)


def nothing(place: StandInClone) -> None:
    pass


ASKED: list[Edit] = [a_run, a_localiser, a_choice_of_localisation, a_recipe, the_seed, the_scores_mean, a_size,
                     a_method, back_to_an_earlier_text, lost_weights, a_printed_table,
                     the_lost_fingerprint]  # fmt: skip
MORE: list[Edit] = [an_init, the_profile, a_new_run, a_lost_file, overwritten_weights, a_lost_object, nothing,
                    further_seeds, a_file_lost_here_and_in_the_cache, the_lost_run_cache,
                    the_lost_lock_file]  # fmt: skip


SMALL = ("dense@B-256", "table2")  # what the quick tests ask for: seven stages


def begun(folder: Path, targets: Sequence[str]) -> StandInClone:
    """A place where `targets` have been made once."""
    made = StandInClone(folder, np.random.default_rng(run_seed()))
    with pytest.MonkeyPatch.context() as patch:
        said = made.forecasts(targets, patch)
        assert {forecast.why for forecast in said if forecast.what == "done"} == set()
        did = made.repro(targets, patch)
        compare(said, did, "at first")
    assert set(did.values()) == {"run"}
    return made


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> StandInClone:
    """A place where a run has been trained and scored."""
    made = begun(tmp_path_factory.mktemp("graph"), SMALL)
    made.runs, made.recipes = ["A-256", "B-256"], ["scratch", "warm"]
    return made


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> StandInClone:
    """A place where everything has been made."""
    return begun(tmp_path_factory.mktemp("graph"), [])


def compare(said: Sequence[StageForecast], did: Did, edit: str) -> None:
    """Agreement, but for stages of which nobody can know before those that they need have run."""
    assert sorted(forecast.stage for forecast in said) == sorted(did), edit
    wrong = []
    for forecast in said:
        open_end = forecast.what == "run" and forecast.why.startswith("after ")
        looks = forecast.stage == "fingerprint" or forecast.stage.startswith("source@")  # they run each time; what is
        # said is what comes of it
        if not open_end and not looks and forecast.what != did[forecast.stage]:
            wrong.append(f"{forecast.stage}: said {forecast.what} ({forecast.why}), and it was {did[forecast.stage]}")
    assert not wrong, f"{edit}: " + "; ".join(wrong)


def step(
    place: StandInClone, edit: Edit, targets: Sequence[str], patch: pytest.MonkeyPatch, fresh: bool = False
) -> Did:
    """Change something, ask, and have DVC do it; `fresh`: what `targets` need was up to date before."""
    change = edit(place)
    what = f"{edit.__name__} {change or ''} {list(targets)}"
    said = place.forecasts(targets, patch)
    if change and fresh:
        check_reasons(said, change, what)
    did = place.repro(targets, patch)
    compare(said, did, what)
    assert not any(forecast.what != "done" and not forecast.why for forecast in said), what
    place.texts.append(place.text())
    after = [forecast for forecast in place.forecasts(targets, patch) if forecast.why != ALWAYS] if fresh else []
    assert {forecast.stage for forecast in after if forecast.what != "done"} == set(), what
    return did


def check_reasons(said: Sequence[StageForecast], change: Change, what: str) -> None:
    """Each stage that depends on the changed value itself says what it was and is; no other names it."""
    old, new = ("nothing" if one is None else f"{one!s:.40}" for one in (change.old, change.new))
    text = f"{change.key}: {old}, now {new}"
    for forecast in said:
        assert (text in forecast.why) == (forecast.stage in change.stages), f"{what}: {forecast}"


def test_what_was_made_is_up_to_date_and_a_change_does_what_was_said(
    small: StandInClone, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {forecast.what for forecast in small.forecasts(SMALL, monkeypatch)} == {"done"}
    step(small, pick(small, [*ASKED, lost_weights]), SMALL, monkeypatch, fresh=True)


def test_a_changed_value_is_named_with_what_it_was_and_is(small: StandInClone, monkeypatch: pytest.MonkeyPatch) -> None:
    text = small.text()
    small.repro(SMALL, monkeypatch)
    for edit in (a_run, a_localiser, a_choice_of_localisation, a_recipe, the_seed, the_scores_mean, a_size, a_method):
        change = edit(small)
        assert change
        try:
            check_reasons(small.forecasts(SMALL, monkeypatch), change, str(change))
        finally:
            (small.root / "params.yaml").write_text(text)


def test_the_stages_that_a_value_reaches_are_those_that_dvc_yaml_names(
    small: StandInClone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each value of the parameters that some stage names, stated twice."""
    from dvc.repo import Repo

    monkeypatch.chdir(small.root)
    values = small.values()
    with Repo() as repo:
        named = {stage.addressing: {key for dep in stage.deps for key in getattr(dep, "params", ())}
                 for stage in repo.index.stages if not stage.always_changed}  # fmt: skip
    keys = {key for own in named.values() for key in own if key.partition(".")[0] in REACHING}
    leaves = {leaf for key in keys for leaf in leaves_of(key, value_at(key, values))}
    assert len(leaves) > 100
    for leaf in sorted(leaves):
        actual = {stage for stage, own in named.items() if any(f"{leaf}.".startswith(f"{key}.") for key in own)}
        assert set(dependants(leaf, values)) == actual, leaf


REACHING = ("runs", "localisers", "windows", "method", "profiles")  # the blocks that `dependants` knows


def leaves_of(key: str, value: Any) -> Iterator[str]:
    """The keys below a key, or itself."""
    if not isinstance(value, dict):
        yield key
        return
    for name, below in value.items():
        yield from leaves_of(f"{key}.{name}", below)


def test_a_changed_source_is_told_with_what_has_changed(small: StandInClone, monkeypatch: pytest.MonkeyPatch) -> None:
    text = small.text()
    small.repro(SMALL, monkeypatch)
    small.set("profiles.mini.data.characters.seed", 77)
    first, second, *_ = small.forecasts(SMALL, monkeypatch)
    (small.root / "params.yaml").write_text(text)
    assert (first.stage, first.what) == ("fingerprint", "run")
    assert re.search(r"the images have changed: .*seed: 11, now 77", first.why)
    assert (second.stage, second.what) == ("prepare", "run")
    assert "data/classification/fingerprint.json has changed" in second.why


def test_what_was_made_with_another_profile_is_cached(small: StandInClone, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC's lock file knows the stages with the profile of their last run alone, and so not all of their inputs."""
    text = small.text()
    try:
        for visit in range(4):
            said = small.forecasts(SMALL, monkeypatch)
            compare(said, small.repro(SMALL, monkeypatch), f"visit {visit}")
            if visit > 1:
                runs = {forecast.stage for forecast in said if forecast.what == "run"}
                assert all(stage.startswith("table") or stage == "shallow" for stage in runs), "tables take seconds"
                assert "cached" in {forecast.what for forecast in said}
            the_profile(small)
    finally:
        (small.root / "params.yaml").write_text(text)


class FakeTime:
    """Takes the place of `time`: a sleep takes none, and does the next of some things."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.now, self.steps = 0.0, list(steps)

    def monotonic(self) -> float:
        """The seconds slept."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """What the code under test waits by."""
        self.now += seconds
        if self.steps:
            self.steps.pop(0)()


class Writer:
    """A DVC that writes dvc.lock, in place and under its own lock, and stops half-way."""

    def __init__(self, place: StandInClone, half: Callable[[str], str]) -> None:
        self.file, self.lock = place.root / "dvc.lock", place.root / ".dvc/tmp/lock"
        self.whole = self.file.read_text()
        self.part = half(self.whole)
        self.held: Any = None

    def begin(self) -> None:
        """Take the lock and write the first part."""
        self.held = LockFile(str(self.lock))
        self.file.write_text(self.part)

    def write(self) -> None:
        """Write all."""
        self.file.write_text(self.whole)

    def end(self) -> None:
        """Let the lock go, if it is held."""
        if self.held:
            self.held.close()


HALVES: dict[str, Callable[[str], str]] = {
    "nothing": lambda _: "",
    "up to the middle of a line": lambda whole: whole[: len(whole) // 3],
    "some of its stages": lambda whole: whole[: re.compile(r"^  \S", re.M).search(whole, len(whole) // 2).start()],  # type: ignore[union-attr]
}


@pytest.fixture(params=HALVES)
def writer(request: pytest.FixtureRequest, small: StandInClone, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    """Of a lock file by which all is done; whole again in the end."""
    small.repro(SMALL, monkeypatch)
    made = Writer(small, HALVES[request.param])
    yield made
    made.write()
    made.end()


def test_half_a_lock_file_is_waited_for(writer: Writer, small: StandInClone, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC writes it in place: the half of it that is there is at times no YAML, and at times a shorter one."""
    clock = FakeTime(*[lambda: None] * 20, writer.write, lambda: None, writer.end)
    monkeypatch.setattr(dvc_graph, "time", clock)
    writer.begin()
    assert {forecast.what for forecast in small.forecasts(SMALL, monkeypatch)} == {"done"}
    assert not clock.steps


def test_a_lock_file_that_is_written_while_it_is_read_is_read_again(
    writer: Writer, small: StandInClone, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, steps = dvc_graph._ordered, [writer.begin, lambda: None]

    def ordered(*words: Any) -> Any:
        steps.pop(0)()
        return read(*words)

    monkeypatch.setattr(dvc_graph, "_ordered", ordered)
    monkeypatch.setattr(dvc_graph, "time", FakeTime(lambda: None, writer.write, writer.end))
    assert {forecast.what for forecast in small.forecasts(SMALL, monkeypatch)} == {"done"}
    assert not steps


def test_a_lock_file_that_never_stands_still_is_a_failure(small: StandInClone, monkeypatch: pytest.MonkeyPatch) -> None:
    small.repro(SMALL, monkeypatch)
    read, lock = dvc_graph._ordered, small.root / "dvc.lock"

    def ordered(*words: Any) -> Any:
        os.utime(lock, ns=(0, lock.stat().st_mtime_ns + 1))
        return read(*words)

    monkeypatch.setattr(dvc_graph, "TRIES", 2)
    monkeypatch.setattr(dvc_graph, "_ordered", ordered)
    with pytest.raises(Failure, match="has changed 2 times while it was read"):
        small.forecasts(SMALL, monkeypatch)


def test_a_dvc_that_holds_its_lock_and_writes_nothing_is_not_waited_for(
    small: StandInClone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `dvc pull`, for hours; the time counts from the last change of the lock file."""
    small.repro(SMALL, monkeypatch)
    lock = small.root / "dvc.lock"
    waits = round(dvc_graph.STILL / dvc_graph.PAUSE)
    clock = FakeTime(*[lambda: None] * (waits // 2), lambda: os.utime(lock, ns=(0, lock.stat().st_mtime_ns + 1)))
    monkeypatch.setattr(dvc_graph, "time", clock)
    held = LockFile(str(small.root / ".dvc/tmp/lock"))
    try:
        assert {forecast.what for forecast in small.forecasts(SMALL, monkeypatch)} == {"done"}
    finally:
        held.close()
    assert clock.now == pytest.approx(1.5 * dvc_graph.STILL, rel=0.05)


def test_a_broken_lock_file_that_nobody_writes_is_a_wrong_use(
    small: StandInClone, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.repro(SMALL, monkeypatch)
    whole = (small.root / "dvc.lock").read_text()
    (small.root / "dvc.lock").write_text(HALVES["up to the middle of a line"](whole) + "\n'")
    try:
        with pytest.raises(UsageError, match=r"dvc\.lock"):
            small.forecasts(SMALL, monkeypatch)
    finally:
        (small.root / "dvc.lock").write_text(whole)


def test_an_unknown_target_is_a_wrong_use(small: StandInClone, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="tabel5"):
        small.forecasts(["tabel5"], monkeypatch)
    with pytest.raises(UsageError, match="train@D-348"):
        small.forecasts(["table2", "train@D-348"], monkeypatch)


def test_stages_stand_behind_what_they_need_in_the_files_order(
    small: StandInClone, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = small.forecasts(SMALL, monkeypatch)
    seen: set[str] = set()
    for forecast in said:
        assert forecast.needs <= seen, forecast
        seen.add(forecast.stage)
    in_order = ["fingerprint", "prepare", "random@A", "train@A-256", "train@B-256", "dense@B-256", "table2"]
    # dvc.yaml's; DVC's own walk changes from process to process
    assert [forecast.stage for forecast in said] == in_order
    assert {forecast.stage: forecast.needs for forecast in said} == needs(list(SMALL))


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every file and folder with its time of writing, size and inode."""
    found = {}
    for path in folder.rglob("*"):
        about = path.lstat()
        found[str(path.relative_to(folder))] = about.st_mtime_ns, about.st_size, about.st_ino
    return found


def test_nothing_is_written_and_no_lock_is_taken(small: StandInClone, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc import lock, rwlock

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a lock is asked for")

    text = small.text()
    for edit in (nothing, lost_weights, the_seed, a_lost_object):
        edit(small)
        before = tree(small.root)
        with pytest.MonkeyPatch.context() as patch:
            for kind in (lock.Lock, lock.HardlinkLock):
                patch.setattr(kind, "lock", refuse)
            patch.setattr(rwlock, "_edit_rwlock", refuse)
            small.forecasts(SMALL, monkeypatch)
        after = tree(small.root)
        changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        assert changed == set(), edit.__name__
    (small.root / "params.yaml").write_text(text)
    small.repro(SMALL, monkeypatch)


def test_it_is_told_while_dvc_is_at_work(small: StandInClone, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC holds its lock, and a stage's files, while the stage runs."""
    small.set("profiles.mini.score.mean", f"{pick(small, ('before', 'after'))}_softmax")
    small.set("profiles.mini.score.batch", int(small.random.integers(65, 10**6)))
    small.note(monkeypatch)
    (small.tools / "wait").touch()
    (small.tools / "waiting").unlink(missing_ok=True)
    child = small.begin(SMALL)
    try:
        wait_for(lambda: (small.tools / "waiting").exists() or child.poll() is not None, 600)
        assert child.poll() is None
        said = {forecast.stage: forecast.what for forecast in small.forecasts(SMALL, monkeypatch)}
    finally:
        (small.tools / "wait").unlink()
        output = child.communicate()[0]
    assert child.returncode == 0, output
    did = did_of(output)
    assert {stage for stage, what in did.items() if what == "run"} == {"fingerprint", "dense@B-256"}
    assert {stage: what for stage, what in said.items() if what != "done"} == {"dense@B-256": "run"}


def test_a_folder_that_other_stages_write_into_is_forecast_with_them(
    small: StandInClone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a stage that depends on a folder: first without stages that write there, then with them, and without again."""
    targets = ["initialisation"]
    step(small, nothing, targets, monkeypatch)
    text = small.text()
    values = small.values()
    values["profiles"]["mini"]["initialisation"] = {"nets": ["A"], "std": 0.01, "input_scale": 1.0}
    small.write(values)
    did = step(small, nothing, targets, monkeypatch)
    assert {stage for stage, what in did.items() if what == "run" and "@" in stage} == {
        f"extra-{work}@A-{kind}" for work in ("random", "train", "centre") for kind in ("normal", "glorot")
    }
    assert did["initialisation"] == "run"
    step(small, nothing, targets, monkeypatch, fresh=True)
    path = small.root / "scores/initialisation/centre-A-normal.npz"
    path.unlink()
    monkeypatch.chdir(small.root)
    assert not outdated(parse(small.text().encode(), Path("params.yaml"))).keys() & {"initialisation", "extra"}
    said = {one.stage: one.what for one in small.forecasts(targets, monkeypatch)}
    assert (said["extra-centre@A-normal"], said["initialisation"]) == ("cached", "done")
    did = step(small, nothing, targets, monkeypatch, fresh=True)
    assert (did["extra-centre@A-normal"], did["initialisation"]) == ("cached", "done")
    (small.root / "params.yaml").write_text(text)
    did = step(small, nothing, targets, monkeypatch)
    assert did["initialisation"] == "run" and "extra-centre@A-normal" not in did


@pytest.mark.slow
@pytest.mark.parametrize("number", range(EDITS))
def test_after_any_one_change_the_plan_is_what_dvc_then_does(
    number: int, large: StandInClone, monkeypatch: pytest.MonkeyPatch
) -> None:
    large.repro([], monkeypatch)
    step(large, pick(large, ASKED + MORE), [], monkeypatch, fresh=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(EDITS))
def test_after_many_changes_the_plan_is_what_dvc_then_does(
    number: int, large: StandInClone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several at once, and parts of the graph, so that the others lag behind."""
    for _ in range(int(large.random.integers(0, 3))):
        pick(large, ASKED + MORE)(large)
    targets = pick(large, [[], ["table5"], ["table3", "shallow"], ["dense@D-384"], ["table6"]])
    step(large, pick(large, ASKED + MORE), targets, monkeypatch)


@pytest.mark.slow
def test_in_a_new_clone_the_plan_says_what_the_real_stages_do(
    reproduction: Reproduction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_clone(tmp_path / "clone"))
    said = forecasts(TABLES, parse(Path("params.yaml").read_bytes(), Path("params.yaml")))
    compare(said, did_of(reproduction.said), "at first")
    assert {forecast.what for forecast in said} == {"run"}


@pytest.mark.slow
def test_the_real_stages_do_what_the_plan_says(
    finished: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing, a change, and back; the section 4.1 comparison has all kinds of stages but crops."""
    text = (finished / "params.yaml").read_text()
    texts = [text, text.replace("epochs: 1", "epochs: 2", 1), text]
    values = yaml.safe_load(text)
    values["profiles"]["mini"]["score"]["mean"] = "after_softmax"
    values["profiles"]["mini"]["recipes"]["warm"]["learning_rate"] = float(rng.uniform(0.001, 0.004))
    texts += [yaml.safe_dump(values, sort_keys=False), text]
    monkeypatch.chdir(finished)
    for number, text in enumerate(texts):
        Path("params.yaml").write_text(text)
        if number == 2:
            Path("data/classification/fingerprint.json").unlink()
            Path("weights/trained/B-256.pt").unlink()
        said = forecasts(["shallow"], parse(text.encode(), Path("params.yaml")))
        compare(said, did_of(call(finished, "dvc", "repro", "shallow")), f"text {number}")
        whats = {forecast.what for forecast in said}
        assert number != 0 or whats == {"done"}
        assert number != 2 or "cached" in whats


def test_another_recipe_is_named_and_is_not_another_profile() -> None:
    old = {"runs.D": {"recipe": "jitter"}, "profiles.mini.recipes.jitter": {"epochs": 1}, "profiles.mini.net": 1}
    now = {"runs.D": {"recipe": "finetune"}, "profiles.mini.recipes.finetune": {"epochs": 2}, "profiles.mini.net": 1}
    assert _changed_values(old, now) == ["runs.D.recipe: jitter, now finetune"]
    other = {"runs.D": {"recipe": "jitter"}, "profiles.paper.net": 1}
    assert _changed_values(old, other) == ["never run with profile paper"]


def test_a_block_that_is_new_or_gone_is_named_and_not_written_out() -> None:
    old, now = ({"datasets": {name: {"source": name, "path": None}}} for name in ("scenes", "voc2007"))
    assert _changed_values(old, now) == ["datasets.scenes was removed", "datasets.voc2007 is new"]


@pytest.mark.parametrize("use", ["read", "write"])
def test_a_dvc_at_work_is_named_while_it_lives(use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.fs import localfs
    from dvc.rwlock import rwlock

    monkeypatch.chdir(tmp_path)
    assert at_work() == ""
    IN_USE.parent.mkdir(parents=True)
    files = {"read": [], "write": [], use: [str(tmp_path / "weights")]}
    with rwlock(str(IN_USE.parent), localfs, "dvc repro train@A-256", **files, hardlink=False):
        known = IN_USE.read_text()
        assert at_work() == f"dvc repro train@A-256, process {os.getpid()}"
    assert at_work() == ""
    IN_USE.write_text(known.replace(str(os.getpid()), str(2**22 + 1)))  # killed
    assert at_work() == ""
    IN_USE.write_text("{")
    assert at_work() == ""


def test_a_stage_without_any_of_its_outputs_is_not_computed_here() -> None:
    def output(path: str, exists: bool) -> SimpleNamespace:
        state = {} if exists else {path: "deleted"}
        return SimpleNamespace(exists=exists, use_cache=False, status=lambda: state)

    lost = output("scores/seeds/scores.txt", False)
    assert _changed_outputs(SimpleNamespace(outs=[lost, output("scores.txt", False)])) == ["not computed here"]
    one = _changed_outputs(SimpleNamespace(outs=[lost, output("scores.txt", True)]))
    assert one == ["scores/seeds/scores.txt is missing"]
