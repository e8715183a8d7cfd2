"""The state dict in a checkpoint, whatever else the checkpoint holds, with its names without prefixes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import Failure

PARTS = (".weight", ".bias")
AVERAGE = re.compile(
    r"(^|[_.])(ema|swa|avg|average|averaged|shadow)([_.]|$)", re.IGNORECASE
)  # keys of averaged weights
# what DataParallel, torch.compile, FSDP and activation checkpointing add to names, also within them
WRAPPERS = re.compile(r"(^|\.)(?:(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+")
STARTS = ("conv1_1.", "features.", "classifier.", "pre_logits.", "head.fc.")  # of a net's names without a prefix


class StateDict(NamedTuple):
    """A net's tensors in a checkpoint."""

    key: str  # where it is in the checkpoint, such as "state_dict"; empty for the checkpoint itself
    tensors: Mapping[str, Any]
    others: tuple[str, ...] = ()  # the keys of averages of the same weights, which are not used


def state_dict(file: Path, values: Any) -> StateDict:
    """Return the state dict in a checkpoint, not the averages of its weights. Raise Failure if there is not one."""
    every = [*_state_dicts(values)]
    plain = [one for one in every if not AVERAGE.search(one.key)] or every
    if not plain:
        raise Failure(f"{file} contains no state dict, but {type(values).__name__}{_keys(values)}")
    if len(plain) > 1:
        names = " and ".join(one.key for one in plain)
        raise Failure(f"{file} contains several state dicts, {names}: save only the one to import")
    others = tuple(one.key for one in every if one is not plain[0])
    return plain[0]._replace(others=others)


def _state_dicts(values: Any, key: str = "") -> Iterator[StateDict]:
    """Yield the mappings in `values` that have tensors by the names of layers."""
    if not isinstance(values, Mapping):
        return
    tensors = {name: value for name, value in values.items() if _is_tensor(name, value)}
    if any(name.endswith(PARTS) for name in tensors):
        yield StateDict(key, tensors)
        return
    for name, value in values.items():
        yield from _state_dicts(value, f"{key}.{name}" if key else str(name))


def _is_tensor(name: object, value: Any) -> bool:
    """Return True for a layer's tensor. Counters have no dimension; what is kept beside a net has no layer's name."""
    import torch

    return isinstance(name, str) and "." in name and isinstance(value, torch.Tensor) and value.dim() > 0


def _keys(values: Any) -> str:
    """Return the first keys of a mapping, for a message."""
    keys = [str(key) for key in values] if isinstance(values, Mapping) else []
    return f" with {', '.join(keys[:5])}"[:200] if keys else ""


def without_prefixes(file: Path, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors without wrappers' prefixes and without a prefix that all names share.

    Raise Failure if a name occurs twice.
    """
    plain: dict[str, Any] = {}
    for name, value in tensors.items():
        short = WRAPPERS.sub(r"\1", name)
        if short in plain:
            raise Failure(f"{file} has two tensors named {short}")
        plain[short] = value
    length = _prefix([*plain]) if plain else 0
    return {name[length:]: value for name, value in plain.items()}


def _prefix(names: list[str]) -> int:
    """Return the length of the longest shared prefix, of whole words, behind which a net's names begin; else 0."""
    first = names[0]
    ends = [place + 1 for place, letter in enumerate(first) if letter == "."]
    shared = [end for end in ends if all(name.startswith(first[:end]) for name in names)]
    return max((end for end in shared if any(name[end:].startswith(STARTS) for name in names)), default=0)
