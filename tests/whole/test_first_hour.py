"""What people do in their first hour: DVC's own tools, a changed parameter, a renamed run, a lost cache, a look."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.support import forks
from tests.support.clones import call, environment, executed

pytestmark = pytest.mark.slow
# Stages that look at sources: they run each time.
LOOKS = {"fingerprint", "source@scenes", "source@few-shot", "source@boxed"}
GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")


@pytest.fixture
def committed(finished: Path) -> Path:
    """A finished reproduction with its report, all committed."""
    call(finished, "vgg-repro", "report")
    call(finished, *GIT, "add", "--all")
    call(finished, *GIT, "commit", "--quiet", "--message", "Results")
    return finished


def refused(folder: Path, *words: str) -> str:
    """What a command prints that fails."""
    code, text = forks.call(folder, words, environment())
    assert code != 0, text
    return text


def changed(folder: Path, **values: object) -> None:
    """Write params.yaml with changed values, each under its place in the file."""
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for place, value in values.items():
        *above, key = place.split("__")
        block = params
        for name in above:
            block = block[name]
        block[key] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def rows_of(folder: Path, name: str) -> list[dict[str, object]]:
    """The rows of a table's JSON."""
    rows: list[dict[str, object]] = json.loads((folder / f"reports/mini/{name}.json").read_text())["rows"]
    return rows


def test_an_experiment_of_dvcs_leaves_everything_working(committed: Path) -> None:
    text = call(committed, "dvc", "exp", "run", "-S", "profiles.mini.recipes.jitter.learning_rate=0.004", "table5")
    assert {"train@D-jitter", "crops@D-jitter", "table5"} <= executed(text)
    assert "jitter" in call(committed, "dvc", "params", "diff")
    assert "D-jitter" in call(committed, "vgg-repro", "status")
    assert "up to date" in call(committed, "vgg-repro", "plan", "table5")
    assert "multi-crop" in call(committed, "vgg-repro", "table", "5")
    call(committed, "vgg-repro", "report")
    shown = json.loads(call(committed, "dvc", "metrics", "show", "--json"))
    cells = shown[""]["data"]["reports/mini/metrics.json"]["data"]
    assert set(cells["table5"]) == {
        f"{net}-jitter, {how}" for net in "DE" for how in ("dense", "multi-crop", "multi-crop & dense")
    }
    assert "D-jitter" not in cells["table3"], "that row is of the other learning rate"
    assert "A-256" in cells["table3"]
    assert "table5" in call(committed, "dvc", "exp", "show", "--md")


def test_metrics_are_the_tables_errors(committed: Path) -> None:
    metrics = json.loads((committed / "reports/mini/metrics.json").read_text())
    for name in ("table3", "table4", "table5", "table6", "table7", "shallow"):
        ours = [row["ours"] for row in rows_of(committed, name) if row["ours"]]
        assert [cell["top1"] for cell in metrics[name].values()] == [round(row["top1"]["error"], 2) for row in ours]


@pytest.mark.exhaustive  # without the stages of Tables 8 to 12 it is the next test
def test_after_all_stages_dvc_is_clean_but_for_looks_at_sources(committed: Path) -> None:
    call(committed, "dvc", "repro")
    call(committed, "vgg-repro", "report")
    call(committed, *GIT, "add", "--all")
    call(committed, *GIT, "commit", "--quiet", "--message", "All stages")
    assert set(json.loads(call(committed, "dvc", "status", "--json"))) == LOOKS
    assert "all 98 errors and measures are equal" in call(committed, "vgg-repro", "report")
    assert call(committed, "git", "status", "--porcelain") == ""


def test_looking_changes_nothing(committed: Path) -> None:
    assert re.search(r"all \d+ errors are equal", call(committed, "vgg-repro", "report"))
    for words in (
        ("table", "4", "--direct"),
        ("table", "4", "5"),
        ("status",),
        ("plan",),
        ("report", "--strict"),
        ("clean",),
    ):
        call(committed, "vgg-repro", *words)
    assert call(committed, "git", "status", "--porcelain") == ""
    shutil.rmtree(committed / "provenance")
    call(committed, "vgg-repro", "report")
    assert call(committed, "git", "status", "--porcelain") == "", "without a record the page is kept"
    call(committed, "rm", "reports/mini/provenance.md")
    call(committed, "vgg-repro", "report")
    assert call(committed, "git", "status", "--porcelain") == "", "git has the records"
    call(committed, "rm", "reports/mini/provenance.md", "reports/mini/provenance.json")
    call(committed, "vgg-repro", "report")
    assert "not recorded" in (committed / "reports/mini/provenance.md").read_text()


def test_results_of_other_parameters_are_marked(committed: Path) -> None:
    changed(committed, profiles__mini__recipes__jitter__learning_rate=0.004)
    text = refused(committed, "vgg-repro", "report", "--strict")
    assert "Older than params.yaml" in text and "learning_rate: 0.003, now 0.004" in text and "vgg-repro run" in text
    call(committed, "vgg-repro", "report")
    page = (committed / "reports/mini/table3.md").read_text().splitlines()
    marked = {line.split("|")[2].strip() for line in page if line.startswith("|") and "†" in line}
    assert marked == {"256-512"}
    assert "Older than params.yaml" in (committed / "reports/mini/README.md").read_text()
    assert "†" in call(committed, "vgg-repro", "table", "5", "--direct")
    call(committed, "git", "checkout", "--", "params.yaml")
    call(committed, "vgg-repro", "report", "--strict")
    assert "†" not in (committed / "reports/mini/table3.md").read_text()


def test_a_renamed_run_is_an_error_and_never_a_number(committed: Path) -> None:
    text = (committed / "params.yaml").read_text().replace("E-jitter", "E-jit")
    values = yaml.safe_load(text)
    values["runs"]["E-jit"]["recipe"] = "finetune"
    (committed / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    for words in (("table", "4"), ("table", "4", "--direct"), ("plan", "table4"), ("run", "table4"), ("status",)):
        said = refused(committed, "vgg-repro", *words)
        assert "no run E-jitter" in said and "under this name" in said, words


def test_a_table_can_be_looked_at_while_dvc_is_at_work(committed: Path) -> None:
    """Also one that is not up to date: it is shown as it stands."""
    changed(committed, profiles__mini__recipes__jitter__learning_rate=0.004)
    uses = {"cmd": "dvc repro train@D-jitter", "pid": os.getpid()}
    (committed / ".dvc/tmp/rwlock").write_text(json.dumps({"write": {"weights/trained/D-jitter.pt": uses}, "read": {}}))
    text = call(committed, "vgg-repro", "table", "5")
    assert "DVC is running (dvc repro train@D-jitter" in text and "| D †" in text and "Older than params.yaml" in text


def test_what_is_done_without_dvc_ends_with_the_command_that_records_it(committed: Path) -> None:
    text = call(committed, "vgg-repro", "score", "dense", "A-256", "--direct")
    assert "dvc commit dense@A-256" in text
    call(committed, "dvc", "commit", "--force", "dense@A-256")
    assert "0 to run" in call(committed, "vgg-repro", "plan", "table3")


def test_a_lost_cache_is_put_back_by_one_command(committed: Path) -> None:
    shutil.rmtree(committed / ".dvc/cache")
    assert "dvc commit" in call(committed, "vgg-repro", "plan", "table5")
    for words in (("run", "table5"), ("train", "A-256"), ("table", "5")):
        assert "Nothing has to run: dvc commit" in refused(committed, "vgg-repro", *words)
    assert "dvc commit" in forks.call(committed, ("vgg-repro", "doctor"), environment())[1]
    command = re.search(r"(dvc commit.*) puts them back", refused(committed, "vgg-repro", "run"))
    assert command and "dense@A-256" in command[1], "a stage that was never run keeps a bare dvc commit from working"
    call(committed, *command[1].split())
    assert "0 to run" in call(committed, "vgg-repro", "plan", "table5")


def test_what_is_left_behind_is_listed_and_removed_when_named(committed: Path) -> None:
    old = committed / "checkpoints/A-256-0123456789ab"
    partial = committed / "data/shards/0123456789abcdef.partial"
    for folder in (old, partial):
        folder.mkdir(parents=True)
        (folder / "last.pt").write_bytes(bytes(1000))
    listed = call(committed, "vgg-repro", "clean")
    assert "checkpoints/A-256-0123456789ab" in listed and "Nothing was removed" in listed
    assert "removed" in call(committed, "vgg-repro", "clean", "checkpoints")
    assert not old.exists() and partial.exists()
    call(committed, "vgg-repro", "clean", str(partial.relative_to(committed)))
    assert not partial.exists()
    assert "nothing is left behind at nonsense" in refused(committed, "vgg-repro", "clean", "nonsense")
    assert "There is nothing to clean up" in call(committed, "vgg-repro", "clean")
