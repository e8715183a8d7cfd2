"""Published nets' errors next to the published ones, and in plain words what a miss usually means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

from pipeline.experiment.modes import MODES
from pipeline.published.agreement import LOST, Checked, Trial
from reports.page import Judged, Paragraph, Table, Text, left, right
from reports.terminal import TerminalBlock
from vgg.errors import Error
from vgg.judgement import Verdict

SURE = 0.3  # mean posterior of the likeliest class above which a net may recognise its input
MANY = 0.5  # share of the classes; a net that names fewer different ones does not recognise them
FAR = 15.0  # points; no filter, decoder or warping explains a larger miss
WARPED = 2.0  # points; warped images, which cost about 3, may explain a larger miss


def check_page(checked: Sequence[Checked], images: str = "") -> Iterator[TerminalBlock]:
    """Yield a table, the sources of the figures, and what each miss usually means.

    `images` describes the images if they are not those that the figures were measured on.
    """
    if checked and not checked[0].comparable:
        yield from _errors_alone(checked, images)
        return
    columns = (*left("run", "protocol"), *right("images"), *left("top-1", "published", "top-5", "published", ""))
    yield Table(columns, tuple(_row(result) for result in checked))
    yield Paragraph(_sources(checked))
    yield Paragraph(f"Errors in per cent with 95 % Wilson intervals. {_rules(checked)}")
    if undecided := [result for result in checked if result.agreement == Verdict.UNDECIDED]:
        yield Paragraph(_undecided(undecided))
    if images:
        yield Paragraph(f"The published figures are of ILSVRC-2012's validation images. The images here: {images}.")
    missed: set[str] = set()
    for result in checked:
        repeated = result.run in missed and result.differs
        texts = ["see its centre crop first.", *_settings(result)] if repeated else list(_causes(result))
        yield from (Paragraph(f"{result.run}, {MODES[result.mode].protocol}: {text}") for text in texts)
        missed |= {result.run} if result.differs else set()


def _errors_alone(checked: Sequence[Checked], images: str) -> Iterator[TerminalBlock]:
    """Yield the errors on images of other classes than those that the published errors are of."""
    columns = (*left("run", "protocol"), *right("images"), *left("top-1", "top-5"))
    rows = ((*_protocol(result), _interval(result.top1), _interval(result.top5)) for result in checked)
    yield Table(columns, tuple(rows))
    yield Paragraph("Errors in per cent with 95 % Wilson intervals.")
    yield Paragraph(
        "Not comparable: the published errors are of ILSVRC-2012's 1000 classes, and the images here are not. "
        f"The images here: {images}."
    )


def _row(result: Checked) -> tuple[Text, ...]:
    cells = _protocol(result)
    for measured, measure in ((result.top1, "top1"), (result.top5, "top5")):
        cells += [_interval(measured), _range(*result.published(measure))]
    return (*cells, Judged(result.agreement))


def _protocol(result: Checked) -> list[str]:
    return [result.run, f"{MODES[result.mode].protocol}, Q {result.scale}", f"{result.top1.images:,}"]


def _interval(measured: Error) -> str:
    return f"{measured.error:.1f} ({measured.low:.1f} to {measured.high:.1f})"


def _range(low: float, high: float) -> str:
    return f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f}"


def _sources(checked: Sequence[Checked]) -> str:
    sources = dict.fromkeys(figure["from"] for result in checked for figure in result.figures)
    return f"Published by: {'; '.join(sources)}."


def _rules(checked: Sequence[Checked]) -> str:
    """Return when an error agrees, and for each protocol its tolerance and the difference that these images show."""
    rules = dict.fromkeys(
        f"{MODES[result.mode].protocol}: tolerance {result.rule.tolerance:g} points, differences above "
        f"{result.seen:.1f} points are detected on these images."
        for result in checked
    )
    return (
        "An error agrees if its difference to the nearest published error is, with 95 % confidence, below the "
        f"tolerance for other decoding, resizing and rounding. {' '.join(rules)}"
    )


def _undecided(checked: Sequence[Checked]) -> str:
    """Return what "undecided" means for these results."""
    images, needed = checked[0].top1.images, 1000 * ceil(max(result.needed for result in checked) / 1000)
    if images < needed:
        return (
            f"undecided: nothing differs, but {images:,} images are too few to show agreement; "
            f"this needs about {needed:,} (--images)."
        )
    return "undecided: the difference is so close to the tolerance that it may be above or below it."


def _causes(result: Checked) -> Iterator[str]:
    """Yield the usual causes of a miss, the likeliest first."""
    if not result.differs:
        return
    if result.mode == "centre" and (best := result.better):
        yield (
            f"the net expects another input. With {best.words} the error is {best.top1.error:.1f} % on "
            f"{best.top1.images} images: import it again with these options."
        )
        return
    if result.top1.error > LOST:
        if result.sure > SURE and result.named > MANY:
            yield (
                "the net is confident but wrong: its outputs are in another order of classes. Import it with "
                "--class-map, and check that the validation ground truth is numbered by WordNet ids."
            )
        else:
            yield (
                "the net recognises nothing. It expects another input than those tried (channel order, range, mean, "
                "standard deviation), or its weights are not those of a trained net."
            )
        return
    yield from _small_miss(result)


def _small_miss(result: Checked) -> Iterator[str]:
    """Yield the usual causes of a miss of a few points."""
    miss = result.miss("top1") or result.miss("top5")
    if miss < -WARPED:
        yield (
            f"too low by {-miss:.1f} points. Usual causes: weights of another recipe than those published, only a "
            "part of the images or classes, or images that the net was trained on."
        )
    elif result.square and miss > 0:
        yield (
            "nearly all images are squares of one size: they have been warped or cropped. Warping to a square "
            "instead of rescaling isotropically costs about 3 points; use the archive as it was published."
        )
    elif miss > FAR:
        tried = "; ".join(
            f"{trial.words}: {trial.top1.error:.1f} %" for trial in result.trials if result.mode == "centre"
        )
        yield (
            "far too high, and no other usual input does clearly better. Usual causes: other images or another ground "
            "truth than those published, another class order in some outputs, or a file with other weights."
        ) + f" Tried: {tried}." * bool(tried)
    elif miss > WARPED:
        yield (
            "too high by a few points. Usual causes: reversed channels (BGR for RGB), images that were warped to "
            "squares beforehand (about 3 points), or weights that were fine-tuned for something else."
        )
    else:
        side = "high" if miss > 0 else "low"
        yield (
            f"too {side} by {abs(miss):.1f} points. Usual causes: the resizing filter (score.resize; others used "
            "bicubic), another decoder, skipped images, or other weights than those published."
        )
    yield from _settings(result)


def _settings(result: Checked) -> Iterator[str]:
    """Yield the settings of `score` that come closer to the published error, where others were tried."""
    closer = result.closer
    others = [trial for trial in result.settings if trial not in closer]
    if closer:
        yield f"closer to the published top-1 error on the same images: {_errors(closer)}."
    if others:
        yield f"no closer: {_errors(others)}."


def _errors(trials: Sequence[Trial]) -> str:
    return "; ".join(f"{trial.words}, {trial.top1.error:.1f} %" for trial in trials)
