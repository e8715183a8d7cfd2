"""Folders of Hugging Face's hub of timm and transformers: whole, in shards, and in the hub's cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import Failure
from pipeline.published import InputOverride, hub_folder, load_published, read_net
from pipeline.published.hub_folder import weight_files
from tests.support import foreign_files
from tests.support.cases import case
from tests.support.foreign_files import CLASSES, State
from tests.support.net_outputs import NARROW, SIZE, STD, TORCHVISION, Theirs, check_outputs, drawn

CLOSE = 1e-5
HALF = (0.5, 0.5, 0.5)
IDS = [f"n{place:08d}" for place in range(CLASSES)]


def timm(net: Theirs) -> State:
    """timm's names."""
    return foreign_files.with_timms_names(net.state_dict())


def transformers(net: Theirs) -> State:
    """The names in transformers' wrapper of timm's nets."""
    return {f"timm_model.{name}": value for name, value in timm(net).items()}


def config(folder: Path, name: str = "config.json", **values: Any) -> None:
    """A configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(values))


def shards(folder: Path, state: State, count: int = 3) -> list[Path]:
    """The weights in several files, and their index."""
    names, files, where = sorted(state), [], {}
    for number in range(count):
        part = {name: state[name] for name in names[number::count]}
        files.append(folder / f"model-{number + 1:05d}-of-{count:05d}.safetensors")
        files[-1].write_bytes(foreign_files.safetensors_file(part, {"format": "pt"}))
        where |= dict.fromkeys(part, files[-1].name)
    config(folder, "model.safetensors.index.json", metadata={"total_size": 1}, weight_map=where)
    return files


def cfg(mean: Any = TORCHVISION, std: Any = STD) -> dict[str, Any]:
    """timm's description of a net's input."""
    return {"architecture": "vgg16", "num_classes": CLASSES, "pretrained_cfg": {"mean": mean, "std": std}}


def test_a_hub_folder_is_read_with_its_input(tmp_path: Path, rng: np.random.Generator) -> None:
    wrapper = {"architectures": ["TimmWrapperForImageClassification"], "model_type": "timm_wrapper", **cfg(HALF, HALF)}
    processor = {"image_mean": HALF, "image_std": HALF, "do_rescale": True, "rescale_factor": 1 / 255}
    for what, names, values, files, (mean, std) in (
        ("timm", timm, cfg(), {}, (TORCHVISION, STD)),
        ("timm, another input", timm, cfg(HALF, HALF), {}, (HALF, HALF)),
        ("timm, old configuration", timm, {"mean": HALF, "std": STD}, {}, (HALF, STD)),
        ("transformers", transformers, wrapper, {}, (HALF, HALF)),
        ("processor", transformers, {"model_type": "vgg"}, {"preprocessor_config.json": processor}, (HALF, HALF)),
        ("no input", timm, {"model_type": "vgg"}, {}, (TORCHVISION, STD)),
    ):
        net = drawn("D", "timm", rng)
        for whole in (True, False):
            folder = tmp_path / what / str(whole)
            config(folder, **values)
            for name, content in files.items():
                config(folder, name, **content)
            if whole:
                (folder / "model.safetensors").write_bytes(foreign_files.safetensors_file(names(net)))
            else:
                shards(folder, names(net))
            with case((what, whole)):
                imported = load_published(folder, "D", SIZE)
                assert imported.kind == "timm"
                check_outputs(imported, "D", net, rng, ("RGB", 1.0, mean, std), CLOSE)
    stated = load_published(folder, "D", SIZE, InputOverride(mean=HALF))
    check_outputs(stated, "D", net, rng, ("RGB", 1.0, HALF, STD), CLOSE)  # what the user gives counts


def test_a_configuration_is_parsed_once(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = drawn("A", "timm", rng, width=1 / 32, fc=5)
    (tmp_path / "model.safetensors").write_bytes(foreign_files.safetensors_file(timm(net)))
    config(tmp_path, **cfg())
    parsed, read = list[str](), hub_folder._json
    monkeypatch.setattr(hub_folder, "_json", lambda file: (parsed.append(file.name), read(file))[1])
    read_net(tmp_path)
    assert parsed == ["config.json"]


def test_the_cache_of_the_hub_is_read(tmp_path: Path, rng: np.random.Generator) -> None:
    net, top = drawn("A", "timm", rng, width=1 / 32, fc=5), tmp_path / "models--timm--vgg11.tv_in1k"
    (top / "blobs").mkdir(parents=True)
    (top / "blobs" / "0123").write_bytes(foreign_files.safetensors_file(timm(net)))
    snapshot = top / "snapshots" / "3394518"
    config(snapshot, **cfg(HALF, HALF))
    (snapshot / "model.safetensors").symlink_to("../../blobs/0123")
    for path in (top, snapshot, snapshot / "model.safetensors"):
        assert load_published(path, "A", NARROW).convention.mean == HALF
    config(top / "snapshots" / "999", **cfg())
    with pytest.raises(Failure, match="2 snapshots"):
        load_published(top, "A", NARROW)


def test_the_classes_of_a_configuration_are_used_if_they_are_ids(tmp_path: Path, rng: np.random.Generator) -> None:
    net = drawn("A", "timm", rng, width=1 / 32, fc=5)
    (tmp_path / "model.safetensors").write_bytes(foreign_files.safetensors_file(timm(net)))
    labels = {str(place): word for place, word in enumerate(IDS)}
    for what, values, wanted in (
        ("label_names", {"label_names": IDS}, tuple(IDS)),
        ("id2label", {"id2label": labels}, tuple(IDS)),
        ("words", {"id2label": {place: f"thing {place}" for place in labels}}, ()),
        ("transformers' default", {"id2label": {"0": "LABEL_0"}}, ()),
    ):
        config(tmp_path, **cfg(), **values)
        with case(what):
            assert load_published(tmp_path, "A", NARROW).classes == wanted
    config(tmp_path, **cfg(), label_names=IDS[::-1])
    turned = load_published(tmp_path, "A", NARROW).weights["fc3.bias"]
    assert np.array_equal(turned, net.classifier[6].bias.detach().numpy()[::-1])


def test_a_folder_that_lacks_something_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    state = timm(drawn("A", "timm", rng, width=1 / 32, fc=5))
    files = shards(tmp_path, state)
    config(tmp_path, **cfg(mean=["a", 2, 3]))
    with pytest.raises(Failure, match="mean"):
        load_published(tmp_path, "A", NARROW)
    config(tmp_path, **cfg())
    load_published(tmp_path, "A", NARROW)
    assert weight_files(tmp_path) == files
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[:-40])
    with pytest.raises(Failure, match=files[1].name):
        load_published(tmp_path, "A", NARROW)
    files[1].write_bytes(files[0].read_bytes())
    with pytest.raises(Failure, match="in two files"):
        load_published(tmp_path, "A", NARROW)
    files[1].unlink()
    with pytest.raises(Failure, match=rf"{files[1].name}.*missing"):
        load_published(tmp_path, "A", NARROW)
    (tmp_path / "model.safetensors.index.json").write_text("{")
    with pytest.raises(Failure, match=r"index\.json"):
        load_published(tmp_path, "A", NARROW)
    saved = tmp_path / "saved"
    saved.mkdir()
    with pytest.raises(Failure, match=r"saved is a folder.*model\.safetensors"):
        load_published(saved, "A", NARROW)
    (saved / "saved_model.pb").touch()
    with pytest.raises(Failure, match=r"SavedModel.*weights\.h5"):
        load_published(saved, "A", NARROW)


def test_a_configuration_matters_only_beside_a_hub_file(tmp_path: Path, rng: np.random.Generator) -> None:
    state = drawn("A", "torchvision", rng, width=1 / 32, fc=5).state_dict()
    (tmp_path / "model_best.pth").write_bytes(foreign_files.torch_file(state))
    (tmp_path / "config.json").write_text("[]")
    assert load_published(tmp_path / "model_best.pth", "A", NARROW).convention.mean == TORCHVISION
