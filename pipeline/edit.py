"""Single values of params.yaml set from the command line; every other character of it stays as it is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from pipeline.errors import UsageError
from pipeline.files import whole
from pipeline.params import parse
from pipeline.paths import PARAMS


def set_values(values: Mapping[str, str | None], place: tuple[str, ...], path: Path = PARAMS) -> bool:
    """Set `values` in the block at `place`; whether that changed anything.

    UsageError, and nothing is written, if there is no such block, or if what comes out is not right.
    """
    for value in values.values():
        if value is not None and not _is_utf8(value):
            raise UsageError(f"{value!r} is no UTF-8, which {path} is")
    text = before = path.read_bytes().decode()
    for key, value in values.items():
        text = _with_value(text, place, key, value, path)
    if text == before:
        return False
    write(text, path)
    return True


def write(text: str, path: Path = PARAMS) -> None:
    """Write params.yaml; UsageError, and nothing is written, if the text is not right."""
    path = path.resolve()  # what a link leads to
    parse(text.encode(), path)
    mode = path.stat().st_mode
    with whole(path) as file:
        file.write(text.encode())
        os.fchmod(file.fileno(), mode)


def with_row(block: str, name: str, values: Mapping[str, Any], path: Path = PARAMS) -> str:
    """The text of params.yaml with the row `name` of a top-level block set to `values`, on one line.

    UsageError if there is no such block, or if the text would not be right.
    """
    text = path.read_bytes().decode()
    line = "\r\n" if "\r\n" in text else "\n"
    rows = _child(yaml.compose(text, yaml.SafeLoader), block)
    if not isinstance(rows, yaml.MappingNode):
        raise UsageError(f"{path} has no {block}; write `{block}: {{}}` there by hand")
    row = yaml.safe_dump(
        dict(values), default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True
    ).strip()
    old = _child(rows, name)
    if old is not None:
        text = text[: old.start_mark.index] + row + text[_end(old) :]
    elif rows.value and not rows.flow_style:
        text = f"{text[: _end(rows)]}{line}{' ' * rows.value[0][0].start_mark.column}{name}: {row}{text[_end(rows) :]}"
    elif rows.value:
        last = _end(rows.value[-1][1])  # a comma may stand behind it already
        text = f"{text[:last]}, {name}: {row}{text[last:]}"
    else:
        text = f"{text[: rows.start_mark.index].rstrip(' ')}{line}  {name}: {row}{text[_end(rows) :]}"
    parse(text.encode(), path)
    return text


def _end(node: yaml.Node) -> int:
    """Where a node's text ends: a block's end mark stands behind the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
    return int(node.end_mark.index)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _with_value(text: str, place: tuple[str, ...], key: str, value: str | None, path: Path) -> str:
    """The text with the value of one key exchanged."""
    node: yaml.Node | None = yaml.compose(text, yaml.SafeLoader)
    for name in (*place, key):
        node = _child(node, name)
    if node is None:
        raise UsageError(f"{path} has no {'.'.join((*place, key))}; write it there by hand")
    if isinstance(node, yaml.ScalarNode) and SafeConstructor().construct_object(node) == value:
        return text
    return text[: node.start_mark.index] + _scalar(value) + text[node.end_mark.index :]


def _child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name:
                found: yaml.Node = value
                return found
    return None


def _scalar(value: str | None) -> str:
    """The value as YAML on one line: bare if that is read back as the same text, quoted if not."""
    if value is None:
        return "null"
    try:
        plain = yaml.safe_load(f"a: {value} # b") == {"a": value} and value.isascii() and "#" not in value
    except yaml.YAMLError:
        plain = False
    return value if plain else json.dumps(value, ensure_ascii=False)
