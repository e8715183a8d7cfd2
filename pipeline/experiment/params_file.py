"""Single values of params.yaml, set from the command line: ruamel.yaml keeps its comments and layout."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import reduce
from io import StringIO
from operator import getitem
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.tokens import CommentToken

from pipeline.errors import UsageError
from pipeline.experiment.paths import PARAMS
from pipeline.experiment.validation import parse
from pipeline.system.atomic_files import whole

WIDTH = 10**6  # characters: nothing is wrapped


class _Representer(RoundTripRepresenter):
    """Writes null as a word, where ruamel.yaml leaves its place empty."""


_Representer.add_representer(type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null"))


def set_values(values: Mapping[str, str | None], place: tuple[str, ...], path: Path = PARAMS) -> bool:
    """Set `values` in the block at `place` and return whether that changed anything.

    UsageError, and nothing is written, if the file is not right or would not be right afterwards.
    """
    text = _edited(values, place, path)
    if parse(text.encode(), path) == parse(path.read_bytes(), path):
        return False
    write(text, path)
    return True


def with_row(block: str, name: str, values: Mapping[str, Any], path: Path = PARAMS) -> str:
    """Return the text of params.yaml with the row `name` of a top-level block set to `values`, on one line.

    UsageError if the file is not right or would not be right afterwards.
    """
    text = _edited({name: dict(values)}, (block,), path)
    parse(text.encode(), path)
    return text


def write(text: str, path: Path = PARAMS) -> None:
    """Write params.yaml; UsageError, and nothing is written, if the text is not right."""
    path = path.resolve()  # what a link leads to
    parse(text.encode(), path)
    mode = path.stat().st_mode
    with whole(path) as file:
        file.write(text.encode())
        os.fchmod(file.fileno(), mode)


def _edited(values: Mapping[str, Any], place: tuple[str, ...], path: Path) -> str:
    """Return the text of `path` with `values` set in the block at `place`. UsageError if the file is not right."""
    parse(path.read_bytes(), path)  # so the block is there
    before, after, editor = path.read_bytes().decode(), StringIO(), _editor()
    try:
        document = editor.load(before.replace("\r\n", "\n"))
    except YAMLError as error:  # ruamel.yaml refuses a key that comes twice, for one
        raise UsageError(f"{path} is not YAML: {error}") from None
    _update(reduce(getitem, place, document), _quoted(dict(values)))
    editor.dump(document, after)
    return after.getvalue().replace("\n", "\r\n" if "\r\n" in before else "\n")


def _update(block: Any, values: Mapping[str, Any]) -> None:
    if not block:
        block.fa.set_block_style()  # it was {}
    last = block.ca.items.get(next(reversed(block), None))
    below = _cut(last[2]) if last and last[2] and not values.keys() <= block.keys() else None
    block.update(values)
    if below:
        block.ca.items[next(reversed(block))] = [None, None, below, None]
    for key in values.keys() & block.ca.items.keys():
        if comment := block.ca.items[key][2]:
            comment.column = 0  # a space behind the value, however long that is now


def _cut(comment: CommentToken) -> CommentToken:
    """Cut from the last row's comment the lines below it, which a new row comes before, and return them."""
    own, _, below = comment.value.partition("\n")
    comment.value = own + "\n"
    return CommentToken("\n" + below, comment.start_mark)


def _quoted(values: dict[str, Any]) -> Any:
    """Return `values` with the quotes that PyYAML, which reads params.yaml, needs; UsageError for what is no UTF-8."""
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{error.object!r} is no UTF-8, which params.yaml is") from None
    line = yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=WIDTH, allow_unicode=True)
    return _editor().load(line)


def _editor() -> YAML:
    """Return a reader and writer in params.yaml's layout."""
    editor = YAML()
    editor.Representer = _Representer
    editor.preserve_quotes = True
    editor.width = WIDTH
    editor.indent(mapping=2, sequence=4, offset=2)
    return editor
