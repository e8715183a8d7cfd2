"""vgg-repro data: the page says what the manifest holds, and the picture shows the crops that training sees."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.facts import Facts, read_facts
from pipeline.datasets.manifest_summary import OddBoxes, read_manifest, summarise
from pipeline.datasets.prepare import prepare
from pipeline.experiment.params import Params
from reports.data_page import data_page
from reports.markdown import markdown
from stages.common import normaliser, open_shards
from stages.tools.data import CROPS, main, training_crops
from tests.support.images import DECODERS, USUAL, jpeg, photograph, repository_params
from vgg.stream import StreamConfig, training_stream

NO_ODD = OddBoxes({"train": {}, "val": {}}, [])


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Params:
    """A prepared image folder of 60 photographs in two classes, and some files that are none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VGG_REPRO_SHARDS", raising=False)
    for split, count in (("train", 25), ("val", 5)):
        for name in ("a cat", "été|dog"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                height, width = (int(side) for side in rng.integers(60, 300, 2))
                (folder / f"{number}.jpg").write_bytes(jpeg(photograph(rng, height, width)))
    folder = tmp_path / "images" / "train" / "a cat"
    (folder / "empty.jpg").touch()
    (folder / "also empty.jpg").touch()
    (folder / "page.jpg").write_text("<html>")
    parameters = repository_params(
        tmp_path, data={"source": "imagefolder", "path": "images"}, prepare={"processes": 1, "shard_images": 20}
    )
    prepare(parameters)
    return parameters


def test_the_page_counts_what_the_folder_holds(params: Params) -> None:
    manifest = read_manifest()
    text = markdown(
        data_page(params.profile, read_facts(params.profile), summarise(manifest), NO_ODD, params.active.net.crop)
    )
    kept = manifest[manifest["skipped"] == ""]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    rows = {row[0]: row[1:] for row in cells}
    assert rows["images"][:2] == ["50", "10"]
    assert rows["skipped"] == ["3", "0"]
    assert rows["an empty file"] == ["2"] and rows["a web page or other markup, not an image"] == ["1"]
    assert rows["a cat"] == ["25", "5"]
    assert "été\\|dog" in text, "a class's name cannot break the table"
    sides = kept[["height", "width"]].min(axis=1)[kept["split"] == "train"]
    assert rows["shorter side as stored, pixels"][0].startswith(f"{int(sides.min())} to {int(sides.max())}, ")
    small = Counter(kept[kept["small"] == "yes"]["split"])
    assert rows["smaller than the 96-pixel crop, upscaled for use"] == [str(small[s] or "–") for s in ("train", "val")]
    assert all(name in text for name in ("`train/a cat/empty.jpg`", "`train/a cat/page.jpg`"))


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_page_names_a_decoder_other_than_dali(decoder: str, params: Params) -> None:
    facts = prepare(params.model_copy(update={"decoder": decoder}))
    page = markdown(data_page(params.profile, facts, summarise(read_manifest()), NO_ODD, params.active.net.crop))
    assert ("They are decoded and rescaled by simplejpeg and Pillow" in page) == (decoder == "pillow")


def test_the_crops_are_those_of_the_training_stream(params: Params) -> None:
    """Of the same plan, without colour shift; the shift moves all pixels of a crop that are not at the ends alike."""
    facts = read_facts(params.profile)
    crops, names = training_crops(params, facts)
    plan = StreamConfig(params.active.train.seed, CROPS, 96, (110, 219))
    batch = next(training_stream(open_shards(params, "train", facts.statistics), plan, decoder=USUAL))
    assert crops.shape == (CROPS, 96, 96, 3)
    assert names == [facts.classes[label] for label in batch.labels.tolist()]
    shift = batch.colour @ normaliser(params, facts.statistics).components  # (32, 3)
    wanted = batch.pixels.permute(0, 2, 3, 1).float() + shift[:, None, None]
    assert np.abs(crops - wanted.clamp(0, 255).numpy()).max() <= 0.51, "rounded once"


def test_the_page_and_its_picture_are_written(params: Params, tmp_path: Path) -> None:
    text = main(params, tmp_path / "out")
    folder = tmp_path / "out" / params.profile
    page = (folder / "data.md").read_text()
    assert page.startswith(text) and "](crops.jpg)" in page
    content = (folder / "crops.jpg").read_bytes()
    assert len(content) < 300_000
    with Image.open(io.BytesIO(content)) as picture:
        assert (
            picture.format == "JPEG"
            and picture.width > 800
            and len(set(picture.resize((50, 50)).convert("L").tobytes())) > 20
        )


def test_many_classes_are_summed_up_and_those_without_validation_named(params: Params) -> None:
    facts = read_facts(params.profile)
    many = Facts(**{**vars(facts), "classes": [*facts.classes, *(f"class {i}" for i in range(60))]})
    text = markdown(data_page(params.profile, many, summarise(read_manifest()), NO_ODD, 96))
    assert "Classes with the fewest and the most training images, five each, of 62" in text
    assert "Classes without validation images: class 0, class 1" in text and "and 40 more" in text
