"""The results in README.md, written from a committed profile: `make readme`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.results.chart_data import depth_rows
from pipeline.results.profile_results import Results
from reports.alternatives import depth_text
from reports.claims_page import MEANING, ledger, verdict_sentence
from reports.markdown import markdown
from reports.page import Figure, Link, Page, Paragraph, Table, left, right
from reports.page_parts import what_was_run
from reports.phrases import NONE, mean_and_std, number

README = Path("README.md")
PROFILE = "evening"
START, END = "<!-- results: written by `make readme` -->\n", "<!-- end of results -->\n"


def results_in_readme(results: Results) -> Page:
    """Return what README.md says of a profile's results: error against depth, what was run, the ledger, Table 3."""
    path = f"reports/{results.profile}"
    depth = depth_text(depth_rows(results))
    return (
        Figure(f"{path}/depth.png", depth),
        Paragraph(f"Profile {results.profile}, committed as it came out. {what_was_run(results)}"),
        Paragraph(verdict_sentence(results.claims)),
        Paragraph(MEANING),
        *ledger(results.claims),
        Paragraph("Table 3, one test scale; top-1 errors in per cent:"),
        _table(results),
        Paragraph(("The whole report: ", Link(path, f"{path}/README.md"), ".")),
    )  # fmt: skip


def _table(results: Results) -> Table:
    spreads = {row["runs"][0]: row["top1"] for row in results.seeds["rows"] if row["table"] == "table3"}
    rows = results.tables["table3"]["rows"]
    seed = results.summaries[rows[0]["runs"][0]]["seed"]
    one = (f"ours, seed {seed}", f"centre crop, seed {seed}")
    columns = (*left("net", "train S", "test Q"), *right("paper", "ours, mean ± std over seeds", *one))
    return Table(columns, tuple(tuple(_row(row, spreads)) for row in rows))


def _row(row: dict[str, Any], spreads: dict[str, Any]) -> Iterator[str]:
    yield from row["label"].values()
    yield number(row["paper"]["top1_val"])
    spread = spreads.get(row["runs"][0])
    yield NONE if not spread or spread["std"] is None else mean_and_std(spread)
    yield number(row["ours"]["top1"]["error"])
    yield number(row.get("centre"))


def with_results(text: str, blocks: Page) -> str:
    """Return README's `text` with the results between its two marks. Raise ValueError if it lacks them."""
    whole = re.compile(f"{re.escape(START)}.*{re.escape(END)}", re.DOTALL)
    if len(whole.findall(text)) != 1:
        raise ValueError(f"README.md needs the marks {START.strip()} and {END.strip()}, once each")
    return whole.sub(lambda _: f"{START}\n{markdown(blocks)}\n{END}", text)


if __name__ == "__main__":
    README.write_text(with_results(README.read_text(), results_in_readme(Results(PROFILE))))
