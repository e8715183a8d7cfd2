"""The HTML report in a browser without a network: accessible, no wider than the window, usable by keys, printed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.experiment.validation import load
from reports.site import write_site
from tests.support import ROOT
from tests.support.browser import Tab, browser, needs_axe, needs_chromium

pytestmark = [pytest.mark.slow, needs_chromium]
CELL = 'document.querySelector("#table4 button[popovertarget]")'
OPEN = '[...document.querySelectorAll(":popover-open")].map(panel => panel.id)'
FOCUSED = "document.activeElement.id || document.activeElement.textContent"


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    """A tab of a browser."""
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of mini with its images and explanations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        out = tmp_path_factory.mktemp("out")
        shutil.copytree(ROOT / "reports/mini", out / "mini")
        return write_site("mini", out, {}, load(ROOT / "params.yaml"))[1]


@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_violation_also_with_an_explanation_open(width: int, scheme: str, tab: Tab, report: Path) -> None:
    tab.open(report, width, scheme)
    assert tab.violations() == [] and tab.overflow() == 0
    tab.run(f"{CELL}.click()")
    assert len(tab.run(OPEN)) == 1
    assert tab.violations() == [] and tab.overflow() == 0
    assert tab.elsewhere == []


def test_the_way_of_a_crop_needs_no_scrolling_on_a_narrow_screen(tab: Tab, report: Path) -> None:
    tab.open(report, 390)
    way = '[...document.querySelectorAll("#paper .frame")].find(frame => frame.textContent.includes("block 1"))'
    assert tab.run(f"{way}.scrollWidth - {way}.clientWidth") == 0


@pytest.mark.parametrize("width", [1200, 1280])
def test_the_list_of_sections_cuts_no_label(width: int, tab: Tab, report: Path) -> None:
    tab.open(report, width)
    list_ = 'document.querySelector("nav ul")'
    assert tab.run(f"{list_}.childElementCount") > 20 and tab.run(f"{list_}.scrollWidth - {list_}.clientWidth") == 0


def test_enter_opens_an_explanation_and_escape_goes_back(tab: Tab, report: Path) -> None:
    tab.open(report, 1280)
    name = tab.run(f"{CELL}.focus(), {CELL}.popoverTargetElement.id")
    tab.press("Enter")
    assert tab.run(OPEN) == [name] and tab.run(FOCUSED) == name
    for _ in range(3):  # close, score, network
        tab.press("Tab")
    tab.press("Enter")
    assert tab.run(OPEN) == [name, "explain-run-B-256"]
    tab.press("Escape")
    assert tab.run(OPEN) == [name] and tab.run(FOCUSED) == "B-256"
    tab.press("Escape")
    assert tab.run(OPEN) == [] and tab.run(f"document.activeElement === {CELL}")


def test_without_a_script_an_explanation_opens_too(tab: Tab, report: Path) -> None:
    text, scripts = re.subn("<script>.*?</script>", "", report.read_text(), flags=re.DOTALL)
    assert scripts == 1
    page = report.with_name("without.html")
    page.write_text(text)
    tab.open(page, 390)
    tab.run(f"{CELL}.focus()")
    tab.press("Enter")
    assert len(tab.run(OPEN)) == 1
    tab.press("Escape")
    assert tab.run(OPEN) == [] and tab.run(f"document.activeElement === {CELL}")


def test_neither_explanations_nor_the_dark_colours_are_printed(tab: Tab, report: Path) -> None:
    tab.open(report, 1280, "dark")
    tab.run(f"{CELL}.click()")
    feature = {"name": "prefers-color-scheme", "value": "dark"}
    tab.call("Emulation.setEmulatedMedia", media="print", features=[feature])
    shown = '[...document.querySelectorAll("[popover], nav, .screen")].filter(part => part.offsetWidth).length'
    assert tab.run(shown) == 0
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
