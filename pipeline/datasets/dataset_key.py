"""The identity of a data set: its folder's name, and a check that it is the data set prepared last."""

from __future__ import annotations

from typing import Any

from pipeline.datasets.sources import fingerprint
from pipeline.experiment.other_sets import PROTOCOLS
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet
from pipeline.system.atomic_files import digest
from pipeline.system.decoders import differing

NO_MATTER = {"processes", "max_unreadable"}  # parameters that do not change the prepared data


def shards_key(params: Params) -> str:
    """Return the name of the prepared data set's folder: a hash of everything its bytes depend on."""
    return digest([fingerprint(params.active), *_wanted(params)])[:16]


def is_asked_for(params: Params, data_set: DataSet) -> bool:
    """Return whether the images prepared last match `params`. The source is not examined."""
    record = data_set.shards_record
    return record.exists() and record.read_text().split()[1:] == [request_hash(params)]


def request_hash(params: Params) -> str:
    """Return a hash of everything that the parameters request. The source is not examined."""
    data = params.active.data
    no_matter = set() if data.follow_links else {"follow_links"}  # false is as if it were not there
    return digest([data.model_dump(mode="json", exclude=no_matter), *_drawn(params), *_wanted(params)])[:16]


def _drawn(params: Params) -> list[Any]:
    """Return the parameters by which an embedded data set of appendix B is drawn; nothing for other images."""
    protocol, drawn = PROTOCOLS.get(params.active.data.source), params.active.drawn
    return [drawn.model_dump(mode="json")] if protocol and protocol.drawn and drawn else []


def _wanted(params: Params) -> list[Any]:
    """Return everything that the stored bytes depend on besides the source."""
    net, prepare = params.active.net, params.active.prepare
    ignored = NO_MATTER | {"device"} if prepare.device == "cpu" else NO_MATTER  # a GPU decodes to other pixels
    lengths = [net.pixels(params.largest_scale), net.crop]
    only_split = [] if len(params.active.splits) > 1 else [*params.active.splits]
    colours = {"colour_profiles": "convert"} if params.active.converts_colours else {}  # as before it was a parameter
    stored = prepare.model_dump(exclude={*ignored, "colour_profiles"}) | colours
    decoder = differing(params.decoder).values()
    return [stored, lengths, params.method.prepare, *only_split, *decoder]
