"""The rank of each image's class in each row of a table: what paired tests need, small enough for git.

Of one row also the likeliest classes of each image: what a confusion matrix needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.experiment.claims import CLAIMS
from pipeline.experiment.other_sets import RESAMPLED
from pipeline.experiment.paper_tables import OTHER_SETS
from pipeline.experiment.paths import ranks, resampled
from pipeline.results.array_file import arrays_in
from pipeline.system.atomic_files import sha256, whole
from vgg.errors import likeliest

Ints = NDArray[np.integer]
GUESSED = ("table3", "table4", "table5")  # tables of single nets; they have the guesses of their best row
GUESSES = 5  # classes kept of each image
SHOWN = 24  # images with their ids: the most confidently wrong
SEEDS = "seeds"  # the name of the ranks of further seeds


@dataclass(frozen=True)
class Guesses:
    """The likeliest classes of each image in one row of a table."""

    row: str  # the row's key
    labels: Ints  # (images,) true classes
    classes: Ints  # (images, k) the likeliest first; of equally likely ones the lower number
    probabilities: NDArray[np.float16]  # (images, k)
    wrong: Ints  # (w,) the images that are most confidently wrong, the most confident first
    ids: tuple[str, ...]  # (w,) their ids; empty if they are unknown

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the fields as arrays of the smallest types; equal guesses give equal ones."""
        kinds = {name: np.min_scalar_type(int(getattr(self, name).max(initial=0))) for name in NUMBERS}
        return {
            "guessed_row": np.array(self.row),
            **{f"guessed_{name}": getattr(self, name).astype(kind) for name, kind in kinds.items()},
            "guessed_probabilities": self.probabilities.astype(np.float16),
            "guessed_ids": np.array(self.ids, np.str_),
        }


NUMBERS = ("labels", "classes", "wrong")


def guesses_of(row: str, posteriors: NDArray[np.floating], labels: Ints, ids: Sequence[str] = ()) -> Guesses:
    """Return the guesses of posteriors (N, K) for images of the classes `labels` (N,), whose ids are `ids`."""
    k = min(GUESSES, posteriors.shape[1])
    classes = likeliest(posteriors, k)
    probabilities = np.take_along_axis(posteriors, classes, 1)
    (wrong,) = np.nonzero(classes[:, 0] != labels)
    shown = wrong[np.argsort(-probabilities[wrong, 0], kind="stable")][:SHOWN]
    names = tuple(ids[image] for image in shown) if ids else ()
    return Guesses(row, labels, classes, probabilities.astype(np.float16), shown, names)


@dataclass(frozen=True)
class TableRanks:
    """The ranks of a table's rows on the same images. Rank 0: the image's class is the first guess."""

    rows: Mapping[str, Ints]  # by the row's key, (images,) each; rows that are not run are not there
    groups: Ints  # (images,) images with the same number are not independent; (0,) if all are
    manifest: str  # the identity of the images
    guesses: Guesses | None = None  # of one of the rows

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
                **(self.guesses.arrays() if self.guesses else {}),
            )


def read_ranks(path: Path, make: str) -> TableRanks | None:
    """Return the ranks at `path`; None if there are none. Raise Failure, with the command `make`, if broken."""
    if not path.exists():
        return None
    with arrays_in(path, f"make it again with: {make}") as arrays:
        rows = dict(zip(arrays["rows"].tolist(), arrays["ranks"], strict=True))
        guesses = _guesses(arrays) if "guessed_row" in arrays else None
        return TableRanks(rows, arrays["groups"], str(arrays["manifest"]), guesses)


def _guesses(arrays: Mapping[str, NDArray[Any]]) -> Guesses:
    numbers = {name: arrays[f"guessed_{name}"] for name in (*NUMBERS, "probabilities")}
    return Guesses(str(arrays["guessed_row"]), **numbers, ids=tuple(arrays["guessed_ids"].tolist()))


def seed_row(seed: int, table: str, row: str) -> str:
    """Return the name of a table's row in the ranks of further seeds."""
    return f"{seed}/{table}/{row}"


def ranks_files(profile: str) -> dict[str, Path]:
    """Return the files of ranks that the claims are tested on, by table."""
    names = dict.fromkeys(cell.table for claim in CLAIMS for pair in claim.pairs for cell in pair)
    return {name: ranks(profile, name) for name in (*names, SEEDS) if name not in OTHER_SETS}


def tested_hashes(profile: str) -> dict[str, str]:
    """Return the hashes of the files that the claims are tested on, as far as they exist, by table or stage."""
    files = {**ranks_files(profile), RESAMPLED: resampled(profile)}
    return {name: sha256(path) for name, path in files.items() if path.exists()}
