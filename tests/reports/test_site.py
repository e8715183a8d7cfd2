"""The report as one HTML file: complete, self-contained, and readable by everyone."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from pipeline.errors import Failure
from pipeline.experiment.validation import load
from reports.site import FILE, write_site
from tests.support import ROOT
from tests.support.committed import counted
from tests.support.program import program

TEXT, GRAPHIC = 4.5, 3.0  # least contrast
TEMPLATES = ROOT / "reports/templates"
BLOCK = r":root(?:, \.light)? {\s*(--[^}]*)}"  # of the stylesheet's colours
VOID = {"meta", "img", "br"}


class Elements(HTMLParser):
    """All elements of a document: tag, attributes, and the words directly in them; and what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str]]] = []
        self.words: list[tuple[str, str]] = []  # innermost tag and words
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record an element."""
        self.all.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record an element that closes itself, as in SVG."""
        self.all.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost element, which must be of this tag."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Record words."""
        self.words.append((self.open[-1] if self.open else "", data))

    def tagged(self, *tags: str) -> Iterator[dict[str, str]]:
        """Yield the attributes of the elements with one of these tags."""
        yield from (attributes for tag, attributes in self.all if tag in tags)

    @property
    def text(self) -> str:
        """All words that a reader sees."""
        return "".join(words for tag, words in self.words if tag not in ("style", "script"))


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the committed results and pages of the mini profile, without learning curves (slow)."""
    shutil.copytree(ROOT / "reports/mini", tmp_path / "reports/mini", ignore=shutil.ignore_patterns("*.png", "*.csv"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def site(out: str = "reports") -> str:
    """Return the report of mini as HTML."""
    return write_site("mini", Path(out), {}, load(ROOT / "params.yaml"))[1].read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the committed results of mini with its pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        out = tmp_path_factory.mktemp("out")
        shutil.copytree(ROOT / "reports/mini", out / "mini")
        Image.new("RGB", (120, 90)).save(out / "mini/crops.jpg")
        return site(str(out))


def test_all_pages_are_sections_of_one_small_file(whole: str) -> None:
    sections = [attributes["id"] for attributes in Elements(whole).tagged("section")]
    tables = [f"table{number}" for number in range(1, 11)]
    pages = ["claims", "seeds", "training", "mistakes", "images", "localisation", "descriptors", "provenance", "data"]
    assert sections == ["README", "paper", *tables, "shallow", "table11", "table12", *pages]
    assert len(whole.encode()) < 1_400_000


def test_labels_of_sections_are_short_and_different(whole: str) -> None:
    labels = re.findall("<li><a[^>]*>(.*?)</a></li>", whole.partition("</nav>")[0])
    assert "Other data sets" in labels and max(map(len, labels)) <= 16
    assert len(labels) == len(set(labels)) == whole.count("<section id=")


def test_nothing_is_loaded_from_elsewhere(whole: str) -> None:
    document = Elements(whole)
    for tag, attributes in document.all:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "data", "srcset", "poster", "action"):
                assert value.startswith(("#", "data:image/")) or (tag == "a" and "https://" in value[:8])
            elif name == "style":
                assert "url(" not in value.replace("url(#", "")
    styles = "".join(words for tag, words in document.words if tag in ("style", "script"))
    assert not re.search(r"https?:|@import|url\(|fetch|XMLHttpRequest|import\(", styles)
    assert "link" not in {tag for tag, _ in document.all}
    policy = next(a["content"] for a in document.tagged("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")


def test_ids_are_unique_and_all_anchors_lead_somewhere(whole: str) -> None:
    elements = Elements(whole).all
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for _, a in elements if a.get("href", "").startswith("#")}
    targets |= {target for _, a in elements for value in a.values() for target in re.findall(r"url\(#([^)]+)\)", value)}
    assert len(targets) > 20 and targets <= set(ids)


def test_headings_begin_with_the_only_title_and_skip_no_level(whole: str) -> None:
    levels = [int(tag[1]) for tag, _ in Elements(whole).all if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(second <= first + 1 for first, second in pairwise(levels))


def test_every_image_has_a_text_alternative_and_the_document_a_language(whole: str) -> None:
    document = Elements(whole)
    charts = list(document.tagged("svg"))
    assert len(charts) >= 3 and all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    images = {image["alt"]: image for image in document.tagged("img")}
    assert "" not in images and int(images["Training crops"]["width"]) > 100
    assert [attributes["lang"] for attributes in document.tagged("html")] == ["en"]
    assert all(words.strip() for tag, words in document.words if tag in ("title", "th"))


def test_elements_are_closed_in_order(whole: str) -> None:
    assert Elements(whole).open == []  # and handle_endtag has found no other order


def test_the_first_screen_answers_whether_it_reproduced(whole: str) -> None:
    text = Elements(whole[: whole.index('id="table1"')]).text
    parts = (
        "14 networks were trained on 5,712 images",
        "not comparable with the paper's",
        counted(),
        "✔ supported",
        "✘ contradicted",
        "Deviations from the paper",
        "Width: 1/8 of the channels (the paper: all channels)",
    )
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_the_ledger_and_the_main_tables_are_there_once(whole: str) -> None:
    text = Elements(re.sub('<section id="paper">.*?</section>', "", whole, flags=re.DOTALL)).text
    assert text.count("Local response normalisation does not improve") == 1
    assert text.count("ConvNet performance at a single test scale") == 1


@pytest.mark.exhaustive  # as the pages, and a chart as SVG
def test_rendering_twice_gives_the_same_bytes(clone: Path, draws_anew: None) -> None:
    assert site("one") == site("two")


def test_charts_are_drawn_with_text_as_text(whole: str) -> None:
    words = {words for tag, words in Elements(whole).words if tag == "text"}
    assert {"training loss", "D-jitter-fc"} <= words


def test_a_chart_that_is_shown_twice_is_there_once(whole: str) -> None:
    uses = [a["href"] for tag, a in Elements(whole).all if tag == "use" and a["href"].endswith("-figure_1")]
    assert {"#depth-figure_1", "#waterfall-figure_1"} <= set(uses) and len(uses) == len(set(uses))
    assert "\ntext {" in (TEMPLATES / "report.css").read_text()  # "svg text" does not match within a <use>
    assert all(whole.count(f'id="{target[1:]}"') == 1 for target in uses)


def test_every_colour_of_a_chart_follows_light_and_dark(whole: str) -> None:
    unseen = {
        to_hex(colour) for colour in mpl.rcParamsDefault["axes.prop_cycle"].by_key()["color"]
    }  # of marks without an area
    heat = re.compile(r'id="(?:scoremap|padding|receptive)-figure_1"')  # whose colours are values, as a scale says
    drawn = "".join(chart for chart in re.findall("<svg.*?</svg>", whole, re.DOTALL) if not heat.search(chart))
    assert "var(--blue)" in drawn and set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", drawn)) <= unseen


def test_what_is_missing_is_left_out(clone: Path) -> None:
    for name in (*(f"table{number}" for number in range(4, 13)), "shallow", "claims", "seeds"):
        (clone / f"reports/mini/{name}.json").unlink()
    for path in (clone / "reports/mini/runs").glob("*.*"):
        if not path.name.startswith(("A-256", "B-256")):
            path.unlink()
    values = json.loads((clone / "reports/mini/table3.json").read_text())
    for row in values["rows"][3:]:
        row |= {"ours": None, "missing": ["vgg-repro score dense D-256"]}
    (clone / "reports/mini/table3.json").write_text(json.dumps(values))
    document = Elements(site())
    ids = [attributes["id"] for attributes in document.tagged("section")]
    shown = [
        "README",
        "paper",
        "table1",
        "table2",
        "table3",
        "training",
        "mistakes",
        "images",
        "localisation",
        "provenance",
        "data",
    ]
    assert ids == shown
    assert "The paper's claims are not tested yet." in document.text
    assert "2 networks were trained" in document.text and "not run: vgg-repro score dense D-256" in document.text


def test_tables_of_nets_alone_are_a_report(clone: Path) -> None:
    for path in (*(clone / "reports/mini").glob("*.json"), *(clone / "reports/mini/runs").iterdir()):
        if path.name not in ("table1.json", "table2.json"):
            path.unlink()
    shutil.rmtree(clone / "reports/mini/data")
    document = Elements(site())
    assert [a["id"] for a in document.tagged("section")] == ["README", "paper", "table1", "table2", "provenance"]
    assert "No images are prepared" in document.text


def test_no_results_at_all_is_a_failure_with_a_way_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Failure, match="vgg-repro prepare --profile mini, then vgg-repro run"):
        write_site("mini", tmp_path)


def test_names_with_markup_and_in_other_scripts_stay_names(clone: Path) -> None:
    path = clone / "reports/mini/data/classification.json"
    facts = json.loads(path.read_text())
    facts["classes"][:4] = ["<script>alert(1)</script>", "R&D \"x\" 'y'", "猫", "{{ title }}"]
    facts["about"] = "Schlösser & <b>Gärten</b>"
    path.write_text(json.dumps(facts, ensure_ascii=False))
    document = Elements(site())
    assert "Classes: <script>alert(1)</script>, R&D \"x\" 'y', 猫, {{ title }}, f" in document.text
    assert "The images: Schlösser & <b>Gärten</b>." in document.text
    assert [tag for tag, _ in document.all].count("script") == 1


def test_many_classes_are_not_all_listed(clone: Path) -> None:
    path = clone / "reports/mini/data/classification.json"
    facts = json.loads(path.read_text()) | {"classes": [f"class {number}" for number in range(1000)]}
    path.write_text(json.dumps(facts))
    assert "class 199 and 800 more." in site()


def test_a_picture_of_the_data_is_shown_if_it_is_of_these_images(clone: Path) -> None:
    Image.new("RGB", (40, 30)).save(clone / "reports/mini/crops.jpg")
    assert 'alt="Training crops"' in site()
    (clone / "reports/mini/data.md").write_text("of other images")
    assert 'alt="Training crops"' not in site()


def test_what_git_has_of_provenance_is_shown(whole: str) -> None:
    assert "Images per second and waiting times are medians" in whole


def test_what_only_this_machine_lacks_is_not_claimed_to_be_unknown(clone: Path) -> None:
    text = (clone / "reports/mini/provenance.md").read_text()
    (clone / "reports/mini/provenance.json").unlink()
    assert "Recorded on another machine" in site()
    (clone / "reports/mini/provenance.md").write_text(re.sub("[0-9a-f]{64}", "0" * 64, text))
    assert "Provenance not recorded here" in site()


def test_outdated_results_are_said_first(clone: Path) -> None:
    path = write_site("mini", Path("out"), {"train@A-256": "its rate"})[1]
    words = Elements(path.read_text()).text
    assert words.index("Older than params.yaml:") < words.index("14 networks")


def test_the_command_writes_it_and_no_pages(clone: Path) -> None:
    """Of a profile that is not active, for which DVC is not asked."""
    (clone / "reports/mini").rename(clone / "reports/evening")
    shutil.copy(ROOT / "params.yaml", clone)
    outcome = program(clone, "report", "--html", "--profile", "evening", "--out", "out")
    assert outcome.code == 0, outcome
    assert "out/evening/report.html written" in outcome.out
    assert [path.name for path in (clone / "out/evening").iterdir()] == [FILE]


def test_the_templates_are_installed_with_the_program() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["package-data"]["reports"] == ["templates/*"]
    assert {path.name for path in TEMPLATES.iterdir()} == {"report.html.j2", "report.css", "report.js"}


def schemes() -> dict[str, dict[str, str]]:
    """Return the stylesheet's colours in light and dark."""
    light, dark = re.findall(BLOCK, (TEMPLATES / "report.css").read_text())
    return {name: dict(re.findall("(--[a-z]+): (#[0-9a-f]{6})", block)) for name, block in (("l", light), ("d", dark))}


def luminance(colour: str) -> float:
    """Return WCAG's relative luminance."""
    levels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(first: str, second: str) -> float:
    """Return WCAG's contrast of two colours."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["l", "d"])
def test_text_stands_out_from_what_it_is_written_on(scheme: str) -> None:
    colours = schemes()[scheme]
    assert schemes()["l"].keys() == schemes()["d"].keys()
    for name in ("ink", "pale", "link", "good", "bad", "open", "blue", "orange"):
        assert contrast(colours[f"--{name}"], colours["--paper"]) >= TEXT, name
    for name, ground in (("ink", "shade"), ("pale", "shade"), ("ink", "warning")):
        assert contrast(colours[f"--{name}"], colours[f"--{ground}"]) >= TEXT, (name, ground)
    for name in ("green", "purple", "cyan"):
        assert contrast(colours[f"--{name}"], colours["--paper"]) >= GRAPHIC, name
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_every_colour_of_the_style_is_a_variable_of_both_schemes() -> None:
    text = (TEMPLATES / "report.css").read_text()
    rules = re.sub(BLOCK, "", text)
    assert not re.search("#[0-9a-f]{3,6}", rules)
    assert set(re.findall(r"var\((--[a-z]+)\)", rules)) - {"--width"} <= schemes()["l"].keys()


def test_an_image_file_is_shown_at_its_size(clone: Path) -> None:
    Image.fromarray(np.zeros((40, 120, 3), np.uint8)).save(clone / "reports/mini/crops.jpg")
    (crops,) = (image for image in Elements(site()).tagged("img") if image["alt"] == "Training crops")
    assert (crops["width"], crops["height"]) == ("120", "40")
