"""Sections 3.1 and 3.3 of the paper: how the networks are trained, and on what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.experiment.paper_facts import (
    BATCH,
    DROPOUT,
    DROPS,
    EPOCHS,
    GPUS,
    MOMENTUM,
    RATE,
    SPEEDUP,
    VARIANCE,
    WEEKS,
    WEIGHT_DECAY,
)
from pipeline.results.deviations import SCHEDULES
from pipeline.results.illustration_data import largest_shift
from pipeline.results.profile_results import Results
from pipeline.system.decoders import DALI
from reports.charts import Chart
from reports.companion.initial_weights import chain_of_weights, other_weights
from reports.companion.parts import (
    chart,
    differences,
    differs,
    name_of,
    question,
    section,
    times,
    trains,
    unillustrated,
    word,
)
from reports.page import Block, Bullets, Code, Heading, Link, Paragraph, Strong, Text

KNOBS = ("dropout", "initial weights", "batch", "momentum", "weight decay", "learning-rate drops",
         "colour shift", *SCHEDULES.values())  # fmt: skip
MACHINES = ("precision of training", "precision of scoring", "decoder")


def training(results: Results, charts: Sequence[Chart]) -> Iterator[Block]:
    """Yield section 3.1, with the charts of training crops."""
    yield from section(
        "3.1 Training",
        f"The loss is the softmax loss. Each step of gradient descent uses {BATCH} images, momentum {MOMENTUM:g}, "
        f"weight decay {WEIGHT_DECAY:g}, and dropout of {DROPOUT:g} after the hidden fully connected layers. The "
        f"learning rate begins at {RATE:g}. It is divided by ten whenever the validation accuracy stops improving: "
        f"{times(DROPS)} in {EPOCHS} epochs. Each image is rescaled so that its shorter side has S pixels. A random "
        "crop of it is flipped or not, and its colours are shifted a little. Network A begins with random weights. The "
        "deeper ones, B to E, begin with layers of A.",
        _here(results),
        _open(results),
    )
    yield from _choices(results)
    if differs(results, KNOBS):
        yield Paragraph(
            (
                "These settings are not the paper's. Where the paper does not state a value, its column says so and "
                "has the choice of the profile ",
                Code("paper"),
                ":",
            )
        )
        yield from differences(results, KNOBS)
    yield from chain_of_weights(results)
    yield from other_weights(results)
    yield from _crops(results, charts)


def _here(results: Results) -> Text:
    if not trains(results):
        return (
            "Nothing is trained with ", *name_of(results), ". It evaluates networks that others trained and published. "
            "The profiles ", Code("mini"), ", ", Code("evening"), ", ", Code("imagenette"), " and ", Code("paper"),
            " train all networks in the paper's order.",
        )  # fmt: skip
    return (
        "All networks are trained in the paper's order. A table in ",
        Code("params.yaml"),
        " has one row for each run: network, S, initial weights, schedule. What is random about an image (S, crop, "
        "flip, colours, dropout) is computed from the seed, the epoch and the image's number. So a run that was "
        "interrupted goes on with the same draws.",
    )


def _open(results: Results) -> Text:
    return (
        "Some points are not stated in the paper, and every reproduction has to decide them. ",
        Code("docs/paper.md"),
        " lists all of them with the evidence. Three matter most:",
    )


def _choices(results: Results) -> Iterator[Block]:
    """Yield the open points that matter most."""
    train = results.settings.train if results.settings else None
    waits = f"here, {train.patience} epochs without a lower validation error" if train else (
        "a training profile names a number of epochs without a lower validation error")  # fmt: skip
    yield Bullets(
        (
            (
                Strong("How large the first weights are."),
                f" The paper gives a variance of {VARIANCE:g}, which is a standard deviation of {VARIANCE**0.5:g}. "
                "Networks of full width cannot train from that: their first loss is above 10⁸. The profile ",
                Code("paper"),
                f" takes {VARIANCE:g} as the standard deviation.",
            ),
            (
                Strong("Where A's layers go."),
                " The first four convolutions of A do not fit the deeper networks by position, because A's second "
                "doubles the channels and theirs does not. Here each goes to the same place in its block.",
            ),
            (Strong("When the accuracy “stops improving”."), f" The paper gives no rule; {waits}."),
        )
    )


def _crops(results: Results, charts: Sequence[Chart]) -> Iterator[Block]:
    """Yield what S, crops and colour shifts do to images of this profile."""
    yield Heading(3, "What S does to an image")
    shown = results.illustrations
    if not shown:
        yield Paragraph(unillustrated("The training crops"))
        return
    small, large = shown.scored.scales
    yield Paragraph(
        f"The crop is always {shown.crop} pixels wide, so S decides how much of the image it shows. Of one validation "
        f"image it shows {100 * small.share(shown.crop):.0f} % at S = {small.scale}, and "
        f"{100 * large.share(shown.crop):.0f} % at S = {large.scale}. A small S shows whole objects, a large S shows "
        "details."
    )
    yield from chart(charts, "scales")
    if shown.training:
        yield Paragraph(
            "Place, flip and colours are drawn anew in each epoch, so a crop hardly ever comes twice. The colour shift "
            f"is small, here at most {largest_shift(shown.training):.1f} of 255 grey levels in a channel. It is meant "
            "to change the light, not the object."
        )
    yield from chart(charts, "training-crops")
    yield question("With jittered S, what does the network have to learn that it need not learn at a fixed S?")


def implementation(results: Results) -> Iterator[Block]:
    """Yield section 3.3."""
    yield from section(
        "3.3 Implementation",
        "The program was Caffe, changed by the authors so that it trains on several GPUs and evaluates whole images. "
        f"Each batch was divided among {word(GPUS)} GPUs and the gradients were averaged, so the result is that of one "
        f"GPU. It was {SPEEDUP:g} times faster than one. A network took {word(WEEKS[0])} to {word(WEEKS[1])} weeks.",
        (
            f"The program is written in PyTorch, and {_decoding(results)} the images. Several GPUs also "
            "share each batch. DVC knows which result depends on which parameters, runs what is missing and nothing "
            "else, and keeps earlier results. Where and when each result was made is on the page ",
            Link("Provenance", "provenance.md"),
            ".",
        ),
        _machines(results),
    )
    yield from differences(results, MACHINES)


def _decoding(results: Results) -> str:
    """Return what decodes and rescales the images, with its verbs."""
    other = (results.facts or {}).get("stored", {}).get("decoder", DALI) != DALI
    return "simplejpeg and Pillow decode and rescale" if other else "NVIDIA's DALI decodes and rescales"


def _machines(results: Results) -> str:
    rounding = (
        "Decoders, resizing filters and the order of sums are not those of 2014. They change pixels by a few grey "
        "levels, and results by rounding."
    )
    return rounding + (" Precision and decoder of this profile:" if differs(results, MACHINES) else "")
