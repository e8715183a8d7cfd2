"""Images in files that are read from their beginning: tars, packed or not, and parquet.

A tar may hold the images alone (Hugging Face's train_images_0.tar.gz), with their classes beside them (WebDataset's jpg
and cls or json members), in folders, or in a tar for each class.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pipeline.datasets.sources.base import WNID, Split
from pipeline.datasets.sources.folder import is_named_otherwise
from pipeline.datasets.sources.ilsvrc.names import CLASS, TRAINING, VALIDATION, Unnamed, split_and_rest
from pipeline.datasets.sources.ilsvrc.reference import CLASSES
from pipeline.datasets.sources.ilsvrc.tar import sequential_members
from pipeline.datasets.sources.ilsvrc.truth import published_names
from pipeline.errors import Failure

POINTER = b"version https://git-lfs"  # how a Git LFS pointer begins
NEEDS_PYARROW = "parquet files are read by pyarrow, which is not installed: pip install 'vgg-repro[parquet]'"
LABELS = ("label", "labels", "cls", "class", "target", "label_idx", "class_idx", "class_label", "class_id", "wnid",
          "synset")  # fmt: skip
NAMES = ("__key__", "filename", "file_name", "image_path", "path", "image_id", "key", "id", "name")
IMAGES = ("image", "img", "jpg", "jpeg", "webp", "png", "image_bytes", "image_data", "bytes", "data", "pixel_values")
SIDECARS = ("cls", "json", "txt", "xml", "csv", "md", "cls.txt", "label")
BATCH = 32  # rows of a parquet file read at once


class Sample(NamedTuple):
    """An image in a file, and what lies beside it."""

    path: str  # its name, below folders that say its class
    number: int  # its class's number; -1 without one
    data: bytes  # empty if only names are read


def samples(file: Path, split: Split, names_only: bool = False) -> Iterator[Sample]:
    """Yield the images of a split in a file, in its order.

    Raise Failure, naming the file, if it is truncated, damaged or hostile, or if pyarrow is missing.
    """
    found = _in_parquet(file, names_only) if file.suffix == ".parquet" else _in_tar(file, names_only)
    for sample in found:
        try:
            said, rest = split_and_rest(sample.path)
        except Unnamed:
            continue
        if said in (None, split):
            yield sample._replace(path=_with_place(file, rest))


def images_in(file: Path) -> int:
    """Return the number of images in a parquet file, or 0 for another one. Raise Failure if it is no parquet file."""
    if file.suffix != ".parquet":
        return 0
    return int(_parquet(file).metadata.num_rows)


def _refuse_pointer(file: Path) -> None:
    """Raise Failure if a file cannot be read, or if Git LFS left a pointer in its place."""
    try:
        with file.open("rb") as opened:
            start = opened.read(len(POINTER))
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}") from None
    if start == POINTER:
        raise Failure(f"{file} is a pointer of Git LFS and not the file itself: git lfs pull")


def _with_place(file: Path, path: str) -> str:
    """Return a path that begins with its class's folder, or with the file's name if its class is not in it."""
    name = PurePosixPath(path).name
    if CLASS.search(path) or VALIDATION.search(name):
        archive = file.name.removesuffix(".tar")
        return f"{archive}/{path}" if WNID.fullmatch(archive) else path
    return f"{file.name.partition('.')[0]}/{path}"


# Tars


def _in_tar(file: Path, names_only: bool) -> Iterator[Sample]:
    """Yield the images in a tar, packed or not. Members of one sample follow each other and share their name."""
    _refuse_pointer(file)
    group: list[tuple[str, bytes]] = []
    key = ""
    for name, content in sequential_members(file, _is_sidecar if names_only else None):
        if _key(name) != key and group:
            yield from _sample(group)
            group = []
        key = _key(name)
        group.append((name, content))
    yield from _sample(group)


def _key(name: str) -> str:
    """Return what the names of a sample's members have in common: all up to the first dot of the file's name."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _is_sidecar(name: str) -> bool:
    """Return whether a member of this name describes an image."""
    return _ending(name) in SIDECARS


def _ending(name: str) -> str:
    """Return what follows the first dot of a member's name."""
    return PurePosixPath(name).name.partition(".")[2].lower()


def _sample(group: list[tuple[str, bytes]]) -> Iterator[Sample]:
    """Yield the images of a group of members with the class that the others say."""
    beside = {_ending(name): content for name, content in group if _is_sidecar(name)}
    for name, content in group:
        if not _is_sidecar(name) and not is_named_otherwise(name):
            path, number = _described(name, beside)
            yield Sample(path, number, content)


def _described(name: str, beside: dict[str, bytes]) -> tuple[str, int]:
    """Return an image's path and its class's number from its name and from the members beside it."""
    fields = _json(beside.get("json", b""))
    text = next((beside[key] for key in ("cls", "cls.txt", "label") if key in beside), b"").decode(errors="replace")
    return _from_fields(name, {**fields, **({"cls": text.strip()} if text.strip() else {})})


def _json(content: bytes) -> dict[str, Any]:
    """Return a JSON member's fields; none if it is broken or something else."""
    try:
        fields = json.loads(content) if content else {}
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _from_fields(name: str, fields: dict[str, Any]) -> tuple[str, int]:
    """Return an image's path and its class's number. A published name is preferred to a key that was made up."""
    names = [str(fields[key]) for key in NAMES if isinstance(fields.get(key), str)]
    path = next((text for text in [name, *names] if _is_published(text)), name)
    labels = [str(fields[key]) for key in ("cls", *LABELS) if isinstance(fields.get(key), str | int)]
    number = next((int(text) for text in labels if re.fullmatch(r"\d{1,4}", text, re.ASCII)), -1)
    wnid = next((text for text in [*labels, *names] if CLASS.search(text)), "")
    if wnid and not CLASS.search(path):
        path = f"{CLASS.findall(wnid)[0]}/{PurePosixPath(path).name}"
    return path, number


def _is_published(name: str) -> bool:
    """Return whether a file's name contains a published one."""
    base = PurePosixPath(name).name
    return bool(TRAINING.search(base) or VALIDATION.search(base))


# Parquet


def _parquet(file: Path) -> Any:
    """Return an opened parquet file. Raise Failure if it is none, or if pyarrow is missing."""
    _refuse_pointer(file)
    try:
        import pyarrow.parquet
    except ImportError:
        raise Failure(f"{file}: {NEEDS_PYARROW}") from None
    try:
        return pyarrow.parquet.ParquetFile(file, memory_map=False, pre_buffer=False)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise Failure(f"{file} is truncated or damaged: {str(error).splitlines()[0]}; download it again") from None


def _in_parquet(file: Path, names_only: bool) -> Iterator[Sample]:
    """Yield the images in a parquet file, row by row."""
    import pyarrow

    opened = _parquet(file)
    image, label, others = _columns(file, opened.schema_arrow)
    classes = _class_names(opened.schema_arrow, label)
    wanted = [*others, *([label] if label else []), *(_names_of(opened.schema_arrow, image) if names_only else [image])]
    row = 0
    try:
        for batch in opened.iter_batches(BATCH, columns=wanted, use_threads=False):
            for values in batch.to_pylist():
                yield _row(values, image, label, classes, f"{file.stem}-{row:07d}")
                row += 1
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise Failure(f"{file} is damaged after row {row}: {str(error).splitlines()[0]}; download it again") from None


def _row(values: dict[str, Any], image: str, label: str, classes: list[str], made_up: str) -> Sample:
    """Return a row's image."""
    value = values.get(image)
    own, data = (value.get("path"), value.get("bytes")) if isinstance(value, dict) else (None, value)
    fields = {**values.get("json", {})} if isinstance(values.get("json"), dict) else {}
    fields |= {key: text for key, text in values.items() if key not in (image, "json")}
    fields["path"] = own if isinstance(own, str) else fields.get("path")
    number = fields.get(label)
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(classes):
        fields["wnid"] = classes[number]
    path, found = _from_fields(made_up, fields)
    return Sample(path, found, data if isinstance(data, bytes) else b"")


def _columns(file: Path, schema: Any) -> tuple[str, str, list[str]]:
    """Return the columns with the images and the labels, and those with names. Raise Failure without images."""
    import pyarrow.types as kinds

    structs = [
        field.name for field in schema if kinds.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]
    binary = [field.name for field in schema if kinds.is_binary(field.type) or kinds.is_large_binary(field.type)]
    images = structs or sorted((name for name in binary if name in IMAGES), key=IMAGES.index) or binary
    if not images:
        raise Failure(f"{file} has no column of images; its columns are {', '.join(schema.names)}")
    labels = [name for name in LABELS if name in schema.names]
    return images[0], labels[0] if labels else "", [name for name in (*NAMES, "json") if name in schema.names]


def _names_of(schema: Any, image: str) -> list[str]:
    """Return the part of an image's column that has the files' names."""
    kind = schema.field(image).type
    return [f"{image}.path"] if hasattr(kind, "get_field_index") and kind.get_field_index("path") >= 0 else []


def other_class(file: Path) -> str:
    """Return a class of a parquet file if its images are not of ILSVRC-2012's classes, as far as their names say."""
    opened = _parquet(file)
    _, label, _ = _columns(file, opened.schema_arrow)
    names = _written_names(opened.schema_arrow, label)
    if not names or len(names) == CLASSES or _class_names(opened.schema_arrow, label):
        return ""
    first = next(_in_parquet(file, names_only=True), None)
    return "" if first is None or CLASS.search(first.path) or VALIDATION.search(first.path) else names[0]


def _written_names(schema: Any, label: str) -> list[str]:
    """Return the names of the classes' numbers, as the datasets library writes them, or none."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError):
        return []


def _class_names(schema: Any, label: str) -> list[str]:
    """Return the WordNet ids of the classes' numbers, from their names; none if they are not those of classes."""
    names = _written_names(schema, label)
    return names if all(CLASS.fullmatch(name) for name in names) else _synsets(names)


def _synsets(names: Sequence[str]) -> list[str]:
    """Return the WordNet ids of the published classes of these names; none if a name is not that of one class.

    A name may have synonyms behind it, as in "tench, Tinca tinca". Two pairs of classes share their names.
    """
    published = [(words.casefold(), wnid) for wnid, words in published_names().items()]
    shared = Counter(words for words, _ in published)
    by_name = {words: wnid for words, wnid in published if shared[words] == 1}
    wnids = [by_name.get(name.partition(",")[0].strip().casefold(), "") for name in names]
    return wnids if all(wnids) and len(set(wnids)) == len(names) else []
