"""A data set of appendix B as stages, from its images to its table."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.datasets.facts import read_statistics
from pipeline.datasets.readers.base import read_examples
from pipeline.datasets.shards import Shards
from pipeline.errors import Failure
from pipeline.experiment.other_sets import IMAGE, IMAGE_AND_BOX
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet, classified, features, otherwise_classified, reported_set
from pipeline.experiment.paths import resampled as resampled_file
from pipeline.experiment.validation import load
from pipeline.results.explanation import Files
from pipeline.results.other_sets import descriptors_of
from pipeline.results.profile_results import Results, collect
from pipeline.results.row_choice import RowName
from pipeline.results.set_explanation import explain_set
from pipeline.system.atomic_files import read_json, write_json
from reports.explain_page import explain_page
from reports.markdown import markdown
from reports.provenance_page import provenance_page
from stages import aggregation, claims, other_set, other_sets, resampled, svm, table
from stages import features as describe
from stages import random as random_weights
from stages.regions import Regions
from tests.support import ROOT
from tests.support.training import with_random_weights
from vgg.images import Decoder

BOXED = DataSet("boxed")


@pytest.fixture(scope="module")
def classified_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the set `boxed`, described by random nets and classified, to be copied."""
    folder = tmp_path_factory.mktemp("classified")
    with_random_weights(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        values = yaml.safe_load(Path("params.yaml").read_text())
        values["datasets"]["boxed"]["scales"] = [256, 384]
        values["profiles"]["mini"]["drawn"]["boxed"] = 60
        Path("params.yaml").write_text(yaml.safe_dump(values))
        params = load()
        other_sets.main(params)
        other_set.main(params, "boxed")
        for net in "DE":
            random_weights.main(params, net)
            shutil.copy(f"weights/trained/random-{net}.pt", f"weights/trained/{net}-jitter.pt")
            describe.main(params, "boxed", f"{net}-jitter")
        svm.main(params, "boxed", "DE")
    return folder


@pytest.fixture
def params(classified_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The parameters of a copy of the folder, which is the current one."""
    shutil.copytree(classified_set, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return load()


def test_features_are_kept_for_each_scale_and_net_of_images_and_boxes(params: Params) -> None:
    with np.load(features("boxed", "D-jitter")) as arrays:
        assert set(arrays) == {"256", "384", "boxes-256", "boxes-384"}
        assert {array.shape for array in arrays.values()} == {(120, 16)}
        assert arrays["256"].dtype == np.float32 and not np.array_equal(arrays["256"], arrays["boxes-256"])


def test_features_are_kept_in_the_type_of_the_profile_and_dvc_knows(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(features("boxed", "D-jitter")) as arrays:
        before = dict(arrays)
    transfer = params.active.transferring.model_copy(update={"dtype": "float16"})
    profile = params.active.model_copy(update={"transfer": transfer})
    describe.main(params.model_copy(update={"profiles": {"mini": profile}}), "boxed", "D-jitter")
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert "in float16: " in first and second.startswith("features@boxed-D-jitter: ")  # the size comes before the work
    with np.load(features("boxed", "D-jitter")) as arrays:
        assert {array.dtype for array in arrays.values()} == {np.dtype("float16")}
        assert all(np.allclose(arrays[name], rows, rtol=1e-3) for name, rows in before.items())
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["features"]
    assert "profiles.${profile}.transfer.dtype" in stage["params"]


def test_image_and_box_of_both_nets_stand_side_by_side(params: Params) -> None:
    examples = read_examples(BOXED.examples, "")
    runs = ("D-jitter", "E-jitter")
    image = descriptors_of(params, "boxed", runs, IMAGE, examples)
    both = descriptors_of(params, "boxed", runs, IMAGE_AND_BOX, examples)
    assert (image.shape, both.shape) == ((120, 32), (120, 64))
    assert np.allclose(np.linalg.norm(both.reshape(120, 4, 16), axis=2), 1)
    assert np.array_equal(np.hstack([both[:, :16], both[:, 32:48]]), image)


def test_a_box_is_an_image_of_exactly_its_pixels(params: Params) -> None:
    shards = Shards(BOXED.shards, "val")
    boxes = np.array([[3.2, 5.0, 40.5, 30.0], [-2.0, 0.0, 9999.0, 9.0]])
    regions = Regions(shards, np.array([4, 7]), boxes, "pillow")
    whole = [pixels.copy() for pixels in Decoder(2, decoder="pillow")([shards[4], shards[7]])]
    cut = Decoder(2, decoder="pillow")([regions[0], regions[1]])
    assert np.array_equal(cut[0], whole[0][5:30, 3:41]) and np.array_equal(cut[1], whole[1][:9])
    assert [cut[i].shape[:2] for i in (0, 1)] == list(zip(regions.heights, regions.widths, strict=True))


def test_the_record_has_c_its_choice_and_the_divisions(params: Params) -> None:
    path = classified("table12", "boxed", "DE")
    record = read_json(path.with_suffix(".json"), "")
    (split,) = record["results"][IMAGE]["splits"]
    assert split["cost"] in params.active.transferring.costs and len(split["tuning"]) == 4
    assert set(split["iterations"]) == set(split["by_class"]) and min(split["iterations"].values()) > 0
    assert sum(split["examples"].values()) == 120 and split["examples"]["test"] == 60
    assert record["data"] == read_statistics(BOXED).manifest and set(record["nets"]) == {"D-jitter", "E-jitter"}
    with np.load(path) as arrays:
        assert arrays[f"{IMAGE}-0"].shape == (60, 10)
        assert sorted(np.concatenate([arrays[f"{part}-0"] for part in ("fit", "tune", "test")])) == list(range(120))


def test_the_table_has_ours_and_says_of_other_sets_how_to_get_them(params: Params) -> None:
    rows = {tuple(row["label"].values()): row for row in table.compute(params, "table12").values["rows"]}
    ours = rows["drawn boxed objects", "VGG Net-D & Net-E, image and bounding box"]
    assert 0 <= ours["ours"]["value"] <= 100 and not ours["missing"] and not ours["paper"]
    theirs = rows["VOC-2012 actions", "VGG Net-D & Net-E, image and bounding box"]
    assert theirs["ours"] is None and theirs["paper"]["value"] == 84.0
    lacking = [row for row in table.compute(params, "table11").values["rows"] if row["set"] == "scenes"]
    assert [row["missing"] for row in lacking] == [[f"dvc repro svm-{system}@scenes"] for system in ("D", "E", "DE")]


def test_a_set_of_other_images_shows_nothing_of_the_first(params: Params) -> None:
    facts = BOXED.facts("mini")
    write_json(facts, json.loads(facts.read_text()) | {"manifest": "another"})
    rows = table.compute(params, "table12").values["rows"]
    assert not any(row["ours"] for row in rows)


@pytest.fixture
def of_images(params: Params) -> Params:
    """The same, with the set's objects as if each were an image of a set of Table 11."""
    row = params.datasets["boxed"].model_copy(update={"source": "scenes", "table": "table11"})
    examples = read_examples(BOXED.examples, "")
    subsets = {"train": examples.subsets["train"], "val": examples.subsets["val"], "test": examples.subsets["val"]}
    replace(examples, subsets=subsets).write(BOXED.examples, np.zeros((len(examples), 4)))
    return params.model_copy(update={"datasets": {"boxed": row}})


def test_the_other_aggregation_is_classified_beside_that_of_the_table(of_images: Params) -> None:
    svm.main(of_images, "boxed", "D")
    before = classified("table11", "boxed", "D").read_bytes()
    aggregation.main(of_images, "boxed")
    for system, run in (("D", "D-jitter"), ("E", "E-jitter")):
        path = otherwise_classified("boxed", system)
        record = read_json(path.with_suffix(".json"), "")
        assert (record["aggregate"], record["scales"], list(record["nets"])) == ("stack", [256, 384], [run])
        assert record["results"][IMAGE]["splits"][0]["cost"] in of_images.active.transferring.costs
    with np.load(otherwise_classified("boxed", "D")) as arrays, np.load(classified("table11", "boxed", "D")) as shown:
        assert np.array_equal(arrays["test-0"], shown["test-0"])
        assert not np.array_equal(arrays[f"{IMAGE}-0"], shown[f"{IMAGE}-0"])
    assert classified("table11", "boxed", "D").read_bytes() == before
    resampled.main(of_images)
    found = {entry["name"]: entry for entry in claims.main(of_images)["claims"]}["averaging"]
    paths = classified("table11", "boxed", "D"), otherwise_classified("boxed", "D")
    average, stack = (read_json(path.with_suffix(".json"), "")["results"][IMAGE]["value"] for path in paths)
    assert found["effect"] == pytest.approx(average - stack) and (found["pairs_run"], found["pairs"]) == (1, 2)
    other_sets.main(of_images.model_copy(update={"datasets": {}}))
    assert not otherwise_classified("boxed", "D").parent.exists()


def test_of_objects_with_boxes_there_is_no_other_aggregation(params: Params) -> None:
    aggregation.main(params, "boxed")
    assert [path.name for path in otherwise_classified("boxed", "D").parent.iterdir()] == ["aggregation.txt"]


def test_the_claim_about_boxes_is_tested_on_the_measures_of_the_table(params: Params) -> None:
    resampled.main(params)
    found = {entry["name"]: entry for entry in claims.main(params)["claims"]}
    rows = {row["label"]["method"]: row for row in table.compute(params, "table12").values["rows"] if row["ours"]}
    image, both = (row["ours"]["value"] for row in rows.values())
    entry = found["image-and-box"]
    assert entry["effect"] == pytest.approx(both - image) and entry["low"] < entry["effect"] < entry["high"]
    assert (entry["statistic"], entry["counts"]) == ("mean AP, area: drawn boxed objects", "images only")
    assert found["averaging"]["to_run"] == "dvc repro resampled", "params.yaml has scenes, of which nothing is run"
    first = resampled_file("mini").read_bytes()
    resampled.main(params)
    assert resampled_file("mini").read_bytes() == first


def test_a_number_is_explained_by_its_splits_c_features_and_nets(params: Params) -> None:
    values = table.main(params, "table12")
    entry = next(row for row in values["rows"] if row["ours"] and row["label"]["method"].endswith(IMAGE_AND_BOX))
    record = read_json(classified("table12", "boxed", "DE").with_suffix(".json"), "")
    shown = explain_set(params, Files("mini"), values, RowName.of(entry), None)
    text = markdown(explain_page(shown))
    (split,) = record["results"][IMAGE_AND_BOX]["splits"]
    last = f"{split['cost']:g} | {split['value']:.1f} |"
    assert last in re.sub(" +", " ", text)
    assert "averaged over Q = 256, 384" in text and "the box of each object, side by side" in text
    assert "120 images, 120 examples, 10 classes" in text and record["data"] in text
    for run in ("D-jitter", "E-jitter"):
        assert record["nets"][run]["features_sha256"][:16] in text and f"`{run}` has no summary here" in text
    assert {"svm-DE@boxed", "features@boxed-D-jitter", "features@boxed-E-jitter"} <= {*shown.made}
    again = values | {"scores": {"svm-DE@boxed": "of other SVMs"}}
    assert "trained again since" in markdown(explain_page(explain_set(params, Files("mini"), again, shown.row, None)))


def test_the_records_of_features_and_svms_are_copied_for_the_report_and_named_in_its_provenance(params: Params) -> None:
    table.main(params, "table12")
    collect(params)
    results = Results("mini")
    stages = {"features@boxed-D-jitter", "features@boxed-E-jitter", "svm-DE@boxed"}
    assert {*results.set_records} == stages
    assert all(results.provenance[stage] for stage in stages)
    page = markdown(provenance_page(results, ()))
    assert "features@boxed-D-jitter" in page
    facts = BOXED.facts("mini")
    write_json(facts, json.loads(facts.read_text()) | {"manifest": "another"})
    assert not Results("mini").set_records, "of other images"
    collect(params.model_copy(update={"datasets": {}}))
    assert not list(reported_set("mini", "svm-DE@boxed").parent.glob("*.json"))


def test_svms_of_different_splits_are_not_compared(of_images: Params) -> None:
    svm.main(of_images, "boxed", "D")
    aggregation.main(of_images, "boxed")
    path = otherwise_classified("boxed", "D")
    with np.load(path) as arrays:
        values = dict(arrays)
    np.savez(path, **values | {"test-0": values["test-0"][::-1]})
    with pytest.raises(Failure, match="dvc repro resampled"):
        resampled.main(of_images)


def test_scores_of_a_set_that_params_yaml_lacks_are_removed(params: Params) -> None:
    other_sets.main(params.model_copy(update={"datasets": {}}))
    assert [path.name for path in classified("table12", "boxed", "DE").parent.iterdir()] == ["sets.txt"]


def test_images_drawn_with_other_parameters_are_not_described(params: Params) -> None:
    profile = params.active
    assert profile.drawn is not None
    profile = profile.model_copy(update={"drawn": profile.drawn.model_copy(update={"texture": 11.0})})
    with pytest.raises(Failure, match=r"does not match params\.yaml"):
        describe.main(params.model_copy(update={"profiles": {"mini": profile}}), "boxed", "D-jitter")
