"""Export of a run's net: torchvision's state dict, safetensors or ONNX, read back and compared. Not a DVC stage."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.datasets.facts import read_facts
from pipeline.errors import Failure, UsageError
from pipeline.experiment.params import Params
from pipeline.experiment.paths import WEIGHTS, weights
from pipeline.experiment.validation import nearest
from pipeline.published import load_published
from pipeline.published.layer_names import FCS, names
from pipeline.published.pytorch import OURS
from pipeline.system.atomic_files import whole
from pipeline.system.decoders import constraints
from reports.phrases import input_text
from stages.common import build, load_tensors, maker, read_record, save_tensors
from vgg.nets import VGG

ONNX = ("onnx", "onnxruntime", "onnxscript")  # packages that are needed only to write ONNX
TOLERANCE = 1e-4  # relative to the largest score: runtimes sum in different orders
ROOM = (0, 0), (37, 91)  # height and width above the crop of the images that test an ONNX file


def main(params: Params, run: str, file: Path) -> None:
    """Write the finished net of `run` to `file`, in the format of its suffix, and read it back.

    Raise UsageError for an unknown suffix, and Failure if the net that is read back differs; then `file` is not
    written.
    """
    if file.suffix not in WRITERS:
        raise UsageError(f"{file}: unknown output format {file.suffix!r}. {nearest(file.suffix, list(WRITERS))}")
    if file.suffix == ".onnx" and (missing := [name for name in ONNX if find_spec(name) is None]):
        install = f"python -m pip install --constraint {constraints()} --editable '.[onnx]'"
        raise Failure(f"{file}: to write ONNX, install {', '.join(missing)}: {install}")
    if not file.parent.is_dir():
        raise Failure(f"{file} could not be written: there is no folder {file.parent}")
    if file.resolve().is_relative_to(WEIGHTS.resolve()):
        raise UsageError(f"{file} is among the runs' own weights: choose another folder")
    params = params.for_run(run)
    stored = load_tensors(weights(run, params.weights), maker(run, params.weights))
    net = _net(params, run, stored["weights"])
    note: dict[str, Any] = {"run": run, "net": params.runs[run].net, "input": _input(params, stored)}
    if params.weights == "published":
        note["published"] = read_record(run)
    partial = file.with_name(f".partial-{file.name}")
    try:
        WRITERS[file.suffix](params, net, note, partial)
        partial.replace(file)
    except OSError as error:
        raise Failure(f"{file} could not be written: {error.strerror or error}") from None
    except Failure as failure:
        raise Failure(str(failure).replace(str(partial), str(file))) from failure
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    print(f"{file}: net {note['net']} of {run}, read back and compared. Its input: {input_text(note['input'])}")


def _net(params: Params, run: str, values: Mapping[str, Tensor]) -> VGG:
    """Return the run's net with its weights. Raise Failure if they are not of the profile's size."""
    net = build(params, params.runs[run].net, len(values["fc3.bias"]))
    try:
        net.load_state_dict(values)
    except RuntimeError:
        size = f"a net of another size than that of profile {params.profile}"
        raise Failure(f"{weights(run, params.weights)} has {size}") from None
    return net.eval()


def _input(params: Params, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the net's input convention, in the form of published.convention.Convention."""
    if "input" in stored:
        mean, std = stored["input"]["mean_rgb"], stored["input"]["std_rgb"]
    else:
        mean, std = read_facts(params.profile).mean_rgb, [params.active.net.input_scale] * 3
    return {"channels": "RGB", "range": 255.0, "mean": [*mean], "std": [*std]}


def _torchvisions(net: str, values: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Return the weights by torchvision's names, fully connected layers as matrices."""
    state: OrderedDict[str, Tensor] = OrderedDict()  # `OrderedDict[...]()` would pickle that type too
    for ours, theirs in names("torchvision", net).items():
        weight = values[f"{ours}.weight"]
        state[f"{theirs}.weight"] = weight.flatten(1) if ours in FCS else weight
        state[f"{theirs}.bias"] = values[f"{ours}.bias"]
    return state


def _state_dict(params: Params, net: VGG, note: dict[str, Any], file: Path) -> None:
    state = _torchvisions(note["net"], net.state_dict())
    state._metadata = OrderedDict({"": {"version": 1, OURS: json.dumps(note)}})  # type: ignore[attr-defined]
    save_tensors(file, state)
    _compare(params, net, note, file)


def _safetensors(params: Params, net: VGG, note: dict[str, Any], file: Path) -> None:
    from safetensors.torch import save

    tensors = {name: value.contiguous() for name, value in _torchvisions(note["net"], net.state_dict()).items()}
    with whole(file) as opened:
        opened.write(save(tensors, {"format": "pt", OURS: json.dumps(note)}))
    _compare(params, net, note, file)


def _compare(params: Params, net: VGG, note: dict[str, Any], file: Path) -> None:
    """Raise Failure if an import of the file does not give the net, bit for bit, and its input."""
    back, values = load_published(file, note["net"], params.active.net), net.state_dict()
    same = back.convention.as_dict() == note["input"] and set(back.weights) == set(values)
    if not same or any(not np.array_equal(back.weights[name], value.numpy()) for name, value in values.items()):
        raise Failure(f"{file} does not contain what was written: check the disk")


def _onnx(params: Params, net: VGG, note: dict[str, Any], file: Path) -> None:
    ceil = params.active.score.remainder == "ceil"  # as dense evaluation
    _write_onnx(net, params.active.net.crop, ceil, note, file)
    _compare_onnx(net, params.active.net.crop, ceil, file)


def _write_onnx(net: VGG, crop: int, ceil: bool, note: dict[str, Any], file: Path) -> None:
    """Write the net from normalised images (N, 3, H, W) to score maps (N, K, h, w); only channels have a fixed size."""
    import onnx

    sizes = {0: torch.export.Dim("images"), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    image = torch.zeros(2, 3, crop + 64, crop + 32)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net, (image, None, ceil), dynamo=True, input_names=["images"], output_names=["scores"],
            dynamic_shapes=(sizes, None, None), verbose=False,
        )  # fmt: skip
    model = program.model_proto if program else None
    if model is None:
        raise Failure("torch could not convert the net to ONNX")
    onnx.helper.set_model_props(model, {OURS: json.dumps(note)})
    with whole(file) as opened:
        opened.write(model.SerializeToString())


def _compare_onnx(net: VGG, crop: int, ceil: bool, file: Path) -> None:
    """Raise Failure if ONNX Runtime does not compute the net's scores, at two sizes of random images."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for height, width in ROOM:
        image = torch.randn(1, 3, crop + height, crop + width)
        with torch.inference_mode():
            expected = net(image, ceil=ceil).numpy()
        (scores,) = session.run(None, {"images": image.numpy()})
        if scores.shape != expected.shape or not np.abs(scores - expected).max() <= TOLERANCE * np.abs(expected).max():
            raise Failure(f"ONNX Runtime computes different scores from {file} than torch")


Writer = Callable[[Params, VGG, dict[str, Any], Path], None]
WRITERS: dict[str, Writer] = {".pth": _state_dict, ".pt": _state_dict, ".safetensors": _safetensors, ".onnx": _onnx}
