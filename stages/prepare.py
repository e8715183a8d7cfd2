"""Stage prepare: the source's images as shards, the manifest and the data set's facts."""

from __future__ import annotations

from pipeline.datasets.facts import too_few
from pipeline.datasets.manifest import other_files, tally
from pipeline.datasets.prepare import prepare
from pipeline.datasets.shards import boxed
from pipeline.datasets.sources.ilsvrc.reference import CALLED
from pipeline.experiment.params import Params
from pipeline.experiment.paths import CLASSIFICATION


def main(params: Params) -> None:
    """Prepare the profile's data set and print what it contains and what people should know about it."""
    facts = prepare(params)
    training = f"{facts.train} training and " if facts.train else ""
    end = "," if facts.train else "; none for training, because this profile does not train"
    print(f"{facts.source}: {training}{facts.val} validation images of {len(facts.classes)} classes{end}")
    if facts.train:
        mean = ", ".join(f"{level:.1f}" for level in facts.mean_rgb)
        print(f"{facts.rescaled} downscaled, mean RGB {mean}")
    skipped, doubtful, small = tally(CLASSIFICATION.manifest)
    if skipped or doubtful:
        others = other_files(CLASSIFICATION.manifest)
        kinds = f"{skipped - others} unusable images and {others} other files skipped"
        print(f"{kinds}, {doubtful} kept with a warning: `vgg-repro data` lists them with reasons")
    with_boxes = boxed(CLASSIFICATION.shards, facts.splits)
    if any(with_boxes.values()):
        print(f"images with boxes: {', '.join(f'{CALLED[split]} {count:,}' for split, count in with_boxes.items())}")
    if small:
        print(f"{small} images are smaller than the {params.active.net.crop}-pixel crop and will be upscaled")
    if reason := too_few(params, facts):
        print(f"warning: {reason}")
