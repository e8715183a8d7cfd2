"""Section 3.2 of the paper: how the networks are tested."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.datasets.sources.ilsvrc.reference import CLASSES
from pipeline.experiment.modes import MODES
from pipeline.experiment.params import CROP
from pipeline.results.chart_data import waterfall_rows
from pipeline.results.illustration_data import padding_effect
from pipeline.results.net_sizes import STACKED, built, map_sizes, score_map_side
from pipeline.results.profile_results import Results
from reports.charts import Chart
from reports.companion.parts import chart, differences, differs, question, section, unillustrated, with_seed
from reports.images_page import READ_MAP
from reports.page import Block, Code, Heading, Paragraph, Table, left, right
from reports.phrases import NONE, number
from vgg.nets import STRIDE

KNOBS = ("mean of the score map", "remainder beyond 32-pixel cells", "resizing")
SCALES = (224, 256, 288, 352, 384, 416, 512)  # every Q of Tables 3 and 4
PAPERS_REMAINDER = "ceil"  # Caffe's
OURS = ("centre crop", "dense, one Q", "dense, three Q", "50 crops, three Q", "crops and dense")


def testing(results: Results, charts: Sequence[Chart]) -> Iterator[Block]:
    """Yield section 3.2, with the charts of one image."""
    window = next(size.side for size in map_sizes(built(STACKED, CLASSES)) if size.part == "block 5")
    views = MODES["crops"].views
    yield from section(
        "3.2 Testing",
        "A test image is rescaled so that its shorter side has Q pixels. In dense evaluation the whole image is the "
        f"input. The first fully connected layer becomes a {window}x{window} convolution and the other two become 1x1. "
        "The output is then a map of class scores, which is averaged. The posteriors of the image and of its mirror "
        f"image are averaged too. Multi-crop evaluation cuts {views} crops per scale instead, in a regular grid with "
        "mirror images, and averages their posteriors.",
        "Both are done as described, with one set of weights. A crop gives a map with one cell, so training, centre "
        "crop, multi-crop and dense evaluation are the same computation. Posteriors are stored for each Q; a mean over "
        "scales, over methods or over networks is then a mean of stored numbers.",
        _difference(results),
    )
    yield from differences(results, KNOBS)
    yield Heading(3, "How large the score map is")
    yield _maps(results)
    yield Paragraph(
        "The table is for a square image; a longer one has more cells on its longer side. Five poolings make one cell "
        f"of {STRIDE} pixels, so the windows of two neighbouring cells are {STRIDE} pixels apart."
    )
    yield from _one_cell(results)
    yield from _one_image(results, charts)
    yield from _errors(results)
    yield question(
        "A crop is padded with zeros at its border. In the dense evaluation of a whole image, the same part of the "
        "image has its neighbours there. Which of the two is closer to what the network saw in training? Why may the "
        "other one help?"
    )


def _difference(results: Results) -> str:
    ends = " Settings that are not the paper's or its framework's:" if differs(results, KNOBS) else ""
    return (
        "The paper does not say whether the map is averaged before or after the softmax, which filter resizes the "
        "images, "
        "or what happens to pixels beyond whole 32-pixel cells. Here each of these is a parameter." + ends
    )


def _maps(results: Results) -> Table:
    """Return the side of the score map for every Q, in the paper and, if lengths differ, here."""
    settings = results.settings if results.facts else None
    smaller = settings is not None and settings.net.size_ratio != 1
    rows = []
    for scale in SCALES:
        row = [str(scale), _square(score_map_side(scale, remainder=PAPERS_REMAINDER))]
        if settings and smaller:
            pixels = settings.net.pixels(scale)
            side = score_map_side(pixels, settings.net.crop, settings.score.remainder)
            row += [str(pixels), _square(side)]
        rows.append(tuple(row))
    columns = ("Q", "the paper: cells", *("here: pixels", "here: cells") * smaller)
    return Table(right(*columns), tuple(rows), ordered=True)


def one_cell_scales(results: Results) -> list[int]:
    """Return every Q at which a square image is cut to its central crop here, while the paper's map has more cells."""
    settings = results.settings if results.facts else None
    if settings is None or settings.score.remainder != "even":
        return []
    sides = {scale: score_map_side(settings.net.pixels(scale), settings.net.crop, "even") for scale in SCALES}
    return [scale for scale, side in sides.items() if side == 1 and scale > CROP]


def _one_cell(results: Results) -> Iterator[Block]:
    """Yield what dense evaluation is where the map has one cell, if there is such a Q."""
    scales = one_cell_scales(results)
    if scales and results.settings:
        crop = results.settings.net.crop
        yield Paragraph(
            f"Up to Q = {max(scales)} the map of a square image has a single cell here, because the image is cut to "
            f"its central {crop} x {crop} pixels. Dense evaluation is then the centre crop and its mirror image. Only "
            f"an image whose longer side has at least {crop + STRIDE} pixels gets more cells."
        )


def _square(side: int) -> str:
    return f"{side} x {side}"


def _one_image(results: Results, charts: Sequence[Chart]) -> Iterator[Block]:
    """Yield what a network makes of one image, densely and in crops."""
    yield Heading(3, "One image, densely and in crops")
    shown = results.illustrations
    if not shown:
        yield Paragraph(unillustrated("The score map and the crops"))
        return
    image, (true, other) = shown.scored, shown.classes
    yield Paragraph(
        (
            "Here ",
            Code(shown.run),
            f" looks at a validation image of class “{true}” at Q = {image.test_scale}. Its map has "
            f"{len(image.map.tops)} x {len(image.map.lefts)} cells. Dense evaluation gives “{true}” a posterior of "
            f"{100 * image.dense.true:.0f} % and “{other}” one of {100 * image.dense.other:.0f} %. The crop at the "
            f"centre gives {100 * image.centre.true:.0f} % and {100 * image.centre.other:.0f} %. {READ_MAP}",
        )
    )
    yield from chart(charts, "scoremap")
    yield Paragraph(
        "Each cell of the map stands for the crop at its place, and the weights are the same. Still the two "
        f"differ, on average by {padding_effect(image):.1f} points of the posterior of “{true}”. The reason is the "
        "border: zeros around the crop, the rest of the image around the cell. The authors see this as more context."
    )
    yield from chart(charts, "padding")


def _errors(results: Results) -> Iterator[Block]:
    """Yield the errors of the same nets by each way of testing."""
    yield Heading(3, "The same networks, tested in each way")
    rows = waterfall_rows(results)
    rows = rows[(rows["source"] == "ours") & rows["step"].isin(OURS)] if len(rows) else rows
    if not len(rows):
        yield Paragraph(
            ("Not enough is scored yet for a comparison. This makes the rest: ", Code("vgg-repro table 5"), ".")
        )
        return
    nets = list(dict.fromkeys(rows["net"]))
    errors = {(net, step): error for net, step, error in zip(rows["net"], rows["step"], rows["error"], strict=True)}
    cells = ((step, *(number(errors[net, step]) if (net, step) in errors else NONE for net in nets)) for step in OURS)
    yield Paragraph(f"Top-1 errors in per cent of the networks with jittered S{with_seed(results)}:")
    yield Table((*left("tested"), *right(*nets)), tuple(cells), ordered=True)
