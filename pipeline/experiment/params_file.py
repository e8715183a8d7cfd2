"""Edits of single values in params.yaml from the command line. ruamel.yaml preserves its comments and layout."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import reduce
from io import StringIO
from operator import getitem
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.tokens import CommentToken

from pipeline.errors import UsageError
from pipeline.experiment.extra_runs import as_values, extra_rows
from pipeline.experiment.other_sets import set_rows
from pipeline.experiment.params import Extra
from pipeline.experiment.paths import PARAMS
from pipeline.experiment.server_sets import misfits
from pipeline.experiment.validation import parse
from pipeline.system.atomic_files import whole
from pipeline.system.yaml_text import WIDTH, one_line


class _Representer(RoundTripRepresenter):
    """A representer that writes the word null, where ruamel.yaml writes nothing."""


_Representer.add_representer(type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null"))


def set_values(values: Mapping[str, str | bool | None], place: tuple[str, ...], path: Path = PARAMS) -> bool:
    """Set `values` in the block at `place`. Return True if that changed anything.

    Raise UsageError and write nothing if the file is invalid or would be invalid afterwards.
    """
    text = _edited(values, place, path)
    if parse(text.encode(), path) == parse(path.read_bytes(), path):
        return False
    write(text, path)
    return True


def locate(path: Path = PARAMS) -> str:
    """Set `located` to what the active profile needs. Return that if it changed, else an empty string.

    Raise UsageError and write nothing as `set_values` does.
    """
    needed = parse(path.read_bytes(), path).needed_by_claims
    return needed if set_values({"located": needed}, (), path) else ""


def fit_test_sets(path: Path = PARAMS) -> list[str]:
    """Remove the rows of `test_sets` that the active profile cannot have. Return their names.

    Raise UsageError and write nothing as `set_values` does.
    """
    before = path.read_bytes()
    removed = misfits(parse(before, path))
    if removed:
        write(_with_values(before.decode(), {"test_sets": {}}, (), path), path)
    return removed


def activate(profile: str, weights: str, path: Path = PARAMS) -> Extra:
    """Set the active profile, the scored weights, `located`, and the rows of `extra` and `datasets` that it needs.

    Return the rows of `extra`.

    Raise UsageError and write nothing as `set_values` does.
    """
    before = path.read_bytes().decode()
    text = _with_values(before, {"profile": profile, "weights": weights}, (), path)
    params = parse(text.encode(), path)
    rows = extra_rows(params)
    if params.extra != rows:
        text = _with_values(text, {"extra": as_values(rows)}, (), path)
    if params.datasets != (sets := set_rows(params)):
        text = _with_values(
            text, {"datasets": {name: row.model_dump(mode="json") for name, row in sets.items()}}, (), path
        )
    if params.located != params.needed_by_claims:
        text = _with_values(text, {"located": params.needed_by_claims}, (), path)
    if text != before:
        write(text, path)
    return rows


def with_row(block: str, name: str, values: Mapping[str, Any], path: Path = PARAMS) -> str:
    """Return the text of params.yaml with the row `name` of a top-level block set to `values`, on one line.

    Raise UsageError if the file is invalid or would be invalid afterwards.
    """
    text = _edited({name: dict(values)}, (block,), path)
    parse(text.encode(), path)
    return text


def write(text: str, path: Path = PARAMS) -> None:
    """Write params.yaml. Raise UsageError and write nothing if the text is invalid."""
    path = path.resolve()  # so that a link is kept and its target is replaced
    parse(text.encode(), path)
    mode = path.stat().st_mode
    with whole(path) as file:
        file.write(text.encode())
        os.fchmod(file.fileno(), mode)


def _edited(values: Mapping[str, Any], place: tuple[str, ...], path: Path) -> str:
    """Return the text of `path` with `values` set in the block at `place`. Raise UsageError if the file is invalid."""
    parse(path.read_bytes(), path)  # this ensures that the block exists
    return _with_values(path.read_bytes().decode(), values, place, path)


def _with_values(before: str, values: Mapping[str, Any], place: tuple[str, ...], path: Path) -> str:
    """Return a text of params.yaml with `values` set in the block at `place`."""
    after, editor = StringIO(), _editor()
    try:
        document = editor.load(before.replace("\r\n", "\n"))
    except YAMLError as error:  # ruamel.yaml is stricter: for example, it refuses duplicate keys
        raise UsageError(f"{path} is not YAML: {error}") from None
    quoted = _quoted(dict(values))
    if not place:
        _spread(quoted)
    _update(reduce(getitem, place, document), quoted)
    editor.dump(document, after)
    return after.getvalue().replace("\n", "\r\n" if "\r\n" in before else "\n")


def _spread(values: Any) -> None:
    """Give each row of a block of the file's top level a line of its own; `extra` has blocks of rows."""
    for name, block in values.items():
        for rows in (block, *(block.values() if name == "extra" else ())) if isinstance(block, Mapping) else ():
            if rows and isinstance(rows, Mapping):
                rows.fa.set_block_style()  # type: ignore[attr-defined]


def _update(block: Any, values: Mapping[str, Any]) -> None:
    if not block:
        block.fa.set_block_style()  # an empty block is written as {}
    last = block.ca.items.get(next(reversed(block), None))
    below = _cut(last[2]) if last and last[2] and not values.keys() <= block.keys() else None
    block.update(values)
    if below:
        block.ca.items[next(reversed(block))] = [None, None, below, None]
    for key in values.keys() & block.ca.items.keys():
        if comment := block.ca.items[key][2]:
            comment.column = 0  # one space after the value, whatever its new length


def _cut(comment: CommentToken) -> CommentToken:
    """Remove the lines below the last row from its comment and return them. A new row goes before them."""
    own, _, below = comment.value.partition("\n")
    comment.value = own + "\n"
    return CommentToken("\n" + below, comment.start_mark)


def _quoted(values: dict[str, Any]) -> Any:
    """Return `values` with the quotes that they need in YAML. Raise UsageError for text that is not UTF-8."""
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{error.object!r} is not valid UTF-8, the encoding of params.yaml") from None
    return _editor().load(one_line(values))


def _editor() -> YAML:
    """Return a reader and writer with the layout of params.yaml."""
    editor = YAML()
    editor.Representer = _Representer
    editor.preserve_quotes = True
    editor.width = WIDTH
    editor.indent(mapping=2, sequence=4, offset=2)
    return editor
