"""YAML by the rules by which DVC reads and writes params.yaml (1.2): 4:4:4 is a text without quotes, 5e-3 a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

WIDTH = 10**6  # characters, so that no line is wrapped


def parse_yaml(text: str) -> Any:
    """Return the plain values of a document. Raise ValueError, which says where, if it is not YAML."""
    try:
        return YAML(typ="safe").load(text)
    except (YAMLError, ValueError, RecursionError, AttributeError, TypeError) as error:
        raise ValueError(str(error).replace('in "<unicode string>", ', "in ")) from None


def one_line(values: dict[str, Any]) -> str:
    """Return plain values as one line of YAML, quoted where `parse_yaml` needs it."""
    writer, text = YAML(typ="safe"), StringIO()
    writer.default_flow_style, writer.width = True, WIDTH
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.dump(values, text)
    return text.getvalue()


def flattened(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings by their keys, joined by dots; an empty mapping is a value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
