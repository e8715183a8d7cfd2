"""Files for PASCAL VOC's evaluation server, from stand-ins of the archives and made-up features."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.svm import LinearSVC
from typer.testing import CliRunner

from cli.main import app
from pipeline.datasets.manifest import val_ids
from pipeline.datasets.readers.base import Examples, read_examples
from pipeline.errors import Failure, UsageError
from pipeline.experiment.other_sets import IMAGE, IMAGE_AND_BOX, NETS_OF, PROTOCOLS
from pipeline.experiment.paths import DataSet, classified, features
from pipeline.experiment.validation import load
from pipeline.results import server_files
from pipeline.results.other_sets import BOXES, descriptors_of
from pipeline.results.server_files import read_server_file, write_server_files
from pipeline.system.atomic_files import read_json, write_json
from stages import svm
from tests.support.images import repository_params
from tests.support.other_archives import Contents, actions, some_labels, tar_of, voc, without_labels
from vgg.measures import average_precision
from vgg.svm import ITERATIONS, TOLERANCE

OUT, ARCHIVE, TEST_ARCHIVE = Path("out"), "VOCtrainval_11-May-2012.tar", "VOC2012test.tar"
IDS = {"train": [f"2008_{number:06d}" for number in range(70)], "val": [f"2009_{number:06d}" for number in range(16)]}
TEST_IDS = [f"2008_{number:06d}" for number in range(900, 912)]  # between train and val in the shards
STEMS = {"voc2012": "Main/comp2_cls", "actions": "Action/comp10_action"}
VARIANTS = {"voc2012": [IMAGE], "actions": [IMAGE, IMAGE_AND_BOX]}
UNLISTED = {"val": IDS["val"][0], "test": TEST_IDS[0]}  # their persons are not in the lists of jumping


@pytest.fixture(params=["voc2012", "actions"])
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prepared and classified set, in a project that is the current folder."""
    repository_params(tmp_path, prepare={"processes": 1})
    (tmp_path / "params-0.yaml").rename(tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VGG_REPRO_SHARDS", str(tmp_path / "shards"))
    Path("there").mkdir()
    archive = stand_in(request.param, {subset: labels_of(request.param, ids) for subset, ids in IDS.items()})
    Path("there", ARCHIVE).write_bytes(tar_of(archive))
    prepared_and_classified(request.param, "--path", "there")
    return str(request.param)


def labels_of(name: str, ids: Sequence[str]) -> dict[str, list[int]]:
    return some_labels(4, ids, 10 if name == "actions" else 20)


def stand_in(name: str, sets: dict[str, dict[str, list[int]]]) -> Contents:
    """An archive. Of the actions, jumping's list of each set but train lacks the first person, as in the real ones."""
    contents = voc(2012, sets) if name == "voc2012" else actions(sets)
    for subset in sets if name == "actions" else ():
        path = f"VOCdevkit/VOC2012/ImageSets/Action/jumping_{subset}.txt"
        if subset in UNLISTED:
            contents[path] = contents[path].partition(b"\n")[2]
    return contents


def prepared_and_classified(name: str, *options: str) -> None:
    """Prepare the set, make up features that follow from net, Q and image, and train its SVMs."""
    app(["prepare", name, *options, "--direct"], standalone_mode=False)
    params = load()
    ids, examples = val_ids(DataSet(name).manifest), read_examples(DataSet(name).examples, "")
    of_kinds = {"": ids} | ({BOXES: [ids[image] for image in examples.images]} if name == "actions" else {})
    for run in NETS_OF["DE"]:
        arrays = {
            f"{kind}{scale}": np.stack([made_up(f"{run} {kind}{scale} {id}") for id in described])
            for kind, described in of_kinds.items() for scale in params.datasets[name].scales
        }  # fmt: skip
        features(name, run).parent.mkdir(parents=True, exist_ok=True)
        np.savez(features(name, run), allow_pickle=False, **arrays)
        write_json(features(name, run).with_suffix(".json"), {"weights_sha256": run})
    svm.main(params, name, "DE")


def made_up(what: str) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(what.encode())).normal(size=8)


@pytest.fixture
def served(name: str) -> str:
    """The same set with test images, prepared and classified again."""
    test = without_labels(stand_in(name, {"test": labels_of(name, TEST_IDS)}))
    Path("there", TEST_ARCHIVE).write_bytes(tar_of(test))
    prepared_and_classified(name)
    return name


def record_of(name: str) -> dict:
    return read_json(scores_of(name).with_suffix(".json"), "")


def scores_of(name: str) -> Path:
    return classified(load().datasets[name].table, name, "DE")


def check_files(name: str, subset: str, ids: Sequence[str], scores: np.ndarray, judged: np.ndarray) -> None:
    """There is a file of each class with the scores (n, K) of the examples that are `judged` (n, K)."""
    examples = read_examples(DataSet(name).examples, "")
    paths = [OUT / f"results/VOC2012/{STEMS[name]}_{subset}_{label}.txt" for label in examples.classes]
    assert set(paths[0].parent.glob(f"*_{subset}_*")) == set(paths)
    for column, path in enumerate(paths):
        lines, kept = [line.split(" ") for line in path.read_text().splitlines()], judged[:, column]
        expected = [id for id, one in zip(ids, kept, strict=True) if one]
        assert sorted(line[:-1] for line in lines) == [[id, *["2"] * (name == "actions")] for id in expected], (
            "a person is the second object, after a horse"
        )
        assert sorted(float(line[-1]) for line in lines) == sorted(scores[kept, column])
        keys = [" ".join(line[:-1]) for line in lines]
        assert np.array_equal(read_server_file(path, keys), [float(line[-1]) for line in lines])


def test_each_class_has_a_file_of_ids_and_confidences_as_the_server_takes_it(name: str) -> None:
    done = CliRunner().invoke(app, ["predictions", name, str(OUT)])
    assert done.exit_code == 0, done.output
    assert "of val, read back" in done.output and "The server evaluates test" in done.output
    examples, variant = read_examples(DataSet(name).examples, ""), VARIANTS[name][-1]
    assert {path.name.split("_")[2] for path in (OUT / "results/VOC2012").rglob("*.txt")} == {"val"}
    with np.load(scores_of(name)) as arrays:
        scores = arrays[f"{variant}-0"]
    labels = examples.labels[examples.subsets["val"]]
    order = np.argsort([val_ids(DataSet(name).manifest)[i] for i in examples.images[examples.subsets["val"]]])
    judged = labels != 0 if name == "actions" else np.ones_like(labels, bool)
    check_files(name, "val", IDS["val"], scores[order], judged[order])
    measures = [average_precision(*columns) for columns in zip(scores.T, labels.T, strict=True)]
    assert record_of(name)["results"][variant]["value"] == pytest.approx(100 * np.mean(measures))


@pytest.mark.parametrize("name", ["actions"], indirect=True)
def test_a_person_that_the_list_of_an_action_lacks_is_not_in_its_file(served: str) -> None:
    """The kit's VOCevalaction.m ends with `unrecognized object`."""
    for subset, id in UNLISTED.items():
        write_server_files(load(), served, OUT, subset == "test")
        folder = OUT / "results/VOC2012/Action"
        found = {path.name: f"{id} 2 " in path.read_text() for path in folder.glob(f"comp10_action_{subset}_*.txt")}
        assert not found[f"comp10_action_{subset}_jumping.txt"] and any(found.values())


def independent(served: str, variant: str, train: Sequence[str], test: str, cost: float) -> np.ndarray:
    """The scores of the set `test` by scikit-learn on the descriptors themselves, trained on the sets `train`."""
    params, examples = load(), read_examples(DataSet(served).examples, "")
    rows = descriptors_of(params, served, NETS_OF["DE"], variant, examples).astype(float)
    used = np.any([examples.subsets[name] for name in train], 0)
    seed, scores = params.active.transferring.seed, []
    for column in examples.labels.T:
        trained = used & (column != 0)
        model = LinearSVC(C=cost, dual=False, tol=TOLERANCE, max_iter=ITERATIONS, random_state=seed)
        scores.append(model.fit(rows[trained], column[trained]).decision_function(rows[examples.subsets[test]]))
    return np.stack(scores, 1)


def mean_ap(examples: Examples, scores: np.ndarray) -> float:
    labels = examples.labels[examples.subsets["val"]]
    return float(np.mean([average_precision(*columns) for columns in zip(scores.T, labels.T, strict=True)]))


def test_test_images_are_scored_after_training_on_train_and_val_with_the_c_that_is_best_on_val(served: str) -> None:
    examples, costs = read_examples(DataSet(served).examples, ""), load().active.transferring.costs
    choices = record_of(served)["server"]
    assert list(choices) == VARIANTS[served]
    with np.load(scores_of(served)) as arrays:
        assert arrays["server-examples"].tolist() == np.flatnonzero(examples.subsets["test"]).tolist()
        scores = {variant: arrays[f"server-{variant}"] for variant in choices}
    for variant, choice in choices.items():
        tuning = {cost: mean_ap(examples, independent(served, variant, ["train"], "val", cost)) for cost in costs}
        assert choice["tuning"] == pytest.approx({f"{cost:g}": 100 * value for cost, value in tuning.items()})
        assert choice["cost"] == max(costs, key=lambda cost: choice["tuning"][f"{cost:g}"])
        assert choice["examples"] == {"fit": 70, "tune": 16, "test": 12}
        expected = independent(served, variant, ["train", "val"], "test", choice["cost"])
        assert np.allclose(scores[variant], expected, atol=1e-3 * np.abs(expected).max())
        alone = independent(served, variant, ["train"], "test", choice["cost"])
        assert not np.allclose(scores[variant], alone, atol=1e-2 * np.abs(expected).max())


def test_the_files_of_test_have_its_scores(served: str) -> None:
    done = CliRunner().invoke(app, ["predictions", served, str(OUT), "--test"])
    assert done.exit_code == 0, done.output
    assert "files of 12 examples of test, read back. Their labels are known to the server alone" in done.output
    assert (". Of the published test images 10,979 are missing" in done.output) == (served == "voc2012")
    assert "mean AP" not in done.output
    with np.load(scores_of(served)) as arrays:
        scores, numbers = arrays[f"server-{VARIANTS[served][-1]}"], arrays["server-examples"]
    ids = val_ids(DataSet(served).manifest)
    images = [ids[image] for image in read_examples(DataSet(served).examples, "").images[numbers]]
    judged = np.ones_like(scores, bool)
    judged[images.index(UNLISTED["test"]), 0] = served != "actions"
    order = np.argsort(images)
    check_files(served, "test", TEST_IDS, scores[order], judged[order])


def test_test_images_change_nothing_of_the_measured_ones(
    name: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    before = record_of(name)
    with np.load(scores_of(name)) as arrays:
        old = dict(arrays)
    capsys.readouterr()
    request.getfixturevalue("served")
    said, after = capsys.readouterr().out, record_of(name)
    assert "70 in train, 16 in val, 12 in test without labels" in said
    count = (2 * 5 * 20, 4 * 5 * 10)[name == "actions"]
    assert f"{count}/{count} SVMs" in said and "12 examples without labels are scored for the organisers'" in said
    assert "server" not in before and set(after) == {*before, "server"}
    other = {"data", "annotations", "scores_sha256", "server"}
    assert {key: after[key] for key in before.keys() - other} == {key: before[key] for key in before.keys() - other}
    with np.load(scores_of(name)) as arrays:
        assert set(arrays) - set(old) == {"server-examples", *(f"server-{variant}" for variant in VARIANTS[name])}
        assert all(np.array_equal(arrays[key], values) for key, values in old.items() if key != "labels")
        assert np.array_equal(arrays["labels"][: len(old["labels"])], old["labels"])


def test_single_nets_are_not_trained_for_the_server(served: str) -> None:
    svm.main(load(), served, "D")
    path = classified(load().datasets[served].table, served, "D")
    record = read_json(path.with_suffix(".json"), "")
    assert "server" not in record and record["examples"] == 86
    with np.load(path) as arrays:
        assert not any(key.startswith("server") for key in arrays)


def test_svms_of_the_server_that_do_not_converge_are_named(
    served: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vgg.svm.ITERATIONS", 1)
    capsys.readouterr()
    svm.main(load(), served, "DE")
    *_, last = capsys.readouterr().out.splitlines()
    assert f"svm-DE@{served}, {VARIANTS[served][-1]}: no convergence in" in last
    assert record_of(served)["server"][IMAGE]["unconverged"]


@pytest.mark.parametrize("test", [False, True], ids=["val", "test"])
def test_what_is_read_back_is_compared(served: str, test: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    real, id = server_files.write_text, (TEST_IDS if test else IDS["val"])[3]
    monkeypatch.setattr(server_files, "write_text", lambda path, text: real(path, text.replace(id, "other")))
    with pytest.raises(Failure, match="has other examples than were written to it"):
        write_server_files(load(), served, OUT, test)
    monkeypatch.setattr(server_files, "write_text", lambda path, text: real(path, text.replace(" -", " ")))
    with pytest.raises(Failure, match="does not hold what was written to it"):
        write_server_files(load(), served, OUT, test)


def test_missing_sets_and_scores_are_named_with_their_command(served: str) -> None:
    params = load()
    scores_of(served).with_suffix(".json").unlink()
    for test in (False, True):
        with pytest.raises(
            Failure, match=f"the scores of {served} are missing; make them with: dvc repro svm-DE@{served}"
        ):
            write_server_files(params, served, OUT, test)
        with pytest.raises(UsageError, match=f"vgg-repro prepare {served} --path FOLDER"):
            write_server_files(params.model_copy(update={"datasets": {}}), served, OUT, test)
    assert not OUT.exists()


def test_without_test_images_it_is_said_how_to_get_them(name: str) -> None:
    done = CliRunner().invoke(app, ["predictions", name, str(OUT), "--test"])
    assert isinstance(done.exception, UsageError)
    steps = f"put {TEST_ARCHIVE} into there, then: vgg-repro prepare {name}, and dvc repro svm-DE@{name}"
    assert str(done.exception) == f"{name} is prepared without test images: {steps}"
    assert not OUT.exists()


def test_the_protocols_name_the_set_that_the_readers_give(served: str) -> None:
    assert set(read_examples(DataSet(served).examples, "").subsets) == {"train", "val", PROTOCOLS[served].server}
