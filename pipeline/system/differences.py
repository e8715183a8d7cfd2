"""Where two nested values differ, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def differences(old: Any, now: Any) -> Iterator[str]:
    """Yield where two nested values differ, as .key: old, now new. A whole block is not written out."""
    if isinstance(old, Mapping) and isinstance(now, Mapping):
        for key in sorted({*old, *now}):
            yield from (f".{key}{text}" for text in differences(old.get(key), now.get(key)))
    elif old is None and isinstance(now, Mapping):
        yield " is new"
    elif now is None and isinstance(old, Mapping):
        yield " was removed"
    elif old != now:
        yield f": {_value_text(old)}, now {_value_text(now)}"


def _value_text(value: Any) -> str:
    return "nothing" if value is None else f"{value!s:.40}"
