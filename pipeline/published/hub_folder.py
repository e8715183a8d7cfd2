"""The files of a net in a folder of Hugging Face's hub: weights in one file or in shards, and the configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import isclose
from pathlib import Path
from typing import Any

from pipeline.datasets.sources.base import WNID
from pipeline.errors import Failure
from pipeline.published.convention import Convention

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")  # in the order of preference
INDEX = ".index.json"
NAMES = re.compile(r"(pytorch_)?model(-\d+-of-\d+)?\.(safetensors|bin)")


def weight_files(path: Path) -> list[Path]:
    """Return the files that have the weights in `path`: itself, or those of a hub folder or of an index of shards.

    Raise Failure if a folder has none or a shard is missing.
    """
    file = _in_folder(path) if path.is_dir() else path
    if not file.name.endswith(INDEX):
        return [file]
    names = _json(file).get("weight_map")
    if not isinstance(names, Mapping) or not names:
        raise Failure(f"{file} has no weight_map: it is no index of safetensors files")
    shards = [file.with_name(str(name)) for name in sorted(set(names.values()))]
    for shard in shards:
        if not shard.is_file():
            raise Failure(f"{file} names {shard.name}, which is missing: download the whole folder")
    return shards


def _in_folder(folder: Path) -> Path:
    """Return the file of weights in a hub folder, or in the only snapshot of the hub's cache."""
    for name in WEIGHTS:
        if (folder / name).exists():
            return folder / name
    snapshots = [path for path in sorted(folder.glob("snapshots/*")) if path.is_dir()]
    if len(snapshots) > 1:
        raise Failure(f"{folder} has {len(snapshots)} snapshots: give one of them, such as {snapshots[0]}")
    if snapshots:
        return _in_folder(snapshots[0])
    if (folder / "saved_model.pb").exists():
        raise Failure(
            f"{folder} is a SavedModel of TensorFlow: save the weights with model.save_weights('x.weights.h5')"
        )
    raise Failure(f"{folder} is a folder, not a file, and has none of {', '.join(WEIGHTS)}")


def is_hub_file(file: Path) -> bool:
    """Return True if a file of weights has a configuration next to it, as in a hub folder."""
    return file.with_name("config.json").is_file() and NAMES.fullmatch(file.name) is not None


def hub_description(file: Path) -> tuple[Convention | None, tuple[str, ...]]:
    """Return the input and the WordNet ids of the outputs that the configuration next to a file of weights describes.

    Either may be missing. Raise Failure if the configuration is broken or makes no sense.
    """
    config = _json(file.with_name("config.json"))
    return _input(file, config), _classes(config)


def _input(file: Path, config: Mapping[str, Any]) -> Convention | None:
    """Return the input of a net; timm writes `pretrained_cfg`, transformers also `preprocessor_config.json`."""
    processor = file.with_name("preprocessor_config.json")
    values = _json(processor) if processor.is_file() else {}
    top = 1.0 if isclose(values.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-3) else 255.0
    timms = config.get("pretrained_cfg", config)
    mean, std = (values.get(f"image_{key}", timms.get(key)) for key in ("mean", "std"))
    if mean is None or std is None:
        return None
    try:
        return Convention.of({"channels": "RGB", "range": top, "mean": mean, "std": std})
    except (KeyError, TypeError, ValueError):
        raise Failure(
            f"the mean and std next to {file} are no input of a net: mean {mean!r:.80}, std {std!r:.80}"
        ) from None


def _classes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the WordNet ids of a net's outputs, or none."""
    names = config.get("label_names") or config.get("pretrained_cfg", {}).get("label_names")
    labels = config.get("id2label")
    if not names and isinstance(labels, Mapping) and all(str(place) in labels for place in range(len(labels))):
        names = [labels[str(place)] for place in range(len(labels))]
    classes = tuple(map(str, names or ()))
    return classes if all(WNID.fullmatch(name) for name in classes) else ()


def _json(file: Path) -> dict[str, Any]:
    """Return a JSON object. Raise Failure if the file has anything else."""
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise Failure(f"{file} cannot be read ({error})") from None
    if not isinstance(values, dict):
        raise Failure(f"{file} is not a JSON object")
    return values
