"""Stage descriptors: the examples it chooses against the scores, the map against its definition, and the page."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.datasets.readers.base import read_examples
from pipeline.datasets.shards import Shards
from pipeline.errors import Failure
from pipeline.experiment.other_sets import IMAGE, IMAGE_AND_BOX, NETS_OF
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet, classified, features, shown_set, shown_set_pixels, table
from pipeline.experiment.validation import load
from pipeline.results.other_sets import BOXES, compute_other_sets, descriptors_of
from pipeline.results.profile_results import Results
from pipeline.results.set_chart_data import class_rows, example_rows, map_rows
from pipeline.results.shown_sets import HIGHEST, LOWEST, read_shown_set
from pipeline.system.atomic_files import read_json, write_json
from reports.alternatives import set_classes_text, set_descriptors_text, set_examples_text
from reports.descriptors_page import descriptors_page
from reports.markdown import markdown
from reports.set_drawing import class_chart, example_chart, map_chart
from stages import descriptors, other_set, svm
from tests.support.images import repository_params
from vgg.measures import average_precision


@pytest.fixture(scope="module")
def classified_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the set `boxed`, classified by made-up features, to be copied."""
    folder = tmp_path_factory.mktemp("classified")
    repository_params(folder, drawn={"boxed": 60})
    values = yaml.safe_load((folder / "params-0.yaml").read_text())
    values["datasets"] = {"boxed": values["datasets"]["boxed"]}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("VGG_REPRO_SHARDS", raising=False)
        params = load()
        other_set.main(params, "boxed")
        examples = read_examples(DataSet("boxed").examples, "")
        random = np.random.default_rng(2)
        for run in NETS_OF["DE"]:
            keys = [f"{kind}{scale}" for kind in ("", BOXES) for scale in params.datasets["boxed"].scales]
            signal = examples.labels @ random.normal(size=(10, 20)) / 10
            arrays = {key: random.normal(size=(120, 20)) + signal for key in keys}
            features("boxed", run).parent.mkdir(parents=True, exist_ok=True)
            np.savez(features("boxed", run), **arrays)
            write_json(features("boxed", run).with_suffix(".json"), {"weights_sha256": run})
        svm.main(params, "boxed", "DE")
        write_json(table("mini", "table12"), compute_other_sets("table12", params))
        descriptors.main(params, "boxed")
    return folder


@pytest.fixture
def params(classified_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The parameters of a copy of the folder, which is the current one."""
    shutil.copytree(classified_set, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VGG_REPRO_SHARDS", raising=False)
    return load()


def scored_examples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numbers, scores and labels of the test examples."""
    with np.load(classified("table12", "boxed", "DE")) as arrays:
        numbers = arrays["test-0"]
        return numbers, arrays[f"{IMAGE_AND_BOX}-0"], arrays["labels"][numbers]


def test_the_best_and_the_worst_class_have_their_highest_and_lowest_examples(params: Params) -> None:
    shown, (numbers, scores, labels) = read_shown_set("mini", "boxed"), scored_examples()
    assert shown
    measures = [100 * average_precision(*columns) for columns in zip(scores.T, labels.T, strict=True)]
    chosen = list(dict.fromkeys(example.label for example in shown.examples))
    assert [measures[label] for label in chosen] == [max(measures), min(measures)]
    examples, shards = read_examples(DataSet("boxed").examples, ""), Shards(DataSet("boxed").shards, "val")
    for label in chosen:
        own = [example for example in shown.examples if example.label == label]
        assert [example.kind for example in own] == [HIGHEST] * 3 + [LOWEST] * 3
        assert [example.score for example in own[:3]] == sorted(scores[:, label])[:-4:-1]
        assert [example.score for example in own[3:]] == sorted(scores[labels[:, label] > 0, label])[:3]
        for example in own:
            place = int(np.flatnonzero(scores[:, label] == example.score)[0])
            image = examples.images[numbers[place]]
            assert example.id == shards.ids[image] and example.classes == np.flatnonzero(labels[place] > 0).tolist()
            left, top, right, bottom = example.box or []
            box = shards.boxes_of(image)[examples.boxes[numbers[place]]]
            size = [shards.widths[image], shards.heights[image]]
            assert np.allclose(np.array([left, top, right, bottom]) * [*size, *size], box, atol=0.05)
    pixels = shown.pixels()
    assert len(pixels) == 12 and {max(image.shape) for image in pixels.values()} == {112}


def test_the_map_is_the_projection_on_the_two_directions_of_most_variance(params: Params) -> None:
    shown, (numbers, scores, labels) = read_shown_set("mini", "boxed"), scored_examples()
    assert shown and len(set(shown.map.labels)) == 6
    measures = np.array([average_precision(*columns) for columns in zip(scores.T, labels.T, strict=True)])
    order = np.argsort(-measures, kind="stable")
    assert list(dict.fromkeys(shown.map.labels)) == [*order[:3], *order[-3:]]
    rows = descriptors_of(params, "boxed", NETS_OF["DE"], IMAGE_AND_BOX, read_examples(DataSet("boxed").examples, ""))
    own = np.concatenate([np.flatnonzero(labels[:, label] > 0) for label in dict.fromkeys(shown.map.labels)])
    centred = rows[numbers[own]].astype(float)
    centred -= centred.mean(0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(np.abs(centred @ directions[:2].T), np.abs(shown.map.points), atol=1e-4)
    assert np.allclose(values[:2] ** 2 / (values**2).sum(), shown.map.shares, atol=1e-4)


def test_it_is_deterministic_and_broken_or_missing_files_name_their_command(params: Params) -> None:
    paths = (shown_set("mini", "boxed"), shown_set_pixels("mini", "boxed"))
    files = [path.read_bytes() for path in paths]
    descriptors.main(params, "boxed")
    assert [path.read_bytes() for path in paths] == files
    paths[0].write_text('{"manifest": "x"}')
    with pytest.raises(Failure, match="dvc repro descriptors@boxed"):
        read_shown_set("mini", "boxed")
    classified("table12", "boxed", "DE").with_suffix(".json").unlink()
    with pytest.raises(Failure, match="dvc repro svm-DE@boxed"):
        descriptors.main(params, "boxed")


def test_page_and_charts_are_drawn_from_the_files_alone(params: Params) -> None:
    for folder in ("data", "scores"):
        shutil.rmtree(folder)
    results = Results("mini")
    assert {"table12", "descriptors@boxed"} <= results.paths.keys()
    classes, examples, plane = class_rows(results), example_rows(results), map_rows(results)
    assert len(classes) == 20 and set(classes["variant"]) == {IMAGE, IMAGE_AND_BOX}
    (panel, *_) = class_chart(classes).axes
    assert panel.get_title() == "drawn boxed objects" and panel.get_xlabel().startswith("AP, %; mean ")
    assert len(panel.get_yticklabels()) == 10
    drawn = example_chart(examples, results.shown_sets["boxed"].pixels()).axes
    assert len(drawn) == 12 and sum(len(axes.patches) for axes in drawn) == 24, "each box has a dark and a white line"
    wrong = [axes for axes in drawn if "(" in axes.get_title()]
    assert len(wrong) == (~examples["right"]).sum() > 0
    assert len(map_chart(plane).axes[0].collections) == 6
    assert "image and bounding box: mean" in set_classes_text(classes)
    assert "of them right; lowest of the class" in set_examples_text(examples)
    assert f"{len(plane)} examples of" in set_descriptors_text(plane)
    page = markdown(descriptors_page(results, ()))
    assert "Other data sets in charts" in page and "not in this report" not in page


def test_of_many_classes_the_best_and_the_worst_are_drawn_and_the_papers_mean(params: Params) -> None:
    rows = class_rows(Results("mini"))
    rows = rows[rows["variant"] == IMAGE]
    parts = [rows.assign(number=rows["number"] + 10 * part, **{"class": f"c{part}"}) for part in range(4)]
    many = pd.concat(parts).assign(paper=84.0, counted="val")
    (panel, *_) = class_chart(many).axes
    assert len(panel.get_yticklabels()) == 25 and panel.get_yticklabels()[12].get_text() == "…"
    assert panel.get_xlabel().endswith("\npaper 84.0, of test")


def test_without_the_images_the_command_that_makes_them_is_named(params: Params) -> None:
    shown_set_pixels("mini", "boxed").unlink()
    results = Results("mini")
    assert not len(example_rows(results)) and len(map_rows(results))
    assert "`dvc repro descriptors@boxed`" in markdown(descriptors_page(results, ()))


def test_what_was_made_of_other_scores_is_not_shown(params: Params) -> None:
    path = shown_set("mini", "boxed")
    write_json(path, read_json(path, "") | {"scores_sha256": "another"})
    results = Results("mini")
    assert results.shown_sets == {} and "descriptors@boxed" not in results.paths
