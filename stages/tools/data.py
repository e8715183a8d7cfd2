"""The page of the prepared data and its contact sheet of training crops. Not a stage of the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.facts import PREPARE, Facts, read_facts
from pipeline.datasets.manifest import manifest_hash
from pipeline.datasets.manifest_summary import read_manifest, read_odd_boxes, summarise
from pipeline.errors import Failure
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION
from pipeline.system.atomic_files import write_text
from pipeline.system.decoders import decoder_in_use
from reports.chart_style import drawable
from reports.data_page import PICTURE, crops_section, data_page
from reports.drawing import contact_sheet
from reports.markdown import markdown
from stages.common import normaliser, open_shards
from stages.images import as_received
from vgg.stream import StreamConfig, training_stream

CROPS = 32


def main(params: Params, out: Path) -> str:
    """Write data.md and its image under `out`/PROFILE; return the text. Raise Failure if nothing is prepared."""
    facts, manifest = read_facts(params.profile), read_manifest()
    if manifest_hash(CLASSIFICATION.manifest, facts.stored) != facts.manifest:
        raise Failure(f"{CLASSIFICATION.manifest} does not describe the prepared images; make it again with: {PREPARE}")
    odd = read_odd_boxes(CLASSIFICATION.shards)
    page = data_page(params.profile, facts, summarise(manifest), odd, params.active.net.crop)
    folder = out / params.profile
    if not facts.train:
        write_text(folder / "data.md", markdown(page))
        return markdown(page)
    crops, names = training_crops(params, facts)
    contact_sheet(crops, names, folder / PICTURE)
    write_text(folder / "data.md", markdown((*page, *crops_section(len(crops)))))
    return markdown(page)


def training_crops(params: Params, facts: Facts) -> tuple[NDArray[np.uint8], list[str]]:
    """Return the first crops of the training stream, (N, crop, crop, 3), colour-shifted, and their classes."""
    shards, net = open_shards(params, "train", facts.statistics), params.active.net
    low = min(run.scales[0] for run in params.runs.values())
    plan = StreamConfig(
        params.active.training.seed,
        min(CROPS, len(shards)),
        net.crop,
        (net.pixels(low), net.pixels(params.largest_scale)),
    )
    batch = next(training_stream(shards, plan, decoder=decoder_in_use(params.decoder)))
    shown = as_received(normaliser(params, facts.statistics), batch.pixels, batch.colour)
    names = [name if drawable(name) else f"class {label}" for label, name in enumerate(facts.classes)]
    return shown, [names[label] for label in batch.labels.tolist()]
