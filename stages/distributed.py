"""Several processes for one net: their number, their start, how they find each other, and their end."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from pipeline.errors import Failure, Interrupted
from pipeline.experiment.params import Params, Score, Train
from pipeline.system.atomic_files import write_json
from pipeline.system.devices import check_choice, gpu_count
from pipeline.system.error_log import with_log
from pipeline.system.process_lifetime import end_with_parent, restored, stop_signals
from stages.common import device
from vgg.distributed import ALONE, Ranks

LOOK = 0.2  # seconds between the launcher's looks at its processes
LINGER = 5.0  # seconds that a process which lost another waits, so that the launcher sees the other's end first
CHATTER = ("torch.distributed.elastic.multiprocessing.api", "torch.multiprocessing.spawn",
           "torch.distributed.elastic.agent.server.api")  # fmt: skip  # loggers that repeat our messages in other words
LAST = 600  # seconds that processes which are asked to stop have for their last step and its checkpoint
PATIENCE = timedelta(hours=2)  # for a process that works while the others wait: reading images or writing a checkpoint


def processes(choice: int | str, device: str) -> int:
    """Return how many processes `choice` means: with auto one per GPU, or one without GPUs; never two on a GPU."""
    gpus = gpu_count(device)
    if isinstance(choice, int):
        return min(choice, gpus) if gpus else choice
    return max(1, gpus)


def joined() -> bool:
    """Return True if this process was started by torch's launcher, from `launch` or by hand as `torchrun`."""
    return dist.is_torchelastic_launched()


@contextmanager
def team(where: torch.device) -> Iterator[Ranks]:
    """Yield this process's rank among those that work on one net, or ALONE if there is only one process."""
    if not joined():
        yield ALONE
        return
    gpu = where.type == "cuda"
    dist.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE, device_id=where if gpu else None)
    ranks = Ranks(dist.get_rank(), dist.get_world_size())
    with _silent(not ranks.first):
        yield ranks
    dist.destroy_process_group()  # not after a failure: it might wait for the others, which wait for this one


def shared(params: Params, settings: Train | Score, what: str, work: Callable[..., None], *words: Any) -> None:
    """Run `work(params, *words, device, ranks)` in as many processes as `settings` ask for, or as torchrun started.

    Raise the errors of `check_choice` and of `launch`.
    """
    check_choice(settings.device, params.active.net.full_size)
    count = processes(settings.processes, settings.device)
    if count > 1 and not joined():
        launch(count, what, shared, params, settings, what, work, *words)
        return
    where = device(settings.device, settings.threads, settings.precision)
    with team(where) as ranks:
        work(params, *words, where, ranks)


def launch(count: int, what: str, work: Callable[..., None], *words: Any) -> None:
    """Run `work(*words)` in `count` processes of this machine; `work` gets its rank from `team`.

    Raise Failure, with the first process that failed and the reason, or Interrupted if the work is interrupted.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    stops = stop_signals()
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(LAST))  # older LaunchConfigs lack the argument
    config = LaunchConfig(
        1, 1, count, run_id=f"vgg-repro-{os.getpid()}", role=what, rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0",
        max_restarts=0, start_method="spawn", monitor_interval=LOOK, local_addr="127.0.0.1",
        signals_to_handle=",".join(number.name for number in stops),
    )  # fmt: skip
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")  # on one machine
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each process sets its own number of threads
    for name in CHATTER:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as notes, restored(*stops):  # torch does not restore the signal handlers
        try:
            elastic_launch(config, _rank)(notes, work, *words)
        except SignalException:
            note = _note(Path(notes), 0)
            raise Interrupted(note["message"] if note else f"{what} stopped; the same command resumes it") from None
        except ChildFailedError as error:
            _explain(error, Path(notes), count, what)


def _rank(notes: str, work: Callable[..., None], *words: Any) -> None:
    """Run `work` in one of the processes; write a note if it fails."""
    end_with_parent(signal.SIGTERM)
    note = Path(notes) / os.environ["RANK"]
    try:
        work(*words)
    except Failure as failure:
        _leave(note, str(failure), failure.code)
        sys.exit(failure.code)
    except Exception as error:
        _leave(note, f"unexpected {type(error).__name__}: {error}", 1, traceback.format_exc())
        time.sleep(LINGER)  # so that the launcher first sees the process whose end caused this error
        raise


def _leave(note: Path, message: str, code: int, place: str = "") -> None:
    """Write a note of how a process fails; if the disk is full, print it."""
    try:
        write_json(note, {"message": message, "code": code, "traceback": place})
    except Failure:
        print(f"{message}\n{place}", file=sys.stderr, flush=True)


def _explain(error: Any, notes: Path, count: int, what: str) -> None:
    """Raise Failure or Interrupted with what ended the first process that failed."""
    rank, failure = error.get_first_failure()
    note = _note(notes, rank)
    if note and note["code"] == Interrupted.code:
        raise Interrupted(note["message"]) from None
    who = f"{what}: process {rank + 1} of {count}"
    if note and note["traceback"]:
        raise Failure(with_log(f"{who}: {note['message']}", _places(notes, count))) from None
    if note:
        raise Failure(f"{who}: {note['message']}") from None
    ending = f"was killed by {signal.Signals(-failure.exitcode).name}" if failure.exitcode < 0 else "ended"
    raise Failure(
        f"{who} (pid {failure.pid}) {ending}, so the others were stopped; the same command resumes from what is saved"
    ) from None


def _places(notes: Path, count: int) -> str:
    """Return the tracebacks of all processes that left one, including the first that failed."""
    left = [(rank, _note(notes, rank)) for rank in range(count)]
    return "\n".join(f"Process {rank + 1} of {count}:\n{note['traceback']}" for rank, note in left if note)


def _note(notes: Path, rank: int) -> dict[str, Any] | None:
    path = notes / str(rank)
    note: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return note


@contextmanager
def _silent(silent: bool) -> Iterator[None]:
    """Discard standard output meanwhile if `silent`."""
    if not silent:
        yield
        return
    usual = sys.stdout
    with open(os.devnull, "w") as nowhere:
        sys.stdout = nowhere
        try:
            yield
        finally:
            sys.stdout = usual
