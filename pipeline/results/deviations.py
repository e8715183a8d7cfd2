"""In what a profile deviates from the paper: its parameters and images, in words, beside the paper's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pipeline.datasets.sources.ilsvrc.reference import IMAGES
from pipeline.experiment.paper_facts import DROPS, FINETUNING_RATE, VARIANCE
from pipeline.experiment.params import Localise, Net, Params, Profile, Recipe, Score, Train
from pipeline.system.decoders import DALI, PILLOW

PAPER = "paper"  # the profile of the paper's own parameters
PRECISION = "float32"  # of the paper's framework; profile `paper` trains in another
PAPERS_DATA = {
    "images": "photographs of ILSVRC-2012",
    "number of images": f"{IMAGES['train']:,} for training, {IMAGES['val']:,} for validation",
    "classes": "1,000",
}
SCHEDULES = {
    "scratch": "training from random weights",
    "warm": "training from A's layers",
    "finetune": "training at S = 384",
    "jitter": "training at jittered S",
    "localise": "training of localisers",
}
WEIGHTS = {"normal": "normal, standard deviation {std:g}", "glorot": "Glorot's rule", "he": "He's rule"}
COLOURS = {"eigenvalues": "scaled by the eigenvalues", "roots": "scaled by the eigenvalues' roots", "none": "none"}
CHOICE = "not stated; profile paper"
FRAMEWORK = "not stated; its framework"
UNSTATED = {
    "initial weights": f"normal, variance {VARIANCE:g}; profile paper",
    "learning-rate drops": f"{DROPS}, no rule stated; profile paper",
    "colour shift": "size not stated; profile paper",
    SCHEDULES["finetune"]: f"learning rate {FINETUNING_RATE:g}, number of epochs not stated; profile paper",
    SCHEDULES["jitter"]: CHOICE,
    "remainder beyond 32-pixel cells": CHOICE,
    "mean of the score map": CHOICE,
    "resizing": CHOICE,
    "precision of training": FRAMEWORK,
    "precision of scoring": FRAMEWORK,
    "large training images": CHOICE,
    "orientation": CHOICE,
    "elongated images": CHOICE,
    "decoder": CHOICE,
}  # what the paper states where that is not the whole value, and whose value follows (docs/paper.md, open choices)
DECODERS = {DALI: "DALI", PILLOW: "simplejpeg and Pillow"}
REMAINDERS = {
    "ceil": "kept, the last pooling windows are smaller",
    "even": "cut from both sides",
    "floor": "cut at the right and bottom",
}


class Deviation(NamedTuple):
    """A parameter, or a fact about the images, with its value here and in the paper, in words.

    Where the paper does not state the value, its words say so and have the choice of profile `paper`, or of the
    paper's framework.
    """

    what: str
    ours: str
    paper: str


def deviations(profile: str, params: Params | None, facts: Mapping[str, Any] | None) -> list[Deviation]:
    """Return in what the images that `facts` describe, and the parameters of `profile`, deviate from the paper.

    Parameters are not compared if there are none, or if they lack this profile or `paper`.
    """
    found = [] if not facts or facts["comparable"] else _different(_of_images(facts), PAPERS_DATA)
    if params and {profile, PAPER} <= params.profiles.keys():
        paper = _of_profile(params.profiles[PAPER]) | _decoding(params.profiles[PAPER], DALI)
        precisions = {name: PRECISION for name in paper if name.startswith("precision")}
        decoder = facts["stored"].get("decoder", DALI) if facts else DALI
        ours = _of_profile(params.profiles[profile]) | _decoding(params.profiles[profile], decoder)
        found += _different(ours, paper | precisions)
    return found


def _different(ours: Mapping[str, str], paper: Mapping[str, str]) -> list[Deviation]:
    differing = [what for what in paper if ours.get(what, paper[what]) != paper[what]]
    return [Deviation(what, ours[what], _papers(what, paper[what])) for what in differing]


def _papers(what: str, value: str) -> str:
    """Return a value to compare with; where the paper does not state it whole, after that and the value's source."""
    return f"{UNSTATED[what]}: {value}" if what in UNSTATED else value


def _of_images(facts: Mapping[str, Any]) -> dict[str, str]:
    training = f"{facts['train']:,} for training, " if facts["train"] else ""
    return {
        "images": facts["about"],
        "number of images": f"{training}{facts['val']:,} for validation",
        "classes": f"{len(facts['classes']):,}",
    }


def _of_profile(profile: Profile) -> dict[str, str]:
    """Return every parameter that shapes results, by name, in words."""
    words = dict(_of_net(profile.net))
    if profile.train:
        words |= _of_training(profile.train)
    words["training"] = "all networks are trained" if profile.train else "none, published weights are evaluated"
    for name, recipe in profile.recipes.items():
        words[SCHEDULES[name]] = _of_recipe(recipe)
    words |= _of_scoring(profile.score)
    if profile.localise:
        words |= _of_localisation(profile.localise)
    if profile.train:
        words["precision of training"] = profile.train.precision
    return {**words, "precision of scoring": profile.score.precision, **_of_stored(profile)}


def _of_net(net: Net) -> Iterator[tuple[str, str]]:
    yield (
        "image size",
        f"crops of {net.crop} pixels" + ("" if net.size_ratio == 1 else f", all sizes times {net.size_ratio}"),
    )
    yield "width", "all channels" if net.full_size else f"{net.width_ratio} of the channels"
    yield "hidden fully connected layers", f"{net.fc:,} units"
    yield "dropout", f"{net.dropout:g}"
    last = f"; last layer normal, standard deviation {net.last_std:g}" if net.last_std else ""
    yield "initial weights", WEIGHTS[net.init].format(std=net.std) + last
    yield "input scale", "mean subtracted" + ("" if net.input_scale == 1 else f", divided by {net.input_scale:g}")


def _of_training(train: Train) -> dict[str, str]:
    plateau = f"after {_count(train.patience, 'epoch')} without a lower error"
    tail = f", the first at the latest {_count(train.tail, 'epoch')} before the end" if train.tail else ""
    return {
        "batch": _count(train.batch, "image"),
        "momentum": f"{train.momentum:g}",
        "weight decay": f"{train.weight_decay:g}",
        "learning-rate drops": f"up to {train.drops}, {plateau}{tail}",
        "colour shift": COLOURS[train.colour],
    }


def _of_recipe(recipe: Recipe) -> str:
    first = f", no drop in the first {_count(recipe.first_drop, 'epoch')}" if recipe.first_drop else ""
    return f"{_count(recipe.epochs, 'epoch')} at learning rate {recipe.learning_rate:g}{first}"


def _of_scoring(score: Score) -> dict[str, str]:
    return {
        "remainder beyond 32-pixel cells": REMAINDERS[score.remainder],
        "mean of the score map": score.mean.replace("_", " the "),
        "resizing": score.resize,
    }


def _of_localisation(localise: Localise) -> dict[str, str]:
    return {
        "boxes that a training crop shows in part": f"no weight below {localise.min_visible:g} of their area",
        "a box is right": "above an overlap of 0.5" if localise.above else "from an overlap of 0.5 on",
        "excluded validation images": localise.excluded or "none",
    }


def _of_stored(profile: Profile) -> dict[str, str]:
    prepare = profile.prepare
    reduced = f"reduced to the largest S, as JPEG of quality {prepare.quality}, {prepare.chroma}"
    return {
        "large training images": reduced if prepare.rescale == "train" else "kept as they are",
        "orientation": "rotated upright by EXIF" if prepare.upright else "as stored",
        "training images that are also in validation": "removed" if prepare.shared == "drop" else "kept",
        "elongated images": f"skipped above an aspect ratio of {prepare.max_aspect:g}",
        "colour profiles": "converted to sRGB" if profile.converts_colours else "ignored",
    }


def _decoding(profile: Profile, decoder: str) -> dict[str, str]:
    """Return what decoded the images: `decoder`, which the data name, on the device of `profile`."""
    return {"decoder": f"{DECODERS[decoder]}, on the {profile.prepare.device.upper()}"}


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
