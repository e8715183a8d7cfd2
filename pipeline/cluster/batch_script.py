"""The script of a stage's job: it runs the stage's command on each node, and decides whether the job runs again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from pipeline.cluster.job_folder import IN_JOB, LOCAL, JobFolder
from pipeline.cluster.settings import FILE, JobRequest

# A file `code` with 0 means that the job has finished: Slurm may start it once more after a pre-emption. Whoever stops
# the job writes a file `stop`. Exit codes 130 and 143 are those of work that was told to stop.
SCRIPT = """\
#!/bin/bash
# Written by vgg-repro for the stage {stage}. Each submission writes it again.
cd {clone} || exit 1
folder={folder}
note() {{ echo "$1" > "$folder/.code" && mv "$folder/.code" "$folder/code"; }}
leave() {{ note "$1"; exit "$1"; }}
[ "$(cat "$folder/code" 2> /dev/null)" = 0 ] && exit 0
[ -e "$folder/stop" ] && leave 130
rm -f "$folder/code"
[ -e "$folder/log" ] && touch -r "$folder/log" "$folder/last"  # when the last start was last heard of
[ -e "$folder/began" ] && mv "$folder/began" "$folder/before"
touch "$folder/began"
export {in_job}={folder}
export {local_name}={local}
{setup}srun --kill-on-bad-exit=0 --wait=900 --cpus-per-task="${{SLURM_CPUS_PER_TASK:-1}}" {command}
code=$?
if [ $code = 0 ]; then
    note 0
    scontrol update JobId="$SLURM_JOB_ID" Requeue=0
    exit 0
fi
if [ $code = 130 ] || [ $code = 143 ]; then
    if [ ! -e "$folder/stop" ] && [ "$(squeue -h -j "$SLURM_JOB_ID" -o %T)" = RUNNING ]; then
        {stopped}
    fi
fi
leave $code
"""
# A line of the site's that fails, or ends the script, ends the job and is named, unless Slurm stops the job in it.
SETUP = """\
setup_ended() {{
    [ "$1" -ge 128 ] && exit "$1"
    echo "vgg-repro: a line of \\`setup\\` in {file} has failed with exit code $1: $setup_line"
    leave 1
}}
trap 'exit 143' TERM
trap 'setup_ended $?' EXIT
{lines}
trap - EXIT TERM
set +e
"""
SETUP_LINE = """\
setup_line={quoted}
{line}
status=$?; [ $status = 0 ] || exit $status"""
RESUMES = 'scontrol requeue "$SLURM_JOB_ID" && sleep 600  # this ends the script'
# The work cannot resume. After a pre-emption Slurm runs the job again by itself; at its limit it ends here.
BEGINS_ANEW = "sleep {seconds}"


def batch_script(stage: str, folder: JobFolder, command: Sequence[str], request: JobRequest, resumes: bool) -> str:
    """Return the script that runs `command`, which `resumes` from where it was stopped or else begins anew."""
    return SCRIPT.format(
        stage=stage,
        clone=shlex.quote(str(Path.cwd())),
        folder=shlex.quote(str(folder.path.absolute())),
        in_job=IN_JOB,
        local_name=LOCAL,
        local=shlex.quote(request.local or ""),  # the node expands it
        setup=_checked(request.setup),
        command=shlex.join(command),
        stopped=RESUMES if resumes else BEGINS_ANEW.format(seconds=request.notice + 120),
    )


def _checked(lines: Sequence[str]) -> str:
    """Return the site's own lines, each of which has to succeed."""
    if not lines:
        return ""
    parts = [SETUP_LINE.format(quoted=shlex.quote(line), line=line) for line in lines]
    return SETUP.format(file=FILE, lines="\n".join(parts))
