"""The run as linked data: the ro-crate-metadata.json of a bundle, by the Workflow Run RO-Crate profiles 0.5.

The workflow is dvc.yaml, run by DVC. Each stage is an action with its inputs, outputs and parameters as dvc.lock has
recorded them, and with the software, the machine and the time of its provenance. What is not recorded is not there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pipeline.experiment.modes import MODES
from pipeline.experiment.paper_tables import TITLES
from pipeline.experiment.paths import PARAMS, reported, results
from pipeline.experiment.run_names import work_of
from pipeline.results.bundle import CITATION, GRAPH, README
from pipeline.results.bundle_file import TIME, Packed
from pipeline.results.lock_file import LockFile
from pipeline.results.profile_results import Results
from pipeline.system.atomic_files import json_text
from pipeline.system.yaml_text import flattened, parse_yaml

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

CRATE = "1.1"  # the version of RO-Crate that the profiles below extend
RUN_PROFILES = ("process", "workflow", "provenance")
RUN_VERSION = "0.5"
WORKFLOW_CRATE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
FORMATS = {
    ".json": "application/json", ".csv": "text/csv", ".npz": "application/zip", ".yaml": "application/yaml",
    ".lock": "application/yaml", ".cff": "application/yaml", ".md": "text/markdown", ".png": "image/png",
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp",
}  # fmt: skip
TYPES = {bool: "Boolean", int: "Integer", float: "Float", str: "Text", type(None): "Text"}
RUN = "#run"  # the action of the whole workflow
Properties = Mapping[str, Any]


def run_crate(found: Results, about: str, packed: Mapping[str, Packed]) -> bytes:
    """Return the metadata of a bundle with the files `packed`; `about` says what was run on what.

    Equal results give equal bytes.
    """
    return json_text(_Builder(found, about, packed, LockFile(found.profile)).graph()).encode()


@dataclass
class _Builder:
    found: Results
    about: str
    packed: Mapping[str, Packed]
    lock: LockFile
    crate: ROCrate = field(init=False)
    citation: Mapping[str, Any] = field(init=False)  # CITATION.cff
    times: list[datetime] = field(default_factory=list)  # starts and ends of the stages
    files: dict[tuple[str, str], str] = field(default_factory=dict)  # path and MD5 of a recorded file to its id

    def graph(self) -> dict[str, Any]:
        """Return the metadata as plain values."""
        from rocrate.rocrate import ROCrate

        self.crate, self.citation = ROCrate(version=CRATE), _citation()
        self.crate.metadata.extra_contexts.append(TERMS)
        for path, file in self.packed.items():
            self._add_file(path, file)
        recorded = self._recorded()
        stages = [*recorded, *(stage for stage in self.found.paths if stage not in recorded)]
        actions = [self._add_stage(stage) for stage in stages]
        for position, stage in enumerate(recorded):
            self.crate.get(f"#step-{quote(stage)}")["position"] = str(position)
        self._add_workflow(stages, actions)
        self._add_root(actions)
        values: dict[str, Any] = self.crate.metadata.generate()
        return values

    def _add(self, identifier: str, kind: str, /, **properties: Any) -> dict[str, str]:
        """Add an entity unless there is one of this id. Return a reference to it."""
        from rocrate.model.contextentity import ContextEntity

        known = {name: _single(value) for name, value in properties.items() if value not in (None, [], "")}
        if not self.crate.get(identifier):
            self.crate.add(ContextEntity(self.crate, identifier, properties={"@type": kind, **known}))
        return {"@id": identifier}

    def _add_file(self, path: str, file: Packed) -> None:
        kind: Any = "File"
        more: dict[str, Any] = {"name": path, "encodingFormat": FORMATS[Path(path).suffix]}
        if path == str(GRAPH):
            kind = ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"]
        if path == README:
            more["about"] = {"@id": "./"}
        more |= {"@type": kind, "contentSize": str(file.size), "sha256": file.sha256}
        self.crate.add_file(None, path, properties=more)

    def _recorded(self) -> list[str]:
        """Return the shown stages that dvc.lock has, and those that made what they were made from, in order."""
        shown = {stage for stage in self.found.paths if self._is_recorded(stage)}
        makers = {(out["path"], out.get("md5")): stage for stage, outs in self._outs() for out in outs}
        order, todo, wanted = TopologicalSorter[str](), sorted(shown), set(shown)
        while todo:
            stage = todo.pop()
            needed = sorted(set(self._makers_of(stage, makers, shown)))
            order.add(stage, *needed)
            todo += [maker for maker in needed if maker not in wanted]
            wanted |= set(needed)
        return list(order.static_order())

    def _makers_of(self, stage: str, makers: Mapping[tuple[str, str | None], str], shown: set[str]) -> Iterator[str]:
        """Yield the stages that made the inputs of `stage`; of a folder's files, those that are `shown`."""
        for dep in self.lock.stages[stage].get("deps", ()):
            if (key := (dep["path"], dep.get("md5"))) in makers:
                yield makers[key]
            inside = (maker for (path, _), maker in makers.items() if path.startswith(f"{dep['path']}/"))
            yield from (maker for maker in inside if maker in shown)

    def _outs(self) -> Iterator[tuple[str, Sequence[Any]]]:
        yield from ((stage, record.get("outs", ())) for stage, record in self.lock.stages.items())

    def _is_recorded(self, stage: str) -> bool:
        """Return True if dvc.lock has made the very result that is shown."""
        outs = self.lock.stages.get(stage, {}).get("outs", ())
        return any(self.lock.made(stage, Path(out["path"]), self.found.paths[stage]) for out in outs)

    def _add_stage(self, stage: str) -> dict[str, str]:
        """Add a stage's action, with all that it refers to."""
        record = self.lock.stages.get(stage, {}) if self._counts(stage) else {}
        made = self.found.known_provenance.get(stage) or {}
        command = _command(stage, record)
        tool = self._add_tool(command, made)
        inputs = [self._add_recorded(dep) for dep in record.get("deps", ())]
        shown = self.found.paths.get(stage)
        outputs = [self._add_recorded(out) for out in record.get("outs", ())]
        start, end = _times(made)
        self.times += [time for time in (start, end) if time]
        self._add(
            f"#run-{quote(stage)}",
            "CreateAction",
            name=f"Run of stage {stage}",
            description=record.get("cmd", f"vgg-repro stage {command}"),
            instrument=tool,
            object=[*inputs, *self._parameters(stage, bool(record))],
            result=outputs or [{"@id": quote(str(shown))}],
            startTime=start and start.isoformat(),
            endTime=end and end.isoformat(),
            location=self._add_machine(made) if made else None,
        )
        self._add(f"#step-{quote(stage)}", "HowToStep", name=stage, workExample=tool)
        return {"@id": f"#run-{quote(stage)}"}

    def _counts(self, stage: str) -> bool:
        """Return True if what dvc.lock has of a stage belongs to these results."""
        return stage not in self.found.paths or self._is_recorded(stage)

    def _add_recorded(self, file: Properties) -> dict[str, str]:
        """Add a file that dvc.lock has recorded: one of the bundle, or one that is not in it."""
        path, md5 = file["path"], str(file.get("md5", ""))
        if (path, md5) not in self.files:
            self.files[path, md5] = self._in_bundle(path, md5) or self._elsewhere(path, md5, file.get("size"))
        return {"@id": self.files[path, md5]}

    def _in_bundle(self, path: str, md5: str) -> str:
        """Return the id of a file of the bundle with this content, under its own name or as a copy; else nothing."""
        copies = [Path(path)]
        if path.startswith(("data/", "weights/", "scores/")):
            copies.append(reported(self.found.profile, Path(path)))
        for copy in copies:
            if copy.as_posix() in self.packed and copy.is_file() and _md5(copy) == md5:
                if copy != Path(path):
                    self.crate.get(quote(copy.as_posix()))["alternateName"] = path
                return quote(copy.as_posix())
        return ""

    def _elsewhere(self, path: str, md5: str, size: int | None) -> str:
        identifier = f"#file-{quote(path)}-{md5}"
        size_text = None if size is None else str(size)
        words = "Not in this archive"
        self._add(identifier, "CreativeWork", name=path, description=words, identifier=f"md5:{md5}", size=size_text)
        return identifier

    def _parameters(self, stage: str, is_recorded: bool) -> Iterator[dict[str, str]]:
        """Yield the parameters of a recorded stage, each a value of a formal parameter of the workflow."""
        for key, value in sorted(flattened(self.lock.values(stage)) if is_recorded else ()):
            text = json.dumps(value)
            slot = self._add(f"#parameter-{quote(key)}", "FormalParameter", name=key, additionalType=_type(value))
            digest = hashlib.sha256(text.encode()).hexdigest()[:12]
            shown = value if isinstance(value, str) else text
            yield self._add(f"#value-{quote(key)}-{digest}", "PropertyValue", name=key, value=shown, exampleOfWork=slot)

    def _add_tool(self, command: str, made: Properties) -> dict[str, str]:
        """Add the command that a stage runs, in the versions of its provenance."""
        versions = made.get("versions", {})
        state = f"{versions.get('vgg-repro', '')} {made.get('commit', '')}".strip()
        needed = [self._add_package(name, number) for name, number in {**versions, **_python(made)}.items()]
        digest = hashlib.sha256(json.dumps([state, sorted(versions.items()), _python(made)]).encode()).hexdigest()[:12]
        return self._add(
            f"#tool-{quote(command.replace(' ', '-'))}-{digest}",
            "SoftwareApplication",
            name=f"vgg-repro stage {command}",
            url=self.citation.get("repository-code"),
            softwareVersion=versions.get("vgg-repro"),
            identifier=f"commit {made['commit']}" if made else None,
            softwareRequirements=[package for package in needed if "vgg-repro" not in package["@id"]],
        )

    def _add_package(self, name: str, number: str) -> dict[str, str]:
        place = "https://www.python.org/" if name == "python" else f"https://pypi.org/project/{name}/"
        identifier = f"{place}downloads/release/{number}" if name == "python" else f"{place}{number}/"
        return self._add(identifier, "SoftwareApplication", name=name, url=place, softwareVersion=number)

    def _add_machine(self, made: Properties) -> dict[str, str]:
        used = f"device {made['device']}, {made['processes']} processes of {made['threads']} threads"
        digest = hashlib.sha256(f"{made['machine']}; {used}".encode()).hexdigest()[:12]
        return self._add(f"#machine-{digest}", "Place", name=made["machine"], description=used)

    def _add_workflow(self, stages: Sequence[str], actions: Sequence[Properties]) -> None:
        """Add what the workflow consists of, its run, and the run of DVC."""
        workflow, entities = self.crate.get(str(GRAPH)), list(self.crate.get_entities())
        steps = [self.crate.get(f"#step-{quote(stage)}") for stage in stages]
        workflow["name"] = "The reproduction's stages, in the order of the paper"
        if url := self.citation.get("repository-code"):
            workflow["url"] = url
        workflow["programmingLanguage"] = self._add(
            "https://dvc.org/", "ComputerLanguage", name="DVC pipeline", url="https://dvc.org/"
        )
        workflow["step"] = [{"@id": step.id} for step in steps]
        workflow["hasPart"] = list({step["workExample"].id: {"@id": step["workExample"].id} for step in steps}.values())
        workflow["input"] = [{"@id": entity.id} for entity in entities if entity.type == "FormalParameter"]
        values = [{"@id": entity.id} for entity in entities if entity.type == "PropertyValue"]
        tables = [name for name in self.packed if Path(name).parent == results(self.found.profile)]
        first, last = (min(self.times), max(self.times)) if self.times else (None, None)
        self._add(
            RUN,
            "CreateAction",
            name=f"Reproduction with profile {self.found.profile}",
            description=self.about,
            instrument={"@id": str(GRAPH)},
            object=[{"@id": str(PARAMS)}, *values],
            result=[{"@id": quote(name)} for name in tables],
            startTime=first and first.isoformat(),
            endTime=last and last.isoformat(),
        )
        controls = [
            self._add(
                f"#control-{quote(stage)}",
                "ControlAction",
                name=f"DVC runs stage {stage}",
                instrument={"@id": step.id},
                object=action,
            )
            for stage, step, action in zip(stages, steps, actions, strict=True)
        ]
        engines = [entity.id for entity in entities if entity.id.startswith("https://pypi.org/project/dvc/")]
        engine = {"@id": engines[0]} if engines else self._add("#dvc", "SoftwareApplication", name="DVC")
        self._add(
            "#engine", "OrganizeAction", name="Run of DVC", instrument=engine, object=controls, result={"@id": RUN}
        )

    def _add_root(self, actions: Sequence[Properties]) -> None:
        root, cited = self.crate.root_dataset, self.citation
        profiles = [f"https://w3id.org/ro/wfrun/{name}/{RUN_VERSION}" for name in RUN_PROFILES]
        conforms = [
            self._add(identifier, "CreativeWork", name=f"{name.capitalize()} Run Crate", version=RUN_VERSION)
            for name, identifier in zip(RUN_PROFILES, profiles, strict=True)
        ]
        conforms.append(self._add(WORKFLOW_CRATE, "CreativeWork", name="Workflow RO-Crate", version="1.0"))
        root["name"] = f"Results of {cited.get('title', 'vgg-repro')}, profile {self.found.profile}"
        root["description"] = self.about
        root["datePublished"] = (max(self.times) if self.times else datetime(*TIME)).date().isoformat()
        root["conformsTo"] = conforms
        root["mainEntity"] = {"@id": str(GRAPH)}
        root["mentions"] = [{"@id": RUN}, {"@id": "#engine"}, *actions]
        root["license"] = self._license(cited)
        root["author"] = _single([self._author(author) for author in cited.get("authors", ())])
        if paper := cited.get("preferred-citation"):
            authors = [self._author(author) for author in paper.get("authors", ())]
            root["citation"] = self._add(
                paper["url"], "ScholarlyArticle", name=paper["title"], author=authors, datePublished=str(paper["year"])
            )
        self.crate.metadata["conformsTo"] = [{"@id": f"https://w3id.org/ro/crate/{CRATE}"}, {"@id": WORKFLOW_CRATE}]

    def _license(self, cited: Properties) -> Any:
        """Return the licence that CITATION.cff names, by its SPDX identifier; words if it names none."""
        if "license" not in cited:
            return f"{CITATION} names no licence: ask the authors"
        name = cited["license"]
        return self._add(f"https://spdx.org/licenses/{name}", "CreativeWork", name=name, description=f"Licence {name}")

    def _author(self, author: Properties) -> dict[str, str]:
        person = "family-names" in author
        name = f"{author.get('given-names', '')} {author['family-names']}".strip() if person else author["name"]
        identifier = author.get("orcid") or f"#author-{quote(name)}"
        return self._add(identifier, "Person" if person else "Organization", name=name)


def _single(value: Any) -> Any:
    """Return the value of a list of one, as RO-Crate asks for."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _command(stage: str, record: Properties) -> str:
    """Return what a stage runs, without the item: train, score dense, table."""
    words = str(record.get("cmd", "")).split()[2:]
    work, _ = work_of(stage)
    if work in MODES:
        return f"score {work}"
    return words[0] if words else "table" if stage in TITLES else work


def _times(made: Properties) -> tuple[datetime | None, datetime | None]:
    if "started" not in made:
        return None, None
    start = datetime.fromisoformat(made["started"])
    return start, start + timedelta(seconds=round(made["seconds"]))


def _python(made: Properties) -> dict[str, str]:
    return {"python": made["python"]} if made else {}


def _type(value: Any) -> str:
    return TYPES.get(type(value), "PropertyValue")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _citation() -> dict[str, Any]:
    values: dict[str, Any] = parse_yaml(CITATION.read_text()) if CITATION.exists() else {}
    return values
