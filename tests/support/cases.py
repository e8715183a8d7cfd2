"""Several cases in one test: a failure names its case."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def case(what: object) -> Iterator[None]:
    """Put the case into the message of whatever fails."""
    try:
        yield
    except BaseException as failure:  # pytest's own too
        failure.add_note(f"in the case: {what}")
        raise
