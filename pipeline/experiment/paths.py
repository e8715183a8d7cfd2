"""All paths, each defined once, relative to the repository's root."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.experiment.run_names import Kind, kind_of, work_of

PARAMS = Path("params.yaml")
LOCKFILE = Path("dvc.lock")
REPORTS = Path("reports")
WEIGHTS = Path("weights")
SCORES = Path("scores")
AGGREGATION = "aggregation"  # of the descriptors over Q
SHARDS_ROOT = "VGG_REPRO_SHARDS"  # the environment variable that names another folder of prepared data sets
KEY = 12  # digits of a run's key in the name of its checkpoint folder
PRINTED = Path(__file__).parent / "printed"  # the paper's tables as CSV


@dataclass(frozen=True)
class DataSet:
    """The paths of a named prepared data set."""

    name: str

    @property
    def folder(self) -> Path:
        """Return the folder of everything except the shards and the facts."""
        return Path("data") / self.name

    @property
    def fingerprint(self) -> Path:
        """Return the file with the fingerprint of the source."""
        return self.folder / "fingerprint.json"

    @property
    def manifest(self) -> Path:
        """Return the table of all images: split, id, class, size as stored, hash of the source's bytes."""
        return self.folder / "manifest.csv"

    @property
    def statistics(self) -> Path:
        """Return the file that training and scoring depend on: counts, colour statistics, the manifest's hash."""
        return self.folder / "statistics.json"

    @property
    def boxes(self) -> Path:
        """Return the file that localisers depend on: how many images have boxes, and a hash of these."""
        return self.folder / "boxes.json"

    @property
    def examples(self) -> Path:
        """Return the file with the examples and labels of a data set of appendix B."""
        return self.folder / "examples.npz"

    @property
    def shards_record(self) -> Path:
        """Return the file with the name of the shards' folder and a hash of the request."""
        return self.folder / "shards.txt"

    @property
    def skipped(self) -> Path:
        """Return the table of the skipped images, which is written when there are too many."""
        return self.folder / "skipped.csv"

    @property
    def shards(self) -> Path:
        """Return the folder of the shards. It is not part of the data set's identity, and no training depends on it."""
        record = self.shards_record
        return shards_root() / (record.read_text().split()[0] if record.exists() else "none")

    def facts(self, profile: str) -> Path:
        """Return the file with the facts that prepare found about the data set, for people."""
        return self.folder / f"facts-{profile}.json"


CLASSIFICATION = DataSet("classification")  # the networks are trained and scored on it


def shards_root() -> Path:
    """Return the folder of all prepared data sets. SHARDS_ROOT moves it, so that several clones can share it."""
    return Path(os.environ.get(SHARDS_ROOT, "data/shards"))


def checkpoints(run: str, key: str) -> Path:
    """Return the folder of a run's resumable state. DVC does not know it: DVC would delete it before a rerun."""
    return checkpoints_root() / f"{run}-{key[:KEY]}"


def all_checkpoints() -> Iterator[tuple[str, Path]]:
    """Yield every folder of a resumable state, with the name of its run."""
    for folder in sorted(checkpoints_root().glob("*/")):
        if match := re.fullmatch(f"(.+)-[0-9a-f]{{{KEY}}}", folder.name):
            yield match[1], folder


def checkpoints_root() -> Path:
    """Return the folder of all runs' resumable states."""
    return Path("checkpoints")


def weights(name: str, origin: str = "trained") -> Path:
    """Return the file of a run's finished weights, published or trained here, which includes those of random-NET."""
    return WEIGHTS / origin / f"{name}.pt"


def record(name: str) -> Path:
    """Return the file that records a run's published weights: their file, its hash, their input."""
    return weights(name, "published").with_suffix(".json")


def posteriors(run: str, mode: str, data_set: DataSet = CLASSIFICATION) -> Path:
    """Return the file of a run's class posteriors, or boxes, in one mode; other data sets have folders of their own."""
    folder = (kind_of(run) or "") if data_set == CLASSIFICATION else data_set.name
    return SCORES / folder / f"{mode}-{run}.npz"


def threshold() -> Path:
    """Return the file with the thresholds of merging boxes, as chosen on training images."""
    return SCORES / "threshold.json"


def features(name: str, run: str) -> Path:
    """Return the file with the features of a data set's images by a run's net."""
    return SCORES / "features" / f"{name}-{run}.npz"


def classified(table: str, name: str, system: str) -> Path:
    """Return the file with the SVM's scores of a data set, by the features of one net or both."""
    return SCORES / table / f"{name}-{system}.npz"


def otherwise_classified(name: str, system: str) -> Path:
    """Return the same file, of the descriptors that are aggregated over Q in the way that the table does not have."""
    return SCORES / AGGREGATION / name / f"{system}.npz"


def listed_sets(table: str) -> Path:
    """Return the list of the data sets that a table of appendix B shows, in the folder of their scores."""
    return SCORES / table / "sets.txt"


def asked_scores(kind: Kind) -> Path:
    """Return the list of the scores that the active profile adds to the grid's, in their folder."""
    return SCORES / kind / "scores.txt"


def summary(run: str) -> Path:
    """Return the file with the final results of a run's training."""
    return weights(run).with_suffix(".json")


def history(run: str) -> Path:
    """Return the table of a run's training, one row per epoch."""
    return weights(run).with_suffix(".csv")


def errors(run: str, mode: str, data_set: DataSet = CLASSIFICATION) -> Path:
    """Return the file of a run's errors in one mode; without labels it has no errors, only what they would be of."""
    return posteriors(run, mode, data_set).with_suffix(".json")


def errors_of(score: str) -> Path:
    """Return the file of errors of a score stage, such as dense@D-384."""
    mode, run = work_of(score)
    return errors(run, mode)


def provenance_record(stage: str) -> Path:
    """Return the file that records where and when a stage made its result. Neither DVC nor git knows it."""
    return Path("provenance") / f"{stage}.json"


def kept_provenance(profile: str) -> Path:
    """Return the copy, in git, of the provenance of a profile's results."""
    return results(profile) / "provenance.json"


def kept_records(profile: str) -> Path:
    """Return the copy, in git, of what dvc.lock had of a profile's runs: one profile's results are in dvc.lock."""
    return results(profile) / "dvc_records.json"


def results(profile: str) -> Path:
    """Return the folder of everything that is reported for a profile."""
    return REPORTS / profile


def table(profile: str, name: str) -> Path:
    """Return the file of a computed table: table1 ... table7, shallow."""
    return results(profile) / f"{name}.json"


def ranks(profile: str, name: str) -> Path:
    """Return the file with the rank of each image's class in each row of a computed table."""
    return results(profile) / "ranks" / f"{name}.npz"


def filters(profile: str) -> Path:
    """Return the file with the first layer's filters of one net."""
    return results(profile) / "filters.npz"


def illustrations(profile: str) -> Path:
    """Return the file with the numbers of the illustrations: score maps, crops, draws."""
    return results(profile) / "illustrations.json"


def located_images(profile: str) -> Path:
    """Return the file with the numbers of the page of localisation: boxes, merging, errors by overlap."""
    return results(profile) / "localisation.json"


def located_pixels(profile: str) -> Path:
    """Return the file with the images of the page of localisation."""
    return results(profile) / "localisation.npz"


def shown_set(profile: str, name: str) -> Path:
    """Return the file with what the page of other data sets shows of one: examples, descriptors in a plane."""
    return results(profile) / "descriptors" / f"{name}.json"


def shown_set_pixels(profile: str, name: str) -> Path:
    """Return the file with the images of these examples."""
    return shown_set(profile, name).with_suffix(".npz")


def illustrated_images(profile: str) -> Path:
    """Return the file with the images of the illustrations."""
    return results(profile) / "illustrations.npz"


def resampled(profile: str) -> Path:
    """Return the file with the measures of other data sets on resampled images and splits."""
    return results(profile) / "resampled.npz"


def claims(profile: str) -> Path:
    """Return the file of the ledger: the paper's claims and their tests."""
    return results(profile) / "claims.json"


def metrics(profile: str) -> Path:
    """Return the file with the errors of all tables, for DVC's own commands."""
    return results(profile) / "metrics.json"


def reported_set(profile: str, stage: str) -> Path:
    """Return the copy, in git, of the record of a stage of features or SVMs."""
    return results(profile) / "sets" / f"{stage}.json"


def reported(profile: str, path: Path) -> Path:
    """Return the copy of a result that a profile's report shows, in git: of the facts, a summary, a history, errors."""
    if path.parts[0] == "data":
        return results(profile) / "data" / f"{path.parent.name}.json"
    return results(profile) / {"weights": "runs", "scores": "scores"}[path.parts[0]] / path.name
