"""The parameters and files that dvc.yaml lists for a stage, as they are now, and what has changed in them since.

DVC reads them when the stage's command has ended: it would record the result as made from what has changed meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any

from pipeline.errors import Failure
from pipeline.experiment.paths import PARAMS
from pipeline.system.atomic_files import sha256
from pipeline.system.differences import differences
from pipeline.system.yaml_text import parse_yaml

GRAPH = Path("dvc.yaml")
SUBSTITUTION = re.compile(r"\$\{([^}]+)\}")
SMALL = 1 << 22  # bytes; of larger files, the content is not compared
Stamps = Mapping[str, tuple[object, ...]]  # by path


class UnrecordedResult(Failure):
    """A result that DVC must not record, because its parameters or inputs have changed while it was made."""


@dataclass(frozen=True)
class StageInputs:
    """The parameters of a stage, by their keys in params.yaml, and what its files look like."""

    stage: str
    parameters: Mapping[str, Any]
    files: Stamps

    def only_parameters_have_changed(self) -> bool:
        """Return True if parameters are now others, and files are not."""
        return bool(parameter_changes(self.parameters)) and not file_changes(self.files)

    def check(self, kept: bool = False) -> None:
        """Raise UnrecordedResult with all changes since, if there are any; `kept` says that the result is not lost."""
        changes = [*parameter_changes(self.parameters), *file_changes(self.files)]
        if changes:
            again = "the finished result is taken over" if kept else "the stage runs again with the old one"
            raise UnrecordedResult(
                f"changed while this stage ran: {'; '.join(changes)}. DVC would record the result as made from the new "
                f"state, so it is not recorded. Set it back and type the command again: {again}. Or keep the change "
                "and type the command again: the stage runs with it"
            )


def inputs_now(stage: str) -> StageInputs:
    """Return the inputs of a stage of dvc.yaml. Raise Failure if they cannot be read."""
    try:
        values = parse_yaml(PARAMS.read_text())
        listed = definition(stage, parse_yaml(GRAPH.read_text())["stages"], values)
    except (OSError, ValueError, KeyError) as error:
        raise Failure(f"the inputs of {stage} cannot be read from {GRAPH} and {PARAMS}: {error}") from None
    parameters = {key: _value(values, key) for key in listed["params"]}
    return StageInputs(stage, parameters, {path: _stamp(Path(path)) for path in listed["deps"]})


def parameter_changes(parameters: Mapping[str, Any]) -> list[str]:
    """Return which of these parameters are now others, each as key: old, now new."""
    try:
        values = parse_yaml(PARAMS.read_text())
    except (OSError, ValueError) as error:
        return [f"{PARAMS} cannot be read now: {error}"]
    return [f"{key}{text}" for key, old in parameters.items() for text in differences(old, _value(values, key))]


def file_changes(files: Stamps) -> list[str]:
    """Return which of these files have been written since."""
    return [f"{path} has been written" for path, stamp in files.items() if _stamp(Path(path)) != stamp]


def definition(stage: str, graph: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the `deps` and the `params` of a stage with DVC's substitutions. Raise KeyError if it is not there."""
    name, _, instance = stage.partition("@")
    entry = graph[name]
    context = {**values, **_own(instance, entry, values)}
    body = entry.get("do", entry)
    return {part: [_filled(text, context) for text in body.get(part, ())] for part in ("deps", "params")}


def _own(instance: str, entry: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what `key` and `item` stand for in one stage of a group."""
    if "foreach" in entry:
        group = _group(entry["foreach"], values)
        return {"key": instance, "item": group[instance] if isinstance(group, Mapping) else instance}
    axes = {axis: _group(group, values) for axis, group in entry.get("matrix", {}).items()}
    for combination in product(*axes.values()) if axes else ():
        if "-".join(combination) == instance:
            return {"item": dict(zip(axes, combination, strict=True))}
    return {}


def _group(group: Any, values: Mapping[str, Any]) -> Any:
    match = SUBSTITUTION.fullmatch(group) if isinstance(group, str) else None
    return _value(values, match[1]) if match else group


def _filled(text: str, context: Mapping[str, Any]) -> str:
    return SUBSTITUTION.sub(lambda match: str(_value(context, match[1])), text)


def _value(values: Any, key: str) -> Any:
    """Return the value at a key with dots, None if there is none."""
    return reduce(lambda block, part: block.get(part) if isinstance(block, Mapping) else None, key.split("."), values)


def _stamp(path: Path) -> tuple[object, ...]:
    """Return what tells a file, or the files in a folder, from those of another moment; () if there is none."""
    if path.is_dir():
        return tuple((str(inside), _stamp(inside)) for inside in sorted(path.rglob("*")) if inside.is_file())
    return tuple(_looks(path))


def _looks(path: Path) -> Iterator[object]:
    """Yield a file's hash if it is small, otherwise when it was written and its size."""
    try:
        stat = path.stat()
        yield stat.st_size
        yield sha256(path) if stat.st_size <= SMALL else stat.st_mtime_ns
    except FileNotFoundError:
        return
