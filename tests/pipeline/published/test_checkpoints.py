"""Checkpoints as training scripts write them: prefixes of names, and whatever else is in the file."""

from __future__ import annotations

import argparse
import io
import re
import zipfile
from collections import OrderedDict, defaultdict, deque
from functools import partial
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import Failure
from pipeline.published import load_published
from tests.support import foreign_files
from tests.support.cases import case
from tests.support.foreign_files import State
from tests.support.net_outputs import NARROW, SIZE, check_outputs, drawn

CLOSE = 1e-5


def prefixed(state: State, prefix: str) -> State:
    """All names with a prefix."""
    return OrderedDict((prefix + name, value) for name, value in state.items())


def in_features(state: State, word: str) -> State:
    """The names with a word behind features."""
    return foreign_files.prefixed(state, "features.", f"features.{word}.")


class Settings:
    """An object of a class that only the script that made it has."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.loaded = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise AssertionError("the class of the checkpoint was run")


def schedule(step: int) -> float:
    """A function that a checkpoint refers to by its name."""
    raise AssertionError("a function of the checkpoint was run")


PREFIXES = (
    "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "backbone.", "net.", "encoder.vgg.",
    "student.model.", "_fsdp_wrapped_module.", "timm_model.", "classifier.", "features.", "a-b c.",
)  # fmt: skip


def test_a_prefix_that_all_names_share_is_stripped(tmp_path: Path, rng: np.random.Generator) -> None:
    theirs = drawn("A", "torchvision", rng, width=1 / 32, fc=5)
    state, path = theirs.state_dict(), tmp_path / "published"
    path.write_bytes(foreign_files.torch_file(state))
    plain = load_published(path, "A", NARROW)
    changed = {prefix: prefixed(state, prefix) for prefix in PREFIXES}
    changed |= {f"features.{word}": in_features(state, word) for word in ("module", "_orig_mod", "module._orig_mod")}
    changed["both"] = prefixed(in_features(state, "module"), "model._orig_mod.")
    timms, ours = foreign_files.with_timms_names(state), foreign_files.with_our_names(foreign_files.layers(theirs))
    for what, content in changed.items():
        for write in (foreign_files.torch_file, foreign_files.safetensors_file):
            path.write_bytes(write(content))
            with case(what):
                imported = load_published(path, "A", NARROW)
                assert imported.kind == "torchvision"
                assert all(np.array_equal(value, plain.weights[name]) for name, value in imported.weights.items())
    path.write_bytes(foreign_files.safetensors_file(prefixed(timms, "timm_model.")))
    assert load_published(path, "A", NARROW).kind == "timm"
    path.write_bytes(foreign_files.torch_file(prefixed(ours, "net.")))
    with pytest.raises(Failure, match="--mean"):  # recognised, but our names do not say the input
        load_published(path, "A", NARROW)


def others() -> dict[str, Any]:
    """What people keep beside a state dict."""
    weight = torch.zeros(3, 3)
    optimizer = torch.optim.SGD([nn.Parameter(weight)], lr=0.1, momentum=0.9)
    return {
        "epoch": 90, "arch": "vgg16", "best_acc1": torch.tensor(71.5), "best_prec1": np.float64(71.5),
        "history": np.arange(5), "args": argparse.Namespace(model="vgg16", lr=0.01), "path": PurePosixPath("/tmp/x"),
        "optimizer": optimizer.state_dict(), "scheduler": {"last_epoch": 90, "lambda": schedule},
        "settings": Settings({"a": [1, Settings({})]}),
        "counts": defaultdict(list, {1: [2]}), "window": deque([1.5, 2.5], 20), "more": SimpleNamespace(x=1),
        "hook": partial(schedule, 3), "sampler": {"weights": torch.rand(7)}, "rng": torch.get_rng_state(),
    }  # fmt: skip


def test_other_content_is_neither_run_nor_in_the_way(tmp_path: Path, rng: np.random.Generator) -> None:
    theirs = drawn("D", "torchvision", rng)
    state, path = theirs.state_dict(), tmp_path / "checkpoint.pth.tar"
    whole = {"n_averaged": torch.tensor(7), **prefixed(state, "module.")}
    more = others()
    for what, content in {
        "state_dict": {**more, "state_dict": state}, "model": {"model": state, **more}, "net": {**more, "net": state},
        "deep": {"trainer": {**more, "modules": {"backbone": state}}}, "beside": {**state, **more},
        "counter": whole, "Lightning's": {"state_dict": prefixed(state, "model."), "hyper_parameters": more},
    }.items():  # fmt: skip
        for legacy in (False, True):
            path.write_bytes(foreign_files.torch_file(content, legacy))
            with case((what, legacy)):
                check_outputs(load_published(path, "D", SIZE), "D", theirs, rng, tolerance=CLOSE)


@pytest.mark.parametrize("key", ["model_ema", "state_dict_ema", "ema", "swa_model", "averaged_model", "ema_shadow"])
def test_an_average_of_the_weights_is_named_and_used_only_alone(
    key: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    theirs, path = drawn("A", "torchvision", rng, width=1 / 32, fc=5), tmp_path / "checkpoint.pth"
    state: dict[str, Tensor] = theirs.state_dict()
    average = {name: value * 0.5 for name, value in state.items()}
    for content, unused, factor in (
        ({"model": state, key: average}, (key,), 1.0),
        ({key: {"module": average}, "model": state}, (f"{key}.module",), 1.0),
        ({key: average, "epoch": 3}, (), 0.5),
    ):
        path.write_bytes(foreign_files.torch_file(content))
        imported = load_published(path, "A", NARROW)
        assert imported.unused == unused
        assert np.array_equal(imported.weights["conv1_1.weight"], state["features.0.weight"].numpy() * factor)


def test_two_nets_in_a_checkpoint_are_named(tmp_path: Path, rng: np.random.Generator) -> None:
    state, path = drawn("A", "torchvision", rng, width=1 / 32, fc=5).state_dict(), tmp_path / "checkpoint.pth"
    path.write_bytes(foreign_files.torch_file({"student": state, "teacher": dict(state)}))
    with pytest.raises(Failure, match="student and teacher"):
        load_published(path, "A", NARROW)


def scripted() -> bytes:
    """TorchScript."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(3, 4), torch.zeros(1, 3)), buffer)
    return buffer.getvalue()


def numpys() -> bytes:
    """numpy's archive."""
    buffer = io.BytesIO()
    np.savez(buffer, conv1_1_W=np.zeros((3, 3, 3, 4)))
    return buffer.getvalue()


def exported() -> bytes:
    """The names in an archive of torch.export."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("vgg/archive_format", "pt2")
        archive.writestr("vgg/models/model.json", "{}")
    return buffer.getvalue()


def test_other_files_are_named_for_what_they_are(tmp_path: Path, rng: np.random.Generator) -> None:
    state: dict[str, Tensor] = drawn("A", "torchvision", rng, width=1 / 32, fc=5).state_dict()
    features = {name: value for name, value in state.items() if name.startswith("features.")}
    nan = {name: torch.full_like(value, torch.nan) for name, value in state.items() if name not in features}
    save = foreign_files.torch_file
    for what, content, message in (
        ("TorchScript", scripted(), r"TorchScript.*state_dict\(\)"),
        ("torch.export", exported(), r"torch\.export"),
        ("npz", numpys(), "NumPy"),
        ("a module", save(foreign_files.blank("A", width=1 / 32, fc=5)), r"VGG.*state_dict\(\)"),
        ("torchvision's features alone", save({**features, **nan}), "features.*no classifier.*save the state dict"),
        ("features", save(features), "features.*no classifier.*save the state dict"),
        ("a ResNet", save({"conv1.weight": torch.zeros(3), "bn1.weight": torch.zeros(3)}), "no VGG net.*conv1.weight"),
        ("features with a prefix", save(prefixed(features, "backbone.")), "features.*no classifier"),
        ("an optimizer", save({"optimizer": {"state": {}}, "epoch": 3}), "no state dict.*optimizer, epoch"),
        ("JSON", b'{"a": 1}', "JSON"),
    ):
        path = tmp_path / "published"
        path.write_bytes(content)
        with case(what), pytest.raises(Failure, match=re.escape(str(path)) + ".*" + message):
            load_published(path, "A", NARROW)
