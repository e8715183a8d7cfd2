"""Several processes on one net: how many there are, how they are started, how they find each other, how they end."""

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
from pipeline.experiment.params import Score, Train
from pipeline.system.atomic_files import write_json
from pipeline.system.devices import gpu_count
from pipeline.system.error_log import with_log
from pipeline.system.process_lifetime import end_with_parent, restored, stop_signals
from stages.common import device
from vgg.distributed import ALONE, Ranks

LOOK = 0.2  # seconds between the launcher's looks at its processes
LINGER = 5.0  # seconds; a process that has lost another stays so long, so that the launcher sees the other's end first
CHATTER = ("torch.distributed.elastic.multiprocessing.api", "torch.multiprocessing.spawn",
           "torch.distributed.elastic.agent.server.api")  # fmt: skip  # loggers that say what we say in other words
LAST = 600  # seconds that processes which are asked to end have for their last step and its checkpoint
PATIENCE = timedelta(hours=2)  # for a process that is at work alone: reading images, or writing a checkpoint


def processes(choice: int | str, device: str) -> int:
    """How many processes `choice` means: with auto one a GPU, and one where there is none; never two on a GPU."""
    gpus = gpu_count(device)
    if isinstance(choice, int):
        return min(choice, gpus) if gpus else choice
    return max(1, gpus)


def joined() -> bool:
    """Whether this process is one of several that torch's launcher, here or by hand as `torchrun`, has started."""
    return dist.is_torchelastic_launched()


@contextmanager
def team(where: torch.device) -> Iterator[Ranks]:
    """This process's place among those that work on one net; alone if nobody has started several."""
    if not joined():
        yield ALONE
        return
    gpu = where.type == "cuda"
    dist.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE, device_id=where if gpu else None)
    ranks = Ranks(dist.get_rank(), dist.get_world_size())
    with _silent(not ranks.first):
        yield ranks
    dist.destroy_process_group()  # not after a failure: it might wait for the others, who wait for this one


def shared(how: Train | Score, what: str, work: Callable[..., None], *words: Any) -> None:
    """Do `work(*words, device, ranks)` in as many processes as `how` says, or as torchrun has started. As `launch`."""
    count = processes(how.processes, how.device)
    if count > 1 and not joined():
        launch(count, what, shared, how, what, work, *words)
        return
    where = device(how.device, how.threads, how.precision)
    with team(where) as ranks:
        work(*words, where, ranks)


def launch(count: int, what: str, work: Callable[..., None], *words: Any) -> None:
    """Do `work(*words)` in `count` processes of this machine. Failure names the first that fails, and why.

    `work` finds its place by `team`. Interrupted where it is interrupted.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    stops = stop_signals()
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(LAST))  # older LaunchConfigs do not take it
    config = LaunchConfig(
        1, 1, count, run_id=f"vgg-repro-{os.getpid()}", role=what, rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0",
        max_restarts=0, start_method="spawn", monitor_interval=LOOK, local_addr="127.0.0.1",
        signals_to_handle=",".join(number.name for number in stops),
    )  # fmt: skip
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # on one machine
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each sets its own threads
    for name in CHATTER:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as notes, restored(*stops):  # torch leaves its handlers behind
        try:
            elastic_launch(config, _rank)(notes, work, *words)
        except SignalException:
            said = _note(Path(notes), 0)
            raise Interrupted(
                said["message"] if said else f"{what} stopped; the same command takes it up again"
            ) from None
        except ChildFailedError as error:
            _explain(error, Path(notes), count, what)


def _rank(notes: str, work: Callable[..., None], *words: Any) -> None:
    """One of the processes; how it fails stands in a note."""
    end_with_parent(signal.SIGTERM)
    note = Path(notes) / os.environ["RANK"]
    try:
        work(*words)
    except Failure as failure:
        _leave(note, str(failure), failure.code)
        sys.exit(failure.code)
    except Exception as error:
        _leave(note, f"unexpected {type(error).__name__}: {error}", 1, traceback.format_exc())
        time.sleep(LINGER)  # if it is another process's end that ends this one, that comes first
        raise


def _leave(note: Path, message: str, code: int, place: str = "") -> None:
    """Leave a note of how a process fails; on a full disk, say it."""
    try:
        write_json(note, {"message": message, "code": code, "traceback": place})
    except Failure:
        print(f"{message}\n{place}", file=sys.stderr, flush=True)


def _explain(error: Any, notes: Path, count: int, what: str) -> None:
    """Raise what ended the first process that failed."""
    rank, failure = error.get_first_failure()
    said = _note(notes, rank)
    if said and said["code"] == Interrupted.code:
        raise Interrupted(said["message"]) from None
    who = f"{what}: process {rank + 1} of {count}"
    if said and said["traceback"]:
        raise Failure(with_log(f"{who}: {said['message']}", _places(notes, count))) from None
    if said:
        raise Failure(f"{who}: {said['message']}") from None
    how = f"was ended by {signal.Signals(-failure.exitcode).name}" if failure.exitcode < 0 else "ended"
    raise Failure(
        f"{who} (pid {failure.pid}) {how}, and the others with it; the same command goes on from what is kept"
    ) from None


def _places(notes: Path, count: int) -> str:
    """Return the traceback of each process that has left one: that of the first to fail is among them."""
    said = [(rank, _note(notes, rank)) for rank in range(count)]
    return "\n".join(f"Process {rank + 1} of {count}:\n{note['traceback']}" for rank, note in said if note)


def _note(notes: Path, rank: int) -> dict[str, Any] | None:
    path = notes / str(rank)
    found: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return found


@contextmanager
def _silent(silent: bool) -> Iterator[None]:
    """Print nothing meanwhile."""
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
