"""Stage sets: the folders of the scores of Tables 11 and 12, and no scores of sets in them that params.yaml lacks.

The tables and the stage `resampled` depend on these folders as a whole. So the folders exist also if there are no such
data sets.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.experiment.other_sets import NETS_OF, sets_of
from pipeline.experiment.paper_tables import OTHER_SETS
from pipeline.experiment.params import Params
from pipeline.experiment.paths import AGGREGATION, classified, listed_sets
from pipeline.system.atomic_files import write_text


def main(params: Params) -> None:
    """List the data sets of each table in its folder and those of `aggregation`, and remove the scores of others."""
    for table in OTHER_SETS:
        names = sets_of(params, table)
        _list(listed_sets(table), table, names)
        wanted = {classified(table, name, system).stem for name in names for system in NETS_OF}
        for path in listed_sets(table).parent.iterdir():
            if path.suffix in (".npz", ".json") and path.stem not in wanted:
                path.unlink()
    listed = listed_sets(AGGREGATION)
    _list(listed, AGGREGATION, list(params.datasets))
    for path in listed.parent.iterdir():
        if path.is_dir() and path.name not in params.datasets:
            shutil.rmtree(path)


def _list(listed: Path, of: str, names: list[str]) -> None:
    write_text(listed, "\n".join([f"Data sets of {of}:", *names, ""]))  # DVC warns of empty files
