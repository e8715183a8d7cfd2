"""What all tests share: fresh random inputs whose seed a failure names, and one thread for torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator

import numpy as np
import pytest


@pytest.fixture
def seed() -> int:
    """A new seed every run; TEST_SEED=... repeats one."""
    return int(os.environ.get("TEST_SEED", int.from_bytes(os.urandom(4), "little")))


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """NumPy's generator of the seed."""
    return np.random.default_rng(seed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Generator[None, object, object]:
    """Put the seed into the message of whatever fails."""
    try:
        return (yield)
    except Exception as failure:
        if "seed" in item.funcargs:
            failure.add_note(f"repeat with TEST_SEED={item.funcargs['seed']}")
        raise


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Hold torch, if the tests imported it, to one thread: bits and times then do not depend on the machine's load."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
