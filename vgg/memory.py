"""A GPU's memory that has run out: how it is told from other failures."""

from __future__ import annotations

import torch


def ran_out(error: RuntimeError) -> bool:
    """Whether a GPU's memory has run out; cudnn says so in words of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "unable to find an engine" in str(error)
