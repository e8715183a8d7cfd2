"""A folder in which jobs of a real Slurm count, and the processes that follow them."""

from __future__ import annotations

from pathlib import Path

from tests.support.clones import patience
from tests.support.commands import MarkedCommand, until
from tests.support.slurm import Slurm

HEAD = ("python", "-m", "tests.support.counting_stage", "head")
LONG = "600"  # a count that takes a minute
PATIENCE = patience(600)  # seconds for what takes a minute, because time limits have whole minutes


class CountingClone:
    """A folder with slurm.yaml in which jobs count, and the processes that follow them."""

    def __init__(self, folder: Path, slurm: Slurm) -> None:
        self.folder, self.slurm, self.heads = folder, slurm, list[MarkedCommand]()
        self.settings()

    def settings(self, **values: object) -> None:
        """Write slurm.yaml: other values than the usual ones."""
        usual = {"partition": "long", "time": 10, "notice": 30, "cpus": 1, "nodes": 1, **values}
        defaults = ", ".join(f"{key}: {value}" for key, value in usual.items())
        (self.folder / "slurm.yaml").write_text(f"defaults: {{{defaults}}}\ntrain:\nscore:\npoll: 1\n")

    def head(self, count: str, **environment: str) -> MarkedCommand:
        """Start a process that has a job count, and follows it."""
        variables = {**self.slurm.variables, **environment}
        self.heads.append(MarkedCommand(self.folder, *HEAD, COUNT_TO=count, **variables))
        return self.heads[-1]

    def ends(self, head: MarkedCommand, code: int) -> str:
        """Return what a head has said at its end, which must be with this exit code."""
        assert head.ends(PATIENCE) and head.child.returncode == code, head.said
        return head.said

    @property
    def number(self) -> str:
        """Return the number of the stage's job, as soon as it has one."""
        return until("a job's number", self._file("number").exists) and self._file("number").read_text()

    @property
    def result(self) -> str:
        """Return the result, an empty string if there is none."""
        path = self.folder / "result"
        return path.read_text() if path.exists() else ""

    def begun(self, start: str = "0") -> None:
        """Wait until the job counts, from this start."""
        path = self.folder / "begun"
        until(f"the job to count from {start}", lambda: path.exists() and path.read_text() == start)

    def requeued(self, times: int = 1) -> None:
        """Wait until the job is queued again, for the time of this number, then have it start at once."""
        until("the job to be queued again", lambda: self.slurm.field(self.number, "Restarts") == str(times), PATIENCE)
        until("the job to wait", lambda: self.slurm.state(self.number) == "PENDING")
        self.slurm.hurry(self.number)

    def _file(self, name: str) -> Path:
        return self.folder / "checkpoints/jobs/train@COUNT" / name

    def clear(self) -> None:
        """End what still runs."""
        for head in self.heads:
            head.clear()
        self.slurm.clear()
