"""The file of a bundle: a zip whose list, bundle.json, has the size and the hash of every other file in it.

Equal contents give equal bytes, with the same zlib. Reading trusts nothing: names, sizes and hashes are checked before
a file is used.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from pipeline.errors import Failure, UsageError
from pipeline.system.atomic_files import json_text, whole
from pipeline.system.progress import gigabytes

SCHEMA = 1  # of bundle.json, raised when an older program would misread it
LIST = "bundle.json"
MAKE = "vgg-repro bundle FILE"
TIME = (1980, 1, 1, 0, 0, 0)  # of every file in the zip, the earliest that a zip can have
MODE = (stat.S_IFREG | 0o644) << 16
CHUNK = 1 << 20  # bytes
LARGEST_LIST = 64 << 20  # bytes of bundle.json that are read at most
KINDS = (".json", ".csv", ".npz", ".yaml", ".lock", ".cff", ".md", ".png", ".jpg", ".jpeg", ".webp")  # data, no code

Content = Path | bytes


class Packed(NamedTuple):
    """A file in a bundle."""

    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class Bundle:
    """A bundle that has been checked and unpacked."""

    root: Path  # a folder with its files, as in a clone; posteriors are not unpacked
    profile: str
    outdated: Mapping[str, str]  # the stages whose results were outdated when it was made, each with the reason


def write_bundle(
    path: Path, files: Mapping[str, Content], head: Mapping[str, Any], describe: Callable[[Mapping[str, Packed]], bytes]
) -> Mapping[str, Packed]:
    """Write `files`, by their names in the bundle, and the list of them with `head` to `path`. Return the list.

    `describe` returns the content of ro-crate-metadata.json. Files are streamed. Raise Failure if one cannot be read
    or `path` cannot be written; then there is no new file.
    """
    with whole(path) as target, ZipFile(target, "w") as archive:
        packed = {name: _add(archive, name, content) for name, content in sorted(files.items())}
        metadata = "ro-crate-metadata.json"
        packed[metadata] = _add(archive, metadata, describe(packed))
        listed = {name: file._asdict() for name, file in packed.items()}
        program = f"vgg-repro {version('vgg-repro')}"
        _add(archive, LIST, json_text({"schema": SCHEMA, "program": program, **head, "files": listed}).encode())
    return packed


def _add(archive: ZipFile, name: str, content: Content) -> Packed:
    """Add a file in pieces. Arrays of posteriors are stored, because they hardly shrink."""
    info = ZipInfo(name, TIME)
    info.create_system, info.external_attr = 3, MODE
    info.compress_type = ZIP_STORED if is_posteriors(name) else ZIP_DEFLATED
    info.file_size = _size(content)  # by which zipfile chooses ZIP64
    with archive.open(info, "w") as target:
        return _copied(_pieces(content), target)


def _copied(pieces: Iterable[bytes], target: IO[bytes]) -> Packed:
    """Write pieces to an open file. Return their size and hash."""
    size, digest = 0, hashlib.sha256()
    for piece in pieces:
        target.write(piece)
        digest.update(piece)
        size += len(piece)
    return Packed(size, digest.hexdigest())


def _size(content: Content) -> int:
    if isinstance(content, bytes):
        return len(content)
    with _readable(content):
        return content.stat().st_size


def _pieces(content: Content) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with _readable(content), content.open("rb") as source:
        while piece := source.read(CHUNK):
            yield piece


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn every OSError in the block into a Failure that names `path`."""
    try:
        yield
    except OSError as reason:
        raise Failure(f"{path} could not be read: {reason.strerror or reason}") from reason


def is_posteriors(name: str) -> bool:
    """Return True if a name in a bundle is that of a file of posteriors."""
    return name.startswith("scores/") and name.endswith(".npz")


@contextmanager
def opened_bundle(path: Path) -> Iterator[Bundle]:
    """Check the bundle at `path` and unpack it into a temporary folder, without posteriors.

    Raise UsageError if there is no such file, and Failure if it is no bundle, damaged, or of a newer version.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a bundle; a bundle is a file that {MAKE} writes")
    if not path.exists():
        raise UsageError(f"there is no file {path}; make a bundle with: {MAKE}")
    with tempfile.TemporaryDirectory(prefix="vgg-repro-bundle-") as scratch:
        root = Path(scratch)
        try:
            with ZipFile(path) as archive:
                values = _list(archive, path)
                _check_names(archive, values["files"], path)
                _check_room(values["files"], root, path)
                for name, file in values["files"].items():
                    _unpack(archive, name, Packed(**file), root, path)
        except BadZipFile as reason:
            raise _damaged(path, f"it is no complete zip ({reason})") from None
        except OSError as reason:
            raise Failure(f"{path} could not be read or unpacked: {reason.strerror or reason}") from reason
        yield Bundle(root, values["profile"], values["outdated"])


def _damaged(path: Path, why: str) -> Failure:
    return Failure(f"{path} is damaged or no bundle: {why}. Download or copy it again, or make it again with: {MAKE}")


def _list(archive: ZipFile, path: Path) -> dict[str, Any]:
    """Return the content of bundle.json. Raise Failure if it is missing, broken or of a newer version."""
    if LIST not in archive.namelist():
        raise Failure(f"{path} is a zip, but no bundle of vgg-repro: it has no {LIST}. Make a bundle with: {MAKE}")
    if archive.getinfo(LIST).file_size > LARGEST_LIST:
        raise _damaged(path, f"{LIST} is larger than {LARGEST_LIST >> 20} MB")
    try:
        values: dict[str, Any] = json.loads(archive.read(LIST))
        newer = values["schema"] > SCHEMA
    except (*UNREADABLE, ValueError, KeyError, TypeError, RecursionError) as reason:
        raise _damaged(path, f"{LIST} cannot be read ({reason})") from None
    if newer:
        raise Failure(
            f"{path} was made by a newer program ({values.get('program')}, bundle version {values['schema']}); this "
            f"one reads versions up to {SCHEMA}. Update vgg-repro"
        )
    if not _is_list(values):
        raise _damaged(path, f"{LIST} lacks an entry")
    return values


UNREADABLE = (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)  # raised by zipfile for bad contents


def _is_list(values: Mapping[str, Any]) -> bool:
    """Return True if bundle.json has all entries, of their types."""
    files = values.get("files")
    return (
        isinstance(values.get("profile"), str)
        and isinstance(values.get("outdated"), dict)
        and isinstance(files, dict)
        and all(
            isinstance(file, dict)
            and file.keys() == set(Packed._fields)
            and type(file["size"]) is int
            and file["size"] >= 0
            and isinstance(file["sha256"], str)
            for file in files.values()
        )
    )


def _check_names(archive: ZipFile, files: Mapping[str, Any], path: Path) -> None:
    """Raise Failure unless the zip has exactly the listed files, with safe names, kinds and the listed sizes."""
    infos = archive.infolist()
    names = [info.filename for info in infos]
    for info in infos:
        if not _is_safe(info.filename) or stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _damaged(path, f"{info.filename!r} is no name of a file inside the bundle")
        if not info.filename.endswith(KINDS):
            raise _damaged(path, f"{info.filename} is of a kind that bundles do not have")
    if missing := sorted(files.keys() - set(names)):
        raise _damaged(path, f"{missing[0]} is missing{_and_more(missing)}")
    if unlisted := sorted(set(names) - files.keys() - {LIST}):
        raise _damaged(path, f"{unlisted[0]} is not in {LIST}{_and_more(unlisted)}")
    if len(names) != len(set(names)):
        raise _damaged(path, f"{next(name for name in names if names.count(name) > 1)} is there twice")
    for info in infos:
        if info.filename != LIST and info.file_size != files[info.filename]["size"]:
            listed = f"{files[info.filename]['size']:,} bytes in {LIST} and {info.file_size:,} in the zip"
            raise _damaged(path, f"{info.filename} has {listed}")


def _is_safe(name: str) -> bool:
    """Return True for a relative path without parts that lead out of a folder."""
    parts = name.split("/")
    return bool(name) and "\\" not in name and ":" not in parts[0] and not {"", ".", ".."} & set(parts)


def _and_more(names: list[str]) -> str:
    return f", and {len(names) - 1} more" if len(names) > 1 else ""


def _check_room(files: Mapping[str, Any], folder: Path, path: Path) -> None:
    """Raise Failure if there is no room to unpack the files."""
    needed = sum(file["size"] for name, file in files.items() if not is_posteriors(name))
    free = shutil.disk_usage(folder).free
    if needed > free:
        room = f"{gigabytes(needed)} to unpack and {folder.parent} has {gigabytes(free)} free"
        raise Failure(f"{path} needs {room}. Free some, or set TMPDIR to a folder with more")


def _unpack(archive: ZipFile, name: str, file: Packed, root: Path, path: Path) -> None:
    """Write a file below `root` unless it has posteriors. Raise Failure if it has another size or hash than listed."""
    target = root / PurePosixPath(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open(name) as source, Path("/dev/null" if is_posteriors(name) else target).open("wb") as out:
            found = _copied(iter(lambda: source.read(CHUNK), b""), out)
    except UNREADABLE as reason:
        raise _damaged(path, f"{name} cannot be read ({reason})") from None
    if found != file:
        raise _damaged(path, f"{name} is not the file that {LIST} lists")
