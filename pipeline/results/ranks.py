"""The rank of each image's class in each row of a table: what paired tests need, small enough for git."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Failure
from pipeline.system.atomic_files import whole

Ints = NDArray[np.integer]


@dataclass(frozen=True)
class TableRanks:
    """The ranks of a table's rows on the same images. Rank 0: the image's class is the first guess."""

    rows: Mapping[str, Ints]  # by the row's key, (images,) each; rows that are not run are not there
    groups: Ints  # (images,) images with the same number are not independent; (0,) if all are
    manifest: str  # the identity of the images

    def write(self, path: Path) -> None:
        """Write the ranks; equal ranks give equal bytes."""
        names = sorted(self.rows)
        stacked = [self.rows[name] for name in names]
        largest = max((int(values.max()) for values in stacked), default=0)
        kind = np.min_scalar_type(largest)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as file:
            np.savez(
                file,
                allow_pickle=False,
                rows=np.array(names, np.str_),
                ranks=np.array(stacked, kind) if stacked else np.zeros((0, 0), kind),
                groups=self.groups.astype(np.min_scalar_type(int(self.groups.max(initial=0)))),
                manifest=np.array(self.manifest),
            )


def read_ranks(path: Path, make: str) -> TableRanks | None:
    """Return the ranks at `path`; None if there are none. Raise Failure, with the command `make`, if broken."""
    if not path.exists():
        return None
    try:
        with np.load(path) as arrays:
            rows = dict(zip(arrays["rows"].tolist(), arrays["ranks"], strict=True))
            return TableRanks(rows, arrays["groups"], str(arrays["manifest"]))
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as reason:
        raise Failure(f"{path} cannot be read ({reason}); make it again with: {make}") from None


def seed_row(seed: int, table: str, row: str) -> str:
    """Return the name of a table's row in the ranks of further seeds."""
    return f"{seed}/{table}/{row}"
