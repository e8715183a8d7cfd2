"""Stage sets: the folders of the scores of Tables 11 and 12, and no scores of sets in them that params.yaml lacks.

The tables and the stage `resampled` depend on these folders as a whole. So the folders exist also if there are no such
data sets.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.experiment.other_sets import NETS_OF, sets_of
from pipeline.experiment.paper_tables import OTHER_SETS
from pipeline.experiment.params import Params
from pipeline.experiment.paths import AGGREGATION, classified, listed_sets
from pipeline.system.atomic_files import write_text


def main(params: Params) -> None:
    """List the data sets of each table in its folders, and remove the scores of others."""
    for table in OTHER_SETS:
        names = sets_of(params, table)
        _list(listed_sets(table), table, names)
        _list(listed_sets(f"{AGGREGATION}/{table}"), table, names)


def _list(listed: Path, table: str, names: list[str]) -> None:
    """List the data sets of a folder of a table's scores, and remove the scores of others."""
    write_text(listed, "\n".join([f"Data sets of {table}:", *names, ""]))  # DVC warns of empty files
    wanted = {classified(table, name, system).stem for name in names for system in NETS_OF}
    for path in listed.parent.iterdir():
        if path.suffix in (".npz", ".json") and path.stem not in wanted:
            path.unlink()
