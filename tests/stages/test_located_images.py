"""Stage localisation: the images with the best and the worst boxes, the merging of one, errors by overlap."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.errors import Failure
from pipeline.experiment.modes import CENTRE_BOXES
from pipeline.experiment.params import Params
from pipeline.experiment.paths import located_images, located_pixels, threshold
from pipeline.experiment.validation import load
from pipeline.results.box_chart_data import located_rows, merging_rows, overlap_rows
from pipeline.results.illustrations import encoded
from pipeline.results.localisation import chosen_thresholds
from pipeline.results.located_images import LocatedImages, read_located_images
from pipeline.results.scores import Scores
from pipeline.results.tables import compute_table
from pipeline.system.atomic_files import write_json
from reports.alternatives import located_text, merging_text, overlap_text
from reports.box_drawing import located_chart, merging_chart, overlap_chart
from reports.localisation_page import localisation_page
from reports.markdown import markdown
from stages import localisation
from tests.support import ROOT
from tests.support.boxes import IMAGES, moved, truth_of, write, write_windows
from tests.support.hand_made import HandMade
from tests.support.tables import FACTS
from vgg.boxes import overlap

TRUE = np.array([100.0, 100, 199, 199])


class MadeUpShards:
    """Stored images of 300 x 240 pixels."""

    ids = tuple(f"val/{number}.jpg" for number in range(IMAGES))
    heights, widths = np.full(IMAGES, 240), np.full(IMAGES, 300)

    def __getitem__(self, image: int) -> np.ndarray:
        pixels = np.full((240, 300, 3), image % 256, np.uint8)
        return np.frombuffer(encoded(pixels, 300), np.uint8)


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The repository's parameters, in a folder with boxes of all localisers, each image's at a distance of its own."""
    monkeypatch.chdir(tmp_path)
    params = load(ROOT / "params.yaml")
    monkeypatch.setattr(localisation, "open_shards", lambda *_: MadeUpShards())
    monkeypatch.setattr(localisation, "read_facts", lambda _: FACTS)
    monkeypatch.setattr(localisation, "read_statistics", lambda: SimpleNamespace(manifest=FACTS.manifest))
    for name in ("SCR-384-fc", "PCR-384-fc", "PCR-384"):
        boxes = np.concatenate([moved(1, 0, float(99 * image / IMAGES)) for image in range(IMAGES)])
        write(params, name, CENTRE_BOXES, **truth_of(IMAGES), boxes=boxes)
    for name in params.windows:
        write_windows(params, name, np.random.default_rng(3))
    write_json(threshold(), chosen_thresholds(params, Scores(params, FACTS)))
    return params


def shown(params: Params) -> LocatedImages:
    """What the stage writes, as the pages read it."""
    localisation.main(params)
    values = read_located_images(params.profile)
    assert values
    return values


def test_the_best_and_the_worst_boxes_are_shown_with_their_overlap(params: Params) -> None:
    examples = shown(params).examples
    assert [example.id for example in examples[:6]] == [f"val/{number}.jpg" for number in range(6)]
    assert [example.id for example in examples[6:]] == [f"val/{IMAGES - 1 - number}.jpg" for number in range(6)]
    for example in examples:
        assert example.true == [TRUE.tolist()]
        assert example.overlap == pytest.approx(float(overlap(np.array(example.box), TRUE)), abs=1e-4)


def test_the_merging_shown_is_that_of_the_table(params: Params) -> None:
    """The first of the merged boxes is the table's guess; before, there are all windows of both localisers."""
    merging = shown(params).merging
    number = int(merging.id.removeprefix("val/").removesuffix(".jpg"))
    row = localisation.rows("table9", params)[-1]
    found = localisation.located(row, Scores(params, FACTS), 5)
    assert found and np.allclose(merging.merged[0][:4], found.boxes[number, 0], atol=0.01)
    assert len(merging.windows) > len(merging.merged) > 1
    assert sum(box[4] for box in merging.merged) == pytest.approx(sum(box[4] for box in merging.windows))


def test_the_error_by_overlap_is_that_of_the_tables_at_a_half(params: Params) -> None:
    curves = {(curve.table, curve.row): curve for curve in shown(params).curves}
    assert len(curves) == 7
    for table, measure in (("table8", "top1"), ("table9", "topk")):
        for row, entry in zip(
            localisation.rows(table, params), compute_table(table, params, FACTS).values["rows"], strict=True
        ):
            curve = curves[table, row.key]
            at_half = curve.errors[curve.overlaps.index(0.5)]
            assert at_half == pytest.approx(entry["ours"][measure]["error"])
            assert curve.errors == sorted(curve.errors)


def test_without_a_threshold_the_command_that_makes_it_is_named(params: Params) -> None:
    threshold().unlink()
    with pytest.raises(Failure, match="dvc repro localisation"):
        localisation.main(params)


def test_page_and_charts_are_drawn_from_the_files_alone(params: Params) -> None:
    values = shown(params)
    results = HandMade(located=values)
    located, merging, overlaps = located_rows(results), merging_rows(results), overlap_rows(results)  # type: ignore[arg-type]
    assert len(located_chart(located, values.pixels()).axes) == 12
    before, after = merging_chart(merging, values.pixels()).axes
    assert before.get_title() == f"all windows: {len(values.merging.windows)} boxes"
    assert after.get_title() == f"merged: {len(values.merging.merged)} boxes"
    assert [axes.get_title() for axes in overlap_chart(overlaps).axes] == ["Table 8, true class", "Table 9, 5 guesses"]
    assert located_text(located).startswith("Images with true and predicted boxes. Overlaps of the 6 best boxes: 1.00")
    assert f"in {len(values.merging.windows)} windows" in merging_text(merging)
    assert "Table 8, all, PCR:" in overlap_text(overlaps)
    page = markdown(localisation_page(results, values, ()))  # type: ignore[arg-type]
    assert "the 6 whose box of the true class at the central crop overlaps" in page and values.merging.id in page
    assert "not in this report" not in page


def test_without_the_images_the_errors_are_drawn_alone(params: Params) -> None:
    shown(params)
    located_pixels(params.profile).unlink()
    values = read_located_images(params.profile)
    assert values
    results = HandMade(located=values)
    assert not len(located_rows(results)) and not len(merging_rows(results)) and len(overlap_rows(results))  # type: ignore[arg-type]
    assert "not in this report" in markdown(localisation_page(results, values, ()))  # type: ignore[arg-type]


def test_it_is_deterministic_and_a_broken_file_names_its_command(params: Params) -> None:
    values = shown(params)
    files = [path(params.profile).read_bytes() for path in (located_images, located_pixels)]
    assert replace(shown(params), images={}) == replace(values, images={})
    assert [path(params.profile).read_bytes() for path in (located_images, located_pixels)] == files
    located_images(params.profile).write_text("{}")
    with pytest.raises(Failure, match="dvc repro localisation"):
        read_located_images(params.profile)
