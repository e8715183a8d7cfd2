"""Stage import: a published net's file as the weights of a run, with a record of where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pipeline.datasets.facts import read_facts
from pipeline.errors import Failure
from pipeline.experiment.params import Import, Params
from pipeline.experiment.paths import CLASSIFICATION, record, weights
from pipeline.experiment.targets import check_imported
from pipeline.published import ConvertedWeights, InputOverride, load_published
from pipeline.published.class_map import is_as_given
from pipeline.published.conversion import OtherNet, OtherShape
from pipeline.published.hub_folder import weight_files
from pipeline.published.known_files import hashes, misnamed, recognised
from pipeline.system.atomic_files import sha256, write_json
from reports.page import plain_text
from reports.phrases import published_net
from stages.common import save_tensors


def main(params: Params, name: str) -> None:
    """Import the run `name` from its file in `imports`. Raise Failure, with the reason, if the file does not fit."""
    converted = read_published(params, name)
    net, file = params.runs[name].net, Path(params.imports[name].file)
    values = {key: torch.from_numpy(value) for key, value in converted.weights.items()}
    net_input = {"mean_rgb": [*converted.mean_rgb], "std_rgb": [*converted.std_rgb]}
    stored = {"net": net, "weights": values, "input": net_input, "classes": [*converted.classes]}
    save_tensors(weights(name, "published"), stored)
    origin = _record(params, name, file, converted)
    write_json(record(name), origin)
    if converted.unused:
        print(f"{name}: the file also has {', '.join(converted.unused)}, which is not used; to use it, save it alone")
    if why := misnamed(file.name, origin["sha256"]):
        print(f"{name}: warning: {why}")
    print(f"{name}: net {net}, {origin['outputs']:,} classes ({converted.kind}), {plain_text(published_net(origin))}")


def read_published(params: Params, name: str) -> ConvertedWeights:
    """Return the published net of the run `name`, from its file in `imports`."""
    row, net = check_imported(params, name), params.runs[name].net
    try:
        return load_published(Path(row.file), net, params.active.net, input_override(row))
    except OtherNet as reason:
        fitting = [run for run, values in params.runs.items() if values.net in reason.nets]
        raise Failure(f"{reason}: import it as {' or '.join(fitting)}" if fitting else str(reason)) from None
    except OtherShape as reason:
        if params.active.net.full_size:
            raise
        raise Failure(
            f"{reason}. The nets of profile {params.profile} are narrower than the paper's, which published weights "
            "need: vgg-repro prepare --profile published --path FOLDER"
        ) from None


def other_outputs(params: Params, name: str, outputs: int) -> str:
    """Return what to do if a net has other outputs than the prepared images have classes, or an empty string."""
    if not CLASSIFICATION.facts(params.profile).exists():
        return ""
    classes = len(read_facts(params.profile).classes)
    if classes == outputs:
        return ""
    text = f"{name}: the prepared images have {classes:,} classes, but this net has {outputs:,} outputs"
    if classes > outputs:
        return text
    return (
        f"{text}. To use only the outputs of these classes, import it with --class-map FILE: one line per output, with "
        "the WordNet id of its class, or - for an output that is none of them (docs/published-nets.md)"
    )


def input_override(row: Import) -> InputOverride:
    """Return the input that a row of `imports` gives for its file. Raise Failure if its class map has changed."""
    if not is_as_given(row):
        raise Failure(
            f"the class map {row.class_map} is missing or has changed since the import: import the net again with it"
        )
    path = Path(row.class_map) if row.class_map else None
    return InputOverride(row.channels, row.range, row.mean, row.std, path)


def _record(params: Params, name: str, file: Path, converted: ConvertedWeights) -> dict[str, Any]:
    files = weight_files(file)
    sums = hashes(files)
    known_file, row = recognised(sums), params.imports[name]
    overridden = [key for key in ("channels", "range", "mean", "std") if getattr(row, key) is not None]
    return {
        "run": name,
        "net": params.runs[name].net,
        "file": file.name if files == [file] else f"{file.name}/{files[0].name}",
        "bytes": sum(part.stat().st_size for part in files),
        **sums,
        "known": known_file._asdict() if known_file else None,
        "kind": converted.kind,
        "exported": converted.exported,
        "input": converted.convention.as_dict(),
        "input_given": overridden,
        "outputs": len(converted.weights["fc3.bias"]),
        "classes": [*converted.classes],
        "class_map": Path(row.class_map).name if row.class_map else None,
        "weights_sha256": sha256(weights(name, "published")),
    }
