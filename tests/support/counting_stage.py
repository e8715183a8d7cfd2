"""A stage that counts, in place of one that trains: `python -m tests.support.counting_stage head` has a job count.

It saves how far it is when it is told to stop, and then ends as training does. The environment says how it behaves:
COUNT_TO, COUNT_KEY (what shapes its result), COUNT_KIND (train or score), COUNT_CODE (of its end), COUNT_SAVES=no,
COUNT_STOPS=no, COUNT_CHANGES=yes (parameters, meanwhile), and COUNT_LINGERS=yes (after its work).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from pipeline.cluster.head import StageWork, run_as_job
from pipeline.cluster.inside import do_in_job
from pipeline.cluster.settings import settings
from pipeline.errors import Failure

STAGE = "train@COUNT"
RESULT, SAVED, TOUCHED = Path("result"), Path("saved"), Path("begun")
EVERY = 0.1  # seconds a step


def head() -> None:
    """Have a job count, as `vgg-repro stage` does it."""
    kind = "score" if os.environ.get("COUNT_KIND") == "score" else "train"
    request = settings().request(kind)
    assert request is not None
    command = (sys.executable, "-m", "tests.support.counting_stage", "work")
    run_as_job(StageWork(STAGE, kind, command, _key(), [RESULT]), request, settings().poll, _check)


def work() -> None:
    """Count in a job."""
    resumes = os.environ.get("COUNT_KIND") != "score"
    mark = SAVED.read_text() if SAVED.exists() else "0"
    do_in_job(_key(), mark if resumes else None, Path("held"), (), lambda: _count(int(mark) if resumes else 0))
    if os.environ.get("COUNT_LINGERS") == "yes":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(600)


def _count(begun: int) -> None:
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    TOUCHED.write_text(f"{begun}")
    print(f"counting from {begun}", flush=True)
    for number in range(begun, int(os.environ["COUNT_TO"])):
        time.sleep(EVERY)
        if stopped and os.environ.get("COUNT_STOPS") != "no":
            if os.environ.get("COUNT_SAVES") != "no":
                SAVED.write_text(f"{number + 1}")
            print(f"saved at {number + 1}", flush=True)
            sys.exit(130)
    if code := int(os.environ.get("COUNT_CODE", 0)):
        print("it went wrong", flush=True)
        sys.exit(code)
    RESULT.write_text(f"counted to {os.environ['COUNT_TO']}, {begun} of them earlier")


def _check() -> None:
    """Fail as if parameters had changed while the job ran."""
    if os.environ.get("COUNT_CHANGES") == "yes":
        raise Failure("parameters have changed")


def _key() -> str:
    return os.environ.get("COUNT_KEY", "key")


if __name__ == "__main__":
    try:
        {"head": head, "work": work}[sys.argv[1]]()
    except Failure as failure:
        print(f"counting: {failure}", flush=True)
        sys.exit(failure.code)
