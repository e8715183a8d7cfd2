"""Slurm, by its own commands. A shim for another scheduler has these functions (docs/cluster.md, Other schedulers)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.cluster.job_folder import this_job
from pipeline.cluster.settings import JobRequest, seconds
from pipeline.errors import Failure
from pipeline.system.devices import VISIBLE
from pipeline.system.progress import EVERY, QUIET

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "srun", "sinfo")
FIELDS = "%i|%T|%r|%N|%j|%k"
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")  # variables of Slurm's that say where it is, not which job this is
DROPPED = ("DVC_STAGE", QUIET, EVERY, VISIBLE)  # this process's own
PATIENCE = 25.0  # seconds for one command; a controller that is away is reported after 18
NO_SUCH_NODE = "Requested node configuration is not available"  # Slurm's words
UNKNOWN = "Invalid job id"  # Slurm's words
GONE = ("CANCELLED", "TIMEOUT", "NODE_FAIL", "DEADLINE", "BOOT_FAIL")  # ended from outside: the script wrote no code
ENDED = (*GONE, "COMPLETED", "FAILED", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED")
PORTS = range(20000, 40000)  # of the processes of one net on several nodes, one port per job


class ControllerAway(Failure):
    """Slurm did not answer. The job may be running."""


class JobState(NamedTuple):
    """The state of a job in the queue."""

    name: str  # in Slurm's words, such as RUNNING
    reason: str = ""  # why it waits or how it ended
    nodes: str = ""
    job: str = ""  # its name
    key: str = ""  # its comment

    @property
    def has_ended(self) -> bool:
        """Return True if it will not run again."""
        return self.name in ENDED

    @property
    def is_gone(self) -> bool:
        """Return True if it was ended from outside, so that its script can have left no code."""
        return self.name in GONE

    @property
    def waits(self) -> bool:
        """Return True if it has not started."""
        return self.name == "PENDING"

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason not in ("", "None") else ""
        nodes = f" on {self.nodes}" if self.nodes and not self.has_ended else ""
        return f"{self.name.lower().replace('_', ' ')}{reason}{nodes}"


class NodePlace(NamedTuple):
    """The place of this process among the nodes of its job."""

    nodes: int = 1
    node: int = 0
    first: str = ""  # address of the first node
    port: int = 0  # for the processes of this job, on the first node


def submit(script: Path, request: JobRequest, name: str, key: str, log: Path) -> str:
    """Submit a script and return the job's number. Raise ControllerAway, or Failure with Slurm's reason."""
    return _sbatch([], request, name, key, script, log).strip().partition(";")[0]


def check(script: Path, request: JobRequest) -> None:
    """Raise Failure, with the reason, if no node could ever run such a job, or if its partition's limit is shorter."""
    _sbatch(["--test-only"], request, "check", "", script, Path(os.devnull))
    for partition, limit in _of_partition(request, "%l"):
        if request.time and limit[0].isdigit() and seconds(limit) < seconds(request.time):
            raise Failure(f"time is {request.time}, but partition {partition} allows {limit} at most")


def look(numbers: Iterable[str]) -> dict[str, JobState]:
    """Return the states of those jobs that Slurm knows, by number. Raise ControllerAway if it does not answer."""
    listed = ",".join(numbers)
    if not listed:
        return {}
    try:
        lines = _output(["squeue", "--noheader", "--states=all", f"--jobs={listed}", f"--format={FIELDS}"])
    except Failure as reason:
        if UNKNOWN in str(reason):
            return {}
        raise ControllerAway(str(reason)) from None
    return dict(_states(lines))


def find(name: str, key: str) -> str | None:
    """Return the number of a job of this name and key that has not ended. Raise ControllerAway without an answer."""
    lines = _output(["squeue", "--noheader", "--me", f"--name={name}", f"--format={FIELDS}"])
    return next((number for number, state in _states(lines) if state.key == key and not state.has_ended), None)


def ask_to_stop(number: str) -> None:
    """Send a running job's work SIGTERM. Sent to srun or to the script, it would not reach the work."""
    _output(["scancel", "--signal=TERM", number])


def cancel(number: str) -> None:
    """Remove a job from the queue, or kill it."""
    _output(["scancel", number])


def place() -> NodePlace:
    """Return the place of this process among the nodes of its stage's job, if it is in one."""
    if this_job() is None:
        return NodePlace()
    nodes = int(os.environ.get("SLURM_NNODES", 1))
    first, number = os.environ.get("SLURM_LAUNCH_NODE_IPADDR", ""), int(os.environ.get("SLURM_JOB_ID", 0))
    return NodePlace(nodes, int(os.environ.get("SLURM_NODEID", 0)), first, PORTS[number % len(PORTS)])


def environment() -> Mapping[str, str]:
    """Return the environment that a job inherits: this one without what belongs to this process or to another job."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in DROPPED and (name in KEPT or not name.startswith("SLURM_"))
    }
    return {**kept, "PYTHONUNBUFFERED": "1"}


def _sbatch(words: Sequence[str], request: JobRequest, name: str, key: str, script: Path, log: Path) -> str:
    """Return what sbatch prints. Raise ControllerAway, or Failure with Slurm's reason and what the nodes have."""
    try:
        return _output(["sbatch", *words, *_options(request, name, key, log), str(script)])
    except ControllerAway:
        raise
    except Failure as reason:
        if NO_SUCH_NODE not in str(reason):
            raise
        raise Failure(f"{reason}. Asked for: {_asked_for(request)}. There are: {_nodes(request)}") from None


def _asked_for(request: JobRequest) -> str:
    """Return what each node must have."""
    has = {"cpus": request.cpus, "memory": request.memory, "gpus": request.gpus}
    parts = [f"{value} {name}" if name != "memory" else f"memory {value}" for name, value in has.items() if value]
    return f"{request.nodes} node(s) with {', '.join(parts) or 'nothing special'}"


def _nodes(request: JobRequest) -> str:
    """Return how many nodes of which kind the job's partition, or the cluster's usual one, has; "unknown" if unsaid."""
    try:
        kinds = [kind for _, kind in _of_partition(request, "%D node(s) with %c cpus, memory %mM, %G")]
    except Failure:
        return "unknown"
    return "; ".join(kinds).replace("(null)", "no gpus") or "unknown"


def _of_partition(request: JobRequest, fields: str) -> Iterator[tuple[str, str]]:
    """Yield the name and these fields of the job's partition, or of the cluster's usual one, for each kind of node."""
    for line in _output(["sinfo", "--noheader", f"--format=%P|{fields}"]).splitlines():
        name, _, says = line.partition("|")
        partition = name.rstrip("*")
        if partition == request.partition if request.partition else name.endswith("*"):
            yield partition, says.strip()


def _options(request: JobRequest, name: str, key: str, log: Path) -> Iterator[str]:
    """Yield the options of sbatch. The user's own come last, so that they win."""
    yield from ("--parsable", "--requeue", "--open-mode=append", "--export=ALL", "--ntasks-per-node=1")
    yield from (f"--signal=TERM@{request.notice}", f"--job-name={name}", f"--comment={key}", f"--output={log}")
    values = {
        "partition": request.partition, "account": request.account, "qos": request.qos, "time": request.time,
        "mem": request.memory, "cpus-per-task": request.cpus, "gpus-per-node": request.gpus, "nodes": request.nodes,
    }  # fmt: skip
    yield from (f"--{option}={value}" for option, value in values.items() if value is not None)
    yield from request.sbatch


def _output(words: Sequence[str]) -> str:
    """Return what a command prints. Raise Failure with its message, or ControllerAway if Slurm does not answer."""
    try:
        done = subprocess.run(
            words, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=PATIENCE, check=False, start_new_session=True,  # Ctrl-C is this process's to pass on
        )  # fmt: skip
    except FileNotFoundError:
        raise Failure(f"the command {words[0]} is not here: this machine must be able to submit jobs") from None
    except subprocess.TimeoutExpired:
        raise ControllerAway(f"{words[0]} has not answered for {PATIENCE:.0f} s") from None
    if done.returncode:
        raise _refused(words[0], done.stderr.strip() or f"it ended with {done.returncode}")
    return done.stdout


def _refused(command: str, reason: str) -> Failure:
    kind = ControllerAway if any(word in reason for word in AWAY) else Failure
    return kind(f"{command}: {reason}")


AWAY = ("Unable to contact", "Connection refused", "timed out", "Socket", "Zero Bytes", "not running", "munge")


def _states(lines: str) -> Iterator[tuple[str, JobState]]:
    for line in lines.splitlines():
        number, *fields = line.split("|", 5)
        yield number, JobState(*fields)
