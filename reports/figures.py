"""A report's charts: the condition for each, its file and its caption."""

from __future__ import annotations

from pathlib import Path

from pipeline.results.profile_results import Results
from reports.charts import curves_chart, depth_chart, shallow_chart
from reports.page import Figure

DEPTH = Figure(
    "depth.png",
    "Error against depth, the paper's and ours",
    "Open circles: net C, as deep as D with 1x1 filters where D has 3x3. Training at one S is S = 256; jittered S is "
    "drawn from [256, 512].",
)
CURVES = Figure(
    "curves.png",
    "Learning curves; dotted: the learning rate fell by a factor of ten",
    "Dotted lines: the learning rate fell by a factor of ten.",
)
SHALLOW = Figure("shallow.png", "B and the shallow net at the centre crop")
FIGURES = (DEPTH, CURVES, SHALLOW)


def draw_figures(results: Results, folder: Path) -> list[Figure]:
    """Draw every chart that there are results for into `folder`. Return those that were drawn."""
    drawn, tables = list[Figure](), results.tables
    if {"table3", "table4"} <= set(tables):
        depth_chart(tables["table3"], tables["table4"], folder / DEPTH.path)
        drawn.append(DEPTH)
    if results.histories:
        curves_chart(results.histories, folder / CURVES.path)
        drawn.append(CURVES)
    if "shallow" in tables and all(row["ours"] for row in tables["shallow"]["rows"]):
        shallow_chart(tables["shallow"], folder / SHALLOW.path)
        drawn.append(SHALLOW)
    return drawn
