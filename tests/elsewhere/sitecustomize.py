"""Pretend that this Python has no DALI and runs on another system than Linux.

`PYTHONPATH=tests/elsewhere` does so in a process and in all that it starts. What libraries themselves read in /proc
stays: only what is read through pathlib, as this program does, is hidden.
"""

import errno
import os
import pathlib
import sys

sys.modules["nvidia.dali"] = None  # type: ignore[assignment]  # an import raises ModuleNotFoundError
for name in ("sched_getaffinity", "sched_setaffinity", "pidfd_open"):
    if hasattr(os, name):
        delattr(os, name)


def hidden(real):  # type: ignore[no-untyped-def]
    """Return a method of Path that finds nothing in /proc."""

    def method(self, *words, **options):  # type: ignore[no-untyped-def]
        if str(self).startswith("/proc/"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return real(self, *words, **options)

    return method


for name in ("open", "stat"):
    setattr(pathlib.Path, name, hidden(getattr(pathlib.Path, name)))
