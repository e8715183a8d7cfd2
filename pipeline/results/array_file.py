"""Reading files of NumPy's arrays, which may be broken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.shards import BROKEN
from pipeline.errors import Failure


@contextmanager
def arrays_in(path: Path, fix: str) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Yield the arrays in a file, of which only those that are accessed are read.

    Raise Failure, which ends with `fix`, if the file is broken or lacks an array.
    """
    try:
        with np.load(path) as arrays:
            yield arrays
    except BROKEN as reason:
        raise Failure(f"{path} cannot be read ({reason}); {fix}") from None
