"""DVC as our own commands run it: who uses a file is said in our words, and its advice on git is not given."""

from __future__ import annotations

import logging
import re
import sys
from contextlib import suppress

import psutil

IN_USE_BY = "in use by "  # how the line begins that a walk reads when files of a stage are in use
HOLDER = re.compile(r"\(PID (\d+)\): (.*)")  # in DVC's error about a file that is in use
WAITS = "--wait-for-lock"  # DVC's option, with which a walk starts it; it does not wait for files


def main() -> int:
    """Run DVC with this process's arguments; return its exit code."""
    from dvc.cli import main as dvc

    sys.argv[0] = "dvc"  # the name that DVC notes in its list of files in use
    for name in ("dvc.repo.scm_context", "dvc.rwlock"):  # which files to add to git; which killed process held a file
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("dvc.cli").addFilter(_is_news)
    return int(dvc())


def _is_news(record: logging.LogRecord) -> bool:
    """Return False for an error about files in use: a walk is told who uses them, `cli.common.repro` names that DVC."""
    from dvc.lock import LockError

    from pipeline.orchestration.dvc_graph import at_work

    error = record.exc_info[1] if record.exc_info else None
    if error is None or not isinstance(reason := error.__cause__ or error, LockError):
        return True
    holder = HOLDER.search(str(reason))
    if holder and WAITS in sys.argv:
        print(f"{IN_USE_BY}{_running(int(holder[1])) or holder[2]} (process {holder[1]})", flush=True)
        return False
    return not at_work()


def _running(process: int) -> str:
    """Return the stage that a DVC process runs; an empty string if it runs none, or is gone."""
    with suppress(psutil.Error):
        for child in psutil.Process(process).children():
            with suppress(psutil.Error):
                if stage := child.environ().get("DVC_STAGE"):
                    return str(stage)
    return ""


if __name__ == "__main__":
    sys.exit(main())
