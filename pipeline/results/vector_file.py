"""Files of descriptors, one row per image: NumPy's npz, or parquet. Rows are written as they come, not kept in memory.

Equal rows give equal bytes. A file replaces nothing, and exists only once it is complete.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Failure, UsageError
from pipeline.experiment.validation import nearest
from pipeline.system.atomic_files import whole
from pipeline.system.decoders import constraints

Vectors = NDArray[np.floating]
AddRows = Callable[[Sequence[str], Vectors], None]  # appends paths and their rows to a file


def check_vector_file(file: Path) -> None:
    """Raise UsageError or Failure if `file` exists, has an unknown ending, or cannot be written there."""
    if file.suffix not in WRITERS:
        raise UsageError(f"{file}: unknown output format {file.suffix!r}. {nearest(file.suffix, list(WRITERS))}")
    if file.suffix == ".parquet" and find_spec("pyarrow") is None:
        install = f"python -m pip install --constraint {constraints()} --editable '.[parquet]'"
        raise Failure(f"{file}: parquet files are written by pyarrow, which is not installed: {install}; or use .npz")
    if os.path.lexists(file):
        raise UsageError(f"{file} exists already: delete it, or choose another name")
    if not file.parent.is_dir():
        raise Failure(f"{file} could not be written: there is no folder {file.parent}")


def vector_file(file: Path, numbers: int, dtype: str, about: Mapping[str, Any]) -> AbstractContextManager[AddRows]:
    """Return a context whose value adds rows of `numbers` numbers to a new file. Raise Failure if that fails.

    `about`, plain values, is stored in the file as JSON.
    """
    return WRITERS[file.suffix](file, numbers, dtype, json.dumps(about, sort_keys=True))


@contextmanager
def _npz(file: Path, numbers: int, dtype: str, about: str) -> Iterator[AddRows]:
    """Yield what adds rows to an npz file. An array's header has its length, so the vectors are collected first."""
    paths: list[str] = []
    with whole(file) as target, tempfile.TemporaryFile(dir=file.parent, buffering=0) as collected:

        def add(new: Sequence[str], vectors: Vectors) -> None:
            paths.extend(new)
            try:
                vectors.astype(dtype).tofile(collected)
            except OSError as error:
                raise Failure(f"{file} could not be written: {error.strerror or error}") from error

        yield add
        vectors = np.memmap(collected, dtype, "r", shape=(len(paths), numbers))
        np.savez(target, allow_pickle=False, path=np.array(paths), vector=vectors, about=np.array(about))


@contextmanager
def _parquet(file: Path, numbers: int, dtype: str, about: str) -> Iterator[AddRows]:
    """Yield what adds rows to a parquet file, as one row group per call."""
    import pyarrow as arrow
    from pyarrow.parquet import ParquetWriter

    kind = arrow.list_(arrow.from_numpy_dtype(np.dtype(dtype)), numbers)
    schema = arrow.schema([("path", arrow.string()), ("vector", kind)], metadata={"about": about})
    with whole(file) as target, ParquetWriter(target, schema, use_dictionary=False) as writer:

        def add(new: Sequence[str], vectors: Vectors) -> None:
            flat = arrow.array(np.ascontiguousarray(vectors, dtype).reshape(-1))
            rows = arrow.FixedSizeListArray.from_arrays(flat, numbers)
            writer.write_table(arrow.table([arrow.array(new, arrow.string()), rows], schema=schema))

        yield add


WRITERS: dict[str, Callable[[Path, int, str, str], AbstractContextManager[AddRows]]] = {
    ".npz": _npz, ".parquet": _parquet
}  # fmt: skip
