"""Single values of params.yaml set from the command line; every other character of it stays as it is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import yaml
from yaml.constructor import SafeConstructor

from pipeline.errors import UsageError
from pipeline.files import whole
from pipeline.params import load, parse
from pipeline.paths import PARAMS


def set_values(values: Mapping[str, str | None], place: tuple[str, ...], path: Path = PARAMS) -> bool:
    """Set `values` in the block at `place`; whether that changed anything.

    UsageError, and nothing is written, if there is no such block, or if what comes out is not right.
    """
    for value in values.values():
        if value is not None and not _is_utf8(value):
            raise UsageError(f"{value!r} is no UTF-8, which {path} is")
    path = path.resolve()  # what a link leads to
    text = before = path.read_bytes().decode()
    for key, value in values.items():
        text = _with_value(text, place, key, value, path)
    if text == before:
        return False
    parse(text.encode(), path)
    mode = path.stat().st_mode
    with whole(path) as file:
        file.write(text.encode())
        os.fchmod(file.fileno(), mode)
    load.cache_clear()
    return True


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
