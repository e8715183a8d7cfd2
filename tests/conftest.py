"""What all tests share: random inputs whose seed a failure names, a finished reproduction, and one thread for torch."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import zlib
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from tests.support import DRAWN_CHARTS, ROOT
from tests.support.clones import Reproduction, reproduce
from tests.support.slurm import Slurm, SlurmError, install, lacking

SEED = "TEST_SEED"  # a number, or `fresh`; every random input of a run follows from it
USUAL = "0"
LONGEST = [  # a quarter of a minute and more; test_repro.py makes the reproduction that the next ones need too
    *("whole/test_repro.py", "whole/test_published.py", "pipeline/orchestration/test_dvc_graph.py"),
    *("whole/test_first_hour.py", "pipeline/orchestration/test_runner.py", "stages/test_distributed.py"),
    *("whole/test_own_images.py", "whole/test_kills.py", "stages/test_check.py"),
    *("pipeline/cluster/test_interrupted_jobs.py", "pipeline/cluster/test_jobs_on_slurm.py", "whole/test_on_slurm.py"),
    *("stages/test_train.py", "whole/test_full_disk.py"),
]


def pytest_configure() -> None:
    """Choose the run's seed, for this process and for pytest-xdist's, which inherit it."""
    if os.environ.setdefault(SEED, USUAL) == "fresh":
        os.environ[SEED] = str(secrets.randbelow(2**32))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how to repeat the run, unless its seed is the usual one."""
    if os.environ[SEED] != USUAL:
        terminalreporter.write_line(f"{SEED}={os.environ[SEED]}")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A seed of this test's own."""
    return zlib.crc32(f"{os.environ[SEED]} {request.node.nodeid}".encode())


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """NumPy's generator of the seed."""
    return np.random.default_rng(seed)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files and end with the shortest, so that pytest-xdist's processes end together.

    The longest are known; of the others, those with slow tests come first, and then those with more tests.
    """
    known = {ROOT / "tests" / name: number for number, name in enumerate(LONGEST)}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (known.get(item.path, len(known)), item.path not in slow, -tests[item.path]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Put the run's seed into the message of whatever fails, unless it is the usual one."""
    try:
        return (yield)
    except Exception as failure:
        if os.environ[SEED] != USUAL:
            failure.add_note(f"repeat with {SEED}={os.environ[SEED]}")
        raise


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all processes of a run share."""
    root = tmp_path_factory.getbasetemp()
    return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.fixture(scope="session")
def reproduction(tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    """A finished tiny reproduction of all tables, made by the first of the run's processes that asks; to be copied."""
    root = shared_folder(tmp_path_factory)
    with FileLock(root / "reproduction.lock"):
        return reproduce(root / "reproduction")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A real Slurm of two nodes on this machine, installed by root if it is missing. In CI a skip is a failure."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "apt.lock"):
        install()
    cannot = pytest.fail if os.environ.get("CI") else pytest.skip
    if reason := lacking():
        cannot(reason)
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    except SlurmError as reason:
        cannot(str(reason))
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny parameters, prepared images and random weights of A, to be copied."""
    from tests.support.training import with_random_weights

    folder = tmp_path_factory.mktemp("prepared")
    with_random_weights(folder)
    return folder


@pytest.fixture(scope="session")
def describing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `prepared`, with random weights of D-jitter too, to be copied."""
    from stages import random as random_weights
    from tests.support.training import with_random_weights

    folder = tmp_path_factory.mktemp("describing")
    params = with_random_weights(folder)
    with chdir(folder):
        random_weights.main(params, "D")
        shutil.copy("weights/trained/random-D.pt", "weights/trained/D-jitter.pt")
    return folder


@pytest.fixture
def finished(reproduction: Reproduction, tmp_path: Path) -> Path:
    """A copy of the finished reproduction, to change at will."""
    return reproduction.copy(tmp_path / "clone")


@pytest.fixture(autouse=True, scope="session")
def charts_drawn_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have charts of equal rows and images drawn once in a run, in this process and in forks of commands."""
    os.environ[DRAWN_CHARTS] = str(shared_folder(tmp_path_factory) / "charts")
    if "reports.charts" in sys.modules:
        from tests.support.drawn_charts import draw_once

        draw_once()


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Hold torch, if the tests imported it, to one thread: bits and times then do not depend on the machine's load."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
