"""The site's settings for a cluster: slurm.yaml beside params.yaml, typed like it, and ignored by git."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from pipeline.errors import UsageError
from pipeline.experiment.modes import ALL_MODES, WINDOWS
from pipeline.experiment.other_sets import FEATURES
from pipeline.experiment.params import Block, Few
from pipeline.experiment.run_names import work_of
from pipeline.experiment.server_sets import PREFIX
from pipeline.experiment.validation import checked
from pipeline.system.yaml_text import parse_yaml

FILE = Path("slurm.yaml")
EXAMPLE = Path("docs/slurm.yaml")
CHOICE = "VGG_REPRO_CLUSTER"  # the environment variable that chooses a cluster
GPUS_PER_STAGE = "VGG_REPRO_GPUS_PER_STAGE"  # set by `vgg-repro run --gpus-per-stage`
SLURM = "slurm"
Kind = Literal["train", "score", "prepare"]  # of stages that can be jobs
KINDS: tuple[Kind, ...] = get_args(Kind)
QUOTE = 'Within braces, quote a time: {time: "24:00:00"}'
MEMORY = re.compile(r"\d+[KMGT]?", re.I)
TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})")


def _time(value: str | int) -> str | int:
    """Return a valid time limit. Raise ValueError for another."""
    if TIME.fullmatch(str(value)) is None or seconds(value) == 0:
        raise ValueError("give minutes, H:M:S or D-H:M:S")
    return value


def _memory(value: str | int) -> str | int:
    """Return a valid amount of memory. Raise ValueError for another."""
    if MEMORY.fullmatch(str(value)) is None:
        raise ValueError("give megabytes, or a number with K, M, G or T, such as 64G")
    return value


def _gpus(value: Any) -> Any:
    """Return the number of GPUs. Raise ValueError that says how to ask for none if it is 0."""
    if value == 0:
        raise ValueError("give null for none")
    return value


Memory = Annotated[str | int, AfterValidator(_memory)]
Gpus = Annotated[Few, BeforeValidator(_gpus)]
Time = Annotated[str | int, AfterValidator(_time)]
Words = Annotated[str, Field(min_length=1)]


class JobRequest(Block):
    """What a job asks for, under the names of slurm.yaml. None leaves the choice to the cluster."""

    partition: Words | None = None
    account: Words | None = None
    qos: Words | None = None
    time: Time | None = None  # as sbatch has it: minutes, H:M:S or D-H:M:S
    notice: Annotated[int, Field(ge=1)] = 300  # seconds before the limit at which training is told to save
    memory: Memory | None = None  # per node, such as 64G
    cpus: Few | None = None  # per node
    gpus: Gpus | None = None  # per node
    nodes: Few = 1
    local: Words | None = None  # a folder on the node's own disk for copies of the shards, such as $TMPDIR
    setup: list[Words] = Field(default_factory=list)  # lines of the script before the work, such as `module load cuda`
    sbatch: list[Words] = Field(default_factory=list)  # further options of sbatch


class ClusterSettings(Block):
    """The whole of slurm.yaml: values for all kinds of stages, and a block for each kind that is to be jobs."""

    defaults: JobRequest = JobRequest()
    train: JobRequest | None = None
    score: JobRequest | None = None
    prepare: JobRequest | None = None
    poll: Annotated[float, Field(gt=0)] = 30.0  # seconds from one question about a job's state to the next

    def request(self, kind: Kind) -> JobRequest | None:
        """Return what a job of this kind asks for; None if such stages run on this machine."""
        block: JobRequest | None = getattr(self, kind)
        if block is None:
            return None
        values = {name: getattr(block, name) for name in block.model_fields_set}
        gpus = os.environ.get(GPUS_PER_STAGE)
        if kind == "prepare":
            values |= {"nodes": 1}  # its processes are those of one machine
        elif gpus:
            values |= {"gpus": int(gpus), "nodes": 1}
        return self.defaults.model_copy(update=values)


def kind_of_stage(stage: str) -> Kind | None:
    """Return the kind of a stage of dvc.yaml; None if it is never a job."""
    work = work_of(stage)[0].removeprefix(PREFIX)
    if work == "prepare":
        return "prepare"
    if work in ("train", "localiser"):
        return "train"
    return "score" if work in (*ALL_MODES, FEATURES) or work.startswith(f"{WINDOWS}-") else None


def chosen() -> bool:
    """Return True if the environment chooses a cluster. Raise UsageError if it is one that is not supported."""
    name = os.environ.get(CHOICE, "")
    if name not in ("", SLURM):
        raise UsageError(f"{CHOICE} is {name}: only {SLURM} is supported (docs/cluster.md, Other schedulers)")
    return name == SLURM


def settings() -> ClusterSettings:
    """Return the settings in slurm.yaml. Raise UsageError that says what is wrong with it, or how to begin one."""
    try:
        text = FILE.read_text()
    except FileNotFoundError:
        raise UsageError(f"there is no {FILE} here. Begin with: cp {EXAMPLE} {FILE} (docs/cluster.md)") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{FILE} cannot be read: {error}") from None
    try:
        values = parse_yaml(text)
    except ValueError as error:
        hint = f"\n{QUOTE}" if "unexpected ':'" in str(error) else ""
        raise UsageError(f"{FILE} is not YAML: {error}{hint}") from None
    return checked(ClusterSettings, _with_empty_blocks(values), FILE, _siblings, _contradictions)


def seconds(time: str | int) -> int:
    """Return a time limit in seconds. It has sbatch's form: minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    if isinstance(time, int):
        return 60 * time
    match = TIME.fullmatch(time)
    assert match is not None
    parts = [int(part) for part in match["parts"].split(":")]
    if match["days"]:
        hours, minutes, rest = (*parts, 0, 0)[:3]
        return 86400 * int(match["days"]) + 3600 * hours + 60 * minutes + rest
    hours, minutes, rest = [(0, parts[0], 0), (0, *parts), parts][len(parts) - 1]
    return 3600 * hours + 60 * minutes + rest


def _with_empty_blocks(values: Any) -> Any:
    """Return the content of the file with `train:` as `train: {}`, which both ask for jobs."""
    if not isinstance(values, dict):
        return values or {}
    return {key: {} if value is None and key in (*KINDS, "defaults") else value for key, value in values.items()}


def _siblings(place: list[str]) -> list[str]:
    """Return the valid keys of the block at `place`."""
    return list((JobRequest if place else ClusterSettings).model_fields)


def _contradictions(loaded: ClusterSettings) -> Iterator[str]:
    """Yield what is well formed but impossible."""
    if not any(loaded.request(kind) for kind in KINDS):
        yield f"no kind of stage is to be jobs: add a block. Available: {', '.join(KINDS)}"
    for kind in KINDS:
        request = loaded.request(kind)
        if request and request.time is not None and seconds(request.time) < 2 * request.notice:
            yield (
                f"{kind}.time is {request.time}, less than twice its notice of {request.notice} s: training would be "
                "told to save before it has done much. Raise time, or lower notice"
            )
