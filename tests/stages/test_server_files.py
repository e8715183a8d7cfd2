"""Files for PASCAL VOC's evaluation server, from stand-ins of the archives and made-up features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from pipeline.datasets.readers.base import read_examples
from pipeline.errors import Failure, UsageError
from pipeline.experiment.other_sets import IMAGE, IMAGE_AND_BOX, NETS_OF
from pipeline.experiment.paths import DataSet, classified, features
from pipeline.experiment.validation import load
from pipeline.results import server_files
from pipeline.results.other_sets import BOXES
from pipeline.results.server_files import write_server_files
from pipeline.system.atomic_files import read_json, write_json
from stages import svm
from tests.support.images import repository_params
from tests.support.other_archives import actions, some_labels, tar_of, voc
from vgg.measures import average_precision

OUT = Path("out")
IDS = {"train": [f"2008_{number:06d}" for number in range(70)], "val": [f"2009_{number:06d}" for number in range(16)]}


@pytest.fixture(params=["voc2012", "actions"])
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prepared and classified set, in a project that is the current folder."""
    repository_params(tmp_path, prepare={"processes": 1})
    (tmp_path / "params-0.yaml").rename(tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VGG_REPRO_SHARDS", str(tmp_path / "shards"))
    make, classes = {"voc2012": (lambda sets: voc(2012, sets), 20), "actions": (actions, 10)}[request.param]
    archive = tar_of(make({subset: some_labels(4, ids, classes) for subset, ids in IDS.items()}))
    Path("there").mkdir()
    Path("there/VOCtrainval_11-May-2012.tar").write_bytes(archive)
    app(["prepare", request.param, "--path", "there", "--direct"], standalone_mode=False)
    params, random = load(), np.random.default_rng(0)
    for run in NETS_OF["DE"]:
        kinds = ("", BOXES) if request.param == "actions" else ("",)
        keys = [f"{kind}{scale}" for kind in kinds for scale in params.datasets[request.param].scales]
        features(request.param, run).parent.mkdir(parents=True, exist_ok=True)
        np.savez(features(request.param, run), **{key: random.normal(size=(86, 8)) for key in keys})
        write_json(features(request.param, run).with_suffix(".json"), {"weights_sha256": run})
    svm.main(params, request.param, "DE")
    return str(request.param)


def test_each_class_has_a_file_of_ids_and_confidences_as_the_server_takes_it(name: str) -> None:
    done = CliRunner().invoke(app, ["predictions", name, str(OUT)])
    assert done.exit_code == 0, done.output
    assert "of val, read back" in done.output and "The server evaluates test" in done.output
    examples, variant = read_examples(DataSet(name).examples, ""), IMAGE if name == "voc2012" else IMAGE_AND_BOX
    stem = {"voc2012": "Main/comp2_cls", "actions": "Action/comp10_action"}[name]
    paths = [OUT / f"results/VOC2012/{stem}_val_{label}.txt" for label in examples.classes]
    assert set(paths[0].parent.iterdir()) == set(paths)
    with np.load(classified(load().datasets[name].table, name, "DE")) as arrays:
        scores = arrays[f"{variant}-0"]
    measures = []
    for column, path in enumerate(paths):
        lines = [line.split(" ") for line in path.read_text().splitlines()]
        assert [line[:-1] for line in lines] == [[id, *["2"] * (name == "actions")] for id in IDS["val"]], (
            "a person is the second object, after a horse"
        )
        read = np.array([float(line[-1]) for line in lines])
        assert np.array_equal(read, scores[:, column])
        measures.append(average_precision(read, examples.labels[70:, column]))
    record = read_json(classified(load().datasets[name].table, name, "DE").with_suffix(".json"), "")
    assert record["results"][variant]["value"] == pytest.approx(100 * np.mean(measures))


def test_what_is_read_back_is_compared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = server_files.write_text
    monkeypatch.setattr(server_files, "write_text", lambda path, text: real(path, text.replace("2009_000003", "other")))
    with pytest.raises(Failure, match="has other examples than were written to it"):
        write_server_files(load(), name, OUT)
    monkeypatch.setattr(server_files, "write_text", lambda path, text: real(path, text.replace(" -", " ")))
    with pytest.raises(Failure, match="does not hold what was written to it"):
        write_server_files(load(), name, OUT)


def test_missing_sets_and_scores_are_named_with_their_command(name: str) -> None:
    params = load()
    classified(params.datasets[name].table, name, "DE").with_suffix(".json").unlink()
    with pytest.raises(Failure, match=f"the scores of {name} are missing; make them with: dvc repro svm-DE@{name}"):
        write_server_files(params, name, OUT)
    with pytest.raises(UsageError, match=f"vgg-repro prepare {name} --path FOLDER"):
        write_server_files(params.model_copy(update={"datasets": {}}), name, OUT)
    assert not OUT.exists()
