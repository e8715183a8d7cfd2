"""The metadata of a bundle: read back by rocrate, and what the Workflow Run RO-Crate profiles 0.5 require."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from rocrate.rocrate import ROCrate

from pipeline.experiment.paths import provenance_record
from pipeline.system.atomic_files import write_json
from tests.support import ROOT
from tests.support.program import program

WFRUN = "https://w3id.org/ro/wfrun"
Entity = dict[str, Any]


def make(folder: Path, profile: str) -> Path:
    """Return a bundle of committed results, with the provenance of mini as if it had been recorded here."""
    clone = folder / "clone"
    shutil.copytree(ROOT / "reports" / profile, clone / "reports" / profile)
    for name in ("params.yaml", "dvc.lock", "dvc.yaml", "CITATION.cff"):
        shutil.copyfile(ROOT / name, clone / name)
    for stage, record in json.loads((clone / f"reports/{profile}/provenance.json").read_text()).items():
        write_json(clone / provenance_record(stage), record)
    done = program(clone, "bundle", str(folder / "results.zip"), "--profile", profile)
    assert done.code == 0, done.error
    return folder / "results.zip"


@pytest.fixture(scope="module", params=["mini", "evening"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of mini, whose stages dvc.lock has, and of evening, whose stages it has not."""
    return make(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def graph(bundle: Path) -> dict[str, Entity]:
    """The entities of the metadata by their ids."""
    with zipfile.ZipFile(bundle) as archive:
        entities = json.loads(archive.read("ro-crate-metadata.json"))["@graph"]
    by_id = {entity["@id"]: entity for entity in entities}
    assert len(by_id) == len(entities), "an id is there twice"
    return by_id


def listed(value: Any) -> list[Any]:
    """Return a value as a list."""
    return [] if value is None else value if isinstance(value, list) else [value]


def references(entity: Entity, name: str) -> list[str]:
    """Return the ids that a property refers to."""
    return [value["@id"] for value in listed(entity.get(name))]


def of_type(graph: dict[str, Entity], kind: str) -> list[Entity]:
    """Return the entities of a type."""
    return [entity for entity in graph.values() if kind in listed(entity["@type"])]


def every_reference(entities: Iterable[Entity]) -> set[str]:
    """Return all ids that entities refer to."""
    values = [value for entity in entities for properties in entity.values() for value in listed(properties)]
    return {value["@id"] for value in values if isinstance(value, dict)}


def test_rocrate_reads_it_back(bundle: Path) -> None:
    crate = ROCrate(bundle)
    assert crate.mainEntity.id == "dvc.yaml" and crate.name.startswith("Results of vgg-repro, profile ")
    assert "networks were trained on" in crate.description
    assert {action.type for action in crate.root_dataset["mentions"]} == {"CreateAction", "OrganizeAction"}
    with zipfile.ZipFile(bundle) as archive:
        files = set(archive.namelist()) - {"ro-crate-metadata.json", "bundle.json"}
    assert len(crate.data_entities) == len(files)


def test_the_root_conforms_to_the_profiles(graph: dict[str, Entity]) -> None:
    root, descriptor = graph["./"], graph["ro-crate-metadata.json"]
    profiles = [f"{WFRUN}/{name}/0.5" for name in ("process", "workflow", "provenance")]
    crate = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
    assert references(root, "conformsTo") == [*profiles, crate]
    assert all(graph[name]["@type"] == "CreativeWork" and graph[name]["version"] for name in (*profiles, crate))
    assert references(descriptor, "conformsTo") == ["https://w3id.org/ro/crate/1.1", crate]
    assert references(root, "author") == ["#author-The%20vgg-repro%20authors"]
    assert root["license"] == "CITATION.cff names no licence: ask the authors"
    assert graph[references(root, "citation")[0]]["name"].startswith("Very Deep Convolutional Networks")
    times = [time for entity in graph.values() for time in (entity.get("startTime"), entity.get("endTime")) if time]
    assert root["datePublished"] == max(times)[:10]


def test_every_reference_leads_somewhere_and_every_file_is_listed(bundle: Path, graph: dict[str, Entity]) -> None:
    known = {"https://w3id.org/ro/crate/1.1"}
    assert every_reference(graph.values()) - graph.keys() == known
    files = {unquote(entity["@id"]): entity for entity in of_type(graph, "File")}
    assert {entity["@id"] for entity in files.values()} == set(references(graph["./"], "hasPart"))
    with zipfile.ZipFile(bundle) as archive:
        sizes = {info.filename: str(info.file_size) for info in archive.infolist()}
    assert files.keys() == sizes.keys() - {"ro-crate-metadata.json", "bundle.json"}
    assert all(entity["contentSize"] == sizes[name] for name, entity in files.items())


def test_the_workflow_has_steps_and_tools(graph: dict[str, Entity]) -> None:
    workflow = graph["dvc.yaml"]
    assert {"File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"} == set(workflow["@type"])
    steps = [graph[name] for name in references(workflow, "step")]
    assert len(steps) > 40 and all(step["@type"] == "HowToStep" for step in steps)
    tools = references(workflow, "hasPart")
    assert {tool for step in steps for tool in references(step, "workExample")} == set(tools)
    assert all(graph[tool]["@type"] == "SoftwareApplication" and graph[tool]["name"] for tool in tools)
    assert all(graph[name]["additionalType"] for name in references(workflow, "input"))
    assert graph[references(workflow, "programmingLanguage")[0]]["@type"] == "ComputerLanguage"


def test_each_stage_is_an_action_that_dvc_controls(graph: dict[str, Entity]) -> None:
    engine, run = graph["#engine"], graph["#run"]
    assert engine["@type"] == "OrganizeAction" and references(engine, "result") == ["#run"]
    assert graph[references(engine, "instrument")[0]]["name"].lower() == "dvc"
    assert references(run, "instrument") == ["dvc.yaml"] and run["startTime"] <= run["endTime"]
    controls = [graph[name] for name in references(engine, "object")]
    assert len(controls) == len(of_type(graph, "HowToStep")) == len(of_type(graph, "ControlAction"))
    for control in controls:
        step, (action,) = graph[references(control, "instrument")[0]], references(control, "object")
        assert step["@type"] == "HowToStep" and graph[action]["@type"] == "CreateAction"
        assert references(graph[action], "instrument") == references(step, "workExample")
        assert references(graph[action], "result") and action in references(graph["./"], "mentions")


def test_values_realise_parameters(graph: dict[str, Entity]) -> None:
    for value in of_type(graph, "PropertyValue"):
        (slot,) = references(value, "exampleOfWork")
        assert graph[slot]["name"] == value["name"] and graph[slot]["@type"] == "FormalParameter"


def test_a_stage_that_is_recorded_has_inputs_parameters_software_machine_and_time(tmp_path: Path) -> None:
    with zipfile.ZipFile(make(tmp_path, "mini")) as archive:
        graph = {entity["@id"]: entity for entity in json.loads(archive.read("ro-crate-metadata.json"))["@graph"]}
    action = graph["#run-train%40D-256"]
    inputs = [graph[name] for name in references(action, "object")]
    files = {entity["name"]: entity for entity in inputs if entity["@type"] != "PropertyValue"}
    assert files.keys() == {"data/classification/statistics.json", "weights/trained/A-256.pt"}
    assert files["weights/trained/A-256.pt"]["description"] == "Not in this archive"
    values = {entity["name"]: entity["value"] for entity in inputs if entity["@type"] == "PropertyValue"}
    assert values["train.batch"] == "16" and values["runs.D-256.init"] == "A-256"
    made = json.loads((ROOT / "reports/mini/provenance.json").read_text())["train@D-256"]
    assert action["startTime"] == made["started"] and action["endTime"] > action["startTime"]
    assert graph[references(action, "location")[0]]["name"] == made["machine"]
    tool = graph[references(action, "instrument")[0]]
    assert tool["name"] == "vgg-repro stage train" and tool["identifier"] == f"commit {made['commit']}"
    needed = [graph[name] for name in references(tool, "softwareRequirements")]
    packages = {(package["name"], package["softwareVersion"]) for package in needed}
    assert {("torch", made["versions"]["torch"]), ("python", made["python"])} <= packages
    results = {graph[name].get("alternateName", graph[name]["name"]) for name in references(action, "result")}
    assert results == {f"weights/trained/D-256.{kind}" for kind in ("pt", "json", "csv")}
    assert "reports/mini/runs/D-256.json" in references(action, "result")
    order = {entity["name"]: int(entity["position"]) for entity in graph.values() if entity["@type"] == "HowToStep"}
    chain = ("fingerprint", "prepare", "random@A", "train@A-256", "train@D-256", "dense@D-256", "table3", "claims")
    assert [order[stage] for stage in chain] == sorted(order[stage] for stage in chain)


def test_a_stage_comes_after_all_that_made_a_folder_of_its_inputs(tmp_path: Path) -> None:
    make(tmp_path, "mini")
    lock = tmp_path / "clone/dvc.lock"
    values = yaml.safe_load(lock.read_text())
    values["stages"]["centre@B-256"]["deps"].append({"path": "weights/trained", "md5": "0.dir"})
    lock.write_text(yaml.safe_dump(values, sort_keys=False))
    assert program(tmp_path / "clone", "bundle", "folder.zip").code == 0
    with zipfile.ZipFile(tmp_path / "clone/folder.zip") as archive:
        entities = json.loads(archive.read("ro-crate-metadata.json"))["@graph"]
    order = {step["name"]: int(step["position"]) for step in entities if step["@type"] == "HowToStep"}
    assert order["centre@B-256"] > max(order[stage] for stage in order if stage.startswith("train@"))


def test_equal_results_give_equal_metadata(bundle: Path, tmp_path: Path) -> None:
    again = make(tmp_path, "mini" if "mini" in str(bundle) else "evening")
    assert again.read_bytes() == bundle.read_bytes()


def test_the_licence_and_people_of_the_citation_are_named(tmp_path: Path) -> None:
    make(tmp_path, "mini")
    clone = tmp_path / "clone"
    with (clone / "CITATION.cff").open("a") as file:
        file.write("license: MIT\nrepository-code: https://example.org/vgg-repro\n")
    assert program(clone, "bundle", "licensed.zip").code == 0
    crate = ROCrate(clone / "licensed.zip")
    assert crate.root_dataset["license"].id == "https://spdx.org/licenses/MIT"
    assert crate.mainEntity["url"] == "https://example.org/vgg-repro"
    authors = [author["name"] for author in crate.root_dataset["citation"]["author"]]
    assert authors == ["Karen Simonyan", "Andrew Zisserman"]


def test_without_any_time_the_date_is_that_of_the_zip(tmp_path: Path) -> None:
    make(tmp_path, "mini")
    clone = tmp_path / "clone"
    shutil.rmtree(clone / "provenance")
    (clone / "reports/mini/provenance.json").unlink()
    (clone / "CITATION.cff").unlink()
    assert program(clone, "bundle", "bare.zip").code == 0
    crate = ROCrate(clone / "bare.zip")
    assert crate.datePublished.date().isoformat() == "1980-01-01"
