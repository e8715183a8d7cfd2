"""Everything that a report is rendered from: a profile's JSON and CSV files in git, and copies of DVC's into them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from pipeline.datasets.facts import PREPARE
from pipeline.experiment.other_sets import FEATURES, classified_by, described_by, shown_stage, svm_stage
from pipeline.experiment.paper_tables import NO_DATA, OTHER_SETS, TITLES
from pipeline.experiment.params import Params, Profile
from pipeline.experiment.paths import (
    CLASSIFICATION,
    claims,
    errors,
    filters,
    history,
    illustrations,
    located_images,
    ranks,
    reported,
    reported_set,
    results,
    shown_set,
    summary,
    table,
)
from pipeline.experiment.run_names import is_localiser, score_stage, train_stage
from pipeline.experiment.targets import ILLUSTRATIONS, LOCATED, scored
from pipeline.results.claims import without_sets
from pipeline.results.deviations import deviations
from pipeline.results.filters import Filters, collect_filters, read_filters
from pipeline.results.illustrations import Illustrations, read_illustrations
from pipeline.results.located_images import LocatedImages, read_located_images
from pipeline.results.other_sets import current_part, is_current, set_records
from pipeline.results.provenance import known_provenance, provenance_of
from pipeline.results.ranks import GUESSED, Guesses, read_ranks
from pipeline.results.shown_sets import ShownSet, read_shown_set
from pipeline.system.atomic_files import copy, read_json


def collect(params: Params) -> None:
    """Copy the active profile's facts, summaries, histories, errors and filters to where its report reads them.

    A result that is not on this machine leaves an earlier copy as it is. Copies of runs that params.yaml does not have
    are removed.
    """
    profile = params.profile
    facts = CLASSIFICATION.facts(profile)
    made = [facts] if facts.exists() else []
    runs = params.all_trained
    if params.weights == "trained":
        made += [path for run in runs if _is_of(profile, summary(run)) for path in (summary(run), history(run))]
    made += [errors(*score) for score in scored(params) if _is_of(profile, errors(*score))]
    for path in made:
        if path.exists():
            copy(path, reported(profile, path))
    of_sets = set_records(params)
    for stage, path in of_sets.items():
        if _is_of(profile, path):
            copy(path, reported_set(profile, stage))
    collect_filters(params)
    wanted = {reported(profile, path) for run in runs for path in (summary(run), history(run))}
    wanted |= {reported(profile, errors(*score)) for score in scored(params)}
    wanted |= {reported_set(profile, stage) for stage in of_sets}
    for folder in ("runs", "scores", "sets"):
        for path in (results(profile) / folder).glob("*.*"):
            if path.suffix in (".json", ".csv") and path not in wanted:
                path.unlink()


def _is_of(profile: str, path: Path) -> bool:
    """Return True if there is a result at `path` and it was made with this profile."""
    return path.exists() and read_json(path, "dvc repro").get("profile") == profile


class Results:
    """The results of a profile on disk that were made from the images that are prepared now.

    `outdated` has the stages whose results were made with other parameters than now, each with the reason. Without
    `params`, the images alone are compared with the paper's.
    """

    def __init__(self, profile: str, outdated: Mapping[str, str] | None = None, params: Params | None = None) -> None:
        import pandas as pd

        self.profile, self.params = profile, params
        outdated = outdated or {}
        self.facts = _json(reported(profile, CLASSIFICATION.facts(profile)), PREPARE)
        self.deviations = deviations(profile, params, self.facts)  # from the paper
        self.others: list[str] = []  # tables, runs and scores of other images
        self.paths: dict[str, Path] = {}  # by stage, of the results that are shown
        folder = results(profile)
        tables = {name: table(profile, name) for name in TITLES if name not in OTHER_SETS}
        computed = self._of_current_images(tables, "manifest", str)
        self.tables = {name: values for name, values in computed.items() if values.get("rows", True)}
        self._is_current = cache(partial(is_current, profile))  # of a data set with a manifest and annotations
        self.other_sets = dict(self._of_other_sets())
        self.set_records = dict(self._set_records())
        self.paths |= {shown_stage(name): shown_set(profile, name) for name in self._sets if self._is_shown(name)}
        further = {"seeds": table(profile, "seeds")}
        further |= {ILLUSTRATIONS: illustrations(profile), LOCATED: located_images(profile)}
        self.seeds = self._of_current_images(further, "manifest", str).get("seeds", {})
        self.claims = self._current_claims()
        trained = self._of_current_images(_stems(folder / "runs"), "data", train_stage)
        self.summaries = {run: values for run, values in trained.items() if not is_localiser(run)}
        self.localisers = {run: values for run, values in trained.items() if is_localiser(run)}
        scores = self._of_current_images(_stems(folder / "scores"), "data", _score_stage)
        self.scores = list(scores.values())
        histories = ((run, folder / "runs" / f"{run}.csv") for run in self.summaries)
        self.histories = {run: pd.read_csv(path) for run, path in histories if path.exists()}
        self.outdated = {stage: outdated[stage] for stage in outdated if stage in self.paths}  # each with the reason

    @property
    def _manifest(self) -> str:
        """Return the identity of the images that are prepared now."""
        return str(self.facts["manifest"]) if self.facts else "nothing is prepared"

    @property
    def settings(self) -> Profile | None:
        """Return the profile's block of params.yaml; None if it is not known."""
        return self.params.profiles.get(self.profile) if self.params else None

    @property
    def digest(self) -> str:
        """Return a hash of all results that are shown."""
        shown = hashlib.sha256()
        for _, path in sorted(self.paths.items()):
            shown.update(path.read_bytes())
        return shown.hexdigest()

    @cached_property
    def provenance(self) -> dict[str, dict[str, Any] | None]:
        """Return by stage where and how each shown result was made; None where that is not recorded."""
        return {stage: provenance_of(stage, path) for stage, path in self.paths.items()}

    @cached_property
    def known_provenance(self) -> dict[str, dict[str, Any] | None]:
        """Return the same, and also what git keeps of results that were made elsewhere."""
        return known_provenance(self.profile, self.paths)

    @cached_property
    def guesses(self) -> tuple[str, Guesses] | None:
        """Return the guesses of the best row of Table 5, or else of Table 4 or 3, with the table; None if unknown."""
        for name in reversed(GUESSED):
            known = read_ranks(ranks(self.profile, name), f"dvc repro {name}") if name in self.tables else None
            if known and known.guesses and known.manifest == self.tables[name]["manifest"]:
                return name, known.guesses
        return None

    @cached_property
    def filters(self) -> Filters | None:
        """Return the first layer's filters of a net that Table 3 was computed from; None if there are none."""
        known = read_filters(filters(self.profile))
        scored = self.tables.get("table3", {}).get("weights", {})
        return known if known and scored.get(known.run) == known.weights else None

    @cached_property
    def located(self) -> LocatedImages | None:
        """Return the images with boxes, the merging and the errors by overlap; None if there are none."""
        return read_located_images(self.profile) if LOCATED in self.paths else None

    @cached_property
    def shown_sets(self) -> dict[str, ShownSet]:
        """Return what there is to show of each data set of Tables 11 and 12, if it is of the table's images."""
        found = {name: read_shown_set(self.profile, name) for name in self._sets if shown_stage(name) in self.paths}
        return {name: shown for name, shown in found.items() if shown}

    @property
    def _sets(self) -> dict[str, dict[str, Any]]:
        """Return what Tables 11 and 12 say of their data sets, by name."""
        return {name: values for table in self.other_sets.values() for name, values in table["sets"].items()}

    @cached_property
    def illustrations(self) -> Illustrations | None:
        """Return the illustrations, with their images if those are there; None if there are none."""
        return read_illustrations(self.profile) if ILLUSTRATIONS in self.paths else None

    def _of_other_sets(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield Tables 11 and 12, without the numbers of data sets that have been prepared from other images since."""
        for name in OTHER_SETS:
            computed = _json(path := table(self.profile, name), f"dvc repro {name}")
            if computed and any(row["ours"] for row in computed["rows"]):
                values = current_part(computed, self._is_current)
                if any(row["ours"] for row in values["rows"]):
                    self.paths[name] = path
                    yield name, values
                else:
                    self.others.append(name)

    def _set_records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the record of each stage of features and SVMs, without those of images that were prepared anew."""
        for stage, path in _stems(results(self.profile) / "sets").items():
            values = _json(path, f"dvc repro {stage}")
            name = (described_by if stage.startswith(f"{FEATURES}@") else classified_by)(stage)[0]
            if self._is_current(name, values["data"], values.get("annotations")):
                self.paths[stage] = path
                yield stage, values

    def _current_claims(self) -> dict[str, Any]:
        """Return the ledger, without the claims about data sets that were prepared anew since, or that are removed.

        An empty dict if there is none, or if it is of other images of the profile. A ledger of claims about other data
        sets alone has none of these.
        """
        ledger: dict[str, Any] = _json(path := claims(self.profile), "dvc repro claims")
        if not ledger:
            return {}
        if ledger["manifest"] not in ("", self._manifest):
            self.others.append("claims")
            return {}
        self.paths["claims"] = path
        changed = [one["source"] for one in ledger["sets"].values() if self._is_removed(one) or not self._is_same(one)]
        return without_sets(ledger, changed) if changed else ledger

    def _is_same(self, of_set: Mapping[str, Any]) -> bool:
        """Return True if a data set of the ledger has the same images and annotations now."""
        return self._is_current(of_set["name"], of_set["manifest"], of_set["annotations"] or None)

    def _is_removed(self, of_set: Mapping[str, Any]) -> bool:
        """Return True if params.yaml has this profile and no longer a data set of the ledger."""
        params = self.params
        return bool(params and params.profile == self.profile and of_set["name"] not in params.datasets)

    def _is_shown(self, name: str) -> bool:
        """Return True if there is something to show of a data set, made from the scores of its table."""
        values = _json(shown_set(self.profile, name), f"dvc repro {shown_stage(name)}")
        scores = [table["scores"].get(svm_stage(name, "DE")) for table in self.other_sets.values()]
        return bool(values) and values.get("scores_sha256") in filter(None, scores)

    def _of_current_images(self, paths: dict[str, Path], key: str, stage: Callable[[str], str]) -> dict[str, Any]:
        """Return the contents of the JSON files that exist at `paths`, by name, without those of other images.

        Each file's `key` says which images it was made from; the names of the skipped ones are added to `others`.
        `stage` turns a name into the DVC stage that makes the file. Raise Failure, naming it, if a file is broken.
        """
        contents = {name: values for name, path in paths.items() if (values := _json(path, f"dvc repro {stage(name)}"))}
        others = [
            name for name, values in contents.items() if name not in NO_DATA and values.get(key) != self._manifest
        ]
        self.others += others
        shown = {name: values for name, values in contents.items() if name not in others}
        self.paths |= {stage(name): paths[name] for name in shown}
        return shown


def _score_stage(name: str) -> str:
    """Return the stage of a score's file: dense@D-384 of dense-D-384."""
    mode, _, run = name.partition("-")
    return score_stage(run, mode)


def _stems(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def _json(path: Path, make: str) -> Any:
    return read_json(path, make) if path.exists() else None
