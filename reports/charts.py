"""The report's charts, one row each: its files and caption, the page that shows it, and what it is drawn from.

A chart is drawn from the rows of a table, which are written next to it as CSV.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.results import box_chart_data, chart_data, illustration_data, set_chart_data
from pipeline.results.encoded_images import Pixels
from pipeline.results.profile_results import Results
from pipeline.system.atomic_files import write_text
from reports import alternatives, box_drawing, drawing, image_drawing, set_drawing
from reports.chart_style import in_style, write_figure
from reports.page import Block, Figure, Heading, Text
from reports.provenance_page import PROVENANCE

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas as pd

INDEX, PAPER_PAGE, TRAINING, MISTAKES, IMAGES = "README", "paper", "training", "mistakes", "images"
BOXES, OTHER_SETS_PAGE = "localisation", "descriptors"


@dataclass(frozen=True)
class ChartKind:
    """A chart that the report has if there are results to draw."""

    name: str  # of its files: NAME.csv, and NAME.png or NAME.jpg
    page: str  # the page that shows it: one of the names above, PROVENANCE or a table's name
    rows: Callable[[Results], pd.DataFrame]  # what is drawn; no rows if there are no results to draw
    draw: Callable[..., matplotlib.figure.Figure]  # of the rows and, if it shows `photographs`, the images by name
    text: Callable[[pd.DataFrame], str]  # says what one sees
    caption: Text  # says what the marks mean
    heading: str = ""  # of the section that shows it; none on a page of its own subject
    photographs: bool = False

    @property
    def files(self) -> tuple[str, str]:
        """Return the names of the data and the image. The image tells whether both are ours, so it is the last."""
        return f"{self.name}.csv", f"{self.name}.{'jpg' if self.photographs else 'png'}"

    def drawn(self, rows: pd.DataFrame, images: Mapping[str, Pixels] | None = None) -> matplotlib.figure.Figure:
        """Return the figure of these rows, in the report's style."""
        with in_style():
            return self.draw(rows, images or {}) if self.photographs else self.draw(rows)


@dataclass(frozen=True)
class Chart:
    """A chart with the rows that it is drawn from."""

    kind: ChartKind
    rows: pd.DataFrame

    @property
    def figure(self) -> Figure:
        """Return the block that shows the image, its caption and its data."""
        data, image = self.kind.files
        return Figure(image, self.kind.text(self.rows), self.kind.caption, data)

    def draw(self, images: Mapping[str, Pixels], path: Path) -> None:
        """Draw it, with the images that its kind may show, into a file of the kind that the path's suffix names."""
        write_figure(self.kind.drawn(self.rows, images), path)


def draw_charts(results: Results, folder: Path, suffix: str = "") -> list[Chart]:
    """Draw every chart that there are results for into `folder`, with its data. Return them.

    Charts are PNG, those with photographs JPEG; `suffix` may ask for SVG instead.
    """
    charts = [Chart(kind, kind.rows(results)) for kind in CHARTS]
    charts = [chart for chart in charts if len(chart.rows)]
    images = {name: image for shown in (results.illustrations, results.located, *results.shown_sets.values()) if shown
              for name, image in shown.pixels().items()}  # fmt: skip
    for chart in charts:
        data, image = (folder / name for name in chart.kind.files)
        write_text(data, chart.rows.to_csv(index=False, lineterminator="\n"))
        chart.draw(images, image.with_suffix(suffix or image.suffix))
    return charts


def charts_on(page: str, drawn: Sequence[Chart]) -> Iterator[Block]:
    """Yield the blocks that show the drawn charts of a page."""
    for chart in drawn:
        if chart.kind.page == page:
            yield from [Heading(2, chart.kind.heading)] * bool(chart.kind.heading)
            yield chart.figure


CHARTS = (
    ChartKind(
        "depth",
        INDEX,
        chart_data.depth_rows,
        drawing.depth_chart,
        alternatives.depth_text,
        "Bars: 95 % intervals of our errors, for the images as if independent, not for seeds. Where a net has "
        "several seeds, the mark is their mean and each dash is a seed. Open marks: net C, as deep as D with 1x1 "
        "filters where D has 3x3. Jittered S is drawn from [256, 512]. Each panel has its own range of errors.",
        heading="Depth and scale",
    ),
    ChartKind(
        "waterfall",
        INDEX,
        chart_data.waterfall_rows,
        drawing.waterfall_chart,
        alternatives.waterfall_text,
        "Each step of the evaluation of D and E, trained with jittered S, with the seed of the tables: the error "
        "after it and, in brackets, its change in points, computed from errors that are not rounded. Filled bars: the "
        "error falls; hatched bars: it rises. Crops and dense are both at three Q. The paper has no centre crop of "
        "these nets. Each column has its own range of errors.",
        heading="What each step of the evaluation adds",
    ),
    ChartKind(
        "curves",
        TRAINING,
        chart_data.curves_rows,
        drawing.curves_chart,
        alternatives.curves_text,
        "All panels of a column share their axes. Upright dashes: the first epoch at a learning rate that is "
        "lower by a factor of ten.",
    ),
    ChartKind(
        "filters",
        TRAINING,
        chart_data.filters_rows,
        drawing.filters_chart,
        alternatives.filters_text,
        "The filters that the first layer of one trained net applies to the image, in its colours, the strongest "
        "first. Each is scaled on its own. Grey: no weight; brighter: positive weights; darker: negative weights.",
        heading="First-layer filters",
    ),
    ChartKind(
        "receptive",
        PAPER_PAGE,
        chart_data.receptive_rows,
        drawing.receptive_chart,
        alternatives.receptive_text,
        "One output in the middle, and the pixels of the input on which it depends, measured by its gradient. The "
        "stronger the colour, the more it depends on the pixel. All weights of a layer are equal here.",
    ),
    ChartKind(
        "timeline",
        PROVENANCE,
        chart_data.timeline_rows,
        drawing.timeline_chart,
        alternatives.timeline_text,
        "When each run was trained and scored, by machine and device. The time of a resumed run is that of its last "
        "part.",
        heading="Time line",
    ),
    ChartKind(
        "shallow",
        "shallow",
        chart_data.shallow_rows,
        drawing.shallow_chart,
        alternatives.shallow_text,
        "Bars: 95 % intervals.",
    ),
    ChartKind(
        "confusion",
        MISTAKES,
        chart_data.confusion_rows,
        drawing.confusion_chart,
        alternatives.confusion_text,
        "Rows: the true class; columns: the first guess. Darker: a larger share of the class's images. Right "
        "guesses are on the diagonal.",
        heading="Confusion matrix",
    ),
    ChartKind(
        "confused",
        MISTAKES,
        chart_data.confused_rows,
        drawing.confused_chart,
        alternatives.confused_text,
        "Images of the first class whose first guess is the second class, of all images of the first class.",
        heading="Classes that are confused most often",
    ),
    ChartKind(
        "scoremap",
        IMAGES,
        illustration_data.scoremap_rows,
        image_drawing.scoremap_chart,
        alternatives.scoremap_text,
        "Each cell is the posterior, in per cent, of one class. Upper row: the true class. Lower row: the other class "
        "that is likeliest at the centre crop. Left: the cells of the score map. Right: the 5 x 5 crops of multi-crop "
        "evaluation, each at its centre. Both without flips. Dashed: the whole crop of the cell in which the true "
        "class is likeliest.",
        heading="Score map and crops",
        photographs=True,
    ),
    ChartKind(
        "padding",
        IMAGES,
        illustration_data.padding_rows,
        image_drawing.padding_chart,
        alternatives.padding_text,
        "The true class's posterior in per cent, in each cell of the score map and of a crop cut out at the same "
        "place, and their difference in points. The weights and the pixels are the same. A crop is padded with zeros "
        "at its own edges. In the map, its surroundings take the place of these zeros, except at the image's edges.",
        heading="Where the padding differs",
    ),
    ChartKind(
        "training-crops",
        IMAGES,
        illustration_data.training_crops_rows,
        image_drawing.training_crops_chart,
        alternatives.training_crops_text,
        "One training image in the first ten epochs, one per column, with random places, flips and colour shifts. "
        "The mean is added back. Below the crops of jittered S: the S that was drawn. A run with a shorter schedule "
        "sees the first of these crops.",
        heading="Training crops over ten epochs",
        photographs=True,
    ),
    ChartKind(
        "scales",
        IMAGES,
        illustration_data.scales_rows,
        image_drawing.scales_chart,
        alternatives.scales_text,
        "The crop has the same size at each S, so the larger S is, the less of the image it shows. In per cent: the "
        "crop's share of the image's area. Solid line: the central crop at the smaller S; dashed: at the larger.",
        heading="S = 256 against 512",
        photographs=True,
    ),
    ChartKind(
        "located",
        BOXES,
        box_chart_data.located_rows,
        box_drawing.located_chart,
        alternatives.located_text,
        "White: the true box; orange, dashed: the predicted one. The number is their overlap (intersection over union, "
        "as the development kit counts it). The upper images have the best overlaps, the lower ones the worst.",
        heading="Best and worst boxes",
        photographs=True,
    ),
    ChartKind(
        "merging",
        BOXES,
        box_chart_data.merging_rows,
        box_drawing.merging_chart,
        alternatives.merging_text,
        "Orange: the boxes of the first guess. Left: those of all windows; the thicker, the higher the class score of "
        "the window. Right: what is left after merging; the thicker, the larger the sum of the scores. The thickest is "
        "the answer. White, dashed: the true box.",
        heading="Merging on one image",
        photographs=True,
    ),
    ChartKind(
        "overlap",
        BOXES,
        box_chart_data.overlap_rows,
        box_drawing.overlap_chart,
        alternatives.overlap_text,
        "Error if a box is right from each overlap on. The dotted line is at 0.5, which the tables use. Table 8: the "
        "box of the true class at the central crop. Table 9: merged boxes of dense evaluation; one of the guesses must "
        "have the true class and a right box.",
        heading="Error by overlap",
    ),
    ChartKind(
        "set-classes",
        OTHER_SETS_PAGE,
        set_chart_data.class_rows,
        set_drawing.class_chart,
        alternatives.set_classes_text,
        "Each dot is a class; the mean over the splits where there are several. Open dots: the descriptor of the image "
        "alone; filled: of the image and the box. Black line: our mean. Orange, dashed: the paper's mean; it has no "
        "numbers of single classes. Dotted: the mean recall of random guesses, 100 % divided by the number of classes. "
        "The AP of random scores, which has no line, is the class's share of the test examples, or somewhat more. Of "
        "more than 26 classes, the 12 best and the 12 worst are shown.",
        heading="Classes",
    ),
    ChartKind(
        "set-examples",
        OTHER_SETS_PAGE,
        set_chart_data.example_rows,
        set_drawing.example_chart,
        alternatives.set_examples_text,
        "The best and the worst class of each data set, by the AP or recall of the first split, which is next to them; "
        "above, classes have their mean over the splits. Left three: the test examples that its SVM gives the highest "
        "scores. Right three: the examples of the class with the lowest scores. The number is the score; in bold, "
        "with the true classes in brackets, where the class is not there. White: the box of the example.",
        heading="Best and worst examples",
        photographs=True,
    ),
    ChartKind(
        "set-descriptors",
        OTHER_SETS_PAGE,
        set_chart_data.map_rows,
        set_drawing.map_chart,
        alternatives.set_descriptors_text,
        "Test examples by the first two principal components of their descriptors, which are computed from the shown "
        "examples: at most 100 of each of six classes, the three best and the three worst. An example of several of "
        "these classes is shown as the best of them. The SVMs see all numbers of a descriptor, not only these two.",
        heading="Descriptors in a plane",
    ),
)
