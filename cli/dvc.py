"""DVC as our own commands run it: who holds a lock is said by them, and its advice on git is not given."""

from __future__ import annotations

import logging
import sys


def main() -> int:
    """Run DVC with this process's arguments; return its exit code."""
    from dvc.cli import main as dvc

    sys.argv[0] = "dvc"  # the name that DVC notes in its list of files in use
    for name in ("dvc.repo.scm_context", "dvc.rwlock"):  # which files to add to git; which killed process held a file
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("dvc.cli").addFilter(_is_news)
    return int(dvc())


def _is_news(record: logging.LogRecord) -> bool:
    """Return False for an error about files that another DVC uses: `cli.common.repro` names that DVC."""
    from dvc.lock import LockError

    from pipeline.orchestration.dvc_graph import at_work

    error = record.exc_info[1] if record.exc_info else None
    return not (error and isinstance(error.__cause__ or error, LockError) and at_work())


if __name__ == "__main__":
    sys.exit(main())
