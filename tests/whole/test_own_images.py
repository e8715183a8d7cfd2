"""A folder of photographs that nobody tidied, through all of Tables 3 to 5 as its owner would type it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_sample_images

from pipeline.datasets.facts import Facts
from reports.data_page import PICTURE
from tests.support.clones import call, executed, tiny_clone
from tests.support.images import run_seed

CLASSES = ("flower", "temple, été")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pieces of two real photographs, a class each, in several formats and without val/; bad files among them."""
    random, root = np.random.default_rng(run_seed()), tmp_path_factory.mktemp("my photographs")
    for name, photograph in zip(CLASSES, reversed(load_sample_images().images), strict=True):
        (root / "train" / name).mkdir(parents=True)
        for number in range(30):
            height, width = (int(side) for side in random.integers(80, 380, 2))
            top, left = (int(random.integers(limit - side + 1)) for limit, side in ((427, height), (640, width)))
            ending = ("jpg", "JPEG", "png", "webp")[number % 4]
            piece = Image.fromarray(photograph[top : top + height, left : left + width])
            (piece.convert("L") if number == 5 else piece).save(root / "train" / name / f"IMG {number}.{ending}")
    whole = root / "train" / CLASSES[0]
    (whole / "cut.jpg").write_bytes((whole / "IMG 0.jpg").read_bytes()[:-500])
    (whole / "page.jpg").write_text("<html>404</html>")
    (whole / ".DS_Store").touch()
    return root


@pytest.fixture(scope="module")
def clone(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny clone whose Table 2 is there already."""
    folder = tiny_clone(tmp_path_factory.mktemp("own") / "clone")
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["profiles"]["mini"]["data"] |= {"val_share": 0.3, "limit": None}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return folder


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param({"table5": 6}, id="Table 5"),
        pytest.param({"table3": 12, "table4": 10}, id="Tables 3 and 4", marks=pytest.mark.exhaustive),
    ],
)
def test_a_folder_of_photographs_becomes_the_papers_tables(
    rows: dict[str, int], clone: Path, photographs: Path
) -> None:
    said = call(clone, "vgg-repro", "prepare", "--source", "imagefolder", "--path", str(photographs))
    assert "3 skipped" in said or "prepare" not in executed(said), "the other case has prepared them already"
    facts = Facts(**json.loads((clone / "data/classification/facts-mini.json").read_text()))
    assert (facts.source, facts.classes, facts.train + facts.val) == ("imagefolder", list(CLASSES), 60)
    page = call(clone, "vgg-repro", "data")
    assert all(name in page for name in ("cut.jpg`: cannot be decoded", "page.jpg`: a web page", ".DS_Store`: hidden"))
    assert (clone / "reports/mini" / PICTURE).stat().st_size > 10_000
    call(clone, "dvc", "repro", *rows)
    for name, count in rows.items():
        table = json.loads((clone / f"reports/mini/{name}.json").read_text())
        assert (table["data"], table["classes"], table["images"]) == ("imagefolder", 2, facts.val)
        found = [row["ours"]["top1"]["error"] for row in table["rows"] if row["ours"] is not None]
        assert len(found) == len(table["rows"]) == count
        assert all(0 <= error <= 100 for error in found)
    assert executed(call(clone, "dvc", "repro", *rows)) == {"fingerprint"}


def test_one_bad_file_more_trains_nothing_anew_and_one_image_more_does(
    clone: Path, photographs: Path, rng: np.random.Generator
) -> None:
    call(clone, "vgg-repro", "prepare", "--source", "imagefolder", "--path", str(photographs))
    call(clone, "dvc", "repro", "random@A")
    (photographs / "train" / CLASSES[1] / "another page.jpg").write_text("<html>404</html>")
    assert executed(call(clone, "dvc", "repro", "random@A")) == {"fingerprint", "prepare"}
    assert "another page.jpg" in (clone / "data/classification/manifest.csv").read_text()
    pixels = rng.integers(0, 256, (90, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photographs / "train" / CLASSES[1] / "new.png")
    assert executed(call(clone, "dvc", "repro", "random@A")) == {"fingerprint", "prepare", "random@A"}


def test_a_folder_that_was_moved_trains_nothing_anew(clone: Path, photographs: Path, tmp_path: Path) -> None:
    call(clone, "vgg-repro", "prepare", "--source", "imagefolder", "--path", str(photographs))
    call(clone, "dvc", "repro", "random@A")
    before = (clone / "data/classification/facts-mini.json").read_bytes()
    moved = shutil.copytree(photographs, tmp_path / "elsewhere", symlinks=True)  # times and all
    call(clone, "vgg-repro", "prepare", "--path", str(moved))
    assert (clone / "data/classification/facts-mini.json").read_bytes() == before
    assert executed(call(clone, "dvc", "repro", "random@A")) == {"fingerprint"}
    call(clone, "vgg-repro", "weights", "random", "A")


def test_the_report_shows_nothing_of_other_images(clone: Path, photographs: Path) -> None:
    call(clone, "vgg-repro", "prepare", "--source", "imagefolder", "--path", str(photographs))
    call(clone, "dvc", "repro", "table1")
    call(clone, "vgg-repro", "stage", "table", "table3")
    call(clone, "vgg-repro", "report")
    assert (clone / "reports/mini/table3.md").exists()
    call(clone, "vgg-repro", "prepare", "--source", "digits")
    call(clone, "vgg-repro", "report")
    index = (clone / "reports/mini/README.md").read_text()
    assert "(table1.md)" in index and "(table3.md)" not in index and "(data.md)" not in index
    assert "computed from other images than those prepared now: Table 3" in index
    assert not (clone / "reports/mini/table3.md").exists()
