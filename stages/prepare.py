"""Stage prepare: the source's images as shards, the manifest and the data set's facts."""

from __future__ import annotations

from pipeline.params import Params
from pipeline.prepare import prepare


def main(params: Params) -> None:
    """Prepare the profile's data set and say what it is."""
    facts = prepare(params)
    mean = ", ".join(f"{level:.1f}" for level in facts.mean_rgb)
    print(f"{facts.source}: {facts.train} training and {facts.val} validation images of {len(facts.classes)} classes,")
    print(f"{facts.rescaled} made smaller, mean RGB {mean}")
