"""Stage extra: the folders of the scores of the runs that the active profile adds, and no other scores in them.

The stages `seeds` and `initialisation` depend on these folders as a whole. So the folders exist also if the profile
adds no runs, and hold no scores of another profile's runs, which are in DVC's cache.
"""

from __future__ import annotations

from pipeline.experiment.modes import MODES
from pipeline.experiment.params import Params
from pipeline.experiment.paths import asked_scores, errors, posteriors
from pipeline.experiment.run_names import KINDS
from pipeline.experiment.targets import added_to
from pipeline.system.atomic_files import write_text


def main(params: Params) -> None:
    """List the scores of the added runs in their folders, and remove those of other runs."""
    scores = [posteriors(run, mode) for mode in MODES for run in added_to(params, mode)]
    wanted = {*scores, *(errors(run, mode) for mode in MODES for run in added_to(params, mode))}
    for kind in KINDS:
        listed = asked_scores(kind)
        names = [path.name for path in scores if path.parent == listed.parent]
        write_text(listed, "\n".join([f"Scores of the runs added for {kind}:", *names, ""]))  # DVC warns of empty files
        for path in listed.parent.iterdir():
            if path.suffix in (".npz", ".json") and path not in wanted:
                path.unlink()
