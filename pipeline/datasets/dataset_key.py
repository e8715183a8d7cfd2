"""Which data set the parameters ask for: the name of its folder, and whether it is the one prepared last."""

from __future__ import annotations

from typing import Any

from pipeline.datasets.sources import fingerprint
from pipeline.experiment.params import Params
from pipeline.experiment.paths import DataSet
from pipeline.system.atomic_files import digest

NO_MATTER = {"device", "processes", "max_unreadable"}  # of the parameters, to what comes out


def shards_key(params: Params) -> str:
    """The name of the prepared data set's folder: a hash of all that its bytes depend on."""
    return digest([fingerprint(params.active), *_wanted(params)])[:16]


def is_asked_for(params: Params, data_set: DataSet) -> bool:
    """Whether the images that were prepared last are those that `params` ask for; nobody looks at the source."""
    record = data_set.shards_record
    return record.exists() and record.read_text().split()[1:] == [request_hash(params)]


def request_hash(params: Params) -> str:
    """A hash of all that the parameters ask for; nobody looks at the source for it."""
    return digest([params.active.data.model_dump(mode="json"), *_wanted(params)])[:16]


def _wanted(params: Params) -> list[Any]:
    """All that the stored bytes depend on besides the source."""
    net = params.active.net
    lengths = [net.pixels(params.largest_scale), net.crop]
    part = [] if len(params.active.splits) > 1 else [*params.active.splits]
    return [params.active.prepare.model_dump(exclude=NO_MATTER), lengths, params.method.prepare, *part]
