"""The inputs of a stage are those that DVC reads, and what changes in them is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from dvc.repo import Repo

from pipeline.experiment import stage_inputs
from pipeline.experiment.stage_inputs import UnrecordedResult, definition, inputs_now
from pipeline.system.yaml_text import parse_yaml
from tests.support import ROOT

GRAPH = """
stages:
  train:
    foreach: ${runs}
    do:
      deps: ["weights/${item.init}.pt", folder]
      params: ["runs.${key}", "profiles.${profile}.rate"]
"""
PARAMS = {"profile": "mini", "rate": "0.1", "other": "1"}


@pytest.fixture(autouse=True)
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a graph, parameters and files."""
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(GRAPH)
    for path in ("weights/zero.pt", "folder/one"):
        Path(path).parent.mkdir()
        Path(path).write_text("first")
    write()


def write(**changes: str) -> None:
    """Write params.yaml with other values than the usual ones."""
    values = PARAMS | changes
    Path("params.yaml").write_text(
        f"profile: {values['profile']}\nruns: {{A: {{init: zero}}}}\n"
        f"profiles: {{mini: {{rate: {values['rate']}}}, paper: {{rate: {values['other']}}}}}\n"
    )


def test_every_stage_has_dvcs_own_parameters_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    values, graph = (parse_yaml(Path(name).read_text()) for name in ("params.yaml", "dvc.yaml"))
    with Repo() as repo:
        for stage in repo.index.stages:
            listed = definition(stage.addressing, graph["stages"], values)
            parameters = [key for dep in stage.deps for key in getattr(dep, "params", ())]
            assert sorted(listed["params"]) == sorted(parameters)
            assert sorted(listed["deps"]) == sorted(str(dep) for dep in stage.deps if not hasattr(dep, "params"))


@pytest.mark.parametrize("changes", [{}, {"other": "2"}, {"profile": "paper"}])
def test_what_the_stage_does_not_depend_on_may_change(changes: dict[str, str]) -> None:
    inputs = inputs_now("train@A")
    write(**changes)
    inputs.check()
    assert not inputs.only_parameters_have_changed()


def test_a_changed_parameter_is_named_with_both_values() -> None:
    inputs = inputs_now("train@A")
    write(rate="0.2")
    with pytest.raises(UnrecordedResult, match=r"profiles\.mini\.rate: 0\.1, now 0\.2\. .* the stage runs again"):
        inputs.check()
    with pytest.raises(UnrecordedResult, match="the finished result is taken over"):
        inputs.check(kept=True)
    assert inputs.only_parameters_have_changed()
    write()
    inputs.check()


@pytest.mark.parametrize("path", ["weights/zero.pt", "folder/one", "folder/two"])
@pytest.mark.parametrize("small", [stage_inputs.SMALL, 0])
def test_a_file_that_was_written_is_named(path: str, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_inputs, "SMALL", small)
    inputs = inputs_now("train@A")
    Path(path).write_text("another")
    with pytest.raises(UnrecordedResult, match=rf"{path.split('/')[0]}\S* has been written"):
        inputs.check()
    write(rate="0.2")
    assert not inputs.only_parameters_have_changed()


def test_parameters_that_cannot_be_read_have_changed() -> None:
    inputs = inputs_now("train@A")
    Path("params.yaml").write_text("{")
    with pytest.raises(UnrecordedResult, match=r"params\.yaml cannot be read now"):
        inputs.check()
