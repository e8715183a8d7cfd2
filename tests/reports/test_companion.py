"""The companion to the paper: every section is there whatever is run, its numbers are those of their sources."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.experiment import paper_facts
from pipeline.experiment.claims import CLAIMS, single
from pipeline.experiment.params import Params
from pipeline.experiment.validation import load
from pipeline.results.illustrations import (
    CentralCrop,
    CropSeries,
    Draw,
    Grid,
    Illustrations,
    NetField,
    OfClasses,
    Places,
    ReceptiveFields,
    ScoredImage,
    ScoreMap,
    StackField,
    TrainingCrops,
    write_illustrations,
)
from pipeline.results.profile_results import Results
from reports.claims_page import MEANING
from reports.companion.page import companion_page
from reports.markdown import markdown
from reports.page import Bullets, Heading, Page, Paragraph, Table, plain_text
from reports.site import write_site
from tests.support import ROOT
from tests.support.illustrations import made_up
from vgg.nets import VGG

SECTIONS = (
    "2.1 Architecture", "2.2 Configurations", "2.3 Discussion", "3.1 Training", "3.2 Testing", "3.3 Implementation",
    "4 Classification experiments", "4.1 Single scale evaluation", "4.2 Multi-scale evaluation",
    "4.3 Multi-crop evaluation", "4.4 ConvNet fusion", "4.5 Comparison with the state of the art", "A Localisation",
    "B Generalisation of very deep features",
)  # fmt: skip
SIDES = (111, 113, 113, 117, 119)  # made-up fields of A to E
LONGEST = 30  # words of a sentence
CASES = ("mini", "evening", "half", "one run", "nets alone", "published", "images alone")


def parameters() -> Params:
    """Return the parameters of params.yaml."""
    return load(ROOT / "params.yaml")


def page_of(case: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    """Return the page in one of the CASES, without charts, from a copy of the committed results."""
    profile = case if case in ("evening", "published") else "mini"
    own = folder / "reports" / profile
    shutil.copytree(ROOT / f"reports/{'evening' if case == 'evening' else 'mini'}", own)
    monkeypatch.chdir(folder)
    REMOVED.get(case, lambda folder: None)(own)
    return companion_page(Results(profile, {}, parameters()), ())


def half(folder: Path) -> None:
    """Remove every second run, the ledger, the illustrations, and all tables from 4 on."""
    for path in sorted((folder / "runs").glob("*.json"))[::2]:
        path.unlink()
    later = (f"table{number}" for number in range(4, 13))
    for name in ("claims", "illustrations", "shallow", *later):
        (folder / f"{name}.json").unlink()


def one_run(folder: Path) -> None:
    """Leave A-256 alone."""
    half(folder)
    (folder / "table3.json").unlink()
    for path in (folder / "runs").glob("*.json"):
        path.unlink()
    shutil.copy(ROOT / "reports/mini/runs/A-256.json", folder / "runs")


def nets_alone(folder: Path) -> None:
    """Leave Tables 1 and 2."""
    for path in folder.rglob("*.json"):
        if path.name not in ("table1.json", "table2.json"):
            path.unlink()


def published(folder: Path) -> None:
    """Leave validation images of ILSVRC-2012 and a score of D."""
    nets_alone(folder)
    (folder / "data").mkdir(exist_ok=True)
    facts = json.loads((ROOT / "reports/mini/data/classification.json").read_text())
    facts |= {"comparable": True, "about": "ILSVRC-2012", "train": 0, "val": 50_000, "covariance": None}
    facts |= {"mean_rgb": None, "classes": [f"class {number}" for number in range(1000)]}
    (folder / "data/classification.json").write_text(json.dumps(facts))


def images_alone(folder: Path) -> None:
    """Leave the images and Tables 1 and 2."""
    nets_alone(folder)
    (folder / "data").mkdir(exist_ok=True)
    shutil.copy(ROOT / "reports/mini/data/classification.json", folder / "data")


REMOVED: dict[str, Callable[[Path], None]] = {
    "half": half, "one run": one_run, "nets alone": nets_alone, "published": published, "images alone": images_alone,
}  # fmt: skip


def sentences(page: Page) -> list[str]:
    """Return the sentences of a page's paragraphs and lists."""
    texts = [block.text for block in page if isinstance(block, Paragraph)]
    texts += [item for block in page if isinstance(block, Bullets) for item in block.items]
    return [part for text in texts for part in re.split(r"(?<=[.?:;!]) ", plain_text(text))]


@pytest.fixture(params=CASES)
def page(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    """The page in each of the CASES."""
    return page_of(request.param, tmp_path, monkeypatch)


def test_every_section_is_there_in_three_parts_whatever_is_run(page: Page) -> None:
    assert [plain_text(block.text) for block in page if isinstance(block, Heading) and block.level == 2] == [*SECTIONS]
    text = markdown(page)
    for lead in ("The paper.", "This repository.", "The difference."):
        assert text.count(f"\n**{lead}** ") == len(SECTIONS)
    assert not re.search(r"\b(None|nan)\b", text)


def test_no_sentence_is_long(page: Page) -> None:
    assert [sentence for sentence in sentences(page) if len(sentence.split()) > LONGEST] == []


def test_what_is_missing_is_named_with_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = markdown(page_of("half", tmp_path, monkeypatch))
    for command in (
        "dvc repro claims", "dvc repro illustrations", "dvc repro initialisation", "vgg-repro table 4",
        "vgg-repro table 5", "vgg-repro table 6", "vgg-repro table 7", "vgg-repro table shallow", "vgg-repro table 8",
        "vgg-repro table 11", "vgg-repro train A-256",
    ):  # fmt: skip
        assert f"`{command}`" in text, command


def test_a_profile_that_trains_nothing_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = markdown(page_of("published", tmp_path, monkeypatch))
    assert "Nothing is trained with the profile `published`" in text
    assert "All networks are trained in the paper's order" not in text and "prepare --profile published" not in text
    assert "counted, here" not in text and "none of its runs is trained here" in text


def test_the_decoder_of_the_images_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of("images alone", tmp_path, monkeypatch)
    assert any("NVIDIA's DALI decodes and rescales the images" in text for text in sentences(page))
    file = tmp_path / "reports/mini/data/classification.json"
    facts = json.loads(file.read_text())
    file.write_text(json.dumps({**facts, "stored": {**facts["stored"], "decoder": "pillow"}}))
    other = sentences(companion_page(Results("mini", {}, parameters()), ()))
    assert any("simplejpeg and Pillow decode and rescale the images" in text for text in other)
    assert not any("DALI" in text for text in other)


def test_the_numbers_of_the_nets_are_counted_from_the_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = markdown(page_of("mini", tmp_path, monkeypatch))
    net = VGG("D", 51, 96, 1 / 8, 256)
    assert f"| {sum(weight.numel() for weight in net.parameters()):,} |" in re.sub(" +", " ", text)
    block5 = [weight.numel() for name, weight in net.named_parameters() if re.fullmatch(r"conv5_\d\.weight", name)]
    assert f"{sum(block5):,} / {49 * 64 * 64:,}" in text


def test_an_error_is_the_results_own_and_the_papers_is_the_printed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = markdown(page_of("mini", tmp_path, monkeypatch)).replace("\N{NO-BREAK SPACE}", " ")
    crop = json.loads((ROOT / "reports/mini/runs/D-jitter.json").read_text())["centre_crop"]["top1"]
    assert re.search(rf"D-jitter +{crop:.1f} %  4 epochs", text)
    rows = json.loads((ROOT / "reports/mini/table3.json").read_text())["rows"]
    assert f"Top-1 errors here: A {rows[0]['ours']['top1']['error']:.1f} %" in text
    assert f"the error falls from {single('A', '256').printed} % in A" in text


def texts_of(case: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the page's Markdown with plain spaces."""
    return markdown(page_of(case, folder, monkeypatch)).replace("\N{NO-BREAK SPACE}", " ")


def test_errors_of_several_seeds_are_their_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = texts_of("evening", tmp_path, monkeypatch)
    row = json.loads((ROOT / "reports/evening/seeds.json").read_text())["rows"][0]
    assert row["table"] == "table3" and row["label"]["net"] == "A" and len(row["top1"]["by_seed"]) == 3
    assert f"Top-1 errors here, means of 3 seeds: A {row['top1']['mean']:.1f} %" in text
    assert "Top-1 errors of E here, means of 3 seeds: dense " in text
    assert "with jittered S, with seed 12:" in text and "the image's centre, with seed 12." in text


def test_errors_are_of_the_seeds_that_all_of_them_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = texts_of("evening", tmp_path, monkeypatch)  # its seven networks have one seed, D and E have three
    seven, two, *_ = json.loads((ROOT / "reports/evening/table6.json").read_text())["rows"]
    errors = [row["ours"]["top1"]["error"] for row in (seven, two)]
    assert (
        f"Top-1 errors here, with seed 12: seven networks (dense) {errors[0]:.1f} %, D and E (dense) {errors[1]:.1f} %"
    ) in text


def test_errors_of_a_profile_with_one_seed_name_no_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = texts_of("mini", tmp_path, monkeypatch)
    assert "Top-1 errors here: A " in text and "with seed" not in text and "seeds:" not in text


def test_seven_networks_are_compared_with_two_by_the_same_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = texts_of("mini", tmp_path, monkeypatch)
    assert "tested densely, its error is 24.7 %" in text
    assert "Tested densely, these two have 24.0 %, less than the seven." in text and "together they have 23.7 %" in text
    assert re.search(
        r"seven networks \(dense\) [\d.]+ %, D and E \(dense\) [\d.]+ % and D and E \(multi-crop & dense\)", text
    )


@pytest.mark.parametrize(("remainder", "shown"), [("even", True), ("ceil", False)])
def test_where_a_map_has_one_cell_dense_evaluation_is_the_centre_crop(remainder: str, shown: bool, clone: Path) -> None:
    params = parameters()
    mini = params.profiles["mini"]
    mini = mini.model_copy(update={"score": mini.score.model_copy(update={"remainder": remainder})})
    params = params.model_copy(update={"profiles": {**params.profiles, "mini": mini}})
    text = markdown(companion_page(Results("mini", {}, params), ())).replace("\N{NO-BREAK SPACE}", " ")
    assert ("Up to Q = 288 the map of a square image has a single cell here" in text) is shown
    assert ("At S = 256 dense evaluation of a square image is here the centre crop" in text) is shown


def test_at_the_papers_sizes_a_map_has_more_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = texts_of("published", tmp_path, monkeypatch)
    assert "has a single cell" not in text and "is here the centre crop" not in text


@pytest.mark.parametrize(("case", "tested"), [("mini", True), ("half", False)])
def test_the_first_rows_of_the_ledger_say_how_to_read_them(
    case: str, tested: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = texts_of(case, tmp_path, monkeypatch)
    assert (text.count("How to read the numbers: they are points of top-1 error."), tested) in ((1, True), (0, False))
    assert ("tested by all 10 rows of Table 4 together" in text) is tested


def test_claims_of_the_same_error_name_first_what_has_the_lower_error_above_0() -> None:
    firsts = {claim.name: claim.pairs[0].second for claim in CLAIMS if claim.kind == "about equal"}
    assert {name: cell.row.split(",")[:2] for name, cell in firsts.items()} == {
        "saturation": ["E", " 256"], "scale-384": ["C", " 384"], "averaging": ["VOC-2007", " D"],
    }  # fmt: skip
    sentences = {claim.name: claim.sentence for claim in CLAIMS}
    assert "E and D have about the same error" in sentences["saturation"]
    assert sentences["scale-384"].startswith("Training at S = 384 gives about the same error as at S = 256")


def test_what_a_verdict_means_is_linked_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = texts_of("mini", tmp_path, monkeypatch)
    assert MEANING not in text and "A verdict is about these networks, images and schedule" in text
    assert "[first page](README.md)" in text


def test_settings_that_the_paper_does_not_state_are_marked_in_its_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = page_of("mini", tmp_path, monkeypatch)
    cells = {plain_text(row[0]): plain_text(row[1]) for table in page if isinstance(table, Table) for row in table.rows}
    for name in ("Initial weights", "Learning-rate drops", "Training at S = 384", "Training at jittered S"):
        assert "; profile paper: " in cells[name]
    assert cells["Remainder beyond 32-pixel cells"].startswith("not stated; profile paper: ")


def test_a_changed_result_changes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page_of("mini", tmp_path, monkeypatch)
    path = Path("reports/mini/runs/D-jitter.json")
    values = json.loads(path.read_text())
    values["drops"], values["centre_crop"]["top1"] = 2, 77.7
    path.write_text(json.dumps(values))
    text = markdown(companion_page(Results("mini", {}, parameters()), ()))
    assert "77.7 %" in text and "once in 13 runs and twice in 1 run" in text


def test_initial_weights_from_which_nothing_is_learnt_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = markdown(page_of("evening", tmp_path, monkeypatch))
    assert "wrong for 98.9" in text and "That is where these ended: A (normal), D (normal), " in text
    assert "A (Glorot)" not in text and "A itself did not get away from its random weights here" in text


def test_receptive_fields_are_read_from_the_illustrations(clone: Path) -> None:
    results = Results("mini", {}, parameters())
    results.illustrations = illustrations()
    text = markdown(companion_page(results, ()))
    assert f"sees {SIDES[0]} pixels in A, {SIDES[3]} in D and {SIDES[4]} in E" in text
    assert "crops of 96 pixels. So in every network a unit in the middle sees the whole crop" in text


def test_what_one_image_shows_is_read_from_the_illustrations(clone: Path) -> None:
    results = Results("mini", {}, parameters())
    results.illustrations = illustrations()
    page = companion_page(results, ())
    text = markdown(page).replace("\N{NO-BREAK SPACE}", " ")
    assert "Of one validation image it shows 64 % at S = 256, and 16 % at S = 512." in text
    assert "at most 7.5 of 255 grey levels" in text  # a negative shift is the largest
    assert "gives “cat” a posterior of 61 % and “dog” one of 21 %" in text and "gives 12 % and 55 %" in text
    assert "on average by 15.0 points of the posterior of “cat”" in text  # over the two places that have a crop
    assert [sentence for sentence in sentences(page) if len(sentence.split()) > LONGEST] == []


def test_pictures_of_other_pages_are_shown_again_and_those_of_its_own_are_there(
    clone: Path, rng: np.random.Generator
) -> None:
    manifest = json.loads((clone / "reports/mini/data/classification.json").read_text())["manifest"]
    write_illustrations(replace(made_up(rng), manifest=manifest, fields=illustrations().fields))
    html = write_site("mini", clone / "out", {}, parameters())[1].read_text()
    companion = html[html.index('<section id="paper"') : html.index('<section id="table1"')]
    shown = re.findall('<use href="#(.*?)-figure_1"', companion)
    assert shown == ["scales", "training-crops", "scoremap", "padding", "depth", "waterfall"]
    assert [html.count(f'id="{name}-figure_1"') for name in shown] == [1] * len(shown)
    assert 'id="receptive-figure_1"' in companion and "data:image" not in companion


def illustrations() -> Illustrations:
    """Return made-up illustrations of an image of 120 x 120 pixels."""
    tops, lefts = [0], [0, 12, 24]
    dense: Grid = [[0.5, 0.6, 0.7]]
    cut: Grid = [[0.6, 0.8, None]]
    draw = Draw(height=120, width=120, top=0, left=0, flip=False, shift=[1.0, -7.5, 2.0])
    nets = [NetField(net, "conv5_9", side) for net, side in zip("ABCDE", SIDES, strict=True)]
    scored = ScoredImage(
        id="a", label=0, other=1, test_scale=512, height=120, width=120, dense=OfClasses(0.61, 0.21),
        centre=OfClasses(0.12, 0.55), dense_right=True, centre_right=False,
        map=ScoreMap(tops, lefts, true_scores=dense, other_scores=dense, true=dense, other=dense),
        cut=Places(tops, lefts, true=cut, other=cut), grid=Places(tops, lefts, true=cut, other=cut),
        scales=[CentralCrop(256, 120, 120, 12, 12), CentralCrop(512, 240, 240, 72, 72)],
    )  # fmt: skip
    return Illustrations(
        profile="mini", run="D-jitter", manifest="m", weights_sha256="w", classes=["cat", "dog"], crop=96,
        scored=scored, training=TrainingCrops("b", 0, 11, [CropSeries([256, 256], [draw])]),
        fields=ReceptiveFields([StackField([3], [[1.0]])], nets),
    )  # fmt: skip


def test_without_parameters_only_what_the_results_say_is_shown(clone: Path) -> None:
    text = markdown(companion_page(Results("mini"), ()))
    assert "counted, here" not in text and "├ B-256" in text


def test_the_facts_of_the_text_are_those_of_profile_paper_and_of_the_docs() -> None:
    profile, docs = parameters().profiles["paper"], (ROOT / "docs/paper.md").read_text()
    assert profile.train and (profile.train.batch, profile.train.momentum, profile.train.weight_decay) == (
        paper_facts.BATCH, paper_facts.MOMENTUM, paper_facts.WEIGHT_DECAY,
    )  # fmt: skip
    assert (profile.net.dropout, profile.net.fc, profile.train.drops) == (
        paper_facts.DROPOUT, paper_facts.FC, paper_facts.DROPS,
    )  # fmt: skip
    scratch, finetune = profile.recipes["scratch"], profile.recipes["finetune"]
    assert (scratch.learning_rate, scratch.epochs) == (paper_facts.RATE, paper_facts.EPOCHS)
    assert finetune.learning_rate == paper_facts.FINETUNING_RATE
    for fact in ("3.75 times", "two to three weeks", "[256, 512]", "100,000 test", "370,000 iterations", "Four Titan"):
        assert fact in docs, fact
    assert paper_facts.SPEEDUP == 3.75 and paper_facts.WEEKS == (2, 3) and paper_facts.JITTERED == (256, 512)
    assert (paper_facts.TEST_IMAGES, paper_facts.GPUS, paper_facts.ITERATIONS) == (100_000, 4, 370_000)
