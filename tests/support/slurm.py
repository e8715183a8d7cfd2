"""A real Slurm on this machine: a controller and two nodes in a temporary folder, on the loopback address alone."""

from __future__ import annotations

import getpass
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

from tests.support import ROOT
from tests.support.clones import patience

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "srun", "sinfo")
READY = 15.0  # seconds until the nodes are idle; one is usual
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
SlurmdTimeout=10
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0,batch_sched_delay=0
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={n1} CPUs=2 RealMemory=1000 Gres=gpu:2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={n2} CPUs=2 RealMemory=1000 Gres=gpu:2
PartitionName=short Nodes=n[1-2] Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=20 MaxTime=1
PartitionName=long Nodes=n[1-2] PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=nograce Nodes=n[1-2] PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=high Nodes=n[1-2] PriorityTier=10 PreemptMode=OFF
"""


def lacking() -> str:
    """Return why no Slurm can be started here; an empty string if one can."""
    if missing := [name for name in COMMANDS if shutil.which(name, path=_search_path()) is None]:
        return f"{', '.join(missing)} not installed: apt-get install --no-install-recommends {' '.join(PACKAGES)}"
    try:
        socket.gethostbyname(_host())
    except OSError:
        return f"the name of this machine, {_host()}, does not resolve: add it to /etc/hosts"
    return ""


def install() -> None:
    """Install Slurm with apt if this is root and it is missing. What goes wrong shows in `lacking`."""
    if lacking() and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", "-qq", *words], env={**os.environ, **quiet}, check=False, capture_output=True)


class SlurmError(Exception):
    """The cluster does not start; the message has the last lines of its logs."""


class Slurm:
    """A running cluster, and its commands as a user types them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": _search_path()}
        for name in ("munge", "state", "spool"):
            (folder / name).mkdir(parents=True, mode=0o700)
        (folder / "munge/key").write_bytes(secrets.token_bytes(1024))
        (folder / "munge/key").chmod(0o600)
        ports = dict(zip(("controller", "n1", "n2"), _free_ports(3), strict=True))
        text = CONF.format(host=_host(), user=getpass.getuser(), folder=folder, **ports)
        (folder / "slurm.conf").write_text(text)
        (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")  # must be devices
        if _version(self.environment) >= (23, 11):  # where slurmd does not start without it
            (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")

    @property
    def variables(self) -> dict[str, str]:
        """Return what the environment of a program of this repository needs to use this cluster."""
        return {"SLURM_CONF": self.environment["SLURM_CONF"], "PYTHONPATH": str(ROOT)}

    def start(self) -> None:
        """Start everything and wait until the nodes are idle. Raise SlurmError if they do not become so."""
        munge = self.folder / "munge"
        files = (f"--{key}={munge / key.removesuffix('-file')}" for key in ("key-file", "pid-file", "log-file"))
        seed, place = f"--seed-file={munge / 'seed'}", f"--socket={munge / 'socket'}"
        self._daemon("munged", "--force", *files, seed, place)
        self.start_controller()
        for node in ("n1", "n2"):
            self._daemon("slurmd", "-N", node)
        self.wait(lambda: self.call("sinfo", "-h", "-N", "-o", "%t").split()[:2] == ["idle", "idle"], READY)

    def start_controller(self) -> None:
        """Start the controller, also after `stop_controller`: it goes on where it was."""
        self._daemon("slurmctld")

    def lose_node(self, node: str) -> None:
        """End a node with all that runs there, as a power cut does."""
        slurmd = psutil.Process(int((self.folder / f"slurmd-{node}.pid").read_text()))
        works = [process for process in psutil.process_iter() if self._runs_on(process, node)]
        steps = [above for work in works for above in work.parents() if above.name() == "slurmstepd"]
        for process in (slurmd, *steps, *works):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs([slurmd], patience(30))

    def start_node(self, node: str) -> None:
        """Start a node, also after `lose_node`, and wait until it is idle."""
        self._daemon("slurmd", "-N", node)
        self.wait(lambda: self.call("sinfo", "-h", "-N", "-n", node, "-o", "%t").split()[:1] == ["idle"], 4 * READY)

    def _runs_on(self, process: psutil.Process, node: str) -> bool:
        """Return True for a process of a job on a node of this cluster."""
        with suppress(psutil.Error):
            variables = process.environ()
            here = variables.get("SLURM_CONF", "") == str(self.folder / "slurm.conf")
            return here and variables.get("SLURMD_NODENAME") == node
        return False

    def stop_controller(self) -> None:
        """End the controller, as a failure or an update of the cluster does."""
        self._end("slurmctld.pid")

    def clear(self) -> None:
        """Cancel all jobs, and wait until they have ended."""
        self.call("scancel", "--signal=KILL", "--full", "-u", getpass.getuser())
        self.call("scancel", "-u", getpass.getuser())
        self.wait(lambda: not self.call("squeue", "-h"), 2 * READY)

    def stop(self) -> None:
        """Cancel all jobs and end everything."""
        with suppress(SlurmError):
            self.clear()
        for file in ("slurmd-n1.pid", "slurmd-n2.pid", "slurmctld.pid", "munge/pid"):
            self._end(file)

    def call(self, *words: str) -> str:
        """Return what a command prints; an empty string if it fails."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout

    def field(self, job: str, field: str) -> str:
        """Return a field of `scontrol show job`, such as JobState; an empty string if there is none."""
        match = re.search(rf"\b{field}=(\S+)", self.call("scontrol", "show", "job", job))
        return match[1] if match else ""

    def state(self, job: str) -> str:
        """Return a job's state."""
        return self.field(job, "JobState")

    def hurry(self, job: str) -> None:
        """Start a requeued job now: it would wait for two minutes. In the same second it could not start."""
        self.call("scontrol", "update", f"JobId={job}", "StartTime=now+2")

    def preempt(self, node: str) -> None:
        """Let a job of higher priority have a node, and wait until it has run."""
        self.call("srun", "--partition=high", "--exclusive", f"--nodelist={node}", "true")

    def wait(self, condition: Callable[[], object], seconds: float) -> None:
        """Wait until `condition` is true. Raise SlurmError, with the logs, after so many seconds."""
        end = time.monotonic() + patience(seconds)
        while not condition():
            if time.monotonic() > end:
                raise SlurmError(f"waited {seconds:.0f} s\n{self._logs()}")
            time.sleep(0.1)

    def _daemon(self, *words: str) -> None:
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise SlurmError(f"{words[0]} ended with {done.returncode}: {done.stdout}{done.stderr}\n{self._logs()}")

    def _end(self, pid_file: str) -> None:
        with suppress(OSError, ValueError, psutil.NoSuchProcess):
            process = psutil.Process(int((self.folder / pid_file).read_text()))
            process.send_signal(signal.SIGTERM)
            process.wait(patience(30))

    def _logs(self) -> str:
        logs = [*sorted(self.folder.glob("*.log")), *self.folder.glob("munge/log")]
        return "\n".join(f"{log.name}:\n" + "\n".join(log.read_text().splitlines()[-5:]) for log in logs)


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _search_path() -> str:
    return f"{os.environ['PATH']}{os.pathsep}/usr/sbin"


def _version(environment: dict[str, str]) -> tuple[int, ...]:
    done = subprocess.run(["slurmctld", "-V"], env=environment, capture_output=True, text=True, check=True)
    return tuple(int(number) for number in re.findall(r"\d+", done.stdout)[:2])


def _free_ports(count: int) -> Sequence[int]:
    """Return ports of the loopback address that nobody listens at."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
