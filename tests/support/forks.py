"""`dvc` and `vgg-repro` in forks of a process that has imported what they need: a call takes tenths of a second."""

from __future__ import annotations

import os
import pickle
import runpy
import shlex
import shutil
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

from pipeline.system.process_lifetime import OWN_DVC

PROGRAM = Path(sys.executable).parent / "vgg-repro"
PRELOADED = [
    *("dvc.cli.parser", "dvc.repo", "dvc.repo.reproduce", "dvc.scm", "dvc.fs.dvc", "dvc.stage.run", "dvc.stage.cache"),
    *("dvc.repo.index", "dvc.repo.plots", "dvc.repo.stage", "networkx", "ruamel.yaml", "scmrepo.git"),
    *("cli.main", "pipeline.orchestration.dvc_graph", "tests.support.drawn_charts", "pydantic.type_adapter", "pytest"),
    *(f"stages.{name}" for name in ("fingerprint", "imported", "prepare", "random", "score", "table", "train")),
    *("torch._dynamo", "torch.utils.serialization", "nvidia.dali.fn", "nvidia.dali.plugin.pytorch", "sklearn.datasets"),
]


def serve() -> Any:
    """Return multiprocessing's context of this process's one fork server, which has imported all that."""
    forks = get_context("forkserver")
    forks.set_forkserver_preload(PRELOADED)
    return forks


def call(folder: Path, words: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Run `dvc`, `vgg-repro` or a script of Python in `folder`; return its exit status and what it has printed."""
    forks = serve()
    with tempfile.NamedTemporaryFile("r", errors="replace") as log:
        child = forks.Process(target=_logged, args=(log.name, folder, words, dict(environment)))
        child.start()
        child.join()
        assert child.exitcode is not None
        return child.exitcode, log.read()


def _logged(log: str, folder: Path, words: Sequence[str], environment: Mapping[str, str]) -> None:
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    _run(folder, words, environment)


def _run(folder: Path, words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Do as a new process with these arguments and variables would."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = list(words)
    sys.exit({"dvc": _dvc, OWN_DVC: _own_dvc, "vgg-repro": _vgg_repro}.get(words[0], _script)())


def _script() -> None:
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")


def _vgg_repro() -> None:
    """The program, whose DVC becomes a fork too."""
    import cli.common
    from cli.main import main
    from tests.support.drawn_charts import draw_once

    draw_once()
    cli.common.subprocess = SimpleNamespace(Popen=_Fork)  # type: ignore[assignment]
    main()


class _Fork:
    """A command in a process of its own, as `subprocess.Popen` has it."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], cwd: Path | str = ".", **_: object) -> None:
        words = command[2:] if command[1] == "-m" else command
        self._child = get_context("fork").Process(target=_run, args=(cwd, words, env))
        self._child.start()

    def wait(self) -> int | None:
        """Wait for its end; return its exit status."""
        self._child.join()
        return self._child.exitcode


def _own_dvc() -> int:
    """DVC as our own commands run it."""
    from pipeline.orchestration.own_dvc import main

    _fork_stages()
    return main()


def _dvc() -> int:
    """DVC's command line."""
    import dvc.cli

    _fork_stages()
    return int(dvc.cli.main())


def _fork_stages() -> None:
    """Make the stages of DVC forks too."""
    import dvc.stage.run

    shell = dvc.stage.run._run

    def run(executable: str, command: str, **options: Any) -> None:
        words, environment = shlex.split(command), options["env"]
        if shutil.which(words[0], path=environment["PATH"]) != str(PROGRAM):  # a stand-in, or another program
            return shell(executable, command, **options)
        if code := _Fork(words, environment, options["cwd"]).wait():
            raise dvc.stage.run.StageCmdFailedError(command, code)

    dvc.stage.run._run = run
    _read_and_write_yaml_in_c()


def _read_and_write_yaml_in_c() -> None:
    """Have DVC parse a text once, and write dvc.lock after each stage by libyaml: the rest of it is slower."""
    from dvc.utils.serialize import _yaml
    from ruamel.yaml import YAML

    parse = _yaml.parse_yaml

    @cache
    def parsed(text: str, path: str) -> bytes:
        return pickle.dumps(parse(text, path))

    def dump(data: Any, stream: TextIO) -> None:
        yaml = YAML(typ="safe")
        yaml.default_flow_style = yaml.sort_base_mapping_type_on_output = False
        yaml.Representer.add_representer(OrderedDict, yaml.Representer.represent_dict)
        yaml.dump(data, stream)

    _yaml.parse_yaml = _yaml.parse_yaml_for_update = lambda text, path: pickle.loads(parsed(text, path))
    _yaml._dump = dump
